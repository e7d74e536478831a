-- Symbols that are in no image, from the kernel's own lists: those of modules, what ftrace kept of modules'
-- start-up code, its trampolines, BPF programs, the pages of kprobes. All that /proc/kallsyms prints behind
-- the image's, in its order, under the same names.
--
-- The lists change while the kernel runs: what was found is kept for one freeze. A module's table is decoded
-- again only when its bytes have changed.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local containers = require "ktstr.kernel.containers"
local errors = require "ktstr.errors"
local modules = require "ktstr.kernel.modules"

local live = {}

local PAGE = 4096
local NAME_MAX = 512 -- KSYM_NAME_LEN
local SYMBOLS_MAX = 2 ^ 20 -- of a module
local NAMES_MAX = 32 * 2 ^ 20 -- bytes of their names
local UNDEFINED = 0 -- a section: it is another's symbol
-- Modules, and all other code that the kernel makes room for while it runs, lie here.
local AREA = 0xffffffff80000000ULL

local ElfSymbol = ffi.typeof [[struct {
  uint32_t name; uint8_t info, other; uint16_t section; uint64_t value, size;
}]]
local SYMBOL_SIZE = ffi.sizeof(ElfSymbol)
local Symbols = ffi.typeof("const $ *", ElfSymbol)

---@class ktstr.LiveSymbol
---@field name string
---@field address ffi.cdata* uint64_t, where it is
---@field kind string nm's letter, as far as it is known: lower case
---@field module string as /proc/kallsyms prints it: a module's name, "bpf", "__builtin__ftrace", ...
---@field moves boolean false: the kernel's slide has no part in it

---@class ktstr.LiveRange what belongs to the symbols in it; those of memory that was given back come last
---@field first ffi.cdata* uint64_t
---@field size number
---@field symbols ktstr.LiveSymbol[] by address
---@field module string|nil what a name is shown with

---@class ktstr.LiveSymbols
---@field list ktstr.LiveSymbol[] in the order of /proc/kallsyms
---@field ranges ktstr.LiveRange[]
local Set = {}
Set.__index = Set

local function has_global(k, name)
  return k:_image_symbol(name) ~= nil
end

local function global(k, name)
  return access.pointer(k:_place(k:_image_symbol(name)))
end

local function new_symbol(name, place, kind, module)
  return { name = name, address = place, kind = kind, module = module, moves = false }
end

local function add_range(set, first, size, symbols, module)
  if size > 0 then
    table.insert(set.ranges, { first = first, size = size, symbols = symbols, module = module })
  end
end

-- --- modules ---

local function fail(module, format, ...)
  errors.raise("format", ("the symbols of module '%s': %s"):format(module, format:format(...)),
    "a running kernel changes while it is looked at: freeze the machine")
end

-- The bytes of a module's three tables; the names end where the last one does.
local function read_tables(k, name, kallsyms)
  local count = kallsyms.num_symtab
  if count > SYMBOLS_MAX then
    fail(name, "%d of them cannot be", count)
  elseif count == 0 then
    return "", "", "", 0
  end
  local symtab = k:read(access.pointer(access.member_word(k, kallsyms, "symtab")), count * SYMBOL_SIZE)
  local symbols, last = ffi.cast(Symbols, symtab), 0
  for i = 0, count - 1 do
    last = math.max(last, symbols[i].name)
  end
  if last > NAMES_MAX then
    fail(name, "a name at %d cannot be", last)
  end
  local strtab = access.pointer(access.member_word(k, kallsyms, "strtab"))
  local kinds = k:read(access.pointer(access.member_word(k, kallsyms, "typetab")), count)
  return symtab, k:read(strtab, last) .. k:string(strtab + last, NAME_MAX), kinds, count
end

local function decode(name, symtab, strings, kinds, count)
  local symbols, text = ffi.cast(Symbols, symtab), ffi.cast("const char *", strings)
  local list, defined = {}, {}
  for i = 0, count - 1 do
    local raw = symbols[i]
    local symbol = new_symbol(ffi.string(text + raw.name), raw.value, kinds:sub(i + 1, i + 1):lower(), name)
    if symbol.name ~= "" then
      list[#list + 1] = symbol
      symbol.index = #list
      if raw.section ~= UNDEFINED then
        defined[#defined + 1] = symbol
      end
    end
  end
  table.sort(defined, function(a, b)
    return a.address < b.address or a.address == b.address and a.index < b.index
  end)
  return { symtab = symtab, strings = strings, kinds = kinds, list = list, defined = defined }
end

-- By kernel and place: a module's symbols as they were last seen, and the bytes that they were made of.
local decoded = setmetatable({}, { __mode = "k" })

local function symbols_of(k, module, name)
  local symtab, strings, kinds, count = read_tables(k, name, module.kallsyms)
  local known = decoded[k] or {}
  decoded[k] = known
  local key = module:key_()
  local one = known[key]
  if not one or one.name ~= name or one.symtab ~= symtab or one.strings ~= strings or one.kinds ~= kinds then
    one = decode(name, symtab, strings, kinds, count)
    one.name = name
    known[key] = one
  end
  return one
end

-- Where a module's memory is: by kinds since 6.4, before that in two parts.
local function add_module_ranges(k, set, module, defined, name)
  if access.has(k, "struct module", "mem") then
    for i = 0, #module.mem - 1 do
      local one = module.mem[i]
      add_range(set, access.address(one.base), one.size, defined, name)
    end
  else
    for _, layout in ipairs { module.core_layout, module.init_layout } do
      add_range(set, access.address(layout.base), layout.size, defined, name)
    end
  end
end

local function add_modules(k, set)
  if not has_global(k, "modules") or not access.has(k, "struct module", "kallsyms") then
    return
  end
  for module in modules.modules(k) do
    if module.state ~= "MODULE_STATE_UNFORMED" and module.kallsyms ~= k.null then
      local name = module.name
      local one = symbols_of(k, module, name)
      for _, symbol in ipairs(one.list) do
        set.list[#set.list + 1] = symbol
      end
      add_module_ranges(k, set, module, one.defined, name)
    end
  end
end

-- --- the others ---

-- One that is all of its range.
local function add_one(set, name, first, size, module, shown)
  local symbol = new_symbol(name, first, "t", module)
  set.list[#set.list + 1] = symbol
  add_range(set, first, size, { symbol }, shown)
end

local function word(k, object, member)
  return access.member_word(k, object, member)
end

-- Where modules' start-up code was. Returns the ranges, which have been given back: others may be there now.
local function add_ftrace_modules(k, set)
  local gone = { list = set.list, ranges = {} }
  if has_global(k, "ftrace_mod_maps") then
    for map in containers.list(k, global(k, "ftrace_mod_maps"), "struct ftrace_mod_map", "list") do
      local module = map.mod.name
      for one in containers.list(k, map:member_ "funcs", "struct ftrace_mod_func", "list") do
        add_one(gone, k:string(word(k, one, "name"), NAME_MAX), word(k, one, "ip"), one.size, module, module)
      end
    end
  end
  return gone.ranges
end

local function add_trampolines(k, set)
  if has_global(k, "ftrace_ops_trampoline_list") then
    for ops in containers.list(k, global(k, "ftrace_ops_trampoline_list"), "struct ftrace_ops", "list") do
      local first = word(k, ops, "trampoline")
      if first ~= 0ULL then
        add_one(set, "ftrace_trampoline", first, ops.trampoline_size, "__builtin__ftrace")
      end
    end
  end
end

local function add_bpf(k, set)
  if has_global(k, "bpf_kallsyms") then
    for one in containers.list(k, global(k, "bpf_kallsyms"), "struct bpf_ksym", "lnode") do
      local first = word(k, one, "start")
      add_one(set, one.name, first, tonumber(word(k, one, "end") - first), "bpf")
    end
  end
end

local function add_kprobes(k, set)
  for _, name in ipairs { "kprobe_insn_slots", "kprobe_optinsn_slots" } do
    if has_global(k, name) then
      local cache = k:object("struct kprobe_insn_cache", global(k, name))
      for page in containers.list(k, cache:member_ "pages", "struct kprobe_insn_page", "list") do
        add_one(set, k:string(word(k, cache, "sym"), NAME_MAX), word(k, page, "insns"), PAGE,
          "__builtin__kprobes")
      end
    end
  end
end

-- --- sets ---

--- All of that name, by address.
---@param name string
---@return ktstr.LiveSymbol[]
function Set:find(name)
  if not self.by_name then
    self.by_name = {}
    for _, symbol in ipairs(self.list) do
      local all = self.by_name[symbol.name] or {}
      self.by_name[symbol.name] = all
      all[#all + 1] = symbol
    end
    for _, all in pairs(self.by_name) do
      table.sort(all, function(a, b)
        return a.address < b.address
      end)
    end
  end
  return self.by_name[name] or {}
end

-- The last at or below an address; of several at one address the first, as in the image.
local function nearest(symbols, place)
  local low, high = 1, #symbols + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if symbols[middle].address <= place then
      low = middle + 1
    else
      high = middle
    end
  end
  local found = symbols[low - 1]
  while low > 2 and symbols[low - 2].address == found.address do
    low = low - 1
    found = symbols[low - 1]
  end
  return found
end

--- The symbol that an address belongs to, and what it is shown with.
---@param place ffi.cdata* uint64_t
---@return ktstr.LiveSymbol|nil, string|nil module
function Set:at(place)
  for _, range in ipairs(self.ranges) do
    if place - range.first < range.size then
      local symbol = nearest(range.symbols, place)
      if symbol and symbol.address - range.first < range.size then
        return symbol, range.module
      end
    end
  end
end

local kept = setmetatable({}, { __mode = "k" })

--- What the kernel has now. Raises "format" and "unmapped" where its lists are damaged, or changed meanwhile.
---@param k ktstr.Kernel
---@return ktstr.LiveSymbols
function live.symbols(k)
  local one = kept[k]
  local view = k._view
  if one and view.frozen ~= 0 and one.generation == view.generation then
    return one
  end
  local set = setmetatable({ list = {}, ranges = {} }, Set)
  if k:_ready().types then
    set.generation = view.frozen ~= 0 and view.generation or nil
    add_modules(k, set)
    local gone = add_ftrace_modules(k, set)
    add_trampolines(k, set)
    add_bpf(k, set)
    add_kprobes(k, set)
    for _, range in ipairs(gone) do
      table.insert(set.ranges, range)
    end
  end
  kept[k] = set.generation and set or nil
  return set
end

--- Whether an address may be a live symbol's: to ask for it is worth while.
---@param place ffi.cdata* uint64_t
---@return boolean
function live.is_near(place)
  return place >= AREA
end

return live
