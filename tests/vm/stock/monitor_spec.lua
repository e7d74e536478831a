-- The monitor on a stock kernel: what it samples, against what runs there and what the kernel itself says.
local ktstr = require "ktstr"
local bpf_fixture = require "tests.vm.bpf_fixture"

local TIMEOUT_S = 1800
local CPUS = 2

local vm
local spinners = {}

setup(function()
  vm = ktstr.boot {
    topology = "1n1l2c1t",
    timeout = TIMEOUT_S,
    files = not bpf_fixture.missing() and bpf_fixture.files() or nil,
  }
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

after_each(function()
  for _, program in ipairs(spinners) do
    pcall(program.kill, program, "KILL")
    pcall(program.wait, program, 60)
  end
  spinners = {}
end)

local function spin(cpu, count)
  for _ = 1, count do
    spinners[#spinners + 1] = vm:spawn { "sh", "-c", "while :; do :; done", cpus = tostring(cpu) }
  end
end

-- Waits until f() is true; the guest runs meanwhile.
local function eventually(what, f)
  for _ = 1, 1200 do
    local value = f()
    if value then
      return value
    end
    vm:sleep(0.05)
  end
  error("not seen: " .. what, 2)
end

local function start(options)
  local m = vm:monitor(options)
  finally(function()
    m:stop()
  end)
  return m
end

local function last(series)
  return series[#series] and series[#series].value
end

local function has_scx()
  return vm.k:_types():find "struct scx_rq" ~= nil
end

local function first_number(text)
  return tonumber(text:match "%-?%d+")
end

describe("vm:monitor", function()
  it("sees spinning workers in nr_running of their CPU, and the clocks of both move", function()
    local m = start { interval = 0.05 }
    spin(1, 4)
    eventually("four runnable tasks on CPU 1", function()
      return (last(m:series("nr_running", 1)) or 0) >= 4
    end)
    local count = m:counts().taken
    eventually("twenty more samples", function()
      return m:counts().taken >= count + 20
    end)
    m:stop()
    local clocks = m:series("clock", 1)
    for i = 2, #clocks do
      assert.is_true(clocks[i].value >= clocks[i - 1].value)
    end
    assert.is_true(last(clocks) > clocks[1].value)
    assert.same({}, (m:stalls { sustained = 5 }))
    local samples = m:samples()
    assert.is_true(samples[#samples].machine.jiffies > samples[1].machine.jiffies)
    assert.is_true(samples[#samples].cpus[1].host_ran > samples[1].cpus[1].host_ran)
    assert.equals(0, m:counts().early)
    assert.equals(0, m:series("nr_running", 0).missing)
  end)

  it("has the numbers that the kernel itself shows", function()
    local m = start { interval = 0.02 }
    local k = vm.k
    local function bracketed(read, name, cpu)
      local low = read()
      local count = m:counts().taken
      eventually("a sample", function()
        return m:counts().taken > count + 1
      end)
      local seen = last(m:series(name, cpu))
      local high = read()
      assert.is_true(low <= seen and seen <= high, ("%s: %s <= %s <= %s"):format(name, low, seen, high))
    end
    bracketed(function()
      return k:per_cpu("runqueues", 0).nr_switches
    end, "nr_switches", 0)
    bracketed(function()
      return k:var "jiffies_64"
    end, "jiffies")
    bracketed(function()
      return k:per_cpu("runqueues", 1).rq_sched_info.pcount
    end, "pcount", 1)
    local domain = k:per_cpu("runqueues", 0).sd
    assert.equals(domain.level, last(m:series("level", 0, 0)))
    assert.equals(domain.flags, last(m:series("flags", 0)))
    assert.equals(CPUS, last(m:series("span_weight", 0, 0)))
  end)

  it("has a stopped tick of a CPU that sleeps, and none of one that spins", function()
    local m = start { interval = 0.02, fields = { "tick_stopped", "nr_running" } }
    eventually("an idle CPU without a tick", function()
      return last(m:series("tick_stopped", 0)) == 1
    end)
    spin(1, 1)
    eventually("a busy CPU with one", function()
      return last(m:series("nr_running", 1)) >= 1 and last(m:series("tick_stopped", 1)) == 0
    end)
  end)

  it("says nothing of schedstats while the kernel does not count them", function()
    local knob = "/proc/sys/kernel/sched_schedstats"
    local before = vm:read(knob)
    finally(function()
      vm:write(knob, before)
    end)
    vm:write(knob, "0")
    local m = start { interval = 0.02, fields = { "schedstat", "domains", "runqueue" } }
    local function take()
      local count = m:counts().taken
      eventually("samples", function()
        return m:counts().taken > count + 2
      end)
    end
    take()
    local ok, e = pcall(m.series, m, "ttwu_count", 0)
    assert.is_false(ok)
    assert.equals("unsupported", e.code)
    assert.matches("sched_schedstats is off", e.message, 1, true)
    assert.is_nil(m:samples()[1].cpus[0].ttwu_count)
    assert.is_nil(m:samples()[1].cpus[0].domains[0].lb_count_newidle)
    assert.is_number(m:samples()[1].cpus[0].domains[0].balance_interval)
    vm:write(knob, "1")
    take()
    eventually("a wake-up that was counted", function()
      return (last(m:series("ttwu_count", 0)) or 0) > 0
    end)
    local series = m:series("ttwu_count", 0)
    assert.is_true(series.missing > 0)
    assert.is_number(last(m:series("lb_count_newidle", 0, 0)))
    local shown = first_number(vm:read("/proc/schedstat"):match "cpu0 [^\n]+"
      and vm:read("/proc/schedstat"):match "cpu0 %d+ %d+ %d+ %d+ (%d+)")
    take()
    assert.is_true(last(m:series("ttwu_count", 0)) >= shown)
  end)

  it("has one's own fields", function()
    local m = start { interval = 0.02, fields = {
      { name = "weight", per_cpu = "runqueues", path = "curr.se.load.weight" },
      { name = "switches", per_cpu = "runqueues", path = "nr_switches", scope = "sum" },
      { name = "threads", var = "nr_threads", path = "" },
      { name = "first_pid", var = "init_task", path = "pid" },
    } }
    eventually("samples", function()
      return m:counts().taken > 3
    end)
    assert.is_true(last(m:series("weight", 0)) > 0)
    assert.is_true(last(m:series "switches") > last(m:series "threads"))
    assert.equals(0, last(m:series "first_pid"))
    local ok, e = pcall(vm.monitor, vm, { fields = { { name = "x", per_cpu = "runqueues", path = "cur" } } })
    assert.same({ false, "not-found" }, { ok, e.code })
    ok, e = pcall(vm.monitor, vm, { fields = { { name = "x", per_cpu = "runqueues", path = "cfs" } } })
    assert.same({ false, "unsupported" }, { ok, e.code })
    ok, e = pcall(vm.monitor, vm, { fields = { { name = "x", var = "runqueues", path = "clock" } } })
    assert.same({ false, "per-cpu" }, { ok, e.code })
    ok, e = pcall(vm.monitor, vm, { fields = { "nr_runing" } })
    assert.same({ false, "not-found", "did you mean 'nr_running'?" }, { ok, e.code, e.hint })
  end)

  it("has sched_ext's numbers where the kernel has sched_ext, and says so where not", function()
    local m = start { interval = 0.02 }
    eventually("samples", function()
      return m:counts().taken > 3
    end)
    if has_scx() then
      assert.equals(0, last(m:series("scx_nr_running", 1)))
      assert.equals(0, last(m:series("local_dsq", 0)))
      assert.is_number(last(m:series("scx_flags", 0)))
      -- No scheduler, so no counters: absent, and not 0.
      local events = m:series "SCX_EV_SELECT_CPU_FALLBACK"
      assert.equals(0, #events)
      assert.is_true(events.missing > 3)
    else
      local ok, e = pcall(m.series, m, "scx_nr_running", 0)
      assert.same({ false, "unsupported" }, { ok, e.code })
      assert.matches("this kernel has none", e.message, 1, true)
      ok, e = pcall(m.series, m, "SCX_EV_SELECT_CPU_FALLBACK")
      assert.same({ false, "unsupported" }, { ok, e.code })
      assert.is_nil(m:samples()[1].cpus[0].local_dsq)
    end
    local unread = {}
    for _, sample in ipairs(m:samples()) do
      assert.is_number(sample.cpus[0].nr_running)
      unread[#unread + 1] = sample.cpus[0].clock == nil or nil
    end
    assert.same({}, unread)
  end)

  -- What /sys says of the counters: sums over the CPUs.
  local function shown_events()
    local events = {}
    for name, value in vm:read("/sys/kernel/sched_ext/root/events"):gmatch "(SCX_EV_[%u_]+) (%d+)" do
      events[name] = tonumber(value)
    end
    return events
  end

  it("has the events and the queues of a scheduler that is loaded", function()
    local reason = bpf_fixture.no_scheduler(vm)
    if reason then
      pending(reason)
      return
    end
    local m = start { interval = 0.02 }
    local scheduler = bpf_fixture.start_scheduler(vm)
    finally(function()
      scheduler:stop()
    end)
    spin(1, 4)
    eventually("four of sched_ext's tasks on CPU 1", function()
      return (last(m:series("scx_nr_running", 1)) or 0) >= 4
    end)
    local low, count = shown_events(), m:counts().taken
    assert.is_not_nil(next(low))
    eventually("a sample", function()
      return m:counts().taken > count + 1
    end)
    local samples = m:samples()
    local high, seen = shown_events(), samples[#samples].events
    local nonzero = 0
    for name, value in pairs(low) do
      assert.is_true(value <= seen[name] and seen[name] <= high[name],
        ("%s: %s <= %s <= %s"):format(name, value, tostring(seen[name]), high[name]))
      nonzero = nonzero + (seen[name] > 0 and 1 or 0)
    end
    assert.is_true(nonzero > 0)
    -- It is gone with its scheduler.
    scheduler:stop()
    eventually("a sample without a scheduler", function()
      local list = m:samples()
      return next(list[#list].events) == nil
    end)
  end)

  it("goes on over a rewind", function()
    local m = start { interval = 0.02 }
    eventually("samples", function()
      return m:counts().taken > 3
    end)
    local checkpoint = vm:checkpoint()
    vm:sleep(0.2)
    vm:rewind(checkpoint)
    vm:thaw()
    local count = m:counts().taken
    eventually("samples after the rewind", function()
      return m:counts().taken > count + 5
    end)
    m:stop()
    local samples = m:samples()
    assert.are_not.equal(samples[1].epoch, samples[#samples].epoch)
    assert.is_number(samples[#samples].cpus[0].clock)
    assert.same({}, (m:stalls { sustained = 5 }))
  end)

  it("costs little", function()
    local m = start { interval = 0.01 }
    eventually("samples", function()
      return m:counts().taken > 20
    end)
    local spent = 0
    for _, sample in ipairs(m:samples()) do
      spent = math.max(spent, sample.spent)
    end
    assert.equals(m:counts().longest, spent)
    print(("# %s, longest sample %.3f ms"):format(tostring(m), spent * 1000))
  end)
end)
