-- --repl-on-failure: a prompt at the place where a test fails, before anything else has run.
local vms = require "ktstr.vm"
local errors = require "ktstr.errors"

local failure = {}

local wanted, open, told = false, false, false

--- From now on failures open a prompt.
function failure.enable()
  wanted = true
end

-- Once is enough.
local function tell_there_is_no_terminal()
  if not told then
    told = true
    io.stdout:flush()
    io.stderr:write("ktstr: --repl-on-failure: standard input and output are not a terminal; ",
      "no prompt is opened\n")
  end
end

-- Frozen as it is: the error, where that cannot be.
local function freeze(vm)
  if vm:is_frozen() then
    return false
  end
  local ok, e = pcall(vm.freeze, vm)
  if ok then
    return true
  elseif errors.is(e, "interrupted") then
    error(e, 0)
  end
  return false, e
end

---@class ktstr.FailurePlace
---@field vm ktstr.VM|nil nil: the one that was booted last
---@field t ktstr.Test|nil
---@field env table|nil the globals of the code that failed; nil: all the program's

-- What is at hand beside the globals; what is assigned goes where the code that failed sees it.
local function names(vm, place)
  local env = place.env or _G
  return setmetatable({ vm = vm, t = place.t, ktstr = require "ktstr" }, { __index = env, __newindex = env })
end

local function talk(what, vm, place)
  local session = require "ktstr.repl.session"
  local ours, e = freeze(vm)
  if errors.is(e, "ended") or errors.is(e, "timeout") and vm.result then
    return
  end
  io.stdout:write(what, "\n", e and ("the machine runs on: %s\n"):format(tostring(e)) or "",
    "'help' lists commands, Ctrl-D goes on\n")
  session.new(names(vm, place)):run()
  if ours and not vm.result and vm:is_frozen() then
    vm:thaw()
  end
end

-- What was raised, in a few words.
local function describe(e)
  local mt = debug.getmetatable(e)
  if type(e) == "table" and e.message ~= nil and not (mt and mt.__tostring) then
    e = e.message
  end
  return "error: " .. tostring(e)
end

--- Stops at a failure, if that was asked for and there is a machine that runs. Returns when the person at the
--- prompt is done; then the failure goes on as it would have. Raises "interrupted".
---@param what string what failed
---@param place ktstr.FailurePlace
function failure.stop_at(what, place)
  local vm = place.vm or vms.latest()
  if not wanted or open or not vm or vm.result or vm.channel.ended then
    return
  elseif not require("ktstr.repl.session").has_terminal() then
    return tell_there_is_no_terminal()
  end
  open = true
  local ok, e = pcall(talk, what, vm, place)
  open = false
  if not ok then
    error(e, 0)
  end
end

--- For the handler of an xpcall: stop_at(), where the error may be of any kind. What it returns is what was
--- raised: an interruption of the prompt, or e.
---@param e any
---@param place ktstr.FailurePlace|nil
---@return any
function failure.stop_at_error(e, place)
  if not wanted or open or errors.is(e, "interrupted") then
    return e
  end
  local ok, other = pcall(failure.stop_at, describe(e), place or {})
  if ok then
    return e
  elseif errors.is(other, "interrupted") then
    return other
  end
  io.stderr:write(("ktstr: --repl-on-failure: %s\n"):format(tostring(other)))
  return e
end

return failure
