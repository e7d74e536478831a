-- ktstr.series: one value over time, from captures, from a monitor, from a list; and what can be stated about
-- it (ktstr.series.patterns).
local errors = require "ktstr.errors"
local exact = require "ktstr.exact"
local judged = require "ktstr.series.judged"
local judgement = require "ktstr.series.judgement"
local options = require "ktstr.options"
local patterns = require "ktstr.series.patterns"
local phases = require "ktstr.series.phases"

local series = {}

---@class ktstr.SeriesSample
---@field number integer among all samples of the series, from 1
---@field tag string|nil the capture's
---@field elapsed number seconds: the time that statements go by
---@field time number|nil of a monitor's: the host's CLOCK_MONOTONIC, seconds
---@field epoch integer|nil of a monitor's: another one once the machine was taken back (vm:rewind)
---@field phase string|number|nil of the scenario
---@field workload number|nil of a capture: seconds of its workload
---@field stretch integer|nil of one phase's: another one where another phase lies in between
---@field value any nil: missing
---@field reason string|nil why it is missing

--- Statements return whether they hold, and the finding: assert(series:nondecreasing()). A statement that
--- could not be judged does not hold; the finding's status is "inconclusive" then.
---@class ktstr.Series
---@field [integer] ktstr.SeriesSample those with a value, in order of time
---@field name string the field's, for findings
---@field all ktstr.SeriesSample[] also those that are missing
---@field gaps ktstr.SeriesSample[] only those
---@field missing integer how many
---@field nondecreasing fun(self): boolean, ktstr.SeriesFinding
---@field strictly_increasing fun(self): boolean, ktstr.SeriesFinding
---@field rate_within fun(self, low: number, high: number): boolean, ktstr.SeriesFinding per second, from each
---  sample to the next
---@field steady_within fun(self, warmup: number, tolerance: number): boolean, ktstr.SeriesFinding from warmup
---  seconds on, each within that share of the mean
---@field converges_to fun(self, target: number, tolerance: number, deadline: number): boolean,
---  ktstr.SeriesFinding three in a row within target +- tolerance by deadline, seconds
---@field always_true fun(self): boolean, ktstr.SeriesFinding strict: a missing sample fails
---@field ratio_within fun(self, other: ktstr.Series, low: number, high: number): boolean, ktstr.SeriesFinding
---  over the other's sample of the same moment
---@field each fun(self): ktstr.Each
---@field ratio_across_phases fun(self, earlier: string|number, later: string|number,
---  what: "first"|"last"|"delta"|nil): ktstr.PhaseRatio later over earlier; nil: of their last values

---@class ktstr.Each
---@field at_least fun(self, limit: number): boolean, ktstr.SeriesFinding strict: a missing sample fails
---@field at_most fun(self, limit: number): boolean, ktstr.SeriesFinding
---@field between fun(self, low: number, high: number): boolean, ktstr.SeriesFinding both ends included

-- --- what is judged ---

local function on_series(judges)
  local list = {}
  for name, judge in pairs(judges) do
    list[name] = function(view, ...)
      return judge(view.series, ...)
    end
  end
  return list
end

local Each = judged.class("each sample of a series", on_series(patterns.each))
local Ratio = judged.class("a ratio of two phases", phases.judges)

local statements, views = {}, {}
for name, judge in pairs(patterns) do
  statements[name] = type(judge) == "function" and judge or nil
end

function views.each(self)
  return setmetatable({ series = self }, Each)
end

function views.ratio_across_phases(self, earlier, later, what)
  return setmetatable(phases.ratio(self, earlier, later, what), Ratio)
end

local by_sample = "a series is compared sample by sample: :each():%s(...)"
local Series = judged.class("a series", statements, views, {
  at_least = by_sample:format "at_least",
  at_most = by_sample:format "at_most",
  between = by_sample:format "between",
  in_phase = "t:expect(series:in_phase(...))",
  since = "t:expect(series:since(...))",
  delta = "t:expect(series:delta(...)):at_least(...)",
  first = "t:expect(series:first(...)):at_least(...)",
  last = "t:expect(series:last(...)):at_least(...)",
})
Series.is_series = true
local methods = Series.__index

-- --- phases ---

--- The names of the scenario's phases, in order.
---@return (string|number)[]
function methods:phases()
  return phases.names(self)
end

--- The first value of a phase (nil: of all); nil and the reason when there is none. Raises "not-found" for a
--- phase that no sample is of.
---@param phase string|number|nil
---@return any, string|nil
function methods:first(phase)
  local value, reason = phases.value(self, "first", phase)
  return value, value == nil and reason or nil
end

--- Likewise the last.
---@param phase string|number|nil
---@return any, string|nil
function methods:last(phase)
  local value, reason = phases.value(self, "last", phase)
  return value, value == nil and reason or nil
end

--- The last minus the first, signed and exact; it takes two samples.
---@param phase string|number|nil
---@return number|ffi.cdata*|nil, string|nil
function methods:delta(phase)
  local value, reason = phases.value(self, "delta", phase)
  return value, value == nil and reason or nil
end

function Series:__tostring()
  return ("the series %s: %d samples, %d missing"):format(self.name, #self.all, self.missing)
end

-- --- making one ---

-- Whoever has a series under busted has its assertions.
local extended
local function extend_luassert()
  local assert = package.loaded["luassert.assert"]
  if assert and assert ~= extended then
    extended = assert
    require "ktstr.series.luassert"(assert, series.is)
  end
end

-- In order of time; of one life of the machine after the other.
local function sort(samples)
  local lives, count, is_sorted = {}, 0, true
  local function is_before(a, b)
    local life_a, life_b = lives[a.epoch or 0], lives[b.epoch or 0]
    if life_a ~= life_b then
      return life_a < life_b
    elseif a.elapsed ~= b.elapsed then
      return a.elapsed < b.elapsed
    end
    return a.number < b.number
  end
  for i, sample in ipairs(samples) do
    local epoch = sample.epoch or 0
    if not lives[epoch] then
      count = count + 1
      lives[epoch] = count
    end
    sample.number = i
    is_sorted = is_sorted and (i == 1 or is_before(samples[i - 1], sample))
  end
  -- As a monitor's always are.
  if not is_sorted then
    table.sort(samples, is_before)
  end
end

--- Of samples that are made already: each with elapsed, and value or reason.
---@param name string
---@param samples ktstr.SeriesSample[] becomes the series'
---@param left_out string|nil which were not taken into it, for findings
---@return ktstr.Series
function series.of_samples(name, samples, left_out)
  extend_luassert()
  sort(samples)
  local self = { name = name, all = samples, gaps = {}, left_out = left_out }
  for i, sample in ipairs(samples) do
    sample.number = i
    local part = sample.value == nil and self.gaps or self
    part[#part + 1] = sample
  end
  self.missing = #self.gaps
  return setmetatable(self, Series)
end

local function copy(sample)
  local one = {}
  for name, value in pairs(sample) do
    one[name] = value
  end
  return one
end

--- What is of one phase of the scenario, for statements about that phase; the time stays as it is. Raises
--- "not-found" for a phase that no sample is of.
---   t:expect(switches:in_phase "storm"):rate_within(100, 1e5)
---@param phase string|number
---@return ktstr.Series
function methods:in_phase(phase)
  if phase == nil then
    errors.refuse("invalid", "series:in_phase wants a phase", 'series:in_phase "storm"')
  end
  local samples, stretch, last = {}, 0, nil
  for i, sample in ipairs(phases.samples(self, phase)) do
    samples[i] = copy(sample)
    stretch = stretch + (last and sample.number > last.number + 1 and 1 or 0)
    samples[i].stretch, last = stretch, sample
  end
  return series.of_samples(("%s in %s"):format(self.name, exact.show(phase)), samples,
    ("%d of %d are not of the phase %s"):format(#self.all - #samples, #self.all, exact.show(phase)))
end

--- A part of it, its time counted from there: what warm-ups and deadlines are to be counted from. Samples
--- before are left out.
---@param seconds number
---@return ktstr.Series
function methods:since(seconds)
  -- A uint64_t would make one of the difference.
  seconds = tonumber(judgement.number("series:since", "the time", seconds))
  if math.abs(seconds) == math.huge then
    errors.refuse("invalid", ("series:since: the time cannot be %s"):format(exact.show(seconds)))
  end
  local samples = {}
  for _, sample in ipairs(self.all) do
    if sample.elapsed >= seconds then
      local one = copy(sample)
      one.elapsed = sample.elapsed - seconds
      samples[#samples + 1] = one
    end
  end
  return series.of_samples(self.name, samples, ("%d of %d are from before %s s"):format(
    #self.all - #samples, #self.all, exact.show(seconds)))
end

--- Also one of another copy of the library: busted may load it once a file.
---@param value any
---@return boolean
function series.is(value)
  local mt = type(value) == "table" and getmetatable(value)
  return type(mt) == "table" and mt.is_series == true
end

-- --- from captures and lists ---

-- What an accessor raises for what is not there; anything else is a mistake.
local ABSENT = { ["not-found"] = true, null = true, unmapped = true }

local RULES = {
  name = { "string" },
  source = { "string" },
  time = { "string", one_of = { "machine", "workload" } },
}

local function elapsed_of(entry, i)
  local seconds = entry.elapsed or entry.time or entry[1]
  if entry.elapsed_ms then
    seconds = type(entry.elapsed_ms) == "number" and entry.elapsed_ms / 1000
  end
  if type(seconds) ~= "number" or seconds ~= seconds or math.abs(seconds) == math.huge then
    errors.raise("invalid", ("ktstr.series: sample %d has no time"):format(i),
      "a capture, { seconds, value }, or { elapsed = seconds, value = value }")
  end
  return seconds
end

-- A function that gives the value of an entry, or nil and the reason.
local function reader(field)
  if field == nil then
    return function(entry)
      if entry.record ~= nil or type(entry.get) == "function" then
        errors.raise("invalid", "ktstr.series: a series of captures wants a field",
          'ktstr.series(captures, "cpus[0].rq.nr_running")')
      end
      if entry.value ~= nil then
        return entry.value
      end
      return entry[2]
    end
  end
  local access = field
  if type(field) == "string" then
    function access(record)
      return record:get(field)
    end
  end
  return function(entry)
    local record = entry.record
    if record == nil then
      record = entry
    end
    if type(field) == "string" and record == entry and (entry.value ~= nil or entry[2] ~= nil) then
      errors.raise("invalid", ("ktstr.series: a list has its values itself: it takes no field '%s'"):format(
        field), 'a name for findings comes third: ktstr.series(list, nil, "name")')
    end
    if type(field) == "string" and (type(record) ~= "table" or type(record.get) ~= "function") then
      return nil, "it has no record"
    end
    local ok, value, why = pcall(access, record)
    if ok then
      return value, why
    elseif errors.is(value) and ABSENT[value.code] then
      return nil, tostring(value)
    end
    error(value, 0)
  end
end

-- By the workload's time, which a second workload begins anew.
local function go_by_workload(samples)
  for i, sample in ipairs(samples) do
    local before = samples[i - 1]
    if before and sample.workload < before.workload then
      errors.refuse("invalid", ("ktstr.series: %s and %s are of two workloads"):format(
        judgement.place(before), judgement.place(sample)), "by the workload's time a series is of one")
    end
  end
  for _, sample in ipairs(samples) do
    sample.elapsed, sample.workload = sample.workload, nil
  end
end

local function sample_of(entry, i, read)
  if type(entry) ~= "table" then
    errors.raise("invalid", ("ktstr.series: sample %d is no table"):format(i),
      "a capture, { seconds, value }, or { elapsed = seconds, value = value }")
  end
  local sample = {
    tag = entry.tag,
    elapsed = elapsed_of(entry, i),
    time = entry.time,
    epoch = entry.epoch,
    phase = entry.phase,
    workload = type(entry.workload_ms) == "number" and entry.workload_ms / 1000 or nil,
  }
  if entry.reason ~= nil then
    sample.reason = tostring(entry.reason)
    return sample
  end
  local value, why = read(entry)
  sample.value = value
  if value == nil then
    sample.reason = why and tostring(why) or "it has no value"
  end
  return sample
end

--- A value over time. Raises "invalid".
---   ktstr.series(vm:captures(), "cpus[0].rq.nr_switches", { source = "periodic", time = "workload" })
---   ktstr.series(vm:captures(), function(record) return record:cpu(0).rq.nr_running end, "nr_running")
---   ktstr.series { { 0.1, 5 }, { 0.2, 7 } }
---@param source table[] captures, placeholders among them; or { seconds, value } or { elapsed=, value= } each
---@param field string|(fun(record: table): any, string|nil)|nil a path for record:get(), or what gives the
---  value: nil and a reason where there is none; not for a list that has its values itself
---@param given string|{ name: string|nil, source: string|nil, time: string|nil }|nil name: for findings.
---  source: only captures of that one ("periodic"). time: "machine", since its start without freezes; or
---  "workload", since that one's start, its pauses taken out, too: captures without it are left out
---@return ktstr.Series
function series.new(source, field, given)
  if type(source) ~= "table" or series.is(source) then
    errors.refuse("invalid", ("ktstr.series wants a list of captures or of { seconds, value }, not %s")
      :format(series.is(source) and "a series" or options.show(source)))
  elseif field ~= nil and type(field) ~= "string" and type(field) ~= "function" then
    errors.refuse("invalid", ("ktstr.series: the field is a path or a function, not %s"):format(
      options.show(field)))
  end
  given = options.check("ktstr.series", type(given) == "string" and { name = given } or given, RULES)
  local read, samples, others, timeless = reader(field), {}, 0, 0
  for i, entry in ipairs(source) do
    local sample = (not given.source or type(entry) ~= "table" or entry.source == given.source)
      and sample_of(entry, i, read)
    if not sample then
      others = others + 1
    elseif given.time == "workload" and not sample.workload then
      timeless = timeless + 1
    else
      samples[#samples + 1] = sample
    end
  end
  local left_out = {}
  if others > 0 then
    left_out[1] = ("%d of %d are not of the source '%s'"):format(others, #source, given.source)
  end
  if timeless > 0 then
    table.insert(left_out, ("%d of %d have no time of a workload"):format(timeless, #source))
  end
  local name = given.name or type(field) == "string" and field or "value"
  local made = series.of_samples(name, samples, left_out[1] and table.concat(left_out, "; "))
  if given.time == "workload" then
    go_by_workload(made.all)
  end
  return made
end

return series
