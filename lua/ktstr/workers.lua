-- Cgroups in the guest and the workers in them.
local core = require "ktstr.core"
local channel = require "ktstr.channel"
local cpuset = require "ktstr.cpuset"
local errors = require "ktstr.errors"
local options = require "ktstr.options"
local policy = require "ktstr.policy"
local size = require "ktstr.size"
local work = require "ktstr.work"

local wire = core.wire

local workers = {}

local MAX_WORKERS = 4096
local STOP_TIMEOUT_MS = 20000 -- then a worker is killed and reported so

---@class ktstr.CgroupOptions
---@field workers integer|nil how many; nil: 1, or 2 for work types that come in pairs; 0: none
---@field work string|ktstr.Work|nil "SpinWait"
---@field cpuset string|ktstr.Cpuset|nil cpuset.cpus: "0-3", ktstr.cpuset.llc(0)
---@field cpuset_mems string|nil cpuset.mems
---@field affinity string|ktstr.Cpuset|nil CPUs that each worker asks for itself
---@field policy string|nil "normal", "batch", "idle", "fifo 10", "rr 10", "ext"
---@field nice integer|nil -20 to 19
---@field cpu_max string|nil cpu.max: "50000 100000" (quota and period in microseconds)
---@field cpu_weight integer|nil cpu.weight: 1 to 10000
---@field memory_max string|number|nil memory.max: "64M"
---@field memory_high string|number|nil
---@field memory_low string|number|nil
---@field memory_swap_max string|number|nil
---@field io_weight integer|nil io.weight: 1 to 10000
---@field pids_max integer|nil

local rules = {
  workers = { "number", min = 0, max = MAX_WORKERS, integer = true },
  work = { "string|table" },
  cpuset = { "string|table" },
  cpuset_mems = { "string" },
  affinity = { "string|table" },
  policy = { "string" },
  nice = { "number", min = -20, max = 19, integer = true },
  cpu_max = { "string" },
  cpu_weight = { "number", min = 1, max = 10000, integer = true },
  memory_max = { "string|number" },
  memory_high = { "string|number" },
  memory_low = { "string|number" },
  memory_swap_max = { "string|number" },
  io_weight = { "number", min = 1, max = 10000, integer = true },
  pids_max = { "number", min = 1, integer = true },
}

-- In the order in which they are written.
local controls = {
  { option = "cpuset_mems", file = "cpuset.mems" },
  { option = "cpu_max", file = "cpu.max" },
  { option = "cpu_weight", file = "cpu.weight" },
  { option = "memory_low", file = "memory.low", size = true },
  { option = "memory_high", file = "memory.high", size = true },
  { option = "memory_max", file = "memory.max", size = true },
  { option = "memory_swap_max", file = "memory.swap.max", size = true },
  { option = "io_weight", file = "io.weight" },
  { option = "pids_max", file = "pids.max" },
}

local function control_attributes(given, cpus)
  local attributes = {}
  if cpus then
    attributes[1] = { "CONTROL", "cpuset.cpus=" .. cpuset.format(cpus) }
  end
  for _, control in ipairs(controls) do
    local value = given[control.option]
    if value ~= nil then
      if control.size and value ~= "max" and value ~= 0 then
        value = ("%d"):format(size.parse(value, control.option))
      end
      attributes[#attributes + 1] = { "CONTROL", ("%s=%s"):format(control.file, tostring(value)) }
    end
  end
  return attributes
end

local function check_name(name)
  if type(name) ~= "string" or name == "" or name:find "[%c%s]" or ("/" .. name .. "/"):find "/%.*/" then
    errors.refuse("invalid", ("'%s' is no name for a cgroup"):format(tostring(name)),
      "write a path below the root of the hierarchy, such as \"cg_0\" or \"outer/inner\"")
  end
end

--- What a script says of a cgroup, checked. Raises "invalid".
---@param name string
---@param given ktstr.CgroupOptions|nil
---@param topology ktstr.Topology
---@return ktstr.Cgroup
function workers.define(name, given, topology)
  check_name(name)
  local what = ("t:cgroup(\"%s\")"):format(name)
  given = options.check(what, given, rules)
  local kind = work.parse(given.work or "SpinWait")
  local count = given.workers or kind.group
  if count % kind.group ~= 0 then
    errors.refuse("invalid", ("%s: %d workers of %s; they must be a multiple of %d"):format(what, count,
      kind.name, kind.group))
  end
  ---@class ktstr.Cgroup
  return {
    name = name,
    count = count,
    work = kind,
    cpus = given.cpuset and cpuset.resolve(given.cpuset, topology) or nil,
    affinity = given.affinity and cpuset.resolve(given.affinity, topology) or nil,
    policy = policy.attributes(given.policy, what),
    nice = given.nice,
    controls = control_attributes(given, given.cpuset and cpuset.resolve(given.cpuset, topology)),
  }
end

--- Makes the cgroup in the guest. Raises "guest".
---@param vm ktstr.VM
---@param cgroup ktstr.Cgroup
function workers.create_cgroup(vm, cgroup)
  local attributes = { { "CGROUP", cgroup.name } }
  for _, attribute in ipairs(cgroup.controls) do
    attributes[#attributes + 1] = attribute
  end
  vm:_request(wire.OP_CGROUP_CREATE, wire.pack(attributes), ("make the cgroup '%s'"):format(cgroup.name))
end

--- Puts the cgroup's workers at the start line. Raises "guest".
---@param vm ktstr.VM
---@param cgroup ktstr.Cgroup
---@return integer group what their reports carry
function workers.line_up(vm, cgroup)
  local attributes = work.attributes(cgroup.work)
  attributes[#attributes + 1] = { "CGROUP", cgroup.name }
  attributes[#attributes + 1] = { "COUNT", cgroup.count }
  if cgroup.affinity then
    attributes[#attributes + 1] = { "CPUS", cpuset.format(cgroup.affinity) }
  end
  for _, attribute in ipairs(cgroup.policy) do
    attributes[#attributes + 1] = attribute
  end
  if cgroup.nice then
    attributes[#attributes + 1] = { "NICE", cgroup.nice }
  end
  local reply = vm:_request(wire.OP_WORKERS_CREATE, wire.pack(attributes),
    ("start %d workers in '%s'"):format(cgroup.count, cgroup.name))
  return channel.attributes(reply.body).GROUP
end

--- Lets all that stand at the line run.
---@param vm ktstr.VM
function workers.start(vm)
  vm:_request(wire.OP_WORKERS_START, "", "let the workers run")
end

--- Stops them; the reports of all, by group. Raises "guest", "ended"; "format" when a report is missing.
---@param vm ktstr.VM
---@return table<integer, table[]>
function workers.stop(vm)
  vm.channel:take_reports()
  local reply = vm:_request(wire.OP_WORKERS_STOP, wire.pack { { "TIMEOUT_MS", STOP_TIMEOUT_MS } },
    "stop the workers")
  local reports = vm.channel:take_reports()
  local sent = channel.attributes(reply.body).COUNT
  if sent ~= #reports then
    errors.raise("format", ("the agent sent %s worker reports, %d arrived"):format(tostring(sent), #reports))
  end
  local groups = {}
  for _, report in ipairs(reports) do
    groups[report.group] = groups[report.group] or {}
    table.insert(groups[report.group], report)
  end
  for _, group in pairs(groups) do
    table.sort(group, function(a, b)
      return a.index < b.index
    end)
  end
  return groups
end

return workers
