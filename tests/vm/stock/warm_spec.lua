-- Saved machines with a stock kernel: what goes on in them after a restore, what they share, what time they
-- have.
local ktstr = require "ktstr"
local core = require "ktstr.core"
local cache = require "ktstr.warm.cache"
local host = require "ktstr.host"
local report = require "ktstr.report"
local restore = require "ktstr.restore"
local test = require "ktstr.test"
local time = require "posix.time"
local kernel_log = require "tests.vm.kernel_log"

local TOPOLOGY = "1n1l2c1t"
local CPUS = 2
local TIMEOUT_S = 1200
local LEAK_S = 0.05 -- what a guest may see of the time that it lay on disk
local LAIN_S = 3 -- for so long it does

local vm, image, log

local function dmesg(machine)
  return machine:exec({ "dmesg", "-r" }).stdout
end

local function sleep(seconds)
  time.nanosleep { tv_sec = math.floor(seconds), tv_nsec = seconds % 1 * 1e9 }
end

local function realtime()
  local t = time.clock_gettime(time.CLOCK_REALTIME)
  return t.tv_sec + t.tv_nsec / 1e9
end

setup(function()
  vm = ktstr.boot { topology = TOPOLOGY, timeout = TIMEOUT_S }
  log = dmesg(vm)
  image = vm:save()
end)

teardown(function()
  if vm then
    vm:kill()
  end
  if image then
    image:close()
  end
end)

-- A machine from the image, killed when the test ends.
local function fork(finally, options)
  local machine = image:boot(options or { timeout = TIMEOUT_S })
  finally(function()
    machine:kill()
  end)
  return machine
end

-- The guest's CLOCK_MONOTONIC less its kvmclock, in seconds: at least, at most. The one is read between two
-- readings of the other.
local function monotonic_offset(machine)
  local least, most = -math.huge, math.huge
  for _ = 1, 20 do
    local from = machine:capture("clock").clock
    local now = tonumber(machine:read("/proc/timer_list"):match "\nnow at (%d+) nsecs\n") / 1e9
    local to = machine:capture("clock").clock
    least, most = math.max(least, now - to), math.min(most, now - from)
  end
  return least, most
end

-- Both lie somewhere in their ranges: whether they can be equal, but for what a guest may see.
local function can_be_equal(least, most, other_least, other_most)
  return least < other_most + LEAK_S and other_least < most + LEAK_S
end

describe("a restored machine", function()
  it("goes on where the saved one stood: programs, timers, console, frames, freezes", function()
    local script = "echo ready; sleep 2; echo slept >/tmp/slept; echo slept >/dev/console"
    local sleeper = vm:spawn { "sh", "-c", script }
    while sleeper:stdout() == "" do
      vm:sleep(0.01)
    end
    local asleep = vm:save()
    finally(function()
      asleep:close()
    end)
    local machine = asleep:boot { timeout = TIMEOUT_S }
    finally(function()
      machine:kill()
    end)
    assert.is_true(machine.warm)
    assert.equals(vm.release, machine.release)
    local patience = host.now() + 120
    while not machine:console():find("slept", 1, true) do
      assert.is_true(host.now() < patience, "the sleeper does not wake up")
      machine:sleep(0.05)
    end
    assert.equals("slept\n", machine:read "/tmp/slept")
    assert.equals(CPUS .. "\n", machine:exec({ "nproc" }).stdout)
    for cpu = 0, CPUS - 1 do
      assert.equals(0, machine:exec({ "sleep", "0.1", cpus = tostring(cpu) }).status)
    end
    machine:freeze()
    assert.is_true(machine:is_frozen())
    machine:regs(0)
    machine:step(0, 10)
    machine:thaw()
    assert.equals("after", machine:capture("after").tag)
    assert.equals("from inside", machine:exec({ "ktstr-capture", "from inside" }).status == 0 and
      machine:captures()[#machine:captures()].tag)
    machine:write("/tmp/text", ("x"):rep(100000))
    assert.equals(100000, #machine:read "/tmp/text")
    assert.same({}, kernel_log.complaints_only_in(dmesg(machine), log))
    assert.is_true(machine:shutdown().passed)
    assert.equals(0, sleeper:wait(120).status)
  end)

  it("has a clock that goes on where it stood", function()
    local least, most = monotonic_offset(vm)
    local before = vm:capture("before").clock
    local saved = vm:save()
    local after = vm:capture("after").clock
    finally(function()
      saved:close()
    end)
    sleep(LAIN_S)
    local machine = saved:boot { timeout = TIMEOUT_S }
    finally(function()
      machine:kill()
    end)
    local first = machine:capture "first"
    local began = first.clock - first.elapsed_ms / 1000
    assert.is_true(can_be_equal(began, began, before, after),
      ("saved between %.3f and %.3f s, and goes on at %.3f s"):format(before, after, began))
    local later_least, later_most = monotonic_offset(machine)
    assert.is_true(can_be_equal(least, most, later_least, later_most),
      ("CLOCK_MONOTONIC was %.3f to %.3f s from kvmclock, and is %.3f to %.3f s"):format(least, most,
        later_least, later_most))
    machine:sleep(1)
    assert.same({}, kernel_log.complaints_only_in(dmesg(machine), log))
  end)

  it("knows what time it is", function()
    local saved = vm:save()
    sleep(LAIN_S)
    local machine = saved:boot { timeout = TIMEOUT_S }
    finally(function()
      machine:kill()
      saved:close()
    end)
    local from = realtime()
    local seconds = tonumber(machine:exec({ "date", "+%s" }).stdout)
    local to = realtime()
    assert.is_true(seconds >= math.floor(from) - 1 and seconds <= to + 1,
      ("the guest has %d, the host %.1f to %.1f"):format(seconds, from, to))
  end)

  it("has random numbers of its own", function()
    local function random(machine)
      return machine:exec({ "sh", "-c", "od -An -tx1 -N16 /dev/urandom" }).stdout
    end
    local a, b = fork(finally), fork(finally)
    local first, second = random(a), random(b)
    assert.equals(48, #(first:gsub("\n", "")))
    assert.not_equals(first, second)
    assert.not_equals(a.channel.run_id, b.channel.run_id)
  end)

  it("has a timeout of its own", function()
    local machine = image:boot { timeout = 5 }
    local ok, e = pcall(machine.sleep, machine, 600)
    assert.is_false(ok)
    assert.equals("timeout", e.code)
    assert.is_true(machine:shutdown().timed_out)
  end)
end)

describe("forks", function()
  it("run four at once, and none sees what another wrote", function()
    local machines, programs = {}, {}
    for i = 1, 4 do
      machines[i] = fork(finally)
      machines[i]:write("/tmp/mine", ("machine %d"):format(i))
    end
    for i, machine in ipairs(machines) do
      programs[i] = machine:spawn { "sh", "-c",
        "i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done; cat /tmp/mine" }
    end
    for i, program in ipairs(programs) do
      assert.equals(("machine %d"):format(i), program:wait(240).stdout)
    end
    assert.is_false((pcall(vm.read, vm, "/tmp/mine")))
    assert.is_false((pcall(fork(finally).read, machines[1], "/tmp/not-mine")))
    for _, machine in ipairs(machines) do
      assert.same({}, kernel_log.complaints_only_in(dmesg(machine), log))
    end
  end)
end)

-- A test as users write them, from the cache.
local function run_test(finally_vm)
  return test.run {
    name = "inner",
    options = { topology = TOPOLOGY, timeout = TIMEOUT_S, duration = 0.2 },
    fn = function(t)
      finally_vm(t.vm)
      t:cgroup("a", { workers = 1 })
      t:cgroup("b", { workers = 1, cpuset = "1" })
      local cgroups = t:hold()
      t:expect(cgroups.a.units_min, "work"):greater_than(0)
      t:expect(cgroups.b.cpus_used, "CPUs"):equals "1"
    end,
  }
end

local function restore_many(count)
  local kept
  for i = 1, count do
    local warm
    local result = run_test(function(machine)
      warm = machine.warm
    end)
    for _, finding in ipairs(result.findings) do
      assert.not_equals("fail", finding.status, report.finding(finding))
    end
    assert.is_nil(result.error, tostring(result.error))
    assert.is_true(warm, ("restore %d was a boot"):format(i))
    kept = result
  end
  return kept
end

describe("tests", function()
  it("start from the saved machine, one after the other", function()
    restore_many(5)
  end)

  it("start from it a hundred times #slow", function()
    restore_many(100)
  end)
end)

describe("a checkpoint", function()
  it("is what a machine can be taken back to, again and again", function()
    local machine = fork(finally)
    machine:write("/tmp/kept", "before")
    local program = machine:spawn { "sh", "-c", "read line; echo got $line", stdin = true }
    local checkpoint = machine:checkpoint()
    assert.is_false(machine:is_frozen())
    for round = 1, 3 do
      machine:write("/tmp/kept", "round " .. round)
      local later = machine:spawn { "sleep", "1000" }
      machine:rewind(checkpoint)
      assert.is_true(machine:is_frozen())
      machine:thaw()
      assert.equals("before", machine:read "/tmp/kept")
      local ok, e = pcall(later.wait, later, 60)
      assert.is_false(ok)
      assert.equals("guest", e.code)
    end
    program:write "line\n"
    assert.equals("got line\n", program:wait(120).stdout)
    machine:freeze()
    local registers = tostring(machine:regs(0))
    local again = machine:checkpoint()
    assert.is_true(machine:is_frozen())
    machine:step(0, 100)
    machine:rewind()
    assert.equals(registers, tostring(machine:regs(0)))
    assert.equals(again, machine.last_checkpoint)
    machine:thaw()
    assert.same({}, kernel_log.complaints_only_in(dmesg(machine), log))
    assert.is_true(machine:shutdown().passed)
  end)

  it("has every byte of a machine that was booted, the kernel's own image too", function()
    local machine = ktstr.boot { topology = TOPOLOGY, timeout = TIMEOUT_S, warm = false }
    finally(function()
      machine:kill()
    end)
    assert.is_false(machine.warm)
    assert.is_nil(machine.channel.run_id)
    machine:freeze()
    local function state()
      return { machine.machine:memory_crc(), tostring(machine:regs(0)), tostring(machine:regs(1)) }
    end
    local before = state()
    machine:checkpoint()
    assert.same(before, state())
    machine:thaw()
    machine:exec { "sh", "-c", "dmesg >/tmp/dmesg" }
    machine:rewind()
    assert.same(before, state())
    machine:checkpoint() -- of one that was taken back, so of another mapping
    machine:rewind()
    assert.same(before, state())
    machine:thaw()
    assert.same({}, kernel_log.complaints_only_in(dmesg(machine), log))
  end)

  it("is the machine's own", function()
    local a, b = fork(finally), fork(finally)
    local ok, e = pcall(a.rewind, a)
    assert.is_false(ok)
    assert.matches("there is no checkpoint", tostring(e))
    ok, e = pcall(a.rewind, a, b:checkpoint())
    assert.is_false(ok)
    assert.matches("not a checkpoint of this machine", tostring(e))
    assert.is_false(a:is_frozen())
  end)
end)

describe("an image", function()
  local function refused(options)
    local ok, e = pcall(image.boot, image, options)
    assert.is_false(ok)
    assert.equals("unsupported", e.code)
    return e.message
  end

  it("is refused with the difference named when something else is asked for", function()
    local function names(text, options)
      assert.matches(text, refused(options), 1, true)
    end
    names("topology is 1n1l4c1t, the saved machine has 1n1l2c1t", { topology = "1n1l4c1t" })
    names("memory is 512 MiB, the saved machine has 256 MiB", { memory = "512M" })
    names("the command line is", { cmdline = "quiet" })
    names("the kernel image is not the saved machine's", { kernel = core.paths.guest .. "/tiny" })
    local same = image:boot { topology = TOPOLOGY, memory = "256M", timeout = TIMEOUT_S }
    assert.is_true(same:shutdown().passed)
  end)

  it("is refused for another host's CPU, or another agent", function()
    local host_cpu, hash_file = core.host_cpu, core.hash_file
    finally(function()
      core.host_cpu, core.hash_file = host_cpu, hash_file
    end)
    core.host_cpu = function()
      return "GenuineIntel 6-85-7 0123456789abcdef"
    end
    assert.matches("the host's CPU is GenuineIntel 6-85-7", refused {}, 1, true)
    core.host_cpu = host_cpu
    core.hash_file = function(path)
      return path:match "/agent$" and ("0"):rep(32) or hash_file(path)
    end
    assert.matches("the agent is not the saved machine's", refused {}, 1, true)
  end)

  it("is kept in a directory, for other processes and later", function()
    local path = os.tmpname()
    os.remove(path)
    finally(function()
      require("ktstr.files").remove(path)
    end)
    local saved = vm:save(path)
    assert.equals(path, saved.path)
    saved:close()
    local opened = ktstr.image(path)
    local machine = opened:boot { timeout = TIMEOUT_S, files = { ["/opt/file"] = "Makefile" } }
    assert.equals(host.read_file "Makefile", machine:read "/opt/file")
    assert.is_true(machine:shutdown().passed)
    opened:verify()
    opened:close()
    assert.equals("busy", select(2, pcall(vm.save, vm, path)).code)
  end)
end)

describe("the cache", function()
  local function boot(options)
    options = options or {}
    options.topology, options.timeout = TOPOLOGY, TIMEOUT_S
    return ktstr.boot(options)
  end

  it("gives a test its own files, in place of what is there", function()
    local machine = boot { files = { ["/bin/ls"] = "scripts/setup", ["/opt/deep/er/Makefile"] = "Makefile" } }
    assert.is_true(machine.warm)
    assert.equals(host.read_file "scripts/setup", machine:read "/bin/ls")
    assert.equals(host.read_file "Makefile", machine:read "/opt/deep/er/Makefile")
    assert.equals("755\n", machine:exec({ "stat", "-c", "%a", "/bin/ls" }).stdout)
    assert.equals("hello\n", machine:exec({ "busybox", "echo", "hello" }).stdout)
    machine:shutdown()
  end)

  it("loses an entry that is of no use, and the run boots", function()
    local discarded = {}
    local discard, call = cache.discard, restore.restore
    finally(function()
      cache.discard, restore.restore = discard, call
    end)
    cache.discard = function(entry, reason)
      discarded[#discarded + 1] = tostring(reason)
      discard(entry, reason)
    end
    restore.restore = function(handle, session)
      restore.restore = call
      local machine = call(handle, session)
      machine:kill()
      return machine:_check_alive "waking up"
    end
    local machine = boot()
    assert.is_false(machine.warm)
    assert.equals(1, #discarded)
    assert.is_true(machine:shutdown().passed)
    machine = boot()
    assert.is_true(machine.warm)
    machine:shutdown()
  end)
end)
