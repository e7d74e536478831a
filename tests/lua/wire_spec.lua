-- core.wire: attributes as they go out, and as they come back.
local core = require "ktstr.core"

local wire = core.wire

local function refused(attribute, value, words)
  local ok, e = pcall(wire.pack, { { attribute, value } })
  assert.is_false(ok)
  assert.equals("invalid", e.code)
  assert.is_truthy(e.message:find(words, 1, true), e.message)
end

describe("attributes", function()
  it("come back as they went", function()
    local list = {
      { "ARG", "hello" },
      { "ARG", "" },
      { "PID", 4294967295 },
      { "NICE", -20 },
      { "LENGTH", 2 ^ 53 },
      { "HAS_STDIN", true },
      { "PARAM", { 3, 99 } },
      { "RUN_ID", ("0f"):rep(16) },
    }
    assert.same(list, wire.unpack(wire.pack(list)))
  end)

  it("hold a time of day in nanoseconds, to the microsecond", function()
    local now = 1800000000123456789
    local back = wire.unpack(wire.pack { { "REALTIME_NS", now } })[1][2]
    assert.is_true(math.abs(back - now) < 1000)
  end)

  it("hold the bytes of an array", function()
    local bytes = "\1\0\0\0\0\0\0\0" .. "\0\1\0\0\0\0\0\0"
    assert.same({ { "ENTROPY", { 1, 256 } } }, wire.unpack(wire.pack { { "ENTROPY", bytes } }))
    assert.same({ { "ENTROPY", {} } }, wire.unpack(wire.pack { { "ENTROPY", "" } }))
  end)

  it("hold any eight bytes of a number, and any bytes of data", function()
    assert.same({ { "VALUE", 2 ^ 63 } }, wire.unpack(wire.pack { { "VALUE", ("\0"):rep(7) .. "\128" } }))
    assert.equals("\12\0\49\0\1\2\3\4\5\6\7\8", wire.pack { { "SIGNED", "\1\2\3\4\5\6\7\8" } })
    assert.same({ { "DATA", "a\0b" } }, wire.unpack(wire.pack { { "DATA", "a\0b" } }))
    refused("DATA", {}, "DATA takes a string")
    refused("VALUE", "seven b", "VALUE takes a number")
  end)

  it("refuse a value of another kind", function()
    refused("PID", -1, "PID takes a number from 0 to 4294967295")
    refused("PID", "many", "PID takes a number")
    refused("REALTIME_NS", 1e19, "REALTIME_NS takes a number")
    refused("REALTIME_NS", -1, "REALTIME_NS takes a number")
    refused("REALTIME_NS", 0 / 0, "REALTIME_NS takes a number")
    refused("ENTROPY", "1234567", "ENTROPY takes a string of 8 bytes an element")
    refused("ENTROPY", 12345678, "ENTROPY takes a string")
    refused("ENTROPY", {}, "ENTROPY takes a string")
    refused("RUN_ID", "a\0b", "RUN_ID takes a string without NULs")
    refused("NO_SUCH", 1, "there is no attribute NO_SUCH")
  end)
end)

describe("a hello", function()
  it("has a run's id where the machine was restored", function()
    local attributes = { { "VERSION", 1 }, { "RELEASE", "7.3" }, { "PID", 1 } }
    local hello = wire.decode(wire.MSG_SYS_RDY, wire.pack(attributes))
    assert.same({ version = 1, release = "7.3", pid = 1 }, hello)
    attributes[4] = { "RUN_ID", "abc" }
    assert.equals("abc", wire.decode(wire.MSG_SYS_RDY, wire.pack(attributes)).run_id)
  end)
end)
