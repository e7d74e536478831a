-- The names that a kernel has for things, by their beginnings: symbols, types, the names of enums, members.
local errors = require "ktstr.errors"

local kernel_names = {}

local MOST = 10000 -- names are looked through; behind an empty beginning there are hundreds of thousands
local CODE_AREAS = { { "_text", "_etext" }, { "_sinittext", "_einittext" } }

-- What the kernel has of it; nothing where it has no symbols or types. Second: whether there are more.
local function try(f, ...)
  local ok, list = errors.try(f, ...)
  if not ok then
    return {}, false
  end
  return list, #list >= MOST
end

local function filter(list, wanted)
  local found = {}
  for _, name in ipairs(list) do
    if wanted(name) then
      found[#found + 1] = name
    end
  end
  return found
end

-- Of the kernel's names those of which any symbol is wanted.
local function symbols_that(k, prefix, wanted)
  local set = k:_ready().symbols
  local list, cut = try(set.names, set, prefix, MOST)
  return filter(list, function(name)
    for _, symbol in ipairs(set:find(name)) do
      if wanted(symbol) then
        return true
      end
    end
  end), cut
end

-- A function that tells code from data, by where it lies: the letters that kernels have for their symbols say
-- "T" of data, too.
local function code_test(set)
  local areas = {}
  for _, names in ipairs(CODE_AREAS) do
    local first, behind = set:find(names[1])[1], set:find(names[2])[1]
    if first and behind then
      areas[#areas + 1] = { first.address, behind.address }
    end
  end
  return function(symbol)
    for _, area in ipairs(areas) do
      if symbol.moves and symbol.address >= area[1] and symbol.address < area[2] then
        return true
      end
    end
    return false
  end
end

local kinds = {}

function kinds.symbol(k, prefix)
  local set = k:_ready().symbols
  return try(set.names, set, prefix, MOST)
end

function kinds.code(k, prefix)
  return symbols_that(k, prefix, code_test(k:_ready().symbols))
end

function kinds.percpu(k, prefix)
  local is_percpu = require("ktstr.kernel.percpu").is_symbol
  return symbols_that(k, prefix, function(symbol)
    return is_percpu(k, symbol)
  end)
end

function kinds.variable(k, prefix)
  local is_percpu = require("ktstr.kernel.percpu").is_symbol
  local is_code = code_test(k:_ready().symbols)
  return symbols_that(k, prefix, function(symbol)
    return not is_code(symbol) and not is_percpu(k, symbol)
  end)
end

function kinds.type(k, prefix)
  local set = k:_types()
  return try(set.names, set, prefix, MOST)
end

local KEYWORDS = { "struct ", "union ", "enum " }

-- As the command `struct` takes them: without the keyword.
function kinds.struct(k, prefix)
  local found, cut = kinds.type(k, prefix)
  found = filter(found, function(name)
    return not name:find " "
  end)
  for _, keyword in ipairs(KEYWORDS) do
    local list, more = kinds.type(k, keyword .. prefix)
    cut = cut or more
    for _, name in ipairs(list) do
      found[#found + 1] = name:sub(#keyword + 1)
    end
  end
  return found, cut
end

-- By set of types: the names of all enums' values, and ktstr's macros. C has an index of them, but no way
-- through it, so each type is looked at, once.
local enumerators = setmetatable({}, { __mode = "k" })

local function all_enumerators(set)
  local known = enumerators[set]
  if not known then
    known = require("ktstr.repl.enumerators").of(set)
    for name in pairs(require("ktstr.kernel.known").macros) do
      known[#known + 1] = name
    end
    table.sort(known)
    enumerators[set] = known
  end
  return known
end

function kinds.enum(k, prefix)
  return filter(all_enumerators(k:_types()), function(name)
    return name:sub(1, #prefix) == prefix
  end)
end

--- Names of one kind that begin with `prefix`; none where the kernel cannot say.
---@param k ktstr.Kernel
---@param kind "symbol"|"code"|"percpu"|"variable"|"type"|"struct"|"enum"
---@param prefix string
---@return string[]
---@return boolean cut whether there are more
function kernel_names.of(k, kind, prefix)
  local cut = false
  local list = try(function()
    local found
    found, cut = kinds[kind](k, prefix)
    return found
  end)
  return list, cut
end

--- The members of a type, those of anonymous members among them; none where it has none.
---@param type ktstr.Type
---@return string[]
function kernel_names.members(type)
  return (try(type.member_names, type))
end

return kernel_names
