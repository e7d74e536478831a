-- BTF made by hand, type by type, for specs that want types without a kernel.
local ffi = require "ffi"

local KIND = { int = 1, ptr = 2, array = 3, struct = 4, union = 5, enum = 6, fwd = 7, typedef = 8, const = 10,
  func = 12, proto = 13, var = 14, datasec = 15, enum64 = 19 }
local SIGNED, BOOL = 1, 4
local HEADER = 24

local function u32(...)
  local words = { ... }
  local data = ffi.new("uint32_t[?]", #words)
  for i, word in ipairs(words) do
    data[i - 1] = word % 2 ^ 32
  end
  return ffi.string(data, 4 * #words)
end

local Btf = {}
Btf.__index = Btf

local btf = {}

--- base: what it goes on from, as a module's does from the kernel's.
function btf.new(base)
  local size, count = base and base.size or 0, base and base.count or 0
  return setmetatable({ types = {}, strings = { "\0" }, size = size + 1, count = count }, Btf)
end

function Btf:text(name)
  if not name or name == "" then
    return 0
  end
  local offset = self.size
  self.strings[#self.strings + 1] = name .. "\0"
  self.size = self.size + #name + 1
  return offset
end

function Btf:type(kind, name, size_or_type, vlen, flag, rest)
  self.types[#self.types + 1] = u32(self:text(name), KIND[kind] * 2 ^ 24 + vlen + (flag and 2 ^ 31 or 0),
    size_or_type) .. (rest or "")
  self.count = self.count + 1
  return self.count
end

local function encoded(how)
  return ({ signed = SIGNED, bool = BOOL })[how] or 0
end

function Btf:int(name, size, how)
  return self:type("int", name, size, 0, false, u32(encoded(how) * 2 ^ 24 + size * 8))
end

function Btf:pointer(target)
  return self:type("ptr", nil, target, 0)
end

function Btf:typedef(name, target)
  return self:type("typedef", name, target, 0)
end

function Btf:array(element, count)
  return self:type("array", nil, 0, 0, false, u32(element, self.index or element, count))
end

function Btf:forward(name)
  return self:type("fwd", name, 0, 0)
end

function Btf:enum(name, size, values, signed)
  local words = {}
  for _, value in ipairs(values) do
    words[#words + 1] = self:text(value[1])
    words[#words + 1] = value[2]
  end
  return self:type("enum", name, size, #values, signed, u32(unpack(words)))
end

--- values: { name, lower half, upper half }
function Btf:enum64(name, values)
  local words = {}
  for _, value in ipairs(values) do
    words[#words + 1] = self:text(value[1])
    words[#words + 1] = value[2]
    words[#words + 1] = value[3]
  end
  return self:type("enum64", name, 8, #values, false, u32(unpack(words)))
end

function Btf:const(type)
  return self:type("const", nil, type, 0)
end

--- members: { name, type, bit offset [, bits] }
function Btf:composite(kind, name, size, members)
  local fields = false
  for _, member in ipairs(members) do
    fields = fields or member[4] ~= nil
  end
  local words = {}
  for _, member in ipairs(members) do
    words[#words + 1] = self:text(member[1])
    words[#words + 1] = member[2]
    words[#words + 1] = member[3] + (fields and (member[4] or 0) * 2 ^ 24 or 0)
  end
  return self:type(kind, name, size, #members, fields, u32(unpack(words)))
end

function Btf:struct(name, size, members)
  return self:composite("struct", name, size, members)
end

function Btf:union(name, size, members)
  return self:composite("union", name, size, members)
end

function Btf:prototype(returns)
  return self:type("proto", nil, returns, 0)
end

--- A global, in the section of per-CPU ones.
function Btf:variable(name, type, size)
  local id = self:type("var", name, type, 0, false, u32(1))
  self:type("datasec", ".data..percpu", size, 1, false, u32(id, 0, size))
end

function Btf:blob()
  local types, strings = table.concat(self.types), table.concat(self.strings)
  return u32(1 * 2 ^ 16 + 0xeb9f, HEADER, 0, #types, #types, #strings) .. types .. strings
end

return btf
