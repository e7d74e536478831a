-- Commands about tasks and the CPUs that they run on, as the crash utility has them: ps, task, bt, runq.
local commands = require "ktstr.repl.commands"
local errors = require "ktstr.errors"
local source_lines = require "ktstr.kernel.lines"
local look = require "ktstr.repl.look"
local members = require "ktstr.repl.members"
local runq = require "ktstr.repl.runq"

-- Crash's letters for those of /proc.
local STATES = { R = "RU", S = "IN", D = "UN", T = "ST", t = "TR", X = "DE", Z = "ZO", P = "PA", I = "ID" }

-- The idle tasks of the CPUs, then all others; and by the task's key, those that a CPU runs.
local function all_tasks(k)
  local list, active = {}, {}
  for rq in k:runqueues() do
    list[#list + 1] = rq.idle
    active[rq.curr:key_()] = true
  end
  for task in k:tasks() do
    list[#list + 1] = task
  end
  return list, active
end

-- The task that a word stands for: a pid. The idle tasks share theirs; CPU 0's is the first.
local function task_of(k, name, word)
  local pid = word:find "^%d+$" and tonumber(word)
  if not pid then
    commands.misused(name, ("'%s' is no PID"):format(word))
  elseif pid == 0 then
    return k:per_cpu("runqueues", 0).idle
  end
  return k:task(pid) or errors.raise("not-found", ("%s: there is no task with PID %d"):format(name, pid))
end

local PF_KTHREAD = 0x200000

local function comm_of(task)
  local comm = task.comm
  return bit.band(task.flags, PF_KTHREAD) ~= 0 and ("[%s]"):format(comm) or comm
end

local function row_of(k, task, active)
  return {
    active[task:key_()] and ">" or "",
    tostring(task.pid),
    tostring(task.real_parent ~= k.null and task.real_parent.tgid or 0),
    tostring(k:task_cpu(task)),
    look.hex(task),
    STATES[k:task_state(task)] or "??",
    k:task_policy(task),
    tostring(k:task_nice(task)),
    comm_of(task),
  }
end

local function ps(k, wanted)
  local list, active = all_tasks(k)
  local rows = { { "", "PID", "PPID", "CPU", "TASK", "ST", "POLICY", "NICE", "COMM" } }
  local pid = wanted and wanted:find "^%d+$" and tonumber(wanted)
  for _, task in ipairs(list) do
    if not wanted or task.pid == pid or task.comm == wanted then
      rows[#rows + 1] = row_of(k, task, active)
    end
  end
  if #rows == 1 then
    errors.raise("not-found", ("ps: there is no task %s"):format(pid and "with PID " .. pid
      or ("called '%s'"):format(wanted)))
  end
  return look.columns(rows, { [1] = true, [5] = true, [6] = true, [7] = true, [9] = true })
end

commands.add {
  name = "ps",
  arguments = "[PID|NAME]",
  help = "the kernel's tasks",
  details = [[
All tasks, threads and the CPUs' idle ones among them; those with that PID; or those called NAME. '>' marks
what a CPU runs. ST is RU running or runnable, IN sleeping, UN disk sleep, ID idle (a kernel thread's), ST
stopped, TR traced, ZO zombie, DE dead, PA parked. A kernel thread's name is in brackets.]],
  most = 1,
  words = true,
  run = function(session, wanted)
    return look.still(session, function(k)
      return ps(k, wanted)
    end)
  end,
}

-- --- task ---

commands.add {
  name = "task",
  arguments = "PID [MEMBER,...]",
  help = "a task's struct task_struct, or some of its members",
  details = "task 1 se.vruntime,cpus_ptr shows those members of the task with PID 1.",
  least = 1,
  most = 2,
  words = true,
  run = function(session, pid, names)
    return look.still(session, function(k)
      local task = task_of(k, "task", pid)
      return runq.title(k, task) .. "\n" .. (names and members.values(task, names) or tostring(task))
    end)
  end,
}

-- --- bt ---

local function frame_line(i, frame)
  local note = frame.interrupted and i > 1 and "  (interrupted)" or frame.traced and "  (traced)" or ""
  return ("%3s [%s] %s%s at %s%s"):format("#" .. i - 1, look.hex(frame.sp), frame.guessed and "? " or "",
    frame.name, look.hex(frame.address), note)
end

-- The calls of a task, or of a CPU that runs a task or none.
local function backtrace(k, what)
  local trace = k:backtrace(what)
  local lines = { trace.task and runq.title(k, trace.task, trace.cpu) or ("CPU: %d  no task"):format(what) }
  for i, frame in ipairs(trace) do
    lines[#lines + 1] = frame_line(i, frame)
    for _, line in ipairs(source_lines.text(frame.source)) do
      lines[#lines + 1] = "    " .. line
    end
  end
  if trace.user then
    lines[#lines + 1] = "    user mode" .. (trace.user_ip and " at " .. look.hex(trace.user_ip) or "")
  elseif not trace.whole then
    lines[#lines + 1] = "    ends here: " .. trace.ending
  end
  return table.concat(lines, "\n")
end

local ENDING = { interrupted = true, ["freeze-limit"] = true, ended = true }

-- Of several: one that cannot be had is no reason not to show the others.
local function backtraces(k, list)
  local texts = {}
  for i, what in ipairs(list) do
    local ok, text = pcall(backtrace, k, what)
    if not ok and (not errors.is(text) or ENDING[text.code]) then
      error(text, 0)
    end
    local title = type(what) == "number" and "CPU: " .. what or not ok and runq.title(k, what)
    texts[i] = ok and text or ("%s\n    %s"):format(title, tostring(text))
  end
  return table.concat(texts, "\n\n")
end

local function all_cpus(k)
  local list = {}
  for _, cpu in ipairs(k:cpus "online") do
    list[#list + 1] = cpu
  end
  return list
end

local function bt(k, what, cpu)
  if what == "-c" then
    return backtrace(k, tonumber(cpu))
  elseif what == nil or what == "-a" then
    return backtraces(k, all_cpus(k))
  elseif what == "all" then
    return backtraces(k, (all_tasks(k)))
  end
  return backtrace(k, task_of(k, "bt", what))
end

commands.add {
  name = "bt",
  arguments = "[PID|-c CPU|-a|all]",
  help = "the calls that a task, a CPU, or every CPU is in",
  details = [[
Without an argument, or with -a: what each CPU was doing. all: every task. A frame is

  #N [its stack pointer] function+offset at address

with the address that the call returns to; "(interrupted)" is where an interrupt or an exception came in,
"(traced)" where the function graph tracer or a return probe has put its own in the place of that address, and
'?' a frame that was found by the frame pointer, for want of an unwind table. Where there is a vmlinux with
DWARF (docs/kernel.md, "Source lines") the line of the call is below it, after those of what was inlined.]],
  most = 2,
  words = true,
  run = function(session, what, cpu)
    if (what == "-c") ~= (cpu ~= nil) or cpu and not cpu:find "^%d+$" then
      commands.misused "bt"
    end
    return look.still(session, function(k)
      return bt(k, what, cpu)
    end, source_lines.prepare)
  end,
}

-- --- runq ---

commands.add {
  name = "runq",
  arguments = "[CPU]",
  help = "what each CPU runs, and what waits for it",
  details = [[
In the order of the queues: real-time tasks by priority, fair ones by deadline (before 6.6 by vruntime) with
the groups that they are in, then sched_ext's local queue. Without a CPU also sched_ext's other queues.]],
  most = 1,
  run = function(session, cpu)
    return look.still(session, function(k)
      return runq.text(k, cpu)
    end)
  end,
}
