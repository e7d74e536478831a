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
