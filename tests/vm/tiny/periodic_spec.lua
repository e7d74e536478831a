-- Captures on a clock: at the guest's own moments, whatever main does; each is there, or a placeholder.
local core = require "ktstr.core"
local capture = require "ktstr.capture"
local host = require "ktstr.host"
local ktstr = require "ktstr"
local periodic = require "ktstr.periodic"
local series = require "ktstr.series"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"

local refused, wait_until = tiny_guest.refused, tiny_guest.wait_until

local function loaded(cpus)
  return tiny_guest.start("load=3", finally, { cpus = cpus or 2 })
end

local function state(machine)
  return (machine:periodic())
end

local function is_over(machine)
  return function()
    return state(machine) == "over" or state(machine) == "given up"
  end
end

-- All of them are settled. A host that stands still for a moment makes one too late: that is no fault here.
local function check_over(machine, count)
  local how, taken, missed = machine:periodic()
  assert.same({ "over", count }, { how, taken + missed })
  assert.is_true(taken > 0)
  return taken
end

-- What a capture came to: "taken", or the reason.
local function fates(machine)
  local list = {}
  for i, raw in ipairs(machine:captures()) do
    list[i] = raw.missed and raw.reason or "taken"
  end
  return list
end

-- Each is in its place, none before its moment, and in order; those that were not taken say why.
local function check_order(machine, plan, first)
  local list, last = machine:captures(), 0
  assert.equals(#plan, #list)
  for i, raw in ipairs(list) do
    assert.same({ plan[i].tag, "periodic" }, { raw.tag, raw.source })
    if not raw.missed then -- a moment in seconds and one in nanoseconds differ by their rounding
      assert.is_true(raw.workload > plan[i].moment - 1e-6)
      assert.is_true(raw.elapsed >= raw.workload and raw.elapsed >= last)
      last = raw.elapsed
    end
  end
  assert.equals(first or "periodic_000", list[1].tag)
end

-- A guest that says what becomes of its workload when main has said that it is ready for it.
local function speaking(words)
  local machine = support.tiny_machine({ "capture=1", unpack(words) }, { timeout = 120, memory = 2 ^ 25 })
  finally(function()
    machine:kill()
    pcall(machine.join, machine)
  end)
  machine:wake_on_plan(true)
  machine:start()
  assert(core.wire.MSG_SYS_RDY == machine:recv(60), "the guest is not ready")
  assert.same({ nil, "plan" }, { machine:recv(60) })
  return machine
end

describe("captures on a clock", function()
  it("come in order, each at its moment, while main is busy with itself", function()
    local machine = loaded()
    local plan = periodic.plan { count = 10, over = 2 }
    machine:start_periodic(plan, false)
    local n = 0
    wait_until(function()
      -- Nothing here asks the machine for anything.
      for i = 1, 1e6 do
        n = n + i % 7
      end
      return #machine:captures() == #plan
    end)
    check_order(machine, plan)
    wait_until(is_over(machine))
    local taken = check_over(machine, 10)
    assert.same({ done = taken, busy = 0, timeout = 0, failed = 0 }, machine:freeze_counts().periodic)
  end)

  it("are 64 in 10 s #slow", function()
    local machine = loaded(4)
    local plan = periodic.plan { count = 64, over = 10 }
    machine:start_periodic(plan, false)
    wait_until(is_over(machine))
    check_order(machine, plan)
    assert.equals("periodic_063", machine:captures()[64].tag)
  end)

  it("come later by what the machine was frozen for, and all of them come", function()
    local machine = loaded()
    local plan = periodic.plan { count = 4, over = 4 }
    machine:start_periodic(plan, false)
    wait_until(function()
      return #machine:captures() >= 1
    end)
    assert.is_true(tiny_guest.freeze(machine))
    local before, started = #machine:captures(), host.now()
    -- Over two of the moments: nothing is due, whatever the host's clock says.
    wait_until(function()
      machine:read_physical(0, 8)
      return host.now() - started > 1.5
    end)
    assert.equals(before, #machine:captures())
    machine:thaw()
    wait_until(is_over(machine))
    check_order(machine, plan)
    for _, fate in ipairs(fates(machine)) do
      assert.equals("taken", fate)
    end
  end)

  it("are one plan at a time", function()
    local machine = loaded()
    local plan = periodic.plan { count = 2, over = 100 }
    refused("invalid", machine.periodic, machine)
    machine:start_periodic(plan, false)
    local e = refused("busy", machine.start_periodic, machine, plan, false)
    assert.matches("2 of 2 are still to come", e.message)
    assert.same({ "over", 0, 2 }, { machine:periodic "finish" })
    assert.matches("^the workload ended after %d+%.%d+ s$", machine:captures()[1].reason)
    machine:start_periodic(periodic.plan { count = 1, over = 2 }, false)
    wait_until(is_over(machine))
    check_over(machine, 1)
  end)

  it("wait for the workload, and do not count its pauses", function()
    local machine = loaded()
    local plan = periodic.plan { count = 3, over = 1 }
    machine:start_periodic(plan, true)
    assert.equals("waiting", state(machine))
    machine:capture "before"
    assert.is_nil(machine:captures()[1].workload)
    assert.equals("running", (machine:periodic "start"))
    wait_until(function()
      return #machine:captures() == 2
    end)
    assert.equals("paused", (machine:periodic "pause"))
    -- Frozen before the pause, and the pause itself: neither is the workload's time.
    machine:capture "in the pause"
    local now = host.now()
    wait_until(function()
      return host.now() - now > 1
    end)
    machine:capture "later in the pause"
    local list = machine:captures()
    assert.equals(list[#list - 1].workload, list[#list].workload)
    assert.is_true(list[#list].elapsed > list[#list - 1].elapsed)
    machine:periodic "resume"
    wait_until(is_over(machine))
    check_over(machine, 3)
    for _, raw in ipairs(machine:captures()) do
      local number = raw.tag:match "^periodic_(%d+)$"
      if number then
        local one = plan[tonumber(number) + 1]
        assert.is_true(raw.missed or raw.workload > one.moment - 1e-6)
      end
    end
  end)

  it("hear from the guest that its workload starts and goes on", function()
    local machine = speaking { "scenario=0", "scenario=1", "scenario=2", "load=0" }
    machine:start_periodic(periodic.plan { count = 2, over = 0.5 }, true)
    machine:set_plan(nil, "no plan")
    wait_until(is_over(machine))
    check_over(machine, 2)
  end)

  it("hear from the guest that its workload pauses, and ends in the pause", function()
    local machine = speaking { "scenario=0", "scenario=1", "capture=1", "scenario=3", "load=0" }
    machine:start_periodic(periodic.plan { count = 2, over = 1000 }, true)
    machine:set_plan(nil, "no plan")
    wait_until(is_over(machine))
    assert.same({ "over", 0, 2 }, { machine:periodic() })
    local list = machine:captures()
    assert.matches("the workload ended after 0.%d+ s", list[#list].reason)
    assert.is_true(list[#list].missed)
    assert.equals("guest", list[1].source)
  end)
end)

describe("captures that cannot be taken", function()
  it("are placeholders when the machine ends in the middle", function()
    local machine = loaded()
    local plan = periodic.plan { count = 10, over = 3 }
    machine:start_periodic(plan, false)
    wait_until(function()
      return #machine:captures() == 3
    end)
    machine:kill()
    tiny_guest.finish(machine)
    check_order(machine, plan)
    local list = fates(machine)
    assert.not_equals("the machine ended", list[1])
    assert.equals("the machine ended", list[10])
    refused("ended", machine.start_periodic, machine, plan, false)
  end)

  it("are given up after two rendezvous timeouts in a row", function()
    local machine = loaded()
    machine:test_hook("rendezvous_timeout", 0.01)
    machine:test_hook("deaf", 1, 3600)
    local plan = periodic.plan { count = 4, over = 4 }
    machine:start_periodic(plan, false)
    wait_until(is_over(machine))
    assert.same({ "given up", 0, 4 }, { machine:periodic() })
    local list = fates(machine)
    assert.matches("of 2 vCPUs did not stop", list[1])
    assert.matches("of 2 vCPUs did not stop", list[2])
    assert.equals("given up after 2 rendezvous timeouts in a row", list[3])
    assert.equals(list[3], list[4])
    assert.equals(2, machine:freeze_counts().periodic.timeout)
    check_order(machine, plan)
  end)

  it("go on after one timeout, and a strict assertion sees that one is missing", function()
    local machine = loaded()
    machine:test_hook("rendezvous_timeout", 0.01)
    machine:test_hook("deaf", 1, 3600)
    local plan = periodic.plan { count = 4, over = 2 }
    machine:start_periodic(plan, false)
    wait_until(function()
      return #machine:captures() == 1
    end)
    machine:test_hook("deaf", 1, 0)
    machine:test_hook("rendezvous_timeout", 30)
    wait_until(is_over(machine))
    check_order(machine, plan)
    local list = {}
    for i, raw in ipairs(machine:captures()) do
      list[i] = capture.new(raw)
    end
    local moments = series.new(list, function(record)
      return record.elapsed_ms
    end, { source = "periodic" })
    assert.is_true(moments.missing >= 1 and #moments >= 1)
    assert.is_true((moments:nondecreasing()))
    local holds, finding = moments:each():at_least(0)
    assert.is_false(holds)
    assert.matches("no data", finding.found)
    assert.matches("vCPU", finding.failures[1].found)
  end)

  it("end when the machine is taken back", function()
    local machine = loaded()
    machine:freeze()
    local image = machine:save("", "")
    machine:thaw()
    machine:start_periodic(periodic.plan { count = 2, over = 1000 }, false)
    machine:freeze()
    machine:rewind(image)
    machine:thaw()
    wait_until(function()
      return #machine:captures() == 2
    end)
    assert.equals("the machine was taken back", machine:captures()[2].reason)
    assert.same({ "over", 0, 2 }, { machine:periodic() })
  end)
end)

describe("vm:periodic", function()
  local function booted()
    local vm = ktstr.boot { kernel = support.tiny_kernel, cmdline = "tiny.run=echo" }
    finally(function()
      vm:kill()
    end)
    return vm
  end

  it("has captures and placeholders, in order, for a series", function()
    local vm = booted()
    local clock = vm:periodic { count = 3, over = 2 }
    tiny_guest.refused("busy", vm.periodic, vm, { count = 1, over = 1 })
    wait_until(function()
      vm:ping()
      return clock:state() == "over"
    end)
    local list = clock:finish()
    assert.same({ 3, 3 }, { #list, #vm:captures() })
    local rip = ktstr.series(vm:captures(), function(record)
      return record:cpu(0).regs.rip ~= 0
    end, { source = "periodic" })
    assert.is_true((rip:always_true()))
    for i, one in ipairs(list) do
      assert.equals(clock.plan[i].tag, one.tag)
      assert.is_true(one.workload_ms > clock.plan[i].moment * 1000 - 0.001)
    end
  end)

  it("pauses, goes on, ends; what is missing says so, also when the machine has ended", function()
    local vm = booted()
    local clock = vm:periodic { count = 2, over = 1000, wait = true }
    assert.equals("waiting", (clock:state()))
    clock:start()
    clock:pause()
    assert.equals("paused", (clock:state()))
    clock:resume()
    assert.same({ "running", 0, 0 }, { clock:state() })
    assert.equals("captures on a clock: running, 0 taken, 0 missing", tostring(clock))
    vm:kill()
    local list = clock:finish()
    assert.same({ 2, "the machine ended" }, { #list, list[2].reason })
    assert.is_nil(list[1].record)
    tiny_guest.refused("ended", vm.periodic, vm, { count = 1, over = 1 })
  end)

  it("has its own set's captures, and none of another's that have the same names", function()
    local vm = booted()
    local first = vm:periodic { count = 2, over = 1000 }
    assert.equals(2, #first:finish())
    local second = vm:periodic { count = 1, over = 1000 }
    assert.equals(0, #second:captures())
    second:finish()
    assert.same({ 1, 1 }, { #first:captures(), #second:captures() }) -- one name, one capture
    assert.same({ "periodic_001", "periodic_000" }, { first:captures()[1].tag, second:captures()[1].tag })
  end)

  it("refuses a 65th, and what is too close, and the machine goes on", function()
    local vm = booted()
    local e = tiny_guest.refused("invalid", vm.periodic, vm, { count = 65, over = 100 })
    assert.matches("at most 64 fit", e.hint)
    e = tiny_guest.refused("invalid", vm.periodic, vm, { count = 10, over = 1 })
    assert.matches("must be 100 ms apart", e.message)
    e = tiny_guest.refused("invalid", vm.periodic, vm, { count = 1, over = 0 })
    assert.matches("'over' must be above 0", e.message)
    vm:ping()
  end)
end)
