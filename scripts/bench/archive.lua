-- An initramfs written to a file: takes the place of core.cpio(), so that a peer boots from just the
-- archive that ktstr's own machines get.
local archive = {}
archive.__index = archive

local S_DIRECTORY, S_FILE, S_LINK, S_CHAR = 0x4000, 0x8000, 0xa000, 0x2000
local PLAIN_DIRECTORY = tonumber("755", 8)

---@param path string
function archive.new(path)
  return setmetatable({ out = assert(io.open(path, "wb")), inode = 0, seen = {}, bytes = 0 }, archive)
end

local function pad(text)
  return text .. ("\0"):rep(-#text % 4)
end

function archive:entry(path, mode, data, major, minor)
  self.inode = self.inode + 1
  local name = path:gsub("^/", "") .. "\0"
  local head = "070701" .. ("%08x"):rep(13):format(self.inode, mode, 0, 0, 1, 0, #data, 0, 0, major or 0,
    minor or 0, #name, 0)
  local text = pad(head .. name) .. pad(data)
  self.out:write(text)
  self.bytes = self.bytes + #text
end

function archive:parents(path)
  for parent in path:gmatch "()/" do
    local directory = path:sub(1, parent - 1)
    if directory ~= "" and not self.seen[directory] then
      self:dir(directory, PLAIN_DIRECTORY)
    end
  end
end

function archive:file(path, mode, data)
  self:parents(path)
  self:entry(path, S_FILE + mode, data)
end

function archive:host_file(path, mode, host)
  local file = assert(io.open(host, "rb"))
  self:file(path, mode or PLAIN_DIRECTORY, file:read "*a")
  file:close()
end

function archive:dir(path, mode)
  if not self.seen[path] then
    self.seen[path] = true
    self:parents(path)
    self:entry(path, S_DIRECTORY + mode, "")
  end
end

function archive:symlink(path, target)
  self:parents(path)
  self:entry(path, S_LINK + tonumber("777", 8), target)
end

function archive:char_device(path, mode, major, minor)
  self:parents(path)
  self:entry(path, S_CHAR + mode, "", major, minor)
end

function archive:size()
  return self.bytes
end

function archive:close()
  self:entry("TRAILER!!!", 0, "")
  self.out:close()
end

return archive
