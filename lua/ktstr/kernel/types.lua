-- The types of a kernel in Lua: k.types["struct rq"]. C finds and describes them (core/kernel/types.h); here
-- each has a table, made when it is first asked for and kept as long as the kernel's image is.
local ffi = require "ffi"
local c = require "ktstr.kernel.c"
local errors = require "ktstr.errors"

local C = ffi.C

local types = {}

local VOID = 0 -- its id

local KINDS = {
  [tonumber(C.TYPE_VOID)] = "void",
  [tonumber(C.TYPE_INT)] = "int",
  [tonumber(C.TYPE_FLOAT)] = "float",
  [tonumber(C.TYPE_POINTER)] = "pointer",
  [tonumber(C.TYPE_ARRAY)] = "array",
  [tonumber(C.TYPE_STRUCT)] = "struct",
  [tonumber(C.TYPE_UNION)] = "union",
  [tonumber(C.TYPE_ENUM)] = "enum",
  [tonumber(C.TYPE_FORWARD)] = "forward",
  [tonumber(C.TYPE_FUNCTION)] = "function",
  [tonumber(C.TYPE_VARIABLE)] = "variable",
}

---@class ktstr.Type
---@field name string as C writes it: "struct rq *"
---@field kind "void"|"int"|"float"|"pointer"|"array"|"struct"|"union"|"enum"|"forward"|"function"
---@field size number bytes; 0 for a flexible array and what is only declared
---@field count number of members, elements, values or parameters
---@field is_signed boolean
---@field is_bool boolean
---@field is_char boolean
---@field is_percpu boolean a pointer that the types themselves mark as per-CPU
---@field set table whose it is
---@field id integer its number there
local Type = {}
Type.__index = Type

local function flag(flags, one)
  return bit.band(flags, tonumber(one)) ~= 0
end

local function text_of(call, set, id)
  return c.text(function(buf)
    return call(set.handle, id, buf)
  end)
end

local function new_type(set, id)
  local info = ffi.new "struct type_info"
  c.check(C.types_info(set.handle, id, info))
  return setmetatable({
    set = set,
    id = id,
    own_id = info.id,
    kind = KINDS[tonumber(info.kind)],
    name = id == VOID and "void" or text_of(C.types_name, set, id),
    size = tonumber(info.size),
    count = info.count,
    target_id = info.target,
    is_signed = flag(info.flags, C.TYPE_SIGNED),
    is_bool = flag(info.flags, C.TYPE_BOOL),
    is_char = flag(info.flags, C.TYPE_CHAR),
    is_percpu = flag(info.flags, C.TYPE_PERCPU),
  }, Type)
end

--- What a pointer points to, an array's elements, what a function returns.
---@return ktstr.Type
function Type:target()
  local target = self.made_of
  if not target then
    target = self.set:type(self.target_id)
    self.made_of = target
  end
  return target
end

---@return boolean whether it has members
function Type:has_members()
  return self.kind == "struct" or self.kind == "union"
end

---@class ktstr.Member
---@field name string "" for an anonymous struct or union
---@field type ktstr.Type
---@field offset number bits from the struct's first
---@field bits number of a bit-field, else 0

local function member_of(set, raw)
  return {
    name = ffi.string(raw.name),
    type = set:type(raw.type),
    offset = tonumber(raw.offset),
    bits = raw.bits,
  }
end

--- Its members in their order, anonymous ones among them.
---@return ktstr.Member[]
function Type:members()
  local list, raw = {}, ffi.new "struct type_member"
  for i = 0, (self:has_members() and self.count or 0) - 1 do
    c.check(C.types_get_member(self.set.handle, self.own_id, i, raw))
    list[#list + 1] = member_of(self.set, raw)
  end
  return list
end

--- A member by name, also one inside anonymous members. Raises "not-found" with those that there are.
---@param name string
---@return ktstr.Member
function Type:member(name)
  if not self:has_members() then
    errors.raise("not-found", ("%s has no members, and so no '%s'"):format(self.name, name),
      self.kind == "forward" and "its definition is in a module or a program; obj:cast_ gives it another type"
        or nil)
  end
  local raw = ffi.new "struct type_member"
  c.check(C.types_find_member(self.set.handle, self.own_id, name, raw))
  local member = member_of(self.set, raw)
  member.name = name
  return member
end

--- The same, or nil where there is none.
---@param name string
---@return ktstr.Member|nil
function Type:find_member(name)
  local ok, member = pcall(self.member, self, name)
  if ok then
    return member
  elseif not errors.is(member, "not-found") then
    error(member, 0)
  end
end

--- The names of all members that can be read by name.
---@return string[]
function Type:member_names()
  local names = {}
  for _, member in ipairs(self:members()) do
    if member.name ~= "" then
      names[#names + 1] = member.name
    else
      for _, name in ipairs(member.type:member_names()) do
        names[#names + 1] = name
      end
    end
  end
  return names
end

-- Of an enum's value, as C has it: the upper half of an unsigned 64-bit enum's is negative there.
local function number(value, is_signed)
  local address = require "ktstr.kernel.address"
  if is_signed then
    return address.signed(value)
  end
  return address.unsigned(ffi.cast("uint64_t", value))
end

--- An enum's names to its values and its values to names: the first of several. What no number holds is found
--- as address.hex() writes it.
---@return table<string, number|ffi.cdata*>, table<number|string, string>
function Type:values()
  if not self.by_name then
    local by_name, by_value = {}, {}
    local name, value = ffi.new "const char *[1]", ffi.new "int64_t[1]"
    for i = 0, (self.kind == "enum" and self.count or 0) - 1 do
      c.check(C.types_get_value(self.set.handle, self.own_id, i, name, value))
      local key, v = ffi.string(name[0]), number(value[0], self.is_signed)
      by_name[key] = v
      local index = type(v) == "number" and v or require("ktstr.kernel.address").hex(v)
      by_value[index] = by_value[index] or key
    end
    self.by_name, self.by_value = by_name, by_value
  end
  return self.by_name, self.by_value
end

--- A function's parameters.
---@return { name: string, type: ktstr.Type }[]
function Type:parameters()
  local list, name, id = {}, ffi.new "const char *[1]", ffi.new "uint32_t[1]"
  for i = 0, (self.kind == "function" and self.count or 0) - 1 do
    c.check(C.types_get_parameter(self.set.handle, self.own_id, i, name, id))
    list[#list + 1] = { name = ffi.string(name[0]), type = self.set:type(id[0]) }
  end
  return list
end

--- Its definition with offsets and sizes, as pahole prints it.
function Type:__tostring()
  if self.id and (self:has_members() or self.kind == "enum") then
    return (text_of(C.types_define, self.set, self.id):gsub("\n+$", ""))
  end
  return self.name
end

-- --- sets ---

---@class ktstr.TypeSet
local Set = {}
Set.__index = Set

--- A set of types from C; it is destroyed with this table.
---@param handle ffi.cdata* struct types *
---@param base ktstr.TypeSet|nil the set that it goes on from
---@return ktstr.TypeSet
function types.set(handle, base)
  return setmetatable({
    handle = ffi.gc(handle, C.types_destroy),
    base = base,
    by_id = {},
    by_name = {},
    containers = setmetatable({}, { __mode = "k" }), -- what objects keep of container_of_; by type
  }, Set)
end

--- A kernel's own: types of different ones are not mixed.
---@param handle ffi.cdata* struct types *
---@return ktstr.TypeSet
function types.kernel_set(handle)
  local set = types.set(handle)
  set.is_kernel = true
  return set
end

--- From the bytes of a .BTF section: the kernel's own, or a module's or a program's that goes on from it.
--- Raises "format".
---@param blob string
---@param base ktstr.TypeSet|nil
---@return ktstr.TypeSet
function types.from_blob(blob, base)
  local ret = ffi.new "struct types *[1]"
  c.check(C.types_create(blob, #blob, base and base.handle or nil, ret))
  return types.set(ret[0], base)
end

---@param id integer
---@return ktstr.Type
function Set:type(id)
  if self.base and id < C.types_first(self.handle) then
    return self.base:type(id)
  end
  local found = self.by_id[id]
  if not found then
    found = new_type(self, id)
    self.by_id[id] = found
  end
  return found
end

local MOST = 64

local function ids_of(set, name)
  local ids = ffi.new("uint32_t[?]", MOST)
  local list = {}
  for i = 1, math.min(C.types_find(set.handle, name, ids, MOST), MOST) do
    list[i] = ids[i - 1]
  end
  return list
end

-- "struct x#123 (24 bytes: a, b, c, ...)"
local function describe(set, name, id)
  local one = set:type(id)
  local names = one:member_names()
  local shown = table.concat(names, ", ", 1, math.min(#names, 4)) .. (#names > 4 and ", ..." or "")
  return ("%s#%d (%d bytes%s)"):format(name, id, one.size, #names > 0 and ": " .. shown or "")
end

local function raise_ambiguous(set, name, ids)
  local list = {}
  for i, id in ipairs(ids) do
    list[i] = describe(set, name, id)
  end
  errors.raise("ambiguous", ("the kernel has %d types '%s': %s"):format(#ids, name, table.concat(list, "; ")),
    ("name one of them with its number: \"%s#%d\""):format(name, ids[1]))
end

-- "struct x#123": one of several.
local function find_numbered(set, name, id)
  for _, one in ipairs(ids_of(set, name)) do
    if one == id then
      return set:type(one)
    end
  end
  errors.raise("not-found", ("the type number %d is not '%s'"):format(id, name))
end

local id_out = ffi.new "uint32_t[1]"

-- What there is of several of a name is more than C's message has room for.
local function raise_parse(set, name, e)
  local base = name:match "^[%a_][%w_ ]*" or ""
  base = base:gsub(" $", "")
  local ids = ids_of(set, base)
  if errors.is(e, "invalid") and #ids > 1 then
    raise_ambiguous(set, base, ids)
  end
  error(e, 0)
end

-- Qualifiers say nothing about what lies in memory.
local function tidy(name)
  name = name:gsub("%f[%w_]const%f[^%w_]", ""):gsub("%f[%w_]volatile%f[^%w_]", "")
  return (name:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

local function parse(set, name)
  local plain, id = name:match "^(.-)#(%d+)$"
  if id then
    return find_numbered(set, plain, tonumber(id))
  end
  local ok, e = pcall(c.check, C.types_parse(set.handle, name, id_out))
  if not ok then
    raise_parse(set, name, e)
  end
  return set:type(id_out[0])
end

--- The type that C writes like this. Raises "not-found" (with the nearest), "invalid", "ambiguous".
---@param name string "struct rq", "u64", "struct task_struct *", "char [16]", "struct x#123"
---@return ktstr.Type
function Set:get(name)
  if type(name) ~= "string" then
    errors.raise("invalid", ("a type is named by a string, not by a %s"):format(type(name)),
      'k.types["struct rq"]')
  end
  local found = self.by_name[name]
  if not found then
    found = parse(self, tidy(name))
    self.by_name[name] = found
  end
  return found
end

-- Whether there is nothing of a name, without looking for what is like it: that takes 10 ms. false: perhaps.
local function is_missing(set, name)
  local base = type(name) == "string" and tidy(name):match "^([%a_][%w_ ]*)%**$"
  return base and C.types_find(set.handle, base, nil, 0) == 0
end

--- The same, or nil where there is none. Raises "invalid", "ambiguous".
---@param name string
---@return ktstr.Type|nil
function Set:find(name)
  if not self.by_name[name] and is_missing(self, name) then
    return nil
  end
  local ok, found = pcall(self.get, self, name)
  if ok then
    return found
  elseif not errors.is(found, "not-found") then
    error(found, 0)
  end
end

--- Names of types that begin with `prefix`, in alphabetical order.
---@param prefix string
---@param most integer
---@return string[]
function Set:names(prefix, most)
  local list = {}
  local text = c.text(function(buf)
    return C.types_list_from(self.handle, prefix, most, buf)
  end)
  for name in text:gmatch "%Z+" do
    list[#list + 1] = name
  end
  return list
end

--- The type of a global variable, as far as there is one: of per-CPU variables.
---@param name string
---@return ktstr.Type|nil
function Set:variable(name)
  local id = C.types_find_variable(self.handle, name)
  return id ~= 0 and self:type(id) or nil
end

--- A function's prototype.
---@param name string
---@return ktstr.Type|nil
function Set:function_type(name)
  local id = C.types_find_function(self.handle, name)
  return id ~= 0 and self:type(id) or nil
end

--- The value of a name of any enum; nil where there is none. Raises "invalid" when enums differ about it.
---@param name string
---@return number|ffi.cdata*|nil
function Set:value(name)
  local id, value = ffi.new "uint32_t[1]", ffi.new "int64_t[1]"
  local ok, e = pcall(c.check, C.types_find_value(self.handle, name, id, value))
  if not ok then
    if errors.is(e, "not-found") then
      return nil
    end
    error(e, 0)
  end
  return number(value[0], self:type(id[0]).is_signed)
end

return types
