-- Objects over hand-made types and memory of this process: what each kind of field reads as.
local ffi = require "ffi"
local jit_util = require "jit.util"
local fake_kernel = require "tests.lua.fake_kernel"
local errors = require "ktstr.errors"

local DIRECT = fake_kernel.DIRECT
local TASK, OTHER = DIRECT + 0x1000, DIRECT + 0x3000

local function refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "nothing was raised")
  assert(errors.is(e), "not an error of ktstr's: " .. tostring(e))
  assert(e.code == code, ("expected '%s', found '%s': %s"):format(code, e.code, e.message))
  return e
end

describe("an object", function()
  local fake, k, task

  before_each(function()
    fake = fake_kernel.new()
    k = fake.k
    task = k:object("struct task", TASK)
  end)

  local function put(offset, ctype, value)
    fake:put(TASK + offset, ctype, value)
  end

  it("reads integers of every size and sign", function()
    put(0, "int32_t", -5)
    put(4, "uint32_t", 0xfffffff0)
    put(48, "uint8_t", 200)
    put(49, "int8_t", -100)
    put(50, "uint16_t", 60000)
    put(52, "int16_t", -30000)
    assert.equal(-5, task.pid)
    assert.equal(0xfffffff0, task.flags)
    assert.equal(200, task.u8)
    assert.equal(-100, task.s8)
    assert.equal(60000, task.u16)
    assert.equal(-30000, task.s16)
  end)

  it("gives 64 bits as a number below 2^53, and exactly from there on", function()
    put(56, "uint64_t", 2 ^ 53 - 1)
    put(64, "int64_t", -(2 ^ 53 - 1))
    assert.equal(2 ^ 53 - 1, task.u64)
    assert.equal(-(2 ^ 53 - 1), task.s64)
    put(56, "uint64_t", 0x20000000000001ULL)
    put(64, "int64_t", -0x20000000000001LL)
    assert.equal("9007199254740993ULL", tostring(task.u64))
    assert.equal("-9007199254740993LL", tostring(task.s64))
    put(56, "uint64_t", -1ULL)
    assert.equal("18446744073709551615ULL", tostring(task.u64))
  end)

  it("reads bools, enums by name, chars as a string", function()
    put(54, "uint8_t", 1)
    put(72, "uint32_t", 7)
    put(76, "int32_t", -1)
    fake:put_string(TASK + 16, "swapper/0\0junk")
    assert.is_true(task.on)
    assert.equal("BLUE", task.color)
    assert.equal("SAD", task.mood)
    assert.equal("swapper/0", task.comm)
    put(72, "uint32_t", 3)
    put(54, "uint8_t", 0)
    fake:put_string(TASK + 16, ("x"):rep(16))
    assert.equal(3, task.color)
    assert.is_false(task.on)
    assert.equal(("x"):rep(16), task.comm)
  end)

  it("takes the upper half of an unsigned enum for what it is", function()
    put(72, "uint32_t", 0x80000000)
    assert.equal("FAR", k:object("enum far", TASK + 72)[0])
    assert.equal(0x80000000, k:enum "FAR")
    put(56, "uint64_t", -1LL)
    assert.equal("SLICE_ENDLESS", k:object("enum slice", TASK + 56)[0])
    assert.equal("18446744073709551615ULL", tostring(k:enum "SLICE_ENDLESS"))
    assert.is_true(task.u64 == k:enum "SLICE_ENDLESS")
  end)

  it("counts backwards from a pointer, too", function()
    put(184, "uint64_t", TASK + 0x100)
    for i = -2, 2 do
      put(0x100 + 8 * i, "uint32_t", 10 + i)
    end
    for i = -2, 2 do
      assert.equal(10 + i, task.where[i].a)
    end
  end)

  it("refuses types of another kernel", function()
    local other = fake_kernel.new().k.types["struct task"]
    refused("invalid", function() return k:object(other, TASK) end)
    refused("invalid", function() return task:cast_(other) end)
    assert.equal(0, k:object(k.types["struct task"], TASK).pid)
  end)

  it("has a member also when somebody interrupted the search for it", function()
    local access, object = require "ktstr.kernel.access", require "ktstr.kernel.object"
    local offset = object.offset
    function object.offset() errors.raise("interrupted", "Ctrl-C") end
    local ok, e = pcall(access.has, k, "struct task", "pid")
    object.offset = offset
    assert.is_false(ok)
    assert.equal("interrupted", e.code)
    assert.is_true(access.has(k, "struct task", "pid"))
    assert.is_false(access.has(k, "struct task", "nonsense"))
  end)

  it("is an address in its own machine alone, and as long as its freeze", function()
    local other = fake_kernel.new().k
    refused("invalid", function() return other:u64(task) end)
    refused("invalid", function() return other:list(task, "struct task", "tasks") end)
    refused("invalid", function() return other:object("struct node", task) end)
    assert.equal(0, k:u64(task))
    fake:thaw()
    refused("stale", function() return k:u64(task) end)
    refused("stale", function() return k:read(task, 8) end)
    refused("stale", function() return k:list(task, "struct task", "tasks") end)
    refused("stale", function() return k:object("struct node", task) end)
    assert.equal(0, k:u64(task:address_()))
  end)

  it("knows a per-CPU pointer behind a const one", function()
    put(0, "uint64_t", OTHER)
    fake:put(OTHER + 8, "uint64_t", DIRECT + 0x5000)
    local e = refused("per-cpu", function() return k:object("struct reader", TASK).sched.pcpu.events end)
    assert.matches("pcpu", e.message, 1, true)
  end)

  it("follows pointers with '.', and knows itself", function()
    put(8, "uint64_t", OTHER)
    fake:put(OTHER, "int32_t", 42)
    fake:put(OTHER + 8, "uint64_t", TASK)
    assert.equal(42, task.parent.pid)
    assert.is_true(task.parent.parent == task)
    assert.is_false(task.parent == task)
    assert.is_true(task.parent:address_() == OTHER)
    assert.equal(task.parent.parent:key_(), task:key_())
    assert.equal("struct task", task.parent:type_().name)
  end)

  it("names how a NULL was reached where it is followed", function()
    put(8, "uint64_t", OTHER)
    assert.is_true(task.parent.parent == k.null)
    local e = refused("null", function()
      return task.parent.parent.pid
    end)
    assert.equal("struct task.parent.parent is NULL: it has no 'pid'", e.message)
    e = refused("null", function()
      return k:object("struct task", k.null).comm
    end)
    assert.equal("struct task is NULL: it has no 'comm'", e.message)
    assert.is_true(k.null == task.parent.parent)
    assert.is_false(task == k.null)
    refused("null", function()
      task.parent.parent.pid = 1
    end)
  end)

  it("gives void and function pointers as addresses", function()
    put(80, "uint64_t", 0xffff888000123456ULL)
    put(88, "uint64_t", fake_kernel.IMAGE + 0x110)
    assert.equal("0xffff888000123456", tostring(task.stack))
    assert.equal("schedule+0x10", k:name(task.func))
    assert.equal(0x10, task.func - k:symbol "schedule")
    put(80, "uint64_t", 0)
    assert.is_true(task.stack == k.null)
  end)

  it("indexes arrays, of several dimensions too, and checks the bounds", function()
    for i = 0, 7 do
      put(96 + i, "uint8_t", i * 3)
    end
    for i = 0, 5 do
      put(104 + 4 * i, "uint32_t", 100 + i)
    end
    fake:put_string(TASK + 128, "ab\0\0cdef")
    put(136 + 12, "uint32_t", 99)
    assert.equal(21, task.bytes[7])
    assert.equal(8, #task.bytes)
    assert.equal(105, task.grid[1][2])
    assert.equal("ab", task.names[0])
    assert.equal("cdef", task.names[1])
    assert.equal(99, task.pairs[1].b)
    local e = refused("invalid", function()
      return task.bytes[8]
    end)
    assert.equal("struct task.bytes[8]: its type is u8 [8], so the index is from 0 to 7", e.message)
    refused("invalid", function()
      return task.grid[0][-1]
    end)
    refused("invalid", function()
      return task.bytes[0.5]
    end)
    refused("invalid", function()
      return task.pairs[0][0]
    end)
  end)

  it("indexes what a pointer points to", function()
    put(160, "uint64_t", OTHER)
    put(184, "uint64_t", OTHER)
    put(192, "uint64_t", OTHER)
    fake:put(OTHER, "uint64_t", TASK)
    fake:put(OTHER + 8, "uint64_t", 5)
    assert.equal(5, task.cpus[1])
    assert.equal(5, task.where[1].a)
    assert.is_true(task.table[0] == task)
    refused("invalid", function()
      return #task.cpus
    end)
  end)

  it("reads a flexible array by index", function()
    local flex = k:object("struct flex", OTHER)
    fake:put(OTHER + 4 + 4 * 1000, "uint32_t", 77)
    assert.equal(77, flex.items[1000])
    refused("invalid", function()
      return flex.items[-1]
    end)
  end)

  it("reads unions and anonymous members, and names that are Lua's or a method's", function()
    put(176, "uint64_t", 0x100000002)
    put(168, "uint32_t", 11)
    put(172, "uint32_t", 12)
    assert.equal(0x100000002, task.either)
    assert.equal(2, task.or_else)
    assert.equal(11, task["end"])
    assert.equal(12, task.type)
    assert.equal(11, task:get_ "end")
  end)

  it("reads and writes bit-fields without touching their neighbours", function()
    local bits = k:object("struct bits", OTHER)
    fake:put(OTHER, "uint32_t", 0x80000000 + 5 + 9 * 8 + 128 + 7 * 256)
    fake:put(OTHER + 8, "uint64_t", 0xabcdef1234567890ULL)
    assert.equal(5, bits.low)
    assert.equal(-7, bits.signed_)
    assert.is_true(bits.yes)
    assert.equal("BLUE", bits.shade)
    assert.equal(1, bits.high)
    assert.equal(0x1234567890, bits.wide)
    assert.equal(0xabcdef, bits.rest)
    bits.signed_ = -1
    bits.shade = "GREEN"
    bits.yes = false
    assert.equal(0x80000000 + 5 + 15 * 8 + 256, fake:peek(OTHER, "uint32_t"))
    bits.rest = 1
    assert.equal(0x11234567890ULL, fake:peek(OTHER + 8, "uint64_t"))
    local e = refused("invalid", function()
      bits.low = 8
    end)
    assert.equal("struct bits.low: 8 is not a whole number from 0 to 7", e.message)
    refused("invalid", bits.member_, bits, "low")
  end)

  it("writes what it reads", function()
    task.pid = -17
    task.u64 = 0xfedcba9876543210ULL
    task.s64 = -3
    task.on = true
    task.color = "GREEN"
    task.comm = "renamed"
    task.parent = k:object("struct task", OTHER)
    task.stack = k:symbol "schedule"
    task.bytes[3] = 255
    task.pairs[1].b = 4
    assert.equal(-17, fake:peek(TASK, "int32_t"))
    assert.equal(0xfedcba9876543210ULL, fake:peek(TASK + 56, "uint64_t"))
    assert.equal(-3LL, fake:peek(TASK + 64, "int64_t"))
    assert.equal(1, fake:peek(TASK + 54, "uint8_t"))
    assert.equal(1, fake:peek(TASK + 72, "uint32_t"))
    assert.equal("renamed", task.comm)
    assert.is_true(task.parent:address_() == OTHER)
    assert.is_true(task.stack == k:symbol "schedule")
    assert.equal(255, task.bytes[3])
    assert.equal(4, task.pairs[1].b)
    task.parent = k.null
    assert.is_true(task.parent == k.null)
    task:set_("pairs[0].a", 8)
    assert.equal(8, task:get_ "pairs[0].a")
  end)

  it("refuses to write what does not fit", function()
    for _, bad in ipairs {
      { "pid", 2 ^ 31 }, { "pid", 1.5 }, { "pid", "1" }, { "pid", true }, { "u8", -1 }, { "u8", 256 },
      { "u64", -1 }, { "u64", 2 ^ 64 }, { "on", 2 }, { "color", "PINK" }, { "parent", "x" }, { "comm", 5 },
      { "comm", ("x"):rep(16) }, { "tasks", 1 }, { "bytes", "x" }, { "pid", 0x80000000ULL },
      { "pid", -0x80000001LL },
    } do
      local e = refused("invalid", function()
        task[bad[1]] = bad[2]
      end)
      assert.matches(bad[1], e.message, 1, true)
    end
    assert.equal(("\0"):rep(256), k:read(TASK, 256))
    task.pid = 0xffffffffffffffffULL -- as a register has it
    assert.equal(-1, task.pid)
  end)

  it("lists the members that there are for one that there is not", function()
    local e = refused("not-found", function()
      return task.pidd
    end)
    assert.matches("struct task has no member 'pidd'", e.message, 1, true)
    assert.matches("pid", (e.hint or "") .. e.message:sub(40), 1, true)
    refused("not-found", function()
      task.nonsense = 1
    end)
    e = refused("not-found", function()
      return task.cpus.x
    end)
    assert.matches("u64", e.message, 1, true)
    refused("not-found", function()
      return task[{}]
    end)
    assert.is_true(task:has_ "pairs[1].b")
    assert.is_true(task:has_ "parent.pid")
    assert.is_false(task:has_ "pairs[2].b")
    assert.is_false(task:has_ "pidd")
  end)

  it("is found from a member of it", function()
    local node = task.tasks
    assert.equal("struct node", node:type_().name)
    local again = node:container_of_("struct task", "tasks")
    assert.is_true(again == task)
    assert.equal("struct task", again:type_().name)
    assert.is_true(task:member_("pairs[1].b"):container_of_("struct task", "pairs[1].b") == task)
    assert.is_true(task:member_("pid"):address_() == TASK)
    task.pid = 3
    assert.equal(3, task:member_("pid")[0])
    assert.is_true(task:cast_("struct pair"):address_() == TASK)
    assert.equal(3, task:cast_("struct pair").a)
    refused("not-found", node.container_of_, node, "struct task", "nonsense")
  end)

  it("is shown with its members, to a limited depth", function()
    put(0, "int32_t", 7)
    put(8, "uint64_t", OTHER)
    fake:put_string(TASK + 16, 'a "b"\0')
    put(88, "uint64_t", fake_kernel.IMAGE + 0x100)
    local text = tostring(task)
    assert.matches("struct task at 0xffff888000001000 = {", text, 1, true)
    assert.matches("\n  pid = 7,", text, 1, true)
    assert.matches("\n  parent = (struct task *) 0xffff888000003000,", text, 1, true)
    assert.matches('\n  comm = "a \\"b\\"",', text, 1, true)
    assert.matches("<schedule>", text, 1, true)
    assert.matches("\n  either = 0,", text, 1, true)
    assert.matches("\n  color = RED,", text, 1, true)
    assert.matches("\n  bytes = { 0, 0, 0, 0, 0, 0, 0, 0 },", text, 1, true)
    assert.matches("\n  tasks = {\n    next = (struct node *) NULL,", text, 1, true)
    assert.equal("struct task at NULL", tostring(k:object("struct task", 0)))
    assert.matches("not mapped", tostring(k:object("struct task", 0xffffc90000000000ULL)), 1, true)
  end)

  it("of an address that is not mapped says so, with its name", function()
    local e = refused("unmapped", function()
      return k:object("struct task", 0xffffc90000000000ULL).pid
    end)
    assert.matches("^struct task%.pid: 0xffffc90000000000 is not mapped", e.message)
    put(8, "uint64_t", 0xdead000000000100ULL)
    refused("unmapped", function()
      return task.parent.comm
    end)
    -- Its last byte is there, and those behind it are not.
    refused("unmapped", function()
      return k:u32(DIRECT + fake_kernel.DIRECT_SIZE - 1)
    end)
    assert.equal(0, k:u8(DIRECT + fake_kernel.DIRECT_SIZE - 1))
  end)

  it("of a type that is only declared can be passed on, and not read", function()
    put(152, "uint64_t", OTHER)
    local e = refused("not-found", function()
      return task.inner.x
    end)
    assert.matches("struct elsewhere", e.message, 1, true)
    assert.is_true(task.inner:cast_("struct pair"):address_() == OTHER)
  end)
end)

describe("a part of the library that is loaded again", function()
  it("has a type of objects of its own, as in a second spec file", function()
    local address, memory = require "ktstr.kernel.address", require "ktstr.kernel.memory"
    finally(function()
      package.loaded["ktstr.kernel.memory"] = memory
      address.set_object(memory.Object)
    end)
    local function load_again()
      package.loaded["ktstr.kernel.memory"] = nil
      return require "ktstr.kernel.memory"
    end
    -- Busted keeps ctypes by their text, and the first methods of each: with one text for both, the methods
    -- of one copy would be asked about the other one's objects.
    local one, other = load_again(), load_again()
    assert.is_false(ffi.istype(one.Object, other.Object()))
  end)
end)

describe("an object's life", function()
  local fake, k

  before_each(function()
    fake = fake_kernel.new()
    k = fake.k
    fake:put(TASK, "int32_t", 5)
  end)

  it("ends with the freeze that it was made in", function()
    local task = k:object("struct task", TASK)
    local bytes = task.bytes
    assert.equal(5, task.pid)
    fake:thaw()
    local e = refused("stale", function()
      return task.pid
    end)
    assert.matches("made while the machine was frozen; it has run since", e.message, 1, true)
    fake:freeze()
    refused("stale", function()
      return task.pid
    end)
    refused("stale", function()
      task.pid = 1
    end)
    refused("stale", function()
      return bytes[0]
    end)
    assert.matches("it has run since", tostring(task), 1, true)
    assert.equal(5, k:object("struct task", TASK).pid)
  end)

  it("that began while the machine ran goes on until the machine's end", function()
    fake:thaw()
    local task = k:object("struct task", TASK)
    assert.equal(5, task.pid)
    fake:freeze()
    assert.equal(5, task.pid)
    local parent = task.parent
    fake:thaw()
    assert.equal(5, task.pid)
    assert.is_true(parent == k.null)
    fake:finish()
    refused("ended", function()
      return task.pid
    end)
    refused("ended", function()
      task.pid = 1
    end)
  end)

  it("in a freeze that is over ended with the machine, too", function()
    local task = k:object("struct task", TASK)
    fake:finish()
    refused("ended", function()
      return task.pid
    end)
    refused("ended", k.u64, k, TASK)
  end)

  it("that has ended says how its machine did", function()
    local task = k:object("struct task", TASK)
    fake:thaw()
    local hot = k:object("struct task", TASK)
    fake:finish()
    local result = { exit_reason = "Timeout" }
    function fake.vm:_ended_error(doing)
      assert.equal(fake.vm, self)
      return errors.new("timeout", "its time was up: " .. doing, nil, { result = result })
    end
    for _, f in ipairs { function()
      return task.pid
    end, function()
      return hot.comm
    end, function()
      hot.pid = 1
    end, function()
      return k:u64(TASK)
    end, function()
      return k:read(TASK, 100)
    end, function()
      return k:string(TASK)
    end, function()
      k._prepared = false
      return k:symbol "init_task"
    end } do
      local e = refused("ended", f)
      assert.equal("its time was up: asked for its memory", e.message)
      assert.equal(result, e.result)
    end
    assert.matches("its time was up", tostring(hot), 1, true)
  end)

  it("is over when its machine has been collected", function()
    local task = k:object("struct task", TASK)
    fake, k = nil, nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    refused("ended", function()
      return task.pid
    end)
    assert.matches("struct task at", tostring(task), 1, true)
  end)
end)

describe("a running machine", function()
  local fake, k, task

  before_each(function()
    fake = fake_kernel.new()
    fake:thaw()
    k = fake.k
    task = k:object("struct task", TASK)
  end)

  it("is read as a frozen one", function()
    fake:put(TASK, "int32_t", -9)
    fake:put(TASK + 49, "int8_t", -1)
    fake:put(TASK + 56, "uint64_t", -1ULL)
    fake:put_string(TASK + 16, "running\0")
    fake:put(TASK + 8, "uint64_t", TASK)
    assert.equal(-9, task.pid)
    assert.equal(-1, task.s8)
    assert.equal(-1ULL, task.u64)
    assert.equal("running", task.parent.comm)
  end)

  it("is written in single words, and nothing else", function()
    task.pid = 4
    task.on = true
    task.u64 = 1
    assert.equal(4, fake:peek(TASK, "int32_t"))
    local e = refused("running", function()
      task.comm = "x"
    end)
    assert.matches("16 bytes cannot be written at once", e.message, 1, true)
    refused("running", function()
      k:object("struct bits", OTHER).low = 1
    end)
    refused("running", function()
      k:object("struct task", TASK + 2).pid = 1
    end)
    k:write(TASK, "\1\2\3\4")
    assert.equal(0x04030201, task.pid)
    refused("running", k.write, k, TASK, "\1\2\3")
    refused("running", k.write, k, TASK + 1, "\1\2")
    refused("running", k.write, k, TASK, ("x"):rep(16))
    fake:freeze()
    k:write(TASK + 1, ("x"):rep(17))
    assert.equal(("x"):rep(17), k:read(TASK + 1, 17))
  end)
end)

describe("compiled loops", function()
  local fake, k

  -- Runs f until the compiler has made what it makes of it: how many loops of it are traces of their own,
  -- what attempts at that failed; what f returned.
  local function compile(f)
    local begun, loops, aborts = {}, 0, {}
    local function on_trace(what, trace, func, _, code)
      if what == "start" then
        begun[trace] = func
      elseif what == "abort" and begun[trace] == f then
        aborts[#aborts + 1] = tostring(code)
      elseif what == "stop" and begun[trace] == f and jit_util.traceinfo(trace).linktype == "loop" then
        loops = loops + 1
      end
    end
    jit.flush()
    jit.attach(on_trace, "trace")
    local ok, result
    for round = 1, 20 do
      ok, result = pcall(f)
      if not ok or (loops > 0 and round >= 3) then
        break
      end
    end
    jit.attach(on_trace)
    assert(ok, result)
    return loops, aborts, result
  end

  -- The loop in f has to be one trace, and no attempt at that may fail. What LuaJIT finds hot first, the loop
  -- or something around it, is partly chance: so it may begin again.
  local function compiled(f)
    local loops, aborts, result
    for _ = 1, 5 do
      loops, aborts, result = compile(f)
      if loops > 0 and #aborts == 0 then
        return result
      end
    end
    assert.same({}, aborts)
    assert.is_true(loops > 0, "the loop was not compiled")
  end

  before_each(function()
    fake = fake_kernel.new()
    k = fake.k
  end)

  it("read fields of objects that they make", function()
    local places, expected = {}, 0
    for i = 1, 1000 do
      local place = DIRECT + i * 256
      places[i] = k:object("struct task", place):address_()
      fake:put(place, "int32_t", i)
      expected = expected + i
    end
    local function sum()
      local total = 0
      for i = 1, #places do
        total = total + k:object("struct task", places[i]).pid
      end
      return total
    end
    assert.equal(expected, compiled(sum))
  end)

  it("follow pointers, and index arrays #compiled", function()
    for i = 0, 999 do
      fake:put(DIRECT + i * 256 + 8, "uint64_t", DIRECT + (i + 1) * 256)
      fake:put(DIRECT + i * 256, "int32_t", i)
    end
    local function walk()
      local total, task = 0, k:object("struct task", DIRECT)
      while task ~= k.null do
        total = total + task.pid + task.bytes[1]
        task = task.parent
      end
      return total
    end
    assert.equal(499500, compiled(walk))
  end)

  it("read a running machine's globals anew each time", function()
    fake:thaw()
    local function poll()
      local seen = 0
      for i = 1, 1000 do
        fake:put(fake_kernel.IMAGE + 0x2000, "uint64_t", i)
        seen = seen + k:var "jiffies_64"
      end
      return seen
    end
    assert.equal(500500, compiled(poll))
  end)
end)
