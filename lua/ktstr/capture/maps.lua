-- BPF maps in a capture plan: every map's description, and what is in those that are wanted, found by the
-- kernel's own table of ids. What it means is read out of the record by the types that came with the
-- programs.
local path = require "ktstr.capture.path"

local maps = {}

local MAP, ARRAY, HASH = "struct bpf_map", "struct bpf_array", "struct bpf_htab"
local MAPS_MAX = 1024
local VALUES_MAX = 1024 * 1024 -- bytes of one map
local BTF_MAX = 4 * 1024 * 1024
local BUCKETS_MAX, ENTRIES_MAX, PER_CPU_ENTRIES_MAX = 2 ^ 16, 2 ^ 16, 2 ^ 12
local NAME_MAX = 15 -- the kernel keeps no more
local ONCE = 4 -- PLAN_ONCE
local SUFFIX = 2 -- PLAN_SUFFIX

-- Registers.
local KIND, COUNT, SIZE, ONE = 0, 1, 2, 3

-- A struct's members by their offsets in bytes; nil where there is none of that name.
local function layout(set, name)
  local type = set:find(name)
  return type and setmetatable({ size = type.size }, {
    __index = function(_, member)
      local ok, found = pcall(type.member, type, member)
      return ok and found.offset / 8 or nil
    end,
  })
end

-- Elements behind a struct bpf_array: bytes that lie there.
local function add_array(node, set, text)
  local array = layout(set, ARRAY)
  node:copy(0, array.value)
  node:act({ kind = "LOAD", reg = SIZE, a = array.elem_size, b = 4 }, text)
  node:act({ kind = "COPY_SIZED", reg = COUNT, reg2 = SIZE, limit = VALUES_MAX, a = array.value }, text)
end

local function add_percpu_array(node, set, text)
  local array = layout(set, ARRAY)
  node:copy(0, array.value)
  node:act({ kind = "LOAD", reg = SIZE, a = array.elem_size, b = 4 }, text)
  node:act({ kind = "SET", reg = ONE, a = 1 }, text)
  local each = node:go({ kind = "ARRAY_SIZED", reg = COUNT, limit = PER_CPU_ENTRIES_MAX, a = array.pptrs,
    b = 8 }, text)
  each:copy(0, 8)
  each:go({ kind = "FOLLOW" }, text):go({ kind = "PER_CPU" }, text)
    :act({ kind = "COPY_SIZED", reg = SIZE, reg2 = ONE, limit = VALUES_MAX }, text)
end

local function add_hash(node, set, text)
  local hash = layout(set, HASH)
  node:copy(0, hash.size)
  node:act({ kind = "LOAD", reg = COUNT, a = hash.n_buckets, b = 4 }, text)
  node:act({ kind = "LOAD", reg = SIZE, a = hash.elem_size, b = 4 }, text)
  node:act({ kind = "SET", reg = ONE, a = 1 }, text)
  local bucket = node:go({ kind = "FOLLOW", a = hash.buckets }, text)
    :go({ kind = "ARRAY_SIZED", reg = COUNT, limit = BUCKETS_MAX, a = 0,
      b = layout(set, "struct bucket").size }, text)
  bucket:copy(0, 8)
  bucket:go({ kind = "CHAIN", limit = ENTRIES_MAX }, text)
    :act({ kind = "COPY_SIZED", reg = SIZE, reg2 = ONE, limit = VALUES_MAX }, text)
end

local function add_struct_ops(node, set, text)
  local map, ops = layout(set, MAP), layout(set, "struct bpf_struct_ops_map")
  if not ops then
    return
  end
  node:copy(0, ops.size)
  node:act({ kind = "LOAD", reg = SIZE, a = map.value_size, b = 4 }, text)
  node:act({ kind = "SET", reg = ONE, a = 1 }, text)
  node:act({ kind = "COPY_SIZED", reg = SIZE, reg2 = ONE, limit = VALUES_MAX, a = ops.kvalue }, text)
end

local KINDS = {
  { "BPF_MAP_TYPE_ARRAY", add_array },
  { "BPF_MAP_TYPE_PERCPU_ARRAY", add_percpu_array },
  { "BPF_MAP_TYPE_HASH", add_hash },
  { "BPF_MAP_TYPE_LRU_HASH", add_hash },
  { "BPF_MAP_TYPE_STRUCT_OPS", add_struct_ops },
}

local function add_types(node, set, text)
  local map, btf = layout(set, MAP), layout(set, "struct btf")
  local at = node:go({ kind = "FOLLOW", flags = ONCE, a = map.btf }, text .. ".btf")
  at:copy(0, btf.size)
  at:act({ kind = "LOAD", reg = SIZE, a = btf.data_size, b = 4 }, text .. ".btf")
  at:act({ kind = "SET", reg = ONE, a = 1 }, text .. ".btf")
  at:go({ kind = "FOLLOW", a = btf.data }, text .. ".btf.data")
    :act({ kind = "COPY_SIZED", reg = SIZE, reg2 = ONE, limit = BTF_MAX }, text .. ".btf.data")
end

local function add_contents(node, set, text)
  local map = layout(set, MAP)
  node:act({ kind = "LOAD", reg = KIND, a = map.map_type, b = 4 }, text)
  add_types(node, set, text)
  local values = set:get("enum bpf_map_type"):values()
  for _, kind in ipairs(KINDS) do
    local value, add = values[kind[1]], kind[2]
    if value then
      -- What is loaded within one of them must not be what another looks at.
      local of_kind = node:go({ kind = "IF", reg = KIND, a = 0xffffffff, b = value }, text)
      of_kind:act({ kind = "LOAD", reg = COUNT, a = map.max_entries, b = 4 }, text)
      add(of_kind, set, text)
    end
  end
end

--- Whether a kernel has BPF maps at all.
---@param k ktstr.Kernel
---@return boolean
function maps.are_there(k)
  local set = k:_types()
  return k:_image_symbol "map_idr" ~= nil and set:find(MAP) ~= nil and set:find "struct idr" ~= nil
end

--- Every map's description into a plan's tree, and the contents of those whose names end like one of `names`
--- (nil: of all).
---@param k ktstr.Kernel
---@param root ktstr.PlanNode
---@param names string[]|nil
function maps.add(k, root, names)
  local set, text = k:_types(), "BPF maps"
  local idr, map = set:get "struct idr", layout(set, MAP)
  local at = root:go({ kind = "AT", a = k:_place(k:_image_symbol "map_idr") }, "map_idr")
  at:copy(0, idr.size)
  local op = path.xarray(set, idr:member("idr_rt").offset / 8, 0)
  op.limit = MAPS_MAX
  local each = at:go(op, text)
  each:copy(0, map.size)
  if not names then
    add_contents(each, set, text)
  end
  for _, name in ipairs(names or {}) do
    local wanted = each:go({ kind = "IF_TEXT", flags = SUFFIX, a = map.name, b = NAME_MAX + 1,
      text = name:sub(-NAME_MAX) }, ("map '%s'"):format(name))
    add_contents(wanted, set, ("map '%s'"):format(name))
  end
end

return maps
