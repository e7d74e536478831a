-- Tasks: all of them, one by its pid, the threads and children of one, and what /proc would say of it.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local containers = require "ktstr.kernel.containers"
local idr = require "ktstr.kernel.idr"
local errors = require "ktstr.errors"
local walk = require "ktstr.kernel.walk"

local tasks = {}

local TASK = "struct task_struct"
local zero = ffi.cast("uint64_t", 0)

-- TASK_* and EXIT_* of include/linux/sched.h. Those that /proc reports are bits 0 to 6, in this order.
local LETTERS = { [0] = "R", "S", "D", "T", "t", "X", "Z", "P", "I" }
local NAMES = {
  R = "running", S = "sleeping", D = "disk sleep", T = "stopped", t = "tracing stop", X = "dead",
  Z = "zombie", P = "parked", I = "idle",
}
local REPORTED = 0x7f
local IDLE = 0x402 -- TASK_UNINTERRUPTIBLE | TASK_NOLOAD
local RTLOCK_WAIT, FROZEN = 0x1000, 0x8000

local POLICIES = {
  [0] = "normal", "fifo", "rr", "batch", "iso", "idle", "deadline", "ext",
}

-- By the reported bits: the letter of the highest. A table, since a loop here would end the compiled loop of
-- who looks at all tasks.
local LETTER_OF = {}
for bits = 0, REPORTED do
  local highest, rest = 0, bits
  while rest > 0 do
    highest, rest = highest + 1, math.floor(rest / 2)
  end
  LETTER_OF[bits] = LETTERS[highest]
end

--- The letter and the name that /proc/PID/status has for a state: "S", "sleeping".
---@param state integer task_struct.__state
---@param exit_state integer
---@return string letter, string name
function tasks.decode_state(state, exit_state)
  local letter = LETTER_OF[bit.band(bit.bor(state, exit_state), REPORTED)]
  if bit.band(state, IDLE) == IDLE then
    letter = "I"
  end
  -- A sleeping lock of PREEMPT_RT and the freezer look like an uninterruptible sleep.
  if bit.band(state, RTLOCK_WAIT + FROZEN) ~= 0 then
    letter = "D"
  end
  return letter, NAMES[letter]
end

--- What a task does, as /proc says it: "R", "running"; "S", "sleeping"; "D", "disk sleep"; "I", "idle" ...
---@param k ktstr.Kernel
---@param task ktstr.Object
---@return string letter, string name
function tasks.task_state(k, task)
  return tasks.decode_state(task.__state, task.exit_state)
end

--- "normal", "fifo", "rr", "batch", "idle", "deadline" or "ext"; the number as text where it has no name.
---@param k ktstr.Kernel
---@param task ktstr.Object
---@return string
function tasks.task_policy(k, task)
  return POLICIES[task.policy] or tostring(task.policy)
end

--- -20 (most) to 19.
---@param k ktstr.Kernel
---@param task ktstr.Object
---@return integer
function tasks.task_nice(k, task)
  return task.static_prio - 120
end

--- The CPU that a task runs on, or ran on last.
---@param k ktstr.Kernel
---@param task ktstr.Object
---@return integer
function tasks.task_cpu(k, task)
  return access.has(k, TASK, "cpu") and task.cpu or task.thread_info.cpu
end

--- The CPUs that a task may run on.
---@param k ktstr.Kernel
---@param task ktstr.Object
---@return ktstr.Cpus
function tasks.task_affinity(k, task)
  return k:cpumask(access.has(k, TASK, "cpus_ptr") and task.cpus_ptr or task.cpus_mask)
end

--- The task with a pid, as the machine's first pid namespace counts (a thread's pid is its tid); nil when
--- there is none.
---@param k ktstr.Kernel
---@param pid integer
---@return ktstr.Object|nil
function tasks.task(k, pid)
  local ids = access.symbol(k, "init_pid_ns") + access.offset(k, "struct pid_namespace", "idr")
  local found = idr.idr_find(k, ids, pid, "struct pid")
  if not found then
    return nil
  end
  -- The first hash of a struct pid is that of the tasks themselves, then groups and sessions follow.
  local node = access.word(access.memory(k), access.address(found) + access.offset(k, "struct pid", "tasks"))
  if node == zero then
    return nil -- the pid is kept as that of a group, or by a descriptor
  end
  return access.object(k, TASK, node - access.offset(k, TASK, "pid_links"))
end

--- Every process's first thread, in the order they were made. The idle tasks of the CPUs are not among
--- them (runqueues have them).
---@param k ktstr.Kernel
---@return fun(): ktstr.Object|nil
function tasks.processes(k)
  return containers.list(k, access.symbol(k, "init_task") + access.offset(k, TASK, "tasks"), TASK, "tasks")
end

-- The way through the threads of one process, for tasks() below: kept in one C struct, so that a compiled
-- loop over all tasks makes no objects but those it hands out.
local Threads = ffi.typeof "struct { uint64_t head, next; }"

--- Every task: each process followed by its other threads. The idle tasks of the CPUs are not among them.
--- Raises as k:list does when the list is damaged, or changes on a running machine.
---@param k ktstr.Kernel
---@return fun(): ktstr.Object|nil
function tasks.tasks(k)
  local what = "the list of tasks"
  local make = access.maker(k, TASK)
  local m = access.memory(k)
  local tasks_at = access.offset(k, TASK, "tasks")
  local signal_at = access.offset(k, TASK, "signal")
  local node_at = access.offset(k, TASK, "thread_node")
  local head_at = access.offset(k, "struct signal_struct", "thread_head")
  local head = access.symbol(k, "init_task") + tasks_at
  local state = walk.new(head)
  local threads = Threads()
  local place = walk.new(head) -- of the thread in its process
  return function()
    if threads.next == threads.head then
      local at = walk.reading(state, what, access.word, m, state.at)
      if at == head then
        return nil
      end
      walk.step(state, what, at)
      local signal = walk.reading(state, what, access.word, m, at - tasks_at + signal_at)
      if signal == zero then
        return make(at - tasks_at) -- its last moment
      end
      threads.head = signal + head_at
      walk.restart(place, threads.head)
      threads.next = walk.reading(place, what, access.word, m, threads.head)
      if threads.next == threads.head then
        return make(at - tasks_at)
      end
    end
    local thread = threads.next
    walk.step(place, "the threads of a process", thread)
    threads.next = walk.reading(place, "the threads of a process", access.word, m, thread)
    return make(thread - node_at)
  end
end

--- The threads of a task's process, its first one first.
---@param k ktstr.Kernel
---@param task ktstr.Object any of them
---@return fun(): ktstr.Object|nil
function tasks.threads(k, task)
  if not task then
    errors.raise("invalid", "a task expected, and there is none",
      "k:task(pid) gives nil for a pid that nobody has")
  end
  return containers.list(k, task.signal.thread_head, TASK, "thread_node")
end

--- The processes that a task's process has started, whichever of its threads did.
---@param k ktstr.Kernel
---@param task ktstr.Object
---@return fun(): ktstr.Object|nil
function tasks.children(k, task)
  local next_thread = tasks.threads(k, task)
  local next_child
  return function()
    while true do
      local child = next_child and next_child()
      if child then
        return child
      end
      local thread = next_thread()
      if not thread then
        return nil
      end
      next_child = containers.list(k, thread.children, TASK, "sibling")
    end
  end
end

return tasks
