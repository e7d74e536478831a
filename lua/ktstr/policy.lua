-- Scheduling policies by name: "normal", "batch", "idle", "fifo 10", "rr 10", "ext".
local errors = require "ktstr.errors"
local nearest = require "ktstr.nearest"
local options = require "ktstr.options"

local policy = {}

-- The kernel's SCHED_ numbers.
local numbers = { normal = 0, fifo = 1, rr = 2, batch = 3, idle = 5, ext = 7 }
local real_time = { fifo = true, rr = true }

-- The agent's own I/O thread must outrank what a test runs.
local MAX_PRIORITY = 97

--- The wire's attributes for a policy. Raises "invalid", "unsupported".
---@param text string|nil
---@param what string for the message
---@return table[] attributes to pack, empty for nil
function policy.attributes(text, what)
  if text == nil then
    return {}
  end
  local name, priority = tostring(text):match "^%s*(%a+)%s*(%d*)%s*$"
  if name == "deadline" then
    errors.refuse("unsupported", ("%s: policy 'deadline' is not supported"):format(what),
      "start the program through busybox's chrt instead")
  end
  if not name or not numbers[name] then
    errors.refuse("invalid", ("%s: unknown policy %s"):format(what, options.show(text)),
      nearest.hint(name or "", { "normal", "batch", "idle", "fifo", "rr", "ext" }))
  end
  priority = tonumber(priority)
  if real_time[name] then
    if not priority or priority < 1 or priority > MAX_PRIORITY then
      errors.refuse("invalid", ("%s: policy '%s' needs a priority"):format(what, name),
        ("write \"%s 10\"; 1 to %d are possible"):format(name, MAX_PRIORITY))
    end
    return { { "POLICY", numbers[name] }, { "PRIORITY", priority } }
  elseif priority then
    errors.refuse("invalid", ("%s: policy '%s' has no priority"):format(what, name))
  end
  return { { "POLICY", numbers[name] } }
end

return policy
