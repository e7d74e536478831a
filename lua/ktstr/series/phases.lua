-- What a series came to in each phase of a scenario: its first value, its last, the difference, and how two
-- phases compare.
local errors = require "ktstr.errors"
local exact = require "ktstr.exact"
local judgement = require "ktstr.series.judgement"

local phases = {}

local text, place = exact.text, judgement.place

--- The names of its phases, in order.
---@param series ktstr.Series
---@return (string|number)[]
function phases.names(series)
  local names, seen = {}, {}
  for _, sample in ipairs(series.all) do
    if sample.phase ~= nil and not seen[sample.phase] then
      seen[sample.phase] = true
      names[#names + 1] = sample.phase
    end
  end
  return names
end

local function unknown(series, phase)
  local names = {}
  for i, name in ipairs(phases.names(series)) do
    names[i] = exact.show(name)
  end
  errors.raise("not-found", ("%s: no sample is of the phase %s"):format(series.name, exact.show(phase)),
    #names > 0 and "there are: " .. table.concat(names, ", ") or "its samples have no phases")
end

--- The samples of a phase (nil: all). Raises "not-found".
---@param series ktstr.Series
---@param phase string|number|nil
---@return ktstr.SeriesSample[]
function phases.samples(series, phase)
  local list = {}
  for _, sample in ipairs(series.all) do
    if phase == nil or sample.phase == phase then
      list[#list + 1] = sample
    end
  end
  if phase ~= nil and #list == 0 then
    unknown(series, phase)
  end
  return list
end

-- Those with a value, those without.
local function of_phase(series, phase)
  local list, gaps = {}, {}
  for _, sample in ipairs(phases.samples(series, phase)) do
    local part = sample.value == nil and gaps or list
    part[#part + 1] = sample
  end
  return list, gaps
end

-- Why a phase's first and last value have no difference that is its own; nil: they have one.
local function broken(series, phase, from, to)
  if (from.epoch or 0) ~= (to.epoch or 0) then
    return ("the machine was taken back between %s and %s"):format(place(from), place(to))
  end
  for i = from.number, phase == nil and 0 or to.number do
    local sample = series.all[i]
    if sample.phase ~= phase then
      return ("%s comes more than once, and between is %s"):format(exact.show(phase), place(sample))
    end
  end
end

local function no_value(phase, needed, list, gaps)
  local words = ("%s takes %s, and has %d"):format(phase == nil and "the series" or "the phase "
    .. exact.show(phase), needed, #list)
  local missing = judgement.missing(gaps, #list + #gaps)
  return missing and ("%s; %s"):format(words, missing) or words
end

local take = {}

function take.first(list)
  return list[1] and list[1].value, list[1] and place(list[1])
end

function take.last(list)
  return take.first { list[#list] }
end

function take.delta(list, series, phase)
  if #list < 2 then
    return nil
  end
  local from, to = list[1], list[#list]
  local why = broken(series, phase, from, to)
  if why then
    return nil, why
  end
  if not (exact.is(from.value) and exact.is(to.value)) then
    errors.raise("invalid", ("a difference is of numbers, not of %s and %s"):format(
      exact.show(from.value), exact.show(to.value)))
  end
  return exact.difference(to.value, from.value), ("%s to %s"):format(place(from), place(to))
end

local needs = { first = "a sample with a value", last = "a sample with a value",
  delta = "two samples with a value" }

--- One value of a phase, or nil and the reason. Raises "not-found" for a phase that no sample is of.
---@param series ktstr.Series
---@param what "first"|"last"|"delta"
---@param phase string|number|nil nil: of all
---@return any value, string from where it is, or why it is not
---@return string|nil note which samples are missing there
function phases.value(series, what, phase)
  local list, gaps = of_phase(series, phase)
  local value, from = take[what](list, series, phase)
  if value == nil then
    return nil, from or no_value(phase, needs[what], list, gaps)
  end
  local missing = judgement.missing(gaps, #list + #gaps)
  return value, from, missing
end

-- --- two phases ---

---@class ktstr.PhaseRatio
---@field value number|nil the later over the earlier; nil: there is none, for `reason`
---@field reason string|nil
---@field at_most fun(self, limit: number): boolean, ktstr.SeriesFinding
---@field at_least fun(self, limit: number): boolean, ktstr.SeriesFinding
---@field between fun(self, low: number, high: number): boolean, ktstr.SeriesFinding

-- nil, the reason, and whether that is a fault of the values.
local function divide(ratio)
  for _, one in ipairs { ratio.earlier, ratio.later } do
    if one.value == nil then
      return nil, one.from
    elseif not exact.is(one.value) then
      return nil, ("%s is no number"):format(exact.show(one.value)), true
    end
  end
  if exact.order(ratio.earlier.value, 0) == 0 then
    return nil, ("it is 0 in the phase %s"):format(exact.show(ratio.earlier.phase))
  end
  return tonumber(ratio.later.value) / tonumber(ratio.earlier.value)
end

local function side(series, what, phase)
  local value, from, missing = phases.value(series, what, phase)
  return { phase = phase, value = value, from = from, missing = missing }
end

--- The fields of a ktstr.PhaseRatio.
---@param series ktstr.Series
---@param earlier string|number
---@param later string|number
---@param what "first"|"last"|"delta"|nil nil: last
---@return table
function phases.ratio(series, earlier, later, what)
  what = what or "last"
  if not take[what] then
    errors.refuse("invalid", ("ratio_across_phases: a phase has no '%s'"):format(tostring(what)),
      "first, last or delta")
  elseif earlier == nil or later == nil then
    errors.refuse("invalid", "ratio_across_phases wants two phases", 'series:ratio_across_phases("a", "b")')
  end
  local ratio = { series = series, what = what, earlier = side(series, what, earlier),
    later = side(series, what, later) }
  ratio.value, ratio.reason, ratio.is_wrong = divide(ratio)
  return ratio
end

-- "30 in 'b' (periodic_004 at 0.9 s)"
local function side_text(one)
  return ("%s in %s (%s)"):format(exact.show(one.value), exact.show(one.phase), one.from)
end

local function judge(ratio, words, is_good)
  local expected = ("a ratio of %s to %s %s"):format(exact.show(ratio.later.phase),
    exact.show(ratio.earlier.phase), words)
  local j = judgement.new(ratio.series, "ratio_across_phases", expected)
  for _, one in ipairs { ratio.earlier, ratio.later } do
    if one.missing then
      j:note(("phase %s: %s"):format(exact.show(one.phase), one.missing))
    end
  end
  j.judged = 1
  if not ratio.value then
    local report = ratio.is_wrong and j.fail or j.undecide
    report(j, nil, expected, "no ratio: " .. ratio.reason)
    return j:finish ""
  end
  local found = ("%s, the %s being %s over %s"):format(text(ratio.value), ratio.what, side_text(ratio.later),
    side_text(ratio.earlier))
  if ratio.value ~= ratio.value then
    j:fail(nil, expected, found)
  elseif not is_good(ratio.value) then
    j:refute(nil, expected, found)
  end
  return j:finish ""
end

--- Statements about a ratio, as those of ktstr.series.patterns.
phases.judges = {}

function phases.judges.at_most(ratio, limit)
  judgement.number("ratio_across_phases():at_most", "the limit", limit)
  return judge(ratio, "of at most " .. text(limit), function(value)
    return exact.order(value, limit) <= 0
  end)
end

function phases.judges.at_least(ratio, limit)
  judgement.number("ratio_across_phases():at_least", "the limit", limit)
  return judge(ratio, "of at least " .. text(limit), function(value)
    return exact.order(value, limit) >= 0
  end)
end

function phases.judges.between(ratio, low, high)
  judgement.range("ratio_across_phases():between", low, high)
  return judge(ratio, ("between %s and %s"):format(text(low), text(high)), function(value)
    return exact.order(value, low) >= 0 and exact.order(value, high) <= 0
  end)
end

return phases
