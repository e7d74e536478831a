-- What an expression stands for, as far as that can be said without doing anything: names, fields, indexes,
-- and those methods of vm.k that only look something up. Nothing of the user's is called.
local errors = require "ktstr.errors"

local pure = {}

local DEPTH = 10 -- of tables that stand behind each other through __index

-- Where it is a function, which is not called, the class is mostly the metatable itself.
local function index_of(value)
  local mt = debug.getmetatable(value)
  local index = type(mt) == "table" and rawget(mt, "__index") or nil
  return type(index) == "function" and mt or index
end

--- Calls f(t) for the value, and the tables behind it, until one returns something.
---@param value any
---@param f fun(t: table): any
---@return any
function pure.through_tables(value, f)
  local t = type(value) == "table" and value or index_of(value)
  for _ = 1, DEPTH do
    if type(t) ~= "table" then
      return nil
    end
    local found = f(t)
    if found ~= nil then
      return found
    end
    t = index_of(t)
  end
end

--- Whether a value is an object of a kernel's. None is where nobody has looked for one.
---@param value any
---@return boolean
function pure.is_object(value)
  local object = package.loaded["ktstr.kernel.object"]
  return object ~= nil and object.is(value)
end

--- Whether a value is a vm.k.
---@param value any
---@return boolean
function pure.is_kernel(value)
  return type(value) == "table" and rawget(value, "_slot") ~= nil and rawget(value, "types") ~= nil
end

--- The kernel of an object; nil of what is none.
---@param value any
---@return ktstr.Kernel|nil
function pure.kernel_of(value)
  return pure.is_object(value) and require("ktstr.kernel.memory").kernel(value) or nil
end

-- What f returns; nil where that cannot be read.
local function try(f, ...)
  local ok, result = errors.try(f, ...)
  if ok then
    return result
  end
end

local function get(value, key)
  return value[key]
end

-- What a field is worth; nil where there is none, or where it cannot be read.
local function field(value, key, kernel)
  if pure.is_object(value) then
    local read = try(get, value, key)
    return type(read) ~= "function" and read or nil
  elseif kernel and rawequal(value, kernel.types) then
    return try(get, value, key)
  end
  local found = pure.through_tables(value, function(t)
    return rawget(t, key)
  end)
  if found == nil and key == "k" and type(value) == "table" and rawget(value, "machine") then
    found = try(get, value, key) -- a machine's, which nobody has asked for yet
  end
  return found
end

-- Of vm.k, and they change nothing.
local CONSTRUCTORS = { var = true, per_cpu = true, task = true, object = true, symbol = true }

local Reader = {}
Reader.__index = Reader

function Reader:mark(text)
  local token = self.list[self.at]
  if token and token.kind == "mark" and token.text == text and self.at <= self.last then
    self.at = self.at + 1
    return true
  end
end

function Reader:take(kind)
  local token = self.list[self.at]
  if token and token.kind == kind and self.at <= self.last then
    self.at = self.at + 1
    return token.text
  end
end

-- An address has the suffix of LuaJIT's.
local function number(text)
  local value = text:upper():match "U?LL$" and loadstring("return " .. text)
  return value and value() or tonumber(text)
end

function Reader:literal()
  local text = self:take "string"
  if text then
    return not text:find("\\", 1, true) and text or nil
  end
  text = self:take "number"
  return text and number(text)
end

-- nil: not what this can read. Otherwise the arguments, as a table with n.
function Reader:arguments()
  local text = self:take "string"
  if text then
    return { n = 1, text }
  elseif not self:mark "(" then
    return nil
  end
  local list = { n = 0 }
  if self:mark ")" then
    return list
  end
  repeat
    local value = self:literal()
    if value == nil then
      value = self:chain()
    end
    if value == nil then
      return nil
    end
    list.n = list.n + 1
    list[list.n] = value
  until not self:mark ","
  return self:mark ")" and list or nil
end

function Reader:call(value)
  local name = self:take "name"
  local arguments = name and self:arguments()
  if not arguments or not CONSTRUCTORS[name] or not pure.is_kernel(value) then
    return nil
  end
  return try(value[name], value, unpack(arguments, 1, arguments.n))
end

function Reader:step(value)
  if self:mark "." then
    local name = self:take "name"
    return name and field(value, name, self.kernel)
  elseif self:mark "[" then
    local key = self:literal()
    return key ~= nil and self:mark "]" and field(value, key, self.kernel) or nil
  end
  return self:mark ":" and self:call(value) or nil
end

-- A name and what follows it; nil as soon as it has no value.
function Reader:chain()
  local name = self:take "name"
  local value = name and field(self.env, name)
  while value ~= nil do
    if pure.is_kernel(value) then
      self.kernel = value
    end
    local token = self.list[self.at]
    local goes_on = token and self.at <= self.last and token.kind == "mark" and token.text:find "^[%.:%[]$"
    if not goes_on then
      return value
    end
    value = self:step(value)
  end
end

--- The value of the tokens from `first` to `last`, when all of them are one such expression.
---@param list ktstr.Token[]
---@param first integer
---@param last integer
---@param env table the globals
---@return any value nil: they are not, or it has none
---@return ktstr.Kernel|nil kernel the vm.k that it came by
function pure.value(list, first, last, env)
  local reader = setmetatable({ list = list, at = first, last = last, env = env }, Reader)
  local value = reader:chain()
  if value ~= nil and reader.at == last + 1 then
    return value, reader.kernel
  end
end

--- Where the expression begins that ends with the token `last`: the names, indexes and calls that belong
--- together. nil: it does not begin with a name.
---@param list ktstr.Token[]
---@param last integer
---@return integer|nil
function pure.start(list, last)
  local i = last
  while i >= 1 do
    local token = list[i]
    local before = list[i - 1]
    if token.kind == "string" then
      i = i - 1 -- f"text"
    elseif token.kind == "mark" and (token.text == ")" or token.text == "]") then
      i = pure.opening(list, i)
      if not i then
        return nil
      end
      i = i - 1
    elseif token.kind == "name" then
      if not before or before.kind ~= "mark" or not before.text:find "^[%.:]$" then
        return i
      end
      i = i - 2
    else
      return nil
    end
  end
end

local CLOSING = { [")"] = true, ["]"] = true, ["}"] = true }
local OPENING = { ["("] = true, ["["] = true, ["{"] = true }

--- The bracket that a closing one belongs to, or with `inside` the one around the token; and the commas on
--- the way.
---@param list ktstr.Token[]
---@param at integer
---@param inside boolean|nil
---@return integer|nil, integer commas
function pure.opening(list, at, inside)
  local depth, commas = inside and 1 or 0, 0
  for i = inside and at - 1 or at, 1, -1 do
    local token = list[i]
    if token.kind == "mark" then
      if CLOSING[token.text] then
        depth = depth + 1
      elseif OPENING[token.text] then
        depth = depth - 1
        if depth == 0 then
          return i, commas
        end
      elseif token.text == "," and depth == 1 then
        commas = commas + 1
      end
    end
  end
  return nil, commas
end

return pure
