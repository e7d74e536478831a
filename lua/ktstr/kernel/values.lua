-- How the values of each type are read and written: a descriptor for each member, element and variable, with
-- the functions for it.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
local known = require "ktstr.kernel.known"
local memory = require "ktstr.kernel.memory"

local Object = memory.Object
local load, pointed_slot = memory.load, memory.pointed_slot

local values = {}

-- What a handle stands for is held by its type, and that by its set: of a kernel that has gone there is
-- nothing here, and an object that is left has no members.
local function held_elsewhere(missing)
  return setmetatable({}, { __mode = "v", __index = missing })
end

local NONE = {}

--- By handle, a number that stands for a type and how an object of it came about: names to descriptors; the
--- descriptor of elements (false: there are none); { type=, pointed=, percpu= }, nil: the kernel has gone.
values.fields = held_elsewhere(function()
  return NONE
end)
values.elements, values.handles = held_elsewhere(), held_elsewhere()
local fields, elements, handles = values.fields, values.elements, values.handles
local last_handle = 0 -- none is used again: an object of another kernel may still have it

--- The handle of a type. "plain": it is a part of something; "pointed": behind a pointer, and may be followed
--- by more of its kind; "percpu": behind a per-CPU pointer, so nothing can be read there.
---@param type ktstr.Type
---@param how "plain"|"pointed"|"percpu"
---@return integer
function values.handle(type, how)
  local of = type.handles
  if not of then
    of = {}
    type.handles = of
  end
  local one = of[how]
  if not one then
    last_handle = last_handle + 1
    one = { number = last_handle, type = type, fields = {} }
    one.pointed, one.percpu = how == "pointed", how == "percpu"
    handles[last_handle], fields[last_handle] = one, one.fields
    of[how] = one
  end
  return one.number
end

-- The kernel's set of types that one is, or goes on from; nil of a program's own.
local function kernel_set(set)
  set = set.base or set
  return set.is_kernel and set or nil
end

--- A type by its name, or as it is given. Raises "invalid" for one of another kernel.
---@param set ktstr.TypeSet
---@param type string|ktstr.Type
---@param k ktstr.Kernel|nil which is going to have objects of it: the type lasts as long
---@return ktstr.Type
function values.resolve_type(set, type, k)
  if _G.type(type) ~= "table" or not type.set then
    return set:get(type)
  end
  local ours, its = kernel_set(set), kernel_set(type.set)
  if ours and its and ours ~= its then
    errors.raise("invalid", ("the type %s is another kernel's, and may lie differently in this one"):format(
      type.name), ("by name it is this one's: \"%s\""):format(type.name))
  end
  if k and type.set ~= k._image.types then
    k._guests[type.set] = true
  end
  return type
end

-- A descriptor:
--   name, owner    of a member: "curr" of the type struct rq
--   type, size     of the value
--   offset         bytes from the object's place
--   read(self, d, place), write(self, d, place, value)
--   handle         of the objects that it leads to
--   origin         what these are called: "struct rq.curr"
--   bits, shift    of a bit-field, in the word that load() reads

---@class ktstr.Descriptor : table

-- --- reading ---

local function embedded(self, d, place)
  return Object(place, self.machine_, d.handle, self.generation_, d.origin)
end

-- A NULL that knows how it was reached.
local function null(self, d)
  local before, name = memory.origin_text(self.origin_), d.name
  local text = before ~= "" and name and before .. "." .. name or memory.origin_text(d.origin)
  return Object(0, self.machine_, d.handle, 0, memory.origin(text))
end

local function read_pointer(self, d, place)
  local to = load.word(self, d, place)
  if to == 0ULL then
    return null(self, d)
  end
  local slot = pointed_slot(self.machine_)
  return Object(to, slot, d.handle, memory.generation(slot), d.origin)
end

local function read_address(self, d, place)
  return address.new(load.word(self, d, place))
end

local function read_text(self, d, place)
  return memory.text(self, d, place, d.size)
end

local function read_bool(self, d, place)
  return load.u8(self, d, place) ~= 0
end

local function read_enum(self, d, place)
  local value = d.load(self, d, place)
  return d.names[type(value) == "number" and value or address.hex(value)] or value
end

-- Of a word below 2^53, in plain numbers.
local function bits_of_number(d, word)
  local value = math.floor(word / d.scale) % d.modulus
  if d.is_signed and value >= d.modulus / 2 then
    return value - d.modulus
  end
  return value
end

local function bits_of_word(d, word)
  local value = bit.rshift(bit.lshift(ffi.cast("uint64_t", word), 64 - d.shift - d.bits), 64 - d.bits)
  if d.is_signed then
    return address.signed(bit.arshift(bit.lshift(ffi.cast("int64_t", value), 64 - d.bits), 64 - d.bits))
  end
  return address.unsigned(value)
end

local function read_bits(self, d, place)
  local value
  if d.unit == 8 then
    value = bits_of_word(d, load.word(self, d, place))
  else
    value = bits_of_number(d, d.load(self, d, place))
  end
  if d.is_bool then
    return value ~= 0
  end
  return d.names and d.names[value] or value
end

local function read_nothing(_, d)
  errors.raise("unsupported", ("a value of type %s cannot be read as one"):format(d.type.name),
    ("k:read(obj:member_(...):address_(), %d) reads its bytes"):format(d.size))
end

-- --- writing ---

local function describe_name(d)
  return d.name and d.owner.name .. "." .. d.name or d.type.name
end

local function refuse_value(d, value, wanted)
  errors.raise("invalid", ("%s: %s is not %s"):format(describe_name(d), type(value) == "string"
    and ("'%s'"):format(value) or tostring(value), wanted))
end

local function is_word(value)
  return ffi.istype("uint64_t", value) or ffi.istype("int64_t", value)
end

-- What fits into so many bits, as uint64_t in two's complement.
local function to_word(d, value, bits)
  local low, high = 0, 2 ^ bits
  if d.is_signed then
    low, high = -high / 2, high / 2
  end
  local wanted = ("a whole number from %.0f to %.0f"):format(low, bits < 54 and high - 1 or high)
  if type(value) == "number" then
    if value % 1 ~= 0 or value < low or value >= high or math.abs(value) > 2 ^ 53 then
      refuse_value(d, value, wanted)
    end
    return value < 0 and ffi.cast("uint64_t", ffi.cast("int64_t", value)) or ffi.cast("uint64_t", value)
  elseif not is_word(value) then
    refuse_value(d, value, wanted)
  end
  local word = ffi.cast("uint64_t", value)
  local rest = d.is_signed and bit.arshift(ffi.cast("int64_t", word), bits - 1) or bits < 64
    and bit.rshift(word, bits) or 0ULL
  if not (rest == 0 or d.is_signed and rest == -1LL) then
    refuse_value(d, value, wanted)
  end
  return word
end

local function write_int(self, d, place, value)
  memory.store(self, d, place, d.size, to_word(d, value, d.size * 8))
end

local function from_bool(d, value)
  if value == true or value == 1 then
    return 1
  elseif value == false or value == 0 then
    return 0
  end
  return refuse_value(d, value, "true or false")
end

local function write_bool(self, d, place, value)
  memory.store(self, d, place, 1, from_bool(d, value))
end

local function from_enum(d, value)
  if type(value) ~= "string" then
    return value
  end
  local found = d.type:values()[value]
  if not found then
    local names = {}
    for name in pairs(d.type:values()) do
      names[#names + 1] = name
    end
    errors.raise("invalid", ("%s: %s has no value '%s'"):format(describe_name(d), d.type.name, value),
      require("ktstr.nearest").hint(value, names))
  end
  return found
end

local function write_enum(self, d, place, value)
  write_int(self, d, place, from_enum(d, value))
end

local function write_float(self, d, place, value)
  if type(value) ~= "number" then
    refuse_value(d, value, "a number")
  end
  local raw = d.size == 4 and ffi.new("float[1]", value) or ffi.new("double[1]", value)
  memory.store_bytes(self, d, place, ffi.string(raw, d.size))
end

local function write_pointer(self, d, place, value)
  if not address.is_place(value) then
    refuse_value(d, value, "an address, an object or k.null")
  end
  if ffi.istype(Object, value) and pointed_slot(value.machine_) ~= pointed_slot(self.machine_) then
    refuse_value(d, value, "of this machine")
  end
  memory.store(self, d, place, 8, address.raw(value))
end

local function write_text(self, d, place, value)
  if type(value) ~= "string" then
    refuse_value(d, value, "a string")
  elseif #value >= d.size then
    refuse_value(d, value, ("a string of at most %d bytes, which leaves room for its NUL"):format(d.size - 1))
  end
  memory.store_bytes(self, d, place, value .. ("\0"):rep(d.size - #value))
end

local function write_bits(self, d, place, value)
  memory.check_frozen(self, d, place, "a bit-field shares its word with others, and cannot be written at "
    .. "once while the machine runs")
  if d.is_bool then
    value = from_bool(d, value)
  elseif d.names then
    value = from_enum(d, value)
  end
  local mask = bit.lshift(bit.rshift(-1ULL, 64 - d.bits), d.shift)
  local word = ffi.cast("uint64_t", d.load_word(self, d, place))
  local new = bit.band(bit.lshift(to_word(d, value, d.bits), d.shift), mask)
  memory.store(self, d, place, d.unit, bit.bor(bit.band(word, bit.bnot(mask)), new))
end

local function write_nothing(_, d)
  errors.raise("invalid", ("%s is a %s, which is not written as a whole"):format(describe_name(d),
    d.type.name), "write its members, or bytes with k:write(address, bytes)")
end

-- --- which of these a type needs ---

local function int_loader(size, is_signed)
  return load[(is_signed and "s" or "u") .. size * 8]
end

local function describe_bits(d, bit_offset, bits)
  local unit = math.min(d.size, 8)
  local start = math.floor(bit_offset / (unit * 8)) * unit
  if bit_offset - start * 8 + bits > unit * 8 then
    -- Packed: across its units.
    unit, start = 8, math.floor(bit_offset / 8)
  end
  d.offset, d.unit, d.bits, d.shift = start, unit, bits, bit_offset - start * 8
  d.scale, d.modulus = 2 ^ d.shift, 2 ^ bits
  d.load = int_loader(unit, false)
  d.load_word = unit == 8 and load.word or d.load
  d.read, d.write = read_bits, write_bits
end

local describers = {}

function describers.int(d)
  if d.is_bool and d.size == 1 then
    d.read, d.write = read_bool, write_bool
  elseif int_loader(d.size, d.is_signed) then
    d.read, d.write = int_loader(d.size, d.is_signed), write_int
  end
end

function describers.float(d)
  local read = load["f" .. d.size * 8]
  if read then
    d.read, d.write = read, write_float
  end
end

function describers.enum(d)
  d.load = int_loader(d.size, d.is_signed)
  local _
  _, d.names = d.type:values()
  if d.load then
    d.read, d.write = read_enum, write_enum
  end
end

function describers.pointer(d)
  local target = d.type:target()
  d.write = write_pointer
  if d.type.is_percpu or d.owner and d.name and known.is_percpu(d.owner.name, d.name, target.name) then
    d.read, d.handle = read_pointer, values.handle(target, "percpu")
  elseif target.kind == "void" or target.kind == "function" then
    d.read = read_address
  else
    d.read, d.handle = read_pointer, values.handle(target, "pointed")
  end
end

function describers.array(d)
  local target = d.type:target()
  if target.is_char and d.size > 0 then
    d.read, d.write = read_text, write_text
  else
    d.read, d.handle = embedded, values.handle(d.type, "plain")
  end
end

function describers.struct(d)
  d.read, d.handle = embedded, values.handle(d.type, "plain")
end

describers.union = describers.struct

--- A descriptor of a value of some type.
---@param owner ktstr.Type|nil whose member it is
---@param name string|nil
---@param type ktstr.Type
---@param bit_offset number from the owner's first bit
---@param bits number of a bit-field; 0
---@param origin string|nil what objects that it leads to are called; nil: "struct rq.curr"
---@return ktstr.Descriptor
function values.describe(owner, name, type, bit_offset, bits, origin)
  local d = {
    name = name,
    owner = owner,
    type = type,
    size = type.size,
    offset = bit_offset / 8,
    is_signed = type.is_signed,
    is_bool = type.is_bool,
    read = read_nothing,
    write = write_nothing,
    handle = values.handle(type, "plain"),
    origin = memory.origin(origin or owner and owner.name .. "." .. name or type.name),
  }
  local describer = describers[type.kind]
  if describer then
    describer(d)
  end
  if bits > 0 then
    describe_bits(d, bit_offset, bits)
  end
  return d
end

local FAR = 2 ^ 31

local function describe_element(handle)
  local type = handle.type
  if handle.percpu or type.kind == "void" or type.kind == "function" or type.kind == "forward" then
    return false
  elseif type.kind == "array" then
    local target = type:target()
    local d = values.describe(nil, nil, target, 0, 0, type.name .. "[]")
    d.first, d.count, d.stride = 0, type.count > 0 and type.count or FAR, target.size
    return d
  elseif handle.pointed or not type:has_members() then
    local d = values.describe(nil, nil, type, 0, 0)
    d.first, d.count = handle.pointed and -FAR or 0, handle.pointed and FAR or 1
    d.stride = type.size
    if handle.pointed and type:has_members() then
      d.handle = values.handle(type, "pointed")
    end
    return d
  end
  return false
end

--- The descriptor of the elements of what a handle stands for, kept; false: there are none.
---@param handle integer
---@return ktstr.Descriptor|false
function values.describe_elements(handle)
  local one = handles[handle]
  one.elements = describe_element(one)
  elements[handle] = one.elements
  return one.elements
end

--- What a descriptor describes, as an object, whatever its type.
---@param self ffi.cdata*
---@param d ktstr.Descriptor
---@param place ffi.cdata* uint64_t
---@return ktstr.Object
function values.part(self, d, place)
  return Object(place, self.machine_, values.handle(d.type, "plain"), self.generation_, d.origin)
end

return values
