-- Work types: what the workers of a cgroup do. Names and parameters come from the table that the agent
-- was built with, so that a mistake is found before anything boots.
--   work = "SpinWait"
--   work = ktstr.work.Bursty { burst_ms = 50, sleep_ms = 100 }
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local nearest = require "ktstr.nearest"
local options = require "ktstr.options"

---@class ktstr.Work
---@field name string
---@field values table<integer, integer> by the parameter's index in the table, from 0
---@field group integer the number of workers must be a multiple of it

local Work = {}
Work.__index = Work

local work = {}

local by_name, names

local function load_types()
  by_name, names = {}, {}
  for _, info in ipairs(core.work_types()) do
    by_name[info.name] = info
    names[#names + 1] = info.name
  end
end

local function find(name)
  if not by_name then
    load_types()
  end
  if not by_name[name] then
    errors.refuse("invalid", ("unknown work type '%s'"):format(tostring(name)),
      nearest.hint(tostring(name), names))
  end
  return by_name[name]
end

-- Some types come in cells as large as a parameter says: a waker and its fan.
local function group_size(info, given)
  local size = info.group
  for _, param in ipairs(info.params) do
    if param.name == info.group_param then
      size = size + (given[param.name] or param.default)
    end
  end
  return size
end

local function create(info, given)
  local rules = {}
  for _, param in ipairs(info.params) do
    rules[param.name] = { "number", min = param.min, max = param.max, integer = true }
  end
  options.check("ktstr.work." .. info.name, given, rules)
  local values = {}
  for i, param in ipairs(info.params) do
    values[i - 1] = given and given[param.name]
  end
  return setmetatable({ name = info.name, values = values, group = group_size(info, given or {}) }, Work)
end

function Work:__tostring()
  return self.name
end

--- A work type from what a script writes: its name, or ktstr.work.Name { ... }. Raises "invalid".
---@param value string|ktstr.Work
---@return ktstr.Work
function work.parse(value)
  if getmetatable(value) == Work then
    return value
  elseif type(value) ~= "string" then
    errors.refuse("invalid", ("work must be a name or ktstr.work.Name { ... }, not %s"):format(
      options.show(value)))
  end
  return create(find(value))
end

--- The wire's attributes of a work type.
---@param self ktstr.Work
---@return table[]
function work.attributes(self)
  local attributes = { { "WORK", self.name } }
  for index, value in pairs(self.values) do
    attributes[#attributes + 1] = { "PARAM", { index, value } }
  end
  return attributes
end

--- What scripts see as ktstr.work: a constructor a type, by name.
work.constructors = setmetatable({}, {
  __index = function(_, name)
    local info = find(name)
    return function(given)
      return create(info, given)
    end
  end,
})

return work
