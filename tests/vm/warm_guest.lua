-- The tiny guest that is to be saved (guest/tiny/warm.h), as specs talk to it.
local ffi = require "ffi"
local core = require "ktstr.core"
local tiny_guest = require "tests.vm.tiny_guest"

local wire = core.wire

local TIMEOUT_S = 120

local warm_guest = {}

--- Both of its flavours.
warm_guest.scenarios = { "warm", "warm-periodic" }

--- A machine whose CPUs all tick; killed and freed when the test ends.
---@param scenario "warm"|"warm-periodic"|string "warm=MS" for a tick every so many milliseconds
---@param finally fun(f: fun())
---@param options { cpus: integer|nil, timeout: number|nil, memory: number|nil }|nil
---@return ktstr.core.machine
function warm_guest.start(scenario, finally, options)
  return tiny_guest.start(scenario, finally, options)
end

--- A machine that goes on where the image's stood; killed and freed when the test ends.
---@param image ktstr.core.image
---@param finally fun(f: fun())
---@return ktstr.core.machine
function warm_guest.restore(image, finally)
  local machine = core.machine_saved(image, { timeout = TIMEOUT_S })
  finally(function()
    machine:kill()
    pcall(machine.join, machine)
  end)
  machine:start()
  return machine
end

--- The image of a machine that runs, which goes on.
---@return ktstr.core.image
function warm_guest.save(machine)
  machine:freeze()
  local image = machine:save("identity", "script")
  machine:thaw()
  return image
end

local last_id = 0

--- Sends a request and waits for its reply.
---@return table reply core.wire.decode's
---@return table[] frames what came before the reply: { type = integer, payload = string }
function warm_guest.ask(machine, op, body)
  local frames = {}
  last_id = last_id + 1
  machine:send(wire.MSG_OP_REQUEST, wire.op_request(last_id, op, body or ""))
  while true do
    local kind, payload = machine:recv(60)
    assert(kind, "no reply: " .. tostring(payload))
    local reply = kind == wire.MSG_OP_REPLY and wire.decode(kind, payload)
    if reply and reply.id == last_id then
      return reply, frames
    end
    frames[#frames + 1] = { type = kind, payload = payload }
  end
end

local function succeed(reply, what)
  assert(reply.error == 0, ("%s: error %d"):format(what, reply.error))
  return reply.body
end

function warm_guest.ping(machine)
  succeed(warm_guest.ask(machine, wire.OP_PING), "ping")
end

--- Writes bytes (at most 3,900) into its file; from its beginning, which empties it first, or at an offset.
function warm_guest.write(machine, bytes, offset)
  local head = wire.write_head("/memory", offset or 0, 0, offset and 0 or wire.WRITE_TRUNCATE)
  succeed(warm_guest.ask(machine, wire.OP_WRITE, head .. bytes), "write")
end

--- What its file "/memory" holds, or another's bytes.
---@return string
function warm_guest.read(machine, path, offset, length)
  local attributes = { { "PATH", path or "/memory" } }
  if offset then
    table.insert(attributes, { "OFFSET", offset })
  end
  if length then
    table.insert(attributes, { "LENGTH", length })
  end
  return succeed(warm_guest.ask(machine, wire.OP_READ, wire.pack(attributes)), "read")
end

local function numbers(bytes)
  local words = ffi.cast("const uint64_t *", bytes)
  local list = {}
  for i = 1, #bytes / 8 do
    list[i] = tonumber(words[i - 1])
  end
  return list
end

--- How often each CPU has ticked.
---@return number[]
function warm_guest.counters(machine)
  return numbers(warm_guest.read(machine, "/counters"))
end

--- Its TSC now, and that one's frequency in kHz.
function warm_guest.tsc(machine)
  return unpack(numbers(warm_guest.read(machine, "/tsc")))
end

--- Waits until every CPU has ticked that often again.
function warm_guest.wait_for_ticks(machine, count)
  local from = warm_guest.counters(machine)
  tiny_guest.wait_until(function()
    for cpu, ticks in ipairs(warm_guest.counters(machine)) do
      if ticks < from[cpu] + count then
        return false
      end
    end
    return true
  end)
end

--- Body of an OP_RESTORED.
---@param run_id string 32 hexadecimal digits
function warm_guest.restored_body(run_id)
  return wire.pack {
    { "RUN_ID", run_id },
    { "REALTIME_NS", os.time() * 1e9 },
    { "ENTROPY", ("entropy!"):rep(8) },
  }
end

--- Says that it was restored; returns its hello, which is all that it sends before the reply.
---@param run_id string 32 hexadecimal digits
---@return { version: integer, release: string, pid: integer, run_id: string }
function warm_guest.say_restored(machine, run_id)
  local reply, frames = warm_guest.ask(machine, wire.OP_RESTORED, warm_guest.restored_body(run_id))
  succeed(reply, "restored")
  assert(#frames == 1 and frames[1].type == wire.MSG_SYS_RDY, "one SYS_RDY was expected")
  return assert(wire.decode(wire.MSG_SYS_RDY, frames[1].payload))
end

--- Ends it with that code.
---@return table result what join() says
function warm_guest.shut_down(machine, code)
  succeed(warm_guest.ask(machine, wire.OP_SHUTDOWN, wire.pack { { "CODE", code } }), "shutdown")
  return tiny_guest.finish(machine)
end

return warm_guest
