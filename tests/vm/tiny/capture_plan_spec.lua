-- Captures with a plan on a machine that runs: the record is of the moment of the freeze, whoever asked for
-- it; a guest's first capture waits for the plan; what cannot be taken is a placeholder.
local ffi = require "ffi"
local capture = require "ktstr.capture"
local core = require "ktstr.core"
local kernel_view = require "tests.vm.kernel_view"
local program = require "ktstr.capture.program"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"

local C = ffi.C
local COUNTERS, STRIDE = tiny_guest.address.counters, 64
local CR3_OFFSET = 240 -- in struct kvm_sregs
local CPUS = 4

local refused, wait_until = tiny_guest.refused, tiny_guest.wait_until

-- Says where the guest's page tables are.
local function find_memory(machine)
  local sregs = machine:frozen(nil, function()
    return select(2, machine:regs(0))
  end)
  local word = ffi.new "uint64_t[1]"
  ffi.copy(word, sregs:sub(CR3_OFFSET + 1, CR3_OFFSET + 8), 8)
  kernel_view.of(machine).v.root = word[0]
end

-- A machine whose CPUs count, and whose memory its view finds.
local function counting(scenario)
  local machine = tiny_guest.start(scenario, finally, { cpus = CPUS })
  find_memory(machine)
  return machine
end

-- The bytes of a plan that copies what `fill` names.
local function plan_of(fill, cpus, id)
  local root = program.new()
  fill(root)
  return program.bytes(root, { cpus = cpus or CPUS, id = id or 1 })
end

local function counters_plan(id)
  return plan_of(function(root)
    root:go({ kind = "AT", a = COUNTERS }, "counters"):copy(0, CPUS * STRIDE)
  end, CPUS, id)
end

local function record_of(raw)
  return ffi.cast("struct record **", raw.record)[0]
end

local function counters_of(raw)
  local view, value, counters = ffi.new "struct view", ffi.new "uint64_t[1]", {}
  C.record_open_view(record_of(raw), view)
  for cpu = 0, CPUS - 1 do
    assert(C.view_read_scalar(view, COUNTERS + cpu * STRIDE, 8, value) == nil)
    counters[cpu + 1] = tonumber(value[0])
  end
  return counters
end

-- A guest that asks, of a machine whose main says that it will answer.
local function asking(requests)
  local machine = support.tiny_machine("capture=" .. requests, { timeout = 120, memory = 32 * 2 ^ 20 })
  finally(function()
    machine:kill()
    pcall(machine.join, machine)
  end)
  machine:wake_on_plan(true)
  machine:start()
  assert(core.wire.MSG_SYS_RDY == machine:recv(60), "the guest is not ready")
  return machine
end

local function one_counter()
  return plan_of(function(root)
    root:go({ kind = "AT", a = COUNTERS }, "counter"):copy(0, 8)
  end, 1)
end

describe("a capture with a plan", function()
  it("has the memory of its own moment, though the machine goes on", function()
    local machine = counting "load=3"
    machine:set_plan(counters_plan(77))
    local last
    for i = 1, 5 do
      machine:capture("c" .. i)
      local raw = machine:captures()[i]
      assert.equals(77, record_of(raw).plan_id)
      local now = counters_of(raw)
      if last then
        for cpu = 1, CPUS do
          assert.is_true(now[cpu] >= last[cpu])
        end
        assert.is_true(raw.number > i - 1)
      end
      assert.is_true(raw.frozen > 0)
      last = now
      -- Wait until the guest has counted on: the record must not have.
      wait_until(function()
        machine:freeze()
        local cells = tiny_guest.counters(machine, CPUS)
        machine:thaw()
        return cells[1] > last[1]
      end)
      assert.same(now, counters_of(machine:captures()[i]))
    end
  end)

  it("is as it was when the machine has ended, and its store is gone", function()
    local machine = counting "load=3"
    machine:set_plan(counters_plan())
    machine:capture "kept"
    local raw = machine:captures()[1]
    local counters = counters_of(raw)
    machine:kill()
    tiny_guest.finish(machine)
    assert.same(counters, counters_of(machine:captures()[1]))
    machine = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.same(counters, counters_of(raw))
  end)

  it("is the same for the guest and for a timer", function()
    local machine = asking(500)
    assert.same({ nil, "plan" }, { machine:recv(60) })
    find_memory(machine)
    machine:set_plan(one_counter())
    machine:test_hook("periodic", 0.0005)
    wait_until(function()
      local sources = {}
      for _, raw in ipairs(machine:captures()) do
        assert.is_not_nil(raw.record)
        sources[raw.source] = (sources[raw.source] or 0) + 1
      end
      return (sources.guest or 0) >= 3 and (sources.periodic or 0) >= 3
    end)
  end)

  it("can have another plan from one moment on, in the middle of all others' captures", function()
    local machine = counting "load=3"
    machine:set_plan(counters_plan(1))
    machine:test_hook("periodic", 0.0002)
    for id = 2, 60 do
      machine:set_plan(counters_plan(id))
    end
    wait_until(function()
      for _, raw in ipairs(machine:captures()) do
        if record_of(raw).plan_id == 60 then
          return true
        end
      end
    end)
    machine:test_hook("periodic", 0)
    wait_until(function()
      return (pcall(machine.freeze, machine))
    end)
    machine:set_plan(nil, "no plan any more") -- frozen or not
    machine:thaw()
    machine:capture "bare"
    local list = machine:captures()
    assert.same({ "bare", "no plan any more" }, { list[#list].tag, list[#list].reason })
    assert.is_nil(list[#list].record)
  end)

  it("of a hostile plan and hostile memory ends, and says what it met", function()
    local machine = counting "load=0"
    machine:set_plan(plan_of(function(root)
      local at = root:go({ kind = "AT", a = COUNTERS }, "counters")
      at:go({ kind = "LIST", a = 0, b = 0, limit = 1000 }, "a list of counters"):copy(0, 8)
      root:go({ kind = "AT", a = 0x7ffffffff000 }, "nowhere"):copy(0, 64)
      root:go({ kind = "AT", a = COUNTERS + 8 }, "counters")
        :go({ kind = "ARRAY", a = 0, b = 0, c = 2 ^ 40 }, "endless"):copy(0, 64)
    end))
    local limits = program.LIMITS
    machine:capture "hostile"
    local record = record_of(machine:captures()[1])
    local notes = ffi.string(record.notes.data)
    assert.is_truthy(notes:find("unmapped\t1\t0x7ffffffff000\tnowhere", 1, true), notes)
    assert.is_truthy(notes:find("full\t1\t", 1, true), notes)
    assert.is_true(tonumber(record.size) <= limits.max_bytes)
    machine:capture "again" -- and the machine goes on
  end)

  it("refuses a program that is none, and one for other CPUs", function()
    local machine = counting "load=0"
    refused("format", machine.set_plan, machine, "nonsense")
    refused("format", machine.set_plan, machine, counters_plan():sub(1, -2))
    refused("invalid", machine.set_plan, machine, plan_of(function() end, 3))
    machine:kill()
    tiny_guest.finish(machine)
    assert.is_false((pcall(machine.set_plan, machine, counters_plan())))
  end)
end)

describe("a guest's first capture", function()
  it("waits for main to say what is recorded, and has it", function()
    local machine = asking(2)
    assert.same({ nil, "plan" }, { machine:recv(60) })
    assert.same({}, machine:captures())
    find_memory(machine) -- main may freeze meanwhile, as always
    machine:set_plan(one_counter())
    local result = tiny_guest.finish(machine)
    assert.same({ "Shutdown", 0 }, { result.exit_reason, result.exit_code })
    local list = machine:captures()
    assert.equals(2, #list)
    for _, raw in ipairs(list) do
      assert.same({ "guest", "" }, { raw.source, raw.reason })
      assert.equals(8, tonumber(record_of(raw).size))
    end
  end)

  it("has registers and a reason where main knows of no plan", function()
    local machine = asking(1)
    assert.same({ nil, "plan" }, { machine:recv(60) })
    machine:set_plan(nil, "the kernel was built without types")
    tiny_guest.finish(machine)
    local raw = machine:captures()[1]
    assert.same({ "the kernel was built without types", 1 }, { raw.reason, #raw.cpus })
    assert.is_nil(raw.record)
  end)

  it("does not wait for ever", function()
    local machine = asking(1)
    wait_until(function()
      return #machine:captures() == 1
    end)
    assert.matches("the script was busy", machine:captures()[1].reason)
  end)

  it("waits for nobody where main does not say that it answers", function()
    local machine = tiny_guest.start("capture=1", finally)
    tiny_guest.finish(machine)
    assert.matches("nobody has said", machine:captures()[1].reason)
  end)
end)

describe("a capture that timed out", function()
  it("is a placeholder among the others", function()
    local machine = counting "load=3"
    machine:set_plan(counters_plan())
    machine:capture "good"
    machine:test_hook("rendezvous_timeout", 0.05)
    machine:test_hook("deaf", 1, 3)
    refused("timeout", machine.capture, machine, "missed")
    machine:test_hook("rendezvous_timeout", 30)
    local raw = machine:captures()[2]
    assert.same({ "missed", true, 0 }, { raw.tag, raw.missed, #raw.cpus })
    assert.is_nil(raw.record)
    assert.matches("vCPU", raw.reason)
    local placeholder = capture.new(raw)
    assert.equals(raw.reason, placeholder.reason)
    assert.is_nil(placeholder.record)
    refused("not-found", placeholder.cpu, placeholder, 0)
    machine:capture "good again"
    assert.is_not_nil(machine:captures()[3].record)
  end)
end)
