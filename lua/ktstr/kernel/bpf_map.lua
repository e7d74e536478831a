-- A BPF map and what is in it, typed by its program's own BTF.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local containers = require "ktstr.kernel.containers"
local errors = require "ktstr.errors"
local program_types = require "ktstr.kernel.program_types"
local walk = require "ktstr.kernel.walk"

local bpf_map = {}

local PAGE = 4096
local GUARD_HALF = 32768 -- an arena begins so far into its area of addresses
local ARENA_SIZE = 2 ^ 32
local RECORD_HEADER = 8
local MAX_BUCKETS = 2 ^ 31
local NULLS = 1

local function round_up_8(n)
  return math.ceil(n / 8) * 8
end

---@class ktstr.BpfMap
---@field id integer
---@field name string at most 15 characters, the kernel keeps no more
---@field type string "array", "percpu_hash", "ringbuf" ...
---@field key_size integer bytes
---@field value_size integer
---@field max_entries integer
---@field object ktstr.Object its struct bpf_map
local Map = {}
Map.__index = Map

Map.__tostring = function(map)
  return ("BPF map %d '%s' (%s)"):format(map.id, map.name, map.type)
end

--- A struct bpf_map as a script sees it.
---@param k ktstr.Kernel
---@param object ktstr.Object
---@param owner_types fun(map: ktstr.BpfMap): ktstr.TypeSet|nil finds types where the map has none of its own
---@return ktstr.BpfMap
function bpf_map.new(k, object, owner_types)
  local m = access.memory(k)
  local type = access.u32(m, access.address(object:member_ "map_type"))
  local name = access.enum_name(k, "enum bpf_map_type", type)
  return setmetatable({
    k = k,
    id = object.id,
    name = object.name,
    type = name and name:gsub("^BPF_MAP_TYPE_", ""):lower() or tostring(type),
    key_size = object.key_size,
    value_size = object.value_size,
    max_entries = object.max_entries,
    object = object,
    owner_types = owner_types,
  }, Map)
end

function Map:_fail(message, hint)
  errors.raise("unsupported", ("%s %s"):format(tostring(self), message), hint)
end

--- The types that the map was made with: those of its program; nil when it came without BTF.
---@return ktstr.TypeSet|nil
function Map:types()
  if self.object.btf ~= self.k.null then
    return program_types(self.k, self.object.btf)
  end
  return self.owner_types and self.owner_types(self)
end

-- A function that turns the address of a key or value into what a script gets: an object of its type, a
-- number for a scalar, the bytes as a string where there is no type.
function Map:_presenter(member, size)
  local id = self.object[member]
  local k = self.k
  if id ~= 0 and self.object.btf ~= k.null then
    local make = access.maker(k, self:types():type(id))
    local is_scalar = access.is_scalar(self:types():type(id))
    return function(at)
      local object = make(at)
      return is_scalar and object[0] or object
    end
  end
  local vmlinux = self.object:has_ "btf_vmlinux_value_type_id" and self.object.btf_vmlinux_value_type_id or 0
  if member == "btf_value_type_id" and vmlinux ~= 0 then
    return access.maker(k, access.types(k):type(vmlinux))
  end
  return function(at)
    return k:read(access.pointer(at), size)
  end
end

-- A per-CPU value: by CPU number, from 0.
function Map:_per_cpu(present)
  local k = self.k
  local cpus = k:cpus "possible"
  return function(pointer)
    local values = {}
    for _, cpu in ipairs(cpus) do
      values[cpu] = present(access.per_cpu(k, pointer, cpu))
    end
    return values
  end
end

-- --- arrays ---

function Map:_array_entries(is_percpu)
  local k, m = self.k, access.memory(self.k)
  local base = access.address(self.object)
  local size = access.u32(m, base + access.offset(k, "struct bpf_array", "elem_size"))
  local values = base + access.offset(k, "struct bpf_array", is_percpu and "pptrs" or "value")
  local present = self:_presenter("btf_value_type_id", self.value_size)
  local per_cpu = is_percpu and self:_per_cpu(present)
  local i, count = -1, self.max_entries
  return function()
    i = i + 1
    if i >= count then
      return nil
    end
    if is_percpu then
      return i, per_cpu(access.word(m, values + i * 8))
    end
    return i, present(values + ffi.cast("uint64_t", i) * size)
  end
end

-- Maps and programs in an array: places that are empty are left out.
function Map:_pointer_entries(make)
  local k, m = self.k, access.memory(self.k)
  local values = access.address(self.object) + access.offset(k, "struct bpf_array", "ptrs")
  local i = -1
  return function()
    while i + 1 < self.max_entries do
      i = i + 1
      local at = access.word(m, values + i * 8)
      if at ~= 0ULL then
        return i, make(at)
      end
    end
  end
end

-- --- hashes ---

-- Addresses of the elements (struct htab_elem) of all buckets.
function Map:_hash_elements()
  local k, m = self.k, access.memory(self.k)
  local what = "the buckets of " .. tostring(self)
  local base = access.address(self.object)
  local buckets = access.word(m, base + access.offset(k, "struct bpf_htab", "buckets"))
  local count = access.u32(m, base + access.offset(k, "struct bpf_htab", "n_buckets"))
  local stride = access.size(k, "struct bucket")
  local state = walk.new(buckets)
  if count > MAX_BUCKETS then
    walk.fail(state, what, ("the map has %.0f of them"):format(count))
  end
  local bucket, node = -1, 1ULL
  return function()
    while node == 0ULL or bit.band(node, NULLS + 0ULL) == 1ULL do
      bucket = bucket + 1
      if bucket >= count then
        return nil
      end
      node = walk.reading(state, what, access.word, m, buckets + ffi.cast("uint64_t", bucket) * stride)
    end
    local found = node
    walk.step(state, what, found)
    node = walk.reading(state, what, access.word, m, found)
    return found
  end
end

function Map:_hash_entries(is_percpu, make)
  local k, m = self.k, access.memory(self.k)
  local next = self:_hash_elements()
  local key_at = access.offset(k, "struct htab_elem", "key")
  local value_at = key_at + round_up_8(self.key_size)
  local present_key = self:_presenter("btf_key_type_id", self.key_size)
  local present = make or self:_presenter("btf_value_type_id", self.value_size)
  local per_cpu = is_percpu and self:_per_cpu(present)
  return function()
    local element = next()
    if not element then
      return nil
    elseif is_percpu then
      return present_key(element + key_at), per_cpu(access.word(m, element + value_at))
    elseif make then
      return present_key(element + key_at), make(access.word(m, element + value_at))
    end
    return present_key(element + key_at), present(element + value_at)
  end
end

-- --- storage that belongs to a task, a cgroup ... ---

function Map:_storage_entries(owner)
  local k, m = self.k, access.memory(self.k)
  local base = access.address(self.object)
  local map, element = "struct bpf_local_storage_map", "struct bpf_local_storage_elem"
  local buckets = access.word(m, base + access.offset(k, map, "buckets"))
  local bits = access.u32(m, base + access.offset(k, map, "bucket_log"))
  if bits > 31 then
    errors.raise("format", ("%s says that it has 2^%.0f buckets"):format(tostring(self), bits))
  end
  local stride = access.size(k, "struct bpf_local_storage_map_bucket")
  local storage_at = access.offset(k, element, "local_storage")
  local owner_at = access.offset(k, "struct bpf_local_storage", "owner")
  local data_at = access.offset(k, element, "sdata.data")
  local make = access.maker(k, owner)
  local present = self:_presenter("btf_value_type_id", self.value_size)
  local bucket, next = -1, function() end
  return function()
    local found = next()
    while not found do
      bucket = bucket + 1
      if bucket >= 2 ^ bits then
        return nil
      end
      next = containers.hlist(k, access.pointer(buckets + ffi.cast("uint64_t", bucket) * stride), element,
        "map_node")
      found = next()
    end
    local at = access.address(found)
    local storage = access.word(m, at + storage_at)
    return make(storage == 0ULL and storage or access.word(m, storage + owner_at)), present(at + data_at)
  end
end

-- --- all of them ---

local function map_of(self)
  return function(at)
    return bpf_map.new(self.k, access.object(self.k, "struct bpf_map", at))
  end
end

local ENTRIES = {
  array = function(self) return self:_array_entries(false) end,
  percpu_array = function(self) return self:_array_entries(true) end,
  hash = function(self) return self:_hash_entries(false) end,
  lru_hash = function(self) return self:_hash_entries(false) end,
  percpu_hash = function(self) return self:_hash_entries(true) end,
  lru_percpu_hash = function(self) return self:_hash_entries(true) end,
  array_of_maps = function(self) return self:_pointer_entries(map_of(self)) end,
  hash_of_maps = function(self) return self:_hash_entries(false, map_of(self)) end,
  prog_array = function(self) return self:_pointer_entries(access.maker(self.k, "struct bpf_prog")) end,
  task_storage = function(self) return self:_storage_entries "struct task_struct" end,
  cgrp_storage = function(self) return self:_storage_entries "struct cgroup" end,
  sk_storage = function(self) return self:_storage_entries "struct sock" end,
  inode_storage = function(self) return self:_storage_entries "struct inode" end,
  struct_ops = function(self)
    local at = access.address(self.object) + access.offset(self.k, "struct bpf_struct_ops_map", "kvalue")
    local present = self:_presenter("btf_value_type_id", self.value_size)
    local done = false
    return function()
      if not done then
        done = true
        return 0, present(at)
      end
    end
  end,
}

--- Keys and values: `for key, value in map:entries() do`. Each is an object of its type, a number for a
--- scalar, a string of bytes where the map has no types. A per-CPU map's value is a table by CPU number; a
--- task storage's key is the task. Raises "unsupported" for a kind of map that has no entries, or none known
--- here.
---@return fun(): any, any
function Map:entries()
  local entries = ENTRIES[self.type]
  if not entries then
    local hint
    if self.type == "ringbuf" then
      hint = "map:records() has what is in a ring buffer"
    elseif self.type == "arena" then
      hint = "map:arena(type, address) has what is at an address of an arena, map:pages() its bytes"
    end
    self:_fail("has no entries that can be read", hint)
  end
  return entries(self)
end

--- The value of a key that is a number or a string of bytes; nil when there is none.
---@param key integer|string
---@return any
function Map:lookup(key)
  for found, value in self:entries() do
    if found == key then
      return value
    end
  end
end

--- The globals of a program, of a map such as "prog.bss" or "prog.data": an object whose fields they are,
--- and which can be written, too.
---@return ktstr.Object
function Map:globals()
  local value = self.type == "array" and self.max_entries == 1 and self:lookup(0)
  if not value or not access.is_object(value) then
    self:_fail("is no section of a program's globals", "those are called PROGRAM.bss, .data, .rodata")
  end
  return value
end

local BUSY, DISCARDED = 2 ^ 31, 2 ^ 30

--- What is in a ring buffer and has not been consumed, the oldest first; a record that is still being written
--- ends it. Each is the bytes, or an object when a type is named.
---@param type string|nil of the program's types, or the kernel's
---@return fun(): string|ktstr.Object|nil
function Map:records(type)
  if self.type ~= "ringbuf" and self.type ~= "user_ringbuf" then
    self:_fail "is no ring buffer"
  end
  local k, m = self.k, access.memory(self.k)
  local ring = access.object(k, "struct bpf_ringbuf",
    access.word(m, access.address(self.object) + access.offset(k, "struct bpf_ringbuf_map", "rb")))
  local start = access.address(ring)
  local function field(name)
    return access.word(m, start + access.offset(k, "struct bpf_ringbuf", name))
  end
  local mask, data = field "mask", start + access.offset(k, "struct bpf_ringbuf", "data")
  local make = type and access.maker(k, self:_type(type))
  local at, last = field "consumer_pos", field "producer_pos"
  if access.has(k, "struct bpf_ringbuf", "overwrite_pos") then
    -- Of a ring that loses the oldest: records before this have been overwritten.
    local kept = field "overwrite_pos"
    at = kept > at and kept or at
  end
  return function()
    while at < last do
      if last - at > mask + 1 then
        errors.raise("format", ("%s has records from %s to %s, and %s bytes"):format(tostring(self),
          walk.hex(at), walk.hex(last), walk.hex(mask + 1)),
          "a running kernel changes while it is looked at: freeze the machine")
      end
      local header = data + bit.band(at, mask)
      local length = access.u32(m, header)
      local size = length % DISCARDED
      if length >= BUSY then
        return nil
      end
      at = at + round_up_8(size + RECORD_HEADER)
      if length < DISCARDED then
        local place = header + RECORD_HEADER
        return make and make(place) or k:read(access.pointer(place), size)
      end
    end
  end
end

-- A type by name: of the map's program, else the kernel's.
function Map:_type(name)
  local types = self:types()
  return types and types:find(name) or access.type(self.k, name)
end

-- Where the byte lies that users of an arena have at an address whose lower half is 0.
function Map:_arena_start()
  if self.type ~= "arena" then
    self:_fail "is no arena"
  end
  local k = self.k
  local area = access.object(k, "struct vm_struct", access.word(access.memory(k),
    access.address(self.object) + access.offset(k, "struct bpf_arena", "kern_vm")))
  return access.member_word(k, area, "addr") + GUARD_HALF
end

--- The pages that an arena has, by its users' addresses: `for address, bytes in map:pages() do`.
---@return fun(): ktstr.Address|nil, string
function Map:pages()
  local k, start = self.k, self:_arena_start()
  local first = access.word(access.memory(k),
    access.address(self.object) + access.offset(k, "struct bpf_arena", "user_vm_start"))
  local from, offset, size = start + first % ARENA_SIZE, 0ULL, self.max_entries * PAGE + 0ULL
  return function()
    while offset < size do
      local at, gap = offset, ffi.C.view_gap(k._view, from + offset)
      if gap == 0 then
        offset = offset + PAGE
        return access.pointer(first + at), k:read(access.pointer(from + at), PAGE)
      end
      offset = gap < size - offset and (offset + gap + (PAGE - 1)) / PAGE * PAGE or size
    end
  end
end

--- What lies at an address of an arena, as its program or its user names it.
---@param type string of the program's types, or the kernel's
---@param address integer|ktstr.Address the user's address; its lower 32 bits count
---@return ktstr.Object
function Map:arena(type, address)
  local start = self:_arena_start()
  return access.maker(self.k, self:_type(type))(start + access.address(address) % ARENA_SIZE)
end

return bpf_map
