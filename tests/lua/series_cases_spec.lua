-- Every statement about a series with every kind of sample that there may be: the same questions to each.
local support = require "tests.lua.support"

local ffi = require "ffi"
local _, load = support.library()
local address = load "ktstr.kernel.address"
local errors = load "ktstr.errors"
local raised = support.raised
local series = load "ktstr.series"

local NAN, INF = 0 / 0, math.huge
local TIMED_OUT = "2 of 4 vCPUs did not stop"

-- Samples each 100 ms from 0.1 s on, as vm:captures() has them; those at `gone` timed out.
local function captures(values, gone)
  local list = {}
  for i = 1, #values do
    list[i] = { tag = ("periodic_%03d"):format(i - 1), elapsed_ms = i * 100, source = "periodic",
      value = values[i] }
    if i == gone then
      list[i].value, list[i].reason = nil, TIMED_OUT
    end
  end
  return list
end

local function of(values, gone, name)
  return series.new(captures(values, gone), nil, name or "nr_switches")
end

-- Of each statement: values with which it holds, values that violate it, where the first violation is, and
-- what the text says of both values. least: numbers that it takes. strict: nothing may be missing.
local STATEMENTS = {
  nondecreasing = { holds = { 1, 1, 2, 5 }, fails = { 1, 7, 3, 4 }, at = 3, least = 2,
    words = { "at least 7 (periodic_001 at 0.200 s)", "found 3" } },
  strictly_increasing = { holds = { 1, 2, 3, 5 }, fails = { 1, 2, 2, 3 }, at = 3, least = 2,
    words = { "more than 2 (periodic_001 at 0.200 s)", "found 2" } },
  rate_within = { limits = { -25, 45 }, holds = { 1, 3, 1, 2 }, fails = { 1, 3, 8, 9 }, at = 3, least = 2,
    words = { "-25 to 45 per second", "50", "from 3 (periodic_001 at 0.200 s) to 8" } },
  steady_within = { limits = { 0, 0.1 }, holds = { 100, 101, 99, 100 }, fails = { 100, 100, 60, 140 }, at = 3,
    least = 2, words = { "within 10 % of the mean 100", "found 60" } },
  converges_to = { limits = { 5, 1, 0.4 }, holds = { 9, 5, 6, 4 }, fails = { 5, 5, 9, 5 }, at = 4, least = 3,
    words = { "3 samples in a row within 5 +- 1 by 0.4 s", "no more than 2", "the last one was 5" } },
  always_true = { holds = { true, true, true, true }, fails = { true, true, false, true }, at = 3, least = 1,
    strict = true, words = { "expected true", "found false" } },
  ratio_within = { limits = { 0.5, 2 }, holds = { 5, 10, 20, 10 }, fails = { 10, 10, 21, 10 }, at = 3,
    least = 1, of = { 10, 10, 10, 10 }, words = { "a ratio of 0.5 to 2", "2.1: 21 over 10 of divisor" } },
  at_least = { limits = { 3 }, holds = { 3, 4, 5, 6 }, fails = { 3, 4, 2, 6 }, at = 3, least = 1,
    strict = true, each = true, words = { "at least 3", "found 2" } },
  at_most = { limits = { 6 }, holds = { 3, 4, 5, 6 }, fails = { 3, 4, 7, 6 }, at = 3, least = 1,
    strict = true, each = true, words = { "at most 6", "found 7" } },
  between = { limits = { 3, 6 }, holds = { 3, 4, 5, 6 }, fails = { 3, 4, 2.5, 6 }, at = 3, least = 1,
    strict = true, each = true, words = { "between 3 and 6", "found 2.5" } },
}

local function state(name, s)
  local one = STATEMENTS[name]
  local limits = { unpack(one.limits or {}) }
  if one.of then
    table.insert(limits, 1, of(one.of, nil, "divisor"))
  end
  local on = one.each and s:each() or s
  return on[name](on, unpack(limits))
end

local function check(status, name, s, ...)
  local holds, finding = state(name, s)
  local text = tostring(finding)
  assert(finding.status == status and holds == (status == "pass"),
    ("%s: wanted %s: %s"):format(name, status, text))
  for _, words in ipairs { ... } do
    assert(text:find(words, 1, true), ("no '%s' in: %s"):format(words, text))
  end
  return finding
end

local function replaced(values, at, value)
  local list = { unpack(values) }
  list[at] = value
  return list
end

for name, one in pairs(STATEMENTS) do
  describe(name, function()
    it("holds where it does", function()
      local finding = check("pass", name, of(one.holds))
      assert.same({ {}, {}, false }, { finding.notes, finding.failures, finding.refuted })
    end)

    it("names field, sample, time and both values where it does not", function()
      local tag, seconds = ("periodic_%03d"):format(one.at - 1), one.at / 10
      local finding = check("fail", name, of(one.fails), ("nr_switches, %s at %.3f s"):format(tag, seconds),
        unpack(one.words))
      assert.is_true(finding.refuted)
      assert.equals(tag, finding.failures[1].sample.tag)
    end)

    it("never holds with a placeholder in it where it is strict, and else says that there is one", function()
      for gone = 1, 4 do
        local place = ("periodic_%03d at %.3f s (%s)"):format(gone - 1, gone / 10, TIMED_OUT)
        local finding
        if one.strict then
          finding = check("fail", name, of(one.holds, gone), "no data (" .. TIMED_OUT .. ")", place)
        elseif one.least == 3 and gone > 1 then -- three of four in a row, of which one is missing
          finding = check("inconclusive", name, of(one.holds, gone), place, "samples are missing")
        else
          finding = check("pass", name, of(one.holds, gone), place)
        end
        assert.is_false(finding.refuted)
        assert.matches("1 of 4 samples is missing", finding.notes[1])
      end
    end)

    it("holds neither with NaN nor with what is no number", function()
      local odd = { NAN, -NAN, "5", { 5 }, address.new(0xffff888000000000ULL), ffi.new "uint8_t[4]" }
      odd[#odd + 1] = name ~= "always_true" or nil
      for i = 1, 4 do
        for _, value in ipairs(odd) do
          -- What comes before the run may be anything that is a number.
          if not (name == "converges_to" and i == 1 and value ~= value) then
            check("fail", name, of(replaced(one.holds, i, value)), ("at %.3f s"):format(i / 10))
          end
        end
      end
      if name ~= "always_true" then
        check("fail", name, of(replaced(one.holds, 4, false)), "false, which is no number")
      end
    end)

    it("holds within finite limits for no infinity", function()
      for _, value in ipairs { INF, -INF } do
        local last = replaced(one.holds, 4, value)
        local expected = "fail"
        if value > 0 and (name:match "ing$" or name == "at_least")
          or value < 0 and name == "at_most" then
          expected = "pass" -- it is more, or less, than any number
        end
        check(expected, name, of(last))
      end
    end)

    it("cannot be told from too few", function()
      check("inconclusive", name, of {}, "are 0 among 0")
      for count = 1, one.least - 1 do
        check("inconclusive", name, of { unpack(one.holds, 1, count) }, ("among %d"):format(count))
      end
      if not one.strict then
        check("inconclusive", name, of({ 5 }, 1), "1 of 1 samples is missing", TIMED_OUT)
      end
    end)

    it("goes by time, whatever the order of the list", function()
      for _, case in ipairs { { "pass", one.holds }, { "fail", one.fails } } do
        local list = captures(case[2])
        list[1], list[2], list[3], list[4] = list[3], list[1], list[4], list[2]
        local finding = check(case[1], name, series.new(list, nil, "nr_switches"))
        local _, straight = state(name, of(case[2]))
        assert.equals(tostring(straight), tostring(finding))
      end
    end)

    it("is about one phase, too", function()
      local list = captures(one.holds)
      for i, capture in ipairs(captures(one.fails)) do
        capture.elapsed_ms, capture.tag, list[4 + i] = 400 + capture.elapsed_ms, "late_" .. i, capture
      end
      for i, capture in ipairs(list) do
        capture.phase = i <= 4 and "calm" or "storm"
      end
      local s = series.new(list, nil, "nr_switches")
      if not one.of and name ~= "converges_to" then
        check("pass", name, s:in_phase "calm")
        check("fail", name, s:in_phase "storm", ("nr_switches in 'storm', late_%d at %.3f s"):format(one.at,
          0.4 + one.at / 10))
      end
      local e = raised(s.in_phase, s, "strom")
      assert.equals("not-found", e.code)
      assert.matches("there are: 'calm', 'storm'", e.hint)
      assert.is_true(errors.is(raised(s.in_phase, s), "invalid"))
    end)

    it("is an assertion of luassert, whose negation wants a value that violates it", function()
      local assertion = one.each and "each_" .. name or name
      local limits = { unpack(one.limits or {}) }
      if one.of then
        table.insert(limits, 1, of(one.of, nil, "divisor"))
      end
      assert[assertion](of(one.holds), unpack(limits))
      assert.is_not[assertion](of(one.fails), unpack(limits))
      local wanted = { { assert, of(one.fails), one.words[1] }, { assert, of {}, "are 0 among 0" },
        { assert.is_not, of(one.holds), "expected that it does not hold, and it does" },
        { assert.is_not, of {}, "are 0 among 0" },
        { assert.is_not, of(replaced(one.holds, 4, NAN)), "NaN" } }
      for _, case in ipairs(wanted) do
        local e = raised(function()
          case[1][assertion](case[2], unpack(limits))
        end)
        assert(tostring(e):find(case[3], 1, true), tostring(e))
      end
    end)
  end)
end

describe("numbers of 64 bits", function()
  local BIG = 2 ^ 60 -- where doubles are 256 apart

  it("are compared by their value, not by the nearest double", function()
    local near = { BIG + 0ULL, BIG + 1ULL, BIG + 2ULL }
    check("pass", "strictly_increasing", of(near))
    check("fail", "nondecreasing", of { near[2], near[1] }, "at least 1152921504606846977",
      "found 1152921504606846976")
    local s = of(near)
    assert.is_true((s:rate_within(9.999, 10.001)))
    assert.is_true((of({ near[3], near[2], near[1] }):rate_within(-10.001, -9.999)))
    assert.is_true((s:each():between(near[1], near[3])))
    assert.is_false((s:each():at_most(near[2])))
    assert.is_true((s:converges_to(near[2], 1, 1)))
    assert.is_false((s:converges_to(near[1], 1, 1)))
    assert.is_true((s:converges_to(BIG, 2, 1)))
    assert.is_false((s:converges_to(BIG, 1, 1)))
    assert.is_true((of({ BIG, BIG, BIG }):converges_to(near[2], 1, 1)))
    assert.is_false((of({ BIG, BIG, BIG }):converges_to(near[2], 0, 1)))
    assert.equals(2, s:delta())
    assert.is_true((s:steady_within(0, 1e-18)))
    assert.is_false((s:steady_within(0, 0)))
  end)
end)

describe("a machine that was taken back", function()
  local function lives()
    return series.new({ { 1, 100, epoch = 0, phase = "a" }, { 2, 102, epoch = 0, phase = "a" },
      { 3, 10, epoch = 1, phase = "a" }, { 4, 11, epoch = 1, phase = "b" } }, nil, "x")
  end

  it("is not steady around the mean of two lives", function()
    local holds, finding = lives():steady_within(0, 0.1)
    assert.is_true(holds, tostring(finding))
    assert.matches("taken back before sample 3", finding.notes[1])
    holds, finding = lives():steady_within(0, 0.02)
    assert.is_false(holds)
    assert.equals(3, finding.failures[1].sample.number)
  end)

  it("has no difference over that", function()
    for _, phase in ipairs { "a", false } do
      local value, why = lives():delta(phase or nil)
      assert.is_nil(value)
      assert.matches("taken back between sample 1", why)
    end
    local _, finding = lives():ratio_across_phases("a", "b", "delta"):at_least(0)
    assert.equals("inconclusive", finding.status)
  end)

  it("was in its first life where nobody says so", function()
    assert.is_false((series.new({ { 1, 5 }, { 2, 4, epoch = 0 } }):nondecreasing()))
    local below = series.new({ { 1, 10, epoch = 0 } })
    assert.is_true((series.new({ { 1, 5 } }):ratio_within(below, 0.5, 0.5)))
  end)
end)

describe("a phase that comes twice", function()
  it("has a first and a last value, but no difference of its own", function()
    local s = series.new({ { 1, 5, phase = "a" }, { 2, 6, phase = "a" }, { 3, 50, phase = "b" },
      { 4, 51, phase = "a" } }, nil, "x")
    assert.same({ 5, 51 }, { s:first "a", s:last "a" })
    local value, why = s:delta "a"
    assert.is_nil(value)
    assert.matches("'a' comes more than once, and between is sample 3", why)
    assert.equals(46, (s:delta()))
  end)

  it("has no rate over what is between, and nothing settles over that", function()
    local list = {}
    for i, one in ipairs { { "a", 5 }, { "a", 6 }, { "b", 60 }, { "a", 66 }, { "a", 67 } } do
      list[i] = { i, one[2], phase = one[1] }
    end
    local s = series.new(list, nil, "x"):in_phase "a"
    local holds, finding = s:rate_within(1, 1)
    assert.is_true(holds)
    assert.matches("between sample 2 at 2.000 s and sample 3 at 4.000 s is another phase", finding.notes[1])
    assert.is_true((s:strictly_increasing()))
    list[4].phase = "b"
    holds, finding = series.new({ list[1], list[3], list[5] }):in_phase("a"):rate_within(0, 1e9)
    assert.same({ false, "inconclusive" }, { holds, finding.status })
    assert.is_false((s:converges_to(36, 31, 9)))
    assert.is_true((series.new({ list[1], list[2], list[3] }):converges_to(36, 31, 9)))
  end)
end)

describe("the workload's time", function()
  local function workload(...)
    local list = {}
    for i, one in ipairs { ... } do
      list[i] = { tag = "c" .. i, elapsed_ms = one[1], workload_ms = one[2], value = one[3] }
    end
    return list
  end

  it("has no pauses in it", function()
    local list = workload({ 100, nil, 0 }, { 1000, 0, 10 }, { 2000, 1000, 20 }, { 9000, 1500, 25 })
    local s = series.new(list, nil, { time = "workload" })
    assert.same({ 0, 1, 1.5 }, { s[1].elapsed, s[2].elapsed, s[3].elapsed })
    assert.is_true((s:rate_within(10, 10)))
    assert.is_false((series.new(list, nil, { time = "machine" }):rate_within(10, 10)))
    local _, finding = series.new({ list[1], list[2] }, nil, { time = "workload" }):nondecreasing()
    assert.matches("1 of 2 have no time of a workload", tostring(finding))
  end)

  it("is that of one workload", function()
    local list = workload({ 1000, 900, 1 }, { 2000, 100, 2 })
    local e = raised(series.new, list, nil, { time = "workload" })
    assert.matches("c1 at 1.000 s and c2 at 2.000 s are of two workloads", e.message)
    assert.is_true(errors.is(raised(series.new, list, nil, { time = "guest" }), "invalid"))
  end)
end)

describe("since", function()
  it("counts from any number, of 64 bits too", function()
    local s = series.new { { 1.5, 1 }, { 2.75, 2 } }
    assert.same({ 0.5, 1.75 }, { s:since(1ULL)[1].elapsed, s:since(1LL)[2].elapsed })
    for _, odd in ipairs { INF, -INF, NAN, "1" } do
      assert.is_true(errors.is(raised(s.since, s, odd), "invalid"))
    end
  end)
end)
