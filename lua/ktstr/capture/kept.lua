-- A capture out of a file: the accessors of a capture over the values that were written. There is no memory
-- behind it: what the plan did not name, or was not there, is not found, and the error says what is.
local errors = require "ktstr.errors"
local values = require "ktstr.capture.values"

local kept = {}

---@class ktstr.KeptCapture
---@field tag string
---@field source string
---@field elapsed_ms number
---@field clock number
---@field frozen_ms number
---@field release string|nil
---@field reason string|nil of a placeholder
---@field record ktstr.KeptCapture|nil itself; nil in a placeholder
---@field notes ktstr.CaptureNote[]
local Kept = {}

function Kept.__index(self, name)
  if Kept[name] ~= nil then
    return Kept[name]
  end
  return rawget(self, "_data")[name]
end

function Kept:__tostring()
  return ("capture '%s' (%s, at %.1f ms%s), from a file"):format(self.tag, self.source, self.elapsed_ms,
    self.reason and ", not taken: " .. self.reason or "")
end

-- --- values ---

local wrap

local Struct, List = {}, {}

-- What they stand for is beside them: a kernel's members may have any name.
local parts = setmetatable({}, { __mode = "k" })

local function make(value, name, metatable)
  local self = setmetatable({}, metatable)
  parts[self] = { value = value, name = name }
  return self
end

function Struct.__index(self, key)
  local part = parts[self]
  local value = part.value[key]
  if value == nil and type(key) == "number" then
    value = part.value[("[%d]"):format(key)]
  end
  if value == nil then
    local names = {}
    for name in pairs(part.value) do
      names[#names + 1] = name
    end
    table.sort(names)
    errors.raise("not-found", ("%s has no '%s'"):format(part.name, tostring(key)),
      #names > 0 and "it has: " .. table.concat(names, ", ") or "it has nothing")
  end
  return wrap(value, ("%s.%s"):format(part.name, tostring(key)))
end

-- As a kernel's arrays: from 0.
function List.__index(self, i)
  local part = parts[self]
  local count = table.maxn(part.value)
  if type(i) ~= "number" or part.value[i + 1] == nil then
    errors.raise("not-found", ("%s has no [%s]: it has %d elements, from 0"):format(part.name, tostring(i),
      count))
  end
  return wrap(part.value[i + 1], ("%s[%d]"):format(part.name, i))
end

local function show(self)
  return require("ktstr.capture.text").value(parts[self].value)
end

Struct.__tostring, List.__tostring = show, show

function wrap(value, name)
  if type(value) ~= "table" then
    return value
  end
  return make(value, name, getmetatable(value) == values.array and List or Struct)
end

-- --- accessors ---

function Kept:_check_data()
  if self.reason then
    errors.raise("not-found", ("capture '%s' is a placeholder and has no data: %s"):format(self.tag,
      self.reason))
  end
end

---@return integer
function Kept:cpus()
  return #(self._data.cpus or {})
end

---@param cpu integer
---@return { cpu: integer, regs: table, rq: table }
function Kept:cpu(cpu)
  self:_check_data()
  local one = type(cpu) == "number" and self._data.cpus[cpu + 1]
  if not one then
    errors.raise("invalid", ("capture '%s': there is no CPU %s: it has CPUs 0 to %d"):format(self.tag,
      tostring(cpu), self:cpus() - 1))
  end
  local all = self._data.values or {}
  return make({ cpu = cpu, regs = one.regs, rq = all.runqueues and all.runqueues[cpu + 1] },
    ("cpus[%d]"):format(cpu), Struct)
end

function Kept:_tasks()
  self:_check_data()
  local tasks = self._data.values and self._data.values.tasks
  if type(tasks) ~= "table" then
    errors.raise("not-found", ("capture '%s' has no tasks: its plan names none"):format(self.tag))
  end
  return tasks
end

---@return fun(): table|nil
function Kept:tasks()
  local tasks, i = self:_tasks(), 0
  return function()
    i = i + 1
    local pid = type(tasks[i]) == "table" and tasks[i].pid or i
    return tasks[i] and wrap(tasks[i], ("tasks[%s]"):format(tostring(pid)))
  end
end

---@param pid integer
---@return table|nil
function Kept:task(pid)
  for _, task in ipairs(self:_tasks()) do
    if type(task) == "table" and task.pid == pid then
      return wrap(task, ("tasks[%d]"):format(pid))
    end
  end
end

---@param name string
---@return any
function Kept:var(name)
  self:_check_data()
  local found = {}
  for _, map in ipairs(self._data.maps or {}) do
    if map.globals and map.globals[name] ~= nil then
      found[#found + 1] = { map.globals[name], ("%s (%d)"):format(map.name, map.id) }
    end
  end
  local ours = (self._data.values or {})[name]
  if ours ~= nil then
    found[#found + 1] = { ours, "the kernel" }
  end
  if #found == 0 then
    errors.raise("not-found", ("capture '%s' has no variable '%s'"):format(self.tag, tostring(name)),
      "recorded are: " .. kept.names(self._data.values or {}))
  elseif #found > 1 then
    local places = {}
    for i, one in ipairs(found) do
      places[i] = one[2]
    end
    errors.raise("ambiguous", ("capture '%s': '%s' is in %s"):format(self.tag, name,
      table.concat(places, ", ")), "snap:map(id):globals() has one map's")
  end
  return wrap(found[1][1], name)
end

--- The names of a table in their order, for a message.
---@param of table
---@return string
function kept.names(of)
  local names = {}
  for name in pairs(of) do
    names[#names + 1] = tostring(name)
  end
  table.sort(names)
  return table.concat(names, ", ")
end

-- --- BPF maps ---

local Map = {}
Map.__index = Map

function Map:__tostring()
  return ("BPF map %d '%s' (%s)"):format(self.id, self.name, self.type)
end

local function check_readable(self)
  if self.unreadable then
    errors.raise("unmapped", ("%s was not recorded: %s"):format(tostring(self), self.unreadable))
  end
end

---@return table
function Map:globals()
  check_readable(self)
  if not self._raw.globals then
    errors.raise("unsupported", ("%s is no section of a program's globals"):format(tostring(self)))
  end
  return wrap(self._raw.globals, self.name)
end

---@return fun(): any, any
function Map:entries()
  check_readable(self)
  local list, i = self._raw.entries or {}, 0
  return function()
    i = i + 1
    if list[i] then
      return wrap(list[i].key, self.name), wrap(list[i].value, self.name)
    end
  end
end

---@param key any
---@return any
function Map:lookup(key)
  for found, value in self:entries() do
    if found == key then
      return value
    end
  end
end

local function new_map(raw)
  local self = { _raw = raw }
  for name, value in pairs(raw) do
    if name ~= "globals" and name ~= "entries" then
      self[name] = value
    end
  end
  return setmetatable(self, Map)
end

---@return fun(): table|nil
function Kept:maps()
  self:_check_data()
  local i = 0
  return function()
    i = i + 1
    local raw = (self._data.maps or {})[i]
    return raw and new_map(raw)
  end
end

---@param name string|integer
---@return table
function Kept:map(name)
  local exact, ending, all = {}, {}, {}
  for map in self:maps() do
    all[#all + 1] = ("%s (%d)"):format(map.name, map.id)
    if map.name == name or map.id == name then
      exact[#exact + 1] = map
    elseif type(name) == "string" and map.name:sub(-#name) == name then
      ending[#ending + 1] = map
    end
  end
  local found = #exact > 0 and exact or ending
  if #found ~= 1 then
    errors.raise(#found == 0 and "not-found" or "ambiguous", ("capture '%s' has %s BPF map%s '%s'"):format(
      self.tag, #found == 0 and "no" or tostring(#found), #found > 1 and "s" or "", tostring(name)),
      #all > 0 and "it has: " .. table.concat(all, ", ") or "it has none at all")
  end
  return found[1]
end

-- --- all of it ---

local ROOTS = {
  cpus = function(self, inside) return self:cpu(tonumber(inside)) end,
  tasks = function(self, inside)
    return self:task(tonumber(inside)) or errors.raise("not-found",
      ("capture '%s': there was no task %s"):format(self.tag, inside))
  end,
  maps = function(self, inside) return self:map(tonumber(inside) or inside):globals() end,
}

--- As snap:get(path) of a capture.
---@param path string
---@return any
function Kept:get(path)
  local name, inside, at = tostring(path):match "^([%a_][%w_]*)%[([^%]]*)%]()"
  local value
  if ROOTS[name] then
    value = ROOTS[name](self, inside)
  else
    name, at = tostring(path):match "^([%a_][%w_]*)()"
    if not name then
      errors.raise("invalid", ("capture '%s': '%s' makes no sense"):format(self.tag, tostring(path)))
    end
    value = self:var(name)
  end
  while at <= #path do
    local key, after = path:match("^%.([%a_][%w_]*)()", at)
    if not key then
      key, after = path:match("^%[(%d+)%]()", at)
      key = tonumber(key)
    end
    if not key or type(value) ~= "table" then
      errors.raise("invalid", ("capture '%s': '%s' makes no sense from '%s' on"):format(self.tag, path,
        path:sub(at)))
    end
    value, at = value[key], after
  end
  return value
end

---@return table
function Kept:data()
  return self._data
end

---@return table
function Kept:values()
  return self._data.values
end

---@return string
function Kept:text()
  return require("ktstr.capture.text").of(self._data)
end

---@param path string|nil
---@return string|nil
function Kept:json(path)
  return require("ktstr.capture.json").write(self._data, path)
end

--- From what was written.
---@param data table
---@return ktstr.KeptCapture
function kept.new(data)
  local self = setmetatable({ _data = data }, Kept)
  rawset(self, "record", not data.reason and self or nil)
  return self
end

return kept
