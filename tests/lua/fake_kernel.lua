-- A kernel without a machine: hand-made types, a few symbols, and memory that is an array of this process.
-- C reads and writes it as it does a guest's.
local ffi = require "ffi"
local btf = require "tests.lua.btf"
local kernel = require "ktstr.kernel"
local types = require "ktstr.kernel.types"

local fake_kernel = {}

--- Where the direct map begins, and the image; how much there is of each.
fake_kernel.DIRECT, fake_kernel.IMAGE = 0xffff888000000000ULL, 0xffffffff81000000ULL
fake_kernel.DIRECT_SIZE, fake_kernel.IMAGE_SIZE = 0x100000, 0x10000
--- KASLR's: the image is linked so much lower.
fake_kernel.SLIDE = 0x1000000ULL

local function ints(b)
  return {
    u8 = b:typedef("u8", b:int("unsigned char", 1)),
    s8 = b:int("signed char", 1, "signed"),
    u16 = b:int("unsigned short", 2),
    s16 = b:int("short", 2, "signed"),
    u32 = b:int("unsigned int", 4),
    s32 = b:int("int", 4, "signed"),
    u64 = b:typedef("u64", b:int("unsigned long", 8)),
    s64 = b:int("long", 8, "signed"),
    bool = b:int("_Bool", 1, "bool"),
    char = b:int("char", 1, "signed"),
  }
end

local function make_types()
  local b = btf.new()
  local t = ints(b)
  b.index = t.u32
  local color = b:enum("color", 4, { { "RED", 0 }, { "GREEN", 1 }, { "BLUE", 7 } })
  local mood = b:enum("mood", 4, { { "SAD", -1 }, { "CALM", 0 } }, true)
  local comm, bytes = b:array(t.char, 16), b:array(t.u8, 8)
  local flexible, grid = b:array(t.u32, 0), b:array(b:array(t.u32, 3), 2)
  local names = b:array(b:array(t.char, 4), 2)
  local pair = b:struct("pair", 8, { { "a", t.u32, 0 }, { "b", t.u32, 32 } })
  local forward = b:forward "elsewhere"
  local callback = b:pointer(b:prototype(t.s32))
  local void, elsewhere, cpus, where = b:pointer(0), b:pointer(forward), b:pointer(t.u64), b:pointer(pair)
  local pairs_ = b:array(pair, 2)
  local either = b:union(nil, 8, { { "either", t.u64, 0 }, { "or_else", t.u32, 0 } })
  -- Two structs that point to themselves, and pointers to them.
  local node, node_pointer, task_pointer = b.count + 1, b.count + 2, b.count + 3
  b:struct("node", 16, { { "next", node_pointer, 0 }, { "prev", node_pointer, 64 } })
  b:pointer(node)
  b:pointer(b.count + 3)
  local tasks = b:pointer(task_pointer)
  b:struct("task", 256, {
    { "pid", t.s32, 0 },
    { "flags", t.u32, 32 },
    { "parent", task_pointer, 64 },
    { "comm", comm, 128 },
    { "tasks", node, 256 },
    { "u8", t.u8, 384 }, { "s8", t.s8, 392 }, { "u16", t.u16, 400 }, { "s16", t.s16, 416 },
    { "on", t.bool, 432 },
    { "u64", t.u64, 448 }, { "s64", t.s64, 512 },
    { "color", color, 576 }, { "mood", mood, 608 },
    { "stack", void, 640 },
    { "func", callback, 704 },
    { "bytes", bytes, 768 },
    { "grid", grid, 832 },
    { "names", names, 1024 },
    { "pairs", pairs_, 1088 },
    { "inner", elsewhere, 1216 },
    { "cpus", cpus, 1280 },
    { "end", t.u32, 1344 },
    { "type", t.u32, 1376 },
    { "", either, 1408 },
    { "where", where, 1472 },
    { "table", tasks, 1536 },
  })
  b:struct("bits", 16, {
    { "low", t.u32, 0, 3 }, { "signed_", t.s32, 3, 4 }, { "yes", t.bool, 7, 1 }, { "shade", color, 8, 3 },
    { "high", t.u32, 31, 1 }, { "wide", t.u64, 64, 40 }, { "rest", t.u64, 104, 24 },
  })
  b:struct("flex", 4, { { "count", t.u32, 0 }, { "items", flexible, 32 } })
  -- By name known as per-CPU.
  local pcpu = b:pointer(b:struct("scx_sched_pcpu", 8, { { "events", t.u64, 0 } }))
  local sched = b:struct("scx_sched", 16, { { "level", t.u32, 0 }, { "pcpu", pcpu, 64 } })
  b:struct("reader", 8, { { "sched", b:pointer(b:const(sched)), 0 } })
  b:enum("far", 4, { { "NEAR", 0 }, { "FAR", 0x80000000 } })
  b:enum64("slice", { { "SLICE_DEFAULT", 20000000, 0 }, { "SLICE_ENDLESS", 0xffffffff, 0xffffffff } })
  b:struct("twin", 4, { { "left", t.u32, 0 } })
  b:struct("twin", 8, { { "right", t.u64, 0 } })
  b:struct("label", 24, { { "text", b:pointer(b:const(t.char)), 0 }, { "id", t.u64, 64 },
    { "texts", b:array(b:pointer(t.char), 1), 128 } })
  b:struct("rq", 16, { { "nr_running", t.u32, 0 }, { "curr", task_pointer, 64 } })
  b:variable("runqueues", b.count, 16)
  local set = types.from_blob(b:blob())
  set.is_kernel = true
  return set
end

-- As linked.
local LINK = fake_kernel.IMAGE - fake_kernel.SLIDE
local SYMBOLS = {
  { name = "_text", address = LINK, kind = "T", moves = true },
  { name = "schedule", address = LINK + 0x100, kind = "T", moves = true },
  { name = "init_task", address = LINK + 0x1000, kind = "D", moves = true },
  { name = "jiffies_64", address = LINK + 0x2000, kind = "D", moves = true },
  { name = "jiffies", address = LINK + 0x2000, kind = "D", moves = true },
  { name = "scx_root", address = LINK + 0x2010, kind = "d", moves = true },
  { name = "twice", address = LINK + 0x2020, kind = "d", moves = true },
  { name = "twice", address = LINK + 0x2040, kind = "d", moves = true },
  { name = "some_int", address = LINK + 0x2060, kind = "d", moves = true },
  { name = "__per_cpu_offset", address = LINK + 0x2100, kind = "d", moves = true },
  { name = "nr_cpu_ids", address = LINK + 0x2200, kind = "d", moves = true },
  { name = "__per_cpu_load", address = LINK + 0x4000, kind = "D", moves = true },
}

local Symbols = {}
Symbols.__index = Symbols

function Symbols:find(name)
  local list = {}
  for _, symbol in ipairs(self) do
    if symbol.name == name then
      list[#list + 1] = symbol
    end
  end
  return list
end

function Symbols:at(place)
  local found
  for _, symbol in ipairs(self) do
    if symbol.moves and symbol.address <= place and place < LINK + fake_kernel.IMAGE_SIZE then
      found = symbol
    end
  end
  return found
end

function Symbols:names(prefix, most)
  local list = {}
  for _, symbol in ipairs(self) do
    if symbol.name:sub(1, #prefix) == prefix and #list < most then
      list[#list + 1] = symbol.name
    end
  end
  return list
end

local function symbols_of(zero_based)
  local list = setmetatable({ unpack(SYMBOLS) }, Symbols)
  local base = zero_based and 0ULL or LINK + 0x4000
  for name, offset in pairs { __per_cpu_start = 0, runqueues = 0x20, __per_cpu_end = 0x1000 } do
    list[#list + 1] = { name = name, address = base + offset, kind = "D", moves = not zero_based }
  end
  return list
end

local Fake = {}
Fake.__index = Fake

--- A fresh kernel, frozen. `zero_based`: its per-CPU symbols are offsets, as before 7.x.
---@param options { zero_based: boolean|nil }|nil
function fake_kernel.new(options)
  local self = setmetatable({
    direct = ffi.new("uint8_t[?]", fake_kernel.DIRECT_SIZE),
    image = ffi.new("uint8_t[?]", fake_kernel.IMAGE_SIZE),
    view = ffi.new "struct view",
  }, Fake)
  local view = self.view
  view.memory = ffi.cast("const struct guest_memory *", self.direct)
  view.generation, view.frozen, view.slide = 7, 1, fake_kernel.SLIDE
  for i, range in pairs { [0] = { "IMAGE", self.image }, { "DIRECT", self.direct } } do
    view.ranges[i].start = fake_kernel[range[1]]
    view.ranges[i].size = fake_kernel[range[1] .. "_SIZE"]
    view.ranges[i].hva = range[2]
  end
  self.vm = { release = "fake", topology = { cpus = 2 }, machine = { view = function()
    return self.view -- and k holds self so, whose memory it is
  end } }
  local k = kernel.new(self.vm)
  k._image = { path = "/fake/vmlinux", symbols = symbols_of(options and options.zero_based),
    types = make_types() }
  k._prepared = true
  self.k = k
  return self
end

--- Per-CPU memory of two CPUs, set up.
function Fake:set_up_percpu()
  local base = self.k._image.symbols:find("__per_cpu_start")[1]
  local start = base.moves and base.address + fake_kernel.SLIDE or base.address
  for cpu = 0, 1 do
    self:put(fake_kernel.IMAGE + 0x2100 + 8 * cpu, "uint64_t",
      fake_kernel.DIRECT + 0x80000 + 0x10000 * cpu - start)
  end
  self:put(fake_kernel.IMAGE + 0x2200, "uint32_t", 2)
  require("ktstr.kernel.percpu").measure(self.k)
  self.k._percpu_known = true
end

--- The host's address of a byte of it.
function Fake:at(place)
  if place - fake_kernel.DIRECT < fake_kernel.DIRECT_SIZE then
    return self.direct + (place - fake_kernel.DIRECT)
  end
  assert(place - fake_kernel.IMAGE < fake_kernel.IMAGE_SIZE, "no memory of the fake kernel's")
  return self.image + (place - fake_kernel.IMAGE)
end

function Fake:put(place, ctype, value)
  ffi.cast(ctype .. " *", self:at(place))[0] = value
end

function Fake:peek(place, ctype)
  return ffi.cast(ctype .. " *", self:at(place))[0]
end

function Fake:put_string(place, text)
  ffi.copy(self:at(place), text, #text)
end

--- As main's calls do.
function Fake:freeze()
  self.view.frozen = 1
end

function Fake:thaw()
  self.view.frozen = 0
  self.view.generation = self.view.generation + 1
end

function Fake:finish()
  self:thaw()
  self.view.memory = nil
  ffi.fill(self.view.ranges, ffi.sizeof(self.view.ranges))
end

return fake_kernel
