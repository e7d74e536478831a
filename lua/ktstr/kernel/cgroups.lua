-- Control groups of the unified hierarchy: the tree, their paths, and which one a task is in.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local walk = require "ktstr.kernel.walk"

local cgroups = {}

local CGROUP, NODE = "struct cgroup", "struct kernfs_node"
local zero = ffi.cast("uint64_t", 0)
local ONLINE = 2 -- CSS_ONLINE: a removed group stays in the tree until nothing refers to it
local MAX_DEPTH = 4096

--- A group's path from its hierarchy's root: "/", "/system.slice/x".
---@param k ktstr.Kernel
---@param cgroup ktstr.Object
---@return string
function cgroups.cgroup_path(k, cgroup)
  local what = "the path of a cgroup"
  local m = access.memory(k)
  local parent_at = access.offset(k, NODE, access.has(k, NODE, "__parent") and "__parent" or "parent")
  local name_at = access.offset(k, NODE, "name")
  local node = access.address(cgroup.kn)
  local state = walk.new(node, MAX_DEPTH)
  local names = {}
  while true do
    walk.step(state, what, node)
    local parent = walk.reading(state, what, access.word, m, node + parent_at)
    if parent == zero then
      break
    end
    table.insert(names, 1, k:string(access.pointer(access.word(m, node + name_at))))
    node = parent
  end
  return "/" .. table.concat(names, "/")
end

--- The group that a task is in.
---@param k ktstr.Kernel
---@param task ktstr.Object
---@return ktstr.Object
function cgroups.task_cgroup(k, task)
  return task.cgroups.dfl_cgrp
end

-- The tree of struct cgroup_subsys_state, each the `self` of a cgroup, as addresses.
local function layout_of(k)
  return {
    memory = access.memory(k),
    children = access.offset(k, CGROUP, "self.children"),
    sibling = access.offset(k, CGROUP, "self.sibling"),
    parent = access.offset(k, CGROUP, "self.parent"),
    own = access.offset(k, CGROUP, "self"),
  }
end

-- The first child, or the next sibling of what is above, until that is the root again.
local function following(state, what, layout, at, root)
  local first = walk.reading(state, what, access.word, layout.memory, at + layout.children)
  if first ~= at + layout.children then
    return first - layout.sibling
  end
  local depth = 0
  while at ~= root do
    local parent = walk.reading(state, what, access.word, layout.memory, at + layout.parent)
    if parent == zero or depth == MAX_DEPTH then
      walk.fail(state, what, "a cgroup is not below the root")
    end
    parent = parent - layout.own
    local next = walk.reading(state, what, access.word, layout.memory, at + layout.sibling)
    if next ~= parent + layout.children then
      return next - layout.sibling
    end
    at, depth = parent, depth + 1
  end
  return nil
end

--- Every group of the unified hierarchy with its path, each before those below it:
--- `for cgroup, path in k:cgroups() do`.
---@param k ktstr.Kernel
---@return fun(): ktstr.Object|nil, string|nil
function cgroups.cgroups(k)
  local what = "the tree of cgroups"
  local layout = layout_of(k)
  local make = access.maker(k, CGROUP)
  local root = access.symbol(k, "cgrp_dfl_root") + access.offset(k, "struct cgroup_root", "cgrp")
  local state = walk.new(root)
  local at
  return function()
    while true do
      if at then
        at = following(state, what, layout, at, root)
      else
        at = root
      end
      if not at then
        at = root -- over, and it stays so
        root = nil
      end
      if not root then
        return nil
      end
      walk.count(state, what, at)
      local cgroup = make(at)
      if at == root or bit.band(cgroup.self.flags, ONLINE) ~= 0 then
        return cgroup, cgroups.cgroup_path(k, cgroup)
      end
    end
  end
end

return cgroups
