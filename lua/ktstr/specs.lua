-- `ktstr test`: runs busted inside this process. busted counts failures into its exit status, where two
-- would read as ktstr's "could not run": so the status is made here, from busted's own events.
local core = require "ktstr.core"
local declarations = require "ktstr.declarations"
local errors = require "ktstr.errors"
local failure = require "ktstr.repl.failure"
local report = require "ktstr.report"
local status = require "ktstr.status"
local test = require "ktstr.test"
local vm = require "ktstr.vm"

local specs = {}

-- What a machine loads when it is first looked into.
local KEPT = { "ktstr.kernel", "ktstr.kernel.image", "ktstr.kernel.percpu", "ktstr.kernel.show" }

local function require_busted(name)
  local ok, module = pcall(require, name)
  if not ok and tostring(module):find("module '%S+' not found") == nil then
    error(module, 0) -- there is one, and it is broken
  elseif not ok then
    errors.refuse("not-found", "busted is not installed for LuaJIT", "install the package lua-busted, or: "
      .. "luarocks --lua-version 5.1 install busted")
  end
  return module
end

-- What the run came to, from busted's events.
local function new_tally()
  return { tests = 0, broken = 0, worst = status.PASSED }
end

local function count(tally, one)
  tally.worst = status.worse(tally.worst, one)
end

-- What was raised, as it was raised; nil for a file that could not be read.
local function raised(trace)
  return type(trace) == "table" and trace.message or nil
end

local function watch(busted, tally)
  busted.subscribe({ "test", "end" }, function(_, _, result)
    tally.tests = tally.tests + 1
    if result == "failure" then
      count(tally, status.FAILED)
    end
    -- What is left is not run; busted itself would go on after the error.
    busted.skipAll = busted.skipAll or core.interrupted() ~= nil
    -- A machine that a failed test left behind is nobody's any more.
    if result ~= "success" and vm.live_count() > 0 then
      collectgarbage()
      collectgarbage()
    end
    return nil, true
  end)
  busted.subscribe({ "error" }, function(element, _, _, trace)
    tally.broken = tally.broken + 1
    local e = raised(trace)
    local is_setup = not element.descriptor or element.descriptor == "file" or element.descriptor == "output"
      or element.descriptor == "helper"
    -- A file that cannot be read or run is no failed test.
    count(tally, is_setup and not e and status.CANNOT_RUN or status.of_error(e))
    return nil, true
  end)
  busted.subscribe({ "failure" }, function(element)
    if element.descriptor ~= "it" then
      count(tally, status.FAILED)
    end
    return nil, true
  end)
  busted.subscribe({ "file", "end" }, function()
    vm.close_all()
    return nil, true
  end)
end

-- Blocks of a spec whose failure is worth a look at the machine.
local LOOKED_AT = { it = true, before_each = true, after_each = true, setup = true, teardown = true,
  strict_setup = true, strict_teardown = true, lazy_setup = true, lazy_teardown = true, finally = true }

local function is_pending(e)
  local mt = debug.getmetatable(e)
  return type(mt) == "table" and mt.__type == "pending"
end

-- busted asks for a trace first of all when something is raised in a block: still where it was raised.
local function stop_at_failures(busted, tally)
  local safe, get_trace = busted.safe, busted.getTrace
  local running, place
  busted.safe = function(descriptor, run, element)
    local outer, outer_place = running, place
    running, tally.judged = LOOKED_AT[descriptor] and element or nil, false
    -- busted gives each file globals of its own.
    place = { env = type(run) == "function" and getfenv(run) or nil }
    local results = { safe(descriptor, run, element) }
    running, place = outer, outer_place
    return unpack(results, 1, table.maxn(results))
  end
  busted.getTrace = function(element, level, message)
    if running and running == element and not tally.judged then
      running = nil
      if not is_pending(message) then
        failure.stop_at_error(message, place)
      end
    end
    return get_trace(element, level, message)
  end
end

-- A test's verdict in busted's terms.
local function judge(busted, result, tally)
  count(tally, status.of_test(result))
  if result.status == "pass" then
    return
  elseif result.status == "skip" or result.status == "inconclusive" then
    busted.pending(("%s: %s"):format(result.status == "skip" and "skipped" or "inconclusive",
      table.concat(report.reasons(result), "; ")))
  elseif result.status == "error" and not errors.is(result.error) and type(result.error) == "table" then
    error(result.error, 0) -- an assertion of busted's own
  elseif result.status == "error" and errors.is(result.error) and result.error.cannot_run then
    error(result.error, 0)
  end
  busted.fail("\n" .. report.block(result))
end

-- A declaration becomes an `it` of the block that is being read.
local function declare_in(busted, tally)
  return function(declared)
    local at = declared.declared_at
    local trace = {
      short_src = at.short_src,
      source = at.source,
      currentline = at.currentline,
      what = at.what,
      traceback = "",
      message = declared.name,
    }
    busted.publish({ "register", "it" }, declared.name, function()
      local result = test.run(declared)
      -- Its machine has ended, and whoever wanted to has seen it.
      tally.judged = true
      judge(busted, result, tally)
    end, trace, {})
  end
end

-- busted's core makes one instance a run: ours to listen to.
local function hook_core(tally)
  local create = require_busted "busted.core"
  package.loaded["busted.core"] = function()
    local busted = create()
    watch(busted, tally)
    stop_at_failures(busted, tally)
    declarations.set_sink(declare_in(busted, tally))
    tally.busted = busted
    return busted
  end
end

-- busted names itself in messages after the chunk that starts it.
local start = loadstring("local run, options = ...; local r = run(options); return r", "@ktstr test")

local Exit = {}

-- busted leaves through here; the process must not.
local function hook_exit()
  require_busted("busted.compatibility").exit = function(code)
    error(setmetatable({ code = code }, Exit), 0)
  end
end

--- busted's own options as text, or nil when it is not installed.
---@return string|nil
function specs.options_help()
  local ok, create = pcall(require, "busted.modules.cli")
  if not ok then
    return nil
  end
  local _, text = create({ standalone = false }):parse { "--help" }
  return text and text:match "OPTIONS:%s*\n(.-)%s*;?[^\n]*re%-run" or nil
end

--- Runs busted with its own arguments.
---@param args string[]
---@return integer exit status
function specs.run(args)
  local tally = new_tally()
  -- What is loaded now stays loaded over all files, and is compiled once.
  for _, name in ipairs(KEPT) do
    require(name)
  end
  hook_exit()
  hook_core(tally)
  local run = require_busted "busted.runner"
  -- A project's .busted may name an interpreter for busted to start: this process is the one.
  _G.arg = { [0] = "ktstr test", "--ignore-lua", unpack(args) }
  local ok, e = pcall(start, run, { standalone = false })
  declarations.set_sink(nil)
  if not ok and getmetatable(e) ~= Exit then
    error(e, 0)
  end
  if not ok and not tally.busted then
    return status.CANNOT_RUN
  end
  for _, argument in ipairs(args) do
    if argument == "--list" or argument == "-l" or argument == "--version" then
      return tally.worst
    end
  end
  if not ok and tally.tests == 0 and tally.broken == 0 then
    return status.CANNOT_RUN -- busted did not take its arguments
  elseif tally.tests == 0 and tally.worst ~= status.FAILED then
    io.stderr:write "ktstr test: no test was found\n"
    return status.CANNOT_RUN
  end
  return tally.worst
end

return specs
