-- Locks between processes: flock(2) on a file or a directory. One goes with the process that holds it,
-- however that ends.
local ffi = require "ffi"
local errno = require "posix.errno"
local fcntl = require "posix.fcntl"
local poll = require "posix.poll".poll
local unistd = require "posix.unistd"
local errors = require "ktstr.errors"
local process = require "ktstr.process"

ffi.cdef "int flock(int fd, int operation);"

local LOCK_EX, LOCK_NB = 2, 4
local LONGEST_POLL_MS = 200

local lock = {}

-- True, or false when another holds it. Raises "os".
local function try(fd, path)
  if ffi.C.flock(fd, LOCK_EX + LOCK_NB) == 0 then
    return true
  end
  local number = ffi.errno()
  if number ~= errno.EWOULDBLOCK and number ~= errno.EINTR then
    errors.raise("os", ("cannot lock %s: %s"):format(path, (errno.errno(number))))
  end
  return false
end

local function wait(fd, path, waiting)
  local pause = 1
  while not try(fd, path) do
    if waiting then
      waiting()
      waiting = nil
    end
    poll({}, pause)
    pause = math.min(2 * pause, LONGEST_POLL_MS)
    process.check_interrupted()
  end
end

--- Calls work(...) while this process alone holds the lock, and returns what it returns. The file is made
--- where there is none. Raises "os", "interrupted" (also while it waits), and what work raises.
---@param path string
---@param waiting nil|fun() called once when another process holds the lock
---@param work fun(...): any
---@return any
function lock.with(path, waiting, work, ...)
  local fd, message = fcntl.open(path, fcntl.O_RDWR + fcntl.O_CREAT + fcntl.O_CLOEXEC, tonumber("644", 8))
  if not fd then
    errors.raise("os", "cannot open the lock: " .. message, "check who owns " .. (path:match "^(.*)/" or "."))
  end
  local args = { n = select("#", ...), ... }
  local ok, result = pcall(function()
    wait(fd, path, waiting)
    return work(unpack(args, 1, args.n))
  end)
  process.finish(unistd.close, fd)
  if not ok then
    error(result, 0)
  end
  return result
end

--- Calls work() while holding the lock of a directory, unless another holds it or it has gone.
---@param path string
---@param work fun()
---@return boolean whether it was called
function lock.try_directory(path, work)
  local fd = fcntl.open(path, fcntl.O_RDONLY + fcntl.O_CLOEXEC)
  if not fd then
    return false
  end
  local ok, result = pcall(function()
    return try(fd, path) and (work() or true)
  end)
  process.finish(unistd.close, fd)
  if not ok then
    error(result, 0)
  end
  return result
end

return lock
