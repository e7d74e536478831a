-- The kernel's resizable hash tables. The order is that of the buckets, which means nothing.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local walk = require "ktstr.kernel.walk"

local rhashtable = {}

local LOCKED = 1ULL -- bit 0 of a bucket; of a next pointer it marks the end
local NESTED_BITS = 9 -- a page of pointers
local MAX_BUCKETS = 2 ^ 31
local zero = ffi.cast("uint64_t", 0)

local function pointer(m, state, what, address)
  return walk.reading(state, what, access.word, m, address)
end

-- Where a bucket of a table that is still nested pages lies; nil when its page was never needed.
local function nested_bucket(m, state, what, table, hash)
  local index = bit.band(hash, bit.lshift(1, table.nest) - 1)
  local size = bit.rshift(table.size, table.nest)
  local rest = bit.rshift(hash, table.nest)
  local at = pointer(m, state, what, pointer(m, state, what, table.buckets) + index * 8)
  while at ~= zero and size > 2 ^ NESTED_BITS do
    at = pointer(m, state, what, at + bit.band(rest, 2 ^ NESTED_BITS - 1) * 8)
    size = bit.rshift(size, NESTED_BITS)
    rest = bit.rshift(rest, NESTED_BITS)
  end
  return at ~= zero and at + rest * 8 or nil
end

-- The first node of a bucket, uint64_t; an odd one is the end.
local function first_of(m, state, what, table, hash)
  local at
  if table.nest == 0 then
    at = table.buckets + hash * 8
  else
    at = nested_bucket(m, state, what, table, hash)
  end
  local first = at and bit.band(pointer(m, state, what, at), bit.bnot(LOCKED)) or zero
  return first == zero and LOCKED or first
end

local function open(k, m, state, what, address)
  walk.step(state, what, address) -- tables that follow each other are few, and may be a circle
  local t = "struct bucket_table"
  local table = {
    size = walk.reading(state, what, access.u32, m, address + access.offset(k, t, "size")),
    nest = walk.reading(state, what, access.u32, m, address + access.offset(k, t, "nest")),
    future = pointer(m, state, what, address + access.offset(k, t, "future_tbl")),
    buckets = address + access.offset(k, t, "buckets"),
    hash = 0,
  }
  if table.size > MAX_BUCKETS or table.nest > 31 then
    walk.fail(state, what, ("a table of %.0f buckets"):format(table.size))
  end
  return table
end

--- The elements of a hash table; while it is resized, those that moved already are found, too.
--- Raises "format" for a chain that runs in a circle and "unmapped" for a wild pointer.
---@param k ktstr.Kernel
---@param object ktstr.Object|ktstr.Address the struct rhashtable, or the rhltable's ht
---@param type string what the elements are
---@param member string their struct rhash_head (of an rhltable: rhlist_head)
---@return fun(): ktstr.Object|nil
function rhashtable.rhashtable(k, object, type, member)
  local what = ("the hash table of %s.%s"):format(tostring(type), member)
  local offset = access.offset(k, type, member)
  local make = access.maker(k, type)
  local m = access.memory(k)
  local start = access.place(k, object)
  local state = walk.new(start)
  local listed = access.byte(m, start + access.offset(k, "struct rhashtable", "rhlist")) ~= 0
  local tables = walk.new(start)
  local first_table = pointer(m, state, what, start + access.offset(k, "struct rhashtable", "tbl"))
  if first_table == zero then
    return function() end
  end
  local table = open(k, m, tables, what, first_table)
  local node, same = LOCKED, zero -- next of the chain; next of those with the same key (rhlist_head.next)
  return function()
    local found = same
    if found == zero then
      while bit.band(node, LOCKED) == 1ULL do
        if table.hash < table.size then
          node = first_of(m, state, what, table, table.hash)
          table.hash = table.hash + 1
        elseif table.future ~= zero then
          table = open(k, m, tables, what, table.future)
        else
          return nil
        end
      end
      found = node
      walk.step(state, what, found)
      node = pointer(m, state, what, found)
      if node == zero then
        walk.fail(state, what, "a chain ends without its mark")
      end
    else
      walk.step(state, what, found)
    end
    same = listed and pointer(m, state, what, found + 8) or zero
    return make(found - offset)
  end
end

return rhashtable
