-- A stock kernel's time stands still with it: for what it measures, for what waits, for its watchdogs.
local ktstr = require "ktstr"
local report = require "ktstr.report"
local time = require "posix.time"
local guest_load = require "tests.vm.guest_load"
local kernel_log = require "tests.vm.kernel_log"

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

local function assert_unnoticed(vm, log_of_boot, seconds, watched)
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
  assert.same({}, kernel_log.complaints_only_in(dmesg(vm), log_of_boot))
  assert_monotonic_stood(before_least, before_most, after_least, after_most)
end

for _, case in ipairs {
  { invariant_tsc = true, clock = "tsc" },
  { invariant_tsc = false, clock = "kvm-clock" },
} do
  describe("a freeze of a machine whose clock is " .. case.clock, function()
    local vm, log_of_boot

    lazy_setup(function()
      vm = ktstr.boot { topology = "1n1l4c1t", timeout = 3600, invariant_tsc = case.invariant_tsc }
      log_of_boot = dmesg(vm)
    end)

    teardown(function()
      if vm then
        vm:kill()
      end
    end)

    local function has_clock()
      return vm:read "/sys/devices/system/clocksource/clocksource0/current_clocksource" == case.clock .. "\n"
    end

    it("goes unnoticed when it takes 5 s", function()
      assert.is_true(has_clock())
      assert_unnoticed(vm, log_of_boot, 5, 1)
      assert.is_true(has_clock())
    end)

    it("goes unnoticed when it takes a minute #slow", function()
      assert.is_true(has_clock())
      assert_unnoticed(vm, log_of_boot, 60, 30)
      assert.is_true(has_clock())
    end)

    it("does not keep the machine from being killed", function()
      vm:freeze()
      local result = vm:kill()
      assert.same({ "ExternalKill", false }, { result.exit_reason, result.timed_out })
      assert.is_false(vm:is_frozen())
    end)
  end)
end
