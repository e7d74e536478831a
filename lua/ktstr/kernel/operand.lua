-- Where an operation on the kernel's memory is, and how much: from the names in an entry of vm:kernel_ops.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
local exact = require "ktstr.exact"
local field_path = require "ktstr.kernel.field_path"
local known = require "ktstr.kernel.known"
local memory = require "ktstr.kernel.memory"
local monitor_program = require "ktstr.kernel.monitor_program"
local options = require "ktstr.options"
local percpu = require "ktstr.kernel.percpu"
local values = require "ktstr.kernel.values"

local operand = {}

--- enum op_base of core/kernel/ops.h
operand.ADDRESS, operand.PER_CPU, operand.TASK = 0, 1, 2
local ADDRESS, PER_CPU, TASK = operand.ADDRESS, operand.PER_CPU, operand.TASK
local STEPS_MAX = 16 -- OPS_STEPS_MAX
local INDEX_MAX = 999999
local ALTERNATIVES_MAX = 8 -- each that is not there is looked for among all members, and guests may ask, too

local TYPES = {
  u8 = { size = 1 }, u16 = { size = 2 }, u32 = { size = 4 }, u64 = { size = 8 },
  s8 = { size = 1, is_signed = true }, s16 = { size = 2, is_signed = true },
  s32 = { size = 4, is_signed = true }, s64 = { size = 8, is_signed = true },
  bytes = { is_bytes = true },
}
local TYPE_NAMES = { "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "bytes" }
--- What an entry's type may be.
operand.types = TYPE_NAMES

---@class ktstr.KernelOp one entry: where, then what
---@field op "read"|"write"|"or"
---@field symbol string|nil where: a global, or a per-CPU variable
---@field cpu integer|nil of such a variable, and where a pointer on the way is per-CPU, a task's too: whose
---@field address ktstr.Address|ktstr.Object|number|nil or an address; an object has its type
---@field task integer|nil or the task with that pid; needs `field`
---@field field string|nil a path from there: "curr.pid", "args[2]", "[2].pid"; pointers are followed.
---  "a.b|a.c": the first that the kernel has
---@field struct string|nil what is at a symbol or an address, where the kernel does not say: "struct rq"
---@field type string|nil "u8" to "u64", "s8" to "s64", "bytes"; nil: what the kernel's types say
---@field length integer|nil of "bytes" that are read, where the type does not say it
---@field value any what is written: a number, uint64_t, an address, true or false; "bytes": a string. With
---  "or" the bits to set, of 32

local function invalid(format, ...)
  errors.raise("invalid", format:format(...))
end

--- What an entry is called in messages: "runqueues.nr_running of CPU 1".
---@param entry ktstr.KernelOp
---@return string
function operand.name(entry)
  local name = entry.symbol or entry.task and "task " .. entry.task
    or address.is_place(entry.address) and address.hex(address.raw(entry.address)) or "?"
  if entry.field then
    name = name .. (entry.field:sub(1, 1) == "[" and "" or ".") .. entry.field
  end
  return entry.cpu and ("%s of CPU %d"):format(name, entry.cpu) or name
end

-- --- from names to places ---

local function field_type(k, entry, found)
  if entry.struct then
    return values.resolve_type(k:_types(), entry.struct)
  end
  return found
end

local function symbol_base(k, entry)
  local is_percpu = function(symbol)
    return percpu.is_symbol(k, symbol)
  end
  local symbol = k:_symbol(entry.symbol, entry.cpu and is_percpu or nil)
  local of_cpu = is_percpu(symbol)
  if of_cpu and not entry.cpu then
    errors.raise("per-cpu", "it is per-CPU: each CPU has one of its own",
      "say which: cpu = 0; to ktstr-kernel: NAME@0")
  end
  local set = k._image.types
  local type = set and (set:variable(entry.symbol) or known.type_of(set, entry.symbol))
  return { kind = of_cpu and PER_CPU or ADDRESS, start = k:_place(symbol), type = field_type(k, entry, type) }
end

local function address_base(k, entry)
  local type = access.is_object(entry.address) and entry.address:type_() or nil
  return { kind = ADDRESS, start = memory.place(k._slot, entry.address), type = field_type(k, entry, type) }
end

local function task_base(k)
  return { kind = TASK, start = 0, type = k:_types():get "struct task_struct" }
end

local function base_of(k, entry)
  if (entry.symbol and 1 or 0) + (entry.address ~= nil and 1 or 0) + (entry.task and 1 or 0) ~= 1 then
    invalid("an entry is on one of symbol, address and task")
  elseif entry.task and not entry.field then
    invalid("which field of the task is not said")
  end
  return (entry.symbol and symbol_base or entry.task and task_base or address_base)(k, entry)
end

local PATH_HINT = "a path has names and indices: \"curr.pid\", \"args[2]\", \"[2].pid\"; of \"a|b\" it is "
  .. "the first that the kernel has"

-- A path's names and indices.
local function parts_of(path)
  local text = path:sub(1, 1) == "[" and path or "." .. path
  local parts, at = {}, 1
  repeat
    local step, after = field_path.step(text, at)
    local part = step and (step.name or step.index and step.index <= INDEX_MAX and step.index)
    if not part then
      errors.raise("invalid", ("'%s' is no path to a field"):format(path), PATH_HINT)
    end
    parts[#parts + 1] = part
    at = after
  until at > #text
  return parts
end

-- The way to a field, or to the first of alternatives that the kernel has.
local function walk(type, field)
  local alternatives, optional = field_path.alternatives(field)
  if optional or #alternatives == 0 then
    parts_of ""
  elseif #alternatives > ALTERNATIVES_MAX then
    invalid("a field has at most %d alternatives, not %d", ALTERNATIVES_MAX, #alternatives)
  end
  local ways = {}
  for _, one in ipairs(alternatives) do
    ways[one] = parts_of(one)
  end
  local at, failures = field_path.first(alternatives, function(one)
    return monitor_program.walk(type, ways[one])
  end)
  if not at and #failures == 1 then
    error(failures[1], 0)
  elseif not at then
    errors.raise("not-found", field_path.reasons(alternatives, failures), failures[#failures].hint)
  end
  return at
end

-- The word that a bit-field is in. To set bits by one instruction it has to be one of 32.
local function bit_field(base, entry, at)
  local d = values.describe(nil, nil, at.type, at.bits, at.field_bits)
  local field = { size = d.unit, shift = d.shift, bits = d.bits, is_signed = d.is_signed }
  base.offset = d.offset
  if entry.op == "or" then
    local start = math.floor(at.bits / 32) * 4
    field = { size = 4, shift = at.bits - start * 8, bits = at.field_bits }
    base.offset = start
    if field.shift + field.bits > 32 then
      invalid("bits are set in words of 32, and these %d are in two", field.bits)
    end
  end
  return field
end

-- Follows the field; what the operand is by the kernel's types, as far as they say it.
local function place_of(k, entry)
  local base = base_of(k, entry)
  if entry.field and not base.type then
    errors.raise("not-found", "nothing says of which type it is, so it has no fields",
      "say it: struct = \"struct ...\"")
  elseif not base.type then
    base.steps, base.offset = {}, 0
    return base
  end
  local at = entry.field and walk(base.type, entry.field) or monitor_program.walk(base.type, "")
  if #at.steps > STEPS_MAX then
    invalid("more than %d pointers on the way", STEPS_MAX)
  end
  base.steps, base.offset, base.what = at.steps, at.bits / 8, at.type
  base.field = at.field_bits > 0 and bit_field(base, entry, at) or nil
  return base
end

-- --- what is read and written ---

local SCALARS = { int = true, enum = true, pointer = true }

local function natural(type)
  if type and SCALARS[type.kind] and type.size <= 8 then
    return { size = type.size, is_signed = type.is_signed }
  elseif type and type.size > 0 then
    return { is_bytes = true, size = type.size }
  end
end

-- A word of so many bits as it lies in memory, as uint64_t.
local function to_word(value, bits)
  if type(value) == "boolean" then
    return value and 1ULL or 0ULL
  elseif address.is_place(value) and not ffi.istype("int64_t", value) then
    value = address.raw(value)
  elseif type(value) == "number" and value % 1 == 0 and value >= -2 ^ 53 and value < 0 then
    value = ffi.cast("int64_t", value)
  elseif not ffi.istype("int64_t", value) then
    invalid("%s is no value for a word", options.show(value))
  end
  local word = ffi.cast("uint64_t", value)
  local above = bits == 64 and 0LL or bit.arshift(ffi.cast("int64_t", word), bits)
  local is_negative = bits < 64 and bit.arshift(ffi.cast("int64_t", word), bits - 1) == -1LL
  if above ~= 0 and not is_negative then
    invalid("%s does not fit into %d bits", exact.show(value), bits)
  end
  return word
end

-- Which type the entry reads or writes: size, is_signed, is_bytes.
local function kind_of(entry, what, field)
  if field and (entry.type or entry.length) then
    invalid("it is a bit-field of %d bits, which has no type or length of its own", field.bits)
  elseif field then
    return field
  end
  local own = natural(what)
  local wanted = entry.type and (TYPES[entry.type] or invalid("there is no type '%s', only %s", entry.type,
    table.concat(TYPE_NAMES, ", "))) or own
  if entry.op == "or" then
    wanted = entry.type and wanted or TYPES.u32
    if wanted.size ~= 4 then
      invalid("bits are set in words of 32, not in %s", entry.type)
    end
  end
  if not wanted and (entry.length or type(entry.value) == "string") then
    wanted = TYPES.bytes
  end
  if not wanted then
    errors.raise("not-found", "nothing says how many bytes it has", "say it: type = \"u32\"")
  elseif own and not wanted.is_bytes and own.size ~= wanted.size then
    invalid("it is a %s of %d bytes, and not of %d", what.name, own.size, wanted.size)
  end
  return wanted, own
end

-- How many bytes an entry of bytes has.
local function byte_count(entry, own)
  local count = entry.length or own and own.size
  if entry.op == "write" then
    if type(entry.value) ~= "string" then
      errors.raise("invalid", "it is bytes, which are written as a string",
        "value = \"...\"; to ktstr-kernel: PLACE:bytes and hexadecimal digits")
    end
    count = #entry.value
  end
  if not count or count == 0 then
    invalid("how many bytes is not said: length = 16")
  elseif own and count > own.size then
    invalid("it has %d bytes, and not %d", own.size, count)
  end
  return count
end

local function check_value(entry)
  if (entry.value ~= nil) ~= (entry.op ~= "read") then
    invalid(entry.op == "read" and "a read takes no value" or "the value is missing")
  elseif entry.length and entry.op ~= "read" then
    invalid("only a read has a length")
  end
end

-- A variable is per-CPU, or a pointer on the way is.
local function check_cpu(one)
  one.needs_cpu = one.kind == PER_CPU
  for _, step in ipairs(one.steps) do
    one.needs_cpu = one.needs_cpu or step.per_cpu or false
  end
  if one.needs_cpu and not one.entry.cpu then
    errors.raise("per-cpu", "a pointer on the way is per-CPU: each CPU has its own",
      "say which: cpu = 0; to ktstr-kernel: PLACE@0")
  elseif one.entry.cpu and not one.needs_cpu then
    invalid("it is not per-CPU, and no pointer on the way is")
  end
end

---@class ktstr.Operand
---@field entry ktstr.KernelOp
---@field kind integer ADDRESS, PER_CPU, TASK
---@field start ffi.cdata*|number uint64_t
---@field steps { offset: integer, per_cpu: boolean|nil }[] pointers to follow
---@field offset integer from where they lead
---@field size integer
---@field is_bytes boolean|nil
---@field is_signed boolean|nil
---@field field { shift: integer, bits: integer }|nil a bit-field in that word
---@field value ffi.cdata*|nil uint64_t: to write, or set
---@field needs_cpu boolean

--- An entry with its place and its kind. Raises what is wrong with it.
---@param k ktstr.Kernel
---@param entry ktstr.KernelOp
---@return ktstr.Operand
function operand.resolve(k, entry)
  check_value(entry)
  local one = place_of(k, entry)
  local kind, own = kind_of(entry, one.what, one.field)
  one.entry, one.is_bytes, one.is_signed = entry, kind.is_bytes, kind.is_signed
  one.size = kind.is_bytes and byte_count(entry, own) or kind.size
  if entry.op ~= "read" and not one.is_bytes then
    one.value = to_word(entry.value, kind.bits or one.size * 8)
    if one.what and one.what.is_bool and one.value > 1 then
      invalid("%s is neither true nor false", exact.show(entry.value))
    end
  end
  check_cpu(one)
  return one
end

return operand
