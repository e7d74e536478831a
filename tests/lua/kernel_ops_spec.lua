-- Kernel operations without a machine: a kernel made by hand, whose memory C reads and writes as a guest's.
local ffi = require "ffi"
local errors = require "ktstr.errors"
local fake_kernel = require "tests.lua.fake_kernel"
local fake_ops = require "tests.lua.fake_ops"
local operand = require "ktstr.kernel.operand"
local ops = require "ktstr.ops"

local new = fake_ops.new
local IMAGE, DIRECT = fake_kernel.IMAGE, fake_kernel.DIRECT
local JIFFIES, SOME_INT = IMAGE + 0x2000, IMAGE + 0x2060

local function batch(fake, list)
  return ops.batch(fake.vm, list)
end

local function refused(fake, code, words, list)
  local ok, e = pcall(batch, fake, list)
  assert.is_false(ok)
  assert(errors.is(e), tostring(e))
  assert.equals(code, e.code, e.message)
  assert.is_truthy(tostring(e):find(words, 1, true), tostring(e))
  return e
end

describe("vm:kernel_ops", function()
  it("reads and writes globals, by the type that the kernel is known to give them", function()
    local fake = new()
    fake:put(JIFFIES, "uint64_t", 0x1122334455667788ULL)
    fake:put(SOME_INT, "int32_t", -5)
    local values = batch(fake, {
      { op = "read", symbol = "jiffies_64" },
      { op = "read", symbol = "some_int", type = "s32" },
      { op = "read", symbol = "some_int", type = "u32" },
      { op = "write", symbol = "some_int", type = "u32", value = 7 },
      { op = "read", symbol = "some_int", type = "u16" },
      { op = "read", symbol = "some_int", type = "bytes", length = 4 },
    })
    assert.same({ 0x1122334455667788ULL, -5, 4294967291, true, 7, "\7\0\0\0" }, values)
    assert.same({}, batch(fake, {}))
  end)

  it("writes negative numbers, booleans, addresses and 64-bit words as they lie in memory", function()
    local fake = new()
    local address = fake.k:symbol "jiffies_64"
    for value, expected in pairs { [-1] = -1, [true] = 1, [false] = 0, [2 ^ 40] = 2 ^ 40 } do
      batch(fake, { { op = "write", symbol = "jiffies_64", value = value } })
      assert.equals(expected, batch(fake, { { op = "read", symbol = "jiffies_64", type = "s64" } })[1])
    end
    batch(fake, { { op = "write", address = address, type = "u64", value = address } })
    assert.equals(JIFFIES, batch(fake, { { op = "read", symbol = "jiffies_64" } })[1])
    batch(fake, { { op = "write", address = address, type = "u64", value = -2LL } })
    assert.equals(-2, batch(fake, { { op = "read", address = address, type = "s64" } })[1])
    for _, value in ipairs { 2 ^ 70, -2 ^ 60, 1.5, 2 ^ 60, "x" } do
      refused(fake, "invalid", "entry 1, jiffies_64", {
        { op = "write", symbol = "jiffies_64", value = value },
      })
    end
    for _, value in ipairs { 256, -129, 0x100ULL, -129LL } do
      refused(fake, "invalid", "does not fit into 8 bits", {
        { op = "write", symbol = "some_int", type = "u8", value = value },
      })
    end
    batch(fake, { { op = "write", symbol = "some_int", type = "u8", value = -128 } })
    assert.equals(128, batch(fake, { { op = "read", symbol = "some_int", type = "u8" } })[1])
  end)

  it("follows fields, through pointers, of addresses, objects and CPUs", function()
    local fake = new()
    local task, parent = DIRECT + 0x100, DIRECT + 0x400
    fake:put(task, "int32_t", 42)
    fake:put(task + 8, "uint64_t", parent)
    fake:put(parent, "int32_t", -1)
    fake:put(task + 104 + 16, "uint32_t", 9) -- grid[1][1]
    local object = fake.k:object("struct task", task)
    assert.same({ 42, -1, 9, -1 }, batch(fake, {
      { op = "read", address = task, struct = "struct task", field = "pid" },
      { op = "read", address = task, struct = "struct task", field = "parent.pid" },
      { op = "read", address = object, field = "grid[1][1]" },
      { op = "read", address = object, field = "parent[0].pid" },
    }))
    local pairs_at = task + 136
    fake:put(pairs_at + 12, "uint32_t", 21) -- pairs[1].b
    assert.same({ 21, 9 }, batch(fake, {
      { op = "read", address = object, field = "pairs[1].b" },
      { op = "read", address = task + 104, struct = "unsigned int [2][3]", field = "[1][1]" },
    }))
    fake:put(DIRECT + 0x800 + 12, "uint32_t", 22)
    assert.same({ 22 }, batch(fake, {
      { op = "read", address = DIRECT + 0x800, struct = "struct pair[2]", field = "[1].b" },
    }))
    fake:set_up_percpu()
    local rq = DIRECT + 0x80000 + 0x10000 + 0x20
    fake:put(rq, "uint32_t", 3)
    fake:put(rq + 8, "uint64_t", task)
    assert.same({ 3, 42, true }, batch(fake, {
      { op = "read", symbol = "runqueues", cpu = 1, field = "nr_running" },
      { op = "read", symbol = "runqueues", cpu = 1, field = "curr.pid" },
      { op = "write", symbol = "runqueues", cpu = 1, field = "nr_running", value = 4 },
    }))
    assert.equals(4, fake.k:per_cpu("runqueues", 1).nr_running)
  end)

  it("follows per-CPU pointers on the way", function()
    local fake = new()
    fake:set_up_percpu()
    local start = fake.k._image.symbols:find("__per_cpu_start")[1].address + fake_kernel.SLIDE
    local sched = DIRECT + 0x600
    fake:put(sched + 8, "uint64_t", start + 0x100)
    for cpu = 0, 1 do
      fake:put(DIRECT + 0x80000 + 0x10000 * cpu + 0x100, "uint64_t", 70 + cpu)
      assert.same({ 70 + cpu }, batch(fake, {
        { op = "read", address = sched, struct = "struct scx_sched", cpu = cpu, field = "pcpu.events" },
      }))
    end
  end)

  it("finds per-CPU variables where they are offsets from 0, too", function()
    local fake = new { zero_based = true }
    fake:set_up_percpu()
    fake:put(DIRECT + 0x80000 + 0x20, "uint32_t", 5)
    assert.same({ 5 }, batch(fake, { { op = "read", symbol = "runqueues", cpu = 0, field = "nr_running" } }))
  end)

  it("sets bits of 32, and says what was there before", function()
    local fake = new()
    fake:put(SOME_INT, "uint32_t", 0x80000001)
    assert.same({ 0x80000001, 0x80000001, 0x80000007 }, batch(fake, {
      { op = "or", symbol = "some_int", value = 1 },
      { op = "or", symbol = "some_int", type = "u32", value = 6 },
      { op = "read", symbol = "some_int", type = "u32" },
    }))
    refused(fake, "invalid", "words of 32", { { op = "or", symbol = "some_int", type = "u64", value = 1 } })
    refused(fake, "invalid", "of 8 bytes, and not of 4", { { op = "or", symbol = "jiffies_64", value = 1 } })
    refused(fake, "invalid", "does not fit", { { op = "or", symbol = "some_int", value = 2 ^ 32 } })
  end)

  it("ends with the first that fails, whether it has no place or no memory", function()
    local fake = new()
    local bad = {
      ["not-found"] = { op = "read", symbol = "no_such_symbol", type = "u32" },
      unmapped = { op = "read", address = 0x1234568ULL, type = "u32" },
      invalid = { op = "read", symbol = "jiffies_64", type = "u32" },
      ambiguous = { op = "read", symbol = "twice", type = "u32" },
    }
    for code, entry in pairs(bad) do
      fake:put(JIFFIES, "uint64_t", 1)
      fake:put(SOME_INT, "uint32_t", 1)
      local e = refused(fake, code, "entry 3, " .. operand.name(entry), {
        { op = "read", symbol = "jiffies_64" },
        { op = "write", symbol = "jiffies_64", value = 2 },
        entry,
        { op = "write", symbol = "some_int", type = "u32", value = 2 },
      })
      assert.equals(3, e.index)
      assert.same({ 1, true }, e.values)
      assert.same({ 2, 1 }, { fake.k:u64(JIFFIES), fake.k:u32(SOME_INT) })
    end
  end)

  it("of which nothing has a place freezes nothing", function()
    local fake = new()
    refused(fake, "not-found", "entry 1", { cold = true, { op = "read", symbol = "no_such_symbol" } })
    assert.same({}, batch(fake, { cold = true }))
    assert.same({}, fake.cold)
  end)

  it("is cold when it is asked to be, and not in a freeze of the script's own", function()
    local fake = new()
    local function read(cold)
      return batch(fake, { cold = cold, { op = "read", symbol = "jiffies_64" } })
    end
    read(nil)
    read(true)
    fake.view.frozen = 1
    read(true)
    assert.same({ false, true, false }, fake.cold)
  end)

  it("wants a freeze for what cannot be done at once", function()
    local fake = new()
    local function list(cold)
      return { cold = cold, { op = "write", symbol = "jiffies_64", type = "bytes", value = "abc" } }
    end
    local e = refused(fake, "running", "cannot be written at once", list())
    assert.matches("ktstr-kernel --cold", e.hint, 1, true)
    assert.same({ true }, batch(fake, list(true)))
    refused(fake, "running", "not aligned", { { op = "read", address = JIFFIES + 1, type = "u32" } })
    assert.same({ 0x6362 }, batch(fake, { cold = true,
      { op = "read", address = JIFFIES + 1, type = "u16" } }))
  end)

  it("refuses what makes no sense, and has done nothing then", function()
    local fake = new()
    for words, entry in pairs {
      ["option 'op' is missing"] = {},
      ["option 'op' cannot be 'raed'"] = { op = "raed", symbol = "jiffies_64" },
      ["unknown option 'symbl'"] = { op = "read", symbl = "jiffies_64" },
      ["option 'type' cannot be 'u31'"] = { op = "read", symbol = "some_int", type = "u31" },
      ["option 'task' must be"] = { op = "read", task = 0, field = "pid" },
      ["option 'length' must be"] = { op = "read", symbol = "some_int", type = "bytes", length = 0.5 },
    } do
      local e = refused(fake, "invalid", words, { { op = "write", symbol = "jiffies_64", value = 9 }, entry })
      assert.is_truthy(e.message:find("entry 2", 1, true), e.message)
      assert.equals(0, fake.k:u64(JIFFIES))
    end
    refused(fake, "invalid", "at most 16384 entries", (function()
      local list = {}
      for i = 1, 16385 do
        list[i] = { op = "read", symbol = "jiffies_64" }
      end
      return list
    end)())
  end)

  it("says what is wrong with an entry", function()
    local fake = new()
    fake:set_up_percpu()
    for words, entry in pairs {
      ["is on one of symbol, address and task"] = { op = "read" },
      ["on one of symbol, address"] = { op = "read", symbol = "jiffies_64", address = 0 },
      ["and no pointer on the way is"] = { op = "read", address = JIFFIES, cpu = 0, type = "u8" },
      ["more than 16 pointers"] = { op = "read", address = DIRECT, struct = "struct task",
        field = ("parent."):rep(17) .. "pid" },
      ["which field of the task"] = { op = "read", task = 1 },
      ["it is not per-CPU"] = { op = "read", symbol = "jiffies_64", cpu = 0 },
      ["a read takes no value"] = { op = "read", symbol = "jiffies_64", value = 1 },
      ["the value is missing"] = { op = "write", symbol = "jiffies_64" },
      ["only a read has a length"] = { op = "write", symbol = "some_int", type = "bytes", length = 1,
        value = "a" },
      ["there is no CPU 2"] = { op = "read", symbol = "runqueues", cpu = 2, field = "nr_running" },
      ["'a..b' is no path"] = { op = "read", address = 1, struct = "struct task", field = "a..b" },
      ["'pid[' is no path"] = { op = "read", address = 1, struct = "struct task", field = "pid[" },
      ["'[1' is no path"] = { op = "read", address = 1, struct = "struct pair[2]", field = "[1" },
      ["'[]' is no path"] = { op = "read", address = 1, struct = "struct pair[2]", field = "[]" },
      ["'a b' is no path"] = { op = "read", address = 1, struct = "struct task", field = "pid|a b" },
      ["'[struct task.tasks]' is no path"] = { op = "read", address = 1, struct = "struct node",
        field = "[struct task.tasks]" },
      ["bit-field of 3 bits, which has no type"] = { op = "read", address = DIRECT, struct = "struct bits",
        field = "low", type = "u32" },
      ["'' is no path"] = { op = "read", address = 1, struct = "struct task", field = "" },
      ["'pid[9999999]' is no path"] = { op = "read", address = 1, struct = "struct task",
        field = "pid[9999999]" },
      ["it has 16 bytes, and not 17"] = { op = "read", address = DIRECT, struct = "struct task",
        field = "comm", type = "bytes", length = 17 },
    } do
      refused(fake, "invalid", words, { entry })
    end
    refused(fake, "invalid", "ktstr-kernel: PLACE:bytes", { { op = "write", address = DIRECT,
      struct = "struct task", field = "comm", value = 6162 } })
    refused(fake, "per-cpu", "say which: cpu = 0; to ktstr-kernel: NAME@0", {
      { op = "read", symbol = "runqueues", field = "nr_running" } })
    refused(fake, "per-cpu", "a pointer on the way is per-CPU", { { op = "read", address = DIRECT,
      struct = "struct scx_sched", field = "pcpu.events" } })
    refused(fake, "not-found", "no fields", { { op = "read", symbol = "some_int", field = "x" } })
    refused(fake, "not-found", "type = \"u32\"", { { op = "read", symbol = "some_int" } })
    refused(fake, "not-found", "no_such", { { op = "read", address = DIRECT, struct = "struct task",
      field = "no_such" } })
    refused(fake, "not-found", "is NULL", { { op = "read", address = DIRECT, struct = "struct task",
      field = "parent.pid" } })
  end)

  it("takes the first field that the kernel has", function()
    local fake = new()
    fake:put(DIRECT, "int32_t", 42)
    fake:put(DIRECT + 8, "uint64_t", DIRECT)
    local function field(path)
      return { op = "read", address = DIRECT, struct = "struct task", field = path }
    end
    assert.same({ 42, 42, 42, 42 }, batch(fake, { field "pid|no_such", field "no_such|pid",
      field "parent.no_such | no_such[3] | parent.pid", field "grid[7][1]|pid" }))
    assert.same({ 42 }, batch(fake, { field(("none|"):rep(7) .. "pid") }))
    refused(fake, "invalid", "at most 8 alternatives, not 9", { field(("none|"):rep(8) .. "pid") })
    local e = refused(fake, "not-found", "the kernel has none of nothing, parent.none", {
      field "nothing|parent.none" })
    assert.matches("'nothing'", e.message, 1, true)
    assert.matches("'none'", e.message, 1, true)
    -- A mistake is one, whatever stands behind it.
    for _, path in ipairs { "pid|", "|", "pid||", "pid.x|pid[" } do
      refused(fake, "invalid", "is no path to a field", { field(path) })
    end
    -- What is there, and cannot be followed, has no alternative.
    refused(fake, "not-found", "is NULL", { { op = "read", address = DIRECT + 0x100, struct = "struct task",
      field = "parent.pid|pid" } })
  end)

  it("finds the elements of an array without an end, and none of what has no size", function()
    local fake = new()
    fake:put(DIRECT + 4 + 12, "uint32_t", 33)
    fake:put(DIRECT + 0x100 + 80, "uint64_t", DIRECT + 16)
    local function stack(path)
      return { op = "read", address = DIRECT + 0x100, struct = "struct task", field = path, type = "u32" }
    end
    assert.same({ 33, 33 }, batch(fake, {
      { op = "read", address = DIRECT, struct = "struct flex", field = "items[3]" }, stack "stack[0]" }))
    -- As far as anybody knows all of them would be the first.
    refused(fake, "not-found", "void * has no [1]: nobody knows the size of void", { stack "stack[1]" })
    refused(fake, "not-found", "nobody knows the size of struct elsewhere", { stack "inner[2]" })
  end)

  it("reads bit-fields, sets bits in them, and writes them while nothing else runs", function()
    local fake = new()
    local at = DIRECT + 0x40
    local function one(op, name, value, cold)
      return batch(fake, { cold = cold, { op = op, address = at, struct = "struct bits", field = name,
        value = value } })[1]
    end
    fake:put(at, "uint64_t", 0xffffffff800005c5ULL)
    fake:put(at + 8, "uint64_t", 0xabcdef0123456789ULL)
    assert.same({ 5, -8, 1, 5, 1, 0x0123456789, 0xabcdef }, batch(fake, {
      { op = "read", address = at, struct = "struct bits", field = "low" },
      { op = "read", address = at, struct = "struct bits", field = "signed_" },
      { op = "read", address = at, struct = "struct bits", field = "yes" },
      { op = "read", address = at, struct = "struct bits", field = "shade" },
      { op = "read", address = at, struct = "struct bits", field = "high" },
      { op = "read", address = at, struct = "struct bits", field = "wide" },
      { op = "read", address = at, struct = "struct bits", field = "rest" },
    }))
    for name, value in pairs { low = 2, signed_ = 7, yes = false, shade = 7, high = 0, wide = 0xfedcba9876,
      rest = 1 } do
      local before = { fake:peek(at, "uint64_t"), fake:peek(at + 8, "uint64_t") }
      refused(fake, "running", "bits at 0x", { { op = "write", address = at, struct = "struct bits",
        field = name, value = value } })
      assert.same(before, { fake:peek(at, "uint64_t"), fake:peek(at + 8, "uint64_t") })
      assert.is_true(one("write", name, value, true))
      assert.equals(tonumber(value) or 0, one("read", name))
    end
    assert.equals(0xffffffff0000073aULL, fake:peek(at, "uint64_t"))
    assert.equals(0x000001fedcba9876ULL, fake:peek(at + 8, "uint64_t"))
    assert.equals(2, one("or", "low", 5))
    assert.equals(0, one("or", "high", 1))
    assert.same({ 7, 1, 7 }, { one("read", "low"), one("read", "high"), one("read", "signed_") })
    assert.equals(1, one("or", "rest", 0x800000))
    assert.equals(0x800001, one("read", "rest"))
    for name, value in pairs { low = 8, signed_ = -9, yes = 2, shade = 8, wide = 2 ^ 40 } do
      refused(fake, "invalid", "does not fit into", { { op = "write", address = at, struct = "struct bits",
        field = name, value = value } })
    end
    refused(fake, "invalid", "these 40 are in two", { { op = "or", address = at, struct = "struct bits",
      field = "wide", value = 1 } })
  end)

  it("writes a bool that is one", function()
    local fake = new()
    local function on(value)
      return { op = "write", address = DIRECT, struct = "struct task", field = "on", value = value }
    end
    assert.same({ true, true }, batch(fake, { on(true), on(1) }))
    assert.equals(1, fake:peek(DIRECT + 54, "uint8_t"))
    refused(fake, "invalid", "2 is neither true nor false", { on(2) })
    refused(fake, "invalid", "neither", { on(-1) })
  end)

  it("reads what is no word as bytes", function()
    local fake = new()
    ffi.copy(fake:at(DIRECT + 16), "swapper/0")
    local values = batch(fake, {
      { op = "read", address = DIRECT, struct = "struct task", field = "comm" },
      { op = "read", address = DIRECT, struct = "struct task", field = "comm", type = "bytes", length = 7 },
    })
    assert.same({ "swapper/0" .. ("\0"):rep(7), "swapper" }, values)
  end)
end)
