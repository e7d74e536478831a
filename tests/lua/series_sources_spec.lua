-- Where a series comes from, what is missing in it, its phases, and how its statements reach a test: through
-- t:expect and through luassert.
local support = require "tests.lua.support"
local words = require "tests.lua.words"

local says = words.mentions

local _, load = support.library()
local errors = load "ktstr.errors"
local expect = load "ktstr.expect"
local raised = support.raised
local report = load "ktstr.report"
local series = load "ktstr.series"

local NAN = 0 / 0

-- A record: its values by path; what is not among them is not there.
local function record(by_path, code)
  return {
    by_path = by_path,
    get = function(self, path)
      if self.by_path[path] == nil then
        errors.raise(code or "not-found", ("the record has no '%s'"):format(path), "it has: a, b")
      end
      return self.by_path[path]
    end,
  }
end

local function capture(i, by_path, fields)
  local one = { tag = ("periodic_%03d"):format(i), elapsed_ms = 100 * i, source = "periodic",
    record = by_path and record(by_path) }
  for name, value in pairs(fields or {}) do
    one[name] = value
  end
  return one
end

local function plain(s)
  local list = {}
  for i, sample in ipairs(s) do
    list[i] = { sample.elapsed, sample.value }
  end
  return list
end

local function refused(...)
  local e = raised(...)
  assert(errors.is(e, "invalid"), tostring(e))
  return e
end

describe("a series of captures", function()
  it("has what a path of their records gives, with tag and time", function()
    local s = series.new({ capture(1, { a = 5 }), capture(2, { a = 7 }) }, "a")
    assert.same({ { 0.1, 5 }, { 0.2, 7 } }, plain(s))
    assert.same({ "periodic_001", 1, "a", 0 }, { s[1].tag, s[1].number, s.name, s.missing })
  end)

  it("has what a function gives, of the record or of the capture itself", function()
    local function of_a(one)
      return one:get "a" * 2
    end
    local itself = record { a = 7 }
    itself.elapsed_ms = 200
    local s = series.new({ capture(1, { a = 5 }), itself }, of_a, "double a")
    assert.same({ { 0.1, 10 }, { 0.2, 14 } }, plain(s))
    assert.equals("double a", s.name)
    assert.same({ { 0.2, 7 } }, plain(series.new({ itself }, "a")))
  end)

  it("keeps one that timed out as missing, with its reason", function()
    local s = series.new({ capture(1, { a = 5 }), capture(2, nil, { reason = "vCPU 1 did not stop" }) }, "a")
    assert.same({ { 0.1, 5 } }, plain(s))
    assert.same({ 1, 2, "periodic_002", "vCPU 1 did not stop" },
      { s.missing, s.gaps[1].number, s.gaps[1].tag, s.gaps[1].reason })
    assert.equals(2, #s.all)
  end)

  it("never takes a placeholder for data, whatever it carries", function()
    local s = series.new({ capture(1, { a = 5 }, { reason = "it timed out" }) }, "a")
    assert.same({ 0, 1 }, { #s, s.missing })
  end)

  it("keeps as missing what a record has not, with the accessor's words", function()
    local s = series.new({ capture(1, { b = 5 }), capture(2, nil, { record = record({}, "null") }),
      capture(3, nil, { record = record({}, "unmapped") }) }, "a")
    assert.equals(3, s.missing)
    says(s.gaps[1].reason, "the record has no 'a'", "it has: a, b")
    local holds, finding = s:nondecreasing()
    assert.is_false(holds)
    says(finding, "the record has no 'a'")
  end)

  it("keeps as missing what a function has no value for", function()
    local s = series.new({ capture(1, {}), capture(2, {}), capture(3) }, function(one)
      if one.by_path then
        return nil, one.elapsed_ms == nil and "nothing ran"
      end
    end)
    assert.same({ "nothing ran", "nothing ran", "it has no value" },
      { s.gaps[1].reason, s.gaps[2].reason, s.gaps[3].reason })
    assert.equals("it has no record", series.new({ capture(1) }, "a").gaps[1].reason)
  end)

  it("raises a mistake in a path or function as it is", function()
    local list = { capture(1, nil, { record = record({}, "invalid") }) }
    assert.equals("invalid", raised(series.new, list, "a").code)
    says(raised(series.new, list, function(one)
      return one.nothing.at_all
    end), "attempt to index")
  end)

  it("can be of one source only, and says what was left out", function()
    local list = { capture(1, { a = 1 }), capture(2, { a = 9 }, { source = "watch" }), capture(3, { a = 2 }) }
    assert.same({ { 0.1, 1 }, { 0.3, 2 } }, plain(series.new(list, "a", { source = "periodic" })))
    local _, finding = series.new(list, "a", { source = "perodic" }):nondecreasing()
    assert.equals("inconclusive", finding.status)
    says(finding, "3 of 3 are not of the source 'perodic'")
    _, finding = series.new(list, "a", { source = "watch" }):nondecreasing()
    says(finding, "is 1 among 1; 2 of 3 are not of the source 'watch'")
    _, finding = series.new({ list[1] }, "a", { source = "periodic" }):nondecreasing()
    assert.is_nil(tostring(finding):find("of the source", 1, true))
  end)

  it("wants no field for a list, whose values would all be missing", function()
    says(refused(series.new, { { 1, 5 } }, "a name"), "takes no field 'a name'", "comes third")
    says(refused(series.new, { { elapsed = 1, value = false } }, "a"), "takes no field 'a'")
    assert.equals("a name", series.new({ { 1, 5 } }, nil, "a name").name)
  end)

  it("wants a field", function()
    says(refused(series.new, { capture(1, { a = 5 }) }), "wants a field")
    refused(series.new, { capture(1, { a = 5 }) }, 5)
    says(refused(series.new, {}, "a", { nmae = "a" }), "did you mean 'name'?")
  end)
end)

describe("a series of a list", function()
  it("takes { seconds, value }, and tables with names", function()
    assert.same({ { 0.1, 5 }, { 0.2, 7 }, { 0.3, 8 }, { 0.4, false } },
      plain(series.new { { 0.1, 5 }, { elapsed = 0.2, value = 7 }, { time = 0.3, value = 8 },
        { 0.4, false } }))
    local s = series.new { { 0.1 }, { 0.2, reason = "busy" } }
    assert.same({ "it has no value", "busy" }, { s.gaps[1].reason, s.gaps[2].reason })
  end)

  it("is in order of time, those of one moment as they were given", function()
    local s = series.new { { 3, "d" }, { 1, "a" }, { 2, "b" }, { 2, "c" } }
    assert.same({ { 1, "a" }, { 2, "b" }, { 2, "c" }, { 3, "d" } }, plain(s))
    assert.equals(4, s[4].number)
    local list = { { 3, 1 } }
    for i = 2, 50 do
      list[i] = { 2, i }
    end
    for i, sample in ipairs(series.new(list)) do
      assert.equals(i < 50 and i + 1 or 1, sample.value)
    end
  end)

  it("keeps apart the lives of a machine", function()
    local s = series.new { { 2, "b", epoch = 7 }, { 1, "a", epoch = 7 }, { 1.5, "c", epoch = 3 } }
    assert.same({ { 1, "a" }, { 2, "b" }, { 1.5, "c" } }, plain(s))
  end)

  it("refuses what has no time, and what is no list", function()
    says(refused(series.new, { { 1, 5 }, { value = 5 } }), "sample 2 has no time")
    for _, time in ipairs { NAN, math.huge, "1" } do
      refused(series.new, { { time, 5 } })
    end
    refused(series.new, { { elapsed_ms = "1", value = 5 } })
    says(refused(series.new, { 5 }), "sample 1 is no table")
    refused(series.new, 5)
    says(refused(series.new, series.new {}), "not a series")
  end)

  it("is known as one, and says what it is", function()
    local s = series.new({ { 1, 5 }, { 2 } }, nil, "nr_running")
    assert.is_true(series.is(s))
    for _, value in ipairs { {}, 5, "x", s:each() } do
      assert.is_false(series.is(value))
    end
    assert.equals("the series nr_running: 2 samples, 1 missing", tostring(s))
  end)
end)

describe("since", function()
  it("counts time from there and leaves out what was before", function()
    local s = series.new({ { 1, 50, phase = "a" }, { 2, 100 }, { 2.5 }, { 3, 100 } }, nil, "x")
    local part = s:since(1.5)
    assert.same({ { 0.5, 100 }, { 1.5, 100 } }, plain(part))
    assert.same({ 1, 1, "x" }, { part.missing, part[1].number, part.name })
    assert.is_true((part:steady_within(0.5, 0.1)))
    local _, finding = s:since(9):nondecreasing()
    says(finding, "4 of 4 are from before 9 s")
    _, finding = s:since(3):nondecreasing()
    says(finding, "is 1 among 1; 3 of 4 are from before 3 s")
    assert.same({ { 1, 50 }, { 2, 100 }, { 3, 100 } }, plain(s))
    refused(s.since, s, NAN)
  end)
end)

describe("phases", function()
  local function phased(...)
    local list = {}
    for i, one in ipairs { ... } do
      list[i] = { i, one[2], phase = one[1], reason = one.reason }
    end
    return series.new(list, nil, "dispatched")
  end

  local s
  before_each(function()
    s = phased({ "warm-up", 10 }, { "warm-up", 30 }, { "swap", reason = "it timed out" }, { "swap", 40 },
      { "swap", 70 }, { "last", 0 }, { "none", reason = "busy" })
  end)

  it("have a first value, a last one and their difference", function()
    assert.same({ "warm-up", "swap", "last", "none" }, s:phases())
    assert.same({ 10, 30, 20 }, { s:first "warm-up", s:last "warm-up", (s:delta "warm-up") })
    assert.same({ 40, 70, 30 }, { s:first "swap", s:last "swap", (s:delta "swap") })
    assert.same({ 10, 0, -10 }, { s:first(), s:last(), (s:delta()) })
    assert.equals(4, (phased({ "a", 4 }, { "a", reason = "busy" }):first "a"))
  end)

  it("have none without a sample, and say why", function()
    local value, reason = s:first "none"
    assert.is_nil(value)
    says(reason, "the phase 'none' takes a sample with a value, and has 0", "1 of 1 samples is missing",
      "busy")
    value, reason = s:delta "last"
    assert.is_nil(value)
    says(reason, "takes two samples with a value, and has 1")
    value, reason = s:last "none"
    assert.is_nil(value)
    says(reason, "the phase 'none' takes a sample with a value")
    assert.is_nil((select(2, s:last "swap")))
    assert.is_nil((select(2, s:first "swap")))
    assert.is_nil((select(2, s:delta "swap")))
    says(raised(series.new({ { 1, 5, phase = "a" } }).first, series.new { { 1, 5, phase = "a" } }, "b"),
      "there are: 'a'")
    refused(s.delta, phased({ "a", 1 }, { "a", "x" }), "a")
    refused(s.delta, phased({ "a", "x" }, { "a", 1 }), "a")
    local e = raised(s.last, s, "swop")
    assert.equals("not-found", e.code)
    says(e, "'swop'", "there are: 'warm-up', 'swap', 'last', 'none'")
    local without = series.new { { 1, 5 } }
    says(raised(without.first, without, "a"), "no phases")
  end)

  it("differ exactly beyond 2^53", function()
    local big = phased({ "a", 9007199254740993ULL }, { "a", 18014398509481987ULL }, { "b", 7ULL },
      { "b", 5ULL })
    assert.equals("9007199254740994ULL", tostring((big:delta "a")))
    assert.equals(-2, (big:delta "b"))
  end)

  it("compare by the ratio of their last values, first ones or differences", function()
    local ratio = s:ratio_across_phases("warm-up", "swap")
    assert.near(70 / 30, ratio.value, 1e-12)
    assert.is_true((ratio:between(2.3, 2.4)))
    assert.equals(4, s:ratio_across_phases("warm-up", "swap", "first").value)
    ratio = s:ratio_across_phases("warm-up", "swap", "delta")
    assert.same({ 1.5, true, true, true, false, false },
      { ratio.value, (ratio:at_most(1.5)), (ratio:at_least(1.5)), (ratio:between(1.5, 1.5)),
        (ratio:at_most(1.4999)), (ratio:at_least(1.5001)) })
    assert.is_false((ratio:between(1, 1.4999)))
    assert.is_false((ratio:between(1.5001, 2)))
    refused(s.ratio_across_phases, s, "warm-up", "swap", "mean")
    refused(s.ratio_across_phases, s, "warm-up")
  end)

  it("name both values, their samples and what is missing when a ratio is off", function()
    local holds, finding = s:ratio_across_phases("warm-up", "swap"):at_most(1.5)
    assert.same({ false, "fail", true }, { holds, finding.status, finding.refuted })
    says(finding, "dispatched", "of 'swap' to 'warm-up' of at most 1.5", "2.3333333333333",
      "70 in 'swap' (sample 5 at 5.000 s)", "30 in 'warm-up' (sample 2 at 2.000 s)",
      "phase 'swap': 1 of 3 samples is missing", "it timed out")
  end)

  it("have no ratio over 0 or without a value, and NaN never passes", function()
    local holds, finding = s:ratio_across_phases("last", "swap"):at_least(0)
    assert.same({ false, "inconclusive" }, { holds, finding.status })
    says(finding, "no ratio", "it is 0 in the phase 'last'")
    local ratio = s:ratio_across_phases("warm-up", "none")
    assert.is_nil(ratio.value)
    holds, finding = ratio:at_most(1e9)
    assert.same({ false, "inconclusive" }, { holds, finding.status })
    says(finding, "busy")
    for _, odd in ipairs { NAN, "x" } do
      for _, list in ipairs { { { "a", odd }, { "b", 1 } }, { { "a", 1 }, { "b", odd } } } do
        holds, finding = phased(unpack(list)):ratio_across_phases("a", "b"):between(-math.huge, math.huge)
        assert.same({ false, "fail" }, { holds, finding.status })
      end
    end
  end)
end)

describe("t:expect of a series", function()
  local findings
  local function expecting(value, label)
    findings = {}
    return expect.new(value, label, function(finding)
      findings[#findings + 1] = finding
    end)
  end

  local s = series.new({ { 1, 5, phase = "a" }, { 2, 4, phase = "b" }, { 3, reason = "busy" } }, nil,
    "queued")

  it("records the finding with label and field, and returns whether it held", function()
    assert.is_false(expecting(s, "at night"):nondecreasing())
    assert.equals("FAILED nondecreasing (at night: queued, sample 2 at 2.000 s): expected at least 5 "
      .. "(sample 1 at 1.000 s), found 4", report.finding(findings[1]))
    assert.is_true(expecting(s):rate_within(-1, 1))
    assert.same({ 1, "pass", "queued" }, { #findings, findings[1].status, findings[1].where })
  end)

  it("goes on to each sample and to phases", function()
    assert.is_false(expecting(s):each():at_least(0))
    says(findings[1].found, "no data (busy)")
    assert.is_true(expecting(s, "b over a"):ratio_across_phases("a", "b"):at_most(0.8))
    assert.equals("b over a: queued", findings[1].where)
    assert.is_false(expecting(s:each()):at_most(9))
    assert.is_true(expecting(s:ratio_across_phases("a", "b")):at_least(0.8))
  end)

  it("has no statements about a single value", function()
    says(raised(function()
      return expecting(s):at_most(5)
    end), "a series has no statement 'at_most'", ":each():at_most(...)")
    says(raised(function()
      return expecting(s):nondecresing()
    end), "did you mean 'nondecreasing'?")
    says(raised(function()
      return expecting(s):eahc()
    end), "did you mean 'each'?")
    says(raised(function()
      return expecting(s):in_phase "a"
    end), "a series has no statement 'in_phase'", "t:expect(series:in_phase(...))")
  end)

  it("leaves its notes to the report, also when it passed", function()
    expecting(s):rate_within(-1, 1)
    local result = { name = "t", status = "pass", findings = findings, holds = {}, console = "" }
    local block = report.block(result)
    says(block, "pass rate_within (queued)", "note: 1 of 3 samples is missing: sample 3 at 3.000 s (busy)")
    expecting(s):nondecreasing()
    says(table.concat(report.reasons { status = "fail", findings = findings }, "\n"), "FAILED nondecreasing",
      "note: 1 of 3 samples is missing")
  end)
end)

describe("t:expect of a number", function()
  local function held(value, name, ...)
    local expectation = expect.new(value, nil, function() end)
    return expectation[name](expectation, ...)
  end

  it("compares integers of 64 bits by their value", function()
    local huge = 18446744073709551615ULL
    assert.is_true(held(huge, "at_least", -1))
    assert.is_true(held(huge, "greater_than", -1))
    assert.is_false(held(huge, "at_most", -1))
    assert.is_false(held(huge, "less_than", -1))
    assert.is_false(held(huge, "between", -2, -1))
    assert.is_false(held(huge, "equals", -1))
    assert.is_true(held(huge, "not_equals", -1))
    assert.is_true(held(5ULL, "equals", 5))
    assert.is_false(held(0ULL, "equals", 0.5))
  end)

  it("shows all digits of what it compared", function()
    local found
    expect.new(0.1 + 0.2, nil, function(finding)
      found = report.finding(finding)
    end):at_most(0.3)
    assert.equals("FAILED expect (value): expected at most 0.3, found 0.30000000000000004", found)
  end)

  it("never holds for NaN", function()
    for _, name in ipairs { "at_least", "at_most", "less_than", "greater_than", "equals", "not_equals" } do
      assert.is_false(held(NAN, name, 5))
    end
    for _, name in ipairs { "at_least", "at_most", "less_than", "greater_than", "equals" } do
      assert.is_false(held(5, name, NAN))
    end
    assert.is_false(held(NAN, "between", -math.huge, math.huge))
  end)
end)

describe("luassert", function()
  local up = series.new({ { 1, 5, phase = "a" }, { 2, 7, phase = "b" } }, nil, "up")
  local down = series.new({ { 1, 7 }, { 2, 5 } }, nil, "down")
  local empty = series.new({}, nil, "empty")
  local odd = series.new({ { 1, 7 }, { 2, NAN } }, nil, "odd")
  local gap = series.new({ { 1, 7 }, { 2, reason = "busy" } }, nil, "gap")

  it("has the statements as assertions", function()
    assert.nondecreasing(up)
    assert.is.strictly_increasing(up)
    assert.rate_within(up, 2, 2)
    assert.steady_within(up, 0, 0.2)
    assert.converges_to(series.new { { 1, 5 }, { 2, 5 }, { 3, 5 } }, 5, 0, 3)
    assert.is.always_true(series.new { { 1, true } })
    assert.ratio_within(up, down, 0.7, 1.4)
    assert.each_at_least(up, 5)
    assert.each_at_most(up, 7)
    assert.each_between(up, 5, 7)
    assert.ratio_across_phases(up, "a", "b", 1.4, 1.4)
  end)

  it("raises the finding, after one's own message", function()
    says(raised(function()
      assert.nondecreasing(down, "the counter went back")
    end), "the counter went back\nFAILED nondecreasing (down, sample 2 at 2.000 s): expected at least 7 "
      .. "(sample 1 at 1.000 s), found 5")
    local limits = { nondecreasing = {}, strictly_increasing = {}, rate_within = { 0, 9 },
      steady_within = { 0, 0 }, converges_to = { 0, 0, 2 }, always_true = {}, ratio_within = { up, 0, 0 },
      each_at_least = { 9 }, each_at_most = { 0 }, each_between = { 0, 1 },
      ratio_across_phases = { "a", "b", 0, 0 } }
    for name, given in pairs(limits) do
      given[#given + 1] = "odd course"
      local s = name == "ratio_across_phases" and up or name == "converges_to"
        and series.new { { 0, 1 }, { 1, 2 }, { 2, 3 } } or down
      says(raised(function()
        assert[name](s, unpack(given))
      end), "odd course\nFAILED " .. name:gsub("^each_", "each "))
    end
    says(raised(function()
      assert.each_at_least(down, 6)
    end), "FAILED each at_least (down, sample 2 at 2.000 s): expected at least 6, found 5")
    says(raised(function()
      assert.ratio_across_phases(up, "a", "b", 2, 3)
    end), "expected a ratio of 'b' to 'a' between 2 and 3")
  end)

  it("raises what cannot be told, for want of data", function()
    says(raised(function()
      assert.nondecreasing(empty)
    end), "inconclusive nondecreasing (empty)")
  end)

  it("takes for refuted only what a value refutes", function()
    assert.is_not.nondecreasing(down)
    says(raised(function()
      assert.is_not.nondecreasing(up)
    end), "nondecreasing (up): expected that it does not hold, and it does")
    for _, s in ipairs { empty, odd, gap } do
      says(raised(function()
        assert.is_not.nondecreasing(s)
      end), "nondecreasing (" .. s.name)
      says(raised(function()
        assert.is_not.each_at_least(s, 1)
      end), "each at_least (" .. s.name)
    end
  end)

  it("takes its message first, too, and its limits are wanted", function()
    says(raised(function()
      assert.message("the counter went back").nondecreasing(down)
    end), "the counter went back\nFAILED nondecreasing (down")
    says(raised(function()
      assert.rate_within(up)
    end), "rate_within: the lower end must be a number")
    says(raised(function()
      assert.steady_within(down, 0, 0.1)
    end), "within 10 % of the mean 6")
    assert.are_not.nondecreasing(down)
    assert.no.nondecreasing(down)
    assert["not"].nondecreasing(down)
  end)

  it("wants a series", function()
    says(raised(function()
      assert.nondecreasing { 1, 2 }
    end), "wants a series of ktstr's")
  end)

  it("takes the statements' own results too", function()
    assert(up:nondecreasing())
    says(raised(function()
      assert(down:nondecreasing())
    end), "FAILED nondecreasing (down, sample 2")
    says(raised(function()
      assert(gap:each():at_least(0))
    end), "no data (busy)")
  end)
end)
