-- Captures as a script has them: what is in one, what is said of what is not, as text, as JSON and back.
local ffi = require "ffi"
local dkjson = require "dkjson"
local capture = require "ktstr.capture"
local fake_kernel = require "tests.lua.fake_kernel"
local files = require "ktstr.files"
local ktstr = require "ktstr"
local native = require "ktstr.capture.native"
local plan = require "ktstr.capture.plan"
local recorded = require "ktstr.capture.kernel"
local schema = require "tests.lua.json_schema"
local words = require "tests.lua.words"

local raised, says = words.raised, words.says

local DIRECT, IMAGE = fake_kernel.DIRECT, fake_kernel.IMAGE
local TASK = DIRECT + 0x1000
local RQ = DIRECT + 0x80000 + 0x20 -- of CPU 0; the next one's is 0x10000 further
local ITEMS = { only = true, "runqueues[].nr_running", "runqueues[].curr.comm", "runqueues[].curr.pid",
  "runqueues[].curr.u64", "runqueues[].curr.s64", "runqueues[].curr.color", "runqueues[].curr.on",
  "runqueues[].curr.pairs", "runqueues[].curr.parent", "runqueues[].curr.bytes", "runqueues[].curr.where.a",
  "jiffies_64", "(struct label)scx_root.text", "(struct label)scx_root.id" }

local fake

before_each(function()
  fake = fake_kernel.new()
  fake:set_up_percpu()
  fake:put(IMAGE + 0x2000, "uint64_t", 0x20000000000001ULL) -- 2^53 + 1
  fake:put(IMAGE + 0x2010, "uint64_t", DIRECT + 0x3000)
  fake:put_string(DIRECT + 0x3000, "a label\0")
  for cpu = 0, 1 do
    local task = TASK + 0x100 * cpu
    fake:put(RQ + 0x10000 * cpu, "uint32_t", 3 + cpu)
    fake:put(RQ + 0x10000 * cpu + 8, "uint64_t", task)
    fake:put(task, "int32_t", 100 + cpu)
    fake:put(task + 8, "uint64_t", TASK)
    fake:put_string(task + 16, "t\xe4sk\"" .. cpu .. "\0")
    fake:put(task + 54, "uint8_t", 1)
    fake:put(task + 56, "uint64_t", 0xfffffffffffffff0ULL)
    fake:put(task + 64, "int64_t", -0x7ffffffffffffff0LL)
    fake:put(task + 72, "uint32_t", 7)
    fake:put(task + 136, "uint32_t", 9007199)
    fake:put_string(task + 96, "\0\1\2\255")
  end
end)

local function raw_capture(fields)
  local raw = { tag = "here", source = "main", number = 1, elapsed = 1.5, clock = 2.25, frozen = 0.00125,
    missed = false, reason = "", cpus = {} }
  for cpu = 1, 2 do
    raw.cpus[cpu] = { regs = "\1" .. ("\0"):rep(143), sregs = ("\0"):rep(312) }
  end
  for name, value in pairs(fields or {}) do
    raw[name] = value
  end
  return raw
end

local function take()
  local compiled = plan.compile(plan.new(ITEMS), fake.k)
  local one = native.run(fake.k, native.plan(compiled.bytes))
  compiled.origin = recorded.origin(fake.k)
  ffi.fill(fake.direct, fake_kernel.DIRECT_SIZE, 0xee)
  local holder = ffi.new("struct record *[1]", one)
  local snap = capture.new(raw_capture { record = holder }, compiled)
  rawset(snap, "held_by_the_test", one)
  return snap
end

describe("a capture", function()
  it("says when it was taken, and has CPUs with registers and runqueues", function()
    local snap = take()
    assert.same({ "here", "main", 1500, 2.25, 1.25, 2 },
      { snap.tag, snap.source, snap.elapsed_ms, snap.clock, snap.frozen_ms, snap:cpus() })
    assert.equals(snap, snap.record)
    assert.is_nil(snap.reason)
    local cpu = snap:cpu(1)
    assert.same({ 1, 1, 4, "t\xe4sk\"1" }, { cpu.cpu, cpu.regs.rax, cpu.rq.nr_running, cpu.rq.curr.comm })
    says(raised(snap.cpu, snap, 2), "capture 'here': there is no CPU 2: it has CPUs 0 to 1")
    says(raised(function()
      return cpu.runqueue
    end), "has no 'runqueue'", "it has: cpu, regs, rq")
    assert.equals("capture 'here' (main, at 1500.0 ms)", tostring(snap))
  end)

  it("has variables, and says which there are", function()
    local snap = take()
    assert.equals(0x20000000000001ULL, snap:var "jiffies_64")
    says(raised(snap.var, snap, "jiffies_65"), "capture 'here'", "'jiffies_65'",
      "recorded are: jiffies_64, runqueues, scx_root")
    local e = raised(snap.var, snap, "some_int", "int")
    assert.equals("unmapped", e.code)
    says(e, "was not recorded")
    assert.equals("ambiguous", raised(snap.var, snap, "twice", "u64").code)
    says(raised(snap.var, snap, "jiffies_64", "struct rq"), "'jiffies_64' is a u64, and not a struct rq")
    assert.equals(snap:var "jiffies_64", snap:var("jiffies_64", "u64"))
  end)

  it("does not change", function()
    local snap = take()
    local kept = ktstr.record(snap:json())
    for _, one in ipairs { snap, kept } do
      local before = one:json()
      for _, change in ipairs {
        function() one.tag = "there" end,
        function() one.phase = "another" end,
        function() one:cpu(0).rq.nr_running = 5 end,
        function() one:cpu(0).rq.curr.pairs[0] = 5 end,
      } do
        local e = raised(change)
        assert.is_true(e.code == "unsupported" or e.code == "invalid", tostring(e))
      end
      one:values().jiffies_64 = 5
      one:data().values.runqueues[1].nr_running = 5
      assert.equals(before, one:json())
      assert.equals("here", one.tag)
    end
  end)

  it("says where a field is missing, and what there is", function()
    local snap = take()
    says(raised(function()
      return snap:cpu(0).rq.curr.cmom
    end), "cmom", "comm")
  end)

  it("has all of that by paths", function()
    local snap = take()
    assert.equals(3, snap:get "cpus[0].rq.nr_running")
    assert.equals(4, snap:get "runqueues[1].nr_running")
    assert.equals(1, snap:get "cpus[0].regs.rax")
    assert.equals(9007199, snap:get "cpus[1].rq.curr.pairs[0].a")
    assert.equals(0x20000000000001ULL, snap:get "jiffies_64")
    assert.equals("invalid", raised(snap.get, snap, "cpus[0]..x").code)
    assert.equals("invalid", raised(snap.get, snap, "[0]").code)
    local e = raised(snap.get, snap, "cpus[0].rq.nr_running.x")
    assert.equals("invalid", e.code)
    says(e, "cpus[0].rq.nr_running is a number (3), and no struct with a 'x'")
    assert.equals("invalid", raised(snap.get, snap, "cpus[7].rq").code)
  end)

  it("notes what is missing", function()
    local snap = take()
    assert.same({ "null", 2, "runqueues[].curr.where" },
      { snap.notes[1].what, snap.notes[1].count, snap.notes[1].path })
    says(snap.notes[1].text, "runqueues[].curr.where: NULL, at 0xffff8880000010b8 (2 times, first there)")
    assert.equals(1, #snap.notes)
  end)

  it("has no maps where its plan has none", function()
    local snap = take()
    says(raised(snap.map, snap, ".bss"), "capture 'here' has no BPF maps", "ktstr.plan.map")
  end)
end)

describe("a placeholder", function()
  it("has a reason, and no data", function()
    local snap = capture.new(raw_capture { missed = true, reason = "vCPU 1 did not stop", cpus = {} })
    assert.equals("vCPU 1 did not stop", snap.reason)
    assert.is_nil(snap.record)
    assert.same({}, snap.notes)
    for _, use in ipairs {
      function() return snap:cpu(0) end, function() return snap:tasks() end,
      function() return snap:var "x" end, function() return snap.k end, function() return snap:map "x" end,
      function() return snap:get "cpus[0].rq" end,
    } do
      local e = raised(use)
      assert.equals("not-found", e.code)
      says(e, "capture 'here' is a placeholder and has no data: vCPU 1 did not stop")
    end
    says(tostring(snap), "not taken: vCPU 1 did not stop")
    says(snap:text(), "not taken: vCPU 1 did not stop")
    local kept = ktstr.record(snap:json())
    assert.equals("vCPU 1 did not stop", kept.reason)
    assert.is_nil(kept.record)
    says(raised(kept.cpu, kept, 0), "is a placeholder")
  end)
end)

describe("a capture without a record", function()
  it("has registers, and says why there is nothing else", function()
    local snap = capture.new(raw_capture { reason = "the kernel was built without types" })
    assert.equals(1, snap:cpu(0).regs.rax)
    assert.is_nil(snap.reason)
    assert.same({ "no-plan", "the kernel was built without types" },
      { snap.notes[1].what, snap.notes[1].text })
    says(raised(function()
      return snap:cpu(0).rq
    end), "has registers and clocks alone: the kernel was built without types")
    assert.equals(1, ktstr.record(snap:json()):cpu(0).regs.rax)
  end)
end)

-- A table's copy, with one change.
local function changed(raw, change)
  local copy = dkjson.decode(dkjson.encode(raw), 1, dkjson.null)
  change(copy)
  return dkjson.encode(copy)
end

describe("the schema", function()
  if schema.missing() then
    pending(schema.missing())
  end

  it("allows for what is written", function()
    local placeholder = capture.new(raw_capture { missed = true, reason = "vCPU 1 did not stop", cpus = {} })
    local bare = capture.new(raw_capture { reason = "the kernel was built without types" })
    assert.same({ "", "", "" }, schema.all { take():json(), placeholder:json(), bare:json() })
  end)

  it("allows for nothing else", function()
    local raw = dkjson.decode(take():json(), 1, dkjson.null)
    raw.maps = { { id = 1, name = "m", type = "hash", key_size = 4, value_size = 4, max_entries = 1,
      entries = { { key = 1, value = 2 } } } }
    local changes = {}
    local function add(change)
      changes[#changes + 1] = change
    end
    for _, name in ipairs { "format", "version", "tag", "source", "elapsed_ms", "clock", "frozen_ms", "notes",
      "cpus" } do
      add(function(c) c[name] = nil end)
      add(function(c) c[name] = { wrong = true } end)
    end
    for _, name in ipairs { "id", "name", "type", "key_size", "value_size", "max_entries", "entries" } do
      add(function(c) c.maps[1][name] = nil end)
      add(function(c) c.maps[1][name] = { wrong = true } end)
    end
    add(function(c) c.something = 1 end)
    add(function(c) c.version = 2 end)
    add(function(c) c.source = "nobody" end)
    add(function(c) c.reason = "it has data" end)
    add(function(c) c.values = 5 end)
    add(function(c) c.values["no name"] = 1 end)
    add(function(c) c.values["$other"] = 1 end)
    for _, bad in ipairs { { ["$int"] = 5 }, { ["$int"] = "x" }, { ["$int"] = "5", more = 1 },
      { ["$address"] = "0x12" }, { ["$address"] = 5 }, { ["$bytes"] = "0" }, { ["$bytes"] = "zz" },
      { ["$missing"] = "in no list" }, { ["$what"] = 1 } } do
      add(function(c) c.values.jiffies_64 = bad end)
    end
    add(function(c) c.values.list = { 1, { ["$missing"] = 5 } } end)
    add(function(c) c.cpus[1].regs = nil end)
    add(function(c) c.cpus[1].rax = 1 end)
    add(function(c) c.notes[1].what = "whatever" end)
    add(function(c) c.notes[1].count = 0 end)
    add(function(c) c.notes[1].address = 5 end)
    add(function(c) c.notes[1].text = nil end)
    add(function(c) c.maps[1].globals = { a = 1 } end) -- beside its entries
    add(function(c) c.maps[1].more = 1 end)
    add(function(c) c.maps[1].entries[1].index = 1 end)
    add(function(c) c.maps[1].entries, c.maps[1].records = nil, { 5 } end)
    add(function(c) c.maps[1].entries, c.maps[1].pages = nil, { { bytes = "x" } } end)
    add(function(c) c.maps[2] = { ["$missing"] = "why", id = 5 } end)

    local texts = { changed(raw, function() end),
      changed(raw, function(c) c.values.list = { 1, { ["$missing"] = "why" } } end),
      changed(raw, function(c) c.maps[2] = { ["$missing"] = "why" } end) }
    local good = #texts
    for _, change in ipairs(changes) do
      texts[#texts + 1] = changed(raw, change)
    end
    for i, wrong in ipairs(schema.all(texts)) do
      assert.equals(i <= good, wrong == "", ("text %d: %s\n%s"):format(i, wrong, i > good and texts[i] or ""))
    end
  end)
end)

describe("a capture as JSON", function()
  it("has each kind of value as the schema says", function()
    local raw = dkjson.decode(take():json())
    assert.same({ "ktstr capture", 1, "here", "main", 1500, 2.25, 1.25 },
      { raw.format, raw.version, raw.tag, raw.source, raw.elapsed_ms, raw.clock, raw.frozen_ms })
    local task = raw.values.runqueues[1].curr
    assert.same({ 100, true, "BLUE" }, { task.pid, task.on, task.color })
    assert.same({ ["$bytes"] = "74e4736b2230" }, task.comm) -- no UTF-8
    assert.same({ ["$int"] = "18446744073709551600" }, task.u64)
    assert.same({ ["$int"] = "-9223372036854775792" }, task.s64)
    assert.same({ ["$address"] = "0xffff888000001000" }, task.parent)
    assert.same({ ["$int"] = "9007199254740993" }, raw.values.jiffies_64)
    assert.same({ 0, 1, 2, 255, 0, 0, 0, 0 }, { unpack(task.bytes) })
    assert.equals(9007199, task.pairs[1].a)
    assert.is_nil(task.where)
    assert.equals("a label", raw.values.scx_root.text)
    assert.equals("null", raw.notes[1].what)
    assert.equals(2, #raw.cpus)
  end)

  it("comes back with the same accessors over the same values", function()
    local snap = take()
    local kept = ktstr.record(snap:json())
    assert.equals(kept, kept.record)
    assert.same({ "here", "main", 1500, 2.25, 2 }, { kept.tag, kept.source, kept.elapsed_ms, kept.clock,
      kept:cpus() })
    for _, path in ipairs { "cpus[0].rq.nr_running", "cpus[1].rq.curr.pid", "cpus[1].rq.curr.comm",
      "cpus[0].rq.curr.u64",
      "cpus[0].rq.curr.s64", "cpus[0].rq.curr.color", "cpus[0].rq.curr.on", "cpus[1].rq.curr.pairs[0].a",
      "runqueues[1].nr_running", "jiffies_64", "cpus[1].regs.rax", "cpus[0].rq.curr.bytes[3]" } do
      assert.equals(snap:get(path), kept:get(path), path)
    end
    assert.equals(snap:cpu(0).rq.curr.parent:address_(), kept:cpu(0).rq.curr.parent)
    says(raised(function()
      return kept:cpu(0).rq.curr.cmom
    end), "cpus[0].rq.curr has no 'cmom'", "it has: ", "comm")
    says(raised(kept.var, kept, "jiffies_65"), "has no variable 'jiffies_65'", "jiffies_64, runqueues")
    assert.equals("a label", kept:get "scx_root.text")
    assert.equals("a label", snap.k:string(snap.k:var("scx_root", "struct label").text))
    says(raised(kept.get, kept, "cpus[0].rq.nr_running.x"),
      "cpus[0].rq.nr_running is a number (3), and no struct with a 'x'")
    says(raised(kept.cpu, kept, 2), "there is no CPU 2")
    says(raised(function()
      return kept:cpu(0).rq.curr.pairs[2]
    end), "has no [2]: it has 2 elements, from 0")
    assert.equals(snap:json(), kept:json())
    assert.equals(snap:text(), kept:text())
  end)

  it("is written whole or not at all", function()
    local directory = os.tmpname() .. ".d"
    files.make_directory(directory)
    finally(function()
      files.remove(directory)
    end)
    local snap, path = take(), directory .. "/snap.json"
    assert.is_nil(snap:json(path))
    assert.equals(snap:json(), files.read(path))
    assert.equals("here", ktstr.record(path).tag)
    local e = raised(snap.json, snap, "/dev/full")
    assert.equals("os", e.code)
    says(e, "cannot write the capture to /dev/full: ", "No space left on device")
    assert.equals("os", raised(snap.json, snap, directory .. "/no/such.json").code)
    assert.equals("invalid", raised(snap.json, snap, 5).code)
  end)

  it("leaves what was there on a disk that is full, and nothing half-written", function()
    local directory = os.tmpname() .. ".d"
    files.make_directory(directory)
    finally(function()
      os.execute(("umount %s 2>/dev/null"):format(directory))
      files.remove(directory)
    end)
    if os.execute(("mount -t tmpfs -o size=16k none %s 2>/dev/null"):format(directory)) ~= 0 then
      pending "needs to mount a file system: be root"
    end
    local snap, path = take(), directory .. "/snap.json"
    files.write(path, "old")
    files.write(directory .. "/more", ("x"):rep(12000))
    says(raised(snap.json, snap, path), "No space left on device")
    assert.equals("old", files.read(path))
    local list = files.list(directory)
    table.sort(list)
    assert.same({ "more", "snap.json" }, list)
  end)

  it("that is none is refused", function()
    assert.equals("format", raised(ktstr.record, "{").code)
    says(raised(ktstr.record, "{}"), "is no capture: its format is 'nil'")
    says(raised(ktstr.record, '{"format":"ktstr capture","version":9}'), "its version is 9")
    -- Each member in turn is something else, or nothing.
    local whole = take():data()
    for _, name in ipairs { "tag", "source", "elapsed_ms", "clock", "frozen_ms", "notes", "cpus" } do
      for _, other in ipairs { "nothing", true, { "x" } } do
        local before = whole[name]
        whole[name] = other ~= "nothing" and other or nil
        assert.equals("format", raised(ktstr.record, require("ktstr.capture.json").encode(whole)).code, name)
        whole[name] = before
      end
    end
    for name, bad in pairs { values = 5, maps = { 5 }, reason = 5 } do
      whole[name], bad = bad, whole[name]
      assert.equals("format", raised(ktstr.record, require("ktstr.capture.json").encode(whole)).code, name)
      whole[name] = bad
    end
    assert.equals("format", raised(ktstr.record, '{"a":' .. ("["):rep(300000)).code)
    assert.equals("not-found", raised(ktstr.record, "/no/such/file.json").code)
    assert.equals("invalid", raised(ktstr.record, nil).code)
  end)
end)

describe("a capture as text", function()
  it("has who ran where, and every value by its name", function()
    says(take():text(), "capture 'here' (main, at 1500.0 ms)", "note: runqueues[].curr.where: NULL",
      "CPU 0: at ", "[100]  rip 0x0", "nr_running=3", "color=BLUE", "pid=100", "CPU 1: at ", "nr_running=4",
      "jiffies_64=9007199254740993")
  end)
end)
