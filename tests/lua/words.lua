-- What specs ask of errors and of what is said of a value.
local errors = require "ktstr.errors"

local words = {}

--- The error of ktstr's that f raises; any other one is the spec's failure.
function words.raised(f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "there is no error")
  assert(errors.is(e), tostring(e))
  return e
end

--- That its text has these parts, in this order.
function words.says(thing, ...)
  local text, at = tostring(thing), 1
  for _, part in ipairs { ... } do
    local found = text:find(part, at, true)
    assert(found, ("'%s' is not in: %s"):format(part, text:sub(at)))
    at = found + #part
  end
end

--- That its text has these parts, wherever.
function words.mentions(thing, ...)
  local text = tostring(thing)
  for _, part in ipairs { ... } do
    assert(text:find(part, 1, true), ("no '%s' in: %s"):format(part, text))
  end
end

return words
