-- A kernel's memory for the specs of its helpers: words at addresses, structs as places of members. It takes
-- the place of lua/ktstr/kernel/access.lua; an object is nothing but its address.
local ffi = require "ffi"

local fake_memory = {}

local function u64(value)
  return ffi.cast("uint64_t", value)
end

local function key(at)
  return bit.tohex(at)
end

--- The module, for package.loaded["ktstr.kernel.access"], and what it reads. Bytes that nobody wrote raise
--- "unmapped".
---@param errors table the library's
---@param structs table<string, table<string, integer>> "struct x" to offsets of members; [1] of a member that
---  is an array, as { offset, count }
---@param symbols table<string, integer>|nil
---@return table access, table memory with :put(at, ...) words, :put_bytes(at, text), :drop(at)
function fake_memory.new(errors, structs, symbols)
  local bytes, memory, access = {}, {}, {}

  local function byte(at)
    local value = bytes[key(at)]
    if not value then
      errors.raise("unmapped", ("no page maps 0x%s"):format(key(at)))
    end
    return value
  end

  function memory:put_bytes(at, text)
    for i = 1, #text do
      bytes[key(u64(at) + (i - 1))] = text:byte(i)
    end
  end

  --- Words of 8 bytes, one behind the other.
  function memory:put(at, ...)
    for i = 1, select("#", ...) do
      local word = ffi.new("uint64_t[1]", u64((select(i, ...))))
      self:put_bytes(u64(at) + (i - 1) * 8, ffi.string(word, 8))
    end
  end

  function memory:drop(at)
    bytes[key(u64(at))] = nil
  end

  local function number(at, size)
    local value = 0ULL
    for i = 0, size - 1 do
      value = value + bit.lshift(u64(byte(u64(at) + i)), i * 8)
    end
    return value
  end

  function access.word(_, at) return number(at, 8) end
  function access.u32(_, at) return tonumber(number(at, 4)) end
  function access.byte(_, at) return tonumber(number(at, 1)) end
  function access.memory() end
  access.address = u64
  function access.place(_, value) return u64(value) end
  access.pointer = u64
  access.zero = 0ULL

  function access.number(value)
    return value < 0x20000000000000ULL and tonumber(value) or value
  end

  function access.offset(_, name, member)
    local offset = structs[name][member]
    return type(offset) == "table" and offset[1] or offset
  end

  function access.count(_, type, member)
    return structs[type][member][2]
  end

  function access.has(_, type, member)
    return structs[type][member] ~= nil
  end

  function access.maker()
    return function(at)
      return at
    end
  end

  function access.symbol(_, name)
    return u64(symbols[name])
  end
  return access, memory
end

return fake_memory
