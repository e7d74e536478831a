-- Kernel numbers by their value: a Lua number, uint64_t and int64_t side by side. LuaJIT itself converts the
-- number to the other's type first, where -1 becomes 2^64 - 1 and 0.5 becomes 0.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local options = require "ktstr.options"

local exact = {}

local u64, s64 = ffi.typeof "uint64_t", ffi.typeof "int64_t"
local cast, istype = ffi.cast, ffi.istype
local TWO_63, TWO_64 = 2 ^ 63, 2 ^ 64
local MOST_NEGATIVE = 0x8000000000000000ULL -- -2^63, as its bits
local LOWEST, HIGHEST = cast(s64, MOST_NEGATIVE), 0xffffffffffffffffULL

--- A number, NaN included, or a 64-bit integer.
---@param value any
---@return boolean
function exact.is(value)
  return type(value) == "number" or istype(u64, value) or istype(s64, value)
end

local function sign(less, equal)
  return less and -1 or equal and 0 or 1
end

local function order_with_number(a, b)
  if b ~= b then
    return nil
  end
  local signed = istype(s64, a)
  if b >= (signed and TWO_63 or TWO_64) then
    return -1
  elseif b < (signed and -TWO_63 or 0) then
    return 1
  end
  local whole = cast(signed and s64 or u64, math.floor(b))
  -- 5 is less than 5.5, whose whole part it equals.
  return sign(a < whole or (a == whole and b % 1 ~= 0), a == whole)
end

--- -1, 0 or 1: a is less than b, equal, greater. nil when one of them is NaN.
---@param a number|ffi.cdata*
---@param b number|ffi.cdata*
---@return integer|nil
function exact.order(a, b)
  if type(a) == "number" and type(b) == "number" then
    return a == a and b == b and sign(a < b, a == b) or nil
  elseif type(b) == "number" then
    return order_with_number(a, b)
  elseif type(a) == "number" then
    local reverse = order_with_number(b, a)
    return reverse and -reverse
  elseif istype(s64, a) ~= istype(s64, b) then
    -- A negative one is less than every unsigned one.
    if istype(s64, a) and a < 0 then
      return -1
    elseif istype(s64, b) and b < 0 then
      return 1
    end
    a, b = cast(u64, a), cast(u64, b)
  end
  return sign(a < b, a == b)
end

-- A whole number as the 64 bits that it has in the kernel; nil for others.
local function bits(value)
  if type(value) ~= "number" then
    return cast(u64, value)
  elseif value % 1 ~= 0 or value >= TWO_64 or value < -TWO_63 then
    return nil
  end
  return value < 0 and cast(u64, cast(s64, value)) or cast(u64, value)
end

-- How much more the greater one is; nil when that has more than 64 bits.
local function distance(greater, lesser)
  local from, to = bits(lesser), bits(greater)
  local is_split = exact.order(lesser, 0) < 0 and exact.order(greater, 0) >= 0
  local d = to - from
  return not (is_split and d < to) and d or nil
end

local function is_beyond(value)
  return type(value) == "number" and (value >= TWO_64 or value < -TWO_63)
end

-- Of a 64-bit integer and a number beyond them: by way of the last one on that side, which may be near.
local function difference_beyond(a, b)
  if b >= TWO_64 then
    return tonumber(exact.difference(a, HIGHEST)) - 1 - (b - TWO_64)
  end
  return tonumber(exact.difference(a, LOWEST)) + (-TWO_63 - b)
end

--- a - b, signed: a Lua number where that is exact, else int64_t or uint64_t; what does not fit into those is
--- the nearest double.
---@param a number|ffi.cdata*
---@param b number|ffi.cdata*
---@return number|ffi.cdata*
function exact.difference(a, b)
  local order = exact.order(a, b)
  if order and type(a) ~= "number" and is_beyond(b) then
    return difference_beyond(a, b)
  elseif order and type(b) ~= "number" and is_beyond(a) then
    return -difference_beyond(b, a)
  elseif (type(a) == "number" and type(b) == "number") or not order or not bits(a) or not bits(b) then
    return tonumber(a) - tonumber(b)
  end
  local d = order >= 0 and distance(a, b) or order < 0 and distance(b, a)
  if not d then
    return tonumber(a) - tonumber(b)
  elseif order >= 0 then
    return address.unsigned(d)
  elseif d <= MOST_NEGATIVE then
    return address.signed(cast(s64, 0ULL - d))
  end
  return -tonumber(d)
end

--- Whether value lies in target - tolerance to target + tolerance, both included.
---@param value number|ffi.cdata*
---@param target number|ffi.cdata*
---@param tolerance number
---@return boolean
function exact.is_near(value, target, tolerance)
  local low, high
  if type(target) == "number" and (type(value) == "number" or target % 1 ~= 0) then
    low, high = exact.order(value, target - tolerance), exact.order(value, target + tolerance)
  else
    -- The ends of a large target's range are no doubles.
    local away = exact.difference(value, target)
    low, high = exact.order(away, -tolerance), exact.order(away, tolerance)
  end
  return low ~= nil and low >= 0 and high <= 0
end

--- All its digits: 18446744073709551615, 0.1, NaN.
---@param value number|ffi.cdata*
---@return string
function exact.text(value)
  if type(value) ~= "number" then
    return (tostring(value):gsub("U?LL$", ""))
  elseif value ~= value then
    return "NaN"
  end
  local text = ("%.14g"):format(value)
  return tonumber(text) == value and text or ("%.17g"):format(value)
end

--- Any value for people: a number with all its digits, 'text', a table.
---@param value any
---@return string
function exact.show(value)
  return exact.is(value) and exact.text(value) or options.show(value)
end

return exact
