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

local function refuse_change(_, name)
  errors.raise("unsupported", ("'%s' cannot be set: a record does not change"):format(tostring(name)))
end

Kept.__newindex = refuse_change

function Kept:__tostring()
  return ("capture '%s' (%s, at %.1f ms%s), from a file"):format(self.tag, self.source, self.elapsed_ms,
    self.reason and ", not taken: " .. self.reason or "")
end

-- --- values ---

local wrap

local Struct, List = { __newindex = refuse_change }, { __newindex = refuse_change }

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

local function raise_missing(value, name)
  errors.raise("unmapped", ("%s: what follows was not recorded: %s"):format(name, value["$missing"]))
end

function wrap(value, name)
  if type(value) ~= "table" then
    return value
  elseif values.is_missing(value) then
    raise_missing(value, name)
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
  local count = table.maxn(tasks)
  return function()
    -- Of one that is null nothing was recorded but that it was there.
    repeat
      i = i + 1
    until i > count or tasks[i] ~= nil
    local pid = type(tasks[i]) == "table" and tasks[i].pid or i
    return tasks[i] and wrap(tasks[i], ("tasks[%s]"):format(tostring(pid)))
  end
end

---@param pid integer
---@return table|nil
function Kept:task(pid)
  local tasks = self:_tasks()
  for i = 1, table.maxn(tasks) do
    local task = tasks[i]
    -- Behind the last one that is there: who knows whether it was.
    if type(task) == "table" and (task.pid == pid or values.is_missing(task)) then
      return wrap(task, ("tasks[%d]"):format(pid))
    end
  end
end

---@param name string
---@return any
function Kept:var(name)
  self:_check_data()
  local found, unread = {}, {}
  for _, map in ipairs(self._data.maps or {}) do
    if values.is_missing(map) then
      unread[#unread + 1] = "other maps (" .. map["$missing"] .. ")"
    elseif map.unreadable and map.type == "array" and map.max_entries == 1 then
      unread[#unread + 1] = ("%s (%d)"):format(map.name, map.id)
    elseif map.globals and map.globals[name] ~= nil then
      found[#found + 1] = { map.globals[name], ("%s (%d)"):format(map.name, map.id) }
    end
  end
  local ours = (self._data.values or {})[name]
  if ours ~= nil then
    found[#found + 1] = { ours, "the kernel" }
  end
  if #found == 0 then
    errors.raise("not-found", ("capture '%s' has no variable '%s'%s"):format(self.tag, tostring(name),
      #unread > 0 and "; not recorded are the globals of " .. table.concat(unread, ", ") or ""),
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

local Map = { __newindex = refuse_change }
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
  local list, i = self._raw.entries or self._raw.globals and { { key = 0, value = self._raw.globals } }, 0
  if not list then
    errors.raise("unsupported", ("%s has no entries"):format(tostring(self)),
      (self._raw.records and "map:records()" or "map:pages()") .. " has what is in it")
  end
  return function()
    i = i + 1
    if list[i] then
      return wrap(list[i].key, self.name), wrap(list[i].value, self.name)
    end
  end
end

--- What was in a ring buffer, as bytes.
---@return fun(): string|nil
function Map:records()
  check_readable(self)
  if not self._raw.records then
    errors.raise("unsupported", ("%s is no ring buffer"):format(tostring(self)))
  end
  local i = 0
  return function()
    i = i + 1
    return self._raw.records[i]
  end
end

--- The pages of an arena. What lies in them nobody knows without the program's types.
---@return fun(): ktstr.Address|nil, string
function Map:pages()
  check_readable(self)
  if not self._raw.pages then
    errors.raise("unsupported", ("%s is no arena"):format(tostring(self)))
  end
  local i = 0
  return function()
    i = i + 1
    local page = self._raw.pages[i]
    if page then
      return page.address, page.bytes
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
    if not Map[name] then
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
    if raw and values.is_missing(raw) then
      raise_missing(raw, ("capture '%s': BPF maps"):format(self.tag))
    end
    return raw and new_map(raw)
  end
end

---@param name string|integer
---@return table
function Kept:map(name)
  self:_check_data()
  if not self._data.maps then
    errors.raise("not-found", ("capture '%s' has no BPF maps: its plan names none"):format(self.tag))
  end
  local exact, ending, all = {}, {}, {}
  for _, raw in ipairs(self._data.maps) do
    local map = not values.is_missing(raw) and new_map(raw)
    if map then
      all[#all + 1] = ("%s (%d)"):format(map.name, map.id)
    else
      all[#all + 1] = "and what was not recorded: " .. raw["$missing"]
    end
    if map and (map.name == name or map.id == name) then
      exact[#exact + 1] = map
    elseif map and type(name) == "string" and map.name:sub(-#name) == name then
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
    if not key then
      errors.raise("invalid", ("capture '%s': '%s' makes no sense from '%s' on"):format(self.tag, path,
        path:sub(at)))
    elseif type(value) ~= "table" then
      errors.raise("invalid", ("capture '%s': '%s': %s is a %s (%s), and no struct with a '%s'"):format(
        self.tag, path, path:sub(1, at - 1), type(value), tostring(value), tostring(key)))
    end
    value, at = value[key], after
  end
  return value
end

local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local out = {}
  for key, one in pairs(value) do
    out[key] = copy(one)
  end
  return setmetatable(out, getmetatable(value))
end

---@return table
function Kept:data()
  return copy(self._data)
end

---@return table
function Kept:values()
  return copy(self._data.values)
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
