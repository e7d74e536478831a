-- The symbols of a kernel's image in Lua. Addresses are as linked; the kernel that runs has its slide.
local ffi = require "ffi"
require "ktstr.kernel.c"

local C = ffi.C

---@class ktstr.SymbolSet
local Set = {}
Set.__index = Set

local symbols = {}

--- A set from C; it is destroyed with this table.
---@param handle ffi.cdata* struct symbols *
---@return ktstr.SymbolSet
function symbols.set(handle)
  return setmetatable({ handle = ffi.gc(handle, C.symbols_destroy) }, Set)
end

---@class ktstr.RawSymbol
---@field name string
---@field address ffi.cdata* uint64_t, as linked
---@field kind string nm's letter
---@field moves boolean with the image, when that is put elsewhere

local function copy(raw)
  return {
    name = ffi.string(raw.name),
    address = raw.address,
    kind = string.char(raw.kind),
    moves = raw.moves,
  }
end

--- All of that name, by address.
---@param name string
---@return ktstr.RawSymbol[]
function Set:find(name)
  local first = ffi.new "uint32_t[1]"
  local list = {}
  for i = 1, C.symbols_find(self.handle, name, first) do
    list[i] = copy(C.symbols_named(self.handle, first[0] + i - 1))
  end
  return list
end

--- The symbol that an address belongs to, and where it ends.
---@param place ffi.cdata* uint64_t, as linked
---@return ktstr.RawSymbol|nil, ffi.cdata*|nil
function Set:at(place)
  local raw, last = ffi.new "struct symbol", ffi.new "uint64_t[1]"
  if C.symbols_at(self.handle, place, raw, last) then
    return copy(raw), last[0]
  end
end

--- Names that begin with `prefix`, in alphabetical order, each once.
---@param prefix string
---@param most integer
---@return string[]
function Set:names(prefix, most)
  local list, count = {}, C.symbols_count(self.handle)
  local place = C.symbols_from(self.handle, prefix)
  while place < count and #list < most do
    local name = ffi.string(C.symbols_named(self.handle, place).name)
    if name:sub(1, #prefix) ~= prefix then
      break
    end
    if name ~= list[#list] then
      list[#list + 1] = name
    end
    place = place + 1
  end
  return list
end

---@return integer
function Set:count()
  return C.symbols_count(self.handle)
end

---@param index integer from 0, by address
---@return ktstr.RawSymbol
function Set:get(index)
  return copy(C.symbols_get(self.handle, index))
end

-- Structs by value are not compiled.
jit.off(Set.find)
jit.off(Set.names)
jit.off(Set.get)

return symbols
