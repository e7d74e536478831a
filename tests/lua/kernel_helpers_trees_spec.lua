-- The kernel's index trees, made by hand: XArray, IDR, maple tree.
local fake_memory = require "tests.lua.fake_memory"
local support = require "tests.lua.support"

local _, library = support.library()
local errors = library "ktstr.errors"

local structs = {
  ["struct xarray"] = { xa_head = 8 },
  ["struct xa_node"] = { shift = 0, slots = { 40, 64 } },
  ["struct idr"] = { idr_rt = 0, idr_base = 16 },
  ["struct maple_tree"] = { ma_root = 8 },
  ["struct maple_range_64"] = { pivot = { 8, 15 }, slot = { 128, 16 }, ["meta.end"] = 248 },
  ["struct maple_arange_64"] = { pivot = { 8, 9 }, slot = { 80, 10 }, ["meta.end"] = 240 },
}
local access, memory = fake_memory.new(errors, structs)
package.loaded["ktstr.kernel.access"] = access
local idr = library "ktstr.kernel.idr"
local maple = library "ktstr.kernel.maple"
local xarray = library "ktstr.kernel.xarray"

-- "index=entry" of an iterator that yields two numbers; "first-last=entry" of three.
local function all(next)
  local found = {}
  local function text(value)
    return ("%x"):format(tonumber(value))
  end
  while true do
    local a, b, c = next()
    if not a then
      return found
    end
    found[#found + 1] = c and ("%s-%s=%s"):format(text(a), b > 2 ^ 60 and "end" or text(b), text(c))
      or ("%s=%s"):format(text(a), text(b))
  end
end

-- A node of an XArray: slots by number.
local function put_node(at, shift, slots)
  memory:put_bytes(at, string.char(shift, 0, 0, 0, 0, 0, 0, 0))
  for i = 0, 63 do
    memory:put(at + 40 + i * 8, slots[i] or 0)
  end
end

local ARRAY, K = 0x100, {}

describe("an XArray's entry", function()
  it("is told by its lowest bits", function()
    local function kind(entry)
      return (xarray.decode(entry + 0ULL))
    end
    assert.same({ "empty", "pointer", "value", "node", "internal", "internal" }, { kind(0),
      kind(0xffff888003c2a000ULL), kind(7), kind(0xffff888003c2a002ULL), kind(0x402), kind(0x6) })
    assert.equals(3ULL, select(2, xarray.decode(7ULL)))
    assert.equals(0xffff888003c2a000ULL, select(2, xarray.decode(0xffff888003c2a002ULL)))
  end)
end)

describe("k:xarray", function()
  it("yields the only entry, which has no node", function()
    memory:put(ARRAY + 8, 0x8000)
    assert.same({ "0=8000" }, all(xarray.xarray(nil, ARRAY)))
    assert.equals(0x8000, tonumber(xarray.xarray_find(nil, ARRAY, 0)))
    assert.is_nil(xarray.xarray_find(nil, ARRAY, 1))
    memory:put(ARRAY + 8, 0)
    assert.same({}, all(xarray.xarray(nil, ARRAY)))
    assert.is_nil(xarray.xarray_find(nil, ARRAY, 0))
  end)

  local function put_levels()
    memory:put(ARRAY + 8, 0x10002)
    put_node(0x10000, 12, { [0] = 0x11002, [2] = 0x12002 })
    put_node(0x11000, 6, { [0] = 0x13002, [63] = 0x14002 })
    put_node(0x12000, 6, { [1] = 0x15002 })
    put_node(0x13000, 0, { [0] = 0xa000, [1] = 0x402, [5] = 0xb000, [6] = 0x16, [7] = 0x16 })
    put_node(0x14000, 0, { [63] = 0x21 })
    put_node(0x15000, 0, { [2] = 0xc000 })
  end

  it("yields entries of several levels in the order of their indices", function()
    put_levels()
    -- 6 and 7 are siblings of 5; 1 is a retry entry; 0x21 is the value 0x10.
    assert.same({ "0=a000", "5=b000", "fff=10", "2042=c000" }, all(xarray.xarray(nil, ARRAY)))
  end)

  it("finds by index, through siblings, too", function()
    put_levels()
    local expected = { [0] = 0xa000, [1] = 0, [2] = 0, [5] = 0xb000, [6] = 0xb000, [7] = 0xb000, [8] = 0,
      [0xfff] = 0x10, [0x1000] = 0, [0x2042] = 0xc000, [0x40000] = 0, [0x7fffffffff] = 0 }
    for index, entry in pairs(expected) do
      assert.equals(entry, tonumber(xarray.xarray_find(nil, ARRAY, index) or 0), "index " .. index)
    end
  end)

  it("raises for nodes whose shift is not that of their place, which every circle has", function()
    put_levels()
    for _, target in ipairs { 0x10002, 0x11002, 0x12002, 0x13002 } do
      put_node(0x11000, 6, { [0] = target })
      if target ~= 0x13002 then
        local e = support.raised(all, xarray.xarray(nil, ARRAY))
        assert.equals("format", e.code)
        assert.matches("the xarray at 0x0000000000000100: a node has the shift", e.message)
        assert.matches("the shift", support.raised(xarray.xarray_find, nil, ARRAY, 0).message)
      end
    end
    put_node(0x13000, 0, { [0] = 0x13002 })
    assert.matches("a leaf has a node", support.raised(all, xarray.xarray(nil, ARRAY)).message)
    assert.matches("a leaf has a node", support.raised(xarray.xarray_find, nil, ARRAY, 0).message)
    put_node(0x10000, 66, {})
    assert.matches("the shift 66", support.raised(all, xarray.xarray(nil, ARRAY)).message)
  end)

  it("raises where a pointer leads nowhere", function()
    memory:put(ARRAY + 8, 0x7770002)
    local e = support.raised(all, xarray.xarray(nil, ARRAY))
    assert.equals("unmapped", e.code)
    assert.matches("the xarray at .* at 0x0000000007770000 after 1 steps", e.message)
  end)
end)

describe("k:idr", function()
  it("counts from its first id", function()
    memory:put(ARRAY + 8, 0x13002, 10)
    put_node(0x13000, 0, { [0] = 0xa000, [3] = 0xb000 })
    assert.same({ "a=a000", "d=b000" }, all(idr.idr(nil, ARRAY)))
    assert.equals(0xb000, tonumber(idr.idr_find(nil, ARRAY, 13)))
    assert.is_nil(idr.idr_find(nil, ARRAY, 9))
    assert.is_nil(idr.idr_find(nil, ARRAY, 14))
  end)
end)

local LEAF, RANGE, ALLOCATING = 1, 2, 3
local LAST = 0xffffffffffffffffULL

-- A node of a maple tree. slots = { { last index, entry }, ... }; full: the last pivot is in use, too.
local function put_maple(at, kind, slots, last)
  local allocating = kind == ALLOCATING
  local pivots = allocating and 9 or 15
  for i = 0, 31 do
    memory:put(at + i * 8, 0)
  end
  for i, slot in ipairs(slots) do
    if i <= pivots then
      memory:put(at + i * 8, slot[1])
    end
    memory:put(at + (pivots + i) * 8, slot[2])
  end
  if allocating or #slots < 15 then
    memory:put_bytes(at + (allocating and 240 or 248), string.char(last or #slots - 1, 0))
  end
  return at + kind * 8
end

describe("k:maple", function()
  local TREE = 0x100

  it("yields nothing, or the one entry of a tree without nodes", function()
    memory:put(TREE + 8, 0)
    assert.same({}, all(maple.maple(K, TREE)))
    memory:put(TREE + 8, 0xa000)
    assert.same({ "0-0=a000" }, all(maple.maple(K, TREE)))
  end)

  it("yields the ranges of a leaf that is not full, its gaps left out", function()
    local leaf = put_maple(0x10000, LEAF, { { 0xfff, 0 }, { 0x1fff, 0xa000 }, { 0x2fff, 0 },
      { 0x3fff, 0xb000 }, { 0x4fff, 0x402 }, { LAST, 0 } })
    memory:put(TREE + 8, leaf + 2)
    assert.same({ "1000-1fff=a000", "3000-3fff=b000" }, all(maple.maple(K, TREE)))
  end)

  it("yields those of a full one, and of one with a last pivot", function()
    for count = 14, 16 do
      local slots, expected = {}, {}
      for i = 1, count do
        slots[i] = { i == count and LAST or i * 16 - 1, 0xa000 + i * 0x100 }
        expected[i] = ("%x-%s=%x"):format((i - 1) * 16, i == count and "end" or ("%x"):format(i * 16 - 1),
          0xa000 + i * 0x100)
      end
      memory:put(TREE + 8, put_maple(0x10000, LEAF, slots) + 2)
      assert.same(expected, all(maple.maple(K, TREE)))
    end
  end)

  it("goes through inner nodes of both kinds", function()
    for _, kind in ipairs { RANGE, ALLOCATING } do
      local low = put_maple(0x10000, LEAF, { { 0xf, 0xa000 }, { 0xff, 0 } })
      local high = put_maple(0x11000, LEAF, { { 0x10f, 0 }, { 0x11f, 0xb000 }, { LAST, 0xc000 } })
      memory:put(TREE + 8, put_maple(0x12000, kind, { { 0xff, low }, { LAST, high } }) + 2)
      assert.same({ "0-f=a000", "110-11f=b000", "120-end=c000" }, all(maple.maple(K, TREE)))
    end
  end)

  it("raises for a tree that contains itself", function()
    local root = put_maple(0x12000, RANGE, { { 0xff, 0x12000 + RANGE * 8 }, { LAST, 0x12000 + RANGE * 8 } })
    memory:put(TREE + 8, root + 2)
    local e = support.raised(all, maple.maple(K, TREE))
    assert.equals("format", e.code)
    assert.matches("the maple tree at 0x0000000000000100: ", e.message)
  end)

  it("raises for unknown nodes, indices that go back, and impossible slots", function()
    memory:put(TREE + 8, 0x12000 + 7 * 8 + 2)
    assert.matches("has the type 7", support.raised(all, maple.maple(K, TREE)).message)
    local slots = { { 0xff, 0xa000 }, { 0xf, 0xb000 }, { LAST, 0xc000 } }
    memory:put(TREE + 8, put_maple(0x12000, LEAF, slots) + 2)
    assert.matches("do not ascend", support.raised(all, maple.maple(K, TREE)).message)
    memory:put(TREE + 8, put_maple(0x12000, LEAF, { { LAST, 0xa000 } }, 200) + 2)
    assert.matches("201 slots", support.raised(all, maple.maple(K, TREE)).message)
    memory:put(TREE + 8, 0x66000012)
    assert.equals("unmapped", support.raised(all, maple.maple(K, TREE)).code)
  end)
end)
