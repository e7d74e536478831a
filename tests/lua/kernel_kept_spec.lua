-- What is kept of a kernel goes with it: a program that looks at many does not grow.
local address = require "ktstr.kernel.address"
local btf = require "tests.lua.btf"
local errors = require "ktstr.errors"
local fake_kernel = require "tests.lua.fake_kernel"
local types = require "ktstr.kernel.types"
local values = require "ktstr.kernel.values"

local DIRECT = fake_kernel.DIRECT

local function collect()
  collectgarbage()
  collectgarbage()
end

local function count(t)
  local n = 0
  for _, one in pairs(t) do
    n = n + (type(one) == "table" and 1 or 0)
  end
  return n
end

-- Uses a kernel in every way that keeps something of it.
local function use(fake)
  local k = fake.k
  fake:put(DIRECT + 8, "uint64_t", DIRECT + 0x100)
  fake:put(DIRECT + 128, "uint64_t", DIRECT + 0x200)
  local task = k:object("struct task", DIRECT)
  assert.equal(0, task.parent.pid + task.pairs[1].b + task.bytes[7] + task.grid[1][2])
  assert.equal(0, task.tasks:container_of_("struct task", "tasks").pid)
  assert.equal("RED", task.color)
  assert.equal(0, k:var("init_task", "struct task").flags)
  assert.is_true(task:has_ "tasks.next")
  assert.matches("comm", tostring(task), 1, true)
  assert.equal(8, require("ktstr.kernel.access").offset(k, "struct node", "prev"))
  return task
end

local function program_types()
  local b = btf.new()
  b:struct("own", 8, { { "first", b:int("unsigned int", 4), 0 }, { "second", b.count, 32 } })
  return types.from_blob(b:blob())
end

describe("a kernel that has gone", function()
  it("leaves nothing of its types", function()
    use(fake_kernel.new())
    collect()
    local before, memory = count(values.handles), collectgarbage "count"
    local sets = setmetatable({}, { __mode = "k" })
    for _ = 1, 100 do
      local fake = fake_kernel.new()
      sets[fake.k._image.types] = true
      use(fake)
    end
    collect()
    assert.is_nil((next(sets) or {}).by_id)
    assert.is_true(count(values.handles) <= before)
    assert.is_true(count(values.fields) <= before and count(values.elements) <= before)
    -- Of each there were a megabyte of memory, and some 100 KiB of types.
    assert.is_true(collectgarbage "count" - memory < 1000, "it has grown")
  end)

  it("leaves objects that say so", function()
    local task = use(fake_kernel.new())
    local array = task.bytes
    collect()
    for _, f in ipairs { function()
      return task.pid
    end, function()
      task.pid = 1
    end, function()
      return task:get_ "parent.pid"
    end, function()
      return array[0]
    end, function()
      return #array
    end, function()
      return task:type_()
    end, function()
      return task:cast_ "struct node"
    end } do
      local ok, e = pcall(f)
      assert.is_false(ok)
      assert.is_true(errors.is(e, "ended"), tostring(e))
    end
    assert.is_true(task:address_() == address.new(DIRECT))
    assert.equal("struct task at 0xffff888000000000", tostring(task))
    assert.is_true(task ~= array and task == use(fake_kernel.new()) == false)
  end)
end)

describe("a kernel that is there", function()
  it("keeps the types of its objects, its own and others", function()
    local fake = fake_kernel.new()
    local k = fake.k
    fake:put(DIRECT + 4, "uint32_t", 77)
    local objects = { use(fake) }
    do
      local own = program_types():get "struct own"
      objects[2] = k:object(own, DIRECT)
      objects[3] = objects[1]:cast_(own)
      objects[4] = k:var("init_task", program_types():get "struct own")
      objects[5] = require("ktstr.kernel.access").maker(k, program_types():get "struct own")(DIRECT + 0ULL)
      objects[6] = objects[1]:container_of_(program_types():get "struct own", "first")
    end
    k._typed_vars, k._objects = {}, {}
    collect()
    assert.equal(77, objects[1].flags)
    for i = 2, 6 do
      assert.equal(i == 4 and 0 or 77, objects[i].second)
    end
  end)
end)
