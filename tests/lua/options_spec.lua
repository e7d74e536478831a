local support = require "tests.lua.support"

local _, load = support.library()
local nearest = load "ktstr.nearest"
local options = load "ktstr.options"
local raised = support.raised
local size = load "ktstr.size"

describe("the nearest name", function()
  it("is found in spite of a slip of the finger", function()
    local known = { "topology", "timeout", "memory", "modules" }
    assert.equals("topology", nearest.find("topolgy", known))
    assert.equals("timeout", nearest.find("tiemout", known))
    assert.equals("memory", nearest.find("Memroy", known))
  end)

  it("is not guessed when nothing is near", function()
    assert.is_nil(nearest.find("xyzzy", { "topology", "memory" }))
    assert.equals("known: a1, b2", nearest.hint("something else", { "b2", "a1" }))
  end)

  it("counts a transposition as one change", function()
    assert.equals(1, nearest.distance("ab", "ba"))
    assert.equals(3, nearest.distance("kitten", "sitting"))
    assert.equals(4, nearest.distance("", "four"))
  end)
end)

describe("an option table", function()
  local rules = {
    count = { "number", min = 1, max = 10, integer = true },
    name = { "string", required = true },
    kind = { "string", one_of = { "red", "green" } },
    limit = { "number|boolean" },
    later = { "any", unsupported = "it comes later" },
  }

  local function problem(given)
    local e = raised(options.check, "thing", given, rules)
    assert.is_true(e.cannot_run)
    return tostring(e)
  end

  it("passes when all is as it should be", function()
    local given = { count = 3, name = "x", kind = "red", limit = false }
    assert.equals(given, options.check("thing", given, rules))
  end)

  it("names the option that was probably meant", function()
    assert.equals("thing: unknown option 'cuont'; did you mean 'count'?", problem { name = "x", cuont = 1 })
  end)

  it("refuses wrong types, ranges and values", function()
    assert.equals("thing: option 'count' must be a number, not '3'", problem { name = "x", count = "3" })
    assert.equals("thing: option 'count' must be 1 to 10, not 11", problem { name = "x", count = 11 })
    assert.equals("thing: option 'count' must be a whole number, not 2.5",
      problem { name = "x", count = 2.5 })
    assert.matches("must be a number, not %-?nan", problem { name = "x", count = 0 / 0 })
    assert.equals("thing: option 'kind' cannot be 'gren'; did you mean 'green'?",
      problem { name = "x", kind = "gren" })
    assert.equals("thing: option 'limit' must be a number or boolean, not 'no'",
      problem { name = "x", limit = "no" })
  end)

  it("says what is missing, and what is not here yet", function()
    assert.equals("thing: option 'name' is missing", problem {})
    assert.equals("thing: option 'later' is not supported: it comes later", problem { name = "x", later = 1 })
  end)

  it("refuses values without a name unless a list is wanted", function()
    assert.matches("unknown option '1'", problem { "stray", name = "x" })
    assert.is_table(options.check("thing", { "stray" }, { list = true }))
  end)

  it("refuses what is no table", function()
    assert.equals("thing wants a table of options, not 'x'", problem "x")
  end)
end)

describe("a size", function()
  it("is read with its unit", function()
    assert.equals(768 * 2 ^ 20, size.parse("768M", "memory"))
    assert.equals(2 * 2 ^ 30, size.parse("2GiB", "memory"))
    assert.equals(1.5 * 2 ^ 30, size.parse("1.5g", "memory"))
    assert.equals(4096, size.parse(4096, "memory"))
  end)

  it("is refused with a hint when it is none", function()
    for _, bad in ipairs { "12Q", "", "M", "-5M", "0", 0, -1, 0.5, "1e3", "5 M x" } do
      assert.matches("^memory is not a size: '.*'; write a number with K, M, G or T",
        tostring(raised(size.parse, bad, "memory")))
    end
  end)

  it("is shown with the largest unit", function()
    assert.equals("768 MiB", size.format(768 * 2 ^ 20))
    assert.equals("1.5 GiB", size.format(1.5 * 2 ^ 30))
    assert.equals("12 bytes", size.format(12))
  end)
end)
