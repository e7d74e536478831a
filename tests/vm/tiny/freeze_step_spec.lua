-- Single steps on one vCPU of a frozen machine.
local channel = require "ktstr.channel"
local core = require "ktstr.core"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"
local tiny_io = require "tests.vm.tiny_io"

local refused = tiny_guest.refused

-- A frozen machine in the io loop, at an instruction where everything was checked.
local function stopped_in_the_loop(finally)
  local machine = tiny_guest.start("io", finally)
  local watcher = tiny_io.watch(machine)
  local index, round
  tiny_guest.wait_until(function()
    machine:freeze()
    index, round = watcher:check()
    if not index then
      machine:thaw()
    end
    return index
  end)
  return machine, watcher, index, round
end

-- A frozen machine whose every CPU has begun to count.
local function counting(scenario, cpus, finally)
  local machine = tiny_guest.start(scenario, finally, { cpus = cpus })
  tiny_guest.wait_until(function()
    machine:freeze()
    for _, counter in ipairs(tiny_guest.counters(machine, scenario == "unstarted" and 1 or cpus)) do
      if counter == 0 then
        machine:thaw()
        return false
      end
    end
    return true
  end)
  return machine
end

-- The instruction that follows, and its round. A `rep` one may take a step for each of its repetitions.
local function follows(index, round, next_index, next_round)
  if tiny_io.program[index].rep and next_index == index then
    return next_round == round
  end
  local last = #tiny_io.program
  return next_index == index % last + 1 and next_round == round + (index == last and 1 or 0)
end

describe("a step", function()
  it("executes one instruction, and everything is exact behind each", function()
    local machine, watcher, index, round = stopped_in_the_loop(finally)
    local seen = {}
    for _ = 1, 4 * #tiny_io.program do
      assert.equals(1, machine:step(0, 1))
      local next_index, next_round = watcher:check()
      assert.is_true(follows(index, round, next_index, next_round),
        ("instruction %d of round %d was followed by %d of %d"):format(index, round, next_index, next_round))
      index, round = next_index, next_round
      seen[index] = true
    end
    for i = 1, #tiny_io.program do
      assert.is_true(seen[i], ("instruction %d was never next"):format(i))
    end
    machine:thaw()
  end)

  it("of many is as many steps, and the loop goes on as ever in between", function()
    local machine, watcher, index, round = stopped_in_the_loop(finally)
    local first = round
    tiny_guest.wait_until(function()
      -- Not into one of the instructions that take several steps, or the count would be no more than a guess.
      local plain = 0
      while plain < 20 and not tiny_io.program[(index + plain - 1) % #tiny_io.program + 1].rep do
        plain = plain + 1
      end
      if plain > 0 then
        assert.equals(plain, machine:step(0, plain))
        local next_index, next_round = watcher:check()
        local place = round * #tiny_io.program + index
        assert.equals(place + plain, next_round * #tiny_io.program + next_index)
      end
      machine:thaw()
      machine:freeze()
      local last = round
      index, round = watcher:check()
      assert.is_true(round >= last)
      return round > first + 5
    end)
    machine:thaw()
  end)

  it("of many executes as many, and no more", function()
    local machine = counting("unstarted", 1, finally)
    local before = tiny_guest.counters(machine, 1)[1]
    assert.equals(3000, machine:step(0, 3000))
    local after = tiny_guest.counters(machine, 1)[1]
    -- The loop is an increment and a jump.
    assert.equals(1500, after - before)
    assert.equals(after, tiny_guest.counters(machine, 1)[1])
    machine:thaw()
  end)

  it("leaves the other vCPUs parked", function()
    local machine = counting("load=0", 4, finally)
    local before = tiny_guest.counters(machine, 4)
    assert.equals(400, machine:step(2, 400))
    -- The guest numbers its CPUs as they come up.
    local moved = {}
    for i, counter in ipairs(tiny_guest.counters(machine, 4)) do
      if counter ~= before[i] then
        moved[#moved + 1] = counter - before[i]
      end
    end
    assert.same({ 200 }, moved)
    machine:thaw()
  end)

  it("works in user mode, too", function()
    if core.doctor().paravirtual then
      pending "this KVM gives the guest itself the trap of a step in user mode"
    end
    local machine = counting("load=1", 2, finally)
    local before = tiny_guest.counters(machine, 2)
    assert.equals(100, machine:step(1, 100))
    assert.same({ before[1], before[2] + 50 }, tiny_guest.counters(machine, 2))
    machine:thaw()
  end)

  it("does nothing on a vCPU that is halted, or waits for its start", function()
    for _, scenario in ipairs { "load=4", "unstarted" } do
      local machine = tiny_guest.start(scenario, finally, { cpus = 2 })
      -- The guest says that its CPUs are at work when they are about to be.
      tiny_guest.wait_until(function()
        machine:freeze()
        if machine:step(1, 100) == 0 then
          return true
        end
        machine:thaw()
      end)
      local before = tiny_guest.fingerprint(machine, 2)
      assert.equals(0, machine:step(1, 100))
      assert.equals(before, tiny_guest.fingerprint(machine, 2))
      machine:thaw()
    end
  end)

  -- Wherever the freeze comes: in front of a HLT, halted, woken, in the interrupt's handler.
  it("into a halt, or past it, is no reason not to be woken", function()
    local machine = tiny_guest.start("warm", finally)
    local asked = channel.new(machine)
    for round = 1, 200 do
      local steps = round % 2 == 0 and 10 or 100000
      machine:freeze()
      -- Without interrupts the guest soon waits for one.
      assert.is_true(machine:step(0, steps) < steps or steps == 10)
      machine:thaw()
      local answered
      asked:post(core.wire.OP_PING, "", {
        on_reply = function()
          answered = true
        end,
      })
      assert.is_true(asked:wait(function()
        return answered
      end), "round " .. round)
    end
  end)

  it("that ends the machine is the last; the end comes with the thaw", function()
    local machine
    -- It does not live long: the freeze has to be in time.
    tiny_guest.wait_until(function()
      machine = support.tiny_machine "reset"
      machine:start()
      return pcall(machine.freeze, machine)
    end)
    local executed = machine:step(0, 1000000, 60)
    assert.is_true(executed > 0 and executed < 1000000)
    assert.equals(0, machine:step(0, 1))
    assert.is_true(tiny_guest.registers(machine, 0).rip > 0)
    machine:thaw()
    assert.equals("Shutdown", tiny_guest.finish(machine).exit_reason)
    refused("ended", machine.step, machine, 0, 1)
  end)

  it("that does not end within its limit says how far it came", function()
    local machine = counting("unstarted", 1, finally)
    local e = refused("timeout", machine.step, machine, 0, 1000000, 0.05)
    assert.matches("vCPU 0 executed %d+ of 1000000 instructions", e.message)
    local before = tiny_guest.fingerprint(machine, 1)
    assert.equals(before, tiny_guest.fingerprint(machine, 1))
    assert.equals(10, machine:step(0, 10))
    machine:thaw()
  end)

  it("ends with the freeze whose limit has come", function()
    local machine = tiny_guest.start("load=0", finally)
    machine:test_hook("periodic", 0.01) -- turned away so often as the freeze is long
    assert.is_true(tiny_guest.freeze(machine, 0.2))
    refused("freeze-limit", machine.step, machine, 0, 1000000, 60)
    assert.is_true(machine:freeze_counts().periodic.busy <= 1000) -- not the 6000 of the step's own limit
    machine:test_hook("periodic", 0)
    tiny_guest.wait_until(function() -- the last of them may be under way
      return pcall(machine.frozen, machine, 0.2, function() end)
    end)
    refused("running", machine.step, machine, 0, 1)
    refused("freeze-limit", machine.frozen, machine, 0.2, function()
      while true do
        pcall(machine.step, machine, 0, 1000000, 60)
      end
    end)
    assert.is_false(machine:is_frozen())
    machine:freeze()
    assert.equals(10, machine:step(0, 10))
    machine:thaw()
  end)

  it("that never ends ends the machine, which could not be held any longer", function()
    local machine = tiny_guest.start("load=0", finally, { cpus = 2 })
    machine:freeze()
    machine:test_hook("rendezvous_timeout", 0.05)
    machine:test_hook("deaf", 1, 1000)
    refused("timeout", machine.step, machine, 1, 10, 0.05)
    local result = tiny_guest.finish(machine)
    assert.equals("Fatal", result.exit_reason)
    assert.equals("vCPU 1 did not come back from a single step", result.detail)
  end)

  it("is refused when it makes no sense", function()
    local machine = tiny_guest.start("unstarted", finally, { cpus = 2 })
    refused("running", machine.step, machine, 0, 1)
    machine:freeze()
    refused("invalid", machine.step, machine, 2, 1)
    for _, count in ipairs { 0, -1, 1000001, 0 / 0 } do
      assert.is_false(pcall(machine.step, machine, 0, count))
    end
    machine:thaw()
  end)
end)
