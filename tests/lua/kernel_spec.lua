-- vm.k over a kernel made by hand: symbols, globals, per-CPU memory, names, addresses.
local address = require "ktstr.kernel.address"
local btf = require "tests.lua.btf"
local fake_kernel = require "tests.lua.fake_kernel"
local errors = require "ktstr.errors"
local types = require "ktstr.kernel.types"

local DIRECT, IMAGE = fake_kernel.DIRECT, fake_kernel.IMAGE

local function refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "nothing was raised")
  assert(errors.is(e), "not an error of ktstr's: " .. tostring(e))
  assert(e.code == code, ("expected '%s', found '%s': %s"):format(code, e.code, e.message))
  return e
end

describe("an address", function()
  local k = fake_kernel.new().k
  local a = k:symbol "init_task"

  it("is compared, moved and subtracted", function()
    assert.is_true(a == k:symbol "init_task")
    assert.is_true(a + 8 == 8 + a)
    assert.is_false(a + 8 == a)
    assert.is_true(a + 8 > a)
    assert.is_true(a <= a)
    assert.equal(8, (a + 8) - a)
    assert.equal(-8, a - (a + 8))
    assert.is_true((a + 8) - 8 == a)
    assert.is_true(a - 0x1000 == k:symbol "_text")
    assert.is_true(a + -8 < a)
    assert.equal(0, a - k:object("struct task", a))
  end)

  it("equals only addresses", function()
    assert.is_false(a == nil)
    assert.is_false(a == "0xffffffff81001000")
    assert.is_false(a == {})
    assert.is_true(a == 0xffffffff81001000ULL)
    assert.is_true(a == k:object("struct task", a))
    assert.is_true(k.null == 0)
    assert.is_false(k.null == false)
  end)

  it("is shown as people write it, and is a key of tables", function()
    assert.equal("0xffffffff81001000", tostring(a))
    assert.equal("at 0xffffffff81001000", "at " .. a)
    local seen = { [a:key_()] = true }
    assert.is_true(seen[k:symbol("init_task"):key_()])
    assert.is_nil(seen[(a + 1):key_()])
    -- One that no number holds.
    local odd = k:object("struct task", 0xff11000000000001ULL):address_()
    assert.equal("0xff11000000000001", odd:key_())
    assert.not_equal(odd:key_(), (odd + 1):key_())
  end)

  it("is nothing else", function()
    refused("invalid", function()
      return a.pid
    end)
    refused("invalid", function()
      return a + 0.5
    end)
    refused("invalid", function()
      return a + a
    end)
    refused("invalid", function()
      return k:object("struct task", a) - 8
    end)
    refused("invalid", k.object, k, "struct task", "0x1000")
    refused("invalid", k.object, k, "struct task", -1)
    refused("invalid", k.object, k, "struct task", nil)
  end)
end)

describe("a symbol", function()
  local k = fake_kernel.new().k

  it("has the address that it runs at", function()
    assert.is_true(k:symbol "schedule" == IMAGE + 0x100)
  end)

  it("whose name is not unique raises, and lists its places", function()
    local e = refused("ambiguous", k.symbol, k, "twice")
    assert.matches("0xffffffff81002020 (d), 0xffffffff81002040 (d)", e.message, 1, true)
    local all = k:symbols "twice"
    assert.equal(2, #all)
    assert.is_true(all[2].address == IMAGE + 0x2040)
    refused("ambiguous", k.var, k, "twice", "unsigned int")
  end)

  it("that there is not raises, and names others that begin like it", function()
    local e = refused("not-found", k.symbol, k, "init_tasks")
    assert.equal("the kernel has no symbol 'init_tasks'", e.message)
    assert.matches("init_task", e.hint, 1, true)
    assert.same({}, k:symbols "init_tasks")
    refused("invalid", k.symbol, k, 5)
  end)

  it("is found from an address", function()
    assert.equal("schedule+0x1c", k:name(k:symbol "schedule" + 0x1c))
    assert.equal("schedule", k:name(k:symbol "schedule"))
    assert.is_nil(k:name(DIRECT))
    assert.is_nil(k:name(IMAGE - 1))
  end)
end)

describe("a global", function()
  local fake, k

  before_each(function()
    fake = fake_kernel.new()
    k = fake.k
  end)

  it("is read as a field is, with the type that ktstr knows or that is said", function()
    fake:put(IMAGE + 0x2000, "uint64_t", 5 * 2 ^ 32 + 7)
    assert.equal(5 * 2 ^ 32 + 7, k:var "jiffies_64")
    assert.equal(7, k:var("jiffies_64", "unsigned int"))
    assert.equal(5 * 2 ^ 32 + 7, k:var "jiffies_64")
    fake:put(IMAGE + 0x1000, "int32_t", 12)
    assert.equal(12, k:var("init_task", "struct task").pid)
    assert.equal(12, k:var("init_task", k.types["struct task"]).pid)
    local e = refused("not-found", k.var, k, "some_int")
    assert.equal("nothing says of which type 'some_int' is", e.message)
    fake:put(IMAGE + 0x2060, "int32_t", -3)
    assert.equal(-3, k:var("some_int", "int"))
    k:set_var("some_int", 9, "int")
    assert.equal(9, fake:peek(IMAGE + 0x2060, "int32_t"))
  end)

  it("is read by its name where the addresses of per-CPU memory are, too", function()
    k._area.start, k._area.size = IMAGE + 0x1000, 0x3000 -- init_task and some_int, but no per-CPU variable
    fake:put(IMAGE + 0x2060, "int32_t", -7)
    assert.equal(-7, k:var("some_int", "int"))
    k:set_var("some_int", 9, "int")
    assert.equal(9, fake:peek(IMAGE + 0x2060, "int32_t"))
    fake:put(IMAGE + 0x1000, "int32_t", 12)
    assert.equal(12, k:var("init_task", "struct task").pid)
    fake:put(IMAGE + 0x1088 + 8, "uint32_t", 44)
    assert.equal(44, k:var("init_task", "struct task").pairs[1].a)
  end)

  it("is read there by its symbol's address, too, but not by one that a pointer holds", function()
    local place, number = k:symbol "some_int", IMAGE + 0x2060
    k._area.start, k._area.size = IMAGE + 0x1000, 0x3000
    fake:put(number, "uint64_t", 0x1234567887654321ULL)
    assert.equal(0x87654321, k:u32(place))
    assert.equal(0x12345678, k:u32(k:symbols("some_int")[1].address + 4))
    assert.equal(0x1234, k:u16(2 + place + 8 - 4))
    assert.equal(0x1234567887654321ULL, k:u64(place))
    assert.equal("\x21\x43\x65\x87", k:read(place, 4))
    assert.equal("\x21\x43", k:string(place, 2))
    assert.is_true(k:pointer(place) == 0x1234567887654321ULL)
    assert.is_true(k:object("unsigned int", place):address_() == place)
    assert.equal(0x87654321, k:u32(k:object("struct task", place - 8):address_() + 8))
    k:write(place, "abcd")
    assert.equal("abcd", k:read(place, 4))
    for _, where in ipairs { number, address.new(number), k:object("unsigned int", number) } do
      refused("per-cpu", k.u32, k, where)
      refused("per-cpu", k.write, k, where, "abcd")
    end

    local task, other = k:object("struct task", k:symbol "init_task"), k:object("struct task", IMAGE + 0x1000)
    assert.is_true(task == other and task:key_() == other:key_())
    fake:put(IMAGE + 0x1008, "uint64_t", number) -- parent
    fake:put(IMAGE + 0x1050, "uint64_t", number) -- stack
    fake:put(IMAGE + 0x1000, "int32_t", 12)
    assert.equal(12, task:get_ "pid")
    assert.equal(12, task:member_("tasks"):container_of_("struct task", "tasks").pid)
    assert.equal(12, task:cast_("struct node"):cast_("struct task").pid)
    for _, reach in ipairs { "parent", "stack" } do
      refused("per-cpu", k.u32, k, task[reach])
    end
    refused("per-cpu", function()
      return task.parent.pid
    end)
    refused("per-cpu", function()
      return other.pid
    end)
    fake:thaw()
    assert.equal("abcd", k:read(place, 4))
    refused("per-cpu", k.u32, k, number)
  end)

  it("that is a pointer leads to what it points to, and its name is in what goes wrong", function()
    fake:put(IMAGE + 0x2010, "uint64_t", DIRECT + 0x100)
    fake:put(DIRECT + 0x100, "uint32_t", 2)
    assert.equal(2, k:var("scx_root").level)
    fake:put(IMAGE + 0x2010, "uint64_t", 0)
    assert.is_true(k:var "scx_root" == k.null)
    local e = refused("null", function()
      return k:var("scx_root").level
    end)
    assert.equal("scx_root is NULL: it has no 'level'", e.message)
  end)
end)

for _, zero_based in ipairs { false, true } do
  describe(zero_based and "per-CPU memory before 7.x" or "per-CPU memory", function()
    local fake, k, first

    before_each(function()
      fake = fake_kernel.new { zero_based = zero_based }
      k = fake.k
      first = zero_based and 0ULL or IMAGE + 0x4000
      fake:set_up_percpu()
      for cpu = 0, 1 do
        fake:put(DIRECT + 0x80020 + 0x10000 * cpu, "uint32_t", 100 + cpu)
        fake:put(DIRECT + 0x80100 + 0x10000 * cpu, "uint64_t", 50 + cpu)
      end
    end)

    it("has a variable once for each CPU", function()
      assert.equal(100, k:per_cpu("runqueues", 0).nr_running)
      assert.equal(101, k:per_cpu("runqueues", 1).nr_running)
      assert.is_true(k:per_cpu("runqueues", 1):address_() == DIRECT + 0x90020)
      assert.equal(101, k:per_cpu("runqueues", 1, "unsigned int"))
      assert.is_true(k:symbol "runqueues" == first + 0x20)
      local e = refused("null", function()
        return k:per_cpu("runqueues", 1).curr.pid
      end)
      assert.equal("runqueues.curr is NULL: it has no 'pid'", e.message)
    end)

    it("is not there for a CPU that is not, nor for a variable that is not per-CPU", function()
      local e = refused("invalid", k.per_cpu, k, "runqueues", 2)
      assert.equal("there is no CPU 2: the kernel has CPUs 0 to 1", e.message)
      refused("invalid", k.per_cpu, k, "runqueues", -1)
      refused("invalid", k.per_cpu, k, "runqueues", 0.5)
      refused("invalid", k.per_cpu, k, "runqueues")
      e = refused("invalid", k.per_cpu, k, "init_task", 0)
      assert.equal("'init_task' is not per-CPU", e.message)
      e = refused("per-cpu", k.var, k, "runqueues")
      assert.equal('k:per_cpu("runqueues", cpu)', e.hint)
      refused("not-found", k.per_cpu, k, "nonsense", 0)
    end)

    it("is behind a pointer only together with a CPU", function()
      fake:put(DIRECT + 0x108, "uint64_t", first + 0x100)
      local sch = k:object("struct scx_sched", DIRECT + 0x100)
      local e = refused("per-cpu", function()
        return sch.pcpu.events
      end)
      assert.equal("k:per_cpu(pointer, cpu) gives one CPU's", e.hint)
      refused("per-cpu", function()
        return sch.pcpu[0]
      end)
      refused("per-cpu", function()
        sch.pcpu.events = 1
      end)
      assert.equal(50, k:per_cpu(sch.pcpu, 0).events)
      assert.equal(51, k:per_cpu(sch.pcpu, 1).events)
      assert.matches("per-CPU struct scx_sched_pcpu at", tostring(sch.pcpu), 1, true)
      fake:put(DIRECT + 0x108, "uint64_t", 0)
      assert.is_true(sch.pcpu == k.null)
      refused("null", k.per_cpu, k, sch.pcpu, 0)
      e = refused("invalid", k.per_cpu, k, sch, 0)
      assert.matches("is an address, and no per-CPU one", e.message, 1, true)
    end)

    it("is refused by its address, whatever leads there", function()
      for offset = 0, 0xff8, 8 do
        local at = k:object("u64", first + offset)
        refused(at == k.null and "null" or "per-cpu", function()
          return at[0]
        end)
        refused("per-cpu", k.u64, k, first + offset)
        refused("per-cpu", k.read, k, first + offset, 8)
        refused("per-cpu", k.write, k, first + offset, "12345678")
      end
      local e = refused("per-cpu", k.u64, k, k:symbol "runqueues")
      assert.equal("k:per_cpu(pointer, cpu) gives one CPU's", e.hint)
      refused("per-cpu", function()
        return k:object("struct rq", k:symbol "runqueues").nr_running
      end)
      fake:thaw()
      refused("per-cpu", k.u64, k, first + 8)
      if not zero_based then
        assert.equal(0, k:u64(first - 8))
        assert.equal(0, k:u64(first + 0x1000))
      end
    end)

    it("that the kernel has not set up yet is refused", function()
      local early = fake_kernel.new { zero_based = zero_based }
      early:put(IMAGE + 0x2200, "uint32_t", 2)
      local e = refused("invalid", early.k.per_cpu, early.k, "runqueues", 1)
      assert.matches("not set up its per-CPU memory yet", e.message, 1, true)
      early:put(IMAGE + 0x2108, "uint64_t", IMAGE + 0x4000) -- 6.12's first value
      refused("invalid", early.k.per_cpu, early.k, "runqueues", 1)
      early:put(IMAGE + 0x2108, "uint64_t", DIRECT)
      assert.equal("struct rq", early.k:per_cpu("runqueues", 1):type_().name)
    end)
  end)
end

describe("a name", function()
  local k = fake_kernel.new().k

  it("of an enum or a known macro has its value", function()
    assert.equal(7, k:enum "BLUE")
    assert.equal(-1, k:enum "SAD")
    assert.equal(0x80, k:enum "TASK_DEAD")
    assert.equal(7, k:enum "SCHED_EXT")
    local e = refused("not-found", k.enum, k, "TASK_DED")
    assert.equal("did you mean 'TASK_DEAD'?", e.hint)
  end)

  it("of a type gives it, with its definition", function()
    local pair = k.types["struct pair"]
    assert.equal(8, pair.size)
    assert.equal("struct", pair.kind)
    local members = pair:members()
    assert.equal("b", members[2].name)
    assert.equal(32, members[2].offset)
    local text = tostring(pair)
    assert.matches("struct pair {", text, 1, true)
    assert.matches("unsigned int%s+b;", text)
    assert.equal("struct task **", k.types["struct task **"].name)
    assert.equal(96, k.types["struct pair [12]"].size)
    assert.equal(12, k.types["struct pair [12]"].count)
    assert.is_true(k.types["const struct pair"] == pair)
  end)

  it("of several types raises, and lists them", function()
    local e = refused("ambiguous", function()
      return k.types["struct twin"]
    end)
    local first, second = e.message:match("struct twin#(%d+) %(4 bytes: left%); "
      .. "struct twin#(%d+) %(8 bytes: right%)")
    assert(first, e.message)
    assert.equal(8, k.types["struct twin#" .. second].size)
    assert.equal(4, k:object("struct twin#" .. first, DIRECT):type_().size)
    refused("not-found", function()
      return k.types["struct twin#1"]
    end)
  end)

  it("of several types that ends in digits does, too", function()
    local b = btf.new()
    local u32 = b:int("unsigned int", 4)
    b:struct("v2", 4, { { "left", u32, 0 } })
    b:struct("v2", 8, { { "right", u32, 0 } })
    local set = types.from_blob(b:blob())
    for _, name in ipairs { "struct v2", "struct v2 *", "struct v2 [2]" } do
      local e = refused("ambiguous", set.get, set, name)
      assert.matches("2 types 'struct v2': struct v2#%d+ %(4 bytes: left%); struct v2#%d+ %(8", e.message)
      refused("ambiguous", set.find, set, name)
    end
  end)

  it("of no type is found to be none, but what is no name is refused", function()
    local set = k._image.types
    for _, name in ipairs { "struct tsk", "struct tsk *", "tsk", "const struct tsk **", "struct tsk [2]",
      "struct", "struct pair x" } do
      assert.is_nil(set:find(name))
      refused("not-found", set.get, set, name)
    end
    for _, name in ipairs { "", "*", "struct pair [x]", "struct pair ]", "int (*)(void)", false } do
      refused("invalid", set.find, set, name)
    end
    assert.equal("unsigned int", set:find("unsigned int").name)
    assert.equal("void *", set:find("void *").name)
    assert.equal("struct pair **", set:find(" struct  pair **").name)
  end)

  it("of no type raises, with the nearest", function()
    local e = refused("not-found", function()
      return k.types["struct tsk"]
    end)
    assert.matches("struct tsk", e.message, 1, true)
    assert.matches("struct task", e.hint or "", 1, true)
    refused("not-found", k.object, k, "struct tsk *", DIRECT)
    refused("invalid", function()
      return k.types[5]
    end)
  end)
end)

describe("memory", function()
  local fake = fake_kernel.new()
  local k = fake.k

  it("is read as words, bytes and strings", function()
    fake:put_string(DIRECT + 8, "\1\2\3\4\5\6\7\8word\0rest")
    assert.equal(0x0807060504030201ULL, k:u64(DIRECT + 8))
    assert.equal(0x04030201, k:u32(DIRECT + 8))
    assert.equal(0x0201, k:u16(DIRECT + 8))
    assert.equal(1, k:u8(DIRECT + 8))
    assert.equal(0x05040302, k:u32(DIRECT + 9))
    assert.equal("word", k:string(DIRECT + 16))
    assert.equal("wo", k:string(DIRECT + 16, 2))
    assert.equal("\7\8word\0re", k:read(DIRECT + 14, 9))
    assert.equal("", k:read(DIRECT, 0))
    assert.is_true(k:pointer(DIRECT + 8) == 0x0807060504030201ULL)
  end)

  it("is written frozen as wanted", function()
    k:write(DIRECT + 0x101, "anything")
    assert.equal("anything", k:read(DIRECT + 0x101, 8))
    refused("invalid", k.write, k, DIRECT, 5)
    refused("unmapped", k.write, k, DIRECT + fake_kernel.DIRECT_SIZE - 2, "abc")
    refused("invalid", k.read, k, DIRECT, -1)
    refused("invalid", k.read, k, DIRECT, 2 ^ 40)
  end)

  it("is read by whole numbers of bytes, and not all of it", function()
    for _, count in ipairs { -1, 0.5, 0 / 0, 2 ^ 40, "8" } do
      refused("invalid", k.read, k, DIRECT, count)
      refused("invalid", k.string, k, DIRECT, count)
    end
  end)

  it("of another machine is not reached by mistake", function()
    local other = fake_kernel.new().k
    refused("invalid", k.object, k, "struct task", other:object("struct task", DIRECT))
    refused("invalid", function()
      k:object("struct task", DIRECT).parent = other:object("struct task", DIRECT)
    end)
    assert.is_false(k:object("struct task", DIRECT) == other:object("struct task", DIRECT))
  end)
end)
