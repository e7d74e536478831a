-- Numbers of 64 bits beside Lua's: by their value.
local support = require "tests.lua.support"

local _, load = support.library()
local exact = load "ktstr.exact"

local MAX_U64, MAX_S64, MIN_S64 = 18446744073709551615ULL, 9223372036854775807LL, -9223372036854775807LL - 1

describe("the order of numbers", function()
  -- Each less than the next.
  local ascending = {
    -math.huge, -2 ^ 64, MIN_S64, -2 ^ 62, -9007199254740993LL, -1, -0.5, 0ULL, 0.5, 5, 5.5, 6ULL, 2 ^ 53,
    9007199254740993ULL, 9007199254740994LL, 2 ^ 63 - 1024, MAX_S64, 2 ^ 63, 9223372036854775809ULL,
    MAX_U64, 2 ^ 64, math.huge,
  }

  it("is that of their values, whatever their types", function()
    for i, a in ipairs(ascending) do
      for j, b in ipairs(ascending) do
        local wanted = i < j and -1 or i == j and 0 or 1
        assert(exact.order(a, b) == wanted, ("%s beside %s"):format(tostring(a), tostring(b)))
      end
    end
  end)

  it("takes equal values of different types for equal", function()
    for _, list in ipairs {
      { 5, 5ULL, 5LL }, { 0, 0ULL, 0LL, -0 }, { -7, -7LL },
      { 2 ^ 53, 9007199254740992ULL, 9007199254740992LL },
      { 2 ^ 63, 9223372036854775808ULL }, { -2 ^ 63, MIN_S64 },
    } do
      for _, a in ipairs(list) do
        for _, b in ipairs(list) do
          assert.equals(0, math.abs(exact.order(a, b)))
        end
      end
    end
  end)

  it("has no place for NaN", function()
    for _, other in ipairs { 0, 5ULL, -5LL, 0 / 0 } do
      assert.is_nil(exact.order(0 / 0, other))
      assert.is_nil(exact.order(other, 0 / 0))
    end
  end)

  it("is of numbers: nothing else is one", function()
    for _, value in ipairs { "5", {}, true, io.stdout } do
      assert.is_false(exact.is(value))
    end
    assert.is_false(exact.is(nil))
    assert.is_true(exact.is(5) and exact.is(5ULL) and exact.is(-5LL) and exact.is(0 / 0))
  end)
end)

describe("a difference", function()
  local function is(wanted, a, b)
    assert.equals(wanted, exact.text(exact.difference(a, b)))
  end

  it("is signed, and exact beyond 2^53", function()
    is("-2", 5ULL, 7ULL)
    is("2", MAX_U64, MAX_U64 - 2)
    is("-2", MAX_U64 - 2, MAX_U64)
    is("9007199254740993", 9007199254740995ULL, 2)
    is("-9007199254740993", 2, 9007199254740995ULL)
    is("18446744073709551615", MAX_U64, 0)
    is("9223372036854775808", 0, MIN_S64)
    is("-9223372036854775808", MIN_S64, 0)
    is("3", 1ULL, -2)
    is("-3", -2LL, 1ULL)
    is("-0.5", 5, 5.5)
    is("0", MIN_S64, MIN_S64)
    is("6.5", 7ULL, 0.5)
    is("-6", 1ULL, 7)
    is("18446744073709551608", MAX_U64, 7)
    is("9223372036854775815", 7ULL, -2 ^ 63)
    is("-9223372036854775801", -2 ^ 63, -7LL)
    is("-1", MAX_U64, 2 ^ 64)
    is("2", 2 ^ 64, MAX_U64 - 1)
    is("2048", MIN_S64, -2 ^ 63 - 2048)
    is("-inf", MAX_U64, math.huge)
    is("inf", 0ULL, -math.huge)
  end)

  it("that has more than 64 bits is the nearest double", function()
    assert.equals(2 ^ 64 + 2 ^ 63, exact.difference(MAX_U64, MIN_S64))
    assert.equals(-2 ^ 64, exact.difference(0, MAX_U64))
    assert.equals(2 ^ 64, exact.difference(2 ^ 64, 7ULL))
    assert.equals(-1e30, exact.difference(7ULL, 1e30))
    assert.equals(2 ^ 63 + 0.0, exact.difference(9223372036854775808ULL, 0.5))
  end)

  it("of NaN is NaN", function()
    local d = exact.difference(5ULL, 0 / 0)
    assert.is_true(d ~= d)
  end)
end)

describe("nearness", function()
  it("includes both ends", function()
    assert.is_true(exact.is_near(1.1, 1, 0.1) and exact.is_near(0.9, 1, 0.1))
    assert.is_false(exact.is_near(1.1000001, 1, 0.1) or exact.is_near(0.8999999, 1, 0.1))
    assert.is_true(exact.is_near(9007199254740995ULL, 9007199254740993ULL, 2))
    assert.is_false(exact.is_near(9007199254740996ULL, 9007199254740993ULL, 2))
    assert.is_true(exact.is_near(MAX_U64, 2 ^ 64, 1) and exact.is_near(2 ^ 64, MAX_U64, 1))
    assert.is_false(exact.is_near(MAX_U64, 2 ^ 64, 0) or exact.is_near(2 ^ 64, MAX_U64, 0.5))
    assert.is_true(exact.is_near(2 ^ 60 + 2ULL, 2 ^ 60, 2) and exact.is_near(2 ^ 60, 2 ^ 60 + 2ULL, 2))
    assert.is_false(exact.is_near(2 ^ 60 + 2ULL, 2 ^ 60, 1) or exact.is_near(2 ^ 60, 2 ^ 60 + 2ULL, 1))
    assert.is_false(exact.is_near(0 / 0, 1, 5) or exact.is_near(0 / 0, 1ULL, 5))
  end)
end)

describe("a number's text", function()
  it("has all digits", function()
    assert.same({ "18446744073709551615", "-9223372036854775808", "5", "0.1", "0.30000000000000004", "NaN",
      "NaN", "inf" }, { exact.text(MAX_U64), exact.text(MIN_S64), exact.text(5), exact.text(0.1),
      exact.text(0.1 + 0.2), exact.text(0 / 0), exact.text(-(0 / 0)), exact.text(math.huge) })
  end)
end)
