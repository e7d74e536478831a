-- Kernel operations on a stock kernel: from Lua and from the guest, against what /proc says.
local ktstr = require "ktstr"
local tiny_guest = require "tests.vm.tiny_guest"

local TIMEOUT_S = 1800
local PATIENCE_S = 300

local refused = tiny_guest.refused

local vm

setup(function()
  vm = ktstr.boot { topology = "1n1l2c1t", timeout = TIMEOUT_S }
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

-- The lines that ktstr-kernel prints; raises when it fails.
local function guest(...)
  local r = vm:exec { "ktstr-kernel", "--retry", "60", timeout = PATIENCE_S, ... }
  assert(r.status == 0, r.stderr)
  local lines = {}
  for line in r.stdout:gmatch "[^\n]+" do
    lines[#lines + 1] = line
  end
  return lines
end

local function sysctl(name)
  return (vm:read("/proc/sys/kernel/" .. name):gsub("\n", ""))
end

local function cold_freezes()
  return vm.machine:freeze_counts()["kernel-op"].done
end

-- A program of the guest's that sleeps, killed with the test.
local function sleeper(options)
  options = options or {}
  options[1], options[2] = "sleep", "100000"
  local program = vm:spawn(options)
  finally(function()
    pcall(program.kill, program, "KILL")
    program:wait(60)
  end)
  return program
end

for _, cold in ipairs { false, true } do
  local how = cold and "cold" or "hot"
  local option = cold and "--cold" or "--retry=60"

  describe("a sysctl's variable, " .. how, function()
    it("is read and written from Lua", function()
      for _, value in ipairs { 17, -3, 0 } do
        local before = cold_freezes()
        local values = vm:kernel_ops { cold = cold,
          { op = "write", symbol = "panic_timeout", value = value },
          { op = "read", symbol = "panic_timeout" },
          { op = "read", symbol = "panic_timeout", type = "bytes" },
        }
        assert.same({ true, value }, { values[1], values[2] })
        assert.equals(4, #values[3])
        assert.equals(tostring(value), sysctl "panic")
        assert.equals(cold and 1 or 0, cold_freezes() - before)
      end
      vm:write("/proc/sys/kernel/panic", "42\n")
      assert.same({ 42 }, vm:kernel_ops { cold = cold, { op = "read", symbol = "panic_timeout" } })
    end)

    it("is read and written from the guest", function()
      for _, value in ipairs { "33", "-1", "0" } do
        local before = cold_freezes()
        assert.same({ "written", value }, guest(option, "write", "panic_timeout", value, "read",
          "panic_timeout:s32"))
        assert.equals(value, sysctl "panic")
        assert.equals(cold and 1 or 0, cold_freezes() - before)
      end
      vm:write("/proc/sys/kernel/panic", "7\n")
      assert.same({ "7", "07000000" }, guest(option, "read", "panic_timeout", "read", "panic_timeout:bytes"))
      vm:write("/proc/sys/kernel/panic", "0\n")
    end)

    it("gets bits set, which leaves the others", function()
      finally(function()
        vm:write("/proc/sys/kernel/panic_on_oops", "0\n")
      end)
      vm:write("/proc/sys/kernel/panic_on_oops", "1\n")
      local from_lua = { cold = cold, { op = "or", symbol = "panic_on_oops", value = 6 } }
      assert.same({ 1 }, vm:kernel_ops(from_lua))
      assert.equals("7", sysctl "panic_on_oops")
      assert.same({ "7", "1073741831" }, guest(option, "or", "panic_on_oops", "0x40000000", "read",
        "panic_on_oops:u32"))
      assert.equals(tostring(2 ^ 30 + 7), ("%d"):format(tonumber(sysctl "panic_on_oops")))
    end)

    it("stays written when the entry behind it fails, and the one behind that is not begun", function()
      vm:write("/proc/sys/kernel/panic", "1\n")
      vm:write("/proc/sys/kernel/panic_on_oops", "0\n")
      local e = refused("unmapped", vm.kernel_ops, vm, { cold = cold,
        { op = "write", symbol = "panic_timeout", value = 2 },
        { op = "write", address = 0xffffc90000000000ULL - 4096, type = "u32", value = 1 },
        { op = "write", symbol = "panic_on_oops", type = "s32", value = 1 },
      })
      assert.same({ 2, { true } }, { e.index, e.values })
      assert.same({ "2", "0" }, { sysctl "panic", sysctl "panic_on_oops" })
      local r = vm:exec { "ktstr-kernel", option, "write", "panic_timeout", "3", "read", "no_such_symbol",
        "write", "panic_on_oops:s32", "1", timeout = PATIENCE_S }
      assert.same({ 1, "written\n" }, { r.status, r.stdout })
      assert.matches("failed: entry 2, no_such_symbol: the kernel has no symbol", r.stderr, 1, true)
      assert.same({ "3", "0" }, { sysctl "panic", sysctl "panic_on_oops" })
      vm:write("/proc/sys/kernel/panic", "0\n")
    end)
  end)

  describe("a per-CPU field, " .. how, function()
    it("is the CPU's own", function()
      -- What a CPU has switched so far only grows, and faster while something runs there.
      local function switches(cpu)
        return vm:kernel_ops({ cold = cold,
          { op = "read", symbol = "runqueues", cpu = cpu, field = "nr_switches" } })[1]
      end
      for cpu = 0, 1 do
        local first = switches(cpu)
        local from_guest = tonumber(guest(option, "read", ("runqueues@%d.nr_switches"):format(cpu))[1])
        local last = switches(cpu)
        assert.is_true(first <= from_guest and from_guest <= last)
        assert.equals(cpu, vm:kernel_ops({ cold = cold,
          { op = "read", symbol = "runqueues", cpu = cpu, field = "cpu" } })[1])
      end
    end)

    it("is written on one CPU", function()
      local function yields()
        local counts = {}
        for cpu, count in vm:read("/proc/schedstat"):gmatch "\ncpu(%d+) (%d+)" do
          counts[tonumber(cpu)] = tonumber(count)
        end
        return counts
      end
      local other = yields()[0]
      vm:kernel_ops { cold = cold,
        { op = "write", symbol = "runqueues", cpu = 1, field = "yld_count", value = 4321 } }
      assert.same({ [0] = other, [1] = 4321 }, yields())
      guest(option, "write", "runqueues@1.yld_count", "0")
      assert.same({ [0] = other, [1] = 0 }, yields())
    end)
  end)

  describe("a task's field, " .. how, function()
    it("is that of the task with the pid", function()
      local program = sleeper()
      local pid = program.pid
      local values = vm:kernel_ops { cold = cold,
        { op = "read", task = pid, field = "pid" },
        { op = "read", task = pid, field = "comm" },
        { op = "read", task = pid, field = "static_prio" },
        { op = "read", task = pid, field = "real_parent.pid" },
        { op = "read", task = 1, field = "pid" },
      }
      assert.same({ pid, 120, 1, 1 }, { values[1], values[3], values[4], values[5] })
      assert.equals("sleep", (values[2]:gsub("%z.*", "")))
      local task = "task:" .. pid
      assert.same({ tostring(pid), "736c656570", "120" }, guest(option, "read", task .. ".pid",
        "read", task .. ".comm:bytes5", "read", task .. ".static_prio"))
      -- Eight bytes that are aligned can be written at any time.
      vm:kernel_ops { cold = cold,
        { op = "write", task = pid, field = "comm", type = "bytes", value = "renamed\0" } }
      assert.equals("renamed\n", vm:read(("/proc/%d/comm"):format(pid)))
      guest(option, "write", task .. ".comm:bytes", "6f6c64206f6e6500")
      assert.equals("old one\n", vm:read(("/proc/%d/comm"):format(pid)))
    end)

    it("of all tasks is what the kernel's list of them says", function()
      local list, expected = { cold = cold }, {}
      for task in vm.k:tasks() do
        if task.pid > 0 then
          list[#list + 1] = { op = "read", task = task.pid, field = "tgid" }
          expected[#expected + 1] = task.tgid
        end
      end
      assert.is_true(#list > 20)
      local ok, values = pcall(vm.kernel_ops, vm, list)
      -- A kernel thread may have ended meanwhile; all others were found.
      values = ok and values or values.values
      assert.is_true(#values > 20)
      for i, value in ipairs(values) do
        assert.equals(expected[i], value)
      end
    end)

    it("of nobody is an error", function()
      local e = refused("not-found", vm.kernel_ops, vm, { cold = cold,
        { op = "read", task = 4000000, field = "pid" } })
      assert.equals(1, e.index)
      local r = vm:exec { "ktstr-kernel", option, "read", "task:4000000.pid", timeout = PATIENCE_S }
      assert.same({ 1, "ktstr-kernel: failed: entry 1, task 4000000.pid: there is no task 4000000\n" },
        { r.status, r.stderr })
    end)
  end)
end

describe("a field that kernels call differently", function()
  local QUEUED = "cfs.h_nr_queued|cfs.h_nr_running"

  it("is the one that this kernel has, from Lua and from the guest", function()
    vm:frozen(function(k)
      for cpu = 0, 1 do
        local rq = k:per_cpu("runqueues", cpu)
        local name = rq.cfs:has_ "h_nr_queued" and "h_nr_queued" or "h_nr_running"
        assert.same({ rq.cfs[name], rq.cfs[name] }, vm:kernel_ops {
          { op = "read", symbol = "runqueues", cpu = cpu, field = QUEUED },
          { op = "read", symbol = "runqueues", cpu = cpu, field = "none|cfs.none|" .. QUEUED },
        })
      end
    end)
    assert.matches("^%d+$", guest("--cold", "read", "runqueues@1." .. QUEUED)[1])
    local r = vm:exec { "ktstr-kernel", "read", "runqueues@1.none|cfs.none", timeout = PATIENCE_S }
    assert.equals(1, r.status)
    assert.matches("the kernel has none of none, cfs.none", r.stderr, 1, true)
  end)
end)

describe("a bit-field", function()
  local FIELD = "sched_reset_on_fork"

  local function bits_of(k, pid)
    local task = k:task(pid)
    return { task.sched_reset_on_fork, task.sched_contributes_to_load, task.sched_migrated, task.in_iowait }
  end

  it("of a task is read at any time, and written while nothing runs", function()
    local pid = sleeper().pid
    local before = vm:frozen(function(k)
      return bits_of(k, pid)
    end)
    assert.equals(0, before[1])
    assert.same({ 0 }, vm:kernel_ops { { op = "read", task = pid, field = FIELD } })
    local write = { op = "write", task = pid, field = FIELD, value = 1 }
    local e = refused("running", vm.kernel_ops, vm, { write })
    assert.matches("the 1 bits at 0x%x+ share a word with others", e.message)
    vm:kernel_ops { cold = true, write }
    local after = vm:frozen(function(k)
      return bits_of(k, pid)
    end)
    assert.same({ 1, before[2], before[3], before[4] }, after)
    local task = ("task:%d.%s"):format(pid, FIELD)
    assert.same({ "1", "written", "0" }, guest("--cold", "read", task, "write", task, "0", "read", task))
    -- Bits are set by one instruction, which loses nothing of what the guest does to the others.
    assert.same({ "0", "1" }, guest("or", task, "1", "read", task))
    assert.same({ 1, before[2], before[3], before[4] }, vm:frozen(function(k)
      return bits_of(k, pid)
    end))
    local r = vm:exec { "ktstr-kernel", "write", task, "0", timeout = PATIENCE_S }
    assert.equals(1, r.status)
    assert.matches("share a word with others", r.stderr)
    r = vm:exec { "ktstr-kernel", "--cold", "write", task, "2", timeout = PATIENCE_S }
    assert.matches("2 does not fit into 1 bits", r.stderr, 1, true)
  end)
end)

describe("all bit-fields of a struct", function()
  it("are what vm.k reads", function()
    local compared = 0
    vm:frozen(function(k)
      local task = k:task(1)
      for _, where in ipairs { { "struct task_struct", { task = 1 }, task },
        { "struct signal_struct", { address = task.signal }, task.signal } } do
        local type = k.types[where[1]]
        for _, name in ipairs(type:member_names()) do
          if type:member(name).bits > 0 then
            local expected = where[3][name]
            local entry = { op = "read", task = where[2].task, address = where[2].address, field = name }
            expected = expected == true and 1 or expected == false and 0 or expected
            assert.equals(expected, vm:kernel_ops({ entry })[1], name)
            compared = compared + 1
          end
        end
      end
    end)
    assert.is_true(compared >= 10)
  end)
end)

describe("a per-CPU pointer on a task's path", function()
  it("leads to the CPU's own", function()
    local counters = "nsproxy.net_ns.mib.ip_statistics.mibs[1]"
    vm:frozen(function(k)
      local statistics = k:task(1).nsproxy.net_ns.mib.ip_statistics
      for cpu = 0, 1 do
        assert.same({ k:per_cpu(statistics, cpu).mibs[1] }, vm:kernel_ops {
          { op = "read", task = 1, cpu = cpu, field = counters } })
        vm:kernel_ops { { op = "write", task = 1, cpu = cpu, field = counters, value = 1000 + cpu } }
        assert.equals(1000 + cpu, k:per_cpu(statistics, cpu).mibs[1])
      end
    end)
    for cpu = 0, 1 do
      local read = tonumber(guest("--cold", "read", ("task:1@%d.none|%s"):format(cpu, counters))[1])
      assert.is_true(read >= 1000 + cpu and read < 1e6)
    end
    refused("invalid", vm.kernel_ops, vm, { { op = "read", task = 1, cpu = 2, field = counters } })
    refused("per-cpu", vm.kernel_ops, vm, { { op = "read", task = 1, field = counters } })
    refused("invalid", vm.kernel_ops, vm, { { op = "read", task = 1, cpu = 0, field = "pid" } })
  end)
end)

describe("the guest's requests", function()
  it("say how they are made", function()
    local r = vm:exec { "ktstr-kernel", "--help" }
    assert.equals(0, r.status)
    assert.matches("^usage: ktstr%-kernel", r.stdout)
  end)

  it("have 1024 entries at most", function()
    local function read(count)
      return vm:exec { "sh", "-c", ("exec ktstr-kernel --retry 60 %s"):format(
        ("read linux_banner:bytes1 "):rep(count)), timeout = PATIENCE_S }
    end
    local r = read(1024)
    assert.same({ 0, ("4c\n"):rep(1024) }, { r.status, r.stdout }, r.stderr)
    r = read(1025)
    assert.same({ 1, "" }, { r.status, r.stdout })
    assert.matches("entry 1025: it is one too many", r.stderr)
  end)

  it("may write the kernel's text, which is the guest's own, and what is no address is refused", function()
    local code = guest("--cold", "read", "panic:bytes16")[1]
    assert.equals(32, #code)
    guest("--cold", "write", "panic:bytes", ("cc"):rep(16))
    assert.equals(("cc"):rep(16), guest("read", "panic:bytes16")[1])
    guest("--cold", "write", "panic:bytes", code)
    assert.equals(code, guest("read", "panic:bytes16")[1])
    for _, place in ipairs { "0x0:u64", "0x800000000000:u64", "0xffffffffffffffff:u8",
      "0xfffffffffffffff8:u64", "0xffffffff00000000:u32" } do
      for _, option in ipairs { "--cold", "--retry=60" } do
        local r = vm:exec { "ktstr-kernel", option, "write", place, "1", timeout = PATIENCE_S }
        assert.same({ 1, "" }, { r.status, r.stdout })
        assert.matches("failed: entry 1, 0x%x+: 0x%x+ is not mapped", r.stderr)
      end
    end
    vm:ping()
  end)

  it("come many at once, and each gets its own answer", function()
    local r = vm:exec { "sh", "-c", [[
      for i in $(seq 20); do
        { [ "$(ktstr-kernel --retry 60 --cold read jiffies_64 read linux_banner:bytes$i |
          tail -n 1 | wc -c)" = $((2 * i + 1)) ] && echo good; } &
      done
      wait]], timeout = PATIENCE_S }
    assert.equals(("good\n"):rep(20), r.stdout, r.stderr)
  end)

  it("are for root", function()
    local r = vm:exec { "su", "nobody", "-s", "/bin/sh", "-c", "ktstr-kernel read jiffies_64" }
    assert.are_not.equal(0, r.status)
    assert.matches("denied", r.stderr)
  end)

  it("are served in a machine that goes on from a saved one, which is another", function()
    vm:write("/proc/sys/kernel/panic", "5\n")
    local other = vm:save():boot()
    finally(function()
      other:kill()
    end)
    local r = other:exec { "ktstr-kernel", "--cold", "read", "panic_timeout", "write", "panic_timeout", "9",
      timeout = PATIENCE_S }
    assert.same({ 0, "5\nwritten\n" }, { r.status, r.stdout }, r.stderr)
    assert.same({ "9\n", "5" }, { other:read "/proc/sys/kernel/panic", sysctl "panic" })
    assert.same({ 9 }, other:kernel_ops { { op = "read", symbol = "panic_timeout" } })
    assert.same({ 5 }, vm:kernel_ops { { op = "read", symbol = "panic_timeout" } })
  end)

  it("are answered in time when the script does not come", function()
    local k = vm.k
    k:symbol "jiffies_64"
    vm.machine:test_hook("kernel_op_timeout", 0.05)
    finally(function()
      vm.machine:test_hook("kernel_op_timeout", 10)
    end)
    vm:write("/proc/sys/kernel/panic", "5\n")
    local program = vm:spawn { "ktstr-kernel", "write", "panic_timeout", "6" }
    -- The script does something else, in which no frame is taken in, until the program has ended.
    local deadline = os.time() + PATIENCE_S
    while true do
      local task = k:task(program.pid)
      if not task or task.exit_state ~= 0 then
        break
      end
      assert(os.time() < deadline, "the program waits for ever")
    end
    local result = program:wait(60)
    assert.equals(4, result.status)
    assert.matches("the script on the host is busy", program:stderr())
    assert.equals("5", sysctl "panic")
    vm.machine:test_hook("kernel_op_timeout", 10)
    assert.same({ "5" }, guest("read", "panic_timeout"))
  end)
end)

describe("vm:kernel_ops", function()
  it("in a freeze of the script's own is as cold as can be", function()
    local before = cold_freezes()
    vm:frozen(function(k)
      local values = vm:kernel_ops { cold = true, { op = "read", symbol = "jiffies_64" },
        { op = "read", address = k:symbol "jiffies_64" + 1, type = "u32" } }
      assert.equals(k:var "jiffies_64", values[1])
      assert.equals(math.floor(values[1] / 256), values[2])
    end)
    assert.equals(before, cold_freezes())
  end)

  it("reads what vm.k reads, of objects and through pointers", function()
    vm:frozen(function(k)
      local rq = k:per_cpu("runqueues", 1)
      local values = vm:kernel_ops {
        { op = "read", address = rq, field = "curr.pid" },
        { op = "read", symbol = "runqueues", cpu = 1, field = "curr" },
        { op = "read", symbol = "runqueues", cpu = 1, field = "clock" },
        { op = "read", symbol = "init_task", field = "comm" },
      }
      assert.equals(rq.curr.pid, values[1])
      assert.equals(rq.curr:address_(), values[2])
      assert.equals(rq.clock, values[3])
      assert.equals("swapper/0", (values[4]:gsub("%z.*", "")))
    end)
  end)

  it("reads the elements of a global", function()
    vm:frozen(function(k)
      local averages = k:var "avenrun"
      local values = vm:kernel_ops {
        { op = "read", symbol = "avenrun", field = "[0]" },
        { op = "read", symbol = "avenrun", field = "[2]" },
        { op = "read", symbol = "avenrun" },
      }
      assert.same({ averages[0], averages[2] }, { values[1], values[2] })
      assert.equals(24, #values[3])
    end)
    assert.matches("^%d+$", guest("read", "avenrun[2]")[1])
  end)

  it("follows per-CPU pointers of a global", function()
    vm:frozen(function(k)
      local counters = k:object("struct percpu_counter", k:symbol "vm_committed_as").counters
      for cpu = 0, 1 do
        local expected = k:per_cpu(counters, cpu)[0]
        assert.same({ expected }, vm:kernel_ops {
          { op = "read", symbol = "vm_committed_as", struct = "struct percpu_counter", cpu = cpu,
            field = "counters[0]" },
        })
      end
    end)
  end)

  it("says which CPU is missing, or is none", function()
    refused("per-cpu", vm.kernel_ops, vm, { { op = "read", symbol = "runqueues", field = "nr_running" } })
    refused("invalid", vm.kernel_ops, vm, { { op = "read", symbol = "runqueues", cpu = 2, field = "cpu" } })
  end)
end)
