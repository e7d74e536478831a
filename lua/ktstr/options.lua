-- Checks option tables: names, types, ranges. Every public function that takes one comes through here.
local errors = require "ktstr.errors"
local nearest = require "ktstr.nearest"

local options = {}

---@class ktstr.OptionRule
---@field [1] string types that it may have, such as "string|table"; "list" is a table without names
---@field required boolean|nil
---@field min number|nil the smallest number
---@field max number|nil the largest number
---@field above number|nil a number must be greater
---@field integer boolean|nil
---@field one_of string[]|nil the only strings
---@field unsupported string|nil named in the API, but not here yet: why

local function type_fits(value, types)
  local actual = type(value)
  for wanted in types:gmatch "[^|]+" do
    if wanted == actual or (wanted == "list" and actual == "table") then
      return true
    end
  end
  return false
end

local function show(value)
  if type(value) == "string" then
    return ("'%s'"):format(value)
  end
  if type(value) == "number" then
    return ("%.14g"):format(value)
  end
  return type(value) == "table" and "a table" or tostring(value)
end

local function range_error(value, rule)
  if value ~= value then
    return "must be a number"
  end
  if rule.integer and value % 1 ~= 0 then
    return "must be a whole number"
  end
  if rule.above and value <= rule.above then
    return ("must be above %.14g"):format(rule.above)
  end
  if rule.min and rule.max and (value < rule.min or value > rule.max) then
    return ("must be %.14g to %.14g"):format(rule.min, rule.max)
  end
  if rule.min and value < rule.min then
    return ("must be at least %.14g"):format(rule.min)
  end
  if rule.max and value > rule.max then
    return ("must be at most %.14g"):format(rule.max)
  end
end

-- What is wrong with the value, to be read after "option 'x'"; and a hint.
local function value_error(value, rule)
  if not type_fits(value, rule[1]) then
    return ("must be a %s, not %s"):format(rule[1]:gsub("|", " or "), show(value))
  end
  if type(value) == "number" then
    local problem = range_error(value, rule)
    return problem and ("%s, not %s"):format(problem, show(value))
  end
  if type(value) == "string" and rule.one_of then
    for _, known in ipairs(rule.one_of) do
      if known == value then
        return nil
      end
    end
    return "cannot be " .. show(value), nearest.hint(value, rule.one_of)
  end
end

--- The names that an option table may have, sorted.
---@param rules table<string, ktstr.OptionRule>
---@return string[]
function options.names(rules)
  local names = {}
  for name in pairs(rules) do
    if name ~= "list" then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

--- Raises "invalid" for an unknown name (naming the nearest), a wrong type or a value out of range.
--- The array part is left alone when rules.list is true, and is an error otherwise.
---@param what string what the table belongs to, for the message: "ktstr.boot"
---@param given table|nil
---@param rules table<string, ktstr.OptionRule>
---@return table given, or an empty table for nil
function options.check(what, given, rules)
  if given == nil then
    given = {}
  end
  if type(given) ~= "table" then
    errors.refuse("invalid", ("%s wants a table of options, not %s"):format(what, show(given)))
  end
  for name, value in pairs(given) do
    local rule = type(name) == "string" and name ~= "list" and rules[name]
    if not rule and not (type(name) == "number" and rules.list) then
      errors.refuse("invalid", ("%s: unknown option '%s'"):format(what, tostring(name)),
        type(name) == "string" and nearest.hint(name, options.names(rules))
          or "options have names: { name = value }")
    elseif rule and rule.unsupported then
      errors.refuse("unsupported", ("%s: option '%s' is not supported: %s"):format(what, name,
        rule.unsupported))
    elseif rule then
      local problem, hint = value_error(value, rule)
      if problem then
        errors.refuse("invalid", ("%s: option '%s' %s"):format(what, name, problem), hint)
      end
    end
  end
  for _, name in ipairs(options.names(rules)) do
    if rules[name].required and given[name] == nil then
      errors.refuse("invalid", ("%s: option '%s' is missing"):format(what, name))
    end
  end
  return given
end

options.show = show

return options
