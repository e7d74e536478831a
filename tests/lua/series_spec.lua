-- What can be stated about a series of samples: for each statement one that holds, one that does not, a
-- missing sample, NaN; and what lies at the edges.
local support = require "tests.lua.support"
local words = require "tests.lua.words"

local says = words.mentions

local _, load = support.library()
local errors = load "ktstr.errors"
local raised = support.raised
local series = load "ktstr.series"

local NAN = 0 / 0
local GONE = {} -- a capture that timed out
local TIMED_OUT = "the rendezvous timed out"

-- A sample each 100 ms from 0.1 s on, as periodic captures have them.
local function values(...)
  local list = {}
  for i, value in ipairs { ... } do
    list[i] = { tag = ("periodic_%03d"):format(i - 1), elapsed_ms = i * 100, value = value }
    if value == GONE then
      list[i].value, list[i].reason = nil, TIMED_OUT
    end
  end
  return list
end

local function of(...)
  return series.new(values(...), nil, "nr_dispatched")
end

local function passes(holds, finding)
  assert.same({ true, "pass" }, { holds, finding.status })
  assert.is_false(finding.refuted)
  return finding
end

local function with_status(status, holds, finding)
  assert.same({ false, status }, { holds, finding.status })
  return finding
end

local function fails(...)
  return with_status("fail", ...)
end

local function cannot_tell(...)
  return with_status("inconclusive", ...)
end

-- The finding's text has each of these.
local function says_missing(finding, tag)
  says(finding, ("1 of %d samples is missing: %s"):format(4, tag), TIMED_OUT)
end

describe("nondecreasing", function()
  it("holds for a counter that rises or stands", function()
    local finding = passes(of(1, 1, 2, 5):nondecreasing())
    assert.same({}, finding.notes)
  end)

  it("fails where a value is less than the one before, and names field, sample, time and both", function()
    local finding = fails(of(100, 200, 150, 120):nondecreasing())
    says(finding, "nr_dispatched", "periodic_002 at 0.300 s", "at least 200 (periodic_001 at 0.200 s)",
      "found 150", "and 1 more")
    assert.equals(2, #finding.failures)
    assert.is_true(finding.refuted)
  end)

  it("notes a missing sample, and compares over it", function()
    says_missing(passes(of(1, GONE, 2, 3):nondecreasing()), "periodic_001 at 0.200 s")
    says(fails(of(5, GONE, 4, 6):nondecreasing()), "at least 5 (periodic_000 at 0.100 s)", "found 4",
      "is missing")
  end)

  it("names the first of many that are missing", function()
    local finding = passes(of(1, GONE, GONE, GONE, 2):nondecreasing())
    says(finding, "3 of 5 samples are missing: periodic_001", "periodic_003 at 0.400 s (" .. TIMED_OUT .. ")")
    assert.is_nil(tostring(finding):find("more", 1, true))
    says(passes(of(1, GONE, GONE, GONE, GONE, GONE, 2):nondecreasing()), "5 of 7 samples are missing",
      "periodic_003 at 0.400 s (the rendezvous timed out); and 2 more")
  end)

  it("fails for NaN, wherever it is", function()
    for _, s in ipairs { of(NAN, 1, 2), of(1, NAN, 2), of(1, 2, NAN), of(NAN), of(NAN, NAN) } do
      says(fails(s:nondecreasing()), "NaN")
    end
  end)

  it("fails for what is no number", function()
    says(fails(of(1, "busy", 2):nondecreasing()), "periodic_001", "'busy', which is no number")
    fails(of(true, true):nondecreasing())
  end)

  it("cannot be told from fewer than two values", function()
    says(cannot_tell(of():nondecreasing()), "two samples with a value", "are 0 among 0")
    says(cannot_tell(of(1):nondecreasing()), "is 1 among 1")
    says(cannot_tell(of(GONE, 5, GONE):nondecreasing()), "is 1 among 3", TIMED_OUT)
  end)

  it("is exact beyond 2^53", function()
    passes(of(9007199254740992ULL, 9007199254740993ULL):nondecreasing())
    says(fails(of(9007199254740993ULL, 9007199254740992ULL):nondecreasing()), "at least 9007199254740993",
      "found 9007199254740992")
    passes(of(-5, 18446744073709551615ULL):nondecreasing())
    fails(of(18446744073709551615ULL, -5):nondecreasing())
  end)

  it("goes by time, not by the order of the list", function()
    local list = values(3, 1, 2)
    list[1].elapsed_ms, list[2].elapsed_ms, list[3].elapsed_ms = 300, 100, 200
    passes(series.new(list):nondecreasing())
    list[1].elapsed_ms = 150
    says(fails(series.new(list):nondecreasing()), "at least 3 (periodic_000 at 0.150 s)", "found 2")
  end)

  it("compares nothing over a rewind", function()
    local list = { { 1, 5, epoch = 1 }, { 2, 6, epoch = 1 }, { 1.5, 5, epoch = 2 }, { 1.6, 6, epoch = 2 } }
    says(passes(series.new(list):nondecreasing()), "taken back before sample 3")
    cannot_tell(series.new({ list[1], list[3] }):nondecreasing())
  end)
end)

describe("strictly_increasing", function()
  it("holds for a counter that rises", function()
    passes(of(1, 2, 5):strictly_increasing())
  end)

  it("fails where it stands", function()
    says(fails(of(1, 2, 2):strictly_increasing()), "more than 2 (periodic_001 at 0.200 s)",
      "periodic_002 at 0.300 s", "found 2")
    fails(of(9007199254740993ULL, 9007199254740993ULL):strictly_increasing())
    passes(of(9007199254740992ULL, 9007199254740993ULL):strictly_increasing())
  end)

  it("notes a missing sample", function()
    says_missing(passes(of(1, 2, GONE, 3):strictly_increasing()), "periodic_002 at 0.300 s")
    fails(of(1, 2, GONE, 2):strictly_increasing())
  end)

  it("fails for NaN", function()
    says(fails(of(1, NAN, 3):strictly_increasing()), "NaN")
  end)

  it("cannot be told from one value", function()
    cannot_tell(of(1, GONE):strictly_increasing())
  end)
end)

describe("rate_within", function()
  it("is per second, ends included", function()
    local s = series.new { { 0, 10 }, { 0.5, 20 }, { 1, 40 } }
    passes(s:rate_within(20, 40))
    fails(s:rate_within(20.5, 40))
    fails(s:rate_within(20, 39.5))
  end)

  it("names the rate, the samples and both values", function()
    says(fails(series.new({ { 0, 10 }, { 0.5, 20 }, { 1, 90 } }, nil, "switches"):rate_within(0, 100)),
      "switches, sample 3 at 1.000 s", "0 to 100 per second", "140 per second",
      "from 20 (sample 2 at 0.500 s) to 90")
  end)

  it("notes a missing sample, and takes the rate over it", function()
    says_missing(passes(of(0, GONE, 20, 30):rate_within(99.99, 100.01)), "periodic_001 at 0.200 s")
    fails(of(0, GONE, 60, 70):rate_within(0, 200))
  end)

  it("fails for NaN, and for a rate that is none", function()
    says(fails(of(1, NAN, 3):rate_within(-1e9, 1e9)), "NaN")
    says(fails(of(math.huge, math.huge):rate_within(-1e9, 1e9)), "NaN per second")
  end)

  it("is signed for counters of 64 bits", function()
    local high, low = 18446744073709551615ULL, 18446744073709551605ULL
    passes(series.new({ { 0, high }, { 1, low } }):rate_within(-10, -10))
    passes(series.new({ { 0, low }, { 1, high } }):rate_within(10, 10))
    passes(series.new({ { 0, 5ULL }, { 1, 3ULL } }):rate_within(-2, -2))
  end)

  it("cannot be told where no time passes, or from one value", function()
    says(cannot_tell(series.new({ { 1, 5 }, { 1, 6 } }):rate_within(-1e9, 1e9)), "no time passed")
    says(cannot_tell(series.new({ { 1, 5 }, { 1, 5 }, { 2, 5 } }):rate_within(-1, 1)), "no time passed")
    fails(series.new({ { 1, 5 }, { 1, 5 }, { 2, 9 } }):rate_within(-1, 1))
    cannot_tell(of(1):rate_within(0, 1))
  end)

  it("refuses a range that is none", function()
    for _, range in ipairs { { 2, 1 }, { NAN, 1 }, { 0, NAN }, { 0 }, { "0", 1 } } do
      local e = raised(of(1, 2).rate_within, of(1, 2), range[1], range[2])
      assert.is_true(errors.is(e, "invalid"))
    end
  end)
end)

describe("steady_within", function()
  it("holds when all after the warm-up are near their mean, ends included", function()
    passes(of(1000, 90, 100, 110):steady_within(0.2, 0.1))
    passes(of(-90, -100, -110):steady_within(0, 0.1))
    passes(of(0, 0):steady_within(0, 0))
  end)

  it("fails for one that is not, and names it with the mean", function()
    says(fails(of(1000, 90, 100, 113):steady_within(0.2, 0.1)), "nr_dispatched, periodic_001 at 0.200 s",
      "within 10 % of the mean 101", "found 90", "and 1 more")
    fails(of(1000, 90, 100, 110):steady_within(0.2, 0.0999))
    fails(of(1000, 90, 100, 110):steady_within(0.1, 0.1))
    fails(of(-1, 1):steady_within(0, 0.5))
  end)

  it("notes a missing sample, but for those of the warm-up", function()
    says_missing(passes(of(1, 100, GONE, 100):steady_within(0.2, 0.1)), "periodic_002 at 0.300 s")
    assert.same({}, passes(of(GONE, 100, 100):steady_within(0.2, 0.1)).notes)
  end)

  it("fails for NaN and for infinity", function()
    says(fails(of(100, NAN, 100):steady_within(0, 0.1)), "NaN")
    fails(of(100, math.huge, 100):steady_within(0, 1))
    fails(of(math.huge, math.huge):steady_within(0, 1))
  end)

  it("loses no digits of a large counter", function()
    fails(of(9007199254740992ULL, 9007199254740994ULL):steady_within(0, 0))
    passes(of(9007199254740993ULL, 9007199254740993ULL):steady_within(0, 0))
  end)

  it("cannot be told from one value, which is its own mean", function()
    says(cannot_tell(of(1, 2, 3):steady_within(0.3, 0.1)), "two samples with a value from 0.3 s on",
      "is 1 among 3")
    says(cannot_tell(of(1, 2, 3):steady_within(5, 0.1)), "are 0 among 3")
  end)

  it("refuses a tolerance that is a percentage, and what is less than 0", function()
    local s = of(1, 2)
    says(raised(s.steady_within, s, 0, 1.5), "0.1 is ten percent")
    passes(s:steady_within(0, 1))
    for _, given in ipairs { { -1, 0.1 }, { 0, -0.1 }, { NAN, 0.1 }, { 0, NAN }, { 0 }, {} } do
      assert.is_true(errors.is(raised(s.steady_within, s, given[1], given[2]), "invalid"))
    end
  end)
end)

describe("converges_to", function()
  it("holds with three in a row near the target by the deadline, ends included", function()
    passes(of(9, 5, 1.1, 0.9, 1):converges_to(1, 0.1, 0.5))
    passes(of(1, 1, 1, 9, 9):converges_to(1, 0, 5))
  end)

  it("fails when they come too late, or are too few", function()
    says(fails(of(9, 5, 1.5, 0.9, 1):converges_to(1, 0.5, 0.4)), "nr_dispatched, periodic_003 at 0.400 s",
      "3 samples in a row within 1 +- 0.5 by 0.4 s", "no more than 2 in a row", "the last one was 0.9")
    fails(of(1, 1, 9, 1, 1, 9):converges_to(1, 0.5, 5))
    fails(of(9, 1, 1.51, 1, 1):converges_to(1, 0.5, 5))
    fails(of(9, 1, 0.49, 1, 1):converges_to(1, 0.5, 5))
  end)

  it("notes a missing sample, which ends a run", function()
    says_missing(passes(series.new(values(GONE, 1, 1, 1)):converges_to(1, 0, 5)), "periodic_000 at 0.100 s")
    says(cannot_tell(of(9, 1, 1, GONE, 1, 1):converges_to(1, 0, 5)), "no more than 2 in a row",
      "samples are missing", TIMED_OUT)
    cannot_tell(of(9, 1, 1, GONE, 9):converges_to(1, 0, 5))
    says(passes(of(1, 1, 1, GONE):converges_to(1, 0, 0.4)), "periodic_003 at 0.400 s")
    -- Whatever it was, it would not have been enough.
    fails(of(9, 1, 9, GONE, 9, 1):converges_to(1, 0, 5))
  end)

  it("takes NaN for a value that is not near", function()
    says(fails(of(1, 1, NAN, 1, 1):converges_to(1, 1, 5)), "NaN")
    fails(of(NAN, NAN, NAN):converges_to(1, 1, 5))
    passes(of(NAN, 1, 1, 1):converges_to(1, 1, 5))
  end)

  it("fails for what is no number", function()
    says(fails(of("x", 1, 1, 1):converges_to(1, 1, 5)), "'x', which is no number")
  end)

  it("cannot be told from fewer than three values by the deadline", function()
    says(cannot_tell(of(1, 1, 1):converges_to(1, 0, 0.25)), "3 samples with a value by 0.25 s",
      "are 2 among 3")
    cannot_tell(of(GONE, GONE, GONE):converges_to(1, 0, 5))
    cannot_tell(of(9, GONE, 9):converges_to(1, 0, 5))
    says(fails(of(9, 9, 9):converges_to(1, 0, 5)), "no more than 0 in a row")
  end)

  it("is exact beyond 2^53", function()
    local big = 9007199254740993ULL
    passes(of(big, big, big):converges_to(big, 0, 1))
    fails(of(big + 1, big + 1, big + 1):converges_to(big, 0, 1))
  end)

  it("counts no run over a rewind", function()
    local list = { { 1, 5, epoch = 1 }, { 2, 5, epoch = 1 }, { 1.5, 5, epoch = 2 }, { 1.6, 5, epoch = 2 } }
    fails(series.new(list):converges_to(5, 0, 9))
    table.insert(list, { 1.7, 5, epoch = 2 })
    passes(series.new(list):converges_to(5, 0, 9))
  end)
end)

describe("always_true", function()
  it("holds for true alone", function()
    passes(of(true, true):always_true())
    passes(of(true):always_true())
  end)

  it("fails for false, and for what is no boolean", function()
    says(fails(of(true, false, true):always_true()), "nr_dispatched, periodic_001 at 0.200 s",
      "expected true", "found false")
    says(fails(of(1, 1):always_true()), "1, which is no boolean")
  end)

  it("fails for a missing sample, and says so", function()
    local finding = fails(of(true, GONE, true, true):always_true())
    says(finding, "periodic_001 at 0.200 s", "no data", TIMED_OUT)
    assert.is_false(finding.refuted)
    fails(of(GONE):always_true())
  end)

  it("fails for NaN", function()
    says(fails(of(true, NAN):always_true()), "NaN")
  end)

  it("cannot be told of nothing", function()
    cannot_tell(of():always_true())
  end)
end)

describe("each", function()
  it("holds when every sample does, ends included", function()
    passes(of(3, 4, 5):each():at_least(3))
    passes(of(3, 4, 5):each():at_most(5))
    passes(of(3, 4, 5):each():between(3, 5))
  end)

  it("fails for one that does not, and names it with the limit", function()
    says(fails(of(3, 4, 2):each():at_least(3)), "nr_dispatched, periodic_002 at 0.300 s", "at least 3",
      "found 2")
    says(fails(of(3, 6, 7):each():at_most(5)), "periodic_001 at 0.200 s", "at most 5", "found 6",
      "and 1 more")
    says(fails(of(3, 6):each():between(3, 5)), "periodic_001", "between 3 and 5", "found 6")
    fails(of(2.9, 4):each():between(3, 5))
  end)

  it("fails for a missing sample, and says so", function()
    for _, holds_for in ipairs { "at_least", "at_most" } do
      local finding = fails((function()
        local each = of(3, GONE, 3, 3):each()
        return each[holds_for](each, 3)
      end)())
      says_missing(finding, "periodic_001 at 0.200 s")
      says(finding, "no data")
      assert.is_false(finding.refuted)
    end
    says(fails(of(GONE, 4):each():between(3, 5)), "periodic_000", "no data")
  end)

  it("fails for NaN", function()
    says(fails(of(3, NAN):each():at_least(-math.huge)), "NaN")
    says(fails(of(3, NAN):each():at_most(math.huge)), "NaN")
    says(fails(of(3, NAN):each():between(-math.huge, math.huge)), "NaN")
  end)

  it("is exact beyond 2^53, and takes no large value for a negative one", function()
    passes(of(18446744073709551615ULL):each():at_least(-1))
    fails(of(18446744073709551615ULL):each():at_most(-1))
    fails(of(9007199254740993ULL):each():at_most(2 ^ 53))
    passes(of(0ULL):each():at_most(0.5))
    fails(of(0ULL):each():at_least(0.5))
  end)

  it("cannot be told of nothing", function()
    cannot_tell(of():each():at_least(3))
    cannot_tell(of():each():at_most(3))
    cannot_tell(of():each():between(3, 3))
  end)

  it("refuses a limit that is no number", function()
    local each = of(1):each()
    for _, name in ipairs { "at_least", "at_most", "between" } do
      assert.is_true(errors.is(raised(each[name], each, NAN, NAN), "invalid"))
      assert.is_true(errors.is(raised(each[name], each), "invalid"))
    end
    assert.is_true(errors.is(raised(each.between, each, 2, 1), "invalid"))
  end)
end)

describe("ratio_within", function()
  local function below(...)
    return series.new(values(...), nil, "runtime")
  end

  it("holds when each sample over the other's is within, ends included", function()
    assert.same({}, passes(of(1, 2, 3):ratio_within(below(2, 4, 4), 0.5, 0.75)).notes)
  end)

  it("fails for one that is not, and names both values", function()
    says(fails(of(1, 2, 4):ratio_within(below(2, 4, 4), 0.5, 0.75)), "nr_dispatched, periodic_002 at 0.300 s",
      "a ratio of 0.5 to 0.75", "1: 4 over 4 of runtime")
    fails(of(1, 1):ratio_within(below(2, 4), 0.5, 0.75))
  end)

  it("notes a missing sample of either", function()
    says_missing(passes(of(1, 2, GONE, 3):ratio_within(below(2, 4, 1, 4), 0.5, 0.75)),
      "periodic_002 at 0.300 s")
    says(passes(of(1, 2, 1, 3):ratio_within(below(2, 4, GONE, 4), 0.5, 0.75)),
      "runtime: 1 of 4 samples is missing: periodic_002 at 0.300 s")
    cannot_tell(of(1, GONE):ratio_within(below(GONE, 4), 0, 1))
  end)

  it("fails for NaN on either side", function()
    says(fails(of(1, NAN):ratio_within(below(2, 4), 0, 1)), "NaN")
    says(fails(of(1, 2):ratio_within(below(2, NAN), 0, 1)), "NaN of runtime below it")
    fails(of(math.huge):ratio_within(below(math.huge), 0, 1))
  end)

  it("cannot be told over 0, but a sample that violates it does", function()
    says(cannot_tell(of(1, 2):ratio_within(below(0, 4), 0.5, 0.5)), "periodic_000 at 0.100 s",
      "no ratio: 1 over 0 of runtime")
    cannot_tell(of(0, 2):ratio_within(below(0ULL, 4), 0, 1))
    fails(of(1, 3):ratio_within(below(0, 4), 0.5, 0.5))
  end)

  it("pairs samples by their time", function()
    local list = values(8, 2, 4)
    table.remove(list, 1)
    says(passes(of(1, 1, 2):ratio_within(series.new(list, nil, "runtime"), 0.5, 0.5)),
      "1 of 3 samples have none of runtime")
    says(cannot_tell(of(1):ratio_within(series.new { { 7, 1 } }, 0, 1)), "1 of 1 samples have none")
    -- Two at one moment: in order.
    passes(series.new({ { 1, 1 }, { 1, 8 } }):ratio_within(series.new { { 1, 2 }, { 1, 16 } }, 0.5, 0.5))
  end)

  it("wants another series", function()
    local s = of(1)
    says(raised(s.ratio_within, s, 0.5, 1), "wants a series first")
  end)
end)
