-- Captures on a stock kernel: what a record says is what the kernel itself said at that moment, on all of
-- them; and the guest's own, a plan of a test's, JSON and back.
local ktstr = require "ktstr"
local bpf_fixture = require "tests.vm.bpf_fixture"
local errors = require "ktstr.errors"

local TIMEOUT_S = 1800
local CPUS = 2

local vm
local has_bpf = not bpf_fixture.missing()

local function raised(f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert(errors.is(e), tostring(e))
  return e
end

local function says(e, ...)
  local text, at = tostring(e), 1
  for _, part in ipairs { ... } do
    local found = text:find(part, at, true)
    assert(found, ("'%s' is not in: %s"):format(part, text:sub(at)))
    at = found + #part
  end
end

setup(function()
  vm = ktstr.boot {
    topology = "1n1l2c1t",
    timeout = TIMEOUT_S,
    capture = ktstr.plan {
      "runqueues[].cfs.h_nr_queued|runqueues[].cfs.h_nr_running",
      "tasks[].mm.total_vm",
      "init_task.thread_node",
      "cgrp_dfl_root.cgrp.self.id",
    },
    files = has_bpf and bpf_fixture.files() or nil,
  }
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

describe("a record", function()
  it("says of every task and runqueue what the frozen machine says", function()
    vm:spawn { "sh", "-c", "while :; do :; done", cpus = "1" }
    vm:sleep(0.2)
    -- Nothing runs between the two: the capture is of a machine that is frozen by the same call again.
    local snap = vm:capture "before"
    local k = vm.k
    -- What does not change while the machine runs on.
    local live = {}
    vm:freeze()
    for task in k:tasks() do
      live[task.pid] = { comm = task.comm, start = task.start_time, flags = task.flags, policy = task.policy,
        prio = task.static_prio, tgid = task.tgid, cpus = tostring(k:task_affinity(task)) }
    end
    vm:thaw()
    local count = 0
    for task in snap:tasks() do
      local other = live[task.pid]
      if other and other.start == task.start_time then
        count = count + 1
        assert.same({ other.policy, other.prio, other.tgid, other.cpus },
          { task.policy, task.static_prio, task.tgid, tostring(snap.k:task_affinity(task)) })
      end
    end
    assert.is_true(count > 20, count)
    local found = false
    for cpu = 0, CPUS - 1 do
      local rq = snap:cpu(cpu).rq
      assert.equals(cpu, rq.cpu)
      assert.is_true(rq.nr_running >= 0 and rq.nr_switches > 0 and rq.clock > 0)
      assert.equals(0, rq.idle.pid)
      found = found or rq.curr.comm == "sh"
    end
    assert.is_true(found)
    assert.equals("init", snap:task(1).comm)
    assert.is_nil(snap:task(999999))
    assert.is_true(snap:cpu(1).regs.rip ~= 0)
  end)

  it("has what the test's plan adds, and says what is missing", function()
    local snap = vm:capture "added"
    assert.is_true(snap:task(1).mm.total_vm > 0)
    local cfs = snap:cpu(1).rq.cfs
    assert.is_true((cfs:has_ "h_nr_queued" and cfs.h_nr_queued or cfs.h_nr_running) >= 0)
    local null = false
    for _, note in ipairs(snap.notes) do
      null = null or (note.what == "null" and note.path == "tasks[].mm")
      assert.is_true(note.what == "null", note.text)
    end
    assert.is_true(null) -- of kernel threads
    says(raised(function()
      return snap:task(1).mm.pgd
    end), "struct mm_struct.pgd", "was not recorded", "ktstr.plan")
    says(raised(function()
      return snap:task(1).mm.pdg
    end), "pdg")
  end)

  it("moves with time, and stays what it was", function()
    local first = vm:capture "first"
    local jiffies, switches = first:var "jiffies_64", first:cpu(0).rq.nr_switches
    vm:sleep(0.2)
    local second = vm:capture "second"
    assert.is_true(second:var "jiffies_64" > jiffies)
    assert.is_true(second.elapsed_ms > first.elapsed_ms)
    assert.same({ jiffies, switches }, { first:var "jiffies_64", first:cpu(0).rq.nr_switches })
    assert.equals(first, vm:captures()[#vm:captures() - 1])
    print(("frozen %.1f ms, of which %.1f ms for %d bytes in %d pieces"):format(second.frozen_ms,
      tonumber(second:_struct().spent_ns) / 1e6, tonumber(second:_struct().size),
      second:_struct().segment_count))
  end)

  it("of the guest's own asking has the same", function()
    local result = vm:exec { "ktstr-capture", "inside" }
    assert.equals(0, result.status, result.stderr)
    local list = vm:captures()
    local snap = list[#list]
    assert.same({ "inside", "guest" }, { snap.tag, snap.source })
    local asking
    for task in snap:tasks() do
      asking = asking or task.comm == "ktstr-capture"
    end
    assert.is_true(asking)
  end)

  it("goes to JSON and back", function()
    local snap = vm:capture "json"
    local kept = ktstr.record(snap:json())
    for _, path in ipairs { "cpus[0].rq.nr_switches", "cpus[1].rq.clock", "tasks[1].comm",
      "tasks[1].se.vruntime", "jiffies_64", "cpus[0].regs.cr3", "tasks[1].start_time" } do
      assert.equals(snap:get(path), kept:get(path), path)
    end
    local count, kept_count = 0, 0
    for _ in snap:tasks() do
      count = count + 1
    end
    for _ in kept:tasks() do
      kept_count = kept_count + 1
    end
    assert.equals(count, kept_count)
    assert.is_true(#snap:text() > 1000)
  end)

  it("has the fair tree, and a running task's backtrace ends where the record does", function()
    local snap = vm:capture "tree"
    for cpu = 0, CPUS - 1 do
      local queued = 0
      for _ in snap.k:cfs_tasks(snap:cpu(cpu).rq) do
        queued = queued + 1
      end
      assert.is_true(queued <= snap:cpu(cpu).rq.nr_running)
    end
  end)
end)

describe("a record of BPF", function()
  local fixture

  -- What an object, or a value, has of what is expected: a table of the same form.
  local function same(expected, found, what)
    if type(expected) ~= "table" then
      assert.is_true(expected == found, ("%s: %s, not %s"):format(what, tostring(found), tostring(expected)))
      return
    end
    for name, value in pairs(expected) do
      -- Tables count from 1, arrays of the kernel from 0.
      local index = type(name) == "number" and name - 1 or name
      same(value, found[index], what .. "." .. tostring(index))
    end
  end

  local RECORDED = { "fx_array", "fx_percpu_array", "fx_hash", "fx_hash_lazy", "fx_lru" }

  local function assert_contents(snap)
    local contents = bpf_fixture.contents(fixture.cpus)
    for _, name in ipairs(RECORDED) do
      local map, expected, count = snap:map(name), {}, 0
      for _, element in ipairs(contents[name]) do
        expected[name == "fx_hash" and element.key.tag or element.key] = element
      end
      for key, value in map:entries() do
        local element = expected[name == "fx_hash" and key.tag or key]
        assert.is_table(element, name .. " has no such key: " .. tostring(key))
        count = count + 1
        for cpu = 0, element.values and fixture.cpus - 1 or -1 do
          same(element.values[cpu], value[cpu], name .. " on CPU " .. cpu)
        end
        if not element.values then
          same(element.value, value, name)
        end
      end
      assert.equals(#contents[name], count, name)
    end
  end

  it("has each map's entries, by its programs' types", function()
    if not has_bpf then
      pending(bpf_fixture.missing())
    end
    fixture = bpf_fixture.start(vm)
    local snap = vm:capture "maps"
    assert_contents(snap)
    local e = raised(snap.map, snap, "no_such_map")
    assert.equals("not-found", e.code)
    says(e, "has no BPF map 'no_such_map'", "it has: ", "fx_array (")
    fixture:stop()
    assert_contents(snap) -- also when they have gone
    local kept = ktstr.record(snap:json())
    same(bpf_fixture.value("fx_array", 3), snap:map("fx_array"):lookup(3), "fx_array")
    assert.equals(snap:map("fx_lru"):lookup(4002).y, kept:map("fx_lru"):lookup(4002).y)
  end)

  it("has a scheduler's state, queues and globals", function()
    local why = bpf_fixture.missing() or bpf_fixture.no_simple(vm)
    if why then
      pending(why)
    end
    local program = bpf_fixture.start_simple(vm)
    vm:sleep(0.5)
    local snap = vm:capture "scheduled"
    assert.equals("enabled", snap.k:scx_state())
    assert.equals("simple", snap:var("scx_root").ops.name)
    local ids = {}
    vm:frozen(function(k)
      for dsq, info in k:dsqs() do
        ids[info.kind .. " " .. tostring(dsq.id)] = true
      end
    end)
    local found = {}
    for dsq, info in snap.k:dsqs() do
      found[info.kind .. " " .. tostring(dsq.id)] = true
      for task in snap.k:dsq_tasks(dsq) do
        assert.is_string(task.comm)
      end
    end
    assert.same(ids, found)
    local events = 0
    for sch in snap.k:scx_schedulers() do
      for _ in pairs(snap.k:scx_events(sch)) do
        events = events + 1
      end
    end
    assert.is_true(events > 0)
    -- A global of the scheduler's, by its map and by its name alone.
    local vtime = snap:map(".bss"):globals().vtime_now
    assert.equals(vtime, snap:var "vtime_now")
    says(raised(function()
      return snap:map(".bss"):globals().vtime_then
    end), "vtime_then", "vtime_now")
    print(("with a scheduler: frozen %.1f ms, %d notes"):format(snap.frozen_ms, #snap.notes))
    for _, note in ipairs(snap.notes) do
      print("  " .. note.text)
    end
    program:kill()
    program:wait(120)
  end)
end)

describe("a plan for a kernel that has not what it names", function()
  it("is refused before there is a machine", function()
    local e = raised(ktstr.boot, { capture = { "runqueues[].cfs.no_such_field" } })
    assert.equals("not-found", e.code)
    assert.is_true(e.cannot_run)
    says(e, "runqueues[].cfs.no_such_field", "struct cfs_rq has no member 'no_such_field'",
      "struct cfs_rq has: ", "tasks_timeline")
  end)
end)

describe("a capture of a machine that has ended", function()
  it("is an error, and the earlier ones are still there", function()
    local snap = vm:capture "last"
    vm:kill()
    assert.equals("ended", raised(vm.capture, vm, "too late").code)
    assert.equals("init", snap:task(1).comm)
    assert.is_true(#vm:captures() > 3)
  end)
end)
