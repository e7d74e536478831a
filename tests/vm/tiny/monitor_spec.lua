-- The monitor over a machine's life, on a guest that counts in its memory: running, frozen, rewound, killed.
local ffi = require "ffi"
local core = require "ktstr.core"
local kernel_view = require "tests.vm.kernel_view"
local monitor = require "ktstr.kernel.monitor"
local monitor_program = require "ktstr.kernel.monitor_program"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"

local COUNTERS, STRIDE = tiny_guest.address.counters, 64
local RUNNABLE = 0x38000 -- memory that the guest leaves alone: how many tasks each CPU has, says the test
local CR3_OFFSET = 240 -- in struct kvm_sregs
local FAST_S = 0.001
local DEAD = 4 -- what the CPUs do: halt, and nothing wakes them

local refused, wait_until = tiny_guest.refused, tiny_guest.wait_until

-- A machine at work, with a view of its memory; its tables lie where the view would not look.
local function counting(cpus, scenario)
  local machine = tiny_guest.start(scenario or "load=0", finally, { cpus = cpus })
  local view = kernel_view.of(machine)
  local sregs = machine:frozen(nil, function()
    return select(2, machine:regs(0))
  end)
  local word = ffi.new "uint64_t[1]"
  ffi.copy(word, sregs:sub(CR3_OFFSET + 1, CR3_OFFSET + 8), 8)
  view.v.root = word[0]
  return machine, view
end

local function at(size)
  return { steps = {}, offset = 0, size = size }
end

-- What vm:monitor compiles for a kernel, for these cells: clock is the CPU's counter, or what `clocks` says.
local function build(cpus, clocks)
  local b = { program = monitor_program.new(cpus), fields = {}, by_name = {}, absent = {}, cpus = {} }
  local function add(name, address_of)
    local field = { name = name, scope = "cpu", index = {} }
    for cpu = 0, cpus - 1 do
      field.index[cpu] = { [0] = b.program:add(address_of(cpu), at(8), { cpu }) }
    end
    b.fields[#b.fields + 1], b.by_name[name] = field, field
  end
  for cpu = 0, cpus - 1 do
    b.cpus[cpu + 1] = cpu
  end
  add("clock", function(cpu)
    return clocks and clocks[cpu] or COUNTERS + cpu * STRIDE
  end)
  add("nr_running", function(cpu)
    return RUNNABLE + cpu * STRIDE
  end)
  return b
end

local function start(machine, cpus, options)
  options = options or {}
  return monitor.attach(machine, build(cpus, options.clocks), { interval = options.interval or FAST_S,
    keep = options.keep or 10000 })
end

-- Waits until that many more samples have been taken.
local function take(m, count)
  local goal = m:counts().taken + count
  wait_until(function()
    return m:counts().taken >= goal
  end)
end

local function values(m, name, cpu)
  local list = {}
  for i, point in ipairs(m:series(name, cpu)) do
    list[i] = point.value
  end
  return list
end

local function assert_rising(list)
  for i = 2, #list do
    assert.is_true(list[i] >= list[i - 1])
  end
  assert.is_true(list[#list] > list[1])
end

describe("a monitor", function()
  it("samples every CPU's counters while the guest runs", function()
    local machine = counting(4)
    local m = start(machine, 4)
    take(m, 50)
    m:stop()
    for cpu = 0, 3 do
      assert_rising(values(m, "clock", cpu))
      assert.equals(0, m:series("clock", cpu).missing)
    end
    local samples = m:samples()
    for i, sample in ipairs(samples) do
      assert.equals(i - 1, sample.number)
      assert.equals(samples[1].epoch, sample.epoch)
      assert.is_true(sample.spent >= 0)
      for cpu = 0, 3 do
        assert.equals(m:series("clock", cpu)[i].value, sample.cpus[cpu].clock)
      end
      if i > 1 then
        assert.is_true(sample.time > samples[i - 1].time)
        assert.is_true(sample.elapsed > samples[i - 1].elapsed)
      end
    end
    local first, last = samples[1].cpus[0], samples[#samples].cpus[0]
    assert.is_true(last.host_ran > first.host_ran)
    local counts = m:counts()
    machine:frozen(nil, function() end)
    assert.equals(counts.taken, m:counts().taken)
    assert.equals(#samples, counts.taken)
    assert.same({ 0, 0 }, { counts.dropped, counts.early })
  end)

  it("sees what a program writes into the guest, and says nothing of what is not there", function()
    local machine, view = counting(1)
    local m = start(machine, 1, { clocks = { [0] = 2 ^ 40 } })
    view:set_word(RUNNABLE, 8, 77)
    wait_until(function()
      local seen = values(m, "nr_running", 0)
      return seen[#seen] == 77
    end)
    take(m, 1)
    m:stop()
    local series = m:series("clock", 0)
    assert.equals(0, #series)
    assert.equals(#m:samples(), series.missing)
    assert.is_nil(m:samples()[1].cpus[0].clock)
  end)

  it("keeps the newest samples, and counts those that it has dropped", function()
    local machine = counting(1)
    local m = start(machine, 1, { keep = 5 })
    take(m, 20)
    m:stop()
    local samples, counts = m:samples(), m:counts()
    assert.equals(5, #samples)
    assert.equals(counts.taken - 5, counts.dropped)
    assert.equals(counts.taken - 1, samples[5].number)
    assert.equals(counts.taken - 5, samples[1].number)
  end)

  it("keeps no more than that when it is read all the time, either", function()
    local machine = counting(1)
    local m = start(machine, 1, { keep = 5 })
    for _ = 1, 5 do
      take(m, 3)
      assert.is_true(#m:samples() <= 5)
    end
    m:stop()
    assert.equals(m:counts().taken - 1, m:samples()[5].number)
  end)

  it("is one of several, each at a pace of its own", function()
    local machine = counting(1)
    local slow, fast = start(machine, 1, { interval = 3600 }), start(machine, 1)
    take(fast, 10)
    assert.equals(1, slow:counts().taken)
    fast:stop()
    fast:stop()
    slow:stop()
    local taken = fast:counts().taken
    local third = start(machine, 1)
    take(third, 5)
    assert.equals(taken, fast:counts().taken)
  end)

  it("refuses what makes no sense", function()
    local machine = counting(1)
    refused("invalid", start, machine, 2)
    refused("invalid", start, machine, 1, { interval = 0 })
    refused("invalid", start, machine, 1, { keep = 2 ^ 31 })
    assert.has_error(function()
      machine:monitor("", "", "", 1, 1)
    end)
    assert.has_error(function()
      machine:monitor(("\0"):rep(24), "x", "", 1, 1)
    end)
    refused("not-found", function()
      start(machine, 1):series("clocks", 0)
    end)
    local m = start(machine, 1)
    assert.equals("did you mean 'clock'?", refused("not-found", m.series, m, "clocks", 0).hint)
    refused("invalid", m.series, m, "clock", 1)
    refused("unsupported", m.series, m, "SCX_EV_NEW")
  end)

  it("is let go by the coordinator once it is collected", function()
    local machine = counting(1)
    local function descriptors()
      local count = 0
      for line in io.popen("ls -l /proc/" .. require("posix.unistd").getpid() .. "/fd"):lines() do
        count = count + (line:match "/task/%d+/stat$" and 1 or 0)
      end
      return count
    end
    local m = start(machine, 1)
    take(m, 2)
    assert.equals(1, descriptors())
    m = nil -- luacheck: ignore
    wait_until(function()
      collectgarbage()
      return descriptors() == 0
    end)
  end)
end)

describe("a monitor of a frozen machine", function()
  it("takes no sample, and goes on after the thaw", function()
    local machine = counting(2)
    local m = start(machine, 2)
    take(m, 5)
    for _ = 1, 3 do
      machine:freeze()
      local before = m:counts()
      wait_until(function()
        return m:counts().frozen >= before.frozen + 10
      end)
      assert.equals(before.taken, m:counts().taken)
      machine:thaw()
      take(m, 5)
    end
    m:stop()
    -- Time does not pass in a freeze, not for the samples either.
    local samples = m:samples()
    local host = samples[#samples].time - samples[1].time
    assert.is_true(samples[#samples].elapsed - samples[1].elapsed <= host - 0.02)
    assert_rising(values(m, "clock", 1))
  end)

  it("can be started and stopped meanwhile", function()
    local machine = counting(1)
    machine:freeze()
    local m = start(machine, 1)
    wait_until(function()
      return m:counts().frozen > 0
    end)
    assert.equals(0, m:counts().taken)
    local other = start(machine, 1)
    other:stop()
    machine:thaw()
    take(m, 3)
    assert.equals(0, other:counts().taken)
  end)

  it("goes on in another epoch after the machine was taken back", function()
    local machine = counting(2)
    local m = start(machine, 2)
    take(m, 5)
    machine:freeze()
    local image = machine:save("", "")
    local counters = tiny_guest.counters(machine, 2)
    machine:thaw()
    take(m, 20)
    machine:freeze()
    local late = tiny_guest.counters(machine, 2)
    assert.is_true(late[1] > counters[1])
    machine:rewind(image)
    machine:thaw()
    take(m, 20)
    m:stop()
    local samples = m:samples()
    local epochs, before = { [samples[1].epoch] = true }, nil
    for i, sample in ipairs(samples) do
      if i > 1 and sample.epoch ~= samples[i - 1].epoch then
        epochs[sample.epoch] = true
        before = samples[i - 1]
        assert.is_true(sample.cpus[0].clock >= counters[1])
      end
    end
    assert.is_not_nil(before)
    local count = 0
    for _ in pairs(epochs) do
      count = count + 1
    end
    assert.equals(2, count)
    assert.is_true(samples[#samples].cpus[0].clock > counters[1])
    image:close()
  end)
end)

describe("a monitor of a machine that ends", function()
  it("keeps its samples", function()
    local machine = counting(2)
    local m = start(machine, 2)
    take(m, 10)
    machine:kill()
    machine:join()
    local samples = m:samples()
    assert.is_true(#samples >= 10)
    assert.equals(#samples, m:counts().taken)
    assert_rising(values(m, "clock", 0))
    m:stop()
    assert.equals(#samples, #m:samples())
    refused("ended", start, machine, 2)
  end)

  it("does not keep it from ending, wherever that comes", function()
    for round = 1, 10 do
      local machine = counting(2)
      local m = start(machine, 2)
      take(m, round)
      machine:kill()
      if round % 2 == 0 then
        m:stop()
      end
      assert.equals("ExternalKill", machine:join().exit_reason)
      assert.is_true(#m:samples() >= round)
    end
  end)

  it("is one of a machine that is not there yet, or not any more: refused", function()
    local machine = support.tiny_machine "load=0"
    finally(function()
      machine:kill()
    end)
    refused("invalid", start, machine, 1)
    machine:start()
    assert.equals(core.wire.MSG_SYS_RDY, (machine:recv(60)))
    local m = start(machine, 1)
    take(m, 1)
    machine:kill()
    machine:join()
    refused("ended", start, machine, 1)
  end)
end)

describe("a CPU with work whose clock stands still", function()
  local STANDING = 0x38800 -- a word that nobody changes
  local SUSTAINED_S = 0.2

  local function wait_for_stall(m, cpu)
    local found
    wait_until(function()
      for _, stall in ipairs((m:stalls { sustained = SUSTAINED_S })) do
        found = stall.cpu == cpu and stall or found
      end
      return found
    end)
    return found
  end

  it("stalls while it spins, and the others do not", function()
    local machine, view = counting(2)
    for cpu = 0, 1 do
      view:set_word(RUNNABLE + cpu * STRIDE, 8, 1)
    end
    local m = start(machine, 2, { clocks = { [1] = STANDING }, interval = 0.01 })
    local stall = wait_for_stall(m, 1)
    assert.is_nil(stall.halted)
    assert.equals(1, stall.nr_running)
    assert.is_true(stall.seconds >= SUSTAINED_S)
    for _, one in ipairs((m:stalls { sustained = SUSTAINED_S })) do
      assert.equals(1, one.cpu)
    end
    -- Nothing to run: it is idle, whatever its clock says.
    m:stop()
    view:set_word(RUNNABLE + STRIDE, 8, 0)
    local idle = start(machine, 2, { clocks = { [1] = STANDING }, interval = 0.01 })
    take(idle, 40)
    assert.same({}, (idle:stalls { sustained = SUSTAINED_S }))
  end)

  it("stalls when it has halted for good", function()
    local machine, view = counting(4, "load=" .. DEAD)
    view:set_word(RUNNABLE + 3 * STRIDE, 8, 2)
    local m = start(machine, 4, { interval = 0.01 })
    take(m, 2)
    if not m:samples()[1].cpus[3].host_state then
      pending "this host does not tell whether a thread sleeps"
      return
    end
    local stall = wait_for_stall(m, 3)
    assert.is_true(stall.halted)
    assert.equals(2, stall.nr_running)
  end)
end)
