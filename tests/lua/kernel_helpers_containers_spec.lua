-- Walks over linked memory, made by hand: what they yield, and that damage ends them.
local fake_memory = require "tests.lua.fake_memory"
local support = require "tests.lua.support"

local _, library = support.library()
local errors = library "ktstr.errors"

local structs = {
  ["struct item"] = { node = 0x10, rb = 0x20, hash = 0x30 },
  ["struct rhashtable"] = { tbl = 0, rhlist = 8 },
  ["struct bucket_table"] = { size = 0, nest = 4, future_tbl = 0x20, buckets = 0x40 },
}
local access, memory = fake_memory.new(errors, structs)
package.loaded["ktstr.kernel.access"] = access
local containers = library "ktstr.kernel.containers"
local rbtree = library "ktstr.kernel.rbtree"
local rhashtable = library "ktstr.kernel.rhashtable"
local walk = library "ktstr.kernel.walk"

-- What an iterator yields, as numbers.
local function all(next)
  local found = {}
  for at in next do
    found[#found + 1] = tonumber(at)
  end
  return found
end

local function raised(next)
  return support.raised(all, next)
end

describe("k:list", function()
  it("yields what contains the nodes", function()
    memory:put(0x100, 0x1010)
    memory:put(0x1010, 0x2010)
    memory:put(0x2010, 0x100)
    assert.same({ 0x1000, 0x2000 }, all(containers.list(nil, 0x100, "struct item", "node")))
  end)

  it("is over at once where the head leads to itself", function()
    memory:put(0x100, 0x100)
    assert.same({}, all(containers.list(nil, 0x100, "struct item", "node")))
  end)

  it("raises for a circle that does not come back to the head, whatever its length", function()
    for length = 1, 20 do
      for entry = 1, length do
        memory:put(0x100, 0x1000)
        for i = 1, length do
          memory:put(0x1000 * i, 0x1000 * (i < length and i + 1 or entry))
        end
        local e = raised(containers.list(nil, 0x100, "struct item", "node"))
        assert.equals("format", e.code)
        assert.matches("the list of struct item%.node at 0x0000000000000100: runs in a circle, at 0x%x+ "
          .. "after %d+ steps", e.message)
        assert.is_true(tonumber(e.message:match "after (%d+) steps") <= 3 * length + 3)
      end
    end
  end)

  it("raises where a pointer leads nowhere, with the steps so far", function()
    memory:put(0x100, 0x1000)
    memory:put(0x1000, 0x2000)
    memory:put(0x2000, 0xdead000000000100ULL)
    local e = raised(containers.list(nil, 0x100, "struct item", "node"))
    assert.equals("unmapped", e.code)
    assert.matches("the list of struct item%.node at 0x0000000000000100: no page maps 0xdead000000000100, "
      .. "at 0xdead000000000100 after 3 steps", e.message)
  end)

  it("raises for a NULL, which a list has nowhere", function()
    memory:put(0x100, 0x1010)
    memory:put(0x1010, 0)
    assert.matches("the list of .*: leads to NULL, at 0x0000000000000000 after 2 steps",
      raised(containers.list(nil, 0x100, "struct item", "node")).message)
  end)

  it("raises for one that never ends", function()
    finally(function() walk.LIMIT = 2 ^ 20 end)
    walk.LIMIT = 50
    memory:put(0x100, 0x10000)
    for i = 0, 100 do
      memory:put(0x10000 + i * 16, 0x10000 + (i + 1) * 16)
    end
    local e = raised(containers.list(nil, 0x100, "struct item", "node"))
    assert.matches("does not end, at 0x%x+ after 51 steps", e.message)
  end)
end)

describe("k:hlist and k:llist", function()
  it("end at NULL, an hlist at an odd pointer, too", function()
    memory:put(0x100, 0x1010)
    memory:put(0x1010, 0x2010)
    memory:put(0x2010, 0)
    assert.same({ 0x1000, 0x2000 }, all(containers.hlist(nil, 0x100, "struct item", "node")))
    assert.same({ 0x1000, 0x2000 }, all(containers.llist(nil, 0x100, "struct item", "node")))
    memory:put(0x2010, 0x21)
    assert.same({ 0x1000, 0x2000 }, all(containers.hlist(nil, 0x100, "struct item", "node")))
  end)

  it("raise for a circle", function()
    memory:put(0x100, 0x1010)
    memory:put(0x1010, 0x2010)
    memory:put(0x2010, 0x1010)
    assert.matches("hlist of .* circle", raised(containers.hlist(nil, 0x100, "struct item", "node")).message)
    assert.matches("llist of .* circle", raised(containers.llist(nil, 0x100, "struct item", "node")).message)
  end)
end)

-- A node: parent with colour, right, left.
local function put_node(at, parent, left, right)
  memory:put(at, parent + 1, right, left)
end

-- A balanced tree of the numbers first to last: node n lies at 0x1000 * n + 0x20. Returns its root.
local function put_tree(first, last, parent)
  if first > last then
    return 0
  end
  local middle = math.floor((first + last) / 2)
  local at = 0x1000 * middle + 0x20
  put_node(at, parent, put_tree(first, middle - 1, at), put_tree(middle + 1, last, at))
  return at
end

describe("k:rbtree", function()
  it("yields the nodes in order, of trees of every size", function()
    for size = 0, 40 do
      memory:put(0x100, put_tree(1, size, 0))
      local expected = {}
      for i = 1, size do
        expected[i] = 0x1000 * i
      end
      assert.same(expected, all(rbtree.rbtree(nil, 0x100, "struct item", "rb")))
    end
  end)

  it("raises for a node that is not its parent's child, so for every circle", function()
    for changed = 1, 15 do
      for target = 1, 15 do
        local root = put_tree(1, 15, 0)
        memory:put(0x100, root)
        local at, to = 0x1000 * changed + 0x20, 0x1000 * target + 0x20
        local left = access.word(nil, at + 16)
        memory:put(at + 16, to)
        local ok, e = pcall(all, rbtree.rbtree(nil, 0x100, "struct item", "rb"))
        if left == to then
          assert.is_true(ok)
        elseif not ok then
          assert.equals("format", e.code)
          assert.matches("the tree of struct item%.rb at 0x0000000000000100: a node is not its parent's "
            .. "child", e.message)
        else
          -- The child on the right, as the one on the left, too: the parent is right.
          assert.equals(to, tonumber(access.word(nil, at + 8)))
        end
      end
    end
  end)

  it("raises where a pointer leads nowhere", function()
    memory:put(0x100, put_tree(1, 7, 0))
    memory:put(0x7020 + 8, 0x66660000)
    local e = raised(rbtree.rbtree(nil, 0x100, "struct item", "rb"))
    assert.equals("unmapped", e.code)
    assert.matches("the tree of struct item%.rb .* at 0x0000000066660000 after 8 steps", e.message)
  end)
end)

describe("k:rhashtable", function()
  local function put_table(at, size, nest, future)
    memory:put_bytes(at, string.char(size, 0, 0, 0, nest, 0, 0, 0))
    memory:put(at + 0x20, future)
  end

  it("yields what is in all buckets, and in the table that a resize fills", function()
    memory:put(0x100, 0x400, 0)
    put_table(0x400, 4, 0, 0x800)
    memory:put(0x440, 0, 0x1031, 0, 0x3030) -- locked: bit 0
    memory:put(0x1030, 0x2030)
    memory:put(0x2030, 0x1234567)
    memory:put(0x3030, 0x1)
    put_table(0x800, 2, 0, 0)
    memory:put(0x840, 0x4030, 0)
    memory:put(0x4030, 0x1)
    assert.same({ 0x1000, 0x2000, 0x3000, 0x4000 },
      all(rhashtable.rhashtable(nil, 0x100, "struct item", "hash")))
  end)

  it("finds the buckets of nested pages, and does without pages that are missing", function()
    memory:put(0x100, 0x400, 0)
    -- 8 buckets in 2 pages: bucket h is entry h >> 1 of page h & 1.
    put_table(0x400, 8, 1, 0)
    memory:put(0x440, 0x500)
    memory:put(0x500, 0x600, 0)
    memory:put(0x600, 0, 0x1030, 0, 0x2030)
    memory:put(0x1030, 0x1)
    memory:put(0x2030, 0x1)
    assert.same({ 0x1000, 0x2000 }, all(rhashtable.rhashtable(nil, 0x100, "struct item", "hash")))
  end)

  it("yields those with the same key of a list of lists", function()
    memory:put(0x100, 0x400, 1)
    put_table(0x400, 1, 0, 0)
    memory:put(0x440, 0x1030)
    memory:put(0x1030, 0x3030, 0x2030)
    memory:put(0x2030, 0x9999, 0)
    memory:put(0x3030, 0x1, 0)
    assert.same({ 0x1000, 0x2000, 0x3000 }, all(rhashtable.rhashtable(nil, 0x100, "struct item", "hash")))
  end)

  it("raises for circles of elements and of tables, and for an absurd size", function()
    memory:put(0x100, 0x400, 0)
    put_table(0x400, 1, 0, 0)
    memory:put(0x440, 0x1030)
    memory:put(0x1030, 0x2030)
    memory:put(0x2030, 0x1030)
    assert.matches("circle", raised(rhashtable.rhashtable(nil, 0x100, "struct item", "hash")).message)
    memory:put(0x440, 0)
    memory:put(0x420, 0x400)
    assert.matches("circle", raised(rhashtable.rhashtable(nil, 0x100, "struct item", "hash")).message)
    memory:put_bytes(0x400, "\0\0\0\255")
    assert.matches("buckets", raised(function()
      return rhashtable.rhashtable(nil, 0x100, "struct item", "hash")()
    end).message)
  end)
end)
