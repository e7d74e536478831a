-- ktstr.plan: what captures record. Checked against a kernel's types, and compiled to the program that C runs
-- while the machine stands still (core/capture/plan.h).
local default = require "ktstr.capture.default"
local errors = require "ktstr.errors"
local field_path = require "ktstr.kernel.field_path"

local plan = {}

---@class ktstr.CapturePlan
---@field items (string|{ map: string })[]
---@field only boolean it has nothing but these
local Plan = {}
Plan.__index = Plan

function Plan:__tostring()
  local texts = {}
  for i, item in ipairs(self.items) do
    texts[i] = type(item) == "table" and ('map "%s"'):format(item.map) or ('"%s"'):format(item)
  end
  return ("ktstr.plan { %s%s }"):format(table.concat(texts, ", "), self.only and ", only = true" or "")
end

--- A BPF map by its name, or what its name ends with: map ".bss" is scx_simp.bss.
---@param name string
---@return table
function plan.map(name)
  if type(name) ~= "string" or name == "" then
    errors.refuse("invalid", ("plan: a map is named by a string, not by %s"):format(tostring(name)))
  end
  return { map = name }
end

local function check_item(item)
  if type(item) == "table" and type(item.map) == "string" then
    return
  elseif type(item) ~= "string" or item == "" then
    errors.refuse("invalid", ("plan: %s is no path"):format(tostring(item)),
      'ktstr.plan { "runqueues[].nr_running", ktstr.plan.map ".bss" }')
  end
  local path = require "ktstr.capture.path"
  for _, alternative in ipairs((field_path.alternatives(item))) do
    path.parse(alternative)
  end
end

--- What captures record, beside what they always do.
---   ktstr.boot { capture = ktstr.plan { "runqueues[].cfs.h_nr_queued|runqueues[].cfs.h_nr_running" } }
--- A path is a variable, with members behind '.', each CPU's or each element with '[]', a list's elements
--- with [struct x.member]; '|' separates what different kernels call it, and a '|' at the end allows for
--- none. Raises "invalid". What the kernel has not raises "not-found", when the machine is booted.
---@param items { [integer]: string|{ map: string }, only: boolean|nil } only: nothing but these
---@return ktstr.CapturePlan
function plan.new(items)
  if type(items) ~= "table" then
    errors.refuse("invalid", ("ktstr.plan wants a list of paths, not %s"):format(tostring(items)))
  end
  local self = { items = {}, only = items.only or false }
  for key, item in pairs(items) do
    if key ~= "only" and type(key) ~= "number" then
      errors.refuse("invalid", ("ktstr.plan knows no option '%s'"):format(tostring(key)), "it knows 'only'")
    elseif key ~= "only" then
      check_item(item)
    end
  end
  for i, item in ipairs(items) do
    self.items[i] = item
  end
  return setmetatable(self, Plan)
end

-- --- compiling ---

---@class ktstr.CompiledPlan
---@field id integer records of it have this number
---@field bytes string for C
---@field paths ktstr.Path[] what it records, as far as the kernel has it
---@field has_maps boolean BPF maps are among it
---@field origin ktstr.RecordOrigin|nil of the kernel that it was compiled for
---@field absent string[] what the kernel has not, and need not have

local last_id = 0

-- The first alternative that the kernel has: its parts and what it means.
local function find_first(path, k, item)
  local alternatives, optional = field_path.alternatives(item)
  local found, failures = field_path.first(alternatives, function(text)
    local parsed = path.parse(text)
    return { parsed = parsed, actions = path.find(k, parsed) }
  end)
  if found then
    return found.parsed, found.actions
  elseif optional then
    return nil
  elseif #failures == 1 then
    error(failures[1], 0)
  end
  errors.refuse("not-found", "plan: " .. field_path.reasons(alternatives, failures), failures[#failures].hint)
end

local function add_paths(self, root, k, items)
  local path = require "ktstr.capture.path"
  for _, item in ipairs(items) do
    local parsed, actions = find_first(path, k, item)
    if parsed then
      path.apply(root, actions)
      self.paths[#self.paths + 1] = parsed
    else
      self.absent[#self.absent + 1] = item
    end
  end
end

-- The offsets of the CPUs' own memory: reading a record needs them as the plan does.
local function add_offsets(root, k, cpus)
  local symbol, load = k:_image_symbol "__per_cpu_offset", k:_image_symbol "__per_cpu_load"
  if not symbol then
    return {}
  end
  local place = k:_place(symbol)
  root:go({ kind = "AT", a = place }, "__per_cpu_offset"):copy(0, 8 * cpus)
  return { offsets = place, unset = load and k:_place(load) }
end

local function split(items)
  local paths, names = {}, {}
  for _, item in ipairs(items) do
    if type(item) == "table" then
      names[item.map] = true
    else
      paths[#paths + 1] = item
    end
  end
  local list = {}
  for name in pairs(names) do
    list[#list + 1] = name
  end
  table.sort(list)
  return paths, list
end

--- The program of a plan for a kernel. Raises "not-found" for what the kernel has not, with the path, the
--- place in it and what there is.
---@param self ktstr.CapturePlan|nil nil: what captures always record
---@param k ktstr.Kernel
---@return ktstr.CompiledPlan
function plan.compile(self, k)
  local maps, program = require "ktstr.capture.maps", require "ktstr.capture.program"
  local root, topology = program.new(), k._vm.topology
  local result = { paths = {}, absent = {}, has_maps = false }
  local header = add_offsets(root, k, topology.cpus)
  add_paths(result, root, k, default.BASE)
  local base = #result.paths
  if not self or not self.only then
    add_paths(result, root, k, default.paths(topology.numa_nodes or 1))
  end
  local paths, names = split(self and self.items or {})
  add_paths(result, root, k, paths)
  local all = not self or not self.only
  if (all or #names > 0) and maps.are_there(k) then
    maps.add(k, root, not all and names or nil)
    result.has_maps = true
  end
  if all and k:_types():find "struct scx_sched" then
    require("ktstr.capture.queues").add(k, root)
  end
  -- What only serves to read the record is not part of what is said of it.
  for _ = 1, base do
    table.remove(result.paths, 1)
  end
  last_id = last_id % 0x7fffffff + 1
  result.id = last_id
  header.cpus, header.id = topology.cpus, last_id
  result.bytes = program.bytes(root, header)
  return result
end

--- Raises what compile() would raise, before there is a machine.
---@param self ktstr.CapturePlan
---@param image ktstr.KernelImage
---@param topology ktstr.Topology
function plan.check(self, image, topology)
  if not image.types then
    errors.refuse("unsupported", ("the kernel %s was built without types, so no plan is possible"):format(
      image.path), "build it with CONFIG_DEBUG_INFO_BTF")
  end
  plan.compile(self, require("ktstr.capture.kernel").empty(image, topology))
end

--- A plan, or the list that one is made of.
---@param given ktstr.CapturePlan|table
---@return ktstr.CapturePlan
function plan.wrap(given)
  return getmetatable(given) == Plan and given or plan.new(given)
end

return setmetatable(plan, {
  __call = function(_, items)
    return plan.new(items)
  end,
})
