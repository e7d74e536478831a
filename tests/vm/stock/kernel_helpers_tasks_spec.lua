-- Tasks as vm.k sees them, against the guest's /proc: that is read between two looks from outside, and
-- compared where both agree.
local kernel_guest = require "tests.vm.kernel_guest"

local PF_KTHREAD = 0x200000

local guest, vm, k

setup(function()
  guest = kernel_guest.boot { topology = "1n2l2c1t", files = { "/usr/bin/nice" } }
  vm, k = guest.vm, guest.k
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

after_each(function()
  guest:stop_programs()
end)

-- All tasks by pid, as vm.k sees them.
local function seen_tasks()
  return vm:frozen(function()
    local found = {}
    for task in k:tasks() do
      found[task.pid] = {
        comm = task.comm,
        tgid = task.tgid,
        state = k:task_state(task),
        policy = task.policy,
        nice = k:task_nice(task),
        affinity = tostring(k:task_affinity(task)),
        kthread = bit.band(task.flags, PF_KTHREAD) ~= 0,
        switches = tonumber(task.nvcsw + task.nivcsw),
      }
    end
    return found
  end)
end

-- The same as the guest's /proc has it.
local function told_tasks()
  local found = {}
  local text = guest:sh [[
    cat /proc/[0-9]*/task/[0-9]*/stat 2>/dev/null
    grep -H ^Cpus_allowed_list: /proc/[0-9]*/task/[0-9]*/status 2>/dev/null
    true]]
  for line in text:gmatch "[^\n]+" do
    local pid, comm, rest = line:match "^(%d+) %((.*)%) (.*)$"
    if pid then
      local fields = {}
      for field in rest:gmatch "%S+" do
        fields[#fields + 1] = field
      end
      -- proc(5) counts from the pid: the state is 3, nice 19, policy 41.
      found[tonumber(pid)] = { comm = comm, state = fields[1], nice = tonumber(fields[17]),
        policy = tonumber(fields[39]) }
    else
      local tgid, tid, list = line:match "^/proc/(%d+)/task/(%d+)/status:Cpus_allowed_list:\t(.*)$"
      local task = found[tonumber(tid)]
      if task then
        task.tgid, task.affinity = tonumber(tgid), list
      end
    end
  end
  return found
end

local function check_task(pid, before, told, after)
  local what = ("task %d (%s)"):format(pid, before.comm)
  assert.equals(before.tgid, told.tgid, what)
  -- /proc adds to a kernel thread's name.
  local comm = before.kthread and told.comm:sub(1, #before.comm) or told.comm
  if before.comm == after.comm then
    assert.equals(before.comm, comm, what)
  end
  for _, field in ipairs { "policy", "nice", "affinity" } do
    if before[field] == after[field] then
      assert.equals(before[field], told[field], what .. ": " .. field)
    end
  end
  -- One that was not switched to or from has not changed its state, either.
  if before.state == after.state and before.switches == after.switches then
    assert.equals(before.state, told.state, what .. ": state")
    return true
  end
end

describe("tasks", function()
  it("are those of /proc: pids, comms, states, policies, nice, affinity", function()
    guest:spawn { "sh", "-c", "sleep 1000", policy = "batch", cpus = "1-2" }
    guest:spawn { "sleep", "1001", policy = "rr 3", cpus = "0,2-3" }
    guest:spawn { "sleep", "1005", policy = "fifo 2", cpus = "0,2-3" }
    guest:spawn { "nice", "-n", "7", "sleep", "1002" }
    local stopped = guest:spawn { "sleep", "1003" }
    guest:spawn { "sh", "-c", "sleep 0 & exec sleep 1004" } -- a zombie
    local spinner = guest:spin(3)
    stopped:kill "STOP"
    guest:eventually("a zombie and a stopped task", function()
      local text = guest:sh "cat /proc/[0-9]*/stat 2>/dev/null; true"
      return text:find "%) Z" and text:find "%) T"
    end)

    local before, told, after = seen_tasks(), told_tasks(), seen_tasks()
    local compared, states, policies = 0, {}, {}
    for pid, task in pairs(before) do
      if after[pid] then
        assert.is_table(told[pid], "the guest has no task " .. pid)
        if check_task(pid, task, told[pid], after[pid]) then
          compared = compared + 1
          states[task.state], policies[task.policy] = true, true
        end
      end
    end
    -- What the guest has, and is not only there while it looks, is here.
    local alone = 0
    for pid in pairs(told) do
      alone = alone + (before[pid] and 0 or 1)
    end
    assert.is_true(alone <= 4, alone .. " tasks are not seen from outside")
    assert.is_true(compared > 40, compared .. " compared")
    assert.same({ S = true, I = true, T = true, Z = true },
      { S = states.S, I = states.I, T = states.T, Z = states.Z })
    local running = spinner.pid
    assert.same({ "R", "R", "R" }, { before[running].state, told[running].state, after[running].state })
    assert.same({ true, true, true, true }, { policies[0], policies[1], policies[2], policies[3] })
  end)

  it("are found by pid, which need not exist", function()
    local program = guest:spawn { "sleep", "1000" }
    vm:frozen(function()
      assert.equals("kthreadd", k:task(2).comm)
      assert.equals(program.pid, k:task(program.pid).pid)
      assert.is_nil(k:task(4000000))
      assert.is_nil(k:task(0)) -- each CPU has one
      for task in k:tasks() do
        assert.equals(task, k:task(task.pid))
      end
    end)
  end)

  it("have threads, children and a CPU", function()
    local program = guest:spawn { "sh", "-c", "sleep 1000 & sleep 1001 & wait", cpus = "2" }
    guest:eventually("two children", function()
      return vm:frozen(function()
        local task, children = k:task(program.pid), {}
        for child in k:children(task) do
          if child.comm == "sleep" then
            children[#children + 1] = child.pid
            assert.equals(task, child.real_parent)
            assert.equals(2, k:task_cpu(child))
          end
        end
        return #children == 2
      end)
    end)
    vm:frozen(function()
      local processes, tasks = 0, 0
      for task in k:processes() do
        processes = processes + 1
        local first
        for thread in k:threads(task) do
          first = first or thread
          tasks = tasks + 1
          assert.equals(task.pid, thread.tgid)
        end
        assert.equals(task, first)
      end
      for _ in k:tasks() do
        tasks = tasks - 1
      end
      assert.equals(0, tasks)
      assert.is_true(processes > 40)
    end)
  end)

  it("can be walked on a running machine", function()
    local seen = {}
    for task in k:tasks() do
      seen[task.pid] = task.comm
    end
    assert.equals("kthreadd", seen[2])
  end)
end)
