-- The guest's time stands still with it: timers fire late by as much as they were frozen, and no more.
local core = require "ktstr.core"
local time = require "posix.time"
local tiny_guest = require "tests.vm.tiny_guest"

local function sleep(seconds)
  time.nanosleep { tv_sec = math.floor(seconds), tv_nsec = seconds % 1 * 1e9 }
end

-- Milliseconds that the guest saw pass until its timer fired.
local function guest_ms(result)
  local ticks, khz = result.output:match "tsc (%d+) of (%d+) kHz"
  assert(ticks, "the guest has not said how long it waited: " .. result.output)
  return tonumber(ticks) / tonumber(khz)
end

-- What a guest that waits may lose to the host's other work; a freeze that shows is longer.
local SLACK_MS = 1000

local function now_ms()
  local now = time.clock_gettime(time.CLOCK_MONOTONIC)
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6
end

-- Freezes so often for so long, while there is a machine; returns the milliseconds that it was frozen, at
-- least and at most.
local function freeze_for(machine, seconds, times)
  local least, most = 0, 0
  for _ = 1, times do
    local before = now_ms()
    if not pcall(machine.freeze, machine) then
      break
    end
    local frozen = now_ms()
    sleep(seconds)
    least = least + now_ms() - frozen
    machine:thaw()
    most = most + now_ms() - before
  end
  return least, most
end

-- Where the TSC can be held back, the guest sees its timer fire in time. The paravirtual KVM cannot do that:
-- there a count fires late by as much as the machine was frozen, which the guest sees, and a deadline that
-- has passed fires at once.
local function bounds(scenario, ms, least, most)
  if not core.doctor().paravirtual then
    return ms, ms
  elseif scenario == "timer" then
    return ms + least, ms + most
  end
  return ms, math.max(ms, most)
end

local function check(scenario, ms, seconds, times, finally)
  local machine = tiny_guest.start(scenario .. "=" .. ms, finally)
  local lowest, highest = bounds(scenario, ms, freeze_for(machine, seconds, times))
  local found = guest_ms(tiny_guest.finish(machine))
  assert.is_true(found > lowest - 1 and found < highest + SLACK_MS,
    ("%g ms, not %g to %g"):format(found, lowest, highest))
end

for scenario, what in pairs { timer = "a timer of the local APIC", deadline = "a deadline of the TSC" } do
  describe(what, function()
    it("is not frozen", function()
      check(scenario, 300, 0, 0, finally)
    end)

    it("does not see a freeze", function()
      check(scenario, 300, 1.5, 1, finally)
    end)

    it("does not see a hundred short ones", function()
      check(scenario, 500, 0.015, 100, finally)
    end)

    it("does not see ten seconds #slow", function()
      check(scenario, 1000, 10, 1, finally)
    end)
  end)
end

describe("the guest's clock", function()
  it("stands still between two captures that main's freeze lies between", function()
    local machine = tiny_guest.start("load=0", finally)
    machine:capture "before"
    machine:freeze()
    sleep(1.5)
    machine:thaw()
    machine:capture "after"
    local before, after = unpack(machine:captures())
    assert.is_true(after.clock > before.clock)
    assert.is_true(after.clock - before.clock < SLACK_MS / 1000)
    assert.is_true(after.elapsed > before.elapsed)
    assert.is_true(after.elapsed - before.elapsed < SLACK_MS / 1000)
  end)

  it("never goes back", function()
    local machine = tiny_guest.start("load=3", finally, { cpus = 4 })
    for i = 1, 200 do
      machine:capture(("c%03d"):format(i))
    end
    local last = 0
    for _, capture in ipairs(machine:captures()) do
      assert.is_true(capture.clock > last)
      last = capture.clock
    end
  end)
end)

describe("halted CPUs that a timer wakes", function()
  it("go on being woken after freezes of any length", function()
    local machine = tiny_guest.start("load=2", finally, { cpus = 4 })
    local before
    for _, seconds in ipairs { 0, 0.05, 0.11, 0.35, 1.2 } do
      machine:freeze()
      before = tiny_guest.counters(machine, 4)
      sleep(seconds)
      assert.same(before, tiny_guest.counters(machine, 4))
      machine:thaw()
      tiny_guest.wait_until(function()
        sleep(0.02)
        local now = machine:frozen(nil, tiny_guest.counters, machine, 4)
        for cpu = 1, 4 do
          if now[cpu] < before[cpu] + 2 then
            return false
          end
        end
        return true
      end)
    end
  end)
end)
