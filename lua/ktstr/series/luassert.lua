-- The statements about a series as assertions of luassert: assert.nondecreasing(series),
-- assert.rate_within(series, 1, 2), assert.is_not.nondecreasing(series). Each takes a message last.
local patterns = require "ktstr.series.patterns"
local phases = require "ktstr.series.phases"

local MESSAGE = "assertion.ktstr_series"

-- How many arguments each takes beside the series.
local PARAMETERS = {
  nondecreasing = 0,
  strictly_increasing = 0,
  rate_within = 2,
  steady_within = 2,
  converges_to = 3,
  always_true = 0,
  ratio_within = 3,
  each_at_least = 1,
  each_at_most = 1,
  each_between = 2,
  ratio_across_phases = 4,
}

local function judge_of(name)
  if name == "ratio_across_phases" then
    return function(series, earlier, later, low, high)
      return phases.judges.between(phases.ratio(series, earlier, later), low, high)
    end
  end
  local of_each = name:match "^each_(.*)"
  return of_each and patterns.each[of_each] or patterns[name]
end

-- A statement is refuted only by a value that violates it: what is missing or no number, or could not be
-- compared, raises with and without `not`.
local function holds(state, finding)
  if finding.status == "pass" then
    return true
  elseif finding.refuted then
    return false
  end
  return not state.mod
end

local function add(assert, is_series, name, count)
  local judge = judge_of(name)
  assert:register("assertion", name, function(state, arguments)
    local series = arguments[1]
    if not is_series(series) then
      error(("assert.%s wants a series of ktstr's, not %s"):format(name, tostring(series)), 0)
    end
    local finding = judge(series, unpack(arguments, 2, count + 1))
    local message = arguments[count + 2]
    if message ~= nil then
      state.failure_message = message
    end
    local text = tostring(finding)
    if not state.mod and finding.status == "pass" then
      text = ("%s (%s): expected that it does not hold, and it does"):format(name, series.name)
    end
    for i = 1, arguments.n do
      arguments[i] = nil
    end
    arguments[1], arguments.n, arguments.nofmt = text, 1, { true }
    return holds(state, finding)
  end, MESSAGE, MESSAGE)
end

--- Adds them.
---@param assert table luassert's
---@param is_series fun(value: any): boolean
return function(assert, is_series)
  require("say"):set(MESSAGE, "%s")
  for name, count in pairs(PARAMETERS) do
    add(assert, is_series, name, count)
  end
end
