-- Return addresses that tracing has replaced, by the tasks' own lists made by hand.
local btf = require "tests.lua.btf"
local fake_kernel = require "tests.lua.fake_kernel"
local traced = require "ktstr.kernel.traced"
local types = require "ktstr.kernel.types"

local DIRECT, IMAGE = fake_kernel.DIRECT, fake_kernel.IMAGE
local TASK, STACK, NODES = DIRECT + 0x1000, DIRECT + 0x2000, DIRECT + 0x4000

-- words: ret_stack is of words, as from 6.11 on.
local function make_types(words)
  local b = btf.new()
  local s32, u64 = b:int("int", 4, "signed"), b:int("unsigned long", 8)
  b.index = u64
  local graph = b:struct("ftrace_ret_stack", 24, { { "ret", u64, 0 }, { "func", u64, 64 },
    { "retp", u64, 128 } })
  local node = b:struct("llist_node", 8, { { "next", u64, 0 } })
  b:struct("rethook_node", 40, { { "rcu", u64, 0 }, { "llist", node, 64 }, { "ret_addr", u64, 192 },
    { "frame", u64, 256 } })
  local stack = b:pointer(words and u64 or graph)
  b:struct("task_struct", 32, { { "ret_stack", stack, 0 }, { "curr_ret_stack", s32, 64 },
    { "rethooks", node, 128 } })
  return types.from_blob(b:blob())
end

local function rig(words)
  local fake = fake_kernel.new()
  local k = fake.k
  k._image.types = make_types(words)
  local set = k._image.symbols
  set[#set + 1] = { name = "return_to_handler", address = set[1].address + 0x300, kind = "t", moves = true }
  fake:put(TASK, "uint64_t", STACK)
  fake:put(TASK + 8, "int32_t", -1)
  return fake, k
end

-- { place, address, ... }, sorted, as numbers from the direct map's start.
local function returns(k)
  local _, _, list, count = traced.returns(k, k:object("struct task_struct", TASK))
  local found = {}
  for i = 0, count - 1 do
    found[i + 1] = ("%x=%x"):format(tonumber(list[i].at), tonumber(list[i].address))
  end
  table.sort(found)
  return table.concat(found, " ")
end

local function put_graph(fake, at, place, address)
  fake:put(at, "uint64_t", address)
  fake:put(at + 16, "uint64_t", place)
end

describe("return addresses that tracing has replaced", function()
  it("are known by tracing's own", function()
    local _, k = rig(true)
    local trampolines, count = traced.returns(k, nil)
    assert.equal(1, count)
    assert.is_true(trampolines[0] == IMAGE + 0x300)
  end)

  it("are in an array until 6.10", function()
    local fake, k = rig(false)
    assert.equal("", returns(k))
    for i = 0, 2 do
      put_graph(fake, STACK + i * 24, 0x100 + i, 0x200 + i)
    end
    fake:put(TASK + 8, "int32_t", 0)
    assert.equal("100=200", returns(k))
    fake:put(TASK + 8, "int32_t", 1)
    assert.equal("100=200 101=201", returns(k))
  end)

  it("are between other words from 6.11 on", function()
    local fake, k = rig(true)
    fake:put(TASK + 8, "int32_t", 0)
    assert.equal("", returns(k))
    put_graph(fake, STACK, 0x100, 0x200) -- at 0, its end at 3
    fake:put(STACK + 3 * 8, "uint64_t", 0xabc00 + 3)
    put_graph(fake, STACK + 4 * 8, 0x101, 0x201) -- at 4, two words of a tracer's, its end at 9
    fake:put(STACK + 9 * 8, "uint64_t", 0x10000 + 5)
    fake:put(TASK + 8, "int32_t", 4)
    assert.equal("100=200", returns(k))
    fake:put(TASK + 8, "int32_t", 10)
    assert.equal("100=200 101=201", returns(k))
  end)

  it("are in a list of return probes, too", function()
    local fake, k = rig(true)
    fake:put(TASK + 8, "int32_t", 0)
    fake:put(TASK + 16, "uint64_t", NODES + 8)
    for i = 0, 1 do
      local node = NODES + i * 0x100
      fake:put(node + 8, "uint64_t", i == 0 and NODES + 0x108 or 0)
      fake:put(node + 24, "uint64_t", 0x200 + i)
      fake:put(node + 32, "uint64_t", 0x100 + i)
    end
    assert.equal("100=200 101=201", returns(k))
  end)

  it("are few, whatever lies in memory", function()
    local fake, k = rig(false)
    fake:put(TASK + 8, "int32_t", 0x7fffffff)
    fake:put(TASK + 16, "uint64_t", NODES + 8)
    fake:put(NODES + 8, "uint64_t", NODES + 8) -- a circle
    local _, _, _, count = traced.returns(k, k:object("struct task_struct", TASK))
    assert.is_true(count > 500 and count <= 1100)
    fake:put(TASK, "uint64_t", 0x123456789000ULL)
    fake:put(NODES + 8, "uint64_t", 0x123456789000ULL)
    assert.equal("0=0", returns(k))
    fake, k = rig(true)
    for _, back in ipairs { 0, 1, 0x3ff } do
      fake:put(TASK + 8, "int32_t", 512)
      fake:put(STACK + 511 * 8, "uint64_t", back)
      assert.is_true(#returns(k) < 10)
    end
    fake:put(TASK + 8, "int32_t", -5)
    assert.equal("", returns(k))
    fake:put(TASK + 8, "int32_t", 100000)
    assert.equal("", returns(k))
  end)

  it("are none where the kernel has no such tracing", function()
    local fake = fake_kernel.new()
    local _, trampolines, _, count = traced.returns(fake.k, nil)
    assert.same({ 0, 0 }, { trampolines, count })
  end)
end)
