-- ktstr.test: declares a test, and runs one: a machine of its own, cgroups, workers, checks, a verdict.
local boot = require "ktstr.boot"
local capture = require "ktstr.capture"
local checks = require "ktstr.checks"
local declarations = require "ktstr.declarations"
local errors = require "ktstr.errors"
local expect = require "ktstr.expect"
local failure = require "ktstr.repl.failure"
local host = require "ktstr.host"
local metrics = require "ktstr.metrics"
local options = require "ktstr.options"
local outcome = require "ktstr.outcome"
local periodic = require "ktstr.periodic"
local postmortem = require "ktstr.postmortem"
local report = require "ktstr.report"
local steal = require "ktstr.steal"
local workers = require "ktstr.workers"

local test = {}

local DEFAULT_DURATION_S = 2
local USAGE = 'ktstr.test("name", { ... }, function(t) ... end)'

---@class ktstr.TestOptions: ktstr.BootOptions
---@field duration number|nil seconds that t:hold() lets the workers run; nil: 2
---@field periodic integer|nil captures over the first time that the workers run (vm:periodic); nil: none
---@field checks ktstr.Checks|nil

---@type table<string, ktstr.OptionRule>
test.rules = {
  duration = { "number", above = 0, max = 24 * 3600 },
  periodic = { "number", min = 1, integer = true },
  checks = { "table" },
}
for name, rule in pairs(boot.rules) do
  test.rules[name] = rule
end

-- Raised by t:skip.
local Skip = {}
Skip.__index = Skip

---@class ktstr.Test
---@field vm ktstr.VM the machine
---@field k ktstr.Kernel its kernel from outside
---@field name string
---@field duration number
local T = {}

function T.__index(self, name)
  if name == "k" then
    return self.vm.k
  end
  return T[name]
end

--- Makes a cgroup in the guest; its workers run from t:start() (or t:hold()) on. Raises "invalid",
--- "guest".
---@param name string below the root of the hierarchy
---@param given ktstr.CgroupOptions|nil
function T:cgroup(name, given)
  local cgroup = workers.define(name, given, self.vm.topology)
  for _, other in ipairs(self.cgroups) do
    if other.name == name then
      errors.refuse("invalid", ("the test has a cgroup '%s' already"):format(name))
    end
  end
  workers.create_cgroup(self.vm, cgroup)
  self.cgroups[#self.cgroups + 1] = cgroup
end

--- Starts the workers of all cgroups at once.
---@param seconds number|nil how long they will run; nil: the test's duration
function T:start(seconds)
  if self.running then
    errors.refuse("invalid", "t:start(): the workers run already")
  end
  self.groups = {}
  for _, cgroup in ipairs(self.cgroups) do
    if cgroup.count > 0 then
      self.groups[cgroup] = workers.line_up(self.vm, cgroup)
    end
  end
  local wants_captures = self.periodic and #self.holds == 0
  if wants_captures then
    -- What it takes to say what they record is not the workload's time.
    capture.prepare(self.vm, true)
  end
  self.running = { stat = steal.parse(self.vm:read "/proc/stat"), at = host.now() }
  workers.start(self.vm)
  if wants_captures then
    self.captures_going_on = self.vm:periodic { count = self.periodic, over = seconds or self.duration }
  end
end

-- A worker that is no more is why its scheduler is looked at.
local function note_deaths(self, group)
  for _, one in ipairs(group) do
    if one.failed or one.killed then
      postmortem.of_workload(self.vm, ("the workload has died: worker %d: %s"):format(one.index,
        one.failed and (one.reason or "it could not run") or "it did not stop when told to"))
    end
  end
end

--- Stops the workers and takes their reports.
---@return table<string, ktstr.CgroupSummary> by the cgroup's name
function T:stop()
  if not self.running then
    errors.refuse("invalid", "t:stop(): no workers run", "start them with t:start()")
  end
  if self.captures_going_on then
    self.captures_going_on:finish()
    self.captures_going_on = nil
  end
  local reports = workers.stop(self.vm)
  local before = self.running
  self.running = nil
  local seconds = host.now() - before.at
  local dilation = steal.between(before.stat, steal.parse(self.vm:read "/proc/stat"), seconds)
  for _, group in pairs(reports) do
    note_deaths(self, group)
  end
  local hold = { seconds = seconds, dilation = dilation, cgroups = {}, rows = {} }
  local by_name = {}
  for i, cgroup in ipairs(self.cgroups) do
    local held = { name = cgroup.name, cpus = cgroup.cpus, work = cgroup.work }
    held.reports = reports[self.groups[cgroup]] or {}
    hold.cgroups[i] = held
    hold.rows[i] = metrics.summarise(held)
    by_name[cgroup.name] = hold.rows[i]
  end
  self.holds[#self.holds + 1] = hold
  return by_name
end

--- Lets the workers of all cgroups run, then stops them.
---@param seconds number|nil nil: the test's duration
---@return table<string, ktstr.CgroupSummary> by the cgroup's name
function T:hold(seconds)
  seconds = seconds or self.duration
  if type(seconds) ~= "number" or seconds <= 0 or seconds ~= seconds then
    errors.refuse("invalid", ("t:hold wants seconds above 0, not %s"):format(tostring(seconds)))
  end
  self:start(seconds)
  self.vm:sleep(seconds)
  return self:stop()
end

local function place_of(t)
  return { vm = t.vm, t = t, env = t.env }
end

-- A failure stops here where a person wants to look at the machine.
local function record(t, finding)
  t.findings[#t.findings + 1] = finding
  if finding.status == "fail" then
    failure.stop_at(report.finding(finding), place_of(t))
  end
end

--- A statement about a value: t:expect(n, "tasks on the runqueue"):at_most(4); or about a series, with the
--- statements that it has itself: t:expect(switches):nondecreasing()
---@param value any
---@param label string|nil what it is, for the report
---@return ktstr.Expectation
function T:expect(value, label)
  return expect.new(value, label, function(finding)
    record(self, finding)
  end)
end

--- Records a failure; the test goes on.
---@param message string
function T:fail(message)
  record(self, { check = "fail", status = "fail", where = "the test", found = tostring(message) })
end

--- Records that the test could not tell.
---@param reason string
function T:inconclusive(reason)
  self.findings[#self.findings + 1] =
    { check = "inconclusive", status = "inconclusive", where = "the test", found = tostring(reason) }
end

--- Ends the test as skipped: it changes nothing.
---@param reason string
function T:skip(reason)
  error(setmetatable({ reason = tostring(reason) }, Skip), 0)
end

---@class ktstr.TestResult
---@field name string
---@field status "pass"|"fail"|"inconclusive"|"error"|"skip"
---@field findings ktstr.Finding[]
---@field holds table[] { seconds, dilation, rows } each
---@field release string|nil
---@field topology ktstr.Topology|nil
---@field seconds number of wall time, with boot and shutdown
---@field error any what was raised
---@field traceback string|nil
---@field reason string|nil why it was skipped
---@field warnings string[]|nil what its run was warned of
---@field console string the end of the guest's console

local function boot_options(given)
  local chosen = {}
  for name in pairs(boot.rules) do
    chosen[name] = given[name]
  end
  return chosen
end

local function new_context(declared, vm)
  return setmetatable({
    name = declared.name,
    vm = vm,
    env = getfenv(declared.fn),
    duration = declared.options.duration or DEFAULT_DURATION_S,
    periodic = declared.options.periodic,
    cgroups = {},
    holds = {},
    findings = {},
  }, T)
end

-- What was raised, where it was raised.
local function catch(e)
  if getmetatable(e) == Skip then
    return { skip = e.reason }
  end
  return { raised = e, traceback = debug.traceback("", 2):gsub("^%s*\n", "") }
end

local function run_body(t, fn)
  fn(t)
  if t.running then
    t:stop()
  elseif #t.cgroups > 0 and #t.holds == 0 then
    t:hold()
  end
end

local function add_all(list, more)
  for _, element in ipairs(more) do
    list[#list + 1] = element
  end
end

local function verdict(result)
  if result.error then
    return "error"
  elseif result.reason then
    return "skip"
  end
  local status = "pass"
  for _, finding in ipairs(result.findings) do
    if finding.status == "fail" then
      return "fail"
    elseif finding.status == "inconclusive" then
      status = "inconclusive"
    end
  end
  return status
end

local function judge_end(t, ended)
  if not ended.passed then
    t.findings[#t.findings + 1] = {
      check = "end",
      status = "fail",
      where = "the guest",
      expected = "that it powers off and reports exit code 0",
      found = outcome.describe(ended, t.vm.timeout),
    }
  end
end

local function note_raised(result, caught)
  result.reason = caught.skip
  result.error = caught.raised
  result.traceback = caught.traceback
end

local function run_in_machine(declared, config, result)
  local vm = boot.boot(boot_options(declared.options))
  local t = new_context(declared, vm)
  vm.name = declared.name
  vm.on_crash = function(what, signal)
    postmortem.of_workload(vm, ("the workload has died: %s: ended by signal %d"):format(what, signal))
  end
  result.release, result.topology = vm.release, vm.topology
  result.findings, result.holds = t.findings, t.holds
  local ok, caught = xpcall(run_body, function(e)
    return catch(getmetatable(e) == Skip and e or failure.stop_at_error(e, place_of(t)))
  end, t, declared.fn)
  if not ok then
    note_raised(result, caught)
    if errors.is(caught.raised, "interrupted") then
      vm:kill()
      return
    end
  end
  local ended = vm:shutdown()
  result.console = outcome.tail(ended.console)
  result.warnings = ended.warnings
  if not ok then
    return
  end
  judge_end(t, ended)
  for _, hold in ipairs(t.holds) do
    add_all(t.findings, checks.evaluate(config, hold))
  end
  if #t.holds == 0 then
    add_all(t.findings, checks.evaluate(config, { cgroups = {}, dilation = { steal = {} } }))
  end
end

--- Runs a declared test in a machine of its own. Raises only "interrupted".
---@param declared table
---@return ktstr.TestResult
function test.run(declared)
  local start = host.now()
  local result = { name = declared.name, findings = {}, holds = {}, console = "" }
  local ok, caught = xpcall(function()
    local config = checks.merge(declared.options.checks)
    run_in_machine(declared, config, result)
  end, catch)
  if not ok then
    note_raised(result, caught)
  end
  if errors.is(result.error, "interrupted") then
    error(result.error, 0)
  end
  result.seconds = host.now() - start
  result.status = verdict(result)
  return result
end

--- Declares a test. It runs when the file has been read (`ktstr script`), or as an `it` (`ktstr test`).
---   ktstr.test("two groups share a CPU", { topology = "1n1l1c1t" }, function(t) ... end)
--- Raises "invalid" for options that make no sense.
---@param name string
---@param given ktstr.TestOptions|fun(t: ktstr.Test)
---@param fn fun(t: ktstr.Test)|nil
function test.declare(name, given, fn)
  if type(given) == "function" and fn == nil then
    given, fn = {}, given
  end
  if type(name) ~= "string" or name == "" then
    errors.refuse("invalid", "ktstr.test wants a name first", USAGE)
  elseif type(fn) ~= "function" then
    errors.refuse("invalid", ("ktstr.test(\"%s\") wants a function last"):format(name), USAGE)
  end
  options.check(("ktstr.test(\"%s\")"):format(name), given, test.rules)
  checks.merge(given.checks)
  if given.periodic then
    periodic.plan({ count = given.periodic, over = given.duration or DEFAULT_DURATION_S },
      ("ktstr.test(\"%s\"): periodic"):format(name))
  end
  local added = declarations.add {
    name = name, options = given or {}, fn = fn, declared_at = debug.getinfo(2, "Sl"),
  }
  if not added then
    errors.refuse("invalid", ("ktstr.test(\"%s\") was called where no tests are collected"):format(name),
      "run the file with 'ktstr script' or 'ktstr test'")
  end
end

return test
