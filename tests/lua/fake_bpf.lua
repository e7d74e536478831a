-- BPF maps without a machine: laid out as a real kernel's types say, in memory that is an array of this
-- process. All is put together by hand, so that what reads it is checked by something else than itself.
local ffi = require "ffi"
local btf = require "tests.lua.btf"
local image = require "ktstr.kernel.image"
local kernel = require "ktstr.kernel"
local object = require "ktstr.kernel.object"

local fake_bpf = {}

local DIRECT, DIRECT_SIZE = 0xffff888000000000ULL, 0x600000
local IMAGE_DATA = { "__per_cpu_offset", "nr_cpu_ids", "__cpu_possible_mask", "map_idr", "prog_idr" }
local BEHIND = 0x10000 -- the last of these
local PERCPU, STRIDE = DIRECT + 0x400000, 0x80000 -- where the CPUs' own memory lies
local POINTERS = 0x7000 -- per-CPU addresses that are allocated
local CPUS = 2
local ENDS = 64

-- The types of the programs: what a map's key and value are, by these numbers.
local function program_types()
  local b, t = btf.new(), {}
  t.u32, t.u64 = b:int("unsigned int", 4), b:int("unsigned long", 8)
  b.index = t.u32
  t.point = b:struct("point", 8, { { "x", t.u32, 0 }, { "y", t.u32, 32 } })
  local function section(name, variables)
    local members, size = {}, 0
    for i, variable in ipairs(variables) do
      members[i] = { variable, t.u32, size * 8 }
      size = size + 4
    end
    -- As libbpf makes them, but for the kind: a struct has the same members.
    return b:struct(name, size, members)
  end
  t.first, t.second = section("first", { "only", "both" }), section("second", { "both", "other" })
  return t, b:blob()
end

local Fake = {}
Fake.__index = Fake

--- A kernel, frozen, with per-CPU memory and no map yet.
---@param path string of a vmlinux or bzImage
---@param symbols string[]|nil whose memory is needed, too
function fake_bpf.new(path, symbols)
  local its = image.open(path)
  local self = setmetatable({ image = its, types = its.types, at = DIRECT + 0x1000, maps = {}, pointers = 0,
    direct = ffi.new("uint8_t[?]", DIRECT_SIZE), view = ffi.new "struct view" }, Fake)
  local base, last = -1ULL, 0ULL
  for _, names in ipairs { IMAGE_DATA, symbols or {} } do
    for _, name in ipairs(names) do
      local place = its.symbols:find(name)[1].address
      base, last = place < base and place or base, place > last and place or last
    end
  end
  self.base, self.size = base, tonumber(last - base) + BEHIND
  self.data = ffi.new("uint8_t[?]", self.size)
  local view = self.view
  view.memory = ffi.cast("const struct guest_memory *", self.direct)
  view.generation, view.frozen = 7, 1
  for i, range in pairs { [0] = { base, self.size, self.data }, { DIRECT, DIRECT_SIZE, self.direct } } do
    view.ranges[i].start, view.ranges[i].size, view.ranges[i].hva = range[1], range[2], range[3]
  end
  local k = kernel.new { release = "fake", topology = { cpus = CPUS }, machine = { view = function()
    return self.view
  end } }
  k._image, k._prepared, self.k = its, true, k
  self:set_up_percpu()
  self.btf_ids, self.blob = program_types()
  self.btf = self:struct("struct btf", { data = self:bytes(self.blob), data_size = #self.blob })
  return self
end

-- --- memory ---

function Fake:host(place)
  if place - DIRECT < DIRECT_SIZE then
    return self.direct + (place - DIRECT)
  end
  assert(place - self.base < self.size, "no memory of the fake kernel's")
  return self.data + (place - self.base)
end

function Fake:put(place, value, size)
  ffi.cast(({ [1] = "uint8_t *", [2] = "uint16_t *", [4] = "uint32_t *", [8] = "uint64_t *" })[size or 8],
    self:host(place))[0] = value
end

function Fake:take(size)
  local at = self.at
  self.at = at + math.ceil(size / 64) * 64
  assert(self.at < PERCPU)
  return at
end

function Fake:bytes(text)
  local at = self:take(#text)
  ffi.copy(self:host(at), text, #text)
  return at
end

function Fake:offset(type, path)
  return object.offset(self.types:get(type), path) / 8
end

function Fake:set(type, at, fields)
  for path, value in pairs(fields) do
    local bits, member = object.offset(self.types:get(type), path)
    if _G.type(value) == "string" then
      ffi.copy(self:host(at + bits / 8), value, #value)
    else
      self:put(at + bits / 8, value, member.type.size)
    end
  end
  return at
end

function Fake:struct(type, fields, behind)
  return self:set(type, self:take(self.types:get(type).size + (behind or 0)), fields)
end

function Fake:symbol(name)
  return self.k:_place(self.image.symbols:find(name)[1])
end

function Fake:set_up_percpu()
  local start = self.image.symbols:find("__per_cpu_start")[1]
  for cpu = 0, CPUS - 1 do
    self:put(self:symbol "__per_cpu_offset" + 8 * cpu, PERCPU + STRIDE * cpu
      - (start.moves and start.address or 0ULL))
  end
  self.percpu_base = start.moves and start.address or 0ULL
  self:put(self:symbol "nr_cpu_ids", CPUS, 4)
  self:put(self:symbol "__cpu_possible_mask", 2 ^ CPUS - 1)
  require("ktstr.kernel.percpu").measure(self.k)
  self.k._percpu_known = true
end

--- A per-CPU address with a word of its own on each CPU.
function Fake:percpu(words)
  local offset = POINTERS + 64 * self.pointers
  self.pointers = self.pointers + 1
  for cpu = 0, CPUS - 1 do
    self:put(PERCPU + STRIDE * cpu + offset, words[cpu + 1])
  end
  return self.percpu_base + offset
end

-- --- maps ---

local function kind(self, name)
  return self.types:get("enum bpf_map_type"):values()["BPF_MAP_TYPE_" .. name]
end

-- In front of each map: of a struct `type`, with `behind` bytes more.
function Fake:map(type, name, kind_name, options, behind)
  local at = self:struct(type, {}, behind)
  self.maps[#self.maps + 1] = at
  local fields = { map_type = kind(self, kind_name), id = #self.maps, name = name, btf = self.btf }
  for field, value in pairs(options) do
    fields[field] = value
  end
  self:set("struct bpf_map", at, fields)
  return at
end

--- Has the kernel find the maps, by their ids; and what they use.
function Fake:publish()
  local function idr(symbol, entries)
    local node = self:struct("struct xa_node", { shift = 0 })
    local slots = self:offset("struct xa_node", "slots")
    for i, at in ipairs(entries) do
      self:put(node + slots + 8 * i, at)
    end
    self:set("struct idr", self:symbol(symbol), { ["idr_rt.xa_head"] = node + 2 })
  end
  idr("map_idr", self.maps)
  local used = self:take(8 * #self.maps)
  for i, at in ipairs(self.maps) do
    self:put(used + 8 * (i - 1), at)
  end
  local aux = self:struct("struct bpf_prog_aux", { id = 1, name = "prog", btf = self.btf, used_maps = used,
    used_map_cnt = #self.maps })
  idr("prog_idr", { self:struct("struct bpf_prog", { aux = aux }) })
end

--- An array of words of 4 bytes that are programs' globals; `count` elements of it.
function Fake:globals(name, type, words)
  local value = self:offset("struct bpf_array", "value")
  local at = self:map("struct bpf_array", name, "ARRAY", { key_size = 4, value_size = 4 * #words,
    max_entries = 1, btf_value_type_id = self.btf_ids[type] }, 64)
  self:set("struct bpf_array", at, { elem_size = math.ceil(#words / 2) * 8 })
  for i, word in ipairs(words) do
    self:put(at + value + 4 * (i - 1), word, 4)
  end
  return at
end

--- An array of points; of a large one only the first few are set.
function Fake:array(name, count, points)
  local value = self:offset("struct bpf_array", "value")
  local at = self:map("struct bpf_array", name, "ARRAY", { key_size = 4, value_size = 8, max_entries = count,
    btf_key_type_id = self.btf_ids.u32, btf_value_type_id = self.btf_ids.point }, 8 * #points + 64)
  self:set("struct bpf_array", at, { elem_size = 8 })
  for i, point in ipairs(points) do
    self:put(at + value + 8 * (i - 1), point[1], 4)
    self:put(at + value + 8 * (i - 1) + 4, point[2], 4)
  end
  return at
end

--- entries: { key, value }, in so many buckets; of a per-CPU one value is a list of words by CPU.
function Fake:hash(name, kind_name, count, entries, more)
  local is_percpu = kind_name:find "PERCPU" ~= nil
  local stride, key_at = self.types:get("struct bucket").size, self:offset("struct htab_elem", "key")
  local buckets = self:take(stride * count)
  local fields = { key_size = 4, value_size = 8, max_entries = 64, btf_key_type_id = self.btf_ids.u32,
    btf_value_type_id = self.btf_ids.u64 }
  for field, value in pairs(more or {}) do
    fields[field] = value
  end
  local at = self:map("struct bpf_htab", name, kind_name, fields)
  self:set("struct bpf_htab", at, { n_buckets = count, elem_size = key_at + 16, buckets = buckets })
  for bucket = 0, math.min(count, ENDS) - 1 do
    self:put(buckets + stride * bucket, 2 * bucket + 1) -- the end of a list of this kind; or 0
  end
  for i, entry in ipairs(entries) do
    local head, element = buckets + stride * (i % count), self:take(key_at + 16)
    self:put(element, ffi.cast("uint64_t *", self:host(head))[0])
    self:put(head, element)
    self:put(element + key_at, entry[1], 4)
    self:put(element + key_at + 8, is_percpu and self:percpu(entry[2]) or entry[2])
  end
  return at
end

--- Of an array that is per-CPU: a list of words by CPU for each element.
function Fake:percpu_array(name, list)
  local pptrs = self:offset("struct bpf_array", "pptrs")
  local at = self:map("struct bpf_array", name, "PERCPU_ARRAY", { key_size = 4, value_size = 8,
    max_entries = #list, btf_key_type_id = self.btf_ids.u32, btf_value_type_id = self.btf_ids.u64 },
    8 * #list)
  self:set("struct bpf_array", at, { elem_size = 8 })
  for i, words in ipairs(list) do
    self:put(at + pptrs + 8 * (i - 1), self:percpu(words))
  end
  return at
end

--- Of tasks: { pid, comm, value }.
function Fake:task_storage(name, tasks)
  local map, element = "struct bpf_local_storage_map", "struct bpf_local_storage_elem"
  local stride, log = self.types:get("struct bpf_local_storage_map_bucket").size, 2
  local buckets = self:take(stride * 2 ^ log)
  local at = self:map(map, name, "TASK_STORAGE", { key_size = 4, value_size = 8,
    btf_key_type_id = self.btf_ids.u32, btf_value_type_id = self.btf_ids.u64 })
  self:set(map, at, { buckets = buckets, bucket_log = log })
  for i, task in ipairs(tasks) do
    local owner = self:struct("struct task_struct", { pid = task[1], tgid = task[1], comm = task[2] })
    local storage = self:struct("struct bpf_local_storage", { owner = owner })
    local one = self:struct(element, { local_storage = storage }, 64)
    self:put(one + self:offset(element, "sdata.data"), task[3])
    local head = buckets + stride * (i % 2 ^ log) + self:offset("struct bpf_local_storage_map_bucket", "list")
    self:put(one + self:offset(element, "map_node"), ffi.cast("uint64_t *", self:host(head))[0])
    self:put(head, one + self:offset(element, "map_node"))
  end
  return at
end

--- A ring whose consumer stands at `from`; what is not consumed are `records`. Its data is there twice.
function Fake:ring(name, from, records)
  local size, data = 4096, self:offset("struct bpf_ringbuf", "data")
  local ring = self:take(data + 2 * size)
  local at = self:map("struct bpf_ringbuf_map", name, "RINGBUF", { max_entries = size })
  self:set("struct bpf_ringbuf_map", at, { rb = ring })
  local to = from
  for _, record in ipairs(records) do
    for copy = -1, 1 do
      local place = to % size + copy * size
      for i = 0, #record + 7 do
        local byte = i < 8 and (i == 0 and #record or 0) or record:byte(i - 7)
        if place + i >= 0 and place + i < 2 * size then
          self:put(ring + data + (place + i), byte, 1)
        end
      end
    end
    to = to + math.ceil((#record + 8) / 8) * 8
  end
  self:set("struct bpf_ringbuf", ring, { mask = size - 1, consumer_pos = from, producer_pos = to,
    pending_pos = to })
  return at
end

--- One whose pages are all there. It has none where the kernel knows none.
function Fake:arena(name, pages)
  if not self.types:find "struct bpf_arena" then
    return nil
  end
  local GUARD_HALF, PAGE = 32768, 4096
  local area = DIRECT + 0x500000
  local at = self:map("struct bpf_arena", name, "ARENA", { max_entries = #pages })
  self:set("struct bpf_arena", at, { user_vm_start = 2 ^ 44, kern_vm = self:struct("struct vm_struct",
    { addr = area }) })
  for i, text in ipairs(pages) do
    ffi.copy(self:host(area + GUARD_HALF + PAGE * (i - 1)), text, #text)
  end
  return at
end

--- What is in its memory goes: what is read from now on was recorded.
function Fake:wipe()
  ffi.fill(self.direct, DIRECT_SIZE, 0xee)
  ffi.fill(self.data, self.size, 0xee)
end

return fake_bpf
