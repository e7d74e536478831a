-- Objects: what lies at an address, with a type. obj.field, obj[i], obj:method_(), and the same for writing.
--
-- All objects are of one ctype (kernel/memory.lua). What a field's name means is looked up once for each
-- type and kept as a descriptor in a Lua table; after that a read is two table lookups, which LuaJIT's
-- compiler does once for a loop, and a load.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
local memory = require "ktstr.kernel.memory"
local values = require "ktstr.kernel.values"

local cast, istype = ffi.cast, ffi.istype
local Object = memory.Object

local object = {}

-- By handle: the names of a type to descriptors; what its elements are (false: it has none); itself.
local fields, elements, handles = values.fields, values.elements, values.handles

---@class ktstr.Object : ffi.cdata* its fields are the struct's members
local methods = {}

--- The methods by name: other parts may add some.
object.methods = methods

local function handle_of(self)
  return handles[self.handle_] or memory.raise_ended(self.machine_)
end

local function type_of(self)
  return handle_of(self).type
end

local function chain_of(self)
  local chain = memory.origin_text(self.origin_)
  return chain ~= "" and chain or type_of(self).name
end

-- --- resolving names ---

local function raise_no_member(self, name)
  local type = type_of(self)
  if not type:has_members() then
    local hint
    if type.kind == "array" or handle_of(self).pointed then
      hint = "obj[0] is the first of what is there"
    end
    errors.raise("not-found", ("%s is of type %s, which has no members, and so no '%s'"):format(
      chain_of(self), type.name, tostring(name)), hint)
  end
  errors.raise("not-found", ("%s has no member '%s'"):format(type.name, tostring(name)))
end

-- The descriptor of a member, made and kept. Raises "not-found" with the names that there are.
local function resolve(self, name)
  local handle = handle_of(self)
  if handle.percpu then
    memory.raise_percpu(self.place_, chain_of(self))
  end
  if type(name) ~= "string" or not handle.type:has_members() then
    raise_no_member(self, name)
  end
  local member = handle.type:member(name)
  local d = values.describe(handle.type, name, member.type, member.offset, member.bits)
  fields[self.handle_][name] = d
  return d
end

local function raise_bounds(self, i, e)
  local name = chain_of(self)
  if type(i) ~= "number" or i % 1 ~= 0 then
    errors.raise("invalid", ("%s[%s]: an index is a whole number"):format(name, tostring(i)))
  end
  errors.raise("invalid", ("%s[%d]: its type is %s, so the index is from 0 to %d"):format(name, i,
    type_of(self).name, e.count - 1))
end

local function element_of(self, i)
  local e = elements[self.handle_]
  if e == nil then
    handle_of(self)
    e = values.describe_elements(self.handle_)
  end
  if not e then
    local handle = handle_of(self)
    if handle.percpu then
      memory.raise_percpu(self.place_, chain_of(self))
    end
    errors.raise("invalid", ("%s is of type %s, which is neither an array nor behind a pointer"):format(
      chain_of(self), handle.type.name), ("there is no [%s]"):format(tostring(i)))
  end
  if i < e.first or i >= e.count or i % 1 ~= 0 then
    raise_bounds(self, i, e)
  end
  return e
end

-- An element's address. Of the sum of a uint64_t and a negative number LuaJIT makes what the processor does.
local function place_at(self, i, e)
  return self.place_ + cast("int64_t", i * e.stride)
end

local function index(self, key)
  local d = fields[self.handle_][key]
  if d then
    return d.read(self, d, self.place_ + d.offset)
  end
  local method = methods[key]
  if method then
    return method
  end
  if type(key) == "number" then
    local e = element_of(self, key)
    return e.read(self, e, place_at(self, key, e))
  end
  d = resolve(self, key)
  return d.read(self, d, self.place_ + d.offset)
end

local function set_index(self, key, value)
  local d, place
  if type(key) == "number" then
    d = element_of(self, key)
    place = place_at(self, key, d)
  else
    d = fields[self.handle_][key] or resolve(self, key)
    place = self.place_ + d.offset
  end
  d.write(self, d, place, value)
end

-- --- paths ---

local paths = {}

-- "a.b[3].c" as { "a", "b", 3, "c" }.
local function parse_path(path)
  local steps = paths[path]
  if steps then
    return steps
  elseif type(path) ~= "string" or path == "" then
    errors.raise("invalid", ("a member is named by a string, not by %s"):format(tostring(path)))
  end
  steps = {}
  for name, indices in path:gmatch "([^%.%[%]]+)([%[%]%d]*)%.?" do
    steps[#steps + 1] = name
    for i in indices:gmatch "%[(%d+)%]" do
      steps[#steps + 1] = tonumber(i)
    end
  end
  paths[path] = steps
  return steps
end

-- Follows all steps of a path but the last, which it returns beside the object where that is looked up.
local function follow(self, path)
  local steps = parse_path(path)
  local at = self
  for i = 1, #steps - 1 do
    at = index(at, steps[i])
    if not istype(Object, at) then
      errors.raise("invalid", ("%s: '%s' is a value, which has no '%s'"):format(path, steps[i], steps[i + 1]))
    end
  end
  return at, steps[#steps]
end

--- A member by its path: obj:get_ "se.cfs_rq", also of names that are Lua's own or a method's.
---@param path string "a.b", "a[2].b"
---@return any
function methods:get_(path)
  local at, name = follow(self, path)
  if type(name) == "number" then
    return index(at, name)
  end
  local d = fields[at.handle_][name] or resolve(at, name)
  return d.read(at, d, at.place_ + d.offset)
end

--- Writes a member by its path; as obj.field = value.
---@param path string
---@param value any
function methods:set_(path, value)
  local at, name = follow(self, path)
  set_index(at, name, value)
end

--- Where a member lies, as an object of its own: for its address, or to pass it on. What it is worth, when it
--- is a number, is its [0].
---@param path string
---@return ktstr.Object
function methods:member_(path)
  local at, name = follow(self, path)
  if type(name) == "number" then
    local e = element_of(at, name)
    return values.part(at, e, place_at(at, name, e))
  end
  local d = fields[at.handle_][name] or resolve(at, name)
  if d.bits then
    errors.raise("invalid", ("%s.%s is a bit-field, which has no address"):format(type_of(at).name, name))
  end
  return values.part(at, d, at.place_ + d.offset)
end

--- Whether there is such a member.
---@param path string
---@return boolean
function methods:has_(path)
  local type = type_of(self)
  for _, step in ipairs(parse_path(path)) do
    if step ~= "" and type.kind == "pointer" then
      type = type:target()
    end
    if tonumber(step) then
      if type.kind ~= "array" or step >= type.count then
        return false
      end
      type = type:target()
    else
      local member = type:find_member(step)
      if not member then
        return false
      end
      type = member.type
    end
  end
  return true
end

-- --- what an object is ---

---@return ktstr.Address
function methods:address_()
  if bit.band(self.machine_, 1) ~= 0 then
    return address.of_symbol(self.place_)
  end
  return address.new(self.place_)
end

---@return ktstr.Type tostring() of it is the definition; .name, .size, :members()
function methods:type_()
  return type_of(self)
end

--- A key for Lua's tables: objects at the same address have the same, of whatever type.
---@return number|string
function methods:key_()
  return address.key(self.place_)
end

local function set_of(self)
  return type_of(self).set
end

--- The same place with another type.
---@param type string|ktstr.Type
---@return ktstr.Object
function methods:cast_(type)
  local wanted = values.resolve_type(set_of(self), type, memory.kernel(self))
  return Object(self.place_, self.machine_, values.handle(wanted, "pointed"), self.generation_, self.origin_)
end

--- Bytes and bits of a member by its path through embedded structs and arrays. Raises "not-found".
---@param type ktstr.Type
---@param path string
---@return number bits, ktstr.Member member
function object.offset(type, path)
  local offset, member = 0, nil
  for _, step in ipairs(parse_path(path)) do
    if tonumber(step) then
      local element = type:target()
      offset, type = offset + step * element.size * 8, element
    else
      member = type:member(step)
      offset, type = offset + member.offset, member.type
    end
  end
  return offset, member
end

local function new_container(k, set, type, path)
  local outer = values.resolve_type(set, type, k)
  local offset, member = object.offset(outer, path)
  if member and member.bits > 0 then
    errors.raise("invalid", ("%s.%s is a bit-field, which has no address"):format(outer.name, path))
  end
  local one = {
    offset = offset / 8,
    handle = values.handle(outer, "pointed"),
    origin = memory.origin(outer.name),
    name = outer.name,
  }
  set.containers[type] = set.containers[type] or {}
  set.containers[type][path] = one
  return one
end

--- The struct that this object is a member of: node:container_of_("struct task_struct", "tasks").
---@param type string|ktstr.Type
---@param path string
---@return ktstr.Object
function methods:container_of_(type, path)
  local set = set_of(self)
  local of_type = set.containers[type]
  local one = of_type and of_type[path] or new_container(memory.kernel(self), set, type, path)
  if self.place_ == 0ULL then
    errors.raise("null", ("%s is NULL, so it is in no %s"):format(chain_of(self), one.name),
      "compare it with k.null before it is followed")
  end
  return Object(self.place_ - one.offset, self.machine_, one.handle, self.generation_, one.origin)
end

-- --- as text and in operators ---

local function length(self)
  local type = type_of(self)
  if type.kind ~= "array" then
    errors.raise("invalid", ("%s is of type %s, whose length nobody knows"):format(chain_of(self), type.name))
  end
  return type.count
end

local function concat(a, b)
  return tostring(a) .. tostring(b)
end

ffi.metatype(Object, {
  __index = index,
  __newindex = set_index,
  __eq = address.equal,
  __len = length,
  __concat = concat,
  __sub = address.difference,
  __tostring = function(self)
    return require("ktstr.kernel.show").text(self)
  end,
})

---@param value any
---@return boolean
function object.is(value)
  return istype(Object, value)
end

--- The index function, for what reads members by steps of its own.
object.index = index

return object
