-- vm.k of a stock kernel against what the guest itself says.
local ffi = require "ffi"
local ktstr = require "ktstr"
local kernel_view = require "tests.vm.kernel_view"
local kernels = require "ktstr.kernels"
local tiny_guest = require "tests.vm.tiny_guest"

local TIMEOUT_S = 1800

local refused = tiny_guest.refused

-- What holds however the machine came about.
local function tests_of(get)
  local vm, k

  before_each(function()
    vm = get()
    k = vm.k
  end)

  -- All tasks but the idle ones, by walking the list that their structs are on.
  local function comms()
    local found, first = {}, k:var "init_task"
    local task = first.tasks.next:container_of_("struct task_struct", "tasks")
    while task ~= first do
      found[task.pid] = task.comm
      task = task.tasks.next:container_of_("struct task_struct", "tasks")
    end
    return found
  end

  -- An int that each CPU has; by itself, or in a struct with what else is used most.
  local function cpu_number(cpu)
    if #k:symbols "pcpu_hot" > 0 then
      return k:per_cpu("pcpu_hot", cpu).cpu_number
    end
    return k:per_cpu("cpu_number", cpu)
  end

  it("knows init and the idle tasks", function()
    assert.equal("swapper/0", k:var("init_task").comm)
    assert.equal(0, k:var("init_task").pid)
    local init = vm:frozen(function(frozen)
      assert.equal(k, frozen)
      return comms()[1]
    end)
    assert.equal(vm:read "/proc/1/comm", init .. "\n")
    for cpu = 0, vm.topology.cpus - 1 do
      local idle = k:per_cpu("runqueues", cpu).idle
      assert.equal("swapper/" .. cpu, idle.comm)
      assert.equal(cpu, cpu_number(cpu))
      assert.is_true(idle.sched_class:address_() == k:symbol "idle_sched_class")
    end
    refused("invalid", k.per_cpu, k, "runqueues", vm.topology.cpus)
  end)

  it("waits for a running machine's clock, and the wait ends", function()
    local function polls()
      local now, count = k:var "jiffies_64", 0
      while k:var "jiffies_64" == now do
        count = count + 1
      end
      return count
    end
    for _ = 1, 10 do
      polls()
    end
    jit.off(polls, true)
    polls()
    vm:frozen(function()
      local now = k:var "jiffies_64"
      for _ = 1, 1000 do
        assert.equal(now, k:var "jiffies_64")
      end
    end)
  end)

  it("sees what the guest writes, and writes what the guest sees", function()
    local function panic()
      return vm:read "/proc/sys/kernel/panic"
    end
    vm:write("/proc/sys/kernel/panic", "17\n")
    assert.equal(17, k:var "panic_timeout")
    k:set_var("panic_timeout", -3)
    assert.equal("-3\n", panic())
    vm:frozen(function()
      k:set_var("panic_timeout", -1)
    end)
    assert.equal("-1\n", panic())
    -- Its own name, as it stands in memory.
    local sleeper = vm:spawn { "sleep", "1000" }
    vm:frozen(function()
      local task = k:var "init_task"
      repeat
        task = task.tasks.next:container_of_("struct task_struct", "tasks")
      until task.pid == sleeper.pid
      assert.equal("sleep", task.comm)
      task.comm = "renamed"
    end)
    assert.equal("renamed\n", vm:read(("/proc/%d/comm"):format(sleeper.pid)))
    sleeper:kill()
  end)

  it("gives 64 bits exactly, and bytes as they are", function()
    local base = k:var "page_offset_base"
    assert.equal("cdata", type(base))
    assert.is_true(k:symbol "page_offset_base" ~= base)
    assert.equal(base, k:u64(k:symbol "page_offset_base"))
    assert.equal(vm:read "/proc/version", k:string(k:symbol "linux_banner"))
    local direct = k:object("char [64]", base + k:phys(k:symbol "linux_banner"))
    assert.equal(k:read(k:symbol "linux_banner", 63), k:read(direct, 63))
  end)

  it("refuses per-CPU pointers wherever they are followed", function()
    for _, refcnt in ipairs { k:var("cgrp_dfl_root").cgrp.self.refcnt } do
      local count = refcnt.percpu_count_ptr
      refused("per-cpu", k.u64, k, count - count % 4)
    end
    local pages = k:object("struct percpu_counter", k:symbol "vm_committed_as").counters
    local e = refused("per-cpu", function()
      return pages[0]
    end)
    assert.equal("k:per_cpu(pointer, cpu) gives one CPU's", e.hint)
    assert.equal("number", type(k:per_cpu(pages, 0)[0]))
    refused("per-cpu", k.var, k, "runqueues")
    refused("per-cpu", function()
      return k:object("struct rq", k:symbol "runqueues").nr_running
    end)
    refused("per-cpu", k.read, k, k:symbol "this_cpu_off", 8)
  end)

  it("makes objects of a freeze stale with its end", function()
    local task = vm:frozen(function()
      return k:var "init_task"
    end)
    refused("stale", function()
      return task.comm
    end)
    task = k:var "init_task"
    vm:frozen(function()
      assert.equal("swapper/0", task.comm)
    end)
    assert.equal("swapper/0", task.comm)
  end)

  it("shows any struct", function()
    local text = vm:frozen(function()
      return tostring(k:var "init_task")
    end)
    assert.matches("^struct task_struct at 0xffff", text)
    assert.matches('\n  comm = "swapper/0",', text, 1, true)
    assert.matches("stack = 0x%x+ <[%w_]+>,", text)
    assert.matches("struct rq {", tostring(k.types["struct rq"]), 1, true)
  end)
end

describe("a stock kernel from outside", function()
  local vm, image, fork

  setup(function()
    vm = ktstr.boot { topology = "1n1l2c1t", timeout = TIMEOUT_S }
  end)

  teardown(function()
    for _, one in pairs { fork or false, vm or false } do
      if one then
        one:kill()
      end
    end
    if image then
      image:close()
    end
  end)

  tests_of(function()
    return vm
  end)

  it("has names for addresses", function()
    local there = kernel_view.addresses(vm, { "schedule" }).schedule
    assert.equal("schedule", vm.k:name(there))
    assert.equal("schedule+0x1c", vm.k:name(there + 0x1c))
    assert.is_nil(vm.k:name(vm.k:var("init_task").tasks.next))
  end)

  describe("started from an image", function()
    setup(function()
      image = vm:save()
      fork = image:boot { timeout = TIMEOUT_S }
    end)

    tests_of(function()
      return fork
    end)

    it("is a kernel of its own", function()
      local there, here = vm.k:var "init_task", fork.k:var "init_task"
      assert.is_true(there:address_() == here:address_())
      assert.is_false(there == here)
      fork.k:set_var("panic_timeout", 99)
      assert.not_equal(99, vm.k:var "panic_timeout")
      refused("invalid", fork.k.object, fork.k, "struct task_struct", there)
    end)
  end)

  it("is taken back with the machine, and objects of before are stale", function()
    local k = vm.k
    k:set_var("panic_timeout", 5)
    local checkpoint = vm:checkpoint()
    k:set_var("panic_timeout", 6)
    vm:freeze()
    local task = k:var "init_task"
    vm:rewind(checkpoint)
    refused("stale", function()
      return task.comm
    end)
    assert.equal(5, k:var "panic_timeout")
    assert.equal("swapper/0", k:var("init_task").comm)
    vm:thaw()
  end)

  it("is not taken for another kernel", function()
    local other
    for _, kernel in ipairs(kernels.list()) do
      if kernel.release ~= vm.release then
        other = kernel
      end
    end
    if not other then
      return pending "only one kernel is cached"
    end
    local same = setmetatable({ machine = vm.machine, plan = { kernel = { path = other.path } } },
      { __index = vm })
    local e = refused("unsupported", function()
      return require("ktstr.kernel").new(same):symbol "init_task"
    end)
    assert.matches(other.release, e.message, 1, true)
  end)

  it("has ended with its machine", function()
    local k = vm.k
    local task = k:var "init_task"
    vm:kill()
    refused("ended", function()
      return task.comm
    end)
    refused("ended", k.var, k, "jiffies_64")
    refused("ended", k.read, k, k:symbol "linux_banner", 8)
    assert.equal("cdata", type(task:address_()))
    assert.is_true(ffi.sizeof(task) > 0)
  end)
end)
