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

-- Stamps to { hash=, taken=, path= }: a file has several paths where links lead to it.
local function parse(text)
  local title, check, body = (text or ""):match "^(.-) (%x+)\n(.*)$"
  local known = {}
  if title == TITLE and core.hash(body) == check then
    for hash, taken, stamp, path in body:gmatch "(%x+) ([%d.]+) (%S+) ([^\n]*)\n" do
      known[stamp] = { hash = hash, taken = tonumber(taken), path = unescape(path) }
    end
  end
  return known
end

local function format(known)
  local stamps = {}
  for stamp in pairs(known) do
    stamps[#stamps + 1] = stamp
  end
  table.sort(stamps, function(a, b)
    return known[a].taken > known[b].taken
  end)
  local lines = {}
  for i = 1, math.min(#stamps, KEPT) do
    local one = known[stamps[i]]
    lines[i] = ("%s %.9f %s %s\n"):format(one.hash, one.taken, stamps[i], escape(one.path))
  end
  local body = table.concat(lines)
  return ("%s %s\n%s"):format(TITLE, core.hash(body), body)
end

-- What was read last, while its file stays the same: several files are asked for at a boot.
local memory = {}

local function load()
  local path = path_of_memory()
  local status = file_status.of(path)
  -- Another user's would have us take one kernel for another.
  local stamp = status and status.owner == require("posix.unistd").geteuid() and status.stamp
  if memory.path ~= path or memory.stamp ~= stamp or not stamp then
    memory = { path = path, stamp = stamp, known = parse(stamp and files.read(path)) }
  end
  return memory.known
end

local function replace(known)
  local path = path_of_memory()
  files.make_directory(path:match "^(.*)/", settings.MODE)
  local fd, temporary = require("posix.stdlib").mkstemp(path .. ".tmp-XXXXXX")
  if not fd then
    errors.raise("os", ("cannot make a file beside %s: %s"):format(path, temporary))
  end
  require("posix.unistd").close(fd)
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
local function remember(stamp, one)
  local known = {}
  for other, value in pairs(load()) do
    -- What the file was before is of no use any more.
    known[other] = value.path ~= one.path and value or nil
  end
  known[stamp] = one
  errors.try(replace, known)
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
  local before = file_status.of(path, true)
  if not before or before.size < WORTH_IT or not settings.has_directory() then
    return core.hash_file(path)
  end
  local known = load()[before.stamp]
  if known and known.taken - before.ctime > SETTLED_S then
    return known.hash
  end
  local taken = now()
  local hash = core.hash_file(path)
  local after = file_status.of(path, true)
  if after and after.stamp == before.stamp and taken - before.ctime > SETTLED_S then
    remember(before.stamp, { hash = hash, taken = taken, path = path })
  end
  return hash
end

return hashes
