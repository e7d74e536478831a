-- Captures on a stock kernel: what a record says is what the kernel itself said at that moment, on all of
-- them; and the guest's own, a plan of a test's, JSON and back.
local ktstr = require "ktstr"
local bpf_fixture = require "tests.vm.bpf_fixture"
local dkjson = require "dkjson"
local schema = require "tests.lua.json_schema"
local words = require "tests.lua.words"

local raised, says = words.raised, words.says

local TIMEOUT_S = 1800
local CPUS = 2
local TASKS_VALIDATED = 4

local vm
local has_bpf = not bpf_fixture.missing()

-- What is written and what is read back, however deep.
local function assert_same_data(a, b, where)
  if type(a) ~= "table" then
    assert(a == b, ("%s: %s, and read back %s"):format(where, tostring(a), tostring(b)))
    return
  end
  assert(type(b) == "table", where)
  for name, value in pairs(a) do
    assert_same_data(value, b[name], ("%s.%s"):format(where, tostring(name)))
  end
  for name in pairs(b) do
    assert(a[name] ~= nil, ("%s.%s was not written"):format(where, tostring(name)))
  end
end

-- By the schema; and with a value that it does not allow for, not. Of the tasks a few do: all of them are too
-- much for a validator on an emulated processor.
local function assert_valid(text)
  if schema.missing() then
    print(schema.missing())
    return
  end
  local raw = dkjson.decode(text, 1, dkjson.null)
  local tasks = raw.values.tasks
  for i = #tasks, TASKS_VALIDATED + 1, -1 do
    tasks[i] = nil
  end
  local good = dkjson.encode(raw)
  tasks[1].pid = { ["$int"] = 5 }
  local found = schema.all { good, dkjson.encode(raw) }
  assert.equals("", found[1])
  assert.matches("$.values.tasks[0].pid", found[2], 1, true)
end

setup(function()
  vm = ktstr.boot {
    topology = "1n1l2c1t",
    timeout = TIMEOUT_S,
    capture = ktstr.plan {
      "runqueues[].cfs.h_nr_queued|runqueues[].cfs.h_nr_running",
      "tasks[].mm.total_vm",
      "init_task.thread_node",
      "runqueues[].sd.name|",
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

  it("has the strings that its paths end in", function()
    local snap, expected = vm:capture "strings", {}
    vm:frozen(function(k)
      for cpu = 0, CPUS - 1 do
        local sd = k:per_cpu("runqueues", cpu).sd
        expected[cpu] = sd ~= k.null and sd:has_ "name" and k:string(sd.name) or false
      end
    end)
    for cpu = 0, CPUS - 1 do
      local sd = snap:cpu(cpu).rq.sd
      if expected[cpu] then
        assert.equals(expected[cpu], snap.k:string(sd.name))
        assert.equals(expected[cpu], snap:values().runqueues[cpu + 1].sd.name)
      end
    end
  end)

  it("goes to JSON and back", function()
    local snap = vm:capture "json"
    local text = snap:json()
    local kept = ktstr.record(text)
    -- All of it: as text that is the same again, and value by value.
    assert.equals(text, kept:json())
    assert_same_data(snap:data(), kept:data(), "capture")
    assert_valid(text)
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

  local RECORDED = { "fx_array", "fx_percpu_array", "fx_hash", "fx_hash_lazy", "fx_percpu_hash", "fx_lru" }

  local function assert_storage(snap)
    local expected, count = {}, 0
    for i, task in ipairs(fixture.tasks) do
      expected[task.pid] = bpf_fixture.tasks[i]
    end
    for task, value in snap:map("fx_task"):entries() do
      count = count + 1
      assert.equals(expected[task.pid].comm, task.comm)
      same(expected[task.pid].value, value, task.comm)
    end
    assert.equals(3, count)
  end

  local function assert_ring(snap)
    local i = 0
    for record in snap:map("fx_ringbuf"):records "struct fx_value" do
      repeat
        i = i + 1
      until not bpf_fixture.records[i].discarded
      local expected = bpf_fixture.records[i]
      same({ id = expected.id, index = expected.number }, record, "record " .. i)
      assert.equals(expected.text, snap.k:string(record:address_() + 16))
    end
    assert.equals(#bpf_fixture.records, i)
  end

  local function assert_arena(snap)
    if not fixture.maps.fx_arena then
      return
    end
    local map, pages = snap:map "fx_arena", 0
    local head = snap:map("fixture.bss"):globals():member_ "fx_arena_head"
    local address, count = snap.k:u64(head:address_()), 0
    while address ~= 0 do
      local expected = bpf_fixture.nodes[count + 1]
      assert.is_true(expected.address == address)
      local node = map:arena("struct fx_node", address)
      same({ id = expected.id, index = expected.index }, node, "node " .. count)
      address = snap.k:u64(node:member_("next"):address_())
      count = count + 1
    end
    assert.equals(#bpf_fixture.nodes, count)
    for _, bytes in map:pages() do
      pages = pages + 1
      assert.equals(4096, #bytes)
    end
    assert.equals(2, pages)
    assert.equals("unmapped", raised(function()
      return map:arena("struct fx_node", 2 ^ 44 + 2 ^ 31).id
    end).code)
  end

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
    assert_storage(snap)
    assert_ring(snap)
    assert_arena(snap)
    local e = raised(snap.map, snap, "no_such_map")
    assert.equals("not-found", e.code)
    says(e, "has no BPF map 'no_such_map'", "it has: ", "fx_array (")
    fixture:stop()
    assert_contents(snap) -- also when they have gone
    assert_storage(snap)
    assert_ring(snap)
    assert_arena(snap)
    local text = snap:json()
    local kept = ktstr.record(text)
    assert.equals(text, kept:json())
    assert_valid(text)
    local names, unread = {}, {}
    for map in kept:maps() do
      names[map.name] = true
      unread[#unread + 1] = map.unreadable
    end
    assert.same({}, unread)
    for name in pairs(fixture.maps) do
      assert.is_true(names[name], name)
    end
    same(bpf_fixture.value("fx_array", 3), snap:map("fx_array"):lookup(3), "fx_array")
    assert.equals(snap:map("fx_lru"):lookup(4002).y, kept:map("fx_lru"):lookup(4002).y)
  end)

  it("has a scheduler's state, queues and globals", function()
    local why = bpf_fixture.no_scheduler(vm)
    if why then
      pending(why)
    end
    local scheduler = bpf_fixture.start_scheduler(vm)
    vm:sleep(0.5)
    local snap = vm:capture "scheduled"
    assert.equals("enabled", snap.k:scx_state())
    assert.equals(scheduler.name, snap:var("scx_root").ops.name)
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
    if scheduler.name == "simple" then
      -- A global of the scheduler's, by its map and by its name alone.
      local vtime = snap:map(".bss"):globals().vtime_now
      assert.equals(vtime, snap:var "vtime_now")
      says(raised(function()
        return snap:map(".bss"):globals().vtime_then
      end), "vtime_then", "vtime_now")
      says(raised(snap.var, snap, "vtime_now", "int"), "'vtime_now'", "and not a int")
    end
    print(("with a scheduler: frozen %.1f ms, %d notes"):format(snap.frozen_ms, #snap.notes))
    for _, note in ipairs(snap.notes) do
      print("  " .. note.text)
    end
    scheduler:stop()
  end)
end)

describe("a plan for a kernel that has not what it names", function()
  local function assert_refused(f, ...)
    local e = raised(f, ...)
    assert.equals("not-found", e.code)
    assert.is_true(e.cannot_run)
    says(e, "runqueues[].cfs.no_such_field", "struct cfs_rq has no member 'no_such_field'",
      "struct cfs_rq has: ", "tasks_timeline")
  end

  it("is refused before there is a machine: booted, and saved", function()
    local options = { capture = { "runqueues[].cfs.no_such_field" } }
    assert_refused(ktstr.boot, options)
    local image = vm:save()
    assert_refused(image.boot, image, options)
    image:close()
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
