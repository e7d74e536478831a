-- What a statement about a series comes to: failures, samples that say nothing, notes; then one finding.
local errors = require "ktstr.errors"
local exact = require "ktstr.exact"
local report = require "ktstr.report"

local SHOWN_MISSING = 3

---@class ktstr.SeriesFailure
---@field sample ktstr.SeriesSample|nil
---@field expected string
---@field found string

---@class ktstr.SeriesFinding: ktstr.Finding
---@field failures ktstr.SeriesFailure[] all of them; the finding's text has the first
---@field refuted boolean a value is there that violates it, not only one that is missing or no number
---@field notes string[] what it does not stand on: missing samples
local Finding = {}
Finding.__index = Finding

function Finding:__tostring()
  local text = report.finding(self)
  for _, note in ipairs(self.notes) do
    text = text .. "\n  note: " .. note
  end
  return text
end

---@class ktstr.Judgement
---@field judged integer how many comparisons were made
---@field usable integer how many numbers there were
---@field expected string
local Judgement = {}
Judgement.__index = Judgement

local judgement = {}

--- "periodic_003 at 0.700 s"
---@param sample ktstr.SeriesSample
---@return string
function judgement.place(sample)
  return ("%s at %.3f s"):format(sample.tag or "sample " .. sample.number, sample.elapsed)
end

--- "2 of 10 samples are missing: periodic_003 at 0.700 s (it timed out); ..."; nil when none is.
---@param gaps ktstr.SeriesSample[]
---@param total integer
---@return string|nil
function judgement.missing(gaps, total)
  if #gaps == 0 then
    return nil
  end
  local parts = {}
  for i = 1, math.min(#gaps, SHOWN_MISSING) do
    parts[i] = ("%s (%s)"):format(judgement.place(gaps[i]), gaps[i].reason)
  end
  if #gaps > SHOWN_MISSING then
    parts[#parts + 1] = ("and %d more"):format(#gaps - SHOWN_MISSING)
  end
  return ("%d of %d samples %s missing: %s"):format(#gaps, total, #gaps == 1 and "is" or "are",
    table.concat(parts, "; "))
end

--- Begins one.
---@param series ktstr.Series
---@param check string
---@param expected string for a sample that is no number, and where there are too few
---@param is_strict boolean|nil a missing sample is a failure, not a note
---@return ktstr.Judgement
function judgement.new(series, check, expected, is_strict)
  return setmetatable({
    series = series, check = check, expected = expected, is_strict = is_strict or false,
    failures = {}, undecided = {}, gaps = {}, notes = {}, refuted = false, judged = 0, usable = 0,
  }, Judgement)
end

function Judgement:fail(sample, expected, found)
  self.failures[#self.failures + 1] = { sample = sample, expected = expected, found = found }
end

--- A value that is there violates it.
function Judgement:refute(sample, expected, found)
  self.refuted = true
  self:fail(sample, expected, found)
end

--- A comparison that was to be made cannot be.
function Judgement:undecide(sample, expected, why)
  self.undecided[#self.undecided + 1] = { sample = sample, expected = expected, found = why }
end

function Judgement:note(text)
  self.notes[#self.notes + 1] = text
end

--- A sample without a value.
function Judgement:skip(sample)
  self.gaps[#self.gaps + 1] = sample
  if self.is_strict then
    self:fail(sample, self.expected, ("no data (%s)"):format(sample.reason))
  end
end

--- Whether a sample has a number to compare; one that has none is missing, and NaN and other types fail.
---@param sample ktstr.SeriesSample
---@return boolean
function Judgement:has_number(sample)
  local value = sample.value
  if value == nil then
    self:skip(sample)
  elseif not exact.is(value) then
    self:fail(sample, self.expected, ("%s, which is no number"):format(exact.show(value)))
  elseif value ~= value then
    self:fail(sample, self.expected, "NaN")
  else
    self.usable = self.usable + 1
    return true
  end
  return false
end

local function first_text(list)
  local found = list[1].found
  return #list > 1 and ("%s (and %d more)"):format(found, #list - 1) or found
end

local function where(self, one)
  local name = self.series.name
  return one and one.sample and ("%s, %s"):format(name, judgement.place(one.sample)) or name
end

-- Why nothing could be compared, with the numbers.
local function too_few(self, needed)
  local text = ("it takes %s, and there %s among %d"):format(needed,
    self.usable == 1 and "is 1" or ("are %d"):format(self.usable), #self.series.all)
  if self.series.left_out then
    text = ("%s; %s"):format(text, self.series.left_out)
  end
  return text
end

local function settle(self, needed)
  local one = self.failures[1]
  if one then
    return "fail", one, first_text(self.failures)
  elseif self.judged == 0 then
    return "inconclusive", nil, too_few(self, needed)
  end
  one = self.undecided[1]
  if one then
    return "inconclusive", one, first_text(self.undecided)
  end
  return "pass"
end

--- Ends it. Without a single comparison it is inconclusive.
---@param needed string what a comparison takes: "two samples with a value"
---@return ktstr.SeriesFinding
function Judgement:finish(needed)
  local status, one, found = settle(self, needed)
  local missing = judgement.missing(self.gaps, #self.series.all)
  if missing then
    table.insert(self.notes, 1, missing)
  end
  return setmetatable({
    check = self.check,
    status = status,
    where = where(self, one),
    expected = one and one.expected,
    found = found,
    failures = self.failures,
    refuted = self.refuted,
    notes = self.notes,
  }, Finding)
end

--- Refuses what makes no sense as a number to compare with.
---@param check string
---@param name string of the parameter
---@param value any
---@return number|ffi.cdata*
function judgement.number(check, name, value)
  if not exact.is(value) or value ~= value then
    errors.refuse("invalid", ("%s: %s must be a number, not %s"):format(check, name, exact.show(value)))
  end
  return value
end

--- Refuses a range whose ends are no numbers, or that is empty.
---@param check string
---@param low any
---@param high any
function judgement.range(check, low, high)
  judgement.number(check, "the lower end", low)
  judgement.number(check, "the upper end", high)
  if exact.order(low, high) > 0 then
    errors.refuse("invalid", ("%s: nothing is between %s and %s"):format(check, exact.text(low),
      exact.text(high)), "the lower end comes first")
  end
end

return judgement
