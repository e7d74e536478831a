-- Red-black trees of the kernel, in order. Each node must name the parent that it was reached from, so that a
-- damaged tree is noticed at once.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local walk = require "ktstr.kernel.walk"

local rbtree = {}

-- struct rb_node: parent and colour, right, left; the same since there are red-black trees in Linux.
local RIGHT, LEFT = 8, 16
local COLOUR = 3
local zero = ffi.cast("uint64_t", 0)
-- Twice the logarithm of the number of nodes is as deep as a balanced tree gets.
local DEPTH = 2 * 64

local Path = ffi.typeof "uint64_t[?]"

-- Goes from a node to the leftmost below it, keeping the way.
local function descend(m, state, what, path, depth, node, parent)
  while node ~= zero do
    walk.count(state, what, node)
    local up = walk.reading(state, what, access.word, m, node)
    if bit.band(up, bit.bnot(COLOUR + 0ULL)) ~= parent then
      walk.fail(state, what, "a node is not its parent's child")
    end
    if depth == DEPTH then
      walk.fail(state, what, "is deeper than a balanced tree")
    end
    depth = depth + 1
    path[depth] = node
    parent = node
    node = walk.reading(state, what, access.word, m, node + LEFT)
  end
  return depth
end

--- The elements of a red-black tree in its order.
--- Raises "format" for a damaged tree, "unmapped" for a wild pointer; both name the tree, the address and the
--- number of steps.
---@param k ktstr.Kernel
---@param root ktstr.Object|ktstr.Address the struct rb_root or rb_root_cached
---@param type string what the elements are: "struct sched_entity"
---@param member string their struct rb_node: "run_node"
---@return fun(): ktstr.Object|nil
function rbtree.rbtree(k, root, type, member)
  local what = ("the tree of %s.%s"):format(tostring(type), member)
  local offset = access.offset(k, type, member)
  local make = access.maker(k, type)
  local m = access.memory(k)
  local start = access.place(k, root)
  local state = walk.new(start)
  local path, depth = Path(DEPTH + 1), 0
  local begun = false
  return function()
    if not begun then
      begun = true
      local top = walk.reading(state, what, access.word, m, start)
      depth = descend(m, state, what, path, 0, top, zero)
    end
    if depth == 0 then
      return nil
    end
    local node = path[depth]
    -- What is right of it comes next, before the nodes that it is left of.
    local right = walk.reading(state, what, access.word, m, node + RIGHT)
    depth = descend(m, state, what, path, depth - 1, right, node)
    return make(node - offset)
  end
end

return rbtree
