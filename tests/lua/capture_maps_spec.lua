-- BPF maps in captures, by the types of each kernel in the cache: each kind that is read of a machine is read
-- of a record, too; what did not fit is missing, and whoever asks for it is told.
local ffi = require "ffi"
local capture = require "ktstr.capture"
local fake_bpf = require "tests.lua.fake_bpf"
local kernels = require "ktstr.kernels"
local ktstr = require "ktstr"
local native = require "ktstr.capture.native"
local plan = require "ktstr.capture.plan"
local program = require "ktstr.capture.program"
local recorded = require "ktstr.capture.kernel"
local schema = require "tests.lua.json_schema"
local words = require "tests.lua.words"

local raised, says = words.raised, words.says

local cached = kernels.list()
local LIMITS = program.LIMITS

-- What a plan of these maps records; the memory changes afterwards.
local function take(fake, ...)
  local compiled = plan.compile(plan.new { only = true, ... }, fake.k)
  local one = native.run(fake.k, native.plan(compiled.bytes))
  compiled.origin = recorded.origin(fake.k)
  fake:wipe()
  local cpu = { regs = ("\0"):rep(144), sregs = ("\0"):rep(312) }
  local snap = capture.new({ tag = "here", source = "main", number = 1, elapsed = 1, clock = 1, frozen = 0,
    missed = false, reason = "", cpus = { cpu, cpu }, record = ffi.new("struct record *[1]", one) }, compiled)
  rawset(snap, "held_by_the_test", one)
  return snap
end

local function entries(map)
  local list = {}
  for key, value in map:entries() do
    list[key] = type(value) == "table" and { [0] = value[0], value[1] } or value
  end
  return list
end

local function records(map)
  local list = {}
  for record in map:records() do
    list[#list + 1] = record
  end
  return list
end

local function note(snap, what, path)
  for _, one in ipairs(snap.notes) do
    if one.what == what and (not path or one.path:find(path, 1, true)) then
      return one
    end
  end
  error(("no note '%s' of '%s' among %d"):format(what, tostring(path), #snap.notes))
end

describe("a record of BPF maps", function()
  if #cached == 0 then
    pending "needs a kernel in the cache: ktstr kernel get"
  end
  for _, one in ipairs(cached) do
    local function it_of(what, test)
      it(what .. ", of " .. one.release, function()
        test(fake_bpf.new(one.vmlinux or one.path))
      end)
    end

    it_of("has what is in each kind", function(fake)
      fake:array("points", 2, { { 1, 2 }, { 3, 4 } })
      fake:percpu_array("per_cpu", { { 10, 11 }, { 20, 21 } })
      fake:hash("words", "HASH", 2, { { 7, 70 }, { 8, 80 }, { 9, 90 } })
      fake:hash("least", "LRU_HASH", 4, { { 1, 5 } })
      fake:hash("each", "PERCPU_HASH", 2, { { 3, { 30, 31 } }, { 4, { 40, 41 } }, { 5, { 50, 51 } } })
      fake:hash("least_each", "LRU_PERCPU_HASH", 2, { { 6, { 60, 61 } } })
      fake:task_storage("tasks", { { 100, "one", 1000 }, { 101, "two", 1010 }, { 102, "three", 1020 } })
      -- Beyond the end of its 4096 bytes, and on from the beginning.
      local texts = { "the first", ("x"):rep(40), "last" }
      fake:ring("ring", 4096 * 3 - 40, texts)
      local pages, arena = {}, fake:arena("arena", { "page one", "page two" })
      fake:publish()

      local snap = take(fake, plan.map "points", plan.map "per_cpu", plan.map "words", plan.map "least",
        plan.map "each", plan.map "tasks", plan.map "ring", plan.map "arena", plan.map "least_each")
      assert.same({ "pcpu_first_chunk" }, { snap.notes[1].path, snap.notes[2] and snap.notes[2].text })
      local points = entries(snap:map "points")
      assert.same({ 1, 2, 3, 4 }, { points[0].x, points[0].y, points[1].x, points[1].y })
      assert.same({ [0] = { [0] = 10, 11 }, { [0] = 20, 21 } }, entries(snap:map "per_cpu"))
      assert.same({ [7] = 70, [8] = 80, [9] = 90 }, entries(snap:map "words"))
      assert.same({ 5 }, entries(snap:map "least"))
      assert.same({ [3] = { [0] = 30, 31 }, [4] = { [0] = 40, 41 }, [5] = { [0] = 50, 51 } },
        entries(snap:map "each"))
      assert.same({ [6] = { [0] = 60, 61 } }, entries(snap:map "least_each"))
      local tasks = {}
      for task, value in snap:map("tasks"):entries() do
        tasks[task.pid] = { task.comm, value }
      end
      assert.same({ [100] = { "one", 1000 }, [101] = { "two", 1010 }, [102] = { "three", 1020 } }, tasks)
      assert.same(texts, records(snap:map "ring"))
      if arena then
        local map = snap:map "arena"
        for address, bytes in map:pages() do
          pages[#pages + 1] = { tostring(address), bytes:sub(1, 8) }
        end
        assert.same({ { "0x0000100000000000", "page one" }, { "0x0000100000001000", "page two" } }, pages)
        assert.equals(("p"):byte(), map:arena("unsigned long", 2 ^ 44 + 4096)[0] % 256)
      end

      -- And so has its JSON.
      local text = snap:json()
      assert.same({}, schema.errors { text })
      local kept = ktstr.record(text)
      assert.equals(text, kept:json())
      assert.equals(snap:text(), kept:text())
      assert.same({ [7] = 70, [8] = 80, [9] = 90 }, entries(kept:map "words"))
      assert.equals(4, kept:map("points"):lookup(1).y)
      assert.equals(51, kept:map("each"):lookup(5)[1])
      local kept_tasks = {}
      for task, value in kept:map("tasks"):entries() do
        kept_tasks[task.pid] = { task.comm, value }
      end
      assert.same(tasks, kept_tasks)
      assert.same(texts, records(kept:map "ring"))
      if arena then
        local address, bytes = kept:map("arena"):pages()()
        assert.same({ pages[1][1], 4096, "page one" }, { tostring(address), #bytes, bytes:sub(1, 8) })
      end
      says(raised(kept.map, kept, "no_such"), "has no BPF map 'no_such'", "points (1)", "per_cpu (2)")
      says(raised(kept:map("ring").entries, kept:map "ring"), "has no entries", "map:records()")
    end)

    it_of("has those alone that its plan names", function(fake)
      fake:globals("a.bss", "first", { 1, 2 })
      fake:globals("b.data", "second", { 3, 4 })
      fake:array("points", 1, { { 1, 2 } })
      fake:publish()
      local snap = take(fake, plan.map ".data", plan.map ".bss")
      assert.same({ 1, 4 }, { snap:map(".bss"):globals().only, snap:map(".data"):globals().other })
      local e = raised(function()
        return snap:map("points"):lookup(0).x
      end)
      assert.equals("unmapped", e.code)
      says(e, "was not recorded", "ktstr.plan")
    end)

    it_of("says what there is instead", function(fake)
      fake:globals("a.bss", "first", { 1, 2 })
      fake:globals("b.bss", "second", { 3, 4 })
      fake:publish()
      local snap = take(fake, plan.map ".bss")
      assert.same({ 1, 4 }, { snap:var "only", snap:var "other" })
      local e = raised(snap.map, snap, "c.bss")
      assert.equals("not-found", e.code)
      says(e, "capture 'here' has no BPF map 'c.bss'", "it has: a.bss (1), b.bss (2)")
      e = raised(snap.map, snap, ".bss")
      assert.equals("ambiguous", e.code)
      says(e, "2 BPF maps '.bss': a.bss (1), b.bss (2)", "give an id")
      e = raised(snap.var, snap, "both")
      assert.equals("ambiguous", e.code)
      says(e, "'both' is in a.bss (1), b.bss (2)", 'snap:map(1):globals()["both"]')
      e = raised(snap.var, snap, "neither")
      assert.equals("not-found", e.code)
      says(e, "neither the kernel nor a BPF program has a variable 'neither'")
      says(raised(function()
        return snap:map("a.bss"):globals().bot
      end), "bot", "both")
      e = raised(snap.var, snap, "only", "struct point")
      assert.equals("invalid", e.code)
      says(e, "'only' of a.bss is a unsigned int, and not a struct point")
      assert.equals(1, snap:var("only", "unsigned int"))
      says(raised(snap:map("a.bss").records, snap:map "a.bss"), "is no ring buffer")
      -- And so it does when it has been JSON.
      local kept = ktstr.record(snap:json())
      says(raised(kept.map, kept, "c.bss"), "has no BPF map 'c.bss'", "it has: a.bss (1), b.bss (2)")
      assert.equals("ambiguous", raised(kept.map, kept, ".bss").code)
      says(raised(kept.var, kept, "both"), "'both' is in a.bss (1), b.bss (2)")
      says(raised(function()
        return kept:map("a.bss"):globals().bot
      end), "a.bss has no 'bot'", "it has: both, only")
    end)

    it_of("marks what was too large, and raises for it", function(fake)
      fake:array("small", 1, { { 1, 2 } })
      fake:array("large", 2 ^ 18, {})
      fake:hash("wide", "HASH", 2 ^ 17, { { 7, 70 } })
      fake:publish()
      local snap = take(fake, plan.map "small", plan.map "large", plan.map "wide")
      says(note(snap, "large", "map 'large'").text, "map 'large': larger than what is recorded")
      note(snap, "large", "map 'wide'")
      assert.equals(2, snap:map("small"):lookup(0).y)
      local e = raised(function()
        return snap:map("large"):lookup(0).x
      end)
      assert.equals("unmapped", e.code)
      says(e, "was not recorded")
      assert.equals("unmapped", raised(function()
        return snap:map("wide"):lookup(7)
      end).code)
      local kept = ktstr.record(snap:json())
      e = raised(function()
        return kept:map("wide"):lookup(7)
      end)
      assert.equals("unmapped", e.code)
      says(e, "'wide' (hash) was not recorded: ", "was not recorded")
      e = raised(function()
        return kept:map("large"):entries()
      end)
      assert.equals("unmapped", e.code)
      says(e, "'large' (array) was not recorded: ", "was not recorded")
      assert.same({}, schema.errors { snap:json() })
    end)

    it_of("that is full says so wherever something is missing", function(fake)
      fake:globals("a.bss", "first", { 1, 2 })
      fake:hash("words", "HASH", 1, (function()
        local list = {}
        for i = 1, 500 do
          list[i] = { i, i * 10 }
        end
        return list
      end)())
      fake:globals("z.bss", "second", { 3, 4 })
      fake:publish()
      finally(function()
        program.LIMITS = LIMITS
      end)
      program.LIMITS = { max_bytes = 2 ^ 15, max_ns = LIMITS.max_ns, max_steps = LIMITS.max_steps }
      local snap = take(fake, plan.map ".bss", plan.map "words")
      assert.is_true(snap:_struct().is_cut)
      says(note(snap, "full").text, "from here on the record is full")
      local e = raised(entries, snap:map "words")
      assert.equals("unmapped", e.code)
      says(e, "was not recorded", "the record was cut short")
      says(raised(snap.var, snap, "no_such"), "no_such")
      local text = snap:json()
      assert.same({}, schema.errors { text })
      local kept = ktstr.record(text)
      -- Whatever is asked of it: what there is, or an error. Never less than there was without a word.
      assert.equals("unmapped", raised(function()
        return entries(kept:map "words")
      end).code)
      note(kept, "full")
    end)
  end
end)
