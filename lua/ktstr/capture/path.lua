-- The paths of a capture plan: "runqueues[].cfs.h_nr_queued", read and found in a kernel's types.
--
--   name              a global, or a per-CPU variable
--   (struct x)name    the same, where the kernel does not say its type
--   .member           also of what a pointer leads to
--   [] [3]            each CPU's or each element; one of them
--   [struct x.member] each element of a list, tree or xarray of them, linked by that member
--   tasks[]           each task
local ffi = require "ffi"
local errors = require "ktstr.errors"
local field_path = require "ktstr.kernel.field_path"
local known = require "ktstr.kernel.known"
local object = require "ktstr.kernel.object"
local percpu = require "ktstr.kernel.percpu"
require "ktstr.kernel.c" -- declares what plans are made of

local C = ffi.C

local path = {}

local WALK_LIMIT = 2 ^ 20 -- as walk.LIMIT
local ELEMENTS_MAX = 2 ^ 16
local MAY_BE_NULL = 8 -- enum plan_flags

-- --- reading ---

local TASKS = { "init_task", {
  { kind = "member", name = "tasks" },
  { kind = "walk", type = "struct task_struct", member = "tasks" },
  { kind = "member", name = "signal" },
  { kind = "member", name = "thread_head" },
  { kind = "walk", type = "struct task_struct", member = "thread_node" },
} }

local function raise_syntax(text, at)
  errors.refuse("invalid", ("plan: '%s' makes no sense from '%s' on"):format(text, text:sub(at)),
    "a path looks like runqueues[].cfs.nr_running, jiffies_64, tasks[].comm or scx_root.ops.name")
end

---@class ktstr.Path
---@field text string
---@field root string the variable
---@field type string|nil its type, where the path says it
---@field steps ktstr.PathStep[]

--- A path's parts. Raises "invalid".
---@param text string
---@return ktstr.Path
function path.parse(text)
  local type, after = text:match "^%(([^%)]+)%)%s*()"
  local root, at = text:match("^([%a_][%w_]*)()", after or 1)
  if not root then
    raise_syntax(text, after or 1)
  end
  local steps = {}
  while at <= #text do
    local step, next_at = field_path.step(text, at)
    if not step then
      raise_syntax(text, at)
    end
    step.text = text:sub(1, next_at - 1)
    steps[#steps + 1] = step
    at = next_at
  end
  return { text = text, root = root, type = type, steps = steps }
end

-- --- finding ---

-- Where a path has come to, and what is to be done on the way: "copy" and "go", for program.lua.
local Cursor = {}
Cursor.__index = Cursor

function Cursor:copy(offset, size)
  self.actions[#self.actions + 1] = { offset, size }
end

-- what: what it is, if that is not what is being looked for.
function Cursor:go(op, what)
  self.actions[#self.actions + 1] = { op = op, path = what or self.text }
end

function Cursor:raise(code, message, hint)
  local at = self.text ~= self.path.text and (" at '%s'"):format(self.text) or ""
  errors.refuse(code, ("plan: '%s'%s: %s"):format(self.path.text, at, message), hint)
end

-- wanted: the one that it has not.
local function members_hint(type, wanted)
  local names = type:member_names()
  table.sort(names)
  if #names == 0 then
    return nil
  end
  local near = wanted and require("ktstr.nearest").find(wanted, names)
  return ("%s%s has: %s"):format(near and ("did you mean '%s'? "):format(near) or "", type.name,
    table.concat(names, ", "))
end

-- A pointer is followed when something behind it is asked for.
function Cursor:follow()
  if self.percpu then
    self:raise("per-cpu", "that is per-CPU, and no CPU's", "say which: [] for each CPU, [0] for one")
  elseif self.type.kind ~= "pointer" then
    return
  end
  self:copy(self.bits / 8, 8)
  self:go({ kind = "FOLLOW", a = self.bits / 8 }, self.come)
  self.type, self.bits = self.type:target(), 0
end

function Cursor:member(name)
  self:follow()
  local owner = self.type
  if not owner:has_members() then
    self:raise("not-found", ("%s has no members, and so no '%s'"):format(owner.name, name))
  end
  local ok, found = pcall(owner.member, owner, name)
  if not ok and errors.is(found, "not-found") then
    self:raise("not-found", ("%s has no member '%s'"):format(owner.name, name), members_hint(owner, name))
  elseif not ok then
    error(found, 0)
  end
  self.bits, self.type, self.field_bits = self.bits + found.offset, found.type, found.bits
  self.percpu = found.type.kind == "pointer"
    and (found.type.is_percpu or known.is_percpu(owner.name, name, found.type:target().name))
  self.is_variable = false
end

-- Of a per-CPU variable, or what a per-CPU pointer stands for: `cpu` nil is each CPU's.
function Cursor:cpus(cpu)
  if cpu and cpu >= self.cpu_count then
    self:raise("not-found", ("there is no CPU %d: the machine has %d"):format(cpu, self.cpu_count))
  end
  if not self.is_variable then
    self:copy(self.bits / 8, 8)
    self:go({ kind = "FOLLOW", a = self.bits / 8 }, self.come)
    self.type, self.bits = self.type:target(), 0
  end
  self:go { kind = "PER_CPU", flags = cpu and 1 or 0, a = cpu or 0 } -- PLAN_ONE
  self.percpu, self.is_variable = false, false
end

function Cursor:each()
  if self.percpu then
    self:cpus()
    return
  elseif self.type.kind ~= "array" then
    self:raise("invalid", ("%s is no array, and not per-CPU"):format(self.type.name),
      "[] means each CPU or each element; [struct x.member] walks a list")
  elseif self.type.count == 0 or self.type.count > ELEMENTS_MAX then
    self:raise("invalid", ("of %s nobody knows how many there are"):format(self.type.name),
      "[0] is the first")
  end
  local element = self.type:target()
  self:go { kind = "ARRAY", a = self.bits / 8, b = element.size, c = self.type.count }
  self.type, self.bits = element, 0
end

function Cursor:index(i)
  if self.percpu then
    self:cpus(i)
    return
  end
  local is_array = self.type.kind == "array"
  if not is_array and self.type.kind ~= "pointer" then
    self:raise("invalid", ("%s is no array"):format(self.type.name))
  elseif is_array and self.type.count > 0 and i >= self.type.count then
    self:raise("not-found", ("%s has no [%d]"):format(self.type.name, i))
  end
  if is_array then
    self.type = self.type:target()
  else
    self:follow()
  end
  self.bits = self.bits + i * self.type.size * 8
end

-- --- walks ---

local function list(cursor, offset)
  cursor:copy(cursor.bits / 8, 16)
  return { kind = "LIST", a = cursor.bits / 8, b = offset }, 16
end

local function chain(cursor, offset)
  cursor:copy(cursor.bits / 8, 8)
  return { kind = "CHAIN", a = cursor.bits / 8, b = offset }, 16
end

local function tree(cursor, offset)
  local node = cursor.set:get "struct rb_node"
  local function at(name)
    return node:member(name).offset / 8
  end
  cursor:copy(cursor.bits / 8, cursor.type.size)
  return { kind = "RBTREE", a = cursor.bits / 8, b = offset, c = at "rb_right" + at "rb_left" * 2 ^ 16 },
    node.size
end

--- The operation that goes to each entry of a struct xarray.
---@param set ktstr.TypeSet
---@param at integer its offset
---@param offset integer what is taken off an entry
---@return table
function path.xarray(set, at, offset)
  local node = set:get "struct xa_node"
  local slots = node:member "slots"
  return { kind = "XARRAY", a = at + set:get("struct xarray"):member("xa_head").offset / 8, b = offset,
    c = node.size + slots.offset / 8 * 2 ^ 16 + slots.type.count * 2 ^ 32 }
end

local function xarray(cursor, offset)
  cursor:copy(cursor.bits / 8, cursor.type.size)
  local at = cursor.bits / 8
  if cursor.type.name == "struct idr" then
    at = at + cursor.type:member("idr_rt").offset / 8
  end
  return path.xarray(cursor.set, at, offset), 0
end

local WALKS = {
  ["struct list_head"] = list,
  ["struct hlist_head"] = chain,
  ["struct hlist_nulls_head"] = chain,
  ["struct llist_head"] = chain,
  ["struct rb_root"] = tree,
  ["struct rb_root_cached"] = tree,
  ["struct xarray"] = xarray,
  ["struct radix_tree_root"] = xarray,
  ["struct idr"] = xarray,
}

function Cursor:walk(type_name, member)
  self:follow()
  local walk = WALKS[self.type.name]
  if not walk then
    local names = {}
    for name in pairs(WALKS) do
      names[#names + 1] = name
    end
    table.sort(names)
    self:raise("invalid", ("%s is nothing that can be walked"):format(self.type.name),
      "it has to be one of " .. table.concat(names, ", "))
  elseif not member and walk ~= xarray then
    self:raise("invalid", ("nothing says by which member of %s they are linked"):format(type_name),
      ("[%s.member]"):format(type_name))
  end
  local element, offset = self:find_type(type_name), 0
  if member then
    local ok, bits = pcall(object.offset, element, member)
    if not ok and errors.is(bits, "not-found") then
      self:raise("not-found", ("%s has no member '%s'"):format(element.name, member),
        members_hint(element, member))
    elseif not ok then
      error(bits, 0)
    end
    offset = bits / 8
  end
  local op, node_size = walk(self, offset)
  op.limit = WALK_LIMIT
  self:go(op)
  if node_size > 0 then
    self:copy(offset, node_size)
  end
  self.type, self.bits = element, 0
end

-- --- the beginning and the end ---

function Cursor:find_type(name)
  local ok, found = pcall(self.set.get, self.set, name)
  if not ok and (errors.is(found, "not-found") or errors.is(found, "ambiguous")) then
    self:raise(found.code, found.message, found.hint)
  elseif not ok then
    error(found, 0)
  end
  return found
end

local function find_symbol(cursor, name)
  local ok, found = pcall(cursor.k._symbol, cursor.k, name, function(symbol)
    return percpu.is_symbol(cursor.k, symbol)
  end)
  if ok then
    return found
  elseif errors.is(found, "unmapped") then
    -- Before there is a machine its modules' symbols are not there either.
    cursor:raise("not-found", ("the kernel has no symbol '%s'"):format(name))
  elseif errors.is(found, "not-found") or errors.is(found, "ambiguous") then
    cursor:raise(found.code, found.message, found.hint)
  end
  error(found, 0)
end

local function begin(cursor, name, type_name)
  local k = cursor.k
  local symbol = find_symbol(cursor, name)
  local set, place = cursor.set, k:_place(symbol)
  local type = type_name and cursor:find_type(type_name) or set:variable(name) or known.type_of(set, name)
  if not type then
    cursor:raise("not-found", ("nothing says of which type '%s' is"):format(name),
      ("say it: \"(struct ...)%s\""):format(cursor.path.text))
  end
  cursor.percpu = percpu.is_symbol(k, symbol)
  cursor.is_variable = cursor.percpu
  cursor.type, cursor.bits, cursor.field_bits = type, 0, 0
  cursor:go { kind = "AT", a = place }
end

-- A mask has a bit for each CPU that the kernel was built for, often thousands.
local MASKS = { ["struct cpumask"] = true, cpumask_t = true }

local function size_of(cursor)
  local size = cursor.type.size
  return MASKS[cursor.type.name] and math.min(size, math.ceil(cursor.cpu_count / 64) * 8) or size
end

local function finish(cursor)
  local first = math.floor(cursor.bits / 8)
  local last = cursor.field_bits > 0 and math.ceil((cursor.bits + cursor.field_bits) / 8)
    or first + size_of(cursor)
  if cursor.percpu and cursor.is_variable then
    cursor:raise("per-cpu", "that is per-CPU", "say which: [] for each CPU, [0] for one")
  elseif last == first then
    cursor:raise("unsupported", ("of %s nobody knows the size"):format(cursor.type.name))
  end
  cursor:copy(first, last - first)
  -- Who asks for a string wants more than its address; NULL is a value like others.
  if cursor.type.kind == "pointer" and cursor.type:target().is_char and not cursor.percpu then
    cursor:go { kind = "FOLLOW", flags = MAY_BE_NULL, a = first }
    cursor:go { kind = "STRING", limit = C.PLAN_STRING_MAX }
  end
end

local STEP = {
  member = function(cursor, step) cursor:member(step.name) end,
  each = function(cursor) cursor:each() end,
  index = function(cursor, step) cursor:index(step.index) end,
  walk = function(cursor, step) cursor:walk(step.type, step.member) end,
}

local function is_tasks(parsed)
  local first = parsed.steps[1]
  return parsed.root == "tasks" and not parsed.type and first ~= nil and first.kind == "each"
end

--- What a path means in a kernel: what is copied, and where it leads. Raises "not-found" with the place in
--- the path and what there is, "invalid", "unsupported", "per-cpu", "ambiguous".
---@param k ktstr.Kernel
---@param parsed ktstr.Path
---@return table[] actions for path.apply()
function path.find(k, parsed)
  local cursor = setmetatable({ k = k, set = k:_types(), path = parsed, actions = {}, text = parsed.root,
    cpu_count = k._vm.topology.cpus }, Cursor)
  local first = 1
  cursor.come = parsed.root -- so far
  if is_tasks(parsed) then
    cursor.text = "tasks[]"
    begin(cursor, TASKS[1])
    for _, step in ipairs(TASKS[2]) do
      STEP[step.kind](cursor, step)
    end
    first, cursor.come = 2, cursor.text
  else
    begin(cursor, parsed.root, parsed.type)
  end
  for i = first, #parsed.steps do
    cursor.text = parsed.steps[i].text
    STEP[parsed.steps[i].kind](cursor, parsed.steps[i])
    cursor.come = cursor.text
  end
  finish(cursor)
  return cursor.actions
end

--- Puts what a path means into a program's tree.
---@param root ktstr.PlanNode
---@param actions table[]
---@return ktstr.PlanNode where it ends
function path.apply(root, actions)
  local node = root
  for _, action in ipairs(actions) do
    if action.op then
      node = node:go(action.op, action.path)
    else
      node:copy(action[1], action[2])
    end
  end
  return node
end

return path
