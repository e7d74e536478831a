-- The host: its clock and its files.
local errors = require "ktstr.errors"

local host = {}

--- What to do where this host's KVM cannot run a stock kernel.
host.helper_hint = "run it in the helper machine: scripts/with-kvm ktstr ... (in ktstr's source tree)"

local PERMISSION_BITS = 4096 -- modes below it: rwx and set-id bits

-- Loaded when first used: that is a good part of a small script's start.
local posix = setmetatable({}, {
  __index = function(self, name)
    local module = require("posix." .. name)
    self[name] = module
    return module
  end,
})

--- Seconds on a clock that only goes forward.
---@return number
function host.now()
  local t = posix.time.clock_gettime(posix.time.CLOCK_MONOTONIC)
  return t.tv_sec + t.tv_nsec / 1e9
end

---@param path string
---@return boolean
function host.is_readable(path)
  return posix.unistd.access(path, "r") ~= nil
end

---@param path string
---@return boolean
function host.is_directory(path)
  local stat = posix["sys.stat"]
  local info = stat.stat(path)
  return info ~= nil and stat.S_ISDIR(info.st_mode) ~= 0
end

--- The permission bits of a file; nil when there is none.
---@param path string
---@return integer|nil
function host.mode(path)
  local info = posix["sys.stat"].stat(path)
  return info and info.st_mode % PERMISSION_BITS
end

--- Bytes of a file; 0 when there is none.
---@param path string
---@return integer
function host.size(path)
  local info = posix["sys.stat"].stat(path)
  return info and info.st_size or 0
end

--- The absolute path without symbolic links; nil when there is no such file.
---@param path string
---@return string|nil
function host.realpath(path)
  return (posix.stdlib.realpath(path))
end

--- Opens a file; raises "not-found" or "invalid", as bad input, with the reason.
---@param path string
---@param mode string|nil "rb"
---@return file*
function host.open(path, mode)
  if host.is_directory(path) then
    errors.refuse("invalid", ("'%s' is a directory, not a file"):format(path))
  end
  local file, reason = io.open(path, mode or "rb")
  if not file then
    errors.refuse("not-found", ("cannot open %s"):format(reason))
  end
  return file
end

---@param path string
---@return string
function host.read_file(path)
  local file = host.open(path)
  local data = file:read "*a"
  file:close()
  return data
end

return host
