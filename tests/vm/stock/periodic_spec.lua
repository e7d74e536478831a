-- Captures on a clock while a stock kernel's workers run: each at its moment or a placeholder that says why
-- not, and the workers come to no harm. When they came is printed: that is the host's doing.
local host = require "ktstr.host"
local ktstr = require "ktstr"
local periodic = require "ktstr.periodic"
local report = require "ktstr.report"
local test = require "ktstr.test"

local TIMEOUT_S = 1800
local COUNT, OVER_S = 64, 10
local NOT_ON_TIME = { not_starved = true, isolation = true } -- the checks that are not about time
local REASONS = { "it is too late by %d+ ms", "of 2 vCPUs did not stop", "in a row$" }

local function quantile(sorted, share)
  return sorted[math.max(1, math.ceil(#sorted * share))]
end

-- How far behind their moments they came, in words; none comes before its own.
local function lateness(list, plan)
  local late = {}
  for i, one in ipairs(list) do
    if one.record then
      late[#late + 1] = one.workload_ms - plan[i].moment * 1000
      assert.is_true(late[#late] > -0.001, ("%s came %.3f ms early"):format(one.tag, -late[#late]))
    end
  end
  table.sort(late)
  if #late == 0 then
    return "none was taken"
  end
  return ("%d of %d taken, behind their moments by %.2f ms at p50, %.2f at p90, %.2f at p99, %.2f at most")
    :format(#late, #list, quantile(late, 0.5), quantile(late, 0.9), quantile(late, 0.99), late[#late])
end

local function says_why(one)
  for _, pattern in ipairs(REASONS) do
    if one.reason:find(pattern) then
      return true
    end
  end
  return false
end

-- In order, by name, each itself or a reason.
local function assert_whole(list, plan)
  assert.equals(#plan, #list)
  local last = -1
  for i, one in ipairs(list) do
    assert.same({ plan[i].tag, "periodic" }, { one.tag, one.source })
    assert.is_true(one.elapsed_ms >= last)
    last = one.elapsed_ms
    if one.record then
      assert.equals(2, one:cpus())
      assert.equals("init", one:task(1).comm)
    else
      assert.is_true(says_why(one), one.reason)
    end
  end
end

describe("64 captures in 10 s of a test", function()
  it("are there or say why not, and its workers come to no harm", function()
    local plan = periodic.plan { count = COUNT, over = OVER_S }
    local list, missed, counts, rows
    local result = test.run { name = "inner", fn = function(t)
      t:cgroup("left", { workers = 2, cpuset = "0" })
      t:cgroup("right", { workers = 1, cpuset = "1", work = "Bursty" })
      rows = t:hold()
      list = t.vm:captures()
      counts = t.vm.machine:freeze_counts().periodic
    end, options = { topology = "1n1l2c1t", timeout = TIMEOUT_S, duration = OVER_S, periodic = COUNT } }
    assert.is_nil(result.error, tostring(result.error))
    assert_whole(list, plan)
    local switches = ktstr.series(list, "cpus[0].rq.nr_switches", { source = "periodic" })
    missed = switches.missing
    assert.same({ COUNT - missed, COUNT - missed }, { #switches, counts.done })
    assert.is_true((switches:nondecreasing()))
    -- A strict statement stands on all of them, or on none.
    local holds, finding = switches:each():at_least(1)
    assert.equals(missed == 0, holds, finding and finding.found)
    -- The runqueues had the workers: CPU 0 two of them.
    local most = 0
    for _, one in ipairs(list) do
      most = math.max(most, one.record and one:cpu(0).rq.nr_running or 0)
    end
    assert.is_true(most >= 2, most)
    for _, name in ipairs { "left", "right" } do
      for _, worker in ipairs(rows[name].reports) do
        assert.is_true(worker.work_units > 0, name)
      end
    end
    for _, found in ipairs(result.findings) do
      assert.is_true(found.status ~= "fail" or not NOT_ON_TIME[found.check], report.finding(found))
    end
    print(("64 captures in 10 s, 2 busy vCPUs: %s"):format(lateness(list, plan)))
    local frozen = {}
    for _, one in ipairs(list) do
      frozen[#frozen + 1] = one.record and one.frozen_ms or nil
    end
    table.sort(frozen)
    print(("  the machine stood still for %.1f ms at p50, %.1f at most"):format(quantile(frozen, 0.5),
      frozen[#frozen]))
    for _, found in ipairs(result.findings) do
      print(("  %s %s: %s"):format(found.check, found.where, found.status))
    end
  end)
end)

describe("captures of a machine that stands still in the middle", function()
  local vm

  setup(function()
    vm = ktstr.boot { topology = "1n1l2c1t", timeout = TIMEOUT_S }
    vm:spawn { "sh", "-c", "while :; do :; done", cpus = "1" }
  end)

  teardown(function()
    if vm then
      vm:kill()
    end
  end)

  local function wait_for(done)
    for _ = 1, 2400 do
      if done() then
        return
      end
      vm:sleep(0.05)
    end
    error("it did not come about within two minutes", 2)
  end

  -- Runs f() once the first two are settled; all six, in the end.
  local function interrupted(f)
    local clock = vm:periodic { count = 6, over = 6 }
    wait_for(function()
      return #clock:captures() >= 2
    end)
    f(clock)
    wait_for(function()
      return clock:state() == "over"
    end)
    local list = clock:finish()
    assert_whole(list, clock.plan)
    print(("  %s"):format(lateness(list, clock.plan)))
    return list
  end

  it("come later by a freeze's length, which is nobody's time", function()
    local stood_s, began = nil, host.now()
    local list = interrupted(function(clock)
      vm:freeze()
      local from, before = host.now(), #clock:captures()
      repeat
        vm.k:var "jiffies_64"
      until host.now() - from > 2
      assert.equals(before, #clock:captures()) -- the third was due within the second second
      stood_s = host.now() - from
      vm:thaw()
    end)
    local last = list[#list]
    assert.is_true((host.now() - began) - last.workload_ms / 1000 >= stood_s)
    for _, one in ipairs(list) do
      -- Workload and guest have the same time: a freeze is in neither.
      assert.near(list[1].elapsed_ms - list[1].workload_ms, one.elapsed_ms - one.workload_ms, 0.01)
    end
  end)

  it("come later by a pause's length, which is the guest's time and not the workload's", function()
    local paused_ms
    local list = interrupted(function(clock)
      clock:pause()
      local from = vm:capture("paused").elapsed_ms
      vm:sleep(1)
      paused_ms = vm:capture("still paused").elapsed_ms - from
      assert.equals("paused", (clock:state()))
      clock:resume()
    end)
    local first, last = list[1], list[#list]
    local outside = (last.elapsed_ms - last.workload_ms) - (first.elapsed_ms - first.workload_ms)
    assert.is_true(paused_ms >= 900 and outside >= paused_ms - 0.01,
      ("%.3f ms of a pause, %.3f ms outside the workload"):format(paused_ms, outside))
  end)
end)
