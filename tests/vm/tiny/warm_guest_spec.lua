-- The guest that other specs save and restore: that it does what they rely on, as long as it runs.
local core = require "ktstr.core"
local tiny_guest = require "tests.vm.tiny_guest"
local warm_guest = require "tests.vm.warm_guest"

local wire = core.wire
local EINVAL, EFBIG, ENOENT, ENOSYS = 22, 27, 2, 38
local RUN_ID = ("0123456789abcdef"):rep(2)

local function read_error(machine, attributes)
  return warm_guest.ask(machine, wire.OP_READ, wire.pack(attributes)).error
end

for _, scenario in ipairs(warm_guest.scenarios) do
  describe("the guest to be saved, " .. scenario, function()
    for _, cpus in ipairs { 1, 4 } do
      it(("ticks on each of its CPUs (%d)"):format(cpus), function()
        local machine = warm_guest.start(scenario, finally, { cpus = cpus })
        assert.equals(cpus, #warm_guest.counters(machine))
        warm_guest.wait_for_ticks(machine, 20)
        assert.equals(7, warm_guest.shut_down(machine, 7).exit_code)
      end)
    end

    it("answers while it ticks fast", function()
      local machine = warm_guest.start(scenario .. "=1", finally, { cpus = 2 })
      for _ = 1, 200 do
        warm_guest.ping(machine)
      end
      warm_guest.wait_for_ticks(machine, 100)
      assert.equals(0, warm_guest.shut_down(machine, 0).exit_code)
    end)

    it("goes on ticking after a freeze, from where it stood", function()
      local machine = warm_guest.start(scenario, finally, { cpus = 4 })
      warm_guest.wait_for_ticks(machine, 5)
      machine:freeze()
      local frozen = tiny_guest.counters(machine, 4)
      assert.same(frozen, tiny_guest.counters(machine, 4))
      machine:thaw()
      for cpu, ticks in ipairs(warm_guest.counters(machine)) do
        assert.is_true(ticks >= frozen[cpu])
      end
      warm_guest.wait_for_ticks(machine, 5)
    end)
  end)
end

describe("the guest to be saved", function()
  it("remembers what was written", function()
    local machine = warm_guest.start("warm", finally)
    assert.equals("", warm_guest.read(machine))
    warm_guest.write(machine, "hello")
    assert.equals("hello", warm_guest.read(machine))
    warm_guest.write(machine, " there", 5)
    assert.equals("hello there", warm_guest.read(machine))
    assert.equals("there", warm_guest.read(machine, "/memory", 6, 5))
    assert.equals("there", warm_guest.read(machine, "/memory", 6, 1000))
    assert.equals("", warm_guest.read(machine, "/memory", 100, 5))
    warm_guest.write(machine, "new")
    assert.equals("new", warm_guest.read(machine))
    warm_guest.write(machine, ("x"):rep(3900), 1000000)
    assert.equals(("x"):rep(3900), warm_guest.read(machine, "/memory", 1000000, 3900))
    machine:freeze()
    assert.equals("new", machine:read_physical(tiny_guest.address.warm, 3))
    assert.equals("xx", machine:read_physical(tiny_guest.address.warm + 1003898, 2))
  end)

  it("says that it was restored, with the id that it was given", function()
    local machine = warm_guest.start("warm", finally)
    for round = 1, 3 do
      local id = ("%032x"):format(round)
      local hello = warm_guest.say_restored(machine, id)
      assert.equals(id, hello.run_id)
      assert.equals(wire.WIRE_VERSION, hello.version)
      assert.equals(1, hello.pid)
    end
    warm_guest.ping(machine)
  end)

  it("tells its TSC, which goes on", function()
    local machine = warm_guest.start("warm", finally)
    local before, khz = warm_guest.tsc(machine)
    local after = warm_guest.tsc(machine)
    assert.is_true(khz > 100000)
    assert.is_true(after > before)
  end)

  it("refuses what it does not know or cannot do", function()
    local machine = warm_guest.start("warm", finally)
    local reply, frames = warm_guest.ask(machine, wire.OP_RESTORED, wire.pack { { "REALTIME_NS", 1 } })
    assert.equals(EINVAL, reply.error)
    assert.same({}, frames)
    assert.equals(ENOSYS, warm_guest.ask(machine, wire.OP_EXEC).error)
    assert.equals(EINVAL, warm_guest.ask(machine, wire.OP_WRITE, "short").error)
    local size = 4 * 2 ^ 20
    local beyond = wire.write_head("/memory", size, 0, 0) .. "x"
    assert.equals(EFBIG, warm_guest.ask(machine, wire.OP_WRITE, beyond).error)
    warm_guest.write(machine, "x", size - 1)
    assert.equals("x", warm_guest.read(machine, "/memory", size - 1, 1))
    assert.equals(EINVAL, read_error(machine, {}))
    assert.equals(ENOENT, read_error(machine, { { "PATH", "/none" } }))
    assert.equals(EINVAL, read_error(machine, { { "PATH", "/memory" }, { "LENGTH", 3901 } }))
    assert.equals(RUN_ID, warm_guest.say_restored(machine, RUN_ID).run_id)
  end)
end)
