local support = require "tests.lua.support"

local core, load = support.library()
local ktstr = load "ktstr"
local raised = support.raised
local report = load "ktstr.report"
local status = load "ktstr.status"
local test = load "ktstr.test"
local declarations = load "ktstr.declarations"
local vm_module = load "ktstr.vm"

local S, MS = 1e9, 1e6

local function good_report(_, index)
  return { pid = 10 + index, work_units = 100, iterations = 10, wall_ns = 2 * S, cpu_ns = S, run_delay_ns = S,
    migrations = 1, max_gap_ns = 5 * MS, max_gap_at_ns = S, max_gap_cpu = 0, cpus_used = "0" }
end

local function run(options, fn)
  local declared
  declarations.set_sink(function(one)
    declared = one
  end)
  ktstr.test("the test", options, fn)
  return test.run(declared)
end

local function machine_of()
  return core.machines[#core.machines]
end

before_each(function()
  core.report, core.commands, core.boots = good_report, {}, nil
end)

describe("a test with workers", function()
  it("passes when every check holds", function()
    local start = core.clock
    local result = run({ topology = "1n1l2c1t", duration = 3 }, function(t)
      t:cgroup("cg_0", {
        workers = 2, cpuset = ktstr.cpuset.range(0, 1), cpu_weight = 50, memory_max = "64M",
      })
      t:cgroup("cg_1", { workers = 1, work = ktstr.work.Bursty { sleep_ms = 7 }, nice = 5, policy = "batch" })
      local cgroups = t:hold()
      t:expect(cgroups.cg_0.work_units, "work of cg_0"):equals(200)
    end)
    assert.equals("pass", result.status)
    assert.equals(status.PASSED, status.of_test(result))
    assert.equals(3, core.clock - start)
    assert.same({ cg_0 = { "cpuset.cpus=0-1", "cpu.weight=50", "memory.max=67108864" }, cg_1 = {} },
      machine_of().cgroups)
    local text = report.block(result)
    assert.matches("test: the test\n  kernel 7.3.4-fake, topology 1n1l2c1t (2 CPUs)\n", text, 1, true)
    assert.matches("\n  cg_0 +2  SpinWait +200 +100 +100 +0.0 +5.0 +2 +2000.0  0\n", text)
    assert.matches("\nPASS$", text)
  end)

  it("tells the agent what the workers are", function()
    run({ topology = "1n1l2c1t" }, function(t)
      t:cgroup("a/b", { workers = 3, work = ktstr.work.Bursty { sleep_ms = 7 }, affinity = "1", nice = -5 })
      t:hold(1)
    end)
    local body
    for _, request in ipairs(machine_of().requests) do
      body = request.op == "WORKERS_CREATE" and request.body or body
    end
    assert.same({ { "WORK", "Bursty" }, { "PARAM", { 1, 7 } }, { "CGROUP", "a/b" }, { "COUNT", 3 },
      { "CPUS", "1" }, { "NICE", -5 } }, body)
  end)

  it("fails with what was expected and found, the table and the console", function()
    core.report = function(_, index)
      local r = good_report(nil, index)
      r.max_gap_ns = index == 1 and 3120 * MS or r.max_gap_ns
      return r
    end
    local result = run({}, function(t)
      t:cgroup("cg_0", { workers = 2 })
      t:hold()
      machine_of().text = "first\nsomething odd\n"
    end)
    assert.equals("fail", result.status)
    assert.equals(status.FAILED, status.of_test(result))
    local text = report.block(result)
    assert.matches("FAILED max_gap_ms (cg_0 worker 1): expected at most 2000 ms, found 3120 ms, on CPU 0, "
      .. "at 1.00 s", text, 1, true)
    assert.matches("  | something odd", text, 1, true)
    assert.matches("\n  cgroup +workers +work ", text)
    assert.matches("\nFAIL$", text)
  end)

  it("holds its cgroups when its function did not", function()
    local start = core.clock
    local result = run({ duration = 4 }, function(t)
      t:cgroup("cg_0")
    end)
    assert.same({ "pass", 1, 4 }, { result.status, #result.holds, core.clock - start })
  end)

  it("has captures on a clock over the first time that they run", function()
    local result = run({ duration = 3, periodic = 4 }, function(t)
      t:cgroup("cg_0")
      t:hold()
      t:hold(1)
    end)
    assert.same({ "pass", 2 }, { result.status, #result.holds })
    local clocks = machine_of().clocks
    local one = clocks[1]
    assert.same({ 1, 4, false, 3, "periodic_003" }, { #clocks, #one.plan, one.waits, one.plan.over,
      one.plan[4].tag })
    assert.same({ { "finish", one.at + 3 } }, one.said)
  end)

  it("has a capture of the moment when a worker is found dead", function()
    core.report = function(_, index)
      local r = good_report(nil, index)
      r.failed, r.reason = index == 1 and true or nil, "no such CPU"
      return r
    end
    core.regs = function()
      return ("\0"):rep(144), ("\0"):rep(312)
    end
    local result = run({}, function(t)
      t:cgroup("cg_0", { workers = 3 })
      t:hold()
    end)
    assert.same({ "fail", 1, "failure" }, { result.status, #machine_of().taken, machine_of().taken[1].tag })
    -- One that its kernel's failure has ended: that was captured when it came.
    result = run({}, function(t)
      t:cgroup("cg_0", { workers = 3 })
      t:start()
      machine_of():capture "failure"
      machine_of().taken[1].source = "failure"
      t:stop()
    end)
    assert.same({ "fail", 1, "failure" },
      { result.status, #machine_of().taken, machine_of().taken[1].source })
  end)

  it("has them over the time that a hold says", function()
    run({ duration = 3, periodic = 4 }, function(t)
      t:hold(5)
    end)
    assert.equals(5, machine_of().clocks[1].plan.over)
    local result = run({ duration = 3, periodic = 4 }, function(t)
      t:hold(0.5)
    end)
    assert.equals("error", result.status)
    assert.matches("4 captures over 0.5 s are 80 ms apart", tostring(result.error))
  end)

  it("is refused with more captures than fit, when it is declared", function()
    local e = raised(ktstr.test, "crowded", { periodic = 20 }, function() end)
    assert.matches('ktstr.test("crowded"): periodic: 20 captures over 2 s', tostring(e), 1, true)
    assert.matches("'periodic'", tostring(raised(ktstr.test, "x", { periodic = 0 }, function() end)))
  end)

  it("can start and stop its workers itself", function()
    local result = run({}, function(t)
      t:cgroup("cg_0")
      t:start()
      t.vm:sleep(1)
      t:stop()
      t:hold(1)
      assert.matches("no workers run", tostring(raised(t.stop, t)))
    end)
    assert.same({ "pass", 2 }, { result.status, #result.holds })
  end)

  it("is inconclusive when a check has no data, and says which", function()
    core.report = function(_, index)
      local r = good_report(nil, index)
      r.cpu_ns = nil
      return r
    end
    local result = run({}, function(t)
      t:cgroup("cg_0", { workers = 2 })
    end)
    assert.equals("inconclusive", result.status)
    assert.equals(status.INCONCLUSIVE, status.of_test(result))
    assert.same({ "inconclusive max_spread_pct (cg_0 worker 0): no data: CPU and wall time" },
      report.reasons(result))
  end)

  it("refuses cgroups that make no sense", function()
    local cases = {
      { "cg", { work = "SpinWiat" }, "unknown work type 'SpinWiat'; did you mean 'SpinWait'?" },
      { "cg", { work = "PipeIo", workers = 3 }, "3 workers of PipeIo; they must be a multiple of 2" },
      { "cg", { wrokers = 1 }, "did you mean 'workers'?" },
      { "cg", { cpuset = "9" }, "names CPU 9" },
      { "../cg", {}, "is no name for a cgroup" },
      { "cg", { nice = 20 }, "must be -20 to 19" },
    }
    for _, case in ipairs(cases) do
      local result = run({}, function(t)
        t:cgroup(case[1], case[2])
      end)
      assert.equals("error", result.status)
      assert.equals(status.CANNOT_RUN, status.of_test(result))
      assert.is_truthy(tostring(result.error):find(case[3], 1, true), tostring(result.error))
    end
    local work = ktstr.work
    assert.matches("unknown option 'burst'; did you mean 'burst_ms'?",
      tostring(raised(work.Bursty, { burst = 1 })))
    assert.matches("must be 1 to 60000, not 0", tostring(raised(work.Bursty, { burst_ms = 0 })))
    assert.matches("unknown work type 'Brusty'", tostring(raised(function()
      return work.Brusty
    end)))
  end)
end)

describe("t:expect", function()
  local function outcome(fn)
    return run({}, fn)
  end

  it("records what does not hold and goes on", function()
    local after
    local result = outcome(function(t)
      assert.is_false(t:expect(5, "tasks"):at_most(4))
      assert.is_true(t:expect(5, "tasks"):between(5, 6))
      after = true
    end)
    assert.is_true(after)
    assert.equals("fail", result.status)
    assert.same({ "FAILED expect (tasks): expected at most 4, found 5" }, report.reasons(result))
  end)

  it("knows these comparisons", function()
    local result = outcome(function(t)
      t:expect(1, "x"):at_least(1)
      t:expect(1, "x"):less_than(2)
      t:expect(3, "x"):greater_than(2)
      t:expect("abc", "x"):contains "b"
      t:expect({ "a", "b" }, "x"):contains "b"
      t:expect("abc", "x"):matches "^a.c$"
      t:expect("a", "x"):equals "a"
      t:expect("a", "x"):not_equals "b"
      t:expect(true, "x"):is_true()
      t:expect(false, "x"):is_false()
      t:expect(nil, "x"):is_nil()
    end)
    assert.equals("pass", result.status)
  end)

  it("never passes NaN or another type", function()
    for _, value in ipairs { 0 / 0, "5", true } do
      assert.equals("fail", outcome(function(t)
        t:expect(value, "x"):at_most(10)
      end).status)
    end
    assert.equals("fail", outcome(function(t)
      t:expect(0 / 0, "x"):not_equals(1)
    end).status)
  end)

  it("is inconclusive about a number that is not there", function()
    assert.equals("inconclusive", outcome(function(t)
      t:expect(nil, "x"):at_most(10)
    end).status)
  end)

  it("takes a series, whose course is judged like any value", function()
    local function verdict(...)
      local list = {}
      for i, value in ipairs { ... } do
        list[i] = { i, value ~= "gone" and value or nil }
      end
      return outcome(function(t)
        t:expect(ktstr.series(list, nil, "switches"), "CPU 0"):nondecreasing()
      end)
    end
    local passed, failed = verdict(1, "gone", 3), verdict(1, "gone", 0)
    assert.equals("pass", passed.status)
    assert.matches("note: 1 of 3 samples is missing", report.block(passed), 1, true)
    assert.same({ "FAILED nondecreasing (CPU 0: switches, sample 3 at 3.000 s): expected at least 1 "
      .. "(sample 1 at 1.000 s), found 0",
      "  note: 1 of 3 samples is missing: sample 2 at 2.000 s (it has no value)" }, report.reasons(failed))
    assert.equals("inconclusive", verdict(1, "gone").status)
  end)
end)

describe("a test that raises", function()
  it("is an error with message and traceback, and its machine is shut down", function()
    local result = run({}, function()
      error "my mistake"
    end)
    assert.equals("error", result.status)
    assert.equals(status.FAILED, status.of_test(result))
    local text = report.block(result)
    assert.matches("error: .*test_spec.lua:%d+: my mistake\n", text)
    assert.matches("stack traceback:", text)
    assert.equals(0, vm_module.live_count())
  end)

  it("cannot run when it was bad input", function()
    local result = run({ kernel = "7.3" }, function(t)
      t.vm:exec { "x", tiemout = 1 }
    end)
    assert.equals(status.CANNOT_RUN, status.of_test(result))
  end)

  it("is interrupted as a whole", function()
    local errors = load "ktstr.errors"
    local e = raised(run, {}, function()
      errors.raise("interrupted", "interrupted by signal 2")
    end)
    assert.equals("interrupted", e.code)
    assert.equals(0, vm_module.live_count())
  end)
end)

describe("a test", function()
  it("can be skipped, which changes nothing", function()
    local result = run({}, function(t)
      t:skip "no such feature"
    end)
    assert.same({ "skip", "no such feature", status.PASSED },
      { result.status, result.reason, status.of_test(result) })
  end)

  it("can fail, or give up, for a reason of its own", function()
    assert.equals("fail", run({}, function(t)
      t:fail "because"
    end).status)
    assert.equals("inconclusive", run({}, function(t)
      t:inconclusive "because"
    end).status)
  end)

  it("fails when the guest does not report at its end", function()
    core.before_op = function(machine, name)
      if name == "SHUTDOWN" then
        machine:finish { exit_reason = "Fatal", exit_code = -1, timed_out = false, seconds = 1,
          reported = false, detail = "triple fault", last_words = "", channel = {} }
      end
    end
    finally(function()
      core.before_op = nil
    end)
    local result = run({}, function() end)
    assert.equals("fail", result.status)
    assert.matches("found triple fault; no exit code was reported",
      table.concat(report.reasons(result)))
  end)

  it("is refused with options that make no sense, where it is declared", function()
    for _, case in ipairs {
      { "x", { topolgy = 1 }, function() end, "did you mean 'topology'?" },
      { "x", { checks = { max_gap = 1 } }, function() end, "did you mean 'max_gap_ms'?" },
      { "", {}, function() end, "wants a name first" },
      { "x", {}, nil, "wants a function last" },
    } do
      local e = raised(ktstr.test, case[1], case[2], case[3])
      assert.is_true(e.cannot_run)
      assert.is_truthy(tostring(e):find(case[4], 1, true), tostring(e))
    end
  end)

  it("needs somebody who collects tests", function()
    declarations.set_sink(nil)
    assert.matches("run the file with 'ktstr script' or 'ktstr test'",
      tostring(raised(ktstr.test, "x", function() end)))
  end)
end)

describe("the summary", function()
  it("ends with the counts alone on a line", function()
    assert.equals("2 passed, 1 failed", report.summary {
      { status = "pass" }, { status = "pass" }, { status = "fail" } })
    assert.equals("1 inconclusive (counted as skipped): b\n0 passed, 1 failed, 2 skipped", report.summary {
      { status = "error" }, { status = "inconclusive", name = "b" }, { status = "skip" } })
  end)

  it("has a status by precedence 2, 1, 3, 0", function()
    local order = { 0, 3, 1, 2 }
    for i, a in ipairs(order) do
      for j, b in ipairs(order) do
        assert.equals(order[math.max(i, j)], status.worse(a, b))
      end
    end
  end)
end)
