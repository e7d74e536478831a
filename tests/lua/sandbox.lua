-- What the specs of the kernel cache share. Required first: it makes them run without the program too.

if not pcall(require, "ktstr.core") then
  package.preload["ktstr.core"] = function()
    return { error_metatable = {} }
  end
end

local stdlib = require "posix.stdlib"
local errors = require "ktstr.errors"
local files = require "ktstr.files"

local fixture = {}

--- What f raises, which has to be one of ktstr's errors.
function fixture.raised(f, ...)
  local ok, err = pcall(f, ...)
  assert(not ok, "nothing was raised")
  assert(errors.is(err), "raised something else: " .. tostring(err))
  return err
end

--- A directory and an environment of the test's own; `undo` gives back what was there.
function fixture.sandbox()
  local directory = stdlib.mkdtemp "/tmp/ktstr-spec-XXXXXX"
  local saved, box = {}, { directory = directory }
  function box.setenv(name, value)
    if saved[name] == nil then
      saved[name] = os.getenv(name) or false
    end
    stdlib.setenv(name, value)
  end
  function box.undo()
    for name, value in pairs(saved) do
      stdlib.setenv(name, value or nil)
    end
    files.remove(directory)
  end
  box.setenv("XDG_CACHE_HOME", directory .. "/cache")
  box.setenv("KTSTR_KERNEL", nil)
  return box
end

--- Calls f while `interrupted` answers for the signals that came. The runner of the specs asks the core
--- too, after each of them: so no longer than the call.
function fixture.with_interruption(interrupted, f, ...)
  local core = require "ktstr.core"
  local saved = core.interrupted
  core.interrupted = interrupted
  local results = { pcall(f, ...) }
  core.interrupted = saved
  if not results[1] then
    error(results[2], 0)
  end
  return unpack(results, 2)
end

return fixture
