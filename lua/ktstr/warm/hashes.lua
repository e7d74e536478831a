-- Hashes of big files on the host, remembered: a kernel is read once, not at each boot.
--
-- The file hashes beside the saved machines has a line a file: its hash, when that was taken, the file's
-- stamp (device, inode, size, times), its path. The first line has a hash of the others: a file that is
-- not as it was written is as good as none. It is replaced as a whole; of two writers at once one may be
-- forgotten, and hashes its file again the next time.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local file_status = require "ktstr.file_status"
local files = require "ktstr.files"
local settings = require "ktstr.warm.settings"

local hashes = {}

local TITLE = "ktstr hashes 1"
local KEPT = 256
-- Smaller ones are hashed faster than this could be looked up on a disk that has to be waited for.
local WORTH_IT = 2 ^ 20
-- A file that was changed less than this before it was read may be changed again without a trace in its
-- times: they come from a clock with coarse steps.
local SETTLED_S = 2

local function path_of_memory()
  return settings.directory() .. "/hashes"
end

-- A line of its own for any path.
local function escape(path)
  return (path:gsub("[%c%%]", function(c)
    return ("%%%02x"):format(c:byte())
  end))
end

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- Paths to { hash=, taken=, stamp= }.
local function parse(text)
  local title, check, body = (text or ""):match "^(.-) (%x+)\n(.*)$"
  local known = {}
  if title == TITLE and core.hash(body) == check then
    for hash, taken, stamp, path in body:gmatch "(%x+) ([%d.]+) (%S+) ([^\n]*)\n" do
      known[unescape(path)] = { hash = hash, taken = tonumber(taken), stamp = stamp }
    end
  end
  return known
end

local function format(known)
  local paths = {}
  for path in pairs(known) do
    paths[#paths + 1] = path
  end
  table.sort(paths, function(a, b)
    return known[a].taken > known[b].taken
  end)
  local lines = {}
  for i = 1, math.min(#paths, KEPT) do
    local one = known[paths[i]]
    lines[i] = ("%s %.9f %s %s\n"):format(one.hash, one.taken, one.stamp, escape(paths[i]))
  end
  local body = table.concat(lines)
  return ("%s %s\n%s"):format(TITLE, core.hash(body), body)
end

-- What was read last, while its file stays the same: several files are asked for at a boot.
local memory = {}

local function load()
  local path = path_of_memory()
  local status = file_status.of(path)
  local stamp = status and status.stamp
  if memory.path ~= path or memory.stamp ~= stamp or not stamp then
    memory = { path = path, stamp = stamp, known = parse(stamp and files.read(path)) }
  end
  return memory.known
end

local function replace(known)
  local path = path_of_memory()
  local temporary = ("%s.tmp-%d"):format(path, require("posix.unistd").getpid())
  files.make_directory(path:match "^(.*)/", settings.MODE)
  local ok, e = pcall(function()
    files.write(temporary, format(known))
    files.rename(temporary, path)
  end)
  if not ok then
    os.remove(temporary)
    error(e, 0)
  end
end

-- A cache that cannot be written makes nothing wrong, only slower.
local function remember(path, one)
  local known = {}
  for other, value in pairs(load()) do
    known[other] = value
  end
  known[path] = one
  local ok, e = pcall(replace, known)
  if not ok and errors.is(e, "interrupted") then
    error(e, 0)
  end
end

local function now()
  local time = require "posix.time"
  local t = time.clock_gettime(time.CLOCK_REALTIME)
  return t.tv_sec + t.tv_nsec / 1e9
end

--- The hash of a file's contents: 32 hex digits. Raises "not-found", "os".
---@param path string
---@return string
function hashes.of(path)
  path = require("ktstr.host").realpath(path) or path
  local before = file_status.of(path)
  if not before or before.size < WORTH_IT then
    return core.hash_file(path)
  end
  local known = load()[path]
  if known and known.stamp == before.stamp and known.taken - before.ctime > SETTLED_S then
    return known.hash
  end
  local taken = now()
  local hash = core.hash_file(path)
  local after = file_status.of(path)
  if after and after.stamp == before.stamp and taken - before.ctime > SETTLED_S then
    remember(path, { hash = hash, taken = taken, stamp = before.stamp })
  end
  return hash
end

return hashes
