-- sched_ext as vm.k sees it: a scheduler, its queues and its events, against the guest's sysfs.
local bpf_fixture = require "tests.vm.bpf_fixture"
local kernel_guest = require "tests.vm.kernel_guest"

local SYSFS = "/sys/kernel/sched_ext"
local CPUS = 2
local SHARED_DSQ = 0 -- scx_simple's

local guest, vm, k

setup(function()
  guest = kernel_guest.boot {
    topology = "1n1l2c1t",
    files = bpf_fixture.missing() and {} or bpf_fixture.files(),
  }
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

local function has_scx()
  return bpf_fixture.scheduler_state(vm) ~= nil
end

local function with_scx(test)
  return function()
    if not has_scx() then
      pending "this kernel has no sched_ext"
    end
    test()
  end
end

local function with_scheduler(test)
  return with_scx(function()
    local why = bpf_fixture.no_scheduler(vm)
    if why then
      pending(why)
    end
    local scheduler = bpf_fixture.start_scheduler(vm)
    finally(function()
      guest:stop_programs()
      scheduler:stop()
    end)
    test(scheduler)
  end)
end

local function all(next)
  local list = {}
  for one in next do
    list[#list + 1] = one
  end
  return list
end

-- Queues by what they are, with how many there are.
local function kinds(sch)
  local counts = {}
  for dsq, info in k:dsqs(sch) do
    counts[info.kind] = (counts[info.kind] or 0) + 1
    assert.equals("struct scx_dispatch_q", dsq:type_().name)
  end
  return counts
end

describe("a kernel without sched_ext", function()
  it("says so", function()
    if has_scx() then
      pending "this kernel has sched_ext"
    end
    for _, name in ipairs { "scx_state", "scx_schedulers", "dsqs", "scx_events", "scx_task_state" } do
      local ok, e = pcall(k[name], k)
      assert.is_false(ok)
      assert.equals("unsupported", e.code)
      assert.matches("built without sched_ext", e.message)
    end
  end)
end)

describe("sched_ext without a scheduler", function()
  it("has the queues of the CPUs alone", with_scx(function()
    assert.equals("disabled", k:scx_state())
    assert.same({}, all(k:scx_schedulers()))
    vm:frozen(function()
      local counts = kinds()
      assert.equals(CPUS, counts["local"])
      assert.is_nil(counts.user)
      assert.is_nil(counts.global)
      assert.equals("none", k:scx_task_state(k:task(1)))
    end)
  end))
end)

describe("a scheduler", function()
  it("is the one that there is, with the events of sysfs", with_scheduler(function(scheduler)
    assert.equals("enabled", k:scx_state())
    local list = all(k:scx_schedulers())
    assert.equals(1, #list)
    local sch = list[1]
    assert.equals(scheduler.name, sch.ops.name)
    assert.equals(guest:sh("cat " .. SYSFS .. "/root/ops"), sch.ops.name .. "\n")
    assert.is_true(sch == k:var "scx_root")

    -- Counters only grow.
    local function told()
      local found = {}
      for name, value in guest:sh("cat " .. SYSFS .. "/root/events"):gmatch "(%S+) (%d+)\n" do
        found[name] = tonumber(value)
      end
      return found
    end
    local before, middle, after = k:scx_events(sch), told(), k:scx_events(sch)
    local names = 0
    for name, value in pairs(middle) do
      names = names + 1
      assert.is_true(before[name] <= value and value <= after[name],
        ("%s: %s, %s, %s"):format(name, tostring(before[name]), value, tostring(after[name])))
      before[name] = nil
    end
    assert.is_nil(next(before))
    assert.is_true(names > 8)
    local sum = 0
    vm:frozen(function()
      for cpu = 0, CPUS - 1 do
        sum = sum + k:scx_events(sch, cpu).SCX_EV_REFILL_SLICE_DFL
      end
      assert.equals(k:scx_events(sch).SCX_EV_REFILL_SLICE_DFL, sum)
    end)
    assert.is_nil(k:scx_events(sch).SCX_EV_NO_SUCH_THING)
  end))

  it("has global, bypass and user queues besides those of the CPUs", with_scheduler(function(scheduler)
    vm:frozen(function()
      local sch = all(k:scx_schedulers())[1]
      local own = kinds(sch)
      assert.equals(1, own.global)
      assert.equals(scheduler.queues, own.user or 0)
      assert.is_nil(own["local"])
      local counts = kinds()
      assert.equals(CPUS, counts["local"])
      assert.equals(own.user, counts.user)
      for dsq, info in k:dsqs(sch) do
        if info.kind == "user" then
          assert.equals(SHARED_DSQ, dsq.id)
        elseif info.kind == "global" then
          assert.is_true(dsq.id == k:enum "SCX_DSQ_GLOBAL")
          assert.equals(0, info.node)
        end
        assert.is_true(info.scheduler == sch)
      end
    end)
  end))

  it("has waiting tasks in its queues, in their order, each once", with_scheduler(function()
    local pids = {}
    for i = 1, 6 do
      pids[guest:spin(i % CPUS).pid] = true
    end
    guest:eventually("all of them queued or running", function()
      return vm:frozen(function()
        local found, queued = {}, 0
        for dsq in k:dsqs() do
          local count = 0
          for task in k:dsq_tasks(dsq) do
            count = count + 1
            assert.is_nil(found[task.pid])
            assert.is_true(task.scx.dsq == dsq)
            found[task.pid] = true
          end
          assert.equals(dsq.nr, count)
          queued = queued + count
        end
        for rq in k:runqueues() do
          found[rq.curr.pid] = true
        end
        for pid in pairs(pids) do
          if not found[pid] then
            return false
          end
          assert.equals("enabled", k:scx_task_state(k:task(pid)))
          assert.equals("ext_sched_class", k:name(k:u64(k:task(pid):member_("sched_class"):address_())))
        end
        return queued >= 4
      end)
    end)
  end))
end)
