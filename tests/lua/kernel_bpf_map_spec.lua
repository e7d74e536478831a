-- BPF ring buffers made by hand: records that are there, lost, and cannot be.
local btf = require "tests.lua.btf"
local errors = require "ktstr.errors"
local fake_kernel = require "tests.lua.fake_kernel"
local types = require "ktstr.kernel.types"

local MAP, RING = fake_kernel.DIRECT + 0x1000, fake_kernel.DIRECT + 0x2000
local MASK, CONSUMER, PRODUCER, OVERWRITTEN, DATA = RING, RING + 8, RING + 16, RING + 24, RING + 32
local SIZE = 64

local function make_types()
  local b = btf.new()
  local char, u8 = b:int("char", 1, "signed"), b:int("unsigned char", 1)
  local u32, u64 = b:int("unsigned int", 4), b:int("unsigned long", 8)
  b.index = u32
  b:enum("bpf_map_type", 4, { { "BPF_MAP_TYPE_RINGBUF", 27 } })
  local ring = b:pointer(b:struct("bpf_ringbuf", 32, { { "mask", u64, 0 }, { "consumer_pos", u64, 64 },
    { "producer_pos", u64, 128 }, { "overwrite_pos", u64, 192 }, { "data", b:array(u8, 0), 256 } }))
  local map = b:struct("bpf_map", 48, { { "map_type", u32, 0 }, { "id", u32, 32 }, { "key_size", u32, 64 },
    { "value_size", u32, 96 }, { "max_entries", u32, 128 }, { "name", b:array(char, 16), 160 } })
  b:struct("bpf_ringbuf_map", 56, { { "map", map, 0 }, { "rb", ring, 384 } })
  return types.from_blob(b:blob())
end

describe("a BPF ring buffer", function()
  local fake, map

  -- Records of 8 bytes, which are 16 with their headers: at 0, 16, 32 and 48.
  before_each(function()
    fake = fake_kernel.new()
    fake.k._image.types = make_types()
    fake:put(MAP, "uint32_t", 27)
    fake:put_string(MAP + 20, "ring\0")
    fake:put(MAP + 48, "uint64_t", RING)
    fake:put(MASK, "uint64_t", SIZE - 1)
    fake:put(PRODUCER, "uint64_t", SIZE)
    for i = 0, 3 do
      fake:put(DATA + i * 16, "uint32_t", 8)
      fake:put_string(DATA + i * 16 + 8, ("record %d"):format(i))
    end
    map = require("ktstr.kernel.bpf_map").new(fake.k, fake.k:object("struct bpf_map", MAP))
  end)

  local function records()
    local list = {}
    for record in map:records() do
      list[#list + 1] = record:match "%d"
    end
    return table.concat(list, " ")
  end

  it("has what is produced and not consumed", function()
    assert.equal("0 1 2 3", records())
    fake:put(CONSUMER, "uint64_t", 16)
    assert.equal("1 2 3", records())
  end)

  it("that overwrites its oldest records begins behind them", function()
    fake:put(PRODUCER, "uint64_t", SIZE + 32)
    fake:put(OVERWRITTEN, "uint64_t", 32)
    assert.equal("2 3 0 1", records())
  end)

  it("whose positions cannot be is an error, and not empty", function()
    fake:put(PRODUCER, "uint64_t", SIZE + 32)
    local ok, e = pcall(records)
    assert.is_false(ok)
    assert.is_true(errors.is(e, "format"))
    assert.matches("has records from 0x0000000000000000 to 0x0000000000000060", e.message, 1, true)
  end)
end)

describe("types that a struct btf brings", function()
  local BTF, BASE, DATA_AT = MAP, MAP + 0x100, RING
  local program_types = require "ktstr.kernel.program_types"
  local fake, object

  -- A struct "own" of one member, a u32 of the kernel's.
  before_each(function()
    local b = btf.new()
    local char, u32, bool = b:int("char", 1, "signed"), b:int("unsigned int", 4), b:int("_Bool", 1, "bool")
    b.index = u32
    local void, name = b:pointer(0), b:array(char, 16)
    local base = b:pointer(b.count + 2)
    b:struct("btf", 64, { { "data", void, 0 }, { "base_btf", base, 64 }, { "data_size", u32, 128 },
      { "start_id", u32, 160 }, { "name", name, 192 }, { "kernel_btf", bool, 320 } })
    fake = fake_kernel.new()
    fake.k._image.types = types.from_blob(b:blob())
    local first = b.count + 1
    local split = btf.new(b)
    split:struct("own", 4, { { "member", u32, 0 } })
    local blob = split:blob()
    fake:put_string(DATA_AT, blob)
    fake:put(BTF, "uint64_t", DATA_AT)
    fake:put(BTF + 8, "uint64_t", BASE)
    fake:put(BTF + 16, "uint32_t", #blob)
    fake:put(BTF + 20, "uint32_t", first)
    fake:put_string(BTF + 24, "module\0")
    fake:put(BTF + 40, "uint8_t", 1)
    object = fake.k:object("struct btf", BTF)
  end)

  it("go on from the kernel's", function()
    local own = program_types(fake.k, object):get "struct own"
    assert.equal("unsigned int", own:member("member").type.name)
  end)

  it("are refused where they go on from others", function()
    for _, change in ipairs { { BTF + 20, "uint32_t", 3 }, { BASE + 8, "uint64_t", BTF } } do
      local before = fake:peek(change[1], change[2])
      fake:put(change[1], change[2], change[3])
      local ok, e = pcall(program_types, fake.k, object)
      assert.is_false(ok)
      assert.is_true(errors.is(e, "unsupported"), tostring(e))
      assert.matches("the types of 'module' go on from others than the kernel's", e.message, 1, true)
      fake:put(change[1], change[2], before)
    end
    assert.equal(4, program_types(fake.k, object):get("struct own").size)
  end)
end)
