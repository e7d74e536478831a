-- The kernel's XArray, which a radix tree and an IDR are, too: indices to entries, in ascending order.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local errors = require "ktstr.errors"
local walk = require "ktstr.kernel.walk"

local xarray = {}

local MAX_SHIFT = 60 -- an index has 64 bits, and a node's slots take 6 (4 where memory is small)
local MAX_DEPTH = 17
-- Internal entries end in binary 10. Below this they are no nodes: siblings, zero and retry entries.
local FIRST_NODE = ffi.cast("uint64_t", 4096)
local zero = ffi.cast("uint64_t", 0)

--- What an entry of an array's slot is: "empty", "value" (its number as second result), "node" (its address),
--- "internal" (a sibling of the slot before it, or a place that is taken but empty), "pointer".
---@param entry ffi.cdata* uint64_t
---@return string kind, ffi.cdata* content uint64_t
function xarray.decode(entry)
  if entry == zero then
    return "empty", zero
  end
  local low = tonumber(bit.band(entry, 3ULL))
  if low == 1 or low == 3 then
    return "value", bit.rshift(entry, 1)
  end
  if low == 0 then
    return "pointer", entry
  end
  if entry > FIRST_NODE then
    return "node", entry - 2
  end
  return "internal", entry
end

-- Where the parts of struct xa_node lie.
local function layout_of(k)
  local slots = access.count(k, "struct xa_node", "slots")
  return {
    memory = access.memory(k),
    shift = access.offset(k, "struct xa_node", "shift"),
    slots = access.offset(k, "struct xa_node", "slots"),
    count = slots,
    bits = slots == 16 and 4 or 6,
  }
end

-- Opens a node: its shift must be that of its place, which is also what bounds the depth.
local function push(state, what, stack, layout, node, base)
  walk.count(state, what, node)
  local shift = walk.reading(state, what, access.byte, layout.memory, node + layout.shift)
  local above = stack[#stack]
  if shift > MAX_SHIFT or shift % layout.bits ~= 0 or (above and shift ~= above.shift - layout.bits)
    or #stack >= MAX_DEPTH then
    walk.fail(state, what, ("a node has the shift %d"):format(shift))
  end
  stack[#stack + 1] = { node = node, shift = shift, slot = 0, base = base }
end

-- Yields index and entry of each place that is taken; both uint64_t.
local function entries(k, start, what)
  local layout = layout_of(k)
  local state = walk.new(start)
  local stack = {}
  local begun = false
  return function()
    if not begun then
      begun = true
      local head = start + access.offset(k, "struct xarray", "xa_head")
      local entry = walk.reading(state, what, access.word, layout.memory, head)
      local kind, content = xarray.decode(entry)
      if kind == "node" then
        push(state, what, stack, layout, content, zero)
      elseif kind == "value" or kind == "pointer" then
        return zero, entry -- the only one, at 0
      end
    end
    while #stack > 0 do
      local top = stack[#stack]
      if top.slot == layout.count then
        stack[#stack] = nil
      else
        local slot = top.slot
        top.slot = slot + 1
        local place = top.node + layout.slots + slot * 8
        local entry = walk.reading(state, what, access.word, layout.memory, place)
        local index = top.base + bit.lshift(ffi.cast("uint64_t", slot), top.shift)
        local kind, content = xarray.decode(entry)
        if kind == "node" and top.shift > 0 then
          push(state, what, stack, layout, content, index)
        elseif kind == "node" then
          walk.fail(state, what, "a leaf has a node below it")
        elseif kind == "value" or kind == "pointer" then
          walk.count(state, what, top.node)
          return index, entry
        end
      end
    end
  end
end

-- An entry as a script sees it.
local function present(make, entry)
  local kind, content = xarray.decode(entry)
  if kind == "value" then
    return access.number(content)
  end
  return make and make(content) or access.pointer(content)
end

--- Indices and entries of an XArray: `for index, object in k:xarray(xa, "struct page") do`. An entry is an
--- object of the type, an address without a type, a number where the kernel stores a value.
--- Raises "format" for a damaged array and "unmapped" for a wild pointer.
---@param k ktstr.Kernel
---@param array ktstr.Object|ktstr.Address the struct xarray
---@param type string|nil what the pointers point to
---@return fun(): integer|nil, ktstr.Object|ktstr.Address|integer
function xarray.xarray(k, array, type)
  local make = type and access.maker(k, type)
  local next = entries(k, access.place(k, array), type and "the xarray of " .. tostring(type) or "the xarray")
  return function()
    local index, entry = next()
    if index then
      return access.number(index), present(make, entry)
    end
  end
end

--- What is at an index; nil when nothing is.
---@param k ktstr.Kernel
---@param array ktstr.Object|ktstr.Address
---@param index integer
---@param type string|nil
---@return ktstr.Object|ktstr.Address|integer|nil
function xarray.xarray_find(k, array, index, type)
  local what = type and "the xarray of " .. tostring(type) or "the xarray"
  if index < 0 then
    errors.raise("invalid", ("%s is not an index"):format(tostring(index)))
  end
  index = ffi.cast("uint64_t", index)
  local layout = layout_of(k)
  local start = access.place(k, array)
  local state = walk.new(start, MAX_DEPTH)
  local head = start + access.offset(k, "struct xarray", "xa_head")
  local entry = walk.reading(state, what, access.word, layout.memory, head)
  local kind, content = xarray.decode(entry)
  if kind ~= "node" then
    return index == zero and kind ~= "empty" and kind ~= "internal"
      and present(type and access.maker(k, type), entry) or nil
  end
  local stack, wanted = {}, layout.count - 1
  while kind == "node" do
    push(state, what, stack, layout, content, zero)
    local shift = stack[#stack].shift
    if #stack == 1 and bit.rshift(bit.rshift(index, shift), layout.bits) ~= zero then
      return nil -- beyond what the array reaches to
    end
    local slots = stack[#stack].node + layout.slots
    local slot = bit.band(bit.rshift(index, shift), wanted + 0ULL)
    entry = walk.reading(state, what, access.word, layout.memory, slots + slot * 8)
    kind, content = xarray.decode(entry)
    -- An entry that covers several slots is in the first of them.
    if kind == "internal" and bit.rshift(content, 2) < layout.count + 0ULL then
      entry = walk.reading(state, what, access.word, layout.memory, slots + bit.rshift(content, 2) * 8)
      kind, content = xarray.decode(entry)
    end
    if kind == "node" and shift == 0 then
      walk.fail(state, what, "a leaf has a node below it")
    end
  end
  if kind == "value" or kind == "pointer" then
    return present(type and access.maker(k, type), entry)
  end
end

return xarray
