-- Linked lists of the kernel: list_head, hlist, llist. Each walk is bounded and works frozen or hot.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local walk = require "ktstr.kernel.walk"

local containers = {}

local NULLS = 1 -- the lowest bit of a next pointer that ends an hlist_nulls chain
local zero = ffi.cast("uint64_t", 0)

local function name_of(kind, type, member)
  return ("the %s of %s.%s"):format(kind, tostring(type), member)
end

-- Yields what contains each node of a chain whose first word is `next`; `ends(next)` says when it is over.
local function chain(k, kind, first, type, member, ends)
  local what = name_of(kind, type, member)
  local offset = access.offset(k, type, member)
  local make = access.maker(k, type)
  local m = access.memory(k)
  local head = access.place(k, first)
  local state = walk.new(head)
  return function()
    local at = walk.reading(state, what, access.word, m, state.at)
    if ends(at, head) then
      return nil
    end
    walk.step(state, what, at)
    return make(at - offset)
  end
end

local function is_head(at, head)
  return at == head
end

local function is_null(at)
  return at == zero
end

local function is_nulls(at)
  return at == zero or bit.band(at, NULLS) == 1ULL
end

--- The elements of a doubly linked list: `for module in k:list(head, "struct module", "list") do`.
--- Raises "format" for a list that runs in a circle without its head, "unmapped" for a wild pointer; both
--- name the list, the address and the number of steps.
---@param k ktstr.Kernel
---@param head ktstr.Object|ktstr.Address the struct list_head
---@param type string what the elements are: "struct module"
---@param member string their struct list_head: "list", "se.group_node"
---@return fun(): ktstr.Object|nil
function containers.list(k, head, type, member)
  return chain(k, "list", head, type, member, is_head)
end

--- The elements of a hash bucket: of a struct hlist_head, an hlist_nulls_head too.
---@param k ktstr.Kernel
---@param head ktstr.Object|ktstr.Address
---@param type string
---@param member string
---@return fun(): ktstr.Object|nil
function containers.hlist(k, head, type, member)
  return chain(k, "hlist", head, type, member, is_nulls)
end

--- The elements of a lockless list (struct llist_head), newest first.
---@param k ktstr.Kernel
---@param head ktstr.Object|ktstr.Address
---@param type string
---@param member string
---@return fun(): ktstr.Object|nil
function containers.llist(k, head, type, member)
  return chain(k, "llist", head, type, member, is_null)
end

return containers
