-- A machine's memory through its view, without symbols or types of ktstr's own.
local ffi = require "ffi"
local c = require "ktstr.kernel.c"

local C = ffi.C

local kernel_view = {}

local View = {}
View.__index = View

local out = ffi.new "u64[1]"

---@param machine ktstr.core.machine
function kernel_view.of(machine)
  return setmetatable({ machine = machine, v = ffi.cast("struct view *", machine:view()) }, View)
end

--- The word of `size` bytes there.
---@return ffi.cdata* uint64_t
function View:word(address, size)
  c.check(C.view_read_scalar(self.v, address, size or 8, out))
  return out[0]
end

function View:set_word(address, size, value)
  c.check(C.view_write_scalar(self.v, address, size, value))
end

---@param root ffi.cdata*|number|nil nil: the kernel's
function View:bytes(address, size, root)
  local data = ffi.new("uint8_t[?]", size)
  c.check(C.view_read(self.v, root or 0, address, data, size))
  return ffi.string(data, size)
end

function View:write(address, bytes, root)
  c.check(C.view_write(self.v, root or 0, address, bytes, #bytes))
end

function View:string(address, root)
  local data, length = ffi.new "char[4096]", ffi.new "size_t[1]"
  c.check(C.view_read_string(self.v, root or 0, address, data, 4096, length))
  return ffi.string(data, length[0])
end

--- Where a byte lies; `walk`: by the tables, whatever is known otherwise.
function View:place(address, walk, root)
  local place = ffi.new "struct view_place"
  c.check(C.view_translate(self.v, root or 0, address, walk or false, place))
  return place
end

function View:set_root(address)
  c.check(C.view_set_root(self.v, address))
end

function View:set_direct_map(start)
  c.check(C.view_set_direct_map(self.v, start))
end

--- A hexadecimal number of any size.
---@return ffi.cdata* uint64_t
function kernel_view.hex(digits)
  local value = 0ULL
  for digit in digits:gmatch "%x" do
    value = value * 16 + tonumber(digit, 16)
  end
  return value
end

--- The addresses that the guest itself gives its symbols; of the first, where there are several of a name.
---@param vm ktstr.VM
---@param names string[]
---@return table<string, ffi.cdata*>
function kernel_view.addresses(vm, names)
  local pattern = (" (%s)$"):format(table.concat(names, "|"))
  local text = vm:exec({ "grep", "-E", pattern, "/proc/kallsyms" }).stdout
  local addresses = {}
  for digits, name in text:gmatch "(%x+) %a ([%w_]+)\n" do
    addresses[name] = addresses[name] or kernel_view.hex(digits)
  end
  return addresses
end

return kernel_view
