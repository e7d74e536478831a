-- Captures on a clock: the moments at which they are due. The coordinator's thread takes them, whatever this
-- one does (core/capture/periodic.h).
local errors = require "ktstr.errors"
local options = require "ktstr.options"

local periodic = {}

-- They lie in the middle of the workload, not where it begins or ends: tenths of it, which are exact.
local LEAD_IN, SLICE = 1, 8
local LEAST_SPACING_S = 0.1
local MOST = 64
local LONGEST_S = 24 * 3600

local RULES = {
  count = { "number", required = true, min = 1, integer = true },
  over = { "number", required = true, above = 0, max = LONGEST_S },
  wait = { "boolean" },
}

---@class ktstr.PeriodicOptions
---@field count integer how many captures: 1 to 64
---@field over number seconds that the workload lasts
---@field wait boolean|nil it starts when the guest says so (SCENARIO_START), or :start(); nil: now

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

-- --- a run of it ---

---@class ktstr.Periodic
---@field plan ktstr.PeriodicPlan
---@field after number of the machine's captures: the last one before this set
---@field last number|nil the last one before the next set; nil: there is none
local Periodic = {}
Periodic.__index = Periodic

local function control(self, what)
  return self.vm.machine:periodic(what)
end

--- Nothing is due until it goes on; what is left comes later by as much. A guest says the same with
--- SCENARIO_PAUSE and SCENARIO_RESUME. Where it makes no sense nothing changes. Raises "ended".
function Periodic:pause()
  control(self, "pause")
end

--- Raises "ended".
function Periodic:resume()
  control(self, "resume")
end

--- The workload starts now, where it was not to start at once.
function Periodic:start()
  control(self, "start")
end

--- The workload has ended: what was not taken is a placeholder that says so.
---@return ktstr.Capture[] as :captures()
function Periodic:finish()
  -- A machine that has ended has ended them, too.
  if not self.vm.result and not self.vm.channel.ended then
    local ok, e = pcall(control, self, "finish")
    if not ok and not errors.is(e, "ended") then
      error(e, 0)
    end
  end
  return self:captures()
end

--- What has become of them so far. Raises "ended".
---@return "waiting"|"running"|"paused"|"over"|"given up" state
---@return integer taken
---@return integer missed placeholders
function Periodic:state()
  return control(self, "look")
end

function Periodic:__tostring()
  local ok, state, taken, missed = pcall(self.state, self)
  return ok and ("captures on a clock: %s, %d taken, %d missing"):format(state, taken, missed)
    or "captures on a clock: the machine has ended"
end

--- Its captures so far, in order, with the placeholders of those that were not taken.
---@return ktstr.Capture[]
function Periodic:captures()
  local ours, list = {}, {}
  for _, one in ipairs(self.plan) do
    ours[one.tag] = true
  end
  for _, one in ipairs(require("ktstr.capture").list(self.vm)) do
    local number = one._raw.number
    -- Other sets have the same names.
    if ours[one.tag] and one.source == "periodic" and number > self.after
      and number <= (self.last or math.huge) then
      list[#list + 1] = one
    end
  end
  return list
end

--- Takes captures at the plan's moments from now on, or from the guest's SCENARIO_START on. Raises as
--- periodic.plan, "busy" when some are going on, "ended".
---@param vm ktstr.VM
---@param given ktstr.PeriodicOptions
---@param what string|nil
---@return ktstr.Periodic
function periodic.start(vm, given, what)
  local plan = periodic.plan(given, what)
  local freeze = require "ktstr.freeze"
  -- What takes its time comes before the first moment.
  freeze.asking(vm, "asked for periodic captures", require("ktstr.capture").prepare, vm, true)
  local list = vm.machine:captures()
  local after = #list > 0 and list[#list].number or 0
  freeze.asking(vm, "asked for periodic captures", vm.machine.start_periodic, vm.machine, plan,
    given.wait or false)
  if vm.periodic_set then
    vm.periodic_set.last = after
  end
  vm.periodic_set = setmetatable({ plan = plan, vm = vm, after = after }, Periodic)
  return vm.periodic_set
end

return periodic
