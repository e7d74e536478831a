-- sched_ext: its schedulers, dispatch queues and event counters. All is found by what the kernel's types
-- have; a kernel without sched_ext raises "unsupported".
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local containers = require "ktstr.kernel.containers"
local errors = require "ktstr.errors"
local rhashtable = require "ktstr.kernel.rhashtable"
local walk = require "ktstr.kernel.walk"

local scx = {}

local SCHED, QUEUE, TASK = "struct scx_sched", "struct scx_dispatch_q", "struct task_struct"
local EVENTS = "struct scx_event_stats"
local ITER_CURSOR = 1 -- scx_dsq_list_node.flags: the node is somebody's place in the list, and no task
local MAX_NODES = 1024

local function check_supported(k)
  if not access.has_type(k, "struct sched_ext_entity") then
    errors.raise("unsupported", "this kernel was built without sched_ext",
      "take one with CONFIG_SCHED_CLASS_EXT: Debian's are from 7.2 on")
  elseif not access.has_type(k, SCHED) then
    errors.raise("unsupported", "this kernel's sched_ext has no struct scx_sched: it is older than 6.16",
      "its state is in globals: k:var \"scx_ops\", k:var \"scx_exit_kind\"")
  end
end

--- "enabling", "enabled", "disabling" or "disabled".
---@param k ktstr.Kernel
---@return string
function scx.scx_state(k)
  check_supported(k)
  local value = k:var("scx_enable_state_var", "unsigned int")
  local name = access.enum_name(k, "enum scx_enable_state", value)
  return name and name:gsub("^SCX_", ""):lower() or tostring(value)
end

--- The schedulers that are loaded, a parent before its children: `for sch in k:scx_schedulers() do`. Each is
--- a struct scx_sched: sch.ops.name, sch.level, sch.exit_kind ...
---@param k ktstr.Kernel
---@return fun(): ktstr.Object|nil
function scx.scx_schedulers(k)
  check_supported(k)
  if access.has(k, SCHED, "all") then
    return containers.list(k, access.symbol(k, "scx_sched_all"), SCHED, "all")
  end
  -- Before there were schedulers below others.
  local root = access.global_word(k, "scx_root")
  return function()
    local found = root
    root = 0ULL
    if found ~= 0ULL then
      return access.object(k, SCHED, found)
    end
  end
end

-- Where one CPU's counters lie: three places in the life of sched_ext.
local function events_of(k, sch, cpu)
  if sch and access.has(k, SCHED, "pcpu") then
    local own = access.per_cpu(k, access.member_word(k, sch, "pcpu"), cpu)
    return own + access.offset(k, "struct scx_sched_pcpu", "event_stats")
  elseif sch and access.has(k, SCHED, "event_stats_cpu") then
    return access.per_cpu(k, access.member_word(k, sch, "event_stats_cpu"), cpu)
  end
  return access.per_cpu(k, access.symbol(k, "event_stats_cpu"), cpu)
end

--- Event counters by name: `k:scx_events(sch).SCX_EV_SELECT_CPU_FALLBACK`. Which there are, the kernel
--- says: one that it has not is nil.
---@param k ktstr.Kernel
---@param sch ktstr.Object a struct scx_sched
---@param cpu integer|nil nil: the sum of all CPUs, as /sys/kernel/sched_ext has it
---@return table<string, integer>
function scx.scx_events(k, sch, cpu)
  check_supported(k)
  if not access.has_type(k, EVENTS) then
    errors.raise("unsupported", "this kernel's sched_ext has no event counters", "they came with 6.14")
  end
  local m = access.memory(k)
  local sums = {}
  for _, one in ipairs(cpu and { cpu } or k:cpus "possible") do
    local base = events_of(k, sch, one)
    for _, member in ipairs(access.type(k, EVENTS):members()) do
      local value = ffi.cast("int64_t", access.word(m, base + member.offset / 8))
      sums[member.name] = (sums[member.name] or 0LL) + value
    end
  end
  for name, sum in pairs(sums) do
    sums[name] = access.signed(sum)
  end
  return sums
end

-- --- dispatch queues ---

---@class ktstr.DsqInfo
---@field kind "local"|"reject"|"rescue"|"global"|"bypass"|"user"
---@field cpu integer|nil of a CPU's own
---@field node integer|nil of a NUMA node's
---@field scheduler ktstr.Object|nil the struct scx_sched that it belongs to

-- The queues in a CPU's runqueue.
local function add_runqueue(k, list, rq, cpu)
  for kind, path in pairs { ["local"] = "local_dsq", reject = "reject_dsq", rescue = "rescue.dsq",
    bypass = "bypass_dsq" } do
    if access.has(k, "struct scx_rq", path) then
      local dsq = rq.scx:member_(path)
      list[#list + 1] = { dsq, { kind = kind, cpu = cpu } }
    end
  end
end

-- A scheduler's queues of the NUMA nodes: in a struct a node, or by themselves.
local function add_nodes(k, list, sch)
  local m = access.memory(k)
  local nested = access.has(k, SCHED, "pnode")
  if not nested and not access.has(k, SCHED, "global_dsqs") then
    return
  end
  local array = access.member_word(k, sch, nested and "pnode" or "global_dsqs")
  local offset = nested and access.offset(k, "struct scx_sched_pnode", "global_dsq") or 0
  for node = 0, math.min(access.global_u32(k, "nr_node_ids") or 1, MAX_NODES) - 1 do
    local at = access.word(m, array + node * 8)
    if at ~= 0ULL then
      local dsq = access.object(k, QUEUE, at + offset)
      list[#list + 1] = { dsq, { kind = "global", node = node, scheduler = sch } }
    end
  end
end

local function add_bypass(k, list, sch)
  if not access.has(k, SCHED, "pcpu") or not access.has(k, "struct scx_sched_pcpu", "bypass_dsq") then
    return
  end
  local own = access.member_word(k, sch, "pcpu")
  local offset = access.offset(k, "struct scx_sched_pcpu", "bypass_dsq")
  for _, cpu in ipairs(k:cpus "possible") do
    local dsq = access.object(k, QUEUE, access.per_cpu(k, own, cpu) + offset)
    list[#list + 1] = { dsq, { kind = "bypass", cpu = cpu, scheduler = sch } }
  end
end

local function add_user(k, list, sch)
  local hash
  if access.has(k, SCHED, "dsq_hash") then
    hash = sch:member_ "dsq_hash"
  else
    hash = access.object(k, "struct rhashtable", access.symbol(k, "dsq_hash"))
  end
  for dsq in rhashtable.rhashtable(k, hash, QUEUE, "hash_node") do
    list[#list + 1] = { dsq, { kind = "user", scheduler = sch } }
  end
end

--- Every dispatch queue: `for dsq, info in k:dsqs() do`; dsq is a struct scx_dispatch_q (dsq.id, dsq.nr),
--- info says what it is: { kind=, cpu=, node=, scheduler= }. Without a loaded scheduler only the CPUs' own
--- exist.
---@param k ktstr.Kernel
---@param sch ktstr.Object|nil only those of this scheduler
---@return fun(): ktstr.Object|nil, ktstr.DsqInfo|nil
function scx.dsqs(k, sch)
  check_supported(k)
  local list = {}
  local function add(one)
    add_nodes(k, list, one)
    add_bypass(k, list, one)
    add_user(k, list, one)
  end
  if sch then
    add(sch)
  else
    for rq, cpu in k:runqueues() do
      add_runqueue(k, list, rq, cpu)
    end
    for one in scx.scx_schedulers(k) do
      add(one)
    end
  end
  local i = 0
  return function()
    i = i + 1
    if list[i] then
      return list[i][1], list[i][2]
    end
  end
end

--- The tasks in a dispatch queue, the next one first.
---@param k ktstr.Kernel
---@param dsq ktstr.Object
---@return fun(): ktstr.Object|nil
function scx.dsq_tasks(k, dsq)
  local what = "the tasks of a dispatch queue"
  local m = access.memory(k)
  local flags = access.offset(k, "struct scx_dsq_list_node", "flags")
    - access.offset(k, "struct scx_dsq_list_node", "node")
  local offset = access.offset(k, TASK, "scx.dsq_list.node")
  local make = access.maker(k, TASK)
  local head = access.address(dsq:member_ "list")
  local state = walk.new(head)
  return function()
    while true do
      local at = walk.reading(state, what, access.word, m, state.at)
      if at == head then
        return nil
      end
      walk.step(state, what, at)
      if bit.band(walk.reading(state, what, access.u32, m, at + flags), ITER_CURSOR) == 0 then
        return make(at - offset)
      end
    end
  end
end

-- --- tasks ---

local STATES = { "NONE", "INIT_BEGIN", "INIT", "READY", "ENABLED", "DEAD" }

--- What sched_ext makes of a task: "none", "init", "ready" or "enabled"; newer kernels have more.
---@param k ktstr.Kernel
---@param task ktstr.Object
---@return string
function scx.scx_task_state(k, task)
  check_supported(k)
  local mask = access.enum_value(k, "SCX_TASK_STATE_MASK")
  local shift = access.enum_value(k, "SCX_TASK_STATE_SHIFT")
  local value = bit.band(task.scx.flags, mask)
  -- The states were numbers of an enum of their own first, and flags in their place later.
  if access.has_type(k, "enum scx_task_state") then
    value = bit.rshift(value, shift)
  end
  for _, name in ipairs(STATES) do
    if access.enum_value(k, "SCX_TASK_" .. name) == value then
      return name:lower()
    end
  end
  return tostring(value)
end

return scx
