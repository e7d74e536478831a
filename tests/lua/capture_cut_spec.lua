-- A record that came to a limit in the middle of a list: who goes along it is told, in the record and in its
-- JSON; nobody takes the beginning for all of it.
local ffi = require "ffi"
local capture = require "ktstr.capture"
local errors = require "ktstr.errors"
local fake_bpf = require "tests.lua.fake_bpf"
local kernels = require "ktstr.kernels"
local ktstr = require "ktstr"
local native = require "ktstr.capture.native"
local plan = require "ktstr.capture.plan"
local program = require "ktstr.capture.program"
local recorded = require "ktstr.capture.kernel"
local schema = require "tests.lua.json_schema"

local cached = kernels.list()
local LIMITS = program.LIMITS
local TASKS = 200

local function raised(f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert(errors.is(e, "unmapped"), tostring(e))
  return tostring(e)
end

local function link(fake, type, member, places)
  for i, at in ipairs(places) do
    local before, next_one = places[i - 1] or places[#places], places[i + 1] or places[1]
    fake:set(type, at, { [member .. ".next"] = next_one + fake:offset(type, member),
      [member .. ".prev"] = before + fake:offset(type, member) })
  end
end

-- Processes of one thread each, init_task first.
local function make_tasks(fake)
  local TASK, signals, tasks = "struct task_struct", {}, { fake:symbol "init_task" }
  for i = 2, TASKS do
    tasks[i] = fake:struct(TASK, {})
  end
  for i, at in ipairs(tasks) do
    signals[i] = fake:struct("struct signal_struct", {})
    local head, node = signals[i] + fake:offset("struct signal_struct", "thread_head"),
      at + fake:offset(TASK, "thread_node")
    fake:put(head, node)
    fake:put(node, head)
    fake:set(TASK, at, { signal = signals[i], pid = i - 1, tgid = i - 1, comm = "task " .. i - 1 })
  end
  link(fake, TASK, "tasks", tasks)
end

local function take(fake, limits, ...)
  program.LIMITS = { max_bytes = limits.bytes or LIMITS.max_bytes, max_ns = LIMITS.max_ns,
    max_steps = limits.steps or LIMITS.max_steps }
  local compiled = plan.compile(plan.new { only = true, ... }, fake.k)
  program.LIMITS = LIMITS
  local one = native.run(fake.k, native.plan(compiled.bytes))
  compiled.origin = recorded.origin(fake.k)
  fake:wipe()
  local cpu = { regs = ("\0"):rep(144), sregs = ("\0"):rep(312) }
  local snap = capture.new({ tag = "here", source = "main", number = 1, elapsed = 1, clock = 1, frozen = 0,
    missed = false, reason = "", cpus = { cpu }, record = ffi.new("struct record *[1]", one) }, compiled)
  rawset(snap, "held_by_the_test", one)
  return snap
end

-- How many come before the error; nil where none does.
local function count_until_error(tasks)
  local count = 0
  local ok, e = pcall(function()
    for _ in tasks do
      count = count + 1
    end
  end)
  assert(ok or errors.is(e, "unmapped"), tostring(e))
  return count, not ok and tostring(e) or nil
end

describe("a record", function()
  if #cached == 0 then
    pending "needs a kernel in the cache: ktstr kernel get"
  end
  for _, one in ipairs(cached) do
    local function fresh()
      local fake = fake_bpf.new(one.vmlinux or one.path, { "init_task" })
      make_tasks(fake)
      return fake
    end

    it("has all of a list, of " .. one.release, function()
      local snap = take(fresh(), {}, "tasks[].pid", "tasks[].comm")
      assert.same({ TASKS - 1 }, { count_until_error(snap:tasks()) }) -- without init_task
      local text = snap:json()
      assert.same({}, schema.errors { text })
      local kept = ktstr.record(text)
      assert.same({ TASKS - 1 }, { count_until_error(kept:tasks()) })
      assert.equals("task 199", kept:task(199).comm)
      assert.is_nil(kept:task(200))
    end)

    for what, limits in pairs { full = { bytes = 8192 }, steps = { steps = 900 } } do
      it(("that is cut (%s) says so to who goes along the list, of %s"):format(what, one.release), function()
        local snap = take(fresh(), limits, "tasks[].pid", "tasks[].comm")
        local noted = {}
        for _, note in ipairs(snap.notes) do
          noted[note.what] = note.count
        end
        assert.equals(1, noted[what])
        local count, e = count_until_error(snap:tasks())
        assert.is_true(count > 10 and count < TASKS, count)
        assert.matches("was not recorded", e)
        assert.matches("the record was cut short", e)
        raised(snap.task, snap, 150)
        assert.equals("task 5", snap:task(5).comm)
        -- In its JSON, too.
        local text = snap:json()
        assert.same({}, schema.errors { text })
        local kept = ktstr.record(text)
        local kept_count, kept_e = count_until_error(kept:tasks())
        assert.equals(count, kept_count)
        assert.matches("what follows was not recorded", kept_e)
        assert.equals("task 5", kept:task(5).comm)
        raised(kept.task, kept, 150)
        assert.equals(text, kept:json())
        assert.matches(("tasks: %d <missing: "):format(count), snap:text(), 1, true)
        assert.equals(snap:text(), kept:text())
      end)
    end
  end
end)
