-- Kernel numbers as Lua numbers.
local errors = require "ktstr.errors"

--- Converts a kernel value to a Lua number: a number is itself, a uint64_t or int64_t becomes the nearest
--- double (exact below 2^53 in magnitude), a string is read as Lua reads it. Raises "invalid" otherwise.
---@param value any
---@return number
return function(value)
  local number = type(value) ~= "table" and tonumber(value)
  if not number then
    errors.raise("invalid", ("%s is not a number"):format(tostring(value)))
  end
  return number
end
