-- When periodic captures are due, and what becomes of each, by a clock of the test's own.
local support = require "tests.lua.support"

local _, load = support.library()
local errors = load "ktstr.errors"
local periodic = load "ktstr.periodic"
local raised = support.raised

local function moments(given)
  local list = {}
  for i, one in ipairs(periodic.plan(given)) do
    list[i] = one.moment
  end
  return list
end

local function near(wanted, found)
  assert.equals(#wanted, #found)
  for i, value in ipairs(wanted) do
    assert.near(value, found[i], 1e-9)
  end
end

local function refused(given, ...)
  local e = raised(periodic.plan, given)
  assert(errors.is(e, "invalid"), tostring(e))
  for _, part in ipairs { ... } do
    assert(tostring(e):find(part, 1, true), ("no '%s' in: %s"):format(part, tostring(e)))
  end
end

describe("a plan", function()
  it("lies between 10 % and 90 % of the workload, in equal parts", function()
    near({ 3, 5, 7 }, moments { count = 3, over = 10 })
    near({ 1 }, moments { count = 1, over = 2 })
    near({ 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.6 }, moments { count = 7, over = 2 })
  end)

  it("has tags by number, the spacing, and how late each may be", function()
    local plan = periodic.plan { count = 64, over = 10 }
    assert.same({ 64, "periodic_000", "periodic_009", "periodic_063" },
      { #plan, plan[1].tag, plan[10].tag, plan[64].tag })
    near({ 8 / 65, 1 + 8 / 65, 1 + 64 * 8 / 65, plan[2].moment, 9 },
      { plan.spacing, plan[1].moment, plan[64].moment, plan[1].latest, plan[64].latest })
  end)

  it("takes what is exactly 100 ms apart", function()
    near({ 0.125 }, { periodic.plan({ count = 1, over = 0.25 })[1].moment })
    assert.equals(10, #periodic.plan { count = 10, over = 1.375 })
    assert.equals(64, #periodic.plan { count = 64, over = 8.125 })
  end)

  it("refuses what is closer, with what fits", function()
    refused({ count = 10, over = 1.374 }, "vm:periodic: 10 captures over 1.374 s are 99.9 ms apart",
      "must be 100 ms apart", "at most 9 fit into 1.374 s", "10 take at least 1.375 s")
    refused({ count = 64, over = 8.1 }, "at most 63 fit", "64 take at least 8.125 s")
    assert.equals("0.2 s is too short for one, which takes 0.25 s",
      raised(periodic.plan, { count = 1, over = 0.2 }).hint)
    refused({ count = 2, over = 0.2 }, "too short for one", "2 take at least 0.375 s")
    refused({ count = 3, over = 0.2 }, "too short for one", "3 take at least 0.5 s")
  end)

  it("refuses a 65th", function()
    refused({ count = 65, over = 100 }, "65 captures are more than a run can have",
      "at most 64 fit into 100 s")
    refused({ count = 65, over = 2 }, "at most 15 fit into 2 s")
    refused({ count = 1e18, over = 100 }, "more than a run can have")
  end)

  it("refuses to be asked for without count or time, or with what is none", function()
    refused({ over = 1 }, "option 'count' is missing")
    refused({ count = 3 }, "option 'over' is missing")
    refused(nil, "missing")
    for _, count in ipairs { 0, -1, 1.5, 0 / 0, math.huge, "3" } do
      refused({ count = count, over = 10 }, "'count'")
    end
    for _, over in ipairs { 0, -1, 0 / 0, math.huge, "10" } do
      refused({ count = 3, over = over }, "'over'")
    end
    refused({ count = 3, over = 10, cuont = 3 }, "did you mean 'count'?")
  end)

  it("speaks of whose options they are", function()
    local e = raised(periodic.plan, { count = 65, over = 100 }, 'ktstr.test("x"): periodic')
    assert.equals('ktstr.test("x"): periodic: 65 captures are more than a run can have', e.message)
  end)
end)

describe("a run", function()
  -- Due at 3, 5 and 7 s of the workload, and too late at 5, 7 and 9.
  local run
  before_each(function()
    run = periodic.new(periodic.plan { count = 3, over = 10 })
  end)

  local function due(now)
    local one = run:due(now)
    return one and one.tag
  end

  local function reasons()
    local list = {}
    for i, outcome in ipairs(run.outcomes) do
      list[i] = outcome.reason or "taken"
    end
    return list
  end

  it("has nothing due before its start", function()
    assert.is_nil(due(100))
    assert.is_nil(run:next_at())
    assert.same({ "waiting", 0 }, { run.state, run:elapsed(100) })
  end)

  it("has each due at its moment after the start, and over when all are taken", function()
    run:start(100)
    assert.near(103, run:next_at(), 1e-9)
    assert.is_nil(due(102.999))
    assert.equals("periodic_000", due(103))
    run:settle(103.01)
    assert.is_nil(due(103.02))
    assert.equals("periodic_001", due(105.5))
    run:settle(105.5)
    assert.equals("periodic_002", due(107))
    run:settle(107)
    assert.same({ "over", 3, 0 }, { run.state, run:counts() })
    assert.is_nil(run:next_at())
    assert.is_nil(due(200))
    near({ 3.01, 5.5, 7 }, { run.outcomes[1].elapsed, run.outcomes[2].elapsed, run.outcomes[3].elapsed })
  end)

  it("has one due until it is settled", function()
    run:start(0)
    assert.equals("periodic_000", due(3))
    assert.equals("periodic_000", due(3.1))
    run:settle(3.2)
    assert.is_nil(due(3.3))
  end)

  it("has each due at the very time that it is to be asked again", function()
    for _, count in ipairs { 1, 3, 7, 13, 61, 64 } do
      local one = periodic.new(periodic.plan { count = count, over = 9.7 })
      one:start(1234.56789)
      one:pause(1234.7)
      one:resume(1235.1)
      while one.state == "running" do
        local now = one:next_at()
        assert(one:due(now), "not due when it said")
        one:settle(now)
      end
      assert.equals(count, (one:counts()))
    end
  end)

  it("starts once", function()
    run:start(100)
    run:start(102)
    assert.equals("periodic_000", due(103))
  end)

  it("takes pauses out", function()
    run:start(0)
    run:pause(2)
    assert.same({ "paused", 2 }, { run.state, run:elapsed(50) })
    assert.is_nil(due(50))
    assert.is_nil(run:next_at())
    run:resume(102)
    assert.equals(103, run:next_at())
    assert.is_nil(due(102.9))
    assert.equals("periodic_000", due(103))
    run:settle(103)
    run:pause(104)
    run:resume(105)
    assert.is_nil(due(105.9))
    assert.equals("periodic_001", due(106))
    assert.equals(5, run:elapsed(106))
  end)

  it("is not confused by pauses that are none", function()
    run:pause(0)
    run:resume(1)
    run:start(10)
    run:resume(11)
    run:pause(12)
    run:pause(20)
    run:start(21)
    run:resume(112)
    run:resume(120)
    assert.equals(3, run:elapsed(113))
    assert.equals("periodic_000", due(113))
  end)

  it("takes a clock that goes back to stand", function()
    run:start(100)
    assert.equals(2, run:elapsed(102))
    assert.equals(2, run:elapsed(50))
    run:pause(40)
    run:resume(30)
    assert.equals(2, run:elapsed(102))
  end)

  it("gives up one whose successor is due, and says so", function()
    run:start(0)
    assert.equals("periodic_000", due(4.999))
    assert.equals("periodic_001", due(5.2))
    assert.same({ "it is too late by 2200 ms" }, reasons())
    assert.is_nil(due(9))
    assert.same({ "over", 0, 3 }, { run.state, run:counts() })
    assert.equals("it is too late by 2000 ms", run.outcomes[3].reason)
  end)

  it("tries again while another freeze holds the machine, until it is too late", function()
    run:start(0)
    assert.equals("periodic_000", due(3))
    run:settle(3, "busy")
    assert.is_nil(due(3.004))
    assert.near(3.005, run:next_at(), 1e-9)
    assert.equals("periodic_000", due(3.005))
    run:settle(3.006)
    assert.same({ "taken" }, reasons())
    assert.equals("periodic_001", due(5))
    run:settle(6.999, "busy")
    assert.equals("periodic_002", due(7))
    assert.same({ "taken", "it is too late by 2000 ms: another freeze held the machine" }, reasons())
  end)

  it("is given up after two rendezvous timeouts in a row", function()
    run:start(0)
    assert.equals("periodic_000", due(3))
    run:settle(3.1, "timeout")
    assert.equals("periodic_001", due(5))
    run:settle(5.1, "timeout")
    assert.same({ "given up", 0, 3 }, { run.state, run:counts() })
    assert.same({ "the rendezvous timed out", "the rendezvous timed out",
      "given up after 2 rendezvous timeouts in a row" }, reasons())
    assert.is_nil(due(7))
    assert.is_nil(run:next_at())
    run:finish(8)
    assert.same({ "given up", 3 }, { run.state, #run.outcomes })
  end)

  it("goes on after a timeout when the next one is taken, or fails in another way", function()
    run:start(0)
    due(3)
    run:settle(3, "timeout")
    due(5)
    run:settle(5)
    due(7)
    run:settle(7, "timeout")
    assert.same({ "over", "the rendezvous timed out", "taken", "the rendezvous timed out" },
      { run.state, unpack(reasons()) })
    run = periodic.new(periodic.plan { count = 4, over = 10 })
    run:start(0)
    assert.equals("periodic_000", due(2.6))
    run:settle(2.6, "timeout")
    assert.equals("periodic_001", due(4.2))
    run:settle(4.2, "no memory")
    assert.equals("periodic_002", due(5.8))
    run:settle(5.8, "timeout")
    assert.equals("running", run.state)
    assert.equals("no memory", run.outcomes[2].reason)
  end)

  it("counts timeouts in a row over those that were too late", function()
    run:start(0)
    due(3)
    run:settle(3, "timeout")
    assert.equals("periodic_002", due(7.5))
    run:settle(7.5, "timeout")
    assert.equals("given up", run.state)
  end)

  it("gives those that the workload's end came before a reason", function()
    run:start(0)
    due(3)
    run:settle(3)
    run:finish(4)
    local ended = "the workload ended after 4.000 s"
    assert.same({ "taken", ended, ended }, reasons())
    assert.same({ "over", 4 }, { run.state, run:elapsed(50) })
    run:start(60)
    assert.is_nil(due(70))
    run = periodic.new(run.plan)
    run:finish(1, "the machine ended")
    assert.equals("the machine ended", run.outcomes[1].reason)
    run = periodic.new(run.plan)
    run:finish(1)
    assert.equals("the workload did not start", run.outcomes[3].reason)
  end)

  it("ends paused where it paused", function()
    run:start(0)
    run:pause(2)
    run:finish(50)
    assert.equals("the workload ended after 2.000 s", run.outcomes[1].reason)
  end)

  it("does nothing with an outcome that nobody asked for", function()
    run:settle(1)
    assert.equals(0, #run.outcomes)
    run:start(0)
    run:pause(1)
    run:settle(2)
    assert.equals(0, #run.outcomes)
  end)

  it("knows nothing of another run", function()
    local other = periodic.new(run.plan)
    run:start(0)
    due(3)
    run:settle(3)
    assert.same({ "waiting", 0 }, { other.state, #other.outcomes })
  end)
end)
