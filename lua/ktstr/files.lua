-- Files and directories: what is needed beyond Lua's own io and os.

local dirent = require "posix.dirent"
local errno = require "posix.errno"
local stat = require "posix.sys.stat"
local statvfs = require "posix.sys.statvfs"
local unistd = require "posix.unistd"
local errors = require "ktstr.errors"

local MIB = 2 ^ 20

local files = {}

--- What to do when a disk is full.
files.MORE_SPACE = "free some, or set XDG_CACHE_HOME to a larger place"

-- What a failed call says, as an error with the remedy where there is one.
local function fail(what, message, number)
  if number == errno.ENOSPC or number == errno.EDQUOT then
    errors.raise("no-space", what .. ": no space left", files.MORE_SPACE)
  end
  errors.raise("os", what .. ": " .. tostring(message))
end

---@param path string
---@return boolean
function files.exists(path)
  return stat.stat(path) ~= nil
end

---@param path string
---@return boolean
function files.is_directory(path)
  local info = stat.stat(path)
  return info ~= nil and stat.S_ISDIR(info.st_mode) ~= 0
end

---@param path string
---@return boolean
function files.is_file(path)
  local info = stat.stat(path)
  return info ~= nil and stat.S_ISREG(info.st_mode) ~= 0
end

--- Makes a directory and those above it.
---@param path string
---@param mode integer|nil permission bits of what is made; nil: 755
function files.make_directory(path, mode)
  local so_far = path:sub(1, 1) == "/" and "" or "."
  for part in path:gmatch "[^/]+" do
    so_far = so_far .. "/" .. part
    local ok, message, number = stat.mkdir(so_far, mode or tonumber("755", 8))
    if not ok and not files.is_directory(so_far) then
      fail("cannot make the directory " .. so_far, message, number)
    end
  end
end

-- Somebody else may remove it while it is read.
local function names_in(path)
  local ok, found = pcall(dirent.dir, path)
  if not ok and (errors.is(found) or stat.stat(path)) then
    error(found, 0)
  end
  local names = {}
  for _, name in ipairs(ok and found or {}) do
    if name ~= "." and name ~= ".." then
      names[#names + 1] = name
    end
  end
  return names
end

--- Removes a file, a link or a whole directory; nothing there is fine. A link is never followed.
---@param path string
function files.remove(path)
  local info = stat.lstat(path)
  if not info then
    return
  end
  if stat.S_ISDIR(info.st_mode) == 0 then
    unistd.unlink(path)
    return
  end
  for _, name in ipairs(names_in(path)) do
    files.remove(path .. "/" .. name)
  end
  unistd.rmdir(path)
end

--- The names in a directory, sorted; none when it is not there.
---@param path string
---@return string[]
function files.list(path)
  local names = files.is_directory(path) and names_in(path) or {}
  table.sort(names)
  return names
end

---@param path string
---@return string|nil
function files.read(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read "*a"
  file:close()
  return text
end

---@param path string
---@param text string
function files.write(path, text)
  local file, message, number = io.open(path, "wb")
  if not file then
    fail("cannot write " .. path, message, number)
  end
  local ok
  ok, message, number = file:write(text)
  local closed, close_message, close_number = file:close()
  if not ok or not closed then
    fail("cannot write " .. path, message or close_message, number or close_number)
  end
end

---@param from string
---@param to string
function files.rename(from, to)
  local ok, message, number = os.rename(from, to)
  if not ok then
    fail(("cannot rename %s to %s"):format(from, to), message, number)
  end
end

--- Raises "no-space" when fewer bytes than needed are free where a path is.
---@param path string
---@param needed number
function files.check_space(path, needed)
  local info = statvfs.statvfs(path)
  local free = info and info.f_bavail * info.f_frsize
  if free and free < needed then
    errors.raise("no-space", ("%s has %d MiB free, and %d MiB are needed"):format(path, free / MIB,
      math.ceil(needed / MIB)), files.MORE_SPACE)
  end
end

--- Bytes of a file or of all files below a directory.
---@param path string
---@return number
function files.size(path)
  local info = stat.lstat(path)
  if not info then
    return 0
  elseif stat.S_ISDIR(info.st_mode) == 0 then
    return info.st_size
  end
  local total = 0
  for _, name in ipairs(files.list(path)) do
    total = total + files.size(path .. "/" .. name)
  end
  return total
end

return files
