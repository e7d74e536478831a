-- t:expect(value, "label"): one statement about a value. A failed one is recorded, and the test goes on.
local exact = require "ktstr.exact"

---@class ktstr.Expectation
---@field value any
---@field label string
local Expectation = {}
Expectation.__index = Expectation

local expect = {}

--- A value that brings statements of its own, as a series does, has those instead: __expect of its metatable.
---@param value any
---@param label string|nil
---@param record fun(finding: ktstr.Finding)
---@return ktstr.Expectation
function expect.new(value, label, record)
  local own = type(value) == "table" and getmetatable(value)
  if type(own) == "table" and own.__expect then
    return own.__expect(value, label and tostring(label), record)
  end
  label = tostring(label or "value")
  return setmetatable({ value = value, label = label, record = record }, Expectation)
end

local SHOWN_MAX = 200

local function note(self, status, expected)
  local found = exact.show(self.value)
  if #found > SHOWN_MAX then
    found = ("%s... (%d bytes)"):format(found:sub(1, SHOWN_MAX), #found)
  end
  self.record {
    check = "expect",
    status = status,
    where = self.label,
    expected = expected,
    found = found,
  }
  return status == "pass"
end

local NEVER = 0 / 0 -- what no comparison holds for

-- Kernel integers of 64 bits by their value; what else can be compared (addresses), as it is.
local function order(value, limit)
  if exact.is(value) and exact.is(limit) then
    return exact.order(value, limit) or NEVER
  end
  return value < limit and -1 or value <= limit and 0 or 1
end

local function is_equal(value, other)
  if exact.is(value) and exact.is(other) then
    return exact.order(value, other) == 0
  end
  return value == other
end

-- A number is needed: nothing there is inconclusive, NaN and other types fail.
local function compare(self, expected, good)
  if self.value == nil then
    return note(self, "inconclusive", expected)
  end
  local is_number = type(self.value) == "number" or type(self.value) == "cdata"
  return note(self, is_number and self.value == self.value and good(self.value) and "pass" or "fail",
    expected)
end

--- Each returns whether it held.
---@param limit number
---@return boolean
function Expectation:at_most(limit)
  return compare(self, "at most " .. exact.show(limit), function(v)
    return order(v, limit) <= 0
  end)
end

---@param limit number
---@return boolean
function Expectation:at_least(limit)
  return compare(self, "at least " .. exact.show(limit), function(v)
    return order(v, limit) >= 0
  end)
end

---@param limit number
---@return boolean
function Expectation:less_than(limit)
  return compare(self, "less than " .. exact.show(limit), function(v)
    return order(v, limit) < 0
  end)
end

---@param limit number
---@return boolean
function Expectation:greater_than(limit)
  return compare(self, "greater than " .. exact.show(limit), function(v)
    return order(v, limit) > 0
  end)
end

--- Both ends are included.
---@param low number
---@param high number
---@return boolean
function Expectation:between(low, high)
  return compare(self, ("between %s and %s"):format(exact.show(low), exact.show(high)), function(v)
    return order(v, low) >= 0 and order(v, high) <= 0
  end)
end

---@param other any
---@return boolean
function Expectation:equals(other)
  return note(self, is_equal(self.value, other) and "pass" or "fail", exact.show(other))
end

---@param other any
---@return boolean
function Expectation:not_equals(other)
  return note(self, not is_equal(self.value, other) and self.value == self.value and "pass" or "fail",
    "anything but " .. exact.show(other))
end

---@return boolean
function Expectation:is_true()
  return note(self, self.value == true and "pass" or "fail", "true")
end

---@return boolean
function Expectation:is_false()
  return note(self, self.value == false and "pass" or "fail", "false")
end

---@return boolean
function Expectation:is_nil()
  return note(self, self.value == nil and "pass" or "fail", "nil")
end

--- A string that holds `part` as it is, or a list that has it as an element.
---@param part any
---@return boolean
function Expectation:contains(part)
  local found = false
  if type(self.value) == "string" then
    found = self.value:find(tostring(part), 1, true) ~= nil
  elseif type(self.value) == "table" then
    for _, element in ipairs(self.value) do
      found = found or element == part
    end
  elseif self.value == nil then
    return note(self, "inconclusive", "something that contains " .. exact.show(part))
  end
  return note(self, found and "pass" or "fail", "something that contains " .. exact.show(part))
end

--- A string that a Lua pattern matches.
---@param pattern string
---@return boolean
function Expectation:matches(pattern)
  if self.value == nil then
    return note(self, "inconclusive", "a match of " .. exact.show(pattern))
  end
  return note(self, type(self.value) == "string" and self.value:find(pattern) and "pass" or "fail",
    "a match of " .. exact.show(pattern))
end

return expect
