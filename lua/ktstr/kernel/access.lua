-- What the helpers need of the layer below them: addresses as plain uint64_t, words of memory, places of
-- members. A walk over a list asks for the places once, and then does nothing but loads.
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
local memory = require "ktstr.kernel.memory"
local object = require "ktstr.kernel.object"
local values = require "ktstr.kernel.values"

local Object = memory.Object
local load = memory.load

local access = {}

--- The types of a kernel.
---@param k ktstr.Kernel
---@return ktstr.TypeSet
function access.types(k)
  return k:_types()
end

--- One of them, or one of a program's that is given as it is. Raises "not-found".
---@param k ktstr.Kernel
---@param type string|ktstr.Type
---@return ktstr.Type
function access.type(k, type)
  return values.resolve_type(access.types(k), type, k)
end

---@param k ktstr.Kernel
---@param type string
---@return boolean
function access.has_type(k, type)
  return access.types(k):find(type) ~= nil
end

-- Kept, with the type: a member is looked for by its name in C.
local function found_once(k, type, path, find)
  type = access.type(k, type)
  local known = type.offsets
  if not known then
    known = {}
    type.offsets = known
  end
  if known[path] == nil then
    known[path] = find(type, path)
  end
  return known[path]
end

local function find_offset(type, path)
  local bits, member = object.offset(type, path)
  return { bytes = bits / 8, type = member and member.type }
end

local function find_optional(type, path)
  local ok, found = pcall(find_offset, type, path)
  if not ok and not errors.is(found, "not-found") then
    error(found, 0) -- an interruption says nothing about the type
  end
  return ok and found
end

--- Bytes from the beginning of a struct to a member, which may be within others: "se.group_node". Raises
--- "not-found".
---@param k ktstr.Kernel
---@param type string|ktstr.Type
---@param path string
---@return integer
function access.offset(k, type, path)
  local found = found_once(k, type, path, find_optional)
  return found and found.bytes or find_offset(access.type(k, type), path).bytes
end

---@param k ktstr.Kernel
---@param type string|ktstr.Type
---@param path string
---@return boolean
function access.has(k, type, path)
  return found_once(k, type, path, find_optional) ~= false
end

--- The elements of a member that is an array.
---@param k ktstr.Kernel
---@param type string|ktstr.Type
---@param path string
---@return integer
function access.count(k, type, path)
  return access.has(k, type, path) and found_once(k, type, path, find_optional).type.count or 0
end

---@param k ktstr.Kernel
---@param type string|ktstr.Type
---@return integer
function access.size(k, type)
  return access.type(k, type).size
end

local SCALARS = { int = true, enum = true, float = true, pointer = true }

---@param type ktstr.Type
---@return boolean
function access.is_scalar(type)
  return SCALARS[type.kind] == true
end

--- The name of an enum's value; nil when it has none.
---@param k ktstr.Kernel
---@param type string
---@param value integer
---@return string|nil
function access.enum_name(k, type, value)
  local _, names = access.type(k, type):values()
  return names[value]
end

--- The value of a name of any enum; nil when the kernel does not know it.
---@param k ktstr.Kernel
---@param name string
---@return integer|nil
function access.enum_value(k, name)
  return access.types(k):value(name)
end

-- --- memory ---

--- What the functions below read through: it knows the machine, and the freeze that it was made in.
---@param k ktstr.Kernel
---@return ffi.cdata*
function access.memory(k)
  local void = values.handle(access.types(k):get "void", "plain")
  return Object(1, k._slot, void, memory.generation(k._slot), memory.origin "memory")
end

--- uint64_t, whatever it is. Raises "unmapped".
---@param m ffi.cdata*
---@param at ffi.cdata* uint64_t
---@return ffi.cdata*
function access.word(m, at)
  return load.word(m, nil, at)
end

--- The word that is a member of an object: where a pointer leads, also one that must not be followed.
---@param k ktstr.Kernel
---@param of ktstr.Object
---@param path string
---@return ffi.cdata* uint64_t
function access.member_word(k, of, path)
  return load.word(access.memory(k), nil, address.raw(of:member_(path)))
end

---@return integer
function access.u32(m, at)
  return load.u32(m, nil, at)
end

---@return integer
function access.s32(m, at)
  return load.s32(m, nil, at)
end

---@return integer
function access.byte(m, at)
  return load.u8(m, nil, at)
end

--- An address, an object's place or a number, as uint64_t. Raises "invalid".
access.address = address.raw

--- Likewise of what a script gives: an object has to be of this machine. Raises "stale", too.
---@param k ktstr.Kernel
---@param value any
---@return ffi.cdata* uint64_t
function access.place(k, value)
  return memory.place(k._slot, value)
end

--- uint64_t and int64_t as a script sees them.
access.number = address.unsigned
access.signed = address.signed
--- uint64_t as the address that it is.
access.pointer = address.new
access.is_object = object.is

--- A function that makes objects of a type from addresses (uint64_t).
---@param k ktstr.Kernel
---@param type string|ktstr.Type
---@return fun(at: ffi.cdata*): ktstr.Object
function access.maker(k, type)
  type = access.type(k, type)
  local slot, generation = k._slot, memory.generation(k._slot)
  local handle, origin = values.handle(type, "pointed"), memory.origin(type.name)
  return function(at)
    return Object(at, slot, handle, generation, origin)
  end
end

---@param k ktstr.Kernel
---@param type string|ktstr.Type
---@param at ffi.cdata* uint64_t
---@return ktstr.Object
function access.object(k, type, at)
  return access.maker(k, type)(at)
end

-- --- globals ---

--- Where a symbol lies, as uint64_t. Raises "not-found", "ambiguous".
---@param k ktstr.Kernel
---@param name string
---@return ffi.cdata*
function access.symbol(k, name)
  return address.raw(k:symbol(name))
end

--- Whether the image has such a symbol.
---@param k ktstr.Kernel
---@param name string
---@return boolean
function access.has_symbol(k, name)
  return k:_image_symbol(name) ~= nil
end

-- As access.memory(), for what is found by its name: see memory.slot().
local function named_memory(k)
  local void = values.handle(access.types(k):get "void", "plain")
  return Object(1, k._slot + 1, void, memory.generation(k._slot), memory.origin "memory")
end

--- A global of 8 bytes, whatever it is.
---@param k ktstr.Kernel
---@param name string
---@return ffi.cdata* uint64_t
function access.global_word(k, name)
  return load.word(named_memory(k), nil, access.symbol(k, name))
end

--- The struct that a global points to.
---@param k ktstr.Kernel
---@param name string
---@param type string of the struct
---@return ktstr.Object
function access.pointed(k, name, type)
  return access.object(k, type, access.global_word(k, name))
end

--- A global of 4 bytes; nil when there is none of that name.
---@param k ktstr.Kernel
---@param name string
---@return integer|nil
function access.global_u32(k, name)
  return access.has_symbol(k, name) and load.u32(named_memory(k), nil, access.symbol(k, name)) or nil
end

--- One CPU's part of what a per-CPU pointer or symbol stands for, as uint64_t.
---@param k ktstr.Kernel
---@param at ffi.cdata* uint64_t
---@param cpu integer
---@return ffi.cdata*
function access.per_cpu(k, at, cpu)
  return address.raw(k:per_cpu(address.new(at), cpu))
end

return access
