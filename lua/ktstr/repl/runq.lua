-- The runqueues as text, as the crash utility's runq prints them.
local errors = require "ktstr.errors"
local look = require "ktstr.repl.look"
local memory = require "ktstr.kernel.memory"

local runq = {}

local DEPTH = 32 -- of groups in groups
local INDENT = "   "

--- The line that says which task it is.
---@param k ktstr.Kernel
---@param task ktstr.Object
---@param cpu integer|nil nil: its own
---@return string
function runq.title(k, task, cpu)
  return ("PID: %-8d TASK: %s  CPU: %-4d COMMAND: \"%s\""):format(task.pid, look.hex(task),
    cpu or k:task_cpu(task), task.comm)
end

local Out = {}
Out.__index = Out

function Out:line(depth, text)
  self.lines[#self.lines + 1] = INDENT:rep(depth) .. text
end

-- A task in a queue.
function Out:task(depth, number, task, more)
  self:line(depth, ("[%3d] PID: %-8d TASK: %s  COMMAND: \"%s\"%s"):format(number, task.pid, look.hex(task),
    task.comm, more or ""))
end

-- Something in each queue, or a line that says that there is nothing.
function Out:queue(depth, title, fill)
  self:line(depth, title)
  local before = #self.lines
  fill(depth + 1)
  if #self.lines == before then
    self:line(depth + 1, "[no tasks queued]")
  end
end

local function check_depth(left)
  if left == 0 then
    errors.raise("format", ("groups of tasks lie in each other more than %d deep"):format(DEPTH))
  end
end

local function add_rt(out, k, rt, depth, left)
  check_depth(left)
  for entity, task, priority in k:rt_entities(rt) do
    if task then
      out:task(depth, priority, task)
    else
      local queue = entity.my_q
      out:queue(depth, ("[%3d] GROUP RT PRIO_ARRAY: %s"):format(priority, look.hex(queue:member_ "active")),
        function(inner)
          add_rt(out, k, queue, inner, left - 1)
        end)
    end
  end
end

-- By what the tree is sorted.
local function order_of(entity)
  if entity:has_ "deadline" then
    return ("  DEADLINE: %s  VRUNTIME: %s"):format(tostring(entity.deadline), tostring(entity.vruntime))
  end
  return "  VRUNTIME: " .. tostring(entity.vruntime)
end

local function path_of(k, queue)
  local ok, path = memory.try(function()
    return k:cgroup_path(queue.tg.css.cgroup)
  end)
  return ok and (" <%s>"):format(path) or ""
end

local function add_fair(out, k, cfs, depth, left)
  check_depth(left)
  local function group(entity)
    local queue = entity.my_q
    out:queue(depth, ("GROUP CFS RB_ROOT: %s%s%s"):format(look.hex(queue:member_ "tasks_timeline"),
      path_of(k, queue), order_of(entity)), function(inner)
      add_fair(out, k, queue, inner, left - 1)
    end)
  end
  -- What runs is in no tree; the tasks of a group that runs are in that group's.
  local running = cfs.curr
  if running ~= k.null and running.my_q ~= k.null then
    group(running)
  end
  for entity, task in k:cfs_entities(cfs) do
    if task then
      out:task(depth, task.prio, task, order_of(entity))
    else
      group(entity)
    end
  end
end

local function add_deadline(out, k, rq)
  local tasks = {}
  for entity, task in k:dl_entities(rq) do
    tasks[#tasks + 1] = task and { task, entity } or nil
  end
  if #tasks == 0 then
    return
  end
  out:queue(1, "DEADLINE RB_ROOT: " .. look.hex(rq:member_ "dl.root"), function(depth)
    for _, one in ipairs(tasks) do
      out:task(depth, one[1].prio, one[1], "  DEADLINE: " .. tostring(one[2].deadline))
    end
  end)
end

local function add_dsq(out, k, depth, title, dsq)
  out:queue(depth, ("%s: %s"):format(title, look.hex(dsq)), function(inner)
    for task in k:dsq_tasks(dsq) do
      out:task(inner, task.prio, task)
    end
  end)
end

local function add_cpu(out, k, rq, cpu)
  local current = rq.curr
  out:line(0, ("CPU %d RUNQUEUE: %s"):format(cpu, look.hex(rq)))
  out:line(1, ("CURRENT: PID: %-8d TASK: %s  COMMAND: \"%s\""):format(current.pid, look.hex(current),
    current.comm))
  add_deadline(out, k, rq)
  out:queue(1, "RT PRIO_ARRAY: " .. look.hex(rq:member_ "rt.active"), function(depth)
    add_rt(out, k, rq.rt, depth, DEPTH)
  end)
  out:queue(1, "CFS RB_ROOT: " .. look.hex(rq:member_ "cfs.tasks_timeline"), function(depth)
    add_fair(out, k, rq.cfs, depth, DEPTH)
  end)
  if rq:has_ "scx.local_dsq" then
    add_dsq(out, k, 1, "SCX LOCAL DSQ", rq:member_ "scx.local_dsq")
  end
end

local function dsq_title(dsq, info)
  if info.kind == "user" then
    return "SCX DSQ " .. look.hex(dsq.id)
  elseif info.node then
    return ("SCX %s DSQ, NODE %d"):format(info.kind:upper(), info.node)
  end
  return ("SCX %s DSQ, CPU %d"):format(info.kind:upper(), info.cpu)
end

-- The queues of loaded schedulers; of those that every CPU has only what is not empty.
local function add_schedulers(out, k)
  if k:scx_state() == "disabled" then
    return
  end
  for sch in k:scx_schedulers() do
    out:line(0, ("SCX SCHEDULER %s: %s"):format(sch.ops.name, look.hex(sch)))
    for dsq, info in k:dsqs(sch) do
      if info.kind ~= "bypass" or dsq.nr ~= 0 then
        add_dsq(out, k, 1, dsq_title(dsq, info), dsq)
      end
    end
  end
end

--- All CPUs' runqueues, or one's.
---@param k ktstr.Kernel frozen
---@param wanted integer|nil a CPU's number
---@return string
function runq.text(k, wanted)
  local out = setmetatable({ lines = {} }, Out)
  local has_scx = false
  for rq, cpu in k:runqueues() do
    if not wanted or cpu == wanted then
      add_cpu(out, k, rq, cpu)
    end
    has_scx = rq:has_ "scx.local_dsq"
  end
  if #out.lines == 0 then
    errors.raise("not-found", ("runq: there is no CPU %d"):format(wanted))
  end
  if has_scx and not wanted then
    add_schedulers(out, k)
  end
  return table.concat(out.lines, "\n")
end

return runq
