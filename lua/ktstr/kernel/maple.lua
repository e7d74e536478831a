-- The kernel's maple trees: ranges of indices to entries, in ascending order.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local walk = require "ktstr.kernel.walk"

local maple = {}

-- A node lies at a multiple of 256; the bits below say what it is.
local NODE_MASK = 0xffULL
local LEAF, RANGE, ALLOCATING = 1, 2, 3
local MAX_DEPTH = 31
local FIRST_NODE = ffi.cast("uint64_t", 4096)
local zero = ffi.cast("uint64_t", 0)
local last_index = ffi.cast("uint64_t", -1LL)

--- What a tree's root or an inner slot holds: the node's address and type, or nil when it is no node.
---@param entry ffi.cdata* uint64_t
---@return ffi.cdata*|nil node uint64_t
---@return integer|nil kind 1 leaf, 2 range, 3 range with gaps
function maple.decode(entry)
  if entry <= FIRST_NODE then
    return nil
  end
  return bit.band(entry, bit.bnot(NODE_MASK)), tonumber(bit.band(bit.rshift(entry, 3), 0xfULL))
end

-- The root says by binary 10 that it is a node; an inner slot is nothing else.
local function is_root_node(entry)
  return bit.band(entry, 3ULL) == 2ULL and entry > FIRST_NODE
end

-- Nothing, or a place that is only reserved.
local function is_empty(entry)
  return entry == zero or bit.band(entry, 3ULL) == 2ULL
end

local function layout_of(k, name)
  return {
    pivots = access.offset(k, name, "pivot"),
    slots = access.offset(k, name, "slot"),
    count = access.count(k, name, "slot"),
    last = access.offset(k, name, "meta.end"),
  }
end

local layouts = setmetatable({}, { __mode = "k" })

local function layout_for(k, kind)
  local known = layouts[k]
  if not known then
    local ranges = layout_of(k, "struct maple_range_64")
    known = { [LEAF] = ranges, [RANGE] = ranges, [ALLOCATING] = layout_of(k, "struct maple_arange_64") }
    layouts[k] = known
  end
  return known[kind]
end

-- The last slot in use. A node that is not full keeps its number in the place of the last pivot's slot.
local function last_slot(m, frame)
  local layout = frame.layout
  local pivots = layout.count - 1
  if frame.kind ~= ALLOCATING then
    local last = access.word(m, frame.node + layout.pivots + (pivots - 1) * 8)
    if last ~= zero then
      return last == frame.max and pivots - 1 or pivots
    end
  end
  return access.byte(m, frame.node + layout.last)
end

local function push(state, what, stack, k, m, entry, min, max)
  local node, kind = maple.decode(entry)
  local layout = node and layout_for(k, kind)
  walk.count(state, what, entry)
  if not layout then
    walk.fail(state, what, ("a node has the type %s"):format(tostring(kind)))
  end
  local above = stack[#stack]
  if #stack >= MAX_DEPTH or (above and above.kind == LEAF) then
    walk.fail(state, what, "is deeper than a tree gets")
  end
  local frame = { node = node, kind = kind, layout = layout, min = min, max = max, slot = 0 }
  frame.last = walk.reading(state, what, last_slot, m, frame)
  if frame.last >= layout.count then
    walk.fail(state, what, ("a node has %d slots"):format(frame.last + 1))
  end
  stack[#stack + 1] = frame
end

-- The next slot of a frame: its range and entry.
local function next_slot(state, what, m, frame)
  local layout, slot = frame.layout, frame.slot
  local last = frame.max
  if slot < frame.last then
    last = walk.reading(state, what, access.word, m, frame.node + layout.pivots + slot * 8)
  end
  if last < frame.min or last > frame.max then
    walk.fail(state, what, "a node's indices do not ascend")
  end
  local first = frame.min
  frame.slot = slot + 1
  frame.min = last + 1
  return first, last, walk.reading(state, what, access.word, m, frame.node + layout.slots + slot * 8)
end

--- Ranges and entries of a maple tree:
--- `for first, last, vma in k:maple(mm.mm_mt, "struct vm_area_struct") do`.
--- Raises "format" for a damaged tree and "unmapped" for a wild pointer.
---@param k ktstr.Kernel
---@param tree ktstr.Object|ktstr.Address the struct maple_tree
---@param type string|nil what the entries point to; without it they are addresses, and values numbers
---@return fun(): integer|nil, integer, ktstr.Object|ktstr.Address|integer
function maple.maple(k, tree, type)
  local what = type and "the maple tree of " .. tostring(type) or "the maple tree"
  local make = type and access.maker(k, type) or access.pointer
  local m = access.memory(k)
  local start = access.place(k, tree)
  local state = walk.new(start)
  local stack, begun = {}, false

  local function present(first, last, entry)
    local value = bit.band(entry, 1ULL) == 1ULL
    return access.number(first), access.number(last),
      value and access.number(bit.rshift(entry, 1)) or make(entry)
  end

  return function()
    if not begun then
      begun = true
      local root = walk.reading(state, what, access.word, m,
        start + access.offset(k, "struct maple_tree", "ma_root"))
      if is_root_node(root) then
        push(state, what, stack, k, m, root, zero, last_index)
      elseif root ~= zero then
        return present(zero, zero, root)
      end
    end
    while #stack > 0 do
      local top = stack[#stack]
      if top.slot > top.last then
        stack[#stack] = nil
      else
        local first, last, entry = next_slot(state, what, m, top)
        if top.kind ~= LEAF then
          push(state, what, stack, k, m, entry, first, last)
        elseif not is_empty(entry) then
          walk.count(state, what, entry)
          return present(first, last, entry)
        end
      end
    end
  end
end

return maple
