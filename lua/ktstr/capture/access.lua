-- What a capture has, by name: tasks, variables, BPF maps, and all of it by paths. An error says what there
-- is.
local errors = require "ktstr.errors"
local known = require "ktstr.kernel.known"
local memory = require "ktstr.kernel.memory"
local object = require "ktstr.kernel.object"
local percpu = require "ktstr.kernel.percpu"

---@class ktstr.Capture
local access = {}

-- --- tasks ---

--- Every task: `for task in snap:tasks() do`. The idle tasks are the CPUs': snap:cpu(0).rq.idle.
---@return fun(): ktstr.Object|nil
function access:tasks()
  return self.k:tasks()
end

--- The task of that pid (a thread's is its tid); nil when there was none.
---@param pid integer
---@return ktstr.Object|nil
function access:task(pid)
  return self.k:task(pid)
end

-- --- BPF maps ---

local function raise_no_maps(self)
  errors.raise("not-found", ("capture '%s' has no BPF maps: its plan names none"):format(self.tag),
    'ktstr.plan { ktstr.plan.map ".bss" }')
end

--- The BPF maps that were there, by their ids: `for map in snap:maps() do`. What is in one is there only
--- where the plan says so.
---@return fun(): ktstr.BpfMap|nil
function access:maps()
  local k = self.k
  if not self._plan.has_maps then
    raise_no_maps(self)
  end
  return k:bpf_maps()
end

-- Those of a name: exactly, or else by how they end.
local function maps_named(self, name)
  local exact, ending, all = {}, {}, {}
  for map in self:maps() do
    all[#all + 1] = ("%s (%d)"):format(map.name, map.id)
    if map.id == name or map.name == name then
      exact[#exact + 1] = map
    elseif type(name) == "string" and map.name:sub(-#name) == name then
      ending[#ending + 1] = map
    end
  end
  return #exact > 0 and exact or ending, all
end

--- A BPF map by its name, what its name ends with, or its id: snap:map(".bss"):globals().nr_queued. Raises
--- "not-found" with those that there are, "ambiguous".
---@param name string|integer
---@return ktstr.BpfMap
function access:map(name)
  local found, all = maps_named(self, name)
  if #found == 0 then
    errors.raise("not-found", ("capture '%s' has no BPF map '%s'"):format(self.tag, tostring(name)),
      #all > 0 and "it has: " .. table.concat(all, ", ") or "no map at all was there")
  elseif #found > 1 then
    local names = {}
    for i, map in ipairs(found) do
      names[i] = ("%s (%d)"):format(map.name, map.id)
    end
    errors.raise("ambiguous", ("capture '%s' has %d BPF maps '%s': %s"):format(self.tag, #found,
      tostring(name), table.concat(names, ", ")), "give an id, or the whole name")
  end
  return found[1]
end

-- --- variables ---

local SECTION = "%.[%w_%.]+$"

-- Whether what is at an object's place is in the record.
local function is_recorded(object_)
  local k = memory.kernel(object_)
  return (memory.try(k.read, k, object_, 1))
end

-- The programs' sections that have a global of that name: { map, globals }; and those that were not recorded.
local function program_globals(self, name)
  local _, found, unread = self.k, {}, {}
  if not self._plan.has_maps then
    return found, unread
  end
  local ok, e = memory.try(function()
    for map in self:maps() do
      if map.type == "array" and map.max_entries == 1 and map.name:find(SECTION) then
        local ok, globals = memory.try(map.globals, map)
        if not ok or not is_recorded(globals) then
          unread[#unread + 1] = ("%s (%d)"):format(map.name, map.id)
        elseif globals:has_(name) then
          found[#found + 1] = { map = map, globals = globals }
        end
      end
    end
  end)
  if not ok then
    unread[#unread + 1] = ("other maps (%s)"):format(e.message)
  end
  return found, unread
end

-- What a program's global is; a type that is said has to be its own.
local function program_value(self, one, name, type)
  if type then
    local set, _, member = one.map:types(), object.offset(one.globals:type_(), name)
    local its = member.type.name
    if (set:find(type) or self.k:_types():get(type)).name ~= its then
      errors.raise("invalid", ("capture '%s': '%s' of %s is a %s, and not a %s"):format(self.tag, name,
        one.map.name, its, type))
    end
  end
  return one.globals[name]
end

-- Whether the kernel has a variable of that name, and its value.
local function kernel_variable(self, name, type)
  local k = self.k
  if not k:_image_symbol(name) then
    return nil
  end
  local set = k:_types()
  local its = type and (set:variable(name) or known.type_of(set, name))
  if its and set:get(type).name ~= its.name then
    errors.raise("invalid", ("capture '%s': '%s' is a %s, and not a %s"):format(self.tag, name, its.name,
      type), "snap.k:var(name, type) reads it as whatever is said")
  end
  return { kernel = true, value = k:var(name, type) }
end

local function raise_unknown(self, name, unread)
  local names = {}
  for _, parsed in ipairs(self._plan.paths) do
    if not names[parsed.root] then
      names[parsed.root] = true
      names[#names + 1] = parsed.root
    end
  end
  table.sort(names)
  local rest = #unread > 0 and "; not recorded are the globals of " .. table.concat(unread, ", ") or ""
  errors.raise("not-found", ("capture '%s': neither the kernel nor a BPF program has a variable '%s'%s")
    :format(self.tag, tostring(name), rest), "recorded are: " .. table.concat(names, ", "))
end

--- A global variable: the kernel's, or a BPF program's. Raises "not-found", "unmapped" (it was not recorded),
--- "ambiguous" where several have it.
---@param name string
---@param type string|nil where the kernel does not say it
---@return any
function access:var(name, type)
  local found, unread = program_globals(self, name)
  if #found == 0 or self.k:_image_symbol(name) then
    local ours = kernel_variable(self, name, type)
    if ours then
      found[#found + 1] = ours
    end
  end
  if #found == 0 then
    raise_unknown(self, name, unread)
  elseif #found > 1 then
    local places, hint = {}, nil
    for i, one in ipairs(found) do
      places[i] = one.kernel and "the kernel" or ("%s (%d)"):format(one.map.name, one.map.id)
      hint = hint or one.map and ('snap:map(%d):globals()["%s"]'):format(one.map.id, name)
    end
    errors.raise("ambiguous", ("capture '%s': '%s' is in %s"):format(self.tag, name,
      table.concat(places, ", ")), hint)
  end
  local one = found[1]
  if one.kernel then
    return one.value
  end
  return program_value(self, one, name, type)
end

-- --- by a path ---

local function raise_path(self, path, at)
  errors.raise("invalid", ("capture '%s': '%s' makes no sense%s"):format(self.tag, path,
    at and (" from '%s' on"):format(path:sub(at)) or ""),
    "paths are cpus[0].rq.nr_running, tasks[1].comm, maps[.bss].name, jiffies_64, runqueues[0].clock")
end

-- What stands before the members: the object or value, and where the rest of the path begins.
local ROOTS = {
  cpus = function(self, inside)
    return self:cpu(tonumber(inside))
  end,
  tasks = function(self, inside, path)
    return self:task(tonumber(inside)) or errors.raise("not-found",
      ("capture '%s': '%s': there was no task %s"):format(self.tag, path, inside))
  end,
  maps = function(self, inside)
    return self:map(tonumber(inside) or inside):globals()
  end,
}

local function root_of(self, path)
  local name, inside, at = path:match "^([%a_][%w_]*)%[([^%]]*)%]()"
  local root = name and ROOTS[name]
  if root then
    return root(self, inside, path), at
  end
  name, at = path:match "^([%a_][%w_]*)()"
  if not name then
    raise_path(self, path)
  end
  local cpu, after = path:match("^%[(%d+)%]()", at)
  local symbol = cpu and self.k:_image_symbol(name)
  if symbol and percpu.is_symbol(self.k, symbol) then
    return self.k:per_cpu(name, tonumber(cpu)), after
  end
  return self:var(name), at
end

local function step(self, value, key, path, at)
  if type(value) ~= "cdata" and type(value) ~= "table" then
    errors.raise("invalid", ("capture '%s': '%s': %s is a %s (%s), and no struct with a '%s'"):format(
      self.tag, path, path:sub(1, at - 1), type(value), tostring(value), tostring(key)))
  end
  return value[key]
end

--- What a path leads to, for what takes paths: series, reports.
---   snap:get "cpus[0].rq.nr_running"
---@param path string
---@return any
function access:get(path)
  if type(path) ~= "string" then
    raise_path(self, tostring(path))
  end
  local value, at = root_of(self, path)
  while at <= #path do
    local name, after = path:match("^%.([%a_][%w_]*)()", at)
    if not name then
      name, after = path:match("^%[(%d+)%]()", at)
      name = tonumber(name)
    end
    if not name then
      raise_path(self, path, at)
    end
    value = step(self, value, name, path, at)
    at = after
  end
  return value
end

-- --- as a whole ---

--- All that was recorded by the plan's paths, as plain tables: { runqueues = { { nr_running = 1 } }, tasks =
--- ... }.
---@return table
function access:values()
  return require("ktstr.capture.values").of(self)
end

--- As text for people.
---@return string
function access:text()
  return require("ktstr.capture.text").of(self:data())
end

--- Everything as plain tables, as JSON has it (docs/captures.md).
---@return table
function access:data()
  return require("ktstr.capture.data").of(self)
end

--- As JSON; with a path into that file, which is there whole or not at all. Raises "os" (disk full).
---@param path string|nil
---@return string|nil
function access:json(path)
  return require("ktstr.capture.json").write(self:data(), path)
end

return access
