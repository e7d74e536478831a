-- Runqueues and scheduling domains as vm.k sees them, against the guest's debugfs, its programs and topology.
local kernel_guest = require "tests.vm.kernel_guest"

local CPUS = 4

local guest, vm, k

setup(function()
  guest = kernel_guest.boot { topology = "1n2l2c1t", files = { "/usr/bin/chrt" } }
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

local function seen_queues()
  return vm:frozen(function()
    local found = {}
    for rq, cpu in k:runqueues() do
      found[cpu] = {
        nr_running = rq.nr_running,
        nr_switches = tonumber(rq.nr_switches),
        -- The sum over all CPUs counts: one CPU's is often negative.
        nr_uninterruptible = bit.tobit(tonumber(rq.nr_uninterruptible % 2 ^ 32)),
      }
    end
    return found
  end)
end

local function told_queues()
  local found, cpu = {}, nil
  for line in guest:sh("cat /sys/kernel/debug/sched/debug"):gmatch "[^\n]+" do
    local number = line:match "^cpu#(%d+)"
    if number then
      cpu = {}
      found[tonumber(number)] = cpu
    end
    local name, value = line:match "^  %.(%S+) +: (%-?%d+)$"
    if cpu and name and not cpu[name] then
      cpu[name] = tonumber(value)
    end
  end
  return found
end

describe("runqueues", function()
  it("have the numbers of debugfs sched/debug", function()
    for _ = 1, 3 do
      guest:spin(1)
    end
    guest:eventually("three on CPU 1", function()
      return seen_queues()[1].nr_running == 3
    end)
    -- A look that found everything as it was before and is afterwards: others run for moments, too.
    local function all_same(before, told, after)
      local same = before[1].nr_running == 3 and told[1].nr_running == 3
      for cpu = 0, CPUS - 1 do
        local b, t, a = before[cpu], told[cpu], after[cpu]
        assert.is_true(b.nr_switches <= t.nr_switches and t.nr_switches <= a.nr_switches,
          ("CPU %d: %d, %d, %d switches"):format(cpu, b.nr_switches, t.nr_switches, a.nr_switches))
        if b.nr_switches == a.nr_switches then
          assert.same({ b.nr_running, b.nr_uninterruptible }, { t.nr_running, t.nr_uninterruptible })
        end
        same = same and b.nr_uninterruptible == t.nr_uninterruptible
          and t.nr_uninterruptible == a.nr_uninterruptible
      end
      return same
    end
    guest:eventually("the same from outside and inside", function()
      local before, told, after = seen_queues(), told_queues(), seen_queues()
      return all_same(before, told, after)
    end)
  end)

  it("have the fair tasks in a tree, by what the scheduler goes by", function()
    local pids = {}
    for _ = 1, 6 do
      pids[guest:spin(1).pid] = true
    end
    guest:eventually("six on CPU 1", function()
      return seen_queues()[1].nr_running == 6
    end)
    vm:frozen(function()
      local rq = k:per_cpu("runqueues", 1)
      local key = rq.curr.se:has_ "deadline" and "deadline" or "vruntime"
      local last, in_tree, runnable = nil, {}, {} -- in_tree: or running
      -- Of each queue below the CPU's: those of groups, too.
      local function visit(cfs)
        last = nil
        for entity, task in k:cfs_entities(cfs) do
          assert.is_true(last == nil or last <= entity[key])
          last = entity[key]
          if task then
            in_tree[task.pid] = true
          else
            visit(entity.my_q)
          end
        end
        -- What runs is taken out of the tree, a moment before it is the queue's curr.
        if cfs.curr ~= k.null and cfs.curr.my_q ~= k.null then
          visit(cfs.curr.my_q)
        elseif cfs.curr ~= k.null then
          in_tree[cfs.curr:container_of_("struct task_struct", "se").pid] = true
        end
      end
      visit(rq.cfs)
      for task in k:cfs_tasks(rq) do
        runnable[task.pid] = true
      end
      assert.same(pids, runnable)
      assert.same(pids, in_tree)
    end)
  end)

  it("have real-time tasks by priority", function()
    local expected = {}
    -- Each must get to run, to become the program that it is.
    for _, priority in ipairs { 10, 20, 30 } do
      expected[guest:spin(2, "fifo " .. priority).pid] = 99 - priority
    end
    guest:eventually("three on CPU 2", function()
      return seen_queues()[2].nr_running == 3
    end)
    vm:frozen(function()
      local rq, last = k:per_cpu("runqueues", 2), -1
      local found = {}
      for entity, task, priority in k:rt_entities(rq) do
        assert.is_true(priority > last)
        last = priority
        assert.equals(task:member_("rt"):address_(), entity:address_())
        found[task.pid] = priority
      end
      assert.same(expected, found)
      assert.equals(3, rq.rt.rt_nr_running)
    end)
  end)

  it("have deadline tasks by deadline", function()
    local program = guest:spawn { "chrt", "-d", "-T", "5000000", "-D", "10000000", "-P", "20000000", "0",
      "sh", "-c", "while :; do :; done" }
    guest:eventually("a deadline task in a tree", function()
      return vm:frozen(function()
        for rq in k:runqueues() do
          for entity, task in k:dl_entities(rq) do
            if task and task.pid == program.pid then
              assert.equals(20000000, tonumber(entity.dl_period))
              return true
            end
          end
        end
      end)
    end)
  end)
end)

describe("scheduling domains", function()
  it("are the topology's", function()
    vm:frozen(function()
      for cpu = 0, CPUS - 1 do
        local spans, parent = {}, nil
        for domain in k:sched_domains(cpu) do
          assert.is_true(parent == nil or parent == domain)
          parent = domain.parent
          local cpus = k:domain_span(domain)
          spans[#spans + 1] = tostring(cpus)
          assert.equals(domain.span_weight, #cpus)
          -- The groups are the domain, each CPU once.
          local seen, first = {}, nil
          for group in k:sched_groups(domain) do
            local span = k:group_span(group)
            first = first or span
            for _, one in ipairs(span) do
              assert.is_nil(seen[one])
              seen[one] = true
            end
          end
          assert.is_true(first:has(cpu))
          for _, one in ipairs(cpus) do
            assert.is_true(seen[one])
            seen[one] = nil
          end
          assert.is_nil(next(seen))
        end
        assert.same({ cpu < 2 and "0-1" or "2-3", "0-3" }, spans)
      end
    end)
  end)
end)
