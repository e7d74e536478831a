-- The tiny guest as specs see it: started, found in its memory, ended with the test.
local ffi = require "ffi"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local support = require "tests.vm.support"

local tiny_guest = {}

local MIB = 2 ^ 20

-- Addresses, from the guest's own header.
tiny_guest.address = {}
for line in io.lines "guest/tiny/tiny.h" do
  local name, value = line:match "^#define TINY_([%w_]+)_GPA (0x%x+)"
  if name then
    tiny_guest.address[name:lower()] = tonumber(value)
  end
end

local COUNTER_STRIDE = 64

--- Topologies by their number of CPUs.
tiny_guest.topologies = {
  [1] = "1n1l1c1t",
  [2] = "1n1l2c1t",
  [4] = "1n1l2c2t",
  [8] = "1n2l2c2t",
  [32] = "2n4l4c2t",
}

--- A machine whose guest is at work (it has sent SYS_RDY); killed and freed when the test ends.
---@param scenario string|string[]
---@param finally fun(f: fun())
---@param options { cpus: integer|nil, timeout: number|nil, memory: number|nil }|nil
---@return ktstr.core.machine
function tiny_guest.start(scenario, finally, options)
  options = options or {}
  local machine = support.tiny_machine(scenario, {
    topology = tiny_guest.topologies[options.cpus or 1],
    timeout = options.timeout or 120,
    memory = options.memory or 32 * MIB,
  })
  finally(function()
    machine:kill()
    pcall(machine.join, machine)
  end)
  machine:start()
  assert(core.wire.MSG_SYS_RDY == machine:recv(60), "the guest is not ready")
  return machine
end

--- The 64-bit numbers at an address of a frozen machine's memory.
---@return number[]
function tiny_guest.cells(machine, address, count)
  local bytes = machine:read_physical(address, 8 * count)
  local words = ffi.new("uint64_t[?]", count)
  ffi.copy(words, bytes, 8 * count)
  local cells = {}
  for i = 1, count do
    cells[i] = tonumber(words[i - 1])
  end
  return cells
end

--- What each CPU has counted so far.
---@return number[]
function tiny_guest.counters(machine, cpus)
  local counters = {}
  for cpu = 0, cpus - 1 do
    counters[cpu + 1] = tiny_guest.cells(machine, tiny_guest.address.counters + cpu * COUNTER_STRIDE, 1)[1]
  end
  return counters
end

local REGISTERS = { "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12",
  "r13", "r14", "r15", "rip", "rflags" }

--- A CPU's general registers by name.
---@return table<string, ffi.cdata*>
function tiny_guest.registers(machine, cpu)
  local bytes = machine:regs(cpu)
  local words = ffi.new("uint64_t[?]", #REGISTERS)
  assert(#bytes >= 8 * #REGISTERS)
  ffi.copy(words, bytes, 8 * #REGISTERS)
  local registers = {}
  for i, name in ipairs(REGISTERS) do
    registers[name] = words[i - 1]
  end
  return registers
end

--- Everything of a frozen machine that must not move, as a string.
function tiny_guest.fingerprint(machine, cpus)
  local pieces = { ("%d"):format(machine:memory_crc()) }
  for cpu = 0, cpus - 1 do
    local regs, sregs = machine:regs(cpu)
    pieces[#pieces + 1] = regs .. sregs
  end
  return table.concat(pieces)
end

--- Calls f until it is true; an error after a minute.
function tiny_guest.wait_until(f)
  local deadline = os.time() + 60
  while not f() do
    assert(os.time() < deadline, "it did not come about within a minute")
  end
end

--- Freezes a machine that others freeze, too: as soon as none of them does.
---@param machine ktstr.core.machine
---@param limit number|nil seconds
---@return boolean false: it had ended by then
function tiny_guest.freeze(machine, limit)
  local ended
  tiny_guest.wait_until(function()
    local ok, e = pcall(machine.freeze, machine, limit)
    ended = not ok and e.code == "ended"
    assert(ok or ended or e.code == "busy", e)
    return ok or ended
  end)
  return not ended
end

--- That f(...) raises an error of ktstr's with that code; returns it.
function tiny_guest.refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "no error was raised")
  assert(errors.is(e), "not an error of ktstr's: " .. tostring(e))
  assert(e.code == code, ("expected '%s', found '%s': %s"):format(code, e.code, e.message))
  return e
end

--- Reads frames until the machine ends.
---@return table result what join() says, with output = the guest's STDOUT
function tiny_guest.finish(machine)
  local output = {}
  while true do
    local kind, payload = machine:recv()
    if kind == core.wire.MSG_STDOUT then
      output[#output + 1] = core.wire.decode(kind, payload).data
    elseif not kind and payload == "ended" then
      break
    end
  end
  local result = machine:join()
  result.output = table.concat(output)
  return result
end

return tiny_guest
