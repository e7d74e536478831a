-- The first moments of a restored machine: what it touches in them is noted, and nothing that comes later.
local support = require "tests.lua.support"

local core, load = support.library()
local channel = load "ktstr.channel"

local MOMENTS_S = 0.5

-- A machine of which nothing is heard before `heard_at`, on the fake core's clock.
local function quiet_machine(heard_at)
  local machine = { noted_at = {} }
  function machine.recv(_, timeout)
    local left = math.max(0, heard_at - core.clock)
    core.clock = core.clock + math.min(left, timeout or left)
    if core.clock < heard_at then
      return nil, "timeout"
    end
    return nil, "ended"
  end
  function machine.note_touched(self)
    table.insert(self.noted_at, core.clock)
  end
  return machine
end

local function restored(heard_at)
  core.clock = 0
  local machine = quiet_machine(heard_at)
  local conversation = channel.new(machine)
  conversation:begin_first_moments(MOMENTS_S)
  return conversation, machine
end

describe("a restored machine's first moments", function()
  it("end in time while a guest is waited for that says nothing", function()
    local conversation, machine = restored(60)
    assert.is_false(conversation:pump(nil))
    assert.is_true(conversation.ended)
    assert.same({ 60, { MOMENTS_S } }, { core.clock, machine.noted_at })
  end)

  it("leave a wait as long as it was to be", function()
    local conversation, machine = restored(60)
    assert.is_false(conversation:pump(2))
    assert.is_false(conversation.ended)
    assert.same({ 2, { MOMENTS_S } }, { core.clock, machine.noted_at })
  end)

  it("go on behind a wait that is shorter", function()
    local conversation, machine = restored(60)
    conversation:pump(MOMENTS_S / 2)
    assert.same({ MOMENTS_S / 2, {} }, { core.clock, machine.noted_at })
    conversation:pump(MOMENTS_S)
    assert.same({ 1.5 * MOMENTS_S, { MOMENTS_S } }, { core.clock, machine.noted_at })
    conversation:pump(10)
    assert.same({ MOMENTS_S }, machine.noted_at)
  end)

  it("are noted as far as they have gone when the machine is ended within them", function()
    local conversation, machine = restored(60)
    conversation:pump(MOMENTS_S / 4)
    conversation:end_first_moments()
    assert.same({ MOMENTS_S / 4 }, machine.noted_at)
  end)

  it("are not noted by a script that did other things for long", function()
    local conversation, machine = restored(60)
    core.clock = 10
    conversation:pump(1)
    conversation:end_first_moments()
    assert.same({}, machine.noted_at)
  end)
end)
