-- Machine code as text: what the crash utility's users know as `dis`.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local address = require "ktstr.kernel.address"
local c = require "ktstr.kernel.c"
local errors = require "ktstr.errors"
local lines = require "ktstr.kernel.lines"

local C = ffi.C

local disasm = {}

local PAGE = 4096
local LONGEST = 15
local MOST = 10000
local DEFAULT = 10

-- One for all machines, made when it is first wanted: that loads a library.
local disassembler

local function open()
  if not disassembler then
    local ret = ffi.new "struct disassembler *[1]"
    c.check(C.disassembler_create(ret))
    disassembler = ffi.gc(ret[0], C.disassembler_destroy)
  end
  return disassembler
end

---@class ktstr.Instruction
---@field address ktstr.Address
---@field length integer bytes
---@field bytes string
---@field text string "callq   0xffffffff81c3f2a0"; ".byte   0x06" for what is no instruction
---@field target ktstr.Address|nil where a direct jump or call goes
---@field memory ktstr.Address|nil the address of a rip-relative operand
---@field name string|nil of where the instruction lies: "schedule+0x1c"
---@field comment string|nil the name of its target or operand
---@field source ktstr.SourceLine|nil where a vmlinux with DWARF is to be had (k:line)

---@class ktstr.Disassembly : ktstr.Instruction[] tostring() is a line for each, after the source line that
--- it is of where that is another than before
local Disassembly = {}
Disassembly.__index = Disassembly

function Disassembly:__tostring()
  local shown, last = {}, nil
  for _, one in ipairs(self) do
    local source = one.source and tostring(one.source)
    if source and source ~= last then
      shown[#shown + 1] = source
    end
    last = source or last
    local place = one.name and ("<%s>"):format(one.name) or ""
    shown[#shown + 1] = ("%s %s:  %s%s"):format(tostring(one.address), place, one.text,
      one.comment and ("  <%s>"):format(one.comment) or "")
  end
  return table.concat(shown, "\n")
end

local function place_of(k, raw)
  if raw == 0ULL then
    return nil
  end
  return address.new(raw), k:name(address.new(raw))
end

local function code_of(one)
  return address.raw(one.address)
end

local function instruction(k, raw)
  local target, target_name = place_of(k, raw.target)
  local memory, memory_name = place_of(k, raw.memory)
  return {
    address = address.new(raw.address),
    name = k:name(address.new(raw.address)),
    length = raw.length,
    bytes = ffi.string(raw.bytes, raw.length),
    text = ffi.string(raw.text),
    target = target,
    memory = memory,
    comment = target_name or memory_name,
  }
end

-- As many bytes as are wanted, or as there are: code may end where its page does.
local function code_at(k, at, size)
  local ok, bytes = pcall(k.read, k, address.new(at), size)
  if ok then
    return bytes
  elseif not errors.is(bytes, "unmapped") then
    error(bytes, 0)
  end
  local left = PAGE - tonumber(at % PAGE)
  if size <= left then
    error(bytes, 0)
  end
  return code_at(k, at, left)
end

--- Instructions from an address on, as the guest has them in memory now: kernels change their own code.
--- Raises "unmapped", "not-found" and "ambiguous" for a name, "invalid" and "stale" for an object,
--- "unsupported" where libcapstone is missing.
---@param k ktstr.Kernel
---@param where string|ktstr.Address|ktstr.Object|number a function's name, or an address
---@param count integer|nil instructions; nil: 10
---@return ktstr.Disassembly
function disasm.disassemble(k, where, count)
  count = count or DEFAULT
  if type(count) ~= "number" or count % 1 ~= 0 or count < 1 or count > MOST then
    errors.raise("invalid", ("k:disassemble gives 1 to %d instructions, not %s"):format(MOST,
      tostring(count)))
  end
  local at = type(where) == "string" and access.symbol(k, where) or access.place(k, where)
  local bytes = code_at(k, at, count * LONGEST)
  local raw = ffi.new("struct instruction[?]", count)
  local list, instruction_type = {}, lines.late(k, code_of)
  for i = 1, C.disassembler_run(open(), bytes, #bytes, at, raw, count) do
    list[i] = setmetatable(instruction(k, raw[i - 1]), instruction_type)
  end
  return setmetatable(list, Disassembly)
end

return disasm
