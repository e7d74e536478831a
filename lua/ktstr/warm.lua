-- Warm machines: whether ktstr.boot uses saved ones where a test does not say. The cache of them is in
-- ktstr.warm.cache, what makes one valid in ktstr.warm.identity, `ktstr warm` in ktstr.warm.command.
local errors = require "ktstr.errors"

local warm = {}

local disabled = false

--- From now on this process boots afresh where `warm` is not given: --cold.
function warm.disable()
  disabled = true
end

--- What ktstr.boot's option `warm` is where it is not given: false after disable(), with KTSTR_WARM=0 in the
--- environment, and where that names no place for saved machines. Raises "invalid" for another value of that
--- variable than 0 or 1.
---@return boolean
function warm.enabled()
  local value = os.getenv "KTSTR_WARM"
  if value and value ~= "" and value ~= "0" and value ~= "1" then
    errors.refuse("invalid", ("KTSTR_WARM is '%s'"):format(value),
      "0 boots afresh each time; 1, or no such variable, uses saved machines")
  end
  return not disabled and value ~= "0" and require("ktstr.warm.settings").has_directory()
end

return warm
