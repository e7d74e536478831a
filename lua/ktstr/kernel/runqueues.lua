-- The runqueues of the CPUs and what waits in them: fair, real-time and deadline tasks.
local access = require "ktstr.kernel.access"
local containers = require "ktstr.kernel.containers"
local cpumask = require "ktstr.kernel.cpumask"
local rbtree = require "ktstr.kernel.rbtree"

local runqueues = {}

local TASK, FAIR, REALTIME, DEADLINE =
  "struct task_struct", "struct sched_entity", "struct sched_rt_entity", "struct sched_dl_entity"
local REALTIME_PRIORITIES = 100

--- The struct rq of each online CPU: `for rq, cpu in k:runqueues() do`.
---@param k ktstr.Kernel
---@return fun(): ktstr.Object|nil, integer|nil
function runqueues.runqueues(k)
  local cpus = cpumask.cpus(k, "online")
  local i = 0
  return function()
    i = i + 1
    if cpus[i] then
      return k:per_cpu("runqueues", cpus[i]), cpus[i]
    end
  end
end

-- A queue of one class, whether it is given itself or the CPU's runqueue that has it.
local function of_class(queue, class, own)
  return queue:has_(class) and not queue:has_(own) and queue[class] or queue
end

-- What an entity is a part of; nil for a group's, which has a queue of its own below it.
local function task_of(k, entity, member)
  if access.has(k, entity:type_(), "my_q") and entity.my_q ~= k.null then
    return nil
  end
  return access.object(k, TASK, access.address(entity) - access.offset(k, TASK, member))
end

--- The fair class's tree of a queue: by deadline where the kernel has EEVDF, by vruntime before. What runs is
--- not in it (cfs.curr). Yields entity and task; a group's entity has no task, but a queue: entity.my_q.
---@param k ktstr.Kernel
---@param queue ktstr.Object a struct cfs_rq, or the struct rq whose root queue is meant
---@return fun(): ktstr.Object|nil, ktstr.Object|nil
function runqueues.cfs_entities(k, queue)
  local cfs = of_class(queue, "cfs", "tasks_timeline")
  local next = rbtree.rbtree(k, cfs.tasks_timeline, FAIR, "run_node")
  return function()
    local entity = next()
    if entity then
      return entity, task_of(k, entity, "se")
    end
  end
end

--- All fair tasks that are runnable on a CPU, of every group, with the one that runs.
---@param k ktstr.Kernel
---@param rq ktstr.Object
---@return fun(): ktstr.Object|nil
function runqueues.cfs_tasks(k, rq)
  return containers.list(k, rq.cfs_tasks, TASK, "se.group_node")
end

--- The real-time class's queues, the highest priority first. Yields entity and task, and the priority as the
--- kernel counts it (0 is the highest).
---@param k ktstr.Kernel
---@param queue ktstr.Object a struct rt_rq or rq
---@return fun(): ktstr.Object|nil, ktstr.Object|nil, integer|nil
function runqueues.rt_entities(k, queue)
  local rt = of_class(queue, "rt", "active")
  local heads = access.address(rt:member_ "active") + access.offset(k, "struct rt_prio_array", "queue")
  local priority, next = -1, nil
  return function()
    while true do
      local entity = next and next()
      if entity then
        return entity, task_of(k, entity, "rt"), priority
      end
      priority = priority + 1
      if priority == REALTIME_PRIORITIES then
        return nil
      end
      next = containers.list(k, heads + priority * 16, REALTIME, "run_list")
    end
  end
end

--- The deadline class's tree, the earliest deadline first. Yields entity and task; a server's (which runs
--- another class's tasks) has no task.
---@param k ktstr.Kernel
---@param queue ktstr.Object a struct dl_rq or rq
---@return fun(): ktstr.Object|nil, ktstr.Object|nil
function runqueues.dl_entities(k, queue)
  local dl = of_class(queue, "dl", "dl_nr_running")
  local next = rbtree.rbtree(k, dl.root, DEADLINE, "rb_node")
  return function()
    local entity = next()
    if entity then
      local server = access.has(k, DEADLINE, "dl_server") and entity.dl_server ~= 0
      return entity, not server and task_of(k, entity, "dl") or nil
    end
  end
end

return runqueues
