-- Series over captures of a machine that runs: what each CPU of the tiny guest has counted, in phases, with
-- pauses, with captures that were not taken, over a rewind.
local ffi = require "ffi"
local capture = require "ktstr.capture"
local host = require "ktstr.host"
local kernel_view = require "tests.vm.kernel_view"
local ktstr = require "ktstr"
local periodic = require "ktstr.periodic"
local program = require "ktstr.capture.program"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"
local words = require "tests.lua.words"

local says = words.mentions

local C = ffi.C
local COUNTERS, STRIDE = tiny_guest.address.counters, 64
local CPUS = 2
local CR3_OFFSET = 240 -- in struct kvm_sregs

local refused, wait_until = tiny_guest.refused, tiny_guest.wait_until

-- A machine whose CPUs count, and whose captures record it.
local function counting()
  local machine = tiny_guest.start("load=3", finally, { cpus = CPUS })
  local sregs = machine:frozen(nil, function()
    return select(2, machine:regs(0))
  end)
  local word = ffi.new "uint64_t[1]"
  ffi.copy(word, sregs:sub(CR3_OFFSET + 1, CR3_OFFSET + 8), 8)
  kernel_view.of(machine).v.root = word[0]
  local root = program.new()
  root:go({ kind = "AT", a = COUNTERS }, "counters"):copy(0, CPUS * STRIDE)
  machine:set_plan(program.bytes(root, { cpus = CPUS, id = 1 }))
  return machine
end

local function counter(cpu)
  return function(record)
    local view, value = ffi.new "struct view", ffi.new "uint64_t[1]"
    C.record_open_view(ffi.cast("struct record **", record._raw.record)[0], view)
    assert(C.view_read_scalar(view, COUNTERS + cpu * STRIDE, 8, value) == nil)
    return value[0]
  end
end

local function captures(machine)
  local list = {}
  for i, raw in ipairs(machine:captures()) do
    list[i] = capture.new(raw)
  end
  return list
end

local function counted(machine, options)
  return ktstr.series(captures(machine), counter(0), options or "counter 0")
end

-- Captures, each of which has another count than the one before.
local function take(machine, ...)
  for _, tag in ipairs { ... } do
    local before = counted(machine):last()
    wait_until(function()
      return machine:frozen(nil, function()
        return not before or tiny_guest.counters(machine, 1)[1] > before
      end)
    end)
    machine:capture(tag)
  end
end

-- One that times out.
local function miss(machine, tag)
  machine:test_hook("rendezvous_timeout", 0.01)
  machine:test_hook("deaf", 1, 3600)
  refused("timeout", machine.capture, machine, tag)
  machine:test_hook("deaf", 1, 0)
  machine:test_hook("rendezvous_timeout", 30)
end

local function place(sample)
  return ("%s at %.3f s"):format(sample.tag, sample.elapsed)
end

describe("a series of captures on a clock", function()
  it("judges what the guest has counted, by phase", function()
    local machine = counting()
    machine:set_phase "calm"
    machine:start_periodic(periodic.plan { count = 8, over = 3 }, false)
    wait_until(function()
      return #machine:captures() >= 4
    end)
    machine:set_phase "storm"
    wait_until(function()
      return machine:periodic() == "over"
    end)
    local s = counted(machine, { name = "counter 0", source = "periodic" })
    assert.equals(8, #s.all)
    assert.same({ "calm", "storm" }, s:phases())
    assert(s:strictly_increasing())
    assert(s:rate_within(0, 1e12))
    -- A host that stands still for a moment makes one too late: strict statements see that.
    assert.equals(s.missing == 0, (s:each():at_least(0)))
    local calm, storm = s:in_phase "calm", s:in_phase "storm"
    assert.equals(8, #calm.all + #storm.all)
    assert.is_true(#calm.all >= 4 and storm[1].elapsed > calm[#calm].elapsed)
    assert.same({ calm[1].value, calm[#calm].value }, { s:first "calm", s:last "calm" })
    assert.equals(tonumber(storm[#storm].value - storm[1].value), (s:delta "storm"))
    local ratio = s:ratio_across_phases("calm", "storm")
    assert.equals(tonumber(storm[#storm].value) / tonumber(calm[#calm].value), ratio.value)
    assert(ratio:at_least(1))
    local holds, finding = ratio:at_most(0.5)
    assert.is_false(holds)
    says(finding, "in 'storm' (" .. place(storm[#storm]), "in 'calm' (" .. place(calm[#calm]))
    holds, finding = s:each():at_most(s[2].value)
    assert.is_false(holds)
    if s.missing == 0 then
      says(finding, "counter 0, " .. place(s[3]), "at most " .. tostring(tonumber(s[2].value)),
        "found " .. tostring(tonumber(s[3].value)))
    end
    -- Two CPUs at the same moments.
    assert(s:ratio_within(ktstr.series(captures(machine), counter(1), "counter 1"), 1e-9, 1e9))
  end)
end)

describe("a series of a script's captures", function()
  it("has the time of freezes and of the workload's pauses taken out", function()
    local machine = counting()
    take(machine, "early")
    machine:start_periodic(periodic.plan { count = 1, over = 1000 }, false)
    local started = host.now()
    take(machine, "first")
    local frozen_at = host.now()
    assert.is_true(tiny_guest.freeze(machine))
    local frozen = host.now()
    wait_until(function()
      machine:read_physical(0, 8)
      return host.now() - frozen > 0.5
    end)
    local thawed = host.now()
    machine:thaw()
    take(machine, "second")
    machine:periodic "pause"
    take(machine, "third", "fourth")
    machine:periodic "resume"
    take(machine, "fifth")
    local whole = host.now() - started
    -- What comes after its end is of no workload: its time stands still, and the guest's does not.
    machine:periodic "finish"
    take(machine, "late", "later")
    local by_machine = counted(machine)
    local by_workload = counted(machine, { name = "counter 0", time = "workload" })
    assert.same({ 8, 5, 1 }, { #by_machine, #by_workload, by_workload.missing })
    assert.equals("periodic_000", by_workload.gaps[1].tag)
    local _, empty = counted(machine, { source = "main", time = "workload" }):since(1e6):nondecreasing()
    assert.equals("inconclusive", empty.status)
    -- That it stood still is in neither; whatever the host does meanwhile.
    assert.is_true(by_machine[3].elapsed - by_machine[2].elapsed <= whole - (thawed - frozen))
    assert.is_true(by_machine[6].elapsed - by_machine[2].elapsed <= whole - (thawed - frozen))
    assert.is_true(thawed - frozen_at >= 0.5)
    local third, fourth = by_workload[3], by_workload[4]
    assert.same({ "third", "fourth" }, { third.tag, fourth.tag })
    assert.equals(third.elapsed, fourth.elapsed)
    assert.is_true(by_machine[5].elapsed > by_machine[4].elapsed)
    assert(by_machine:rate_within(0, 1e12))
    local holds, finding = by_workload:rate_within(0, 1e12)
    assert.same({ false, "inconclusive" }, { holds, finding.status })
    says(finding, "counter 0, " .. place(fourth), "no time passed from ")
    assert(by_workload:strictly_increasing())
  end)

  it("never passes a strict statement with a placeholder in the middle, and the others note it", function()
    local machine = counting()
    take(machine, "one", "two")
    miss(machine, "three")
    take(machine, "four", "five")
    local s = counted(machine)
    assert.same({ 4, 1, 5 }, { #s, s.missing, #s.all })
    assert.equals("three", s.all[3].tag)
    local missing = "1 of 5 samples is missing: " .. place(s.all[3])
    for _, each in ipairs { { s:each():at_least(0) }, { s:each():at_most(2 ^ 63) },
      { s:each():between(0, 2 ^ 63) }, { ktstr.series(captures(machine), function()
        return true
      end, "up"):always_true() } } do
      assert.is_false(each[1])
      assert.same({ "fail", false, 1 }, { each[2].status, each[2].refuted, #each[2].failures })
      says(each[2], place(s.all[3]), "no data (", "of 2 vCPUs did not stop", missing)
    end
    for _, one in ipairs { { s:nondecreasing() }, { s:strictly_increasing() }, { s:rate_within(0, 1e12) },
      { s:ratio_within(counted(machine, "itself"), 1, 1) } } do
      assert.is_true(one[1], tostring(one[2]))
      says(one[2], missing)
    end
    says(select(2, s:steady_within(0, 1)), missing) -- it holds unless the host let one of them wait long
    local holds, finding = s:converges_to(s[2].value, 0, 1000)
    assert.is_false(holds)
    says(finding, missing)
    holds, finding = counted(machine):rate_within(-2, -1)
    assert.is_false(holds)
    says(finding, missing)
    -- Over the gap: from the one before it to the one behind it.
    assert.equals("four", finding.failures[2].sample.tag)
    says(finding.failures[2].found, ("from %d (%s) to %d"):format(tonumber(s[2].value), place(s[2]),
      tonumber(s[3].value)))
  end)

  it("compares nothing over a rewind", function()
    local machine = counting()
    take(machine, "one", "two")
    machine:freeze()
    local image = machine:save("", "")
    machine:thaw()
    take(machine, "three")
    machine:freeze()
    machine:rewind(image)
    machine:thaw()
    -- The guest counts on from where it was saved.
    machine:capture "four"
    take(machine, "five")
    local s = counted(machine)
    assert.equals(5, #s)
    assert.is_true(s[4].epoch ~= s[3].epoch and s[5].epoch == s[4].epoch)
    local holds, finding = s:strictly_increasing()
    assert.is_true(holds, tostring(finding))
    says(finding, "the machine was taken back before " .. place(s[4]))
    local value, why = s:delta()
    assert.is_nil(value)
    assert.matches("the machine was taken back between", why)
  end)
end)

describe("a phase", function()
  it("is that of captures and placeholders from then on, whoever takes them", function()
    local machine = counting()
    take(machine, "none")
    machine:set_phase "a"
    take(machine, "first")
    miss(machine, "missed")
    machine:set_phase "b"
    machine:freeze()
    machine:set_phase "frozen"
    machine:thaw()
    take(machine, "third")
    machine:set_phase()
    take(machine, "last")
    local phases = {}
    for i, one in ipairs(captures(machine)) do
      phases[i] = ("%s: %s"):format(one.tag, tostring(one.phase))
    end
    assert.same({ "none: nil", "first: a", "missed: a", "third: frozen", "last: nil" }, phases)
    for _, name in ipairs { ("n"):rep(65), "a\nb", "a\0b" } do
      refused("invalid", machine.set_phase, machine, name)
    end
    machine:set_phase(("n"):rep(64))
    take(machine, "long")
    assert.equals(64, #captures(machine)[6].phase)
    machine:kill()
    tiny_guest.finish(machine)
    refused("ended", machine.set_phase, machine, "late")
    assert.equals("a", captures(machine)[2].phase)
  end)

  it("is said by a script, and written with its capture", function()
    local vm = ktstr.boot { kernel = support.tiny_kernel, cmdline = "tiny.run=echo" }
    finally(function()
      vm:kill()
    end)
    vm:phase "before"
    vm:capture "one"
    vm:phase "after"
    vm:capture "two"
    vm:phase()
    vm:capture "three"
    local function clock(record)
      return record.clock
    end
    local s = ktstr.series(vm:captures(), clock, "clock")
    assert.same({ "before", "after" }, s:phases())
    assert(s:ratio_across_phases("before", "after"):at_least(1))
    assert(s:strictly_increasing())
    for _, name in ipairs { "", 5, true } do
      refused("invalid", vm.phase, vm, name)
    end
    assert.matches("^capture 'one' %(main, at %d+%.%d ms in 'before'%)$", tostring(vm:captures()[1]))
    assert.matches("^capture 'one' %(main, at %d+%.%d ms in 'before'%)", vm:captures()[1]:text())
    assert.matches("ms%)$", tostring(vm:captures()[3]))
    local kept = {}
    for i, one in ipairs(vm:captures()) do
      kept[i] = ktstr.record(one:json())
    end
    local again = ktstr.series(kept, clock, "clock")
    assert.same({ s[1].elapsed, s[1].phase, s[1].epoch, s[1].value },
      { again[1].elapsed, again[1].phase, again[1].epoch, again[1].value })
    assert.is_nil(again[3].phase)
  end)
end)
