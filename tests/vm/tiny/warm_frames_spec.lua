-- What is on its way between host and guest when a machine is saved: each frame comes out once, whole.
local core = require "ktstr.core"
local tiny_guest = require "tests.vm.tiny_guest"
local warm_guest = require "tests.vm.warm_guest"

local restore = warm_guest.restore
local wire = core.wire

local REPLY_DATA = 3900
local OUTSIDE = 0x70000000 -- ids of these specs' own

-- As many requests for that op, with ids from 1 on; returns how to check what comes.
local function send(machine, count, op, body)
  for i = 1, count do
    machine:send(wire.MSG_OP_REQUEST, wire.op_request(OUTSIDE + i, op, body))
  end
end

-- The ids of the replies in the order in which they come, after those that are there already: until so many
-- have come, or nothing more is there (count nil).
local function receive(machine, count, ids)
  ids = ids or {}
  while not count or #ids < count do
    local kind, payload = machine:recv(count and 60 or 0)
    if not kind then
      assert(payload == "timeout" and not count, "it says no more: " .. tostring(payload))
      return ids
    end
    assert.equals(wire.MSG_OP_REPLY, kind)
    local reply = assert(wire.decode(kind, payload))
    assert.equals(0, reply.error)
    assert.equals(0, #reply.body % REPLY_DATA)
    ids[#ids + 1] = reply.id - OUTSIDE
  end
  return ids
end

local function assert_sequence(first, last, ids)
  for i, id in ipairs(ids) do
    assert.equals(first + i - 1, id, "replies are lost, or come twice")
  end
  assert.equals(last - first + 1, #ids)
end

local function assert_nothing_more(machine)
  warm_guest.ping(machine) -- it answers in order
  assert.same({}, receive(machine))
end

-- Nothing of what it said was torn.
local function assert_clean(machine)
  local result = warm_guest.shut_down(machine, 0)
  local bad = result.channel
  assert.same({ 0, 0, 0, 0 }, { bad.bad_headers, bad.bad_payloads, bad.unknown, bad.skipped_bytes })
  return result
end

-- What is asked: small frames there and large ones back, or the other way round.
local directions = {
  ["large replies"] = {
    op = wire.OP_READ,
    body = wire.pack { { "PATH", "/memory" }, { "LENGTH", REPLY_DATA } },
  },
  ["large requests"] = {
    op = wire.OP_WRITE,
    body = wire.write_head("/memory", 0, 0, 0) .. ("w"):rep(REPLY_DATA),
  },
}

describe("requests under way, with", function()
  for what, ask in pairs(directions) do
    it(what .. ", are answered once in each machine", function()
      local count = 24 -- more than the guest has room for, so that one is half there
      local machine = warm_guest.start("warm", finally, { cpus = 2 })
      warm_guest.write(machine, ("r"):rep(REPLY_DATA))
      local between = 0
      for round = 0, 3 do
        send(machine, count, ask.op, ask.body)
        local ids = receive(machine, round * 6)
        machine:freeze()
        receive(machine, nil, ids)
        local heard = #ids
        between = between + (heard < count and 1 or 0)
        local image = machine:save("", "")
        local fork = restore(image, finally)
        assert_sequence(heard + 1, count, receive(fork, count - heard))
        assert_nothing_more(fork)
        machine:thaw()
        receive(machine, count, ids)
        assert_sequence(1, count, ids)
        assert_nothing_more(machine)
        -- Taken back it is as if they had never come.
        machine:freeze()
        machine:rewind(image)
        machine:thaw()
        assert_sequence(heard + 1, count, receive(machine, count - heard))
        assert_nothing_more(machine)
        assert_clean(fork)
      end
      assert.is_true(between > 0, "no machine was saved before it had answered all")
      assert_clean(machine)
    end)
  end

  it("none answered yet, are answered after a rewind, and the answers before it are dropped", function()
    local count = 40
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    machine:freeze()
    send(machine, count, wire.OP_PING, "") -- not one of them has been seen
    local image = machine:save("", "")
    local from = tiny_guest.counters(machine, 1)[1]
    for round = 1, 3 do
      machine:thaw()
      assert_sequence(1, round, receive(machine, round))
      -- The others have come, and lie in the host, unread.
      tiny_guest.wait_until(function()
        machine:freeze()
        local ticks = tiny_guest.counters(machine, 1)[1]
        machine:thaw()
        return ticks > from + 30
      end)
      machine:freeze()
      machine:rewind(image)
    end
    machine:thaw()
    assert_sequence(1, count, receive(machine, count))
    assert_nothing_more(machine)
    assert_clean(machine)
    local fork = restore(image, finally)
    assert_sequence(1, count, receive(fork, count))
    assert_nothing_more(fork)
    assert_clean(fork)
  end)

  it("sent after a checkpoint, are forgotten", function()
    local machine = warm_guest.start("warm", finally, { cpus = 2 })
    machine:freeze()
    local image = machine:save("", "")
    for round = 0, 20 do
      if round % 2 == 0 then
        machine:thaw()
      end
      send(machine, 30, wire.OP_PING, "")
      if round % 4 == 0 then
        receive(machine, round)
      end
      if round % 2 == 0 then
        machine:freeze()
      end
      machine:rewind(image)
    end
    machine:thaw()
    assert_nothing_more(machine)
    assert_clean(machine)
  end)
end)

describe("a flood of frames", function()
  it("out of the guest is whole on both sides of a save", function()
    local machine = tiny_guest.start("flood", finally)
    local text = wire.decode(wire.MSG_STDOUT, select(2, machine:recv(60))).data
    local function hear(from, count)
      for _ = 1, count do
        local kind, payload = from:recv(60)
        assert.equals(wire.MSG_STDOUT, kind)
        assert.is_true(wire.decode(kind, payload).data == text)
      end
    end
    local function assert_whole(ended)
      ended:kill()
      local bad = ended:join().channel
      assert.same({ 0, 0, 0 }, { bad.bad_headers, bad.bad_payloads, bad.unknown })
    end
    for round = 1, 10 do
      hear(machine, round * 7)
      machine:freeze()
      local image = machine:save("", "")
      local fork = restore(image, finally)
      machine:thaw()
      hear(fork, 100)
      hear(machine, 100)
      machine:freeze()
      machine:rewind(image)
      machine:thaw()
      hear(machine, 100)
      assert_whole(fork)
    end
    -- Nobody listens: what there is no room for waits, in the image too.
    tiny_guest.wait_until(function()
      machine:freeze()
      local before = machine:memory_crc()
      machine:thaw()
      machine:freeze()
      local after = machine:memory_crc()
      machine:thaw()
      return before == after
    end)
    local image = warm_guest.save(machine)
    local fork = restore(image, finally)
    hear(fork, 100)
    hear(machine, 5000)
    machine:freeze()
    machine:rewind(image)
    machine:thaw()
    hear(machine, 5000)
    assert_whole(fork)
    assert_whole(machine)
  end)
end)

-- A guest that takes captures one by one, frozen when so many are done. On a busy host it may be at its end
-- before the freeze comes.
local function frozen_amid_captures(scenario, finally, enough)
  for _ = 1, 20 do
    local machine = tiny_guest.start(scenario, finally, { cpus = 1 })
    tiny_guest.wait_until(function()
      return machine:freeze_counts().guest.done >= enough
    end)
    if tiny_guest.freeze(machine) then
      return machine
    end
  end
  error "the guest was always done before the freeze"
end

describe("a guest that asks for captures", function()
  local function counts_of(output)
    local counts = {}
    for name, value in output:match "captures:([^\n]*)":gmatch "(%l+) (%d+)" do
      counts[name] = tonumber(value)
    end
    return counts
  end

  for scenario, count in pairs { capture = 300, ["capture-burst"] = 200 } do
    it("gets each answer once, wherever it goes on: " .. scenario, function()
      for round = 1, 8 do
        local machine = frozen_amid_captures(("%s=%d"):format(scenario, count), finally, round * 10)
        local image = machine:save("", "")
        local fork = restore(image, finally)
        machine:thaw()
        for _, each in ipairs { fork, machine } do
          local result = tiny_guest.finish(each)
          local counts = counts_of(result.output)
          assert.equals(0, result.exit_code)
          assert.same({ count, count, 0, 0, 0 }, { counts.sent, counts.done + counts.busy, counts.timeout,
            counts.failed, counts.strange })
        end
      end
    end)
  end
end)

describe("what a guest reported", function()
  -- Takes captures one by one, says EXIT, and halts.
  local function start(finally)
    return frozen_amid_captures({ "capture=100", "hang" }, finally, 10)
  end

  local function wait_for_exit(machine)
    repeat
      local kind = assert(machine:recv(60))
    until kind == wire.MSG_EXIT
  end

  local function reported(machine)
    machine:kill()
    local result = machine:join()
    return result.reported, result.guest_exit
  end

  it("after a checkpoint it has not after a rewind", function()
    local machine = start(finally)
    local image = machine:save("", "")
    machine:thaw()
    wait_for_exit(machine)
    machine:freeze()
    machine:rewind(image)
    assert.is_false((reported(machine)))
  end)

  it("after a rewind it has", function()
    local machine = start(finally)
    machine:rewind(machine:save("", ""))
    machine:thaw()
    wait_for_exit(machine)
    assert.same({ true, 0 }, { reported(machine) })
  end)

  it("before a save it has said in the forks too", function()
    local machine = start(finally)
    machine:thaw()
    wait_for_exit(machine)
    local fork = restore(warm_guest.save(machine), finally)
    fork:freeze()
    assert.same({ true, 0 }, { reported(fork) })
  end)
end)
