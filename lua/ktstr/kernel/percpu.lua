-- Per-CPU memory: one CPU's part of it, and where addresses lie that are none without a CPU.
--
-- A per-CPU symbol, and a per-CPU pointer, has each CPU's offset added. Before 7.x both are offsets from 0;
-- from then on they are addresses in the kernel's image, where memory can be read that is no CPU's.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
local memory = require "ktstr.kernel.memory"
local values = require "ktstr.kernel.values"

local Object = memory.Object

local percpu = {}

local PAGE = 4096
local START, END, LOAD = "__per_cpu_start", "__per_cpu_end", "__per_cpu_load"

local function symbol_of(k, name)
  return k._image.symbols:find(name)[1]
end

-- The bytes of the first chunk, static variables and all; nil before the kernel has made it.
local function chunk_size(k)
  if not symbol_of(k, "pcpu_first_chunk") or not symbol_of(k, "pcpu_base_addr") then
    return nil
  end
  local chunk = k:var("pcpu_first_chunk", "struct pcpu_chunk *")
  local base = k:var("pcpu_base_addr", "void *")
  if chunk == k.null or base == k.null then
    return nil
  end
  return chunk.base_addr - base + chunk.nr_pages * PAGE
end

--- Looks up where per-CPU addresses lie: nothing there may be followed. To be called again as long as
--- k._percpu_known is false, since the kernel makes the area as it boots.
---@param k ktstr.Kernel
function percpu.measure(k)
  local first, last = symbol_of(k, START), symbol_of(k, END)
  if not first or not last then
    k._percpu_known = true
    return
  end
  k._percpu = { first = first.address, last = last.address, moves = first.moves }
  k._area.start = first.moves and first.address + k._view.slide or first.address
  k._area.size = last.address - first.address
  k._static_area.start, k._static_area.size = k._area.start, k._area.size
  local ok, size = memory.try(chunk_size, k)
  if ok and size and size > 0 and size < 2 ^ 32 then
    k._area.size = size
    k._percpu_known = true
  end
end

--- Whether a symbol is per-CPU: its address is none of its own.
---@param k ktstr.Kernel
---@param symbol ktstr.RawSymbol
---@return boolean
function percpu.is_symbol(k, symbol)
  local area = k._percpu
  return area ~= nil and symbol.moves == area.moves and symbol.address >= area.first
    and symbol.address < area.last
end

local function cpu_count(k)
  if symbol_of(k, "nr_cpu_ids") then
    return k:var("nr_cpu_ids", "unsigned int")
  end
  return k._vm.topology.cpus
end

local function raise_no_cpu(cpu, count)
  errors.raise("invalid", ("there is no CPU %s: the kernel has %s"):format(tostring(cpu),
    count == 1 and "CPU 0 alone" or ("CPUs 0 to %d"):format(count - 1)))
end

local WORD = 8

-- Read once it is there: it stays for as long as the kernel runs.
local function read_offset(k, cpu)
  local count = cpu_count(k)
  if type(cpu) ~= "number" or cpu < 0 or cpu >= count or cpu % 1 ~= 0 then
    raise_no_cpu(cpu, count)
  end
  local offset = address.raw(k:pointer(k:symbol "__per_cpu_offset" + cpu * WORD))
  local load = symbol_of(k, LOAD)
  if offset == 0ULL or load and offset == load.address + k._view.slide then
    errors.raise("invalid", ("the kernel has not set up its per-CPU memory yet, so there is none of "
      .. "CPU %d"):format(cpu), "it does so early in its boot")
  end
  k._offsets[cpu] = offset
  return offset
end

--- What is to be added to a per-CPU address for a CPU. Raises "invalid".
---@param k ktstr.Kernel
---@param cpu integer
---@return ffi.cdata* uint64_t
function percpu.offset(k, cpu)
  return k._offsets[cpu] or read_offset(k, cpu)
end

local function raise_not_percpu(name)
  errors.raise("invalid", ("'%s' is not per-CPU"):format(name), ("k:var \"%s\" reads it"):format(name))
end

local function raise_untyped(name)
  errors.raise("not-found", ("the kernel does not say of which type the per-CPU variable '%s' is"):format(
    name), ("k:per_cpu(\"%s\", cpu, \"struct ...\")"):format(name))
end

local function new_variable(k, name, type_name)
  local symbol = k:_symbol(name, function(symbol)
    return percpu.is_symbol(k, symbol)
  end)
  if not percpu.is_symbol(k, symbol) then
    raise_not_percpu(name)
  end
  local set = k:_types()
  local type = type_name and values.resolve_type(set, type_name, k) or set:variable(name)
    or raise_untyped(name)
  local d = values.describe(nil, nil, type, 0, 0, name)
  return { place = k:_place(symbol), d = d, handle = values.handle(type, "plain"), origin = d.origin }
end

-- A per-CPU symbol with its type, looked up once.
local function variable(k, name, type_name)
  local of_type = k._percpu_vars
  if type_name ~= nil then
    of_type = k._typed_percpu_vars[type_name] or {}
    k._typed_percpu_vars[type_name] = of_type
  end
  of_type[name] = of_type[name] or new_variable(k, name, type_name)
  return of_type[name]
end

local UPPER_HALF = 0x8000000000000000ULL

-- One of vmalloc's chunks has a difference of two addresses for an address, which is in the lower half.
local function check_percpu(k, place)
  if place == 0ULL then
    errors.raise("null", "the per-CPU pointer is NULL", "compare it with k.null first")
  elseif place >= UPPER_HALF and place - k._area.start >= k._area.size then
    errors.raise("invalid", ("%s is an address, and no per-CPU one"):format(address.hex(place)),
      "what is there is followed as it is")
  end
end

--- One CPU's part: of a variable by its name, or of what a per-CPU pointer stands for.
---@param k ktstr.Kernel
---@param what string|ktstr.Object|ktstr.Address|number
---@param cpu integer
---@param type_name string|ktstr.Type|nil
---@return any
function percpu.get(k, what, cpu, type_name)
  if not k._percpu_known then
    percpu.measure(k)
  end
  local offset = percpu.offset(k, cpu)
  local generation = memory.generation(k._slot)
  if type(what) == "string" then
    local one = variable(k, what, type_name)
    local place = one.place + offset
    return one.d.read(Object(place, k._slot, one.handle, generation, one.origin), one.d, place)
  end
  local place = memory.place(k._slot, what)
  check_percpu(k, place)
  local type_of = type_name and values.resolve_type(k:_types(), type_name, k)
  if ffi.istype(Object, what) then
    type_of = type_of or what:type_()
    return Object(place + offset, k._slot, values.handle(type_of, "pointed"), generation, what.origin_)
  elseif type_of then
    return Object(place + offset, k._slot, values.handle(type_of, "pointed"), generation,
      memory.origin(type_of.name))
  end
  return address.new(place + offset)
end

return percpu
