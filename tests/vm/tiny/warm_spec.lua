-- Saved machines at the level of the core: what goes on after a restore or a rewind, and what is refused.
local core = require "ktstr.core"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"
local warm_guest = require "tests.vm.warm_guest"

local refused, restore, save = tiny_guest.refused, warm_guest.restore, warm_guest.save

-- Every CPU ticks, none has lost what it had counted.
local function assert_ticks_on(machine, counters)
  for cpu, ticks in ipairs(warm_guest.counters(machine)) do
    assert.is_true(ticks >= counters[cpu], ("CPU %d has %d ticks, and had %d"):format(cpu - 1, ticks,
      counters[cpu]))
  end
  warm_guest.wait_for_ticks(machine, 3)
end

-- Frozen, as it stood when it was saved: every byte of memory, every register.
local function assert_stands(machine, cpus, fingerprint)
  assert.is_true(machine:is_frozen())
  assert.is_true(tiny_guest.fingerprint(machine, cpus) == fingerprint, "it is not as it was")
end

for _, scenario in ipairs(warm_guest.scenarios) do
  describe("a machine that was saved, " .. scenario, function()
    for _, cpus in ipairs { 1, 2, 8, 32 } do
      it(("goes on elsewhere and where it is, and can be taken back (%d CPUs)"):format(cpus), function()
        local machine = warm_guest.start(scenario, finally, { cpus = cpus })
        warm_guest.write(machine, "remembered")
        warm_guest.wait_for_ticks(machine, 3)
        machine:freeze()
        local counters = tiny_guest.counters(machine, cpus)
        local fingerprint = tiny_guest.fingerprint(machine, cpus)
        local image = machine:save("what it is", "a script's own")
        assert.same({ "what it is", "a script's own" }, { image:identity(), image:script() })
        assert_stands(machine, cpus, fingerprint)
        local other = restore(image, finally)
        assert.equals("remembered", warm_guest.read(other))
        assert_ticks_on(other, counters)
        assert_stands(machine, cpus, fingerprint)
        for round = 1, 3 do
          machine:thaw()
          assert.equals("remembered", warm_guest.read(machine))
          warm_guest.write(machine, "round " .. round)
          assert_ticks_on(machine, counters)
          machine:freeze()
          machine:rewind(image)
          assert_stands(machine, cpus, fingerprint)
        end
        machine:thaw()
        assert_ticks_on(machine, counters)
        assert.equals("remembered", warm_guest.read(machine))
        assert.equals("remembered", warm_guest.read(other))
        assert.equals(3, warm_guest.shut_down(machine, 3).exit_code)
        assert.equals(4, warm_guest.shut_down(other, 4).exit_code)
      end)
    end
  end)
end

describe("a machine at work", function()
  local function io_state(machine)
    return unpack(tiny_guest.cells(machine, tiny_guest.address.io, 2))
  end

  it("has every port, register and byte of its devices again", function()
    local machine = tiny_guest.start("io", finally)
    for _ = 1, 10 do
      machine:freeze()
      local before = io_state(machine)
      local fingerprint = tiny_guest.fingerprint(machine, 1)
      local image = machine:save("", "")
      machine:step(0, 20)
      machine:rewind(image)
      assert_stands(machine, 1, fingerprint)
      machine:thaw()
      local other = restore(image, finally)
      tiny_guest.wait_until(function()
        other:freeze()
        local rounds, mismatches = io_state(other)
        other:thaw()
        assert.equals(0, mismatches)
        return rounds > before + 20
      end)
      other:kill()
      other:join()
      image:close()
    end
    machine:freeze()
    assert.equals(0, select(2, io_state(machine)))
  end)

  for load, what in pairs { [0] = "kernel mode", [1] = "user mode", [3] = "every mode" } do
    it("goes on counting in " .. what, function()
      local cpus = 4
      local machine = tiny_guest.start("load=" .. load, finally, { cpus = cpus })
      machine:freeze()
      local fingerprint = tiny_guest.fingerprint(machine, cpus)
      local counters = tiny_guest.counters(machine, cpus)
      local image = machine:save("", "")
      for _, each in ipairs { machine, restore(image, finally) } do
        tiny_guest.wait_until(function()
          if each:is_frozen() then
            each:thaw()
          end
          each:freeze()
          local now = tiny_guest.counters(each, cpus)
          for cpu = 1, cpus do
            assert.is_true(now[cpu] >= counters[cpu])
            if now[cpu] == counters[cpu] and not (load == 3 and cpu == 4) then
              return false
            end
          end
          return true
        end)
        each:rewind(image)
        assert_stands(each, cpus, fingerprint)
      end
    end)
  end

  it("whose other CPUs wait for their start can start them elsewhere", function()
    local machine = tiny_guest.start("unstarted", finally, { cpus = 4 })
    local image = save(machine)
    local other = restore(image, finally)
    other:freeze()
    assert.equals(0, other:step(3, 1)) -- still waiting
    assert.is_true(other:step(0, 1) == 1)
  end)

  it("stepped after a rewind does what it did before", function()
    local machine = tiny_guest.start("load=0", finally, { cpus = 2 })
    machine:freeze()
    local image = machine:save("", "")
    machine:step(1, 50)
    local fingerprint = tiny_guest.fingerprint(machine, 2)
    for _ = 1, 3 do
      machine:rewind(image)
      machine:step(1, 50)
      assert_stands(machine, 2, fingerprint)
    end
  end)
end)

describe("forks", function()
  it("answer four at once, and none sees what another wrote", function()
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    warm_guest.write(machine, "the first")
    local image = save(machine)
    local forks = {}
    for i = 1, 4 do
      forks[i] = restore(image, finally)
    end
    for round = 1, 20 do
      for i, fork in ipairs(forks) do
        assert.equals(round == 1 and "the first" or ("fork %d, round %d"):format(i, round - 1),
          warm_guest.read(fork))
        warm_guest.write(fork, ("fork %d, round %d"):format(i, round))
      end
    end
    assert.equals("the first", warm_guest.read(machine))
    assert.equals("the first", warm_guest.read(restore(image, finally)))
    for i, fork in ipairs(forks) do
      assert.equals(i, warm_guest.shut_down(fork, i).exit_code)
    end
  end)

  it("can be forked, and their forks", function()
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    local images = {}
    for generation = 1, 5 do
      warm_guest.write(machine, "generation " .. generation)
      images[generation] = save(machine)
      machine:kill()
      machine:join()
      machine = restore(images[generation], finally)
      assert.equals("generation " .. generation, warm_guest.read(machine))
    end
    for generation, image in ipairs(images) do
      local again = restore(image, finally)
      assert.equals("generation " .. generation, warm_guest.read(again))
      again:freeze()
      again:rewind(images[6 - generation]) -- one of the family
      again:thaw()
      assert.equals("generation " .. 6 - generation, warm_guest.read(again))
      assert_ticks_on(again, { 0, 0 })
    end
  end)

  it("go on when the image is closed, and the machine has ended", function()
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    warm_guest.write(machine, "kept")
    local image = save(machine)
    local fork = core.machine_saved(image, { timeout = 60 })
    machine:kill()
    machine:join()
    image:close()
    fork:start()
    assert.equals("kept", warm_guest.read(fork))
    assert_ticks_on(fork, { 0, 0 })
    local again = save(fork)
    fork:freeze()
    fork:rewind(again)
    fork:thaw()
    assert.equals("kept", warm_guest.read(fork))
    assert.equals(9, warm_guest.shut_down(fork, 9).exit_code)
  end)

  it("have timeouts of their own", function()
    local image = save(warm_guest.start("warm", finally))
    local fork = core.machine_saved(image, { timeout = 0.3 })
    fork:start()
    local result = tiny_guest.finish(fork)
    assert.same({ "Timeout", true }, { result.exit_reason, result.timed_out })
  end)
end)

describe("a hundred restores", function()
  it("of one image leave nothing in the process", function()
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    warm_guest.write(machine, "again")
    local image = save(machine)
    local function once(i)
      local fork = restore(image, function() end)
      assert.equals("again", warm_guest.read(fork))
      warm_guest.write(fork, "written " .. i)
      warm_guest.wait_for_ticks(fork, 1)
      if i % 3 == 0 then
        fork:freeze()
      end
      if i % 2 == 0 then
        fork:kill()
      end
      return i % 2 == 0 and fork:join() or i % 3 ~= 0 and warm_guest.shut_down(fork, 0) or fork
    end
    once(1)
    local before = support.holdings()
    for i = 1, 100 do
      once(i)
    end
    assert.same(before, support.holdings())
  end)

  it("that are never started leave nothing", function()
    local image = save(warm_guest.start("warm", finally, { cpus = 8 }))
    local before = support.holdings()
    for _ = 1, 20 do
      core.machine_saved(image, {})
    end
    assert.same(before, support.holdings())
  end)

  it("and saves leave no image behind", function()
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    save(machine)
    local before = support.holdings()
    for i = 1, 50 do
      local image = save(machine)
      if i % 2 == 0 then
        image:close()
      end
    end
    assert.same(before, support.holdings())
  end)
end)

describe("two hundred rewinds", function()
  it("leave the machine as it was, and nothing in the process", function()
    local cpus = 2
    local machine = warm_guest.start("warm", finally, { cpus = cpus })
    warm_guest.write(machine, "before")
    machine:freeze()
    local image = machine:save("", "")
    machine:rewind(image)
    local before, fingerprint = support.holdings(), tiny_guest.fingerprint(machine, cpus)
    for i = 1, 200 do
      machine:thaw()
      assert.equals("before", warm_guest.read(machine))
      warm_guest.write(machine, "after " .. i)
      machine:freeze()
      machine:rewind(image)
      if i % 20 == 0 then
        assert_stands(machine, cpus, fingerprint)
      end
    end
    assert.same(before, support.holdings())
    machine:thaw()
    assert_ticks_on(machine, { 0, 0 })
    assert.equals(0, warm_guest.shut_down(machine, 0).exit_code)
  end)

  it("of one machine do not disturb another at work", function()
    local busy = warm_guest.start("warm", finally, { cpus = 2 })
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    warm_guest.write(machine, "mine")
    machine:freeze()
    local image = machine:save("", "")
    for i = 1, 200 do
      machine:rewind(image)
      warm_guest.write(busy, "busy " .. i)
      machine:thaw()
      assert.equals("mine", warm_guest.read(machine))
      assert.equals("busy " .. i, warm_guest.read(busy))
      machine:freeze()
    end
    assert_ticks_on(busy, { 0, 0 })
    assert.equals(0, warm_guest.shut_down(busy, 0).exit_code)
  end)
end)

describe("it is refused", function()
  it("to save or take back a machine that runs", function()
    local machine = warm_guest.start("warm", finally)
    local image = save(machine)
    refused("running", machine.save, machine, "", "")
    refused("running", machine.rewind, machine, image)
    warm_guest.ping(machine)
  end)

  it("to save or take back a machine that has ended, or was not started", function()
    local machine = warm_guest.start("warm", finally)
    local image = save(machine)
    local fork = core.machine_saved(image, {})
    refused("invalid", fork.save, fork, "", "")
    refused("invalid", fork.rewind, fork, image)
    machine:kill()
    tiny_guest.wait_until(function()
      local ok, e = pcall(machine.save, machine, "", "")
      assert.is_false(ok)
      return e.code == "ended"
    end)
    refused("ended", machine.rewind, machine, image)
    machine:join()
    refused("ended", machine.save, machine, "", "")
  end)

  it("to save a frozen machine that is being killed, or it is saved", function()
    for _ = 1, 30 do
      local machine = warm_guest.start("warm", finally)
      machine:freeze()
      machine:kill()
      local ok, image = pcall(machine.save, machine, "", "")
      assert.is_true(ok or image.code == "ended" or image.code == "running", tostring(image))
      machine:join()
      if ok then
        warm_guest.ping(restore(image, finally))
      end
    end
  end)

  it("to use an image that was closed", function()
    local machine = warm_guest.start("warm", finally)
    local image = save(machine)
    machine:freeze()
    image:close()
    image:close()
    refused("invalid", machine.rewind, machine, image)
    refused("invalid", core.machine_saved, image, {})
    refused("invalid", image.publish, image, os.tmpname() .. ".image")
    machine:thaw()
    warm_guest.ping(machine)
  end)

  it("to take a machine back to another kind of machine's image, and it lives on", function()
    local images = {}
    for _, cpus in ipairs { 1, 4 } do
      images[#images + 1] = save(warm_guest.start("warm", finally, { cpus = cpus }))
    end
    images[#images + 1] = save(warm_guest.start("warm", finally, { cpus = 2, memory = 64 * 2 ^ 20 }))
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    warm_guest.write(machine, "alive")
    machine:freeze()
    local fingerprint = tiny_guest.fingerprint(machine, 2)
    for _, image in ipairs(images) do
      assert.matches("another topology", refused("invalid", machine.rewind, machine, image).message)
      assert_stands(machine, 2, fingerprint)
    end
    machine:thaw()
    assert.equals("alive", warm_guest.read(machine))
    assert_ticks_on(machine, { 0, 0 })
  end)

  it("to restore with a timeout that is none", function()
    local image = save(warm_guest.start("warm", finally))
    refused("invalid", core.machine_saved, image, { timeout = 0 })
    refused("invalid", core.machine_saved, image, { timeout = "soon" })
  end)
end)
