-- What a record's plan names, read out of the record as plain tables: a path "runqueues[].cfs.curr" is the
-- table runqueues, one element a CPU, with a table cfs, in it curr. What was not there is absent; the notes
-- say why.
local ffi = require "ffi"
local known = require "ktstr.kernel.known"
local memory = require "ktstr.kernel.memory"
local percpu = require "ktstr.kernel.percpu"

local Object = memory.Object

local values = {}

local DEPTH = 8 -- of structs that are recorded whole

-- So that one without elements is known for what it is.
values.array = { __jsontype = "array" }

---@return table
local function list()
  return setmetatable({}, values.array)
end

-- What stands in a list where the rest of it is missing.
values.missing = { __tostring = function(self)
  return ("<missing: %s>"):format(self["$missing"])
end }

---@param e ktstr.Error why
---@return table
function values.missing_because(e)
  return setmetatable({ ["$missing"] = e.message }, values.missing)
end

---@param value any
---@return boolean
function values.is_missing(value)
  return getmetatable(value) == values.missing
end

-- --- whole values ---

local plain

-- What has nothing that was recorded is absent.
local function unless_empty(out)
  return next(out) ~= nil and out or nil
end

local MASKS = { ["struct cpumask"] = true, cpumask_t = true }

-- As the kernel writes them: "0-3,8".
local function plain_mask(value)
  local k = memory.kernel(value)
  local ok, cpus = memory.try(k.cpumask, k, value)
  return ok and tostring(cpus) or nil
end

local function member_of(value, name)
  return value:get_(name)
end

local function element_of(value, i)
  return value[i]
end

-- Looked up once a type: there are as many structs as tasks, and more.
local function members_of(type)
  local found = type.listed
  if not found then
    found = {}
    for i, name in ipairs(type:member_names()) do
      found[i] = { name = name, type = type:member(name).type }
    end
    type.listed = found
  end
  return found
end

local function plain_struct(value, type, depth)
  local out = {}
  for _, one in ipairs(members_of(type)) do
    local ok, member = memory.try(member_of, value, one.name)
    if ok then
      out[one.name] = plain(member, one.type, depth + 1)
    end
  end
  return unless_empty(out)
end

local function plain_array(value, type, depth)
  local out, element = list(), type:target()
  for i = 0, type.count - 1 do
    local ok, one = memory.try(element_of, value, i)
    if not ok then
      out[i + 1] = values.missing_because(one)
      break
    end
    out[i + 1] = plain(one, element, depth + 1)
  end
  return out
end

-- Where its string was recorded, that; else where it leads.
local function plain_pointer(value, type)
  if type:target().is_char and value:address_() ~= memory.kernel(value).null then
    local k = memory.kernel(value)
    local ok, text = memory.try(k.string, k, value)
    if ok then
      return text
    end
  end
  return value:address_()
end

--- A value of a type as numbers, strings, addresses and tables of these.
---@param value any
---@param type ktstr.Type
---@param depth integer|nil
---@return any
function plain(value, type, depth)
  depth = depth or 0
  if not ffi.istype(Object, value) then
    return value
  elseif type.kind == "pointer" then
    return plain_pointer(value, type)
  elseif depth >= DEPTH then
    return nil
  elseif MASKS[type.name] then
    return plain_mask(value)
  elseif type:has_members() then
    return plain_struct(value, type, depth)
  elseif type.kind == "array" then
    return plain_array(value, type, depth)
  end
  return value:address_()
end
values.plain = plain

-- --- by paths ---

local function new_node()
  return { members = {}, indices = {} }
end

local function kid_of(node, step)
  if step.kind == "member" then
    node.members[step.name] = node.members[step.name] or new_node()
    return node.members[step.name]
  elseif step.kind == "index" then
    node.indices[step.index] = node.indices[step.index] or new_node()
    return node.indices[step.index]
  end
  node.each = node.each or { node = new_node(), step = step }
  return node.each.node
end

-- All paths in one tree, by their variables.
local function tree_of(paths)
  local roots = {}
  for _, parsed in ipairs(paths) do
    local root = roots[parsed.root] or new_node()
    root.type = root.type or parsed.type
    roots[parsed.root] = root
    local node = root
    for _, step in ipairs(parsed.steps) do
      node = kid_of(node, step)
    end
  end
  return roots
end

local evaluate

local function target_of(type)
  return type.kind == "pointer" and type:target() or type
end

local function evaluate_members(k, node, value, type)
  local out, owner = {}, target_of(type)
  for name, kid in pairs(node.members) do
    local ok, member = memory.try(member_of, value, name)
    if ok then
      kid.its_type = kid.its_type or owner:member(name).type
      out[name] = evaluate(k, kid, member, kid.its_type)
    end
  end
  return unless_empty(out)
end

-- Each element of a walk; one that raises in its middle has been seen up to there, and says so.
local function collect(k, node, type, begin)
  local out, count = list(), 0
  local ok, e = memory.try(function()
    for first, second in begin() do
      -- An xarray's has an index, too.
      local value = evaluate(k, node, ffi.istype(Object, first) and first or second, type)
      count = count + 1
      out[count] = value
    end
  end)
  if not ok then
    out[count + 1] = values.missing_because(e)
  end
  return out
end

local WALKS = {
  ["struct list_head"] = "list", ["struct hlist_head"] = "hlist", ["struct hlist_nulls_head"] = "hlist",
  ["struct llist_head"] = "llist", ["struct rb_root"] = "rbtree", ["struct rb_root_cached"] = "rbtree",
  ["struct xarray"] = "xarray", ["struct radix_tree_root"] = "xarray", ["struct idr"] = "idr",
}

local function evaluate_walk(k, each, value, type)
  local method = WALKS[target_of(type).name]
  local element = k:_types():get(each.step.type)
  return collect(k, each.node, element, function()
    return k[method](k, value, each.step.type, each.step.member)
  end)
end

local function evaluate_each(k, each, value, type)
  if each.step.kind == "walk" then
    return evaluate_walk(k, each, value, type)
  end
  local out = list()
  local is_pointer = type.kind == "pointer"
  for i = 0, (is_pointer and k._vm.topology.cpus or type.count) - 1 do
    local ok, one = memory.try(function()
      if is_pointer then
        return k:per_cpu(value, i)
      end
      return value[i]
    end)
    out[i + 1] = ok and evaluate(k, each.node, one, type:target()) or nil
  end
  return out
end

local function evaluate_indices(k, node, value, type)
  local out = {}
  for i, kid in pairs(node.indices) do
    local ok, one = memory.try(element_of, value, i)
    if ok then
      out[("[%d]"):format(i)] = evaluate(k, kid, one, type:target())
    end
  end
  return out
end

function evaluate(k, node, value, type)
  if node.each then
    return evaluate_each(k, node.each, value, type)
  elseif next(node.indices) then
    return evaluate_indices(k, node, value, type)
  elseif next(node.members) then
    return evaluate_members(k, node, value, type)
  end
  return plain(value, type)
end

-- --- variables ---

local function evaluate_percpu(k, node, name)
  local out = list()
  local set = k:_types()
  local type = node.type and set:get(node.type) or set:variable(name)
  for cpu = 0, k._vm.topology.cpus - 1 do
    local one = node.each and node.each.node or node.indices[cpu]
    local ok, value = memory.try(function()
      return one and k:per_cpu(name, cpu, node.type)
    end)
    if ok and one then
      out[cpu + 1] = evaluate(k, one, value, type)
    end
  end
  return out
end

local function evaluate_variable(k, node, name)
  if name == "tasks" and node.each then
    return collect(k, node.each.node, k:_types():get "struct task_struct", function()
      return k:tasks()
    end)
  end
  if percpu.is_symbol(k, k:_symbol(name, function(symbol)
    return percpu.is_symbol(k, symbol)
  end)) then
    return evaluate_percpu(k, node, name)
  end
  local set = k:_types()
  local type = node.type and set:get(node.type) or set:variable(name) or known.type_of(set, name)
  local ok, value = memory.try(k.var, k, name, node.type)
  if ok then
    return evaluate(k, node, value, type)
  end
end

--- All that a capture's plan names, by variables.
---@param capture ktstr.Capture
---@return table<string, any>
function values.of(capture)
  local k, out = capture.k, {}
  for name, node in pairs(tree_of(capture._plan.paths)) do
    out[name] = evaluate_variable(k, node, name)
  end
  return out
end

return values
