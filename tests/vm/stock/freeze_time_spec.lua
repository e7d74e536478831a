-- A stock kernel's time stands still with it: for what it measures, for what waits, for its watchdogs, at any
-- moment from its first instruction on.
local ktstr = require "ktstr"
local plan = require "ktstr.plan"
local core = require "ktstr.core"
local initramfs = require "ktstr.initramfs"
local kernels = require "ktstr.kernels"
local modules = require "ktstr.modules"
local report = require "ktstr.report"
local time = require "posix.time"
local vms = require "ktstr.vm"
local guest_load = require "tests.vm.guest_load"
local kernel_log = require "tests.vm.kernel_log"

local TOPOLOGY = "1n1l4c1t"
local CPUS = 4
local TIMEOUT_S = 1200
local BOUND_S = 120 -- ends what hangs, no more
local LEAK_S = 0.05 -- what a guest may see of a freeze
-- How exactly a clock is to be known, and how often it is read for it.
local PRECISION_S = 0.02
local READINGS = 200

local function sleep(seconds)
  time.nanosleep { tv_sec = math.floor(seconds), tv_nsec = seconds % 1 * 1e9 }
end

local function dmesg(vm)
  return vm:exec({ "dmesg", "-r" }).stdout
end

-- The two kinds of machine, by the guest's clock; booted when first asked for.
local machines = {}

teardown(function()
  for _, machine in pairs(machines) do
    machine.vm:kill()
  end
end)

-- A machine as ktstr.boot makes it, of which the first instruction is still to come.
local function new_vm(options)
  local t = ktstr.topology(TOPOLOGY)
  local kernel = kernels.resolve()
  local archive = initramfs.build {
    channel_modules = modules.for_channel(kernel.modules),
    module_directory = "/lib/modules/" .. kernel.release,
  }
  return vms.new(core.machine {
    kernel = kernel.path,
    initrd = archive,
    cmdline = "console=ttyS0 loglevel=5 panic=-1 tsc=nowatchdog",
    topology = t:for_machine(plan.memory(nil, t, archive:size())),
    kaslr = true,
    la57 = false,
    timeout = options.timeout,
    invariant_tsc = options.invariant_tsc,
  }, { topology = t, timeout = options.timeout })
end

local boots = {}

boots["kvm-clock"] = function()
  return { vm = ktstr.boot { topology = TOPOLOGY, timeout = TIMEOUT_S, invariant_tsc = false } }
end

-- Frozen all the time, until its agent is there.
boots.tsc = function()
  local vm = new_vm { timeout = TIMEOUT_S, invariant_tsc = true }
  local freezes = 0
  vm.machine:start()
  repeat
    vm:freeze()
    vm:thaw()
    freezes = freezes + 1
    vm.channel:pump(freezes * 7 % 32 / 1000)
  until vm.channel.ready or vm.channel.ended
  assert.is_false(vm.channel.ended, vm:console())
  return { vm = vm, freezes = freezes }
end

local function machine_of(clock)
  if not machines[clock] then
    machines[clock] = boots[clock]()
    machines[clock].log = dmesg(machines[clock].vm)
  end
  return machines[clock]
end

-- The guest's CLOCK_MONOTONIC less the time that the machine has run, in seconds: at least, at most. Each
-- reading lies between two captures, which tell when they were taken in the machine's own time.
local function clock_offset(vm)
  local least, most = -math.huge, math.huge
  for _ = 1, READINGS do
    local from = vm:capture("clock").elapsed_ms / 1000
    local now = tonumber(vm:read("/proc/timer_list"):match "\nnow at (%d+) nsecs\n") / 1e9
    local to = vm:capture("clock").elapsed_ms / 1000
    least, most = math.max(least, now - to), math.min(most, now - from)
    if most - least < PRECISION_S then
      break
    end
  end
  return least, most
end

-- When it began and when it had slept for 3 s, by the guest's clock.
local SLEEPER = [[
tell() {
  { read -r _; read -r _; read -r _ _ now _; } </proc/timer_list
  echo "$now"
}
tell
sleep 3
tell
]]

local function start_sleeper(vm)
  local sleeper = vm:spawn { "sh", "-c", SLEEPER, policy = "fifo 10" }
  local deadline = os.time() + BOUND_S
  while sleeper:stdout() == "" do
    assert.is_true(os.time() < deadline)
    vm:sleep(0.01)
  end
  return sleeper
end

local function assert_slept_well(sleeper)
  local r = sleeper:wait(BOUND_S)
  local from, to = r.stdout:match "^(%d+)\n(%d+)\n$"
  local slept = (to - from) / 1e9
  assert.is_true(slept >= 3 and slept < 4.5, ("it slept for %.3f s"):format(slept))
end

local function assert_kvmclock_stood(from, to)
  local leak = (to.clock - from.clock) - (to.elapsed_ms - from.elapsed_ms) / 1000
  assert.is_true(math.abs(leak) < LEAK_S, ("kvmclock: %.6f s"):format(leak))
end

local function assert_monotonic_stood(before_least, before_most, after_least, after_most)
  local least, most = after_least - before_most, after_most - before_least
  local text = ("CLOCK_MONOTONIC: between %.6f and %.6f s"):format(least, most)
  assert.is_true(least < LEAK_S and most > -LEAK_S, text)
  if most >= LEAK_S or least <= -LEAK_S then
    pending("the host is too busy to tell: " .. text)
  end
end

local function assert_unnoticed(vm, seconds, watched)
  local log = dmesg(vm)
  local load = guest_load.start(vm)
  local before_least, before_most = clock_offset(vm)
  local sleeper = start_sleeper(vm)
  local from, started = vm:capture "before", os.time()
  vm:freeze()
  sleep(seconds)
  vm:thaw()
  local to = vm:capture "after"
  -- The machine's own account does not have it.
  assert.is_true((to.elapsed_ms - from.elapsed_ms) / 1000 <= os.time() - started + 1 - seconds)
  assert_kvmclock_stood(from, to)
  assert_slept_well(sleeper)
  local after_least, after_most = clock_offset(vm)
  local lines = load:frames()
  vm:sleep(watched)
  local more, wrong = load:frames()
  assert.is_nil(wrong)
  assert.is_true(more > lines)
  local rows, findings = load:stop()
  for _, finding in ipairs(findings) do
    assert.not_equals("fail", finding.status, report.finding(finding))
  end
  for name, row in pairs(rows) do
    assert.is_true(row.units_min > 0, name)
    assert.is_true(row.max_gap_ms < seconds * 1000, ("%s: a gap of %.0f ms"):format(name, row.max_gap_ms))
  end
  assert.same({}, kernel_log.complaints_only_in(dmesg(vm), log))
  assert_monotonic_stood(before_least, before_most, after_least, after_most)
end

describe("a boot", function()
  it("does not notice that it is frozen every few milliseconds", function()
    local frozen, ordinary = machine_of "tsc", machine_of "kvm-clock"
    assert.is_true(frozen.freezes > 100, frozen.freezes .. " freezes")
    assert.equals(CPUS .. "\n", frozen.vm:exec({ "nproc" }).stdout)
    assert.same({}, kernel_log.complaints_only_in(frozen.log, ordinary.log))
  end)

  it("has a timeout that stands still while it is frozen", function()
    local vm = new_vm { timeout = 1 }
    vm.machine:start()
    vm:freeze()
    sleep(1.5)
    assert.is_true(vm:is_frozen())
    vm:thaw()
    vm:freeze()
    vm:thaw()
    vm.channel:wait(function()
      return vm.channel.ended
    end)
    local r = vm:shutdown()
    assert.same({ "Timeout", true }, { r.exit_reason, r.timed_out })
  end)
end)

for _, clock in ipairs { "tsc", "kvm-clock" } do
  describe("a freeze of a machine whose clock is " .. clock, function()
    local function assert_unnoticed_for(seconds, watched)
      local vm = machine_of(clock).vm
      local path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
      assert.equals(clock .. "\n", vm:read(path))
      assert_unnoticed(vm, seconds, watched)
      assert.equals(clock .. "\n", vm:read(path))
    end

    it("goes unnoticed when it takes 5 s", function()
      assert_unnoticed_for(5, 0.1)
    end)

    it("goes unnoticed when it takes a minute #slow", function()
      assert_unnoticed_for(60, 30)
    end)
  end)
end

describe("a frozen machine", function()
  it("can be killed", function()
    local vm = machine_of("kvm-clock").vm
    vm:freeze()
    local result = vm:kill()
    assert.same({ "ExternalKill", false }, { result.exit_reason, result.timed_out })
    assert.is_false(vm:is_frozen())
  end)
end)
