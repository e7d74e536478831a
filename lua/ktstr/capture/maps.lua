-- BPF maps in a capture plan: every map's description, and what is in those that are wanted, found by the
-- kernel's own table of ids. What it means is read out of the record by the types that came with the
-- programs.
local object = require "ktstr.kernel.object"
local path = require "ktstr.capture.path"

local maps = {}

local MAP, ARRAY, HASH = "struct bpf_map", "struct bpf_array", "struct bpf_htab"
local MAPS_MAX = 1024
local VALUES_MAX = 1024 * 1024 -- bytes of one map
local BTF_MAX = 4 * 1024 * 1024
local BUCKETS_MAX, ENTRIES_MAX, PER_CPU_ENTRIES_MAX = 2 ^ 16, 2 ^ 16, 2 ^ 12
local ARENA_PAGES_MAX = 2 ^ 20 -- all that one can have: those that are not there cost next to nothing
local GUARD_HALF = 32768 -- an arena begins so far into its area of addresses
local NAME_MAX = 15 -- the kernel keeps no more
local SUFFIX, ONCE, MAY_BE_NULL = 2, 4, 8 -- enum plan_flags
local ADD, SUBTRACT, AND, MAX, SHIFT = 0, 1, 2, 3, 4 -- enum plan_calc
local WORD = 8

-- Registers. What is loaded for one kind of map is not looked at by another.
local KIND, COUNT, SIZE, ONE, VALUE, X, Y = 0, 1, 2, 3, 4, 5, 6

-- A struct's members by their offsets in bytes; nil where there is none of that name.
local function layout(set, name)
  local type = set:find(name)
  return type and setmetatable({ size = type.size }, {
    __index = function(_, member)
      local ok, bits = pcall(object.offset, type, member)
      return ok and bits / 8 or nil
    end,
  })
end

local function set(node, register, value, text)
  node:act({ kind = "SET", reg = register, a = value }, text)
end

local function load(node, register, offset, size, text)
  node:act({ kind = "LOAD", reg = register, a = offset, b = size }, text)
end

local function calc(node, register, how, other, text)
  node:act({ kind = "CALC", reg = register, reg2 = other, a = how }, text)
end

-- As many bytes as a register says.
local function copy_sized(node, register, offset, text)
  set(node, ONE, 1, text)
  node:act({ kind = "COPY_SIZED", reg = register, reg2 = ONE, limit = VALUES_MAX, a = offset }, text)
end

-- --- arrays ---

-- Elements behind a struct bpf_array: bytes that lie there.
local function add_array(node, types, text)
  local array = layout(types, ARRAY)
  node:copy(0, array.value)
  load(node, SIZE, array.elem_size, 4, text)
  node:act({ kind = "COPY_SIZED", reg = COUNT, reg2 = SIZE, limit = VALUES_MAX, a = array.value }, text)
end

local function add_percpu_array(node, types, text)
  local array = layout(types, ARRAY)
  node:copy(0, array.value)
  load(node, SIZE, array.elem_size, 4, text)
  local each = node:go({ kind = "ARRAY_SIZED", reg = COUNT, limit = PER_CPU_ENTRIES_MAX, a = array.pptrs,
    b = WORD }, text)
  each:copy(0, WORD)
  copy_sized(each:go({ kind = "FOLLOW" }, text):go({ kind = "PER_CPU" }, text), SIZE, 0, text)
end

-- Programs, with what they are called.
local function add_programs(node, types, text)
  local array, prog, aux = layout(types, ARRAY), layout(types, "struct bpf_prog"),
    layout(types, "struct bpf_prog_aux")
  add_array(node, types, text)
  local each = node:go({ kind = "ARRAY_SIZED", reg = COUNT, limit = PER_CPU_ENTRIES_MAX, a = array.value,
    b = WORD }, text):go({ kind = "FOLLOW", flags = MAY_BE_NULL }, text)
  each:copy(0, prog.size)
  local its = each:go({ kind = "FOLLOW", a = prog.aux }, text)
  its:copy(aux.id, 4)
  its:copy(aux.name, NAME_MAX + 1)
end

-- --- tables of buckets ---

-- `buckets`: how many there are is in COUNT. What each entry is linked by is at its offset `link`.
local function add_buckets(node, buckets, link, text)
  set(node, X, buckets.size, text)
  local first = node:go({ kind = "FOLLOW", a = buckets.at }, text)
  first:act({ kind = "COPY_SIZED", reg = COUNT, reg2 = X, limit = BUCKETS_MAX * buckets.size }, text)
  return first:go({ kind = "ARRAY_SIZED", reg = COUNT, limit = BUCKETS_MAX, b = buckets.size }, text)
    :go({ kind = "CHAIN", a = buckets.head, b = link, limit = ENTRIES_MAX }, text)
end

local function add_elements(node, types, text)
  local hash, bucket = layout(types, HASH), layout(types, "struct bucket")
  node:copy(0, hash.size)
  load(node, COUNT, hash.n_buckets, 4, text)
  load(node, SIZE, hash.elem_size, 4, text)
  local each = add_buckets(node, { at = hash.buckets, size = bucket.size, head = bucket.head }, 0, text)
  copy_sized(each, SIZE, 0, text)
  return each
end

local function add_hash(node, types, text)
  add_elements(node, types, text)
end

local function add_percpu_hash(node, types, text)
  -- An element's last word leads to its values.
  local values = add_elements(node, types, text):go({ kind = "MOVE", reg = SIZE }, text)
    :go({ kind = "FOLLOW", a = 0ULL - WORD }, text):go({ kind = "PER_CPU" }, text)
  copy_sized(values, VALUE, 0, text)
end

-- What is told of whom a storage belongs to.
local OWNERS = {
  ["struct task_struct"] = { { "pid", 4 }, { "tgid", 4 }, { "comm", 16 } },
  ["struct cgroup"] = { { "kn", WORD } },
}

-- Storage that belongs to a task, a cgroup ...
local function add_storage(owner)
  return function(node, types, text)
    local map, bucket = layout(types, "struct bpf_local_storage_map"),
      layout(types, "struct bpf_local_storage_map_bucket")
    local element, storage = layout(types, "struct bpf_local_storage_elem"),
      layout(types, "struct bpf_local_storage")
    node:copy(0, map.size)
    set(node, COUNT, 1, text)
    load(node, X, map.bucket_log, 4, text)
    calc(node, COUNT, SHIFT, X, text)
    local each = add_buckets(node, { at = map.buckets, size = bucket.size, head = bucket.list },
      element.map_node, text)
    local value = element["sdata.data"]
    each:copy(0, value)
    copy_sized(each, VALUE, value, text)
    -- One that is being taken away has none any more.
    local its = each:go({ kind = "FOLLOW", flags = MAY_BE_NULL, a = element.local_storage }, text)
    its:copy(storage.owner, WORD)
    local who, fields = its:go({ kind = "FOLLOW", flags = MAY_BE_NULL, a = storage.owner }, text),
      layout(types, owner)
    for _, field in ipairs(OWNERS[owner] or {}) do
      if fields and fields[field[1]] then
        who:copy(fields[field[1]], field[2])
      end
    end
  end
end

-- --- the others ---

local function add_struct_ops(node, types, text)
  local ops = layout(types, "struct bpf_struct_ops_map")
  if ops then
    node:copy(0, ops.size)
    copy_sized(node, VALUE, ops.kvalue, text)
  end
end

-- Where it stands, and what has not been consumed. Its pages are there twice, one time behind the other; what
-- goes on at the beginning is looked for there, too.
local function add_ring(node, types, text)
  local map, ring = layout(types, "struct bpf_ringbuf_map"), layout(types, "struct bpf_ringbuf")
  local FROM, LENGTH, MASK = COUNT, SIZE, X
  node:copy(0, map.size)
  local at = node:go({ kind = "FOLLOW", a = map.rb }, text)
  for _, name in ipairs { "mask", "consumer_pos", "producer_pos", "pending_pos", "overwrite_pos" } do
    if ring[name] then
      at:copy(ring[name], WORD)
    end
  end
  load(at, MASK, ring.mask, WORD, text)
  load(at, FROM, ring.consumer_pos, WORD, text)
  if ring.overwrite_pos then
    load(at, Y, ring.overwrite_pos, WORD, text)
    calc(at, FROM, MAX, Y, text)
  end
  load(at, LENGTH, ring.producer_pos, WORD, text)
  calc(at, LENGTH, SUBTRACT, FROM, text)
  calc(at, FROM, AND, MASK, text)
  copy_sized(at:go({ kind = "MOVE", reg = FROM }, text), LENGTH, ring.data, text)
  calc(at, FROM, ADD, LENGTH, text)
  calc(at, FROM, SUBTRACT, MASK, text)
  calc(at, FROM, SUBTRACT, ONE, text)
  copy_sized(at, FROM, ring.data, text)
end

-- The pages that are there. They begin at the lower half of the address that its user has it at.
local function add_arena(node, types, text)
  local arena, area = layout(types, "struct bpf_arena"), layout(types, "struct vm_struct")
  if not arena then
    return
  end
  node:copy(0, arena.size)
  load(node, X, arena.user_vm_start, 4, text)
  local at = node:go({ kind = "FOLLOW", a = arena.kern_vm }, text)
  at:copy(0, area.size)
  at:go({ kind = "FOLLOW", a = area.addr, c = 0ULL - GUARD_HALF }, text):go({ kind = "MOVE", reg = X }, text)
    :act({ kind = "PAGES", reg = COUNT, limit = VALUES_MAX, c = ARENA_PAGES_MAX }, text)
end

local KINDS = {
  ARRAY = add_array, PERCPU_ARRAY = add_percpu_array, ARRAY_OF_MAPS = add_array, PROG_ARRAY = add_programs,
  HASH = add_hash, LRU_HASH = add_hash, HASH_OF_MAPS = add_hash, PERCPU_HASH = add_percpu_hash,
  LRU_PERCPU_HASH = add_percpu_hash, TASK_STORAGE = add_storage "struct task_struct",
  CGRP_STORAGE = add_storage "struct cgroup", SK_STORAGE = add_storage "struct sock",
  INODE_STORAGE = add_storage "struct inode", STRUCT_OPS = add_struct_ops, RINGBUF = add_ring,
  USER_RINGBUF = add_ring, ARENA = add_arena,
}

-- Those at a pointer.
local function add_types(node, types, pointer, text)
  local btf = layout(types, "struct btf")
  local name = text .. ".btf"
  local at = node:go({ kind = "FOLLOW", flags = ONCE + MAY_BE_NULL, a = pointer }, name)
  at:copy(0, btf.size)
  load(at, SIZE, btf.data_size, 4, name)
  set(at, ONE, 1, name)
  at:go({ kind = "FOLLOW", a = btf.data }, name .. ".data")
    :act({ kind = "COPY_SIZED", reg = SIZE, reg2 = ONE, limit = BTF_MAX }, name .. ".data")
end

local function add_contents(node, types, text)
  local map, names = layout(types, MAP), {}
  load(node, KIND, map.map_type, 4, text)
  add_types(node, types, map.btf, text)
  local values = types:get("enum bpf_map_type"):values()
  for name in pairs(KINDS) do
    names[#names + 1] = values["BPF_MAP_TYPE_" .. name] and name or nil
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = values["BPF_MAP_TYPE_" .. name]
    local its = node:go({ kind = "IF", reg = KIND, a = 0xffffffff, b = value }, text)
    load(its, COUNT, map.max_entries, 4, text)
    load(its, VALUE, map.value_size, 4, text)
    KINDS[name](its, types, text)
  end
end

-- Each entry of an idr.
local function each_of(k, root, types, symbol, text, apart)
  local idr = types:get "struct idr"
  local at = root:go({ kind = "AT", a = k:_place(symbol) }, symbol.name)
  at:copy(0, idr.size)
  local op = path.xarray(types, idr:member("idr_rt").offset / 8, 0)
  op.limit, op.apart = MAPS_MAX, apart
  return at:go(op, text)
end

-- Programs: a map without types of its own has those of one that uses it.
local function add_users(k, root, types)
  local symbol, prog = k:_image_symbol "prog_idr", layout(types, "struct bpf_prog")
  if not symbol or not prog then
    return
  end
  local text, aux = "BPF programs", layout(types, "struct bpf_prog_aux")
  local its = each_of(k, root, types, symbol, text)
  its:copy(0, prog.size)
  its = its:go({ kind = "FOLLOW", a = prog.aux }, text)
  its:copy(0, aux.size)
  load(its, COUNT, aux.used_map_cnt, 4, text)
  set(its, X, WORD, text)
  its:go({ kind = "FOLLOW", flags = MAY_BE_NULL, a = aux.used_maps }, text)
    :act({ kind = "COPY_SIZED", reg = COUNT, reg2 = X, limit = VALUES_MAX }, text)
  load(its, COUNT, aux.func_cnt, 4, text)
  local functions = its:go({ kind = "FOLLOW", flags = MAY_BE_NULL, a = aux.func }, text)
  functions:act({ kind = "COPY_SIZED", reg = COUNT, reg2 = X, limit = VALUES_MAX }, text)
  functions:go({ kind = "ARRAY_SIZED", reg = COUNT, limit = PER_CPU_ENTRIES_MAX, b = WORD }, text)
    :go({ kind = "FOLLOW", flags = MAY_BE_NULL }, text):copy(prog.jited_len, 4)
  add_types(its, types, aux.btf, text)
end

--- Whether a kernel has BPF maps at all.
---@param k ktstr.Kernel
---@return boolean
function maps.are_there(k)
  local types = k:_types()
  return k:_image_symbol "map_idr" ~= nil and types:find(MAP) ~= nil and types:find "struct idr" ~= nil
end

--- Every map's description into a plan's tree, and the contents of those whose names end like one of `names`
--- (nil: of all).
---@param k ktstr.Kernel
---@param root ktstr.PlanNode
---@param names string[]|nil
function maps.add(k, root, names)
  local types, text = k:_types(), "BPF maps"
  local map = layout(types, MAP)
  local idr = k:_image_symbol "map_idr"
  each_of(k, root, types, idr, text):copy(0, map.size)
  -- Where the record becomes full, it has them all the same, and which there are can be said.
  local each = each_of(k, root, types, idr, text, "contents")
  if not names then
    add_contents(each, types, text)
  end
  for _, name in ipairs(names or {}) do
    local wanted = each:go({ kind = "IF_TEXT", flags = SUFFIX, a = map.name, b = NAME_MAX + 1,
      text = name:sub(-NAME_MAX) }, ("map '%s'"):format(name))
    add_contents(wanted, types, ("map '%s'"):format(name))
  end
  add_users(k, root, types)
end

return maps
