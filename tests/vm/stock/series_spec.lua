-- Series over captures of a stock kernel: on a clock and on demand, in the scenario's phases, with the time
-- of pauses and freezes taken out, and with one that was not taken.
local ktstr = require "ktstr"
local tiny_guest = require "tests.vm.tiny_guest"
local words = require "tests.lua.words"

local says = words.mentions

local TIMEOUT_S = 1800
local PATIENCE_S = 300

local vm

setup(function()
  vm = ktstr.boot { topology = "1n1l2c1t", timeout = TIMEOUT_S,
    capture = ktstr.plan { "runqueues[].cfs.h_nr_queued|runqueues[].cfs.h_nr_running",
      "runqueues[].nr_switches", "jiffies_64", "tasks[].pid", only = true } }
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

local function place(sample)
  return ("%s at %.3f s"):format(sample.tag, sample.elapsed)
end

local SWITCHES = "cpus[1].rq.nr_switches"

-- So many switches on CPU 1, at least: a program is waited for each time.
local function switch(times)
  local r = vm:exec { "sh", "-c", ("i=0; while [ $i -lt %d ]; do sleep 0; i=$((i + 1)); done"):format(times),
    cpus = "1", timeout = PATIENCE_S }
  assert(r.status == 0, r.stderr)
end

describe("captures on a clock", function()
  it("are a series, as the guest's phases are", function()
    vm:phase "calm"
    local clock = vm:periodic { count = 6, over = 6 }
    while #clock:captures() < 3 do
      vm:sleep(0.1)
    end
    vm:phase "storm"
    while clock:state() == "running" do
      switch(50)
    end
    vm:phase()
    local captures = clock:finish()
    local s = ktstr.series(captures, SWITCHES, { source = "periodic", time = "workload" })
    assert.equals(6, #s.all)
    assert.same({ "calm", "storm" }, s:phases())
    assert(s:nondecreasing())
    assert(s:rate_within(0, 1e6))
    assert(s:in_phase("storm"):strictly_increasing())
    assert(ktstr.series(captures, "jiffies_64"):strictly_increasing())
    local switched = s:delta "storm"
    assert.is_true(switched > 0)
    assert.equals(s:last "storm" - s:first "storm", switched)
    assert(s:ratio_across_phases("calm", "storm"):at_least(1))
    assert.equals(s.missing == 0, (s:each():between(0, 2 ^ 53)))
    local holds, finding = s:each():at_most(s[1].value)
    assert.is_false(holds)
    says(finding, SWITCHES, "at most " .. s[1].value)
    local running = ktstr.series(captures, function(record)
      local rq = record:cpu(1).rq
      return rq.cfs:has_ "h_nr_queued" and rq.cfs.h_nr_queued or rq.cfs.h_nr_running
    end, "queued")
    assert.same({ 6, s.missing }, { #running.all, running.missing })
    assert.equals(s.missing == 0, (running:each():between(0, 1000)))
    local ones = ktstr.series(captures, function(record)
      return record:task(1).pid == 1
    end, "init is there")
    assert.equals(ones.missing == 0, (ones:always_true()))
  end)
end)

describe("captures of a script's", function()
  it("count the workload's time alone", function()
    local clock = vm:periodic { count = 1, over = 1000 }
    vm:capture "w1"
    clock:pause()
    vm:capture "w2"
    switch(20)
    vm:capture "w3"
    clock:resume()
    vm:capture "w4"
    clock:finish()
    local list = {}
    for _, one in ipairs(vm:captures()) do
      list[#list + 1] = one.tag:match "^w%d$" and one or nil
    end
    local machine, workload = ktstr.series(list, "jiffies_64"),
      ktstr.series(list, "jiffies_64", { time = "workload" })
    assert.same({ 4, 4 }, { #machine, #workload })
    assert.equals(workload[2].elapsed, workload[3].elapsed)
    assert.is_true(machine[3].elapsed > machine[2].elapsed)
    assert.is_true(workload[4].elapsed - workload[1].elapsed < machine[4].elapsed - machine[1].elapsed)
    assert(machine:rate_within(0, 1e6))
    says(select(2, workload:rate_within(0, 1e6)), "no time passed")
    assert(machine:nondecreasing())
  end)

  it("say so where one in the middle was not taken", function()
    vm:capture "s1"
    vm.machine:test_hook("rendezvous_timeout", 0.05)
    vm.machine:test_hook("deaf", 1, 3600)
    tiny_guest.refused("timeout", vm.capture, vm, "s2")
    vm.machine:test_hook("deaf", 1, 0)
    vm.machine:test_hook("rendezvous_timeout", 30)
    switch(5)
    vm:capture "s3"
    switch(5)
    vm:capture "s4"
    local list = {}
    for _, one in ipairs(vm:captures()) do
      list[#list + 1] = one.tag:match "^s%d$" and one or nil
    end
    local s = ktstr.series(list, SWITCHES)
    assert.same({ 3, 1 }, { #s, s.missing })
    local missing = "1 of 4 samples is missing: " .. place(s.all[2])
    for _, strict in ipairs { { s:each():at_least(0) }, { ktstr.series(list, function()
      return true
    end):always_true() } } do
      assert.is_false(strict[1])
      says(strict[2], place(s.all[2]), "no data (", "did not stop", missing)
    end
    local holds, finding = s:strictly_increasing()
    assert.is_true(holds, tostring(finding))
    says(finding, missing)
    assert.error_matches(function()
      assert.each_at_least(s, 0)
    end, "no data")
    assert.nondecreasing(s)
    assert.is_not.each_at_most(s, 0)
  end)
end)
