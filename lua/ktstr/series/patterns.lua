-- The statements about a series of samples: each a function(series, ...) -> finding.
-- Values are compared exactly, uint64_t too. NaN and what is no number fail. A missing sample is a note, and
-- a failure for always_true and each. What nothing could be compared for is inconclusive, never passed.
local errors = require "ktstr.errors"
local exact = require "ktstr.exact"
local judgement = require "ktstr.series.judgement"

local patterns = {}

local order, text, place = exact.order, exact.text, judgement.place
local PAIR = "two samples with a value"
local WITNESSES = 3

-- Which life of the machine a sample is of: nothing is compared over vm:rewind().
local function life(sample)
  return sample.epoch or 0
end

-- --- pairs of neighbours ---

-- Whether another phase lies between two samples of one phase that comes more than once (series:in_phase).
local function is_apart(a, b)
  return a.stretch ~= b.stretch
end

-- Calls compare(before, sample) for each number and the one before it, also over missing samples.
local function compare_neighbours(j, compare)
  local before
  for _, sample in ipairs(j.series.all) do
    if j:has_number(sample) then
      if before and life(before) ~= life(sample) then
        j:note(("the machine was taken back before %s: the samples before are not compared"):format(
          place(sample)))
      elseif before then
        j.judged = j.judged + 1
        compare(before, sample)
      end
      before = sample
    end
  end
end

local function monotone(series, check, words, most)
  local j = judgement.new(series, check, words .. " the sample before")
  compare_neighbours(j, function(before, sample)
    if order(before.value, sample.value) > most then
      j:refute(sample, ("%s %s (%s)"):format(words, text(before.value), place(before)), text(sample.value))
    end
  end)
  return j:finish(PAIR)
end

function patterns.nondecreasing(series)
  return monotone(series, "nondecreasing", "at least", 0)
end

function patterns.strictly_increasing(series)
  return monotone(series, "strictly_increasing", "more than", -1)
end

local function course(before, sample)
  return ("from %s (%s) to %s"):format(text(before.value), place(before), text(sample.value))
end

--- Per second, between each sample and the one before.
function patterns.rate_within(series, low, high)
  judgement.range("rate_within", low, high)
  local expected = ("%s to %s per second"):format(text(low), text(high))
  local j = judgement.new(series, "rate_within", expected)
  compare_neighbours(j, function(before, sample)
    local seconds = sample.elapsed - before.elapsed
    if is_apart(before, sample) then
      -- Not the phase's own rate.
      j.judged = j.judged - 1
      return j:note(("between %s and %s is another phase, and no rate"):format(place(before), place(sample)))
    elseif seconds <= 0 then
      return j:undecide(sample, expected, "no time passed " .. course(before, sample))
    end
    local rate = tonumber(exact.difference(sample.value, before.value)) / seconds
    if rate ~= rate or order(rate, low) < 0 or order(rate, high) > 0 then
      j:refute(sample, expected, ("%s per second, %s"):format(text(rate), course(before, sample)))
    end
  end)
  return j:finish(PAIR)
end

-- --- around a value ---

-- The numbers from there on. Those before may be what they like, but for what is no number at all.
local function numbers_from(j, seconds)
  local list = {}
  for _, sample in ipairs(j.series.all) do
    if sample.elapsed >= seconds and j:has_number(sample) then
      list[#list + 1] = sample
    end
  end
  return list
end

local function check_seconds(check, name, value)
  judgement.number(check, name, value)
  if order(value, 0) < 0 then
    errors.refuse("invalid", ("%s: %s must be at least 0, not %s"):format(check, name, text(value)))
  end
  return tonumber(value)
end

-- How far each of a list is from their mean, and the mean. It is counted from the first one, so that a large
-- counter loses no digits.
local function offsets_from_mean(list)
  local first, offsets, sum = list[1].value, {}, 0
  for i, sample in ipairs(list) do
    offsets[i] = tonumber(exact.difference(sample.value, first))
    sum = sum + offsets[i]
  end
  for i in ipairs(list) do
    offsets[i] = offsets[i] - sum / #list
  end
  return offsets, tonumber(first) + sum / #list
end

-- A list for each of the machine's lives.
local function by_life(list)
  local lives, last = {}, nil
  for _, sample in ipairs(list) do
    if not last or life(last) ~= life(sample) then
      lives[#lives + 1] = {}
    end
    table.insert(lives[#lives], sample)
    last = sample
  end
  return lives
end

--- From `warmup` seconds on, each within a share (0.1 is ten percent) of their mean.
function patterns.steady_within(series, warmup, tolerance)
  warmup = check_seconds("steady_within", "the warm-up", warmup)
  tolerance = check_seconds("steady_within", "the tolerance", tolerance)
  if tolerance > 1 then
    errors.refuse("invalid", ("steady_within: the tolerance is a share of the mean, not %s"):format(
      text(tolerance)), "0.1 is ten percent")
  end
  local words = ("within %s %% of the mean"):format(text(tolerance * 100))
  local j = judgement.new(series, "steady_within", words)
  for i, list in ipairs(by_life(numbers_from(j, warmup))) do
    local offsets, mean = offsets_from_mean(list)
    if i > 1 then
      j:note(("the machine was taken back before %s: what follows has its own mean"):format(place(list[1])))
    end
    for n, sample in ipairs(#list > 1 and list or {}) do
      j.judged = j.judged + 1
      if offsets[n] ~= offsets[n] or math.abs(offsets[n]) > tolerance * math.abs(mean) then
        j:refute(sample, ("%s %s"):format(words, text(mean)), text(sample.value))
      end
    end
  end
  return j:finish(("%s from %s s on"):format(PAIR, text(warmup)))
end

-- Looks for so many in a row: those that are there, and those that might be if the missing ones were good.
local function find_run(j, deadline, is_good)
  local run, perhaps, longest, found, possible, last = 0, 0, 0, false, false, nil
  for _, sample in ipairs(j.series.all) do
    if sample.elapsed <= deadline and not found then
      local is_missing = sample.value == nil
      local is_inside = not is_missing and is_good(sample)
      if last and (life(last) ~= life(sample) or is_apart(last, sample)) then
        run, perhaps = 0, 0
      end
      run = is_inside and run + 1 or 0
      perhaps = (is_inside or is_missing) and perhaps + 1 or 0
      longest = math.max(longest, run)
      found, possible, last = run >= WITNESSES, possible or perhaps >= WITNESSES, sample
      j.judged = j.judged + (is_missing and 0 or 1)
    end
  end
  return { found = found, possible = possible, longest = longest }
end

--- Three samples in a row within target +- tolerance, the last of them no later than `deadline` seconds.
function patterns.converges_to(series, target, tolerance, deadline)
  judgement.number("converges_to", "the target", target)
  tolerance = check_seconds("converges_to", "the tolerance", tolerance)
  deadline = check_seconds("converges_to", "the deadline", deadline)
  local expected = ("%d samples in a row within %s +- %s by %s s"):format(WITNESSES, text(target),
    text(tolerance), text(deadline))
  local j = judgement.new(series, "converges_to", expected)
  local last, nan
  local seen = find_run(j, deadline, function(sample)
    last = sample
    if exact.is(sample.value) and sample.value ~= sample.value then
      nan = sample
      return false
    end
    return j:has_number(sample) and exact.is_near(sample.value, target, tolerance)
  end)
  for _, sample in ipairs(series.gaps) do
    if sample.elapsed <= deadline then
      j:skip(sample)
    end
  end
  if j.judged < WITNESSES then
    j.judged = 0
  elseif seen.possible and not seen.found then
    j:undecide(last, expected, ("no more than %d in a row, but samples are missing between them"):format(
      seen.longest))
  elseif not seen.found then
    local found = ("no more than %d in a row; the last one was %s"):format(seen.longest,
      exact.show(last.value))
    if nan then
      j:fail(last, expected, ("%s, and that of %s NaN"):format(found, place(nan)))
    else
      j:refute(last, expected, found)
    end
  end
  return j:finish(("%d samples with a value by %s s"):format(WITNESSES, text(deadline)))
end

-- --- each sample ---

--- Strict: a missing sample fails, and so does what is not the boolean true.
function patterns.always_true(series)
  local j = judgement.new(series, "always_true", "true", true)
  for _, sample in ipairs(series.all) do
    j.judged = j.judged + 1
    if sample.value == nil then
      j:skip(sample)
    elseif sample.value == false then
      j:refute(sample, "true", "false")
    elseif sample.value ~= true then
      j:fail(sample, "true", ("%s, which is no boolean"):format(exact.show(sample.value)))
    end
  end
  return j:finish "a sample"
end

local function each(series, check, expected, is_good)
  local j = judgement.new(series, check, expected, true)
  for _, sample in ipairs(series.all) do
    if j:has_number(sample) then
      j.judged = j.judged + 1
      if not is_good(sample.value) then
        j:refute(sample, expected, text(sample.value))
      end
    end
  end
  return j:finish "a sample with a value"
end

--- Strict, as always_true: series:each():at_least(limit).
patterns.each = {}

function patterns.each.at_least(series, limit)
  judgement.number("each():at_least", "the limit", limit)
  return each(series, "each at_least", "at least " .. text(limit), function(value)
    return order(value, limit) >= 0
  end)
end

function patterns.each.at_most(series, limit)
  judgement.number("each():at_most", "the limit", limit)
  return each(series, "each at_most", "at most " .. text(limit), function(value)
    return order(value, limit) <= 0
  end)
end

function patterns.each.between(series, low, high)
  judgement.range("each():between", low, high)
  return each(series, "each between", ("between %s and %s"):format(text(low), text(high)), function(value)
    return order(value, low) >= 0 and order(value, high) <= 0
  end)
end

-- --- two series ---

-- The other's samples by when they were taken; of several at once, in order.
local function by_moment(series)
  local moments = {}
  for _, sample in ipairs(series.all) do
    local key = ("%s/%.17g"):format(tostring(life(sample)), sample.elapsed)
    moments[key] = moments[key] or { next = 1 }
    table.insert(moments[key], sample)
  end
  return function(sample)
    local list = moments[("%s/%.17g"):format(tostring(life(sample)), sample.elapsed)]
    if list then
      list.next = list.next + 1
      return list[list.next - 1]
    end
  end
end

local function judge_ratio(j, sample, below, low, high)
  local function quotient()
    return ("%s over %s of %s"):format(text(sample.value), text(below.value), j.other.name)
  end
  if order(below.value, 0) == 0 then
    return j:undecide(sample, j.expected, "no ratio: " .. quotient())
  end
  local ratio = tonumber(sample.value) / tonumber(below.value)
  if ratio ~= ratio or order(ratio, low) < 0 or order(ratio, high) > 0 then
    j:refute(sample, j.expected, ("%s: %s"):format(text(ratio), quotient()))
  end
end

-- Whether there is a number to divide by; as Judgement:has_number, of the other series.
local function has_divisor(j, sample)
  if sample.value == nil then
    table.insert(j.other_gaps, sample)
  elseif not exact.is(sample.value) or sample.value ~= sample.value then
    j:fail(sample, j.expected, ("%s of %s below it"):format(exact.show(sample.value), j.other.name))
  else
    return true
  end
  return false
end

--- Each sample over the other series' of the same moment.
function patterns.ratio_within(series, other, low, high)
  if type(other) ~= "table" or type(other.all) ~= "table" then
    errors.refuse("invalid", ("ratio_within wants a series first, not %s"):format(exact.show(other)),
      "series:ratio_within(other, low, high)")
  end
  judgement.range("ratio_within", low, high)
  local j = judgement.new(series, "ratio_within", ("a ratio of %s to %s"):format(text(low), text(high)))
  local partner_of = by_moment(other)
  local alone = 0
  j.other, j.other_gaps = other, {}
  for _, sample in ipairs(series.all) do
    local partner = partner_of(sample)
    if not partner then
      alone = alone + 1
    else
      local is_number, is_divisor = j:has_number(sample), has_divisor(j, partner)
      if is_number and is_divisor then
        j.judged = j.judged + 1
        judge_ratio(j, sample, partner, low, high)
      end
    end
  end
  local missing = judgement.missing(j.other_gaps, #other.all)
  if missing then
    j:note(("%s: %s"):format(other.name, missing))
  end
  if alone > 0 then
    j:note(("%d of %d samples have none of %s at their time"):format(alone, #series.all, other.name))
  end
  return j:finish(("a moment at which %s has a value too"):format(other.name))
end

return patterns
