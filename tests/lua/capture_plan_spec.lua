-- Capture plans over a kernel made by hand: what a path copies, what it refuses, and records that are read as
-- kernels are.
local ffi = require "ffi"
local fake_kernel = require "tests.lua.fake_kernel"
local native = require "ktstr.capture.native"
local plan = require "ktstr.capture.plan"
local recorded = require "ktstr.capture.kernel"
local words = require "tests.lua.words"

local raised, says = words.raised, words.says

local DIRECT, IMAGE = fake_kernel.DIRECT, fake_kernel.IMAGE
local TASK = DIRECT + 0x1000
local RQ = DIRECT + 0x80000 + 0x20 -- of CPU 0; the next one's is 0x10000 further

local fake

before_each(function()
  fake = fake_kernel.new()
  fake:set_up_percpu()
  for cpu = 0, 1 do
    fake:put(RQ + 0x10000 * cpu, "uint32_t", 3 + cpu)
    fake:put(RQ + 0x10000 * cpu + 8, "uint64_t", TASK + 0x100 * cpu)
    fake:put(TASK + 0x100 * cpu, "int32_t", 100 + cpu)
    fake:put_string(TASK + 0x100 * cpu + 16, "task" .. cpu .. "\0")
    fake:put(TASK + 0x100 * cpu + 56, "uint64_t", 0xfffffffffffffff0ULL)
  end
end)

-- What a plan records, as a capture's kernel; the memory changes afterwards.
local function record(items)
  items.only = true
  local compiled = plan.compile(plan.new(items), fake.k)
  local one = native.run(fake.k, native.plan(compiled.bytes))
  local origin = recorded.origin(fake.k)
  ffi.fill(fake.direct, fake_kernel.DIRECT_SIZE, 0xee)
  return recorded.new(origin, one, nil, one), one, compiled
end

describe("a plan", function()
  it("records each CPU's variable and what its pointers lead to", function()
    local k = record { "runqueues[].nr_running", "runqueues[].curr.comm", "runqueues[].curr.pid" }
    for cpu = 0, 1 do
      local rq = k:per_cpu("runqueues", cpu)
      assert.same({ 3 + cpu, "task" .. cpu, 100 + cpu }, { rq.nr_running, rq.curr.comm, rq.curr.pid })
    end
    local e = raised(function()
      return k:per_cpu("runqueues", 0).curr.u64
    end)
    assert.equals("unmapped", e.code)
    says(e, "struct task.u64", "was not recorded", "ktstr.plan")
    -- As text it is what was recorded, and how much was not.
    local text = tostring(k:per_cpu("runqueues", 1).curr)
    says(text:gsub("\n *", ""), '= {pid = 101,flags = 0,parent = (struct task *) NULL,comm = "task1",} (')
    assert.matches("%d+ more members were not recorded%)$", text)
  end)

  it("records one CPU's alone where that is said", function()
    local k = record { "runqueues[1].nr_running" }
    assert.equals(4, k:per_cpu("runqueues", 1).nr_running)
    assert.equals("unmapped", raised(function()
      return k:per_cpu("runqueues", 0).nr_running
    end).code)
  end)

  it("takes numbers of 64 bits, arrays, embedded structs and unions as they are", function()
    fake:put(TASK + 104, "uint32_t", 11)
    fake:put(TASK + 116, "uint32_t", 22)
    fake:put(TASK + 136 + 8, "uint32_t", 33)
    fake:put(TASK + 176, "uint64_t", 0x1122334455667788ULL)
    local k = record { "runqueues[0].curr.u64", "runqueues[0].curr.grid", "runqueues[0].curr.pairs[1].a",
      "runqueues[0].curr.either" }
    local task = k:per_cpu("runqueues", 0).curr
    assert.equals(0xfffffffffffffff0ULL, task.u64)
    assert.same({ 11, 22 }, { task.grid[0][0], task.grid[1][0] })
    assert.equals(33, task.pairs[1].a)
    assert.equals(0x55667788, task.or_else)
  end)

  it("goes to each element of an array", function()
    fake:put(TASK + 136, "uint32_t", 1)
    fake:put(TASK + 144, "uint32_t", 2)
    local k = record { "runqueues[0].curr.pairs[].a" }
    local pairs_ = k:per_cpu("runqueues", 0).curr.pairs
    assert.same({ 1, 2 }, { pairs_[0].a, pairs_[1].a })
  end)

  it("goes on with the first alternative that the kernel has", function()
    local k, _, compiled = record { "runqueues[].h_nr_queued|runqueues[].nr_running", "no_such_thing|",
      "runqueues[].no_member|" }
    assert.equals(3, k:per_cpu("runqueues", 0).nr_running)
    assert.same({ "no_such_thing|", "runqueues[].no_member|" }, { compiled.absent[#compiled.absent - 1],
      compiled.absent[#compiled.absent] })
    assert.equals("runqueues[].nr_running", compiled.paths[1].text)
  end)

  it("has the string that a char * at its end leads to", function()
    local LABEL, AT = IMAGE + 0x2060, DIRECT + 0x3000
    fake:put(LABEL, "uint64_t", AT)
    fake:put(LABEL + 8, "uint64_t", 5)
    fake:put(LABEL + 16, "uint64_t", AT + 0x100)
    fake:put_string(AT, "what it is called\0")
    fake:put_string(AT + 0x100, "another\0")
    local live = fake.k:var("some_int", "struct label")
    local expected = fake.k:string(live.text)
    local k, one = record { "(struct label)some_int.text", "(struct label)some_int.id",
      "(struct label)some_int.texts[]" }
    local label = k:var("some_int", "struct label")
    assert.equals("what it is called", expected)
    assert.same({ expected, "another" }, { k:string(label.text), k:string(label.texts[0]) })
    assert.equals(1, one.notes.size) -- its NUL: there are none
    -- No more of it than that.
    assert.equals("unmapped", raised(k.read, k, label.text, #expected + 2).code)
  end)

  it("has as much of a string as is read of a machine, and notes one that is longer", function()
    local LABEL, AT = IMAGE + 0x2060, DIRECT + 0x3000
    fake:put(LABEL, "uint64_t", AT)
    fake:put_string(AT, ("x"):rep(5000) .. "\0")
    local expected = fake.k:string(fake.k:var("some_int", "struct label").text)
    local k, one = record { "(struct label)some_int.text" }
    local text = k:var("some_int", "struct label").text
    assert.equals(4096, #expected)
    assert.equals(expected, k:string(text))
    assert.equals("unmapped", raised(k.string, k, text, 4097).code)
    says(ffi.string(one.notes.data), "large\t1\t0xffff888000003000\t(struct label)some_int.text\n")
  end)

  it("has a char * that is NULL, or leads nowhere, as such", function()
    local LABEL = IMAGE + 0x2060
    local k, one = record { "(struct label)some_int.text" }
    assert.is_true(k:var("some_int", "struct label").text == k.null)
    assert.equals(1, one.notes.size)
    fake:put(LABEL, "uint64_t", 0x123456789000)
    k, one = record { "(struct label)some_int.text" }
    says(ffi.string(one.notes.data), "unmapped\t1\t0x123456789000\t(struct label)some_int.text\n")
    local text = k:var("some_int", "struct label").text
    assert.equals("unmapped", raised(k.string, k, text).code)
  end)

  it("notes a pointer that is NULL, and goes on", function()
    fake:put(RQ + 8, "uint64_t", 0)
    fake:put(RQ + 0x10000 + 8, "uint64_t", 0x123456789000)
    local k, one = record { "runqueues[].curr.pid", "runqueues[].nr_running" }
    assert.equals(4, k:per_cpu("runqueues", 1).nr_running)
    local notes = ffi.string(one.notes.data)
    says(notes, "null\t1\t", "\trunqueues[].curr\n", "unmapped\t1\t0x123456789000\trunqueues[].curr\n")
    says(raised(function()
      return k:per_cpu("runqueues", 0).curr.pid
    end), "runqueues.curr is NULL")
  end)

  it("is a record that does not change", function()
    local k = record { "runqueues[].nr_running" }
    says(raised(function()
      k:per_cpu("runqueues", 0).nr_running = 5
    end), "a record does not change")
    assert.equals("unsupported", raised(k.phys, k, RQ).code)
  end)

  it("outlives the kernel that it is of", function()
    local k = record { "runqueues[].nr_running" }
    fake:finish()
    assert.equals(3, k:per_cpu("runqueues", 0).nr_running)
  end)

  it("merges what lies together, and says nothing twice", function()
    local _, one = record { "runqueues[0].nr_running", "runqueues[0].curr", "runqueues[0].curr.pid",
      "runqueues[0].curr.flags", "runqueues[0].nr_running" }
    local ours = 0
    for i = 0, one.segment_count - 1 do
      if one.segments[i].address >= DIRECT then
        ours = ours + (one.segments[i].address < IMAGE and 1 or 0)
      end
    end
    assert.equals(2, ours) -- the runqueue, and the task
  end)
end)

describe("a plan that asks for what is not there", function()
  local function refused(...)
    local e = raised(plan.compile, plan.new { only = true, ... }, fake.k)
    assert.is_true(e.cannot_run)
    return e
  end

  it("is told of a missing member: the path, the place in it, and the members that there are", function()
    local e = refused "runqueues[].curr.pdi"
    assert.equals("not-found", e.code)
    says(e, "'runqueues[].curr.pdi'", "struct task has no member 'pdi'",
      "did you mean 'pid'? struct task has: ", "comm", "pid")
    says(refused "runqueues[].curr.where.c.d", "'runqueues[].curr.where.c.d' at 'runqueues[].curr.where.c'",
      "struct pair has no member 'c'", "struct pair has: a, b")
  end)

  it("is told of a missing variable, CPU, element", function()
    assert.equals("not-found", refused("runqueus[].nr_running").code)
    says(refused "runqueus[].nr_running", "the kernel has no symbol 'runqueus'", "runqueues")
    says(refused "runqueues[2].nr_running", "there is no CPU 2: the machine has 2")
    says(refused "runqueues[].curr.pairs[2].a", "has no [2]")
  end)

  it("is told of each alternative", function()
    says(refused "runqueues[].x|runqueues[].y", "none of runqueues[].x, runqueues[].y", "no member 'x'",
      "no member 'y'")
  end)

  it("is told that a per-CPU variable needs a CPU", function()
    local e = refused "runqueues.nr_running"
    assert.equals("per-cpu", e.code)
    says(e, "[] for each CPU")
    assert.equals("per-cpu", refused("runqueues").code)
  end)

  it("is told what nobody knows the type of, and can say it", function()
    says(refused "some_int", "nothing says of which type 'some_int' is", "(struct ...)some_int")
    fake:put(IMAGE + 0x2060, "uint32_t", 77)
    local k = record { "(unsigned int)some_int" }
    assert.equals(77, k:var("some_int", "unsigned int"))
  end)

  it("is told of ambiguous names", function()
    local e = refused "(u64)twice"
    assert.equals("ambiguous", e.code)
    says(e, "2 symbols 'twice'")
  end)

  it("is told of what cannot be walked or indexed", function()
    says(refused "runqueues[].nr_running[]", "is no array")
    says(refused "runqueues[].curr.tasks[struct task.tasks].pid", "struct node is nothing that can be walked",
      "struct list_head")
    says(refused "runqueues[].nr_running.x", "has no members")
  end)

  it("that is no path is refused at once", function()
    for _, bad in ipairs { "", "a..b", "a.", "a[", "a[]b", "1a", "a b" } do
      assert.equals("invalid", raised(plan.new, { bad }).code, bad)
    end
    assert.equals("invalid", raised(plan.new, "runqueues").code)
    assert.equals("invalid", raised(plan.new, { 5 }).code)
    assert.equals("invalid", raised(plan.map, "").code)
    says(raised(plan.new, { nmae = 1 }), "no option 'nmae'")
  end)
end)
