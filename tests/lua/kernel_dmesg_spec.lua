-- The kernel's log over a ring buffer made by hand: what is not there does not hide what is.
local btf = require "tests.lua.btf"
local fake_kernel = require "tests.lua.fake_kernel"
local types = require "ktstr.kernel.types"

local DIRECT, IMAGE = fake_kernel.DIRECT, fake_kernel.IMAGE
local RING, DESCRIPTORS, INFOS, TEXT = DIRECT + 0x1000, DIRECT + 0x2000, DIRECT + 0x3000, DIRECT + 0x4000
local COUNT_BITS, SIZE_BITS = 3, 9
local SLOT = 32 -- bytes of the text ring for each record
local RESERVED, COMMITTED, FINALIZED = 0, 1, 2

local function make_types()
  local b = btf.new()
  local char, u8 = b:int("char", 1, "signed"), b:int("unsigned char", 1)
  local u16, u32, u64 = b:int("unsigned short", 2), b:int("unsigned int", 4), b:int("unsigned long", 8)
  b.index = u32
  local desc = b:pointer(b:struct("prb_desc", 24, { { "state_var", u64, 0 }, { "text_blk_lpos", u64, 64 } }))
  local device = b:struct("dev_printk_info", 16, { { "subsystem", b:array(char, 8), 0 },
    { "device", b:array(char, 8), 64 } })
  local info = b:pointer(b:struct("printk_info", 48, { { "seq", u64, 0 }, { "ts_nsec", u64, 64 },
    { "text_len", u16, 128 }, { "facility", u8, 144 }, { "level", u8, 152 }, { "caller_id", u32, 160 },
    { "dev_info", device, 192 } }))
  local descriptors = b:struct("prb_desc_ring", 40, { { "count_bits", u32, 0 }, { "descs", desc, 64 },
    { "infos", info, 128 }, { "head_id", u64, 192 }, { "tail_id", u64, 256 } })
  local data = b:struct("prb_data_ring", 16, { { "size_bits", u32, 0 }, { "data", b:pointer(char), 64 } })
  b:struct("printk_ringbuffer", 56, { { "desc_ring", descriptors, 0 }, { "text_data_ring", data, 320 } })
  return types.from_blob(b:blob())
end

describe("the kernel's log", function()
  local fake

  -- A record in its place; its text is "record ID".
  local function put(id, state)
    local index = id % 2 ^ COUNT_BITS
    local text = ("record %d"):format(id)
    fake:put(DESCRIPTORS + index * 24, "uint64_t", bit.bor(id + 0ULL, bit.lshift(state + 0ULL, 62)))
    fake:put(DESCRIPTORS + index * 24 + 8, "uint64_t", index * SLOT)
    fake:put(DESCRIPTORS + index * 24 + 16, "uint64_t", (index + 1) * SLOT)
    fake:put(INFOS + index * 48, "uint64_t", id)
    fake:put(INFOS + index * 48 + 16, "uint16_t", #text)
    fake:put(TEXT + index * SLOT, "uint64_t", id)
    fake:put_string(TEXT + index * SLOT + 8, text)
  end

  local function texts()
    local list = {}
    for record in fake.k:printk_records() do
      list[#list + 1] = tonumber(record.text:match "%d+")
    end
    return list
  end

  before_each(function()
    fake = fake_kernel.new()
    fake.k._image.types = make_types()
    fake.k._image.symbols = { find = function(_, name)
      return name == "prb" and { { name = "prb", address = IMAGE + 0x2000, kind = "d", moves = false } } or {}
    end }
    fake:put(IMAGE + 0x2000, "uint64_t", RING)
    fake:put(RING, "uint32_t", COUNT_BITS)
    fake:put(RING + 8, "uint64_t", DESCRIPTORS)
    fake:put(RING + 16, "uint64_t", INFOS)
    fake:put(RING + 40, "uint32_t", SIZE_BITS)
    fake:put(RING + 48, "uint64_t", TEXT)
    fake:put(RING + 24, "uint64_t", 14) -- the last
    fake:put(RING + 32, "uint64_t", 10) -- the first
    for id = 10, 14 do
      put(id, FINALIZED)
    end
  end)

  it("has every record, the oldest first", function()
    assert.same({ 10, 11, 12, 13, 14 }, texts())
  end)

  it("goes on behind a record that a CPU never finished", function()
    put(11, RESERVED)
    put(13, COMMITTED)
    assert.same({ 10, 12, 14 }, texts())
  end)

  it("goes on behind records whose places others have taken since", function()
    put(18, FINALIZED)
    put(19, FINALIZED)
    assert.same({ 12, 13, 14 }, texts())
  end)
end)
