-- What the helpers make of single values: states, masks, the arithmetic of the printk ring buffer.
local fake_memory = require "tests.lua.fake_memory"
local support = require "tests.lua.support"

local _, library = support.library()
local access = fake_memory.new(library "ktstr.errors", {})
package.loaded["ktstr.kernel.access"] = access
local clocks = library "ktstr.kernel.clocks"
local cpumask = library "ktstr.kernel.cpumask"
local printk = library "ktstr.kernel.printk"
local tasks = library "ktstr.kernel.tasks"

describe("a task's state", function()
  it("has the letter and the name that /proc prints", function()
    local expected = {
      { 0, 0, "R", "running" }, { 1, 0, "S", "sleeping" }, { 2, 0, "D", "disk sleep" },
      { 4, 0, "T", "stopped" }, { 8, 0, "t", "tracing stop" }, { 0x40, 0, "P", "parked" },
      { 0x402, 0, "I", "idle" },
      { 0x80, 0x20, "Z", "zombie" }, { 0x80, 0x10, "X", "dead" }, { 0x80, 0x30, "Z", "zombie" },
      { 0x102, 0, "D", "disk sleep" }, { 0x2001, 0, "S", "sleeping" }, { 0x1000, 0, "D", "disk sleep" },
      { 0x8000, 0, "D", "disk sleep" }, { 0x200, 0, "R", "running" },
    }
    for _, e in ipairs(expected) do
      assert.same({ e[3], e[4] }, { tasks.decode_state(e[1], e[2]) }, ("state 0x%x 0x%x"):format(e[1], e[2]))
    end
  end)
end)

describe("a mask of CPUs", function()
  it("is a list of numbers that prints as the kernel does", function()
    local cpus = cpumask.decode("\255\129\0\1", 32)
    assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 24 }, { unpack(cpus) })
    assert.equals("0-8,15,24", tostring(cpus))
    assert.is_true(cpus:has(15))
    assert.is_false(cpus:has(9))
  end)

  it("ends at the number of possible CPUs", function()
    assert.equals("0-9", tostring(cpumask.decode("\255\255", 10)))
    assert.equals("", tostring(cpumask.decode("\0", 8)))
  end)

  it("is as long as its type in a kernel whose number of CPUs is fixed", function()
    function access.global_u32() end
    function access.size() return 8 end
    local k = { read = function(_, _, size)
      return ("\1" .. ("\0"):rep(7) .. ("\255"):rep(size)):sub(1, size)
    end }
    assert.equals("0", tostring(cpumask.cpumask(k, 0x1000)))
  end)
end)

describe("the clocks", function()
  -- Those of a kernel whose sequence counter has so many bytes.
  local function monotonic(size)
    local expected = 0x1000 + math.ceil(size / 8) * 8
    function access.has_symbol() return false end
    function access.has_type() return true end
    function access.size() return size end
    function access.symbol() return 0x1000ULL end
    function access.signed(value) return tonumber(value) end
    function access.object(_, _, at)
      return at == expected + 0ULL and { tkr_mono = { base = 5, xtime_nsec = 48, shift = 4 }, offs_boot = 1,
        offs_real = -2 }
    end
    return clocks.clocks {}
  end

  it("lie behind a sequence counter of any size", function()
    assert.same({ monotonic = 8, boottime = 9, realtime = 6 }, monotonic(4))
    assert.same({ monotonic = 8, boottime = 9, realtime = 6 }, monotonic(72))
  end)
end)

describe("the printk ring buffer", function()
  it("tells a descriptor's state, and whose it is", function()
    for state = 0, 3 do
      assert.equals(state, printk.state(bit.lshift(state + 0ULL, 62) + 77, 77ULL))
      assert.is_nil(printk.state(bit.lshift(state + 0ULL, 62) + 77, 78ULL))
    end
    -- Ids begin close below the states' bits, so that they wrap early.
    assert.equals(0ULL, printk.next_id(0x3fffffffffffffffULL))
    assert.equals(8ULL, printk.next_id(7ULL))
  end)

  it("finds a block in its ring", function()
    local bits = 10 -- 1024 bytes
    assert.same({ 0, 8 }, { printk.block(0ULL, 16ULL, bits) })
    assert.same({ 24, 32 }, { printk.block(1024ULL + 24, 1024ULL + 64, bits) })
    -- Up to the end exactly: not wrapped.
    assert.same({ 1000, 16 }, { printk.block(1000ULL, 1024ULL, bits) })
    -- It would cross the end: it lies at the beginning.
    assert.same({ 0, 40 }, { printk.block(1000ULL, 1024ULL + 48, bits) })
    -- As the ring begins: lpos close to the largest number.
    assert.same({ 992, 24 }, { printk.block(-32LL + 0ULL, 0ULL, bits) })
  end)

  it("knows empty lines and lost text", function()
    assert.same({ 0, 0 }, { printk.block(3ULL, 3ULL, 10) })
    assert.is_nil((printk.block(1ULL, 1ULL, 10)))
  end)

  it("believes no block that cannot be", function()
    assert.is_nil((printk.block(0ULL, 0ULL, 10))) -- empty
    assert.is_nil((printk.block(0ULL, 8ULL, 10))) -- no text
    assert.is_nil((printk.block(0ULL, 20ULL, 10))) -- not aligned
    assert.is_nil((printk.block(64ULL, 32ULL, 10))) -- backwards
    assert.is_nil((printk.block(0ULL, 4096ULL, 10))) -- several times around
  end)

  it("writes times and lines as dmesg does", function()
    assert.equals("[    0.000000] ", printk.time(0))
    assert.equals("[   12.345678] ", printk.time(12345678999))
    assert.equals("[123456.000001] ", printk.time(123456000001000ULL))
    assert.equals("[    1.500000] one\n[    1.500000] \n[    1.500000] two",
      printk.format { time = 1500000000, text = "one\n\ntwo" })
  end)

  it("says who printed", function()
    assert.equals("T1", printk.caller(1))
    assert.equals("C3", printk.caller(0x80000003))
  end)
end)
