-- The directory of saved machines: one directory a machine, named by the hash of its identity (32 hex
-- digits).
--
-- A name holds a whole machine or nothing: one is put together as NAME.tmp-XXXXXX, under flock(2) for as
-- long as its maker lives, and renamed; it is renamed again before it is deleted. Whoever takes a name
-- away holds the lock .lock, so that two do not, and what has taken its place meanwhile stays. What a
-- killed process left has a name of the first kind and no lock.
local unistd = require "posix.unistd"
local core = require "ktstr.core"
local file_status = require "ktstr.file_status"
local files = require "ktstr.files"
local lock = require "ktstr.lock"
local settings = require "ktstr.warm.settings"

local directory = {}

local NAME = "^" .. ("%x"):rep(32) .. "$"
local TEMPORARY = "%.tmp%-"
-- A temporary file has no lock; its maker needs it for no longer.
local YOUNG_S = 60

---@class ktstr.warm.Entry
---@field name string
---@field path string
---@field id string tells it from one that takes its place
---@field owner integer|nil its user
---@field size number|nil bytes on disk
---@field used number|nil seconds since the epoch, as created
---@field created number|nil

local HEAD = 4096 -- of a state: its checksum is there

-- The file system may give a directory the number of one that was removed a moment ago; two machines have
-- not the same state.
local function identify(path, status)
  local state = file_status.of(path .. "/state")
  local file = state and state.regular and io.open(path .. "/state", "rb")
  local head = file and file:read(HEAD) or ""
  if file then
    file:close()
  end
  return ("%s %s"):format(status.id, core.hash(head))
end

---@param name string
---@return ktstr.warm.Entry|nil entry nil when there is none; without its size and times
function directory.entry(name)
  local path = settings.directory() .. "/" .. name
  local status = file_status.of(path)
  return status and { name = name, path = path, id = identify(path, status), owner = status.owner } or nil
end

--- Makes it, where it is not there.
function directory.make()
  files.make_directory(settings.directory(), settings.MODE)
end

-- What a directory's files, or a file, take on disk.
local function disk(path, status)
  local bytes = status.directory and 0 or status.disk
  for _, name in ipairs(status.directory and files.list(path) or {}) do
    local file = file_status.of(path .. "/" .. name)
    bytes = bytes + (file and file.disk or 0)
  end
  return bytes
end

--- Every saved machine, the one used last first.
---@return ktstr.warm.Entry[]
function directory.scan()
  local entries = {}
  local root = settings.directory()
  for _, name in ipairs(files.list(root)) do
    local path = root .. "/" .. name
    local status = name:match(NAME) and file_status.of(path)
    if status then
      local made = file_status.of(path .. "/state") or status
      entries[#entries + 1] = {
        name = name,
        path = path,
        id = identify(path, status),
        size = disk(path, status),
        used = status.mtime,
        created = made.mtime,
      }
    end
  end
  table.sort(entries, function(a, b)
    if a.used ~= b.used then
      return a.used > b.used
    end
    return a.name < b.name
  end)
  return entries
end

local taken = 0

-- Gives an entry a name that nobody looks for; nil when it has gone, or another has taken its place. The
-- lock is held.
local function take_away(entry)
  local now = directory.entry(entry.name)
  if not now or now.id ~= entry.id then
    return nil
  end
  taken = taken + 1
  local away = ("%s.tmp-rm-%d-%d"):format(entry.path, unistd.getpid(), taken)
  files.rename(entry.path, away)
  return away
end

--- Removes what choose() returns, which is called while nobody else removes any. Raises "os".
---@param choose fun(): ktstr.warm.Entry[]
---@return ktstr.warm.Entry[] those that were still there
function directory.remove(choose)
  local removed, away = {}, {}
  lock.with(settings.directory() .. "/.lock", nil, function()
    for _, entry in ipairs(choose()) do
      local path = take_away(entry)
      if path then
        removed[#removed + 1], away[#away + 1] = entry, path
      end
    end
  end)
  for _, path in ipairs(away) do
    files.remove(path)
  end
  return removed
end

-- One that was made this moment and has no lock yet is taken from its maker, who makes another.
local function sweep_directory(path)
  return lock.try_directory(path, function()
    files.remove(path)
  end)
end

local function sweep_file(path, status)
  if os.time() - status.mtime < YOUNG_S then
    return false
  end
  files.remove(path)
  return true
end

--- Removes what killed processes left. What a living one is making stays.
---@return integer count, number bytes
function directory.sweep()
  local count, bytes = 0, 0
  local root = settings.directory()
  for _, name in ipairs(files.list(root)) do
    local path = root .. "/" .. name
    local status = name:find(TEMPORARY) and file_status.of(path)
    if status then
      local size = disk(path, status)
      local sweep = status.directory and sweep_directory or sweep_file
      if sweep(path, status) then
        count, bytes = count + 1, bytes + size
      end
    end
  end
  return count, bytes
end

return directory
