-- Captures on a clock: when they are due, and what becomes of each. Arithmetic alone: whoever drives it says
-- what time it is and how each attempt ended.
local errors = require "ktstr.errors"
local options = require "ktstr.options"

local periodic = {}

-- They lie in the middle of the workload, not where it begins or ends: tenths of it, which are exact.
local LEAD_IN, SLICE = 1, 8
local LEAST_SPACING_S = 0.1
local MOST = 64
local LONGEST_S = 24 * 3600
-- After so many rendezvous timeouts in a row the rest is given up: the host is overloaded.
local TIMEOUTS = 2
-- A capture that finds another freeze going on is tried again after so long.
local RETRY_S = 0.005

local RULES = {
  count = { "number", required = true, min = 1, integer = true },
  over = { "number", required = true, above = 0, max = LONGEST_S },
}

---@class ktstr.PeriodicOptions
---@field count integer how many captures: 1 to 64
---@field over number seconds that the workload lasts

---@class ktstr.PeriodicMoment
---@field tag string "periodic_000"
---@field moment number seconds of the workload, from its start
---@field latest number when it is too late for it: the next one's moment, or the slice's end

---@class ktstr.PeriodicPlan
---@field over number seconds
---@field spacing number seconds from one to the next
---@field [integer] ktstr.PeriodicMoment

-- How many fit, 0 when not even one does: the spacing of n captures is 0.8 d / (n + 1).
local function most_in(seconds)
  return math.max(0, math.min(MOST, math.floor(SLICE / 10 / LEAST_SPACING_S * seconds) - 1))
end

local function least_for(count)
  return (count + 1) * LEAST_SPACING_S * 10 / SLICE
end

local function advice(count, over)
  local most = most_in(over)
  local longer = count <= MOST and ("; %d take at least %.14g s"):format(count, least_for(count)) or ""
  if most == 0 then
    return ("%.14g s is too short for one, which takes %.14g s%s"):format(over, least_for(1),
      count > 1 and longer or "")
  end
  return ("at most %d fit into %.14g s%s"):format(most, over, longer)
end

--- When captures are due. Raises "invalid" when there are too many or when they are too close together, with
--- what would fit.
---@param given ktstr.PeriodicOptions
---@param what string|nil whose options they are, for messages; nil: vm:periodic
---@return ktstr.PeriodicPlan
function periodic.plan(given, what)
  what = what or "vm:periodic"
  given = options.check(what, given, RULES)
  local count, over = given.count, given.over
  local spacing = over * SLICE / (10 * (count + 1))
  if count > MOST then
    errors.refuse("invalid", ("%s: %.14g captures are more than a run can have"):format(what, count),
      advice(count, over))
  elseif count > most_in(over) then
    errors.refuse("invalid", ("%s: %d captures over %.14g s are %.3g ms apart, and must be %.14g ms apart")
      :format(what, count, over, spacing * 1000, LEAST_SPACING_S * 1000), advice(count, over))
  end
  local plan = { over = over, spacing = spacing }
  -- 0.1 d + i 0.8 d / (n + 1), rounded once.
  local function boundary(i)
    return over * (LEAD_IN * (count + 1) + i * SLICE) / (10 * (count + 1))
  end
  for i = 1, count do
    plan[i] = { tag = ("periodic_%03d"):format(i - 1), moment = boundary(i), latest = boundary(i + 1) }
  end
  return plan
end

-- --- the run ---

---@class ktstr.PeriodicOutcome
---@field tag string
---@field moment number seconds of the workload
---@field elapsed number|nil seconds of the workload at the last attempt
---@field reason string|nil why there is no capture; nil: it was taken

---@class ktstr.Periodic
---@field plan ktstr.PeriodicPlan
---@field outcomes ktstr.PeriodicOutcome[] so far, in order: the taken ones and the placeholders
---@field state "waiting"|"running"|"paused"|"over"|"given up"
local Periodic = {}
Periodic.__index = Periodic

--- One run of it. Its times, `now`, are seconds of a clock that stands while the machine is frozen; one that
--- goes back is taken to stand.
---@param plan ktstr.PeriodicPlan
---@return ktstr.Periodic
function periodic.new(plan)
  return setmetatable({ plan = plan, outcomes = {}, state = "waiting", _next = 1, _paused = 0, _timeouts = 0,
    _now = -math.huge }, Periodic)
end

local function clock(self, now)
  self._now = math.max(self._now, now)
  return self._now
end

--- Seconds of the workload: since its start, without its pauses. 0 before the start; after its end, how long
--- it was.
---@param now number
---@return number
function Periodic:elapsed(now)
  if not self._started then
    return 0
  end
  now = clock(self, now)
  return (self._ended or self._paused_at or now) - self._started - self._paused
end

local function close(self, state, now)
  self.state = state
  self._ended = self._paused_at or clock(self, now)
end

-- What became of the next one.
local function settle(self, elapsed, reason)
  local one = self.plan[self._next]
  self._next = self._next + 1
  self._retry_at = nil
  table.insert(self.outcomes, { tag = one.tag, moment = one.moment, elapsed = elapsed, reason = reason })
end

local function settle_rest(self, state, now, reason)
  close(self, state, now)
  while self.plan[self._next] do
    settle(self, nil, reason)
  end
end

--- The workload starts (SCENARIO_START). A second start changes nothing.
---@param now number
function Periodic:start(now)
  if self.state == "waiting" then
    self._started = clock(self, now)
    self.state = "running"
  end
end

--- It pauses (SCENARIO_PAUSE): nothing is due until it goes on, and what is left comes later by as much.
--- Nothing changes unless it runs.
---@param now number
function Periodic:pause(now)
  if self.state == "running" then
    self._paused_at = clock(self, now)
    self.state = "paused"
  end
end

--- It goes on (SCENARIO_RESUME). Nothing changes unless it is paused.
---@param now number
function Periodic:resume(now)
  if self.state == "paused" then
    self._paused = self._paused + clock(self, now) - self._paused_at
    self._paused_at = nil
    self.state = "running"
  end
end

--- It ends (SCENARIO_END, or the machine's end): what has not been taken has the reason.
---@param now number
---@param reason string|nil
function Periodic:finish(now, reason)
  if self.state ~= "over" and self.state ~= "given up" then
    settle_rest(self, "over", now, reason or (self._started
      and ("the workload ended after %.3f s"):format(self:elapsed(now)) or "the workload did not start"))
  end
end

--- The capture to be taken now, or nil. It stays due until it is settled. One for which it is too late has
--- been settled: it is among the outcomes, with the reason.
---@param now number
---@return ktstr.PeriodicMoment|nil
function Periodic:due(now)
  local elapsed = self:elapsed(now)
  while self.state == "running" and self.plan[self._next] do
    local one = self.plan[self._next]
    if elapsed < one.latest then
      return clock(self, now) >= self:next_at() and one or nil
    end
    settle(self, elapsed, ("it is too late by %.0f ms%s"):format((elapsed - one.moment) * 1000,
      self._retry_at and ": another freeze held the machine" or ""))
  end
  if self.state == "running" then
    close(self, "over", now)
  end
end

--- How the attempt at the capture that was due ended. "busy": another freeze held the machine; it is tried
--- again soon. "timeout": the rendezvous timed out; after two in a row the rest is given up. Another text is
--- the reason why it could not be taken.
---@param now number
---@param outcome string|nil nil: it was taken
function Periodic:settle(now, outcome)
  local elapsed = self:elapsed(now)
  if self.state ~= "running" or not self.plan[self._next] then
    return
  elseif outcome == "busy" then
    self._retry_at = elapsed + RETRY_S
    return
  elseif outcome == "timeout" then
    self._timeouts = self._timeouts + 1
    settle(self, elapsed, "the rendezvous timed out")
  else
    self._timeouts = 0
    settle(self, elapsed, outcome)
  end
  if self._timeouts == TIMEOUTS then
    settle_rest(self, "given up", now, ("given up after %d rendezvous timeouts in a row"):format(TIMEOUTS))
  elseif not self.plan[self._next] then
    close(self, "over", now)
  end
end

--- When to ask again, on the clock of `now`: nil while nothing is to come.
---@return number|nil
function Periodic:next_at()
  local one = self.state == "running" and self.plan[self._next]
  return one and self._started + self._paused + (self._retry_at or one.moment) or nil
end

--- How many there are so far.
---@return integer taken
---@return integer missing
function Periodic:counts()
  local taken = 0
  for _, outcome in ipairs(self.outcomes) do
    taken = taken + (outcome.reason and 0 or 1)
  end
  return taken, #self.outcomes - taken
end

return periodic
