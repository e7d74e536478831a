-- Kernel addresses: a type of their own, since a Lua number cannot hold one and LuaJIT's uint64_t is compared
-- and divided in ways that surprise.
local ffi = require "ffi"
local errors = require "ktstr.errors"

local address = {}

local u64, s64 = ffi.typeof "uint64_t", ffi.typeof "int64_t"
local cast, istype = ffi.cast, ffi.istype

--- For the text of a ctype that gets a metatable: another one each time in this process. A spec may load the
--- library, or a part of it, again, which then wants ctypes of its own: so they have no names, and busted,
--- which takes equal texts for one type and keeps its first metatable, sees different ones.
---@return string
function address.unique()
  local registry = debug.getregistry()
  local count = (registry["ktstr.ctypes"] or 0) + 1
  registry["ktstr.ctypes"] = count
  return ("ctype %d"):format(count)
end

-- named_: 1 of a symbol's, and of what was counted from there: such an address is meant as it is, see
-- memory.slot().
local Address = ffi.typeof(("struct { uint64_t value_; uint32_t named_; } /* %s */"):format(address.unique()))

-- The ctype of objects, whose address is in place_; kernel/memory.lua says it. Until then, for instance where
-- captures are read out of files, there are none.
local Object = ffi.typeof "struct { uint64_t place_; }"

local EXACT = 0x20000000000000 -- 2^53: from here on a Lua number is not exact
local U64_EXACT = 0x20000000000000ULL
local S64_EXACT = 0x20000000000000LL

---@class ktstr.Address : ffi.cdata* == + - < <= tostring() work; ktstr.num() does not
---@field key_ fun(self: ktstr.Address): number|string for tables: equal addresses have equal keys
local methods = {}

--- From a number that C wrote.
---@param value ffi.cdata*|number uint64_t
---@return ktstr.Address
function address.new(value)
  return Address(value)
end

--- Likewise, of a symbol.
---@param value ffi.cdata* uint64_t
---@return ktstr.Address
function address.of_symbol(value)
  return Address(value, 1)
end

---@param value ktstr.Address
---@return integer 1 of a symbol's; 0
function address.named(value)
  return value.named_
end

---@param value any
---@return boolean
function address.is(value)
  return istype(Address, value)
end

---@param ctype ffi.ctype*
function address.set_object(ctype)
  Object = ctype
end

--- An unsigned value for people and scripts: a Lua number where it is exact, else uint64_t.
---@param value ffi.cdata* uint64_t
---@return number|ffi.cdata*
function address.unsigned(value)
  if value < U64_EXACT then
    return tonumber(value)
  end
  return value
end

--- Likewise of a signed one.
---@param value ffi.cdata* int64_t
---@return number|ffi.cdata*
function address.signed(value)
  if value < S64_EXACT and value > -S64_EXACT then
    return tonumber(value)
  end
  return value
end

--- As people write addresses: 0xffff888003c2a000.
---@param value ffi.cdata* uint64_t
---@return string
function address.hex(value)
  return "0x" .. bit.tohex(value)
end

--- The number that hexadecimal digits stand for.
---@param digits string
---@return ffi.cdata* uint64_t
function address.parse(digits)
  local value = 0ULL
  for digit in digits:gmatch "%x" do
    value = value * 16 + tonumber(digit, 16)
  end
  return value
end

local function refuse(value)
  errors.raise("invalid", ("%s is not an address"):format(type(value) == "string" and ("'%s'"):format(value)
    or tostring(value)), "give an address, an object, or a number below 2^53")
end

--- What somebody gives for an address, as uint64_t: an address, an object, a number, a 64-bit cdata.
--- Raises "invalid".
---@param value any
---@return ffi.cdata* uint64_t
function address.raw(value)
  if istype(Address, value) then
    return value.value_
  elseif istype(Object, value) then
    return value.place_
  elseif istype(u64, value) then
    return value
  elseif istype(s64, value) then
    return cast(u64, value)
  elseif type(value) == "number" and value >= 0 and value < EXACT and value % 1 == 0 then
    return cast(u64, value)
  end
  return refuse(value)
end

--- A key for Lua's tables, where a cdata is only ever itself. Kernel addresses are small as signed numbers;
--- with 5-level paging some are not, and have a string.
---@param value ffi.cdata* uint64_t
---@return number|string
function address.key(value)
  local signed = cast(s64, value)
  if signed < S64_EXACT and signed > -S64_EXACT then
    return tonumber(signed)
  end
  return address.hex(value)
end

--- Whether raw() takes it.
---@param value any
---@return boolean
function address.is_place(value)
  return istype(Address, value) or istype(Object, value) or istype(u64, value) or istype(s64, value)
    or (type(value) == "number" and value >= 0 and value < EXACT and value % 1 == 0)
end

--- Addresses, objects and numbers in any order; nothing else equals an address. Objects of two machines are
--- never the same.
function address.equal(a, b)
  if istype(Object, a) and istype(Object, b) then
    return a.place_ == b.place_ and bit.bor(a.machine_, 1) == bit.bor(b.machine_, 1)
  end
  return address.is_place(a) and address.is_place(b) and address.raw(a) == address.raw(b)
end

local function less(a, b)
  return address.raw(a) < address.raw(b)
end

local function less_or_equal(a, b)
  return address.raw(a) <= address.raw(b)
end

-- A distance: negative ones too.
local function is_distance(value)
  return istype(u64, value) or istype(s64, value) or (type(value) == "number" and value % 1 == 0
    and value < EXACT and value > -EXACT)
end

local function distance(value)
  if not is_distance(value) then
    errors.raise("invalid", ("%s cannot be added to an address"):format(tostring(value)),
      "a whole number of bytes can")
  end
  return cast(s64, value)
end

local function add(a, b)
  if istype(Address, a) then
    return Address(a.value_ + distance(b), a.named_)
  end
  return Address(b.value_ + distance(a), b.named_)
end

--- Of objects: only among themselves and from addresses, since nobody could tell whether obj - 8 means bytes.
function address.difference(a, b)
  if (istype(Object, a) or istype(Address, a)) and (istype(Object, b) or istype(Address, b)) then
    return address.signed(cast(s64, address.raw(a) - address.raw(b)))
  end
  errors.raise("invalid", "of an object only another one, or an address, can be taken off",
    "obj:address_() - bytes is an address, obj[i] the next object of an array")
end

-- Two addresses: the bytes between them. An address and a number: another address.
local function subtract(a, b)
  if istype(Address, a) and is_distance(b) then
    return Address(a.value_ - distance(b), a.named_)
  end
  return address.difference(a, b)
end

function methods.key_(self)
  return address.key(self.value_)
end

local function index(_, name)
  local method = methods[name]
  if method then
    return method
  end
  errors.raise("invalid", ("an address has no '%s'"):format(tostring(name)),
    "k:object(type, address) makes an object of what is there")
end

local function concat(a, b)
  return tostring(a) .. tostring(b)
end

ffi.metatype(Address, {
  __index = index,
  __newindex = function(_, name)
    errors.raise("invalid", ("an address has no '%s' to write"):format(tostring(name)))
  end,
  __eq = address.equal,
  __lt = less,
  __le = less_or_equal,
  __add = add,
  __sub = subtract,
  __concat = concat,
  __tostring = function(self)
    return address.hex(self.value_)
  end,
})

return address
