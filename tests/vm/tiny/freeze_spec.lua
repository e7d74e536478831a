-- A frozen machine stands still, whatever its vCPUs were doing, and goes on where it stood.
local core = require "ktstr.core"
local process = require "ktstr.process"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"
local tiny_io = require "tests.vm.tiny_io"

local LOADS = {
  [0] = "counting in kernel mode",
  [1] = "counting in user mode",
  [2] = "halted, woken by a timer",
  [3] = "each at something else",
  [4] = "halted for good",
}

-- Which of the CPUs of a load count.
local function counts(load, cpu)
  if load == 3 then
    return cpu % 4 < 3
  end
  return load < 3
end

-- Everything twice, with more than enough time in between for a CPU that runs to do something.
local function assert_stands_still(machine, cpus)
  local before = tiny_guest.fingerprint(machine, cpus)
  assert.is_true(machine:is_frozen())
  assert.equals(before, tiny_guest.fingerprint(machine, cpus))
end

local function assert_moves(machine, cpus, before, moving)
  tiny_guest.wait_until(function()
    machine:freeze()
    local now = tiny_guest.counters(machine, cpus)
    machine:thaw()
    for cpu = 0, cpus - 1 do
      if moving(cpu) then
        assert.is_true(now[cpu + 1] >= before[cpu + 1])
        if now[cpu + 1] == before[cpu + 1] then
          return false
        end
      else
        assert.equals(before[cpu + 1], now[cpu + 1])
      end
    end
    return true
  end)
end

local function freeze_and_thaw(machine, cpus, moving, times)
  for _ = 1, times do
    machine:freeze()
    local before = tiny_guest.counters(machine, cpus)
    assert_stands_still(machine, cpus)
    assert.same(before, tiny_guest.counters(machine, cpus))
    machine:thaw()
    assert.is_false(machine:is_frozen())
    assert_moves(machine, cpus, before, moving)
  end
end

for _, cpus in ipairs { 1, 2, 4, 8, 32 } do
  local slow = cpus == 32 and " #slow" or ""

  describe(("a machine with %d vCPUs"):format(cpus), function()
    for load = 0, 4 do
      it(("stands still while frozen: %s%s"):format(LOADS[load], slow), function()
        local machine = tiny_guest.start("load=" .. load, finally, { cpus = cpus })
        freeze_and_thaw(machine, cpus, function(cpu)
          return counts(load, cpu)
        end, 3)
      end)
    end

    it("parks vCPUs that were never started" .. slow, function()
      local machine = tiny_guest.start("unstarted", finally, { cpus = cpus })
      freeze_and_thaw(machine, cpus, function(cpu)
        return cpu == 0
      end, 3)
    end)

    it("is frozen a hundred times in a row" .. slow, function()
      local machine = tiny_guest.start("load=3", finally, { cpus = cpus })
      for _ = 1, 100 do
        machine:freeze()
        assert.is_true(tiny_guest.registers(machine, cpus - 1).rip > 0)
        machine:thaw()
      end
      -- A freeze is counted when it is over; thaw() returns a little earlier.
      tiny_guest.wait_until(function()
        return machine:freeze_counts().main.done == 100
      end)
      assert.same({ done = 100, busy = 0, timeout = 0, failed = 0 }, machine:freeze_counts().main)
    end)
  end)
end

describe("a machine", function()
  it("can be frozen before its guest has done anything", function()
    local frozen = 0
    for _ = 1, 20 do
      local machine = support.tiny_machine("exit=7", { topology = "1n1l4c1t" })
      machine:start()
      -- It does not live long.
      if pcall(machine.freeze, machine) then
        assert_stands_still(machine, 4)
        machine:thaw()
        frozen = frozen + 1
      end
      local result = tiny_guest.finish(machine)
      assert.same({ "Shutdown", 7 }, { result.exit_reason, result.exit_code })
    end
    assert.is_true(frozen > 0)
  end)

  it("can be frozen all the time while it starts its CPUs", function()
    local machine = support.tiny_machine("cpus", { topology = tiny_guest.topologies[8], timeout = 60 })
    machine:start()
    local freezes = 0
    while pcall(machine.freeze, machine) do
      freezes = freezes + 1
      pcall(machine.thaw, machine)
    end
    assert.is_true(freezes > 0)
    local result = tiny_guest.finish(machine)
    assert.same({ "Shutdown", 0 }, { result.exit_reason, result.exit_code })
    assert.matches("cpus 8 of 8", result.output, 1, true)
  end)

  it("parks in the middle of a copy that one instruction makes to a device", function()
    local machine = tiny_guest.start("copy", finally)
    local under_way = 0
    for _ = 1, 50 do
      machine:freeze()
      local registers = tiny_guest.registers(machine, 0)
      if registers.rcx > 0 then
        under_way = under_way + 1
      end
      assert.equals(registers.rip, tiny_guest.registers(machine, 0).rip)
      machine:thaw()
    end
    assert.is_true(under_way > 0)
    freeze_and_thaw(machine, 1, function()
      return true
    end, 1)
  end)

  it("that floods its channel is frozen, and not a frame is lost or torn", function()
    local machine = tiny_guest.start("flood", finally)
    for _ = 1, 50 do
      machine:freeze()
      assert_stands_still(machine, 1)
      machine:thaw()
      assert.equals(core.wire.MSG_STDOUT, (machine:recv(30)))
    end
    machine:kill()
    local result = tiny_guest.finish(machine)
    local channel = result.channel
    assert.same({ 0, 0, 0, 0 },
      { channel.bad_headers, channel.bad_payloads, channel.unknown, channel.skipped_bytes })
  end)

  it("is sent frames while it is frozen, and answers when it is thawed", function()
    local machine = tiny_guest.start("echo", finally)
    machine:freeze()
    for id = 1, 10 do
      machine:send(core.wire.MSG_OP_REQUEST, core.wire.op_request(id, core.wire.OP_PING, ""))
    end
    local before = machine:memory_crc()
    assert.same({ nil, "timeout" }, { machine:recv(0.2) })
    assert.equals(before, machine:memory_crc())
    machine:thaw()
    for id = 1, 10 do
      local kind, payload = machine:recv(30)
      assert.equals(core.wire.MSG_OP_REPLY, kind)
      assert.equals(id, core.wire.decode(kind, payload).id)
    end
  end)
end)

describe("a vCPU that a freeze waits for", function()
  -- Of the thread of that name in this process.
  local function niceness(name)
    for _, entry in ipairs(require("posix.dirent").dir "/proc/self/task") do
      local stat = io.open(("/proc/self/task/%s/stat"):format(entry))
      local text = stat and stat:read "*a" or ""
      if stat then
        stat:close()
      end
      if text:match "%((.*)%)" == name then
        return tonumber(text:match("%) " .. ("%S+ "):rep(16) .. "(%-?%d+)"))
      end
    end
  end

  it("is the first to have a processor until it has parked, where the user may say so", function()
    local machine = tiny_guest.start("load=1", finally, { cpus = 2 })
    local own = niceness "vcpu1"
    assert.is_number(own)
    machine:test_hook("rendezvous_timeout", 0.05)
    machine:test_hook("deaf", 1, 3600)
    local may = process.run({ "nice", "-n", "-20", "true" }).stderr == "" -- it says so where it may not
    local first = may and -20 or own
    -- It is deaf in its park, where the first attempt may just have brought it, with its own priority back.
    tiny_guest.wait_until(function()
      tiny_guest.refused("timeout", machine.freeze, machine)
      return niceness "vcpu1" == first
    end)
    machine:test_hook("deaf", 1, 0)
    machine:test_hook("rendezvous_timeout", 30)
    for _ = 1, 3 do
      machine:freeze()
      machine:thaw()
      tiny_guest.wait_until(function()
        return niceness "vcpu0" == own and niceness "vcpu1" == own
      end)
    end
  end)
end)

describe("two machines", function()
  it("are frozen at the same time, each by itself", function()
    local one = tiny_guest.start("load=0", finally, { cpus = 2 })
    local other = tiny_guest.start("load=1", finally, { cpus = 2 })
    one:freeze()
    assert.is_false(other:is_frozen())
    other:freeze()
    assert_stands_still(one, 2)
    assert_stands_still(other, 2)
    one:thaw()
    assert.is_true(other:is_frozen())
    assert_stands_still(other, 2)
    one:freeze()
    other:thaw()
    assert_stands_still(one, 2)
    one:thaw()
  end)

  it("are frozen one within the other", function()
    local one = tiny_guest.start("load=0", finally)
    local other = tiny_guest.start("load=1", finally)
    local value = one:frozen(nil, function()
      return other:frozen(nil, function()
        assert.is_true(one:is_frozen() and other:is_frozen())
        return "both"
      end)
    end)
    assert.equals("both", value)
    assert.is_false(one:is_frozen() or other:is_frozen())
  end)
end)

describe("the loop of accesses to devices", function()
  local FREEZES = 200

  local function freeze_many(times)
    local machine = tiny_guest.start("io", finally, { timeout = 3000 })
    local watcher = tiny_io.watch(machine)
    local seen, places = 0, {}
    while seen < times do
      machine:freeze()
      local index = watcher:check()
      if index then
        seen = seen + 1
        places[index] = true
      end
      machine:thaw()
      machine:recv(0.0002) -- frozen again at once it need not have got any further
    end
    return places
  end

  local function number_of(t)
    local n = 0
    for _ in pairs(t) do
      n = n + 1
    end
    return n
  end

  it(("is found at an instruction, everything exact, in %d freezes"):format(FREEZES), function()
    assert.is_true(number_of(freeze_many(FREEZES)) > 5)
  end)

  it("is found at an instruction, everything exact, in 10000 freezes #slow", function()
    assert.is_true(number_of(freeze_many(10000)) > 10)
  end)
end)
