-- A machine's kernel from outside: vm.k. Symbols, types, objects, memory; frozen or running.
--
-- What it needs is looked up when it is first needed: to have vm.k costs nothing.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local c = require "ktstr.kernel.c"
local errors = require "ktstr.errors"
local live = require "ktstr.kernel.live"
local known = require "ktstr.kernel.known"
local memory = require "ktstr.kernel.memory"
require "ktstr.kernel.object" -- gives objects their fields and methods
local values = require "ktstr.kernel.values"

local C = ffi.C
local Object = memory.Object
local load = memory.load

local kernel = {}

---@class ktstr.Kernel
---@field types table<string, ktstr.Type> k.types["struct rq"]; tostring() of one is its definition
---@field null ktstr.Address what a NULL pointer equals
local Kernel = {}

--- Methods that have a module of their own: by name, the module whose function of that name takes the kernel
--- first. It is loaded when the method is first called.
---@type table<string, string>
kernel.methods = require "ktstr.kernel.methods"

local null = address.new(0)

-- k.types, as far as it is needed: by name.
local function types_of(k)
  return setmetatable({}, {
    __index = function(_, name)
      return k:_types():get(name)
    end,
    __tostring = function()
      return "the kernel's types, by name: k.types[\"struct rq\"]"
    end,
  })
end

-- What the class has not: loaded now, and kept.
local function late(_, name)
  local module = kernel.methods[name]
  if module then
    local method = require(module)[name]
    Kernel[name] = method
    return method
  end
end

Kernel.__index = Kernel
setmetatable(Kernel, { __index = late })

function Kernel:__tostring()
  return ("the kernel %s"):format(self._vm.release or "of a machine")
end

--- Of a machine.
---@param vm ktstr.VM
---@return ktstr.Kernel
function kernel.new(vm)
  local k = setmetatable({
    _vm = vm,
    _machine = vm.machine, -- its view is in there
    _vars = {}, -- by name
    _typed_vars = {}, -- by the type that was said, and name
    _objects = {},
    _guests = {}, -- sets of types that are not the image's, but of which there are objects
    _offsets = {},
    _percpu_vars = {}, -- likewise
    _typed_percpu_vars = {},
    _percpu_known = false,
    null = null,
  }, Kernel)
  k.types = types_of(k)
  memory.join(k, ffi.cast("struct view *", vm.machine:view()))
  return k
end

-- --- getting to know it ---

local BANNER_MAX = 512
local FIXED_DIRECT_MAP = { [4] = 0xffff888000000000ULL, [5] = 0xff11000000000000ULL }

-- Reads without what this is to prepare.
local function first_word(k, place)
  local out = ffi.new "uint64_t[1]"
  c.check(C.view_read_scalar(k._view, place, 8, out))
  return out[0]
end

local function first_string(k, place, max)
  local data, length = ffi.new("char[?]", max), ffi.new "size_t[1]"
  c.check(C.view_read_string(k._view, 0, place, data, max, length))
  return ffi.string(data, length[0])
end

local function place_of(k, name)
  local symbol = k._image.symbols:find(name)[1]
  return symbol and k:_place(symbol)
end

local function one_line(text)
  return (text:gsub("%c+", " "):gsub(" $", ""))
end

-- That the symbols are those of what runs, where the host has put it.
local function check_banner(k)
  local expected = k._image.banner
  local ok, found = pcall(first_string, k, place_of(k, "linux_banner"), BANNER_MAX)
  if not ok and not errors.is(found, "unmapped") then
    error(found, 0)
  end
  if not ok or found ~= expected then
    errors.raise("unsupported", ("the machine does not run the kernel whose symbols there are, %s: that is "
      .. "'%s', and in memory there is %s"):format(k._image.path, one_line(expected),
      ok and found ~= "" and ("'%s'"):format(one_line(found:sub(1, 120))) or "nothing of the kind"),
      "was the kernel's file replaced while the machine was running, or does it run another by kexec?")
  end
end

local MSR_LSTAR = 0xc0000082

-- A second opinion, where the registers are to be had. It is 0 before the kernel sets it, and with FRED.
-- A core file does not have it.
local function check_lstar(k)
  if k._view.frozen == 0 or not k._machine.msr then
    return
  end
  local entry = place_of(k, "entry_SYSCALL_64")
  local word = ffi.new "uint64_t[1]"
  ffi.copy(word, k._machine:msr(0, MSR_LSTAR), 8)
  if entry and word[0] ~= 0ULL and word[0] ~= entry then
    errors.raise("unsupported", ("system calls of CPU 0 begin at %s, and the symbols say at %s: they are not "
      .. "this kernel's"):format(address.hex(word[0]), address.hex(entry)))
  end
end

local function set_up_view(k)
  local view = k._view
  local root = place_of(k, "init_top_pgt")
  if not root then
    errors.raise("unsupported", "the kernel has no symbol init_top_pgt, so its page tables cannot be found")
  end
  c.check(C.view_set_root(view, root))
  local base = place_of(k, "page_offset_base")
  c.check(C.view_set_direct_map(view, base and first_word(k, base) or FIXED_DIRECT_MAP[view.levels]))
end

local function prepare(k)
  if k._view.memory == nil then
    memory.raise_ended(k._slot)
  end
  if not k._image then
    local image = require("ktstr.kernel.image").of(k._vm)
    k._image = image
    local ok, e = pcall(check_banner, k)
    if not ok then
      k._image = nil
      error(e, 0)
    end
  end
  check_lstar(k)
  set_up_view(k)
  k._prepared = true
  require("ktstr.kernel.percpu").measure(k)
end

-- The image, and the machine's memory by its addresses. Raises why there is none.
function Kernel:_ready()
  if not self._prepared then
    prepare(self)
  end
  return self._image
end

-- The set of types; nothing where the kernel was built without.
function Kernel:_types()
  local types = self:_ready().types
  if not types then
    errors.raise("unsupported", ("the kernel %s was built without types"):format(self._image.path),
      "build it with CONFIG_DEBUG_INFO_BTF")
  end
  return types
end

-- --- symbols ---

-- Where a symbol is in the kernel that runs, as uint64_t.
function Kernel:_place(symbol)
  return symbol.moves and symbol.address + self._view.slide or symbol.address
end

-- Names that begin like one, for a hint.
local function alike(set, name)
  for length = #name - 1, 3, -1 do
    local names = set:names(name:sub(1, length), 5)
    if #names > 0 then
      return "it has: " .. table.concat(names, ", ")
    end
  end
end

-- The first of that name that the image has, or nil.
function Kernel:_image_symbol(name)
  return self:_ready().symbols:find(name)[1]
end

-- All of a name; once each where several names have one place.
local function distinct(set, name, wanted)
  local list, seen = {}, {}
  for _, symbol in ipairs(set:find(name)) do
    local key = address.key(symbol.address)
    if not seen[key] and (not wanted or wanted(symbol)) then
      seen[key] = true
      list[#list + 1] = symbol
    end
  end
  return list
end

local function raise_ambiguous(k, name, list)
  local places = {}
  for i, symbol in ipairs(list) do
    places[i] = ("%s (%s%s)"):format(address.hex(k:_place(symbol)), symbol.kind,
      symbol.module and ", " .. symbol.module or "")
  end
  errors.raise("ambiguous", ("the kernel has %d symbols '%s': %s"):format(#list, name,
    table.concat(places, ", ")), ("choose one: k:symbols(\"%s\")[1].address"):format(name))
end

-- The one symbol of that name: the image's, or where that has none a module's. Raises "not-found",
-- "ambiguous".
function Kernel:_symbol(name, wanted)
  if type(name) ~= "string" then
    errors.raise("invalid", ("a symbol is named by a string, not by a %s"):format(type(name)))
  end
  local image = self:_ready().symbols
  local list = distinct(image, name, wanted)
  if #list == 0 and wanted then
    list = distinct(image, name)
  end
  if #list == 0 then
    list = distinct(live.symbols(self), name)
  end
  if #list == 0 then
    errors.raise("not-found", ("the kernel has no symbol '%s'"):format(name),
      alike(self._image.symbols, name))
  elseif #list > 1 then
    raise_ambiguous(self, name, list)
  end
  return list[1]
end

-- Of a module only a per-CPU variable can lie where per-CPU addresses do: its symbol is one of these.
local function address_of(k, symbol)
  local place = k:_place(symbol)
  return symbol.module and address.new(place) or address.of_symbol(place)
end

--- The address of a symbol in the kernel that runs: the image's, or where that has none of the name a
--- module's, a BPF program's. Raises "not-found", "ambiguous" (and lists them).
---@param name string
---@return ktstr.Address
function Kernel:symbol(name)
  return address_of(self, self:_symbol(name))
end

---@class ktstr.Symbol
---@field name string
---@field address ktstr.Address
---@field kind string nm's letter, "T", "d", ...
---@field module string|nil as /proc/kallsyms has it: a module's, "bpf", "__builtin__ftrace"; nil: the image's

--- All symbols of that name: those of the image by address, then those that modules, BPF programs, ftrace and
--- kprobes have brought, likewise; none is an empty list. Raises "format" and "unmapped" where the kernel's
--- lists of these are damaged, or change meanwhile.
---@param name string
---@return ktstr.Symbol[]
function Kernel:symbols(name)
  local list = {}
  for _, set in ipairs { self:_ready().symbols, live.symbols(self) } do
    for _, symbol in ipairs(set:find(name)) do
      list[#list + 1] = { name = symbol.name, address = address_of(self, symbol), kind = symbol.kind,
        module = symbol.module }
    end
  end
  return list
end

local function named(name, offset, module)
  return name .. (offset == 0 and "" or ("+0x%x"):format(offset))
    .. (module and (" [%s]"):format(module) or "")
end

--- What an address is called: "schedule+0x1c", of a module "vxlan_xmit+0x1c [vxlan]"; nil for one that is in
--- neither, nor in a BPF program or what else the kernel has made code for.
---@param where ktstr.Address|ktstr.Object|number
---@return string|nil
function Kernel:name(where)
  local image = self:_ready()
  local at = memory.place(self._slot, where)
  local place = at - self._view.slide
  local symbol = image.symbols:at(place)
  if symbol then
    return named(symbol.name, tonumber(place - symbol.address))
  elseif live.is_near(at) then
    local found, module = live.symbols(self):at(at)
    return found and named(found.name, tonumber(at - found.address), module)
  end
end

-- --- objects ---

local function new_object_type(k, type)
  local resolved = values.resolve_type(k:_types(), type, k)
  local one = { handle = values.handle(resolved, "pointed"), origin = memory.origin(resolved.name) }
  k._objects[type] = one
  return one
end

--- What is at an address, as a type. Nothing is read yet. Raises "not-found", "ambiguous", "invalid".
---   k:object("struct task_struct", address).comm
---@param type string|ktstr.Type
---@param where ktstr.Address|ktstr.Object|number
---@return ktstr.Object
function Kernel:object(type, where)
  local one = self._objects[type] or new_object_type(self, type)
  local place = memory.place(self._slot, where)
  return Object(place, memory.slot(self._slot, where), one.handle, memory.generation(self._slot), one.origin)
end

local function raise_untyped(name)
  errors.raise("not-found", ("nothing says of which type '%s' is"):format(name),
    ("say it: k:var(\"%s\", \"struct ...\")"):format(name))
end


local function new_variable(k, name, type)
  local percpu, symbol = require "ktstr.kernel.percpu", k:_symbol(name)
  if percpu.is_symbol(k, symbol) then
    errors.raise("per-cpu", ("'%s' is per-CPU: each CPU has one of its own"):format(name),
      ("k:per_cpu(\"%s\", cpu)"):format(name))
  end
  local set = k:_types()
  local resolved = type and values.resolve_type(set, type, k) or set:variable(name)
    or known.type_of(set, name) or raise_untyped(name)
  local one = {
    place = k:_place(symbol),
    slot = memory.slot(k._slot, address_of(k, symbol)),
    d = values.describe(nil, nil, resolved, 0, 0, name),
    handle = values.handle(resolved, "plain"),
  }
  return one, symbol.module == nil -- a module's may go, and another come
end

-- As it was looked up once.
local function variable(k, name, type)
  local of_type = k._vars
  if type ~= nil then
    of_type = k._typed_vars[type]
    if not of_type then
      of_type = {}
      k._typed_vars[type] = of_type
    end
  end
  if of_type[name] then
    return of_type[name]
  end
  local one, stays = new_variable(k, name, type)
  of_type[name] = stays and one or nil
  return one
end

-- What the value is read from, or written to: found by its name, see memory.slot().
local function named_object(k, one, d)
  return Object(one.place, one.slot, one.handle, memory.generation(k._slot), d.origin)
end

--- A global variable: a number, a string, an object, as obj.field would give it. Its type is known for most
--- that are of interest; for another it is said. Raises "not-found", "ambiguous", "per-cpu".
---   k:var "jiffies_64"     k:var("init_task", "struct task_struct").comm
---@param name string
---@param type string|ktstr.Type|nil
---@return any
function Kernel:var(name, type)
  local one = variable(self, name, type)
  local d, place = one.d, one.place
  return d.read(named_object(self, one, d), d, place)
end

--- Writes a global variable; as obj.field = value.
---@param name string
---@param value any
---@param type string|ktstr.Type|nil
function Kernel:set_var(name, value, type)
  local one = variable(self, name, type)
  local d, place = one.d, one.place
  d.write(named_object(self, one, d), d, place, value)
end

--- One CPU's part of a per-CPU variable, or of what a per-CPU pointer stands for.
---   k:per_cpu("runqueues", 0).nr_running     k:per_cpu(k:var("scx_root").pcpu, 0)
---@param what string|ktstr.Object|ktstr.Address
---@param cpu integer
---@param type string|ktstr.Type|nil of a variable whose type the kernel does not say
---@return any
function Kernel:per_cpu(what, cpu, type)
  self:_ready()
  return require("ktstr.kernel.percpu").get(self, what, cpu, type)
end

--- The number that a name of the kernel's sources stands for: TASK_*, PF_* and SCHED_* macros, and the names
--- of its enums. Raises "not-found", "invalid" (enums differ about it).
---@param name string
---@return number
function Kernel:enum(name)
  if type(name) ~= "string" then
    errors.raise("invalid", ("k:enum wants a name, not %s"):format(tostring(name)))
  end
  local value = known.macros[name]
  if value == nil then
    value = self:_types():value(name)
  end
  if value == nil then
    local names = {}
    for macro in pairs(known.macros) do
      names[#names + 1] = macro
    end
    local near = require("ktstr.nearest").find(name, names)
    errors.raise("not-found", ("the kernel has no enum with '%s', and ktstr no macro"):format(name),
      near and ("did you mean '%s'?"):format(near) or "macros are in no kernel's types; ktstr knows a few")
  end
  return value
end

-- --- memory ---

-- What an access belongs to that no object stands for.
local function context(k, where)
  if not k._prepared then
    prepare(k)
  end
  return Object(1, memory.slot(k._slot, where), 0, memory.generation(k._slot), 0)
end

local READ_MAX = 64 * 2 ^ 20

local function check_count(what, count)
  if type(count) ~= "number" or not (count >= 0 and count <= READ_MAX) or count % 1 ~= 0 then
    errors.raise("invalid", ("%s wants a number of bytes up to %d, not %s"):format(what, READ_MAX,
      tostring(count)))
  end
end

--- Bytes of memory. A running guest may change them meanwhile. Raises "unmapped", "invalid", "ended".
---@param where ktstr.Address|ktstr.Object|number
---@param count integer at most 64 MiB
---@return string
function Kernel:read(where, count)
  check_count("k:read", count)
  return memory.bytes(context(self, where), nil, memory.place(self._slot, where), count)
end

--- One word; 64-bit ones from 2^53 on are uint64_t.
---@param where ktstr.Address|ktstr.Object|number
---@return number|ffi.cdata*
function Kernel:u64(where)
  return load.u64(context(self, where), nil, memory.place(self._slot, where))
end

---@param where ktstr.Address|ktstr.Object|number
---@return integer
function Kernel:u32(where)
  return load.u32(context(self, where), nil, memory.place(self._slot, where))
end

---@param where ktstr.Address|ktstr.Object|number
---@return integer
function Kernel:u16(where)
  return load.u16(context(self, where), nil, memory.place(self._slot, where))
end

---@param where ktstr.Address|ktstr.Object|number
---@return integer
function Kernel:u8(where)
  return load.u8(context(self, where), nil, memory.place(self._slot, where))
end

--- A word that is an address.
---@param where ktstr.Address|ktstr.Object|number
---@return ktstr.Address
function Kernel:pointer(where)
  return address.new(load.word(context(self, where), nil, memory.place(self._slot, where)))
end

local STRING_MAX = 4096

--- The string at an address, up to its NUL or `max` bytes.
---@param where ktstr.Address|ktstr.Object|number
---@param max integer|nil nil: 4096
---@return string
function Kernel:string(where, max)
  max = max or STRING_MAX
  check_count("k:string", max)
  return memory.string(context(self, where), nil, memory.place(self._slot, where), max)
end

--- Writes bytes. Of a running machine only a word of 1, 2, 4 or 8 bytes that is aligned, which the guest sees
--- at once. Raises "running", "unmapped", "ended".
---@param where ktstr.Address|ktstr.Object|number
---@param bytes string
function Kernel:write(where, bytes)
  if type(bytes) ~= "string" then
    errors.raise("invalid", ("k:write wants the bytes as a string, not as a %s"):format(type(bytes)),
      "obj.field = value writes a number")
  end
  memory.store_bytes(context(self, where), nil, memory.place(self._slot, where), bytes)
end

--- The guest-physical address of a virtual one. Raises "unmapped".
---@param where ktstr.Address|ktstr.Object|number
---@return number
function Kernel:phys(where)
  context(self)
  local place = ffi.new "struct view_place"
  c.check(C.view_translate(self._view, 0, memory.place(self._slot, where), false, place))
  return tonumber(place.gpa)
end

return kernel
