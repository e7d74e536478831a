-- Sets of CPUs: the kernel's list format, and places in a topology.
local errors = require "ktstr.errors"

local cpuset = {}

--- A set of CPUs, named by its place; resolved against a machine's topology.
---@class ktstr.Cpuset
---@field kind "llc"|"numa"|"range"|"exact"

local Cpuset = {}
Cpuset.__index = Cpuset

function Cpuset.__tostring(set)
  if set.kind == "exact" then
    return cpuset.format(set.cpus)
  end
  if set.kind == "range" then
    return ("%d-%d"):format(set.first, set.last)
  end
  return ("%s(%d)"):format(set.kind, set.index)
end

local function check_index(value, what)
  if type(value) ~= "number" or value % 1 ~= 0 or value < 0 then
    errors.refuse("invalid", ("%s must be a whole number from 0, not %s"):format(what, tostring(value)))
  end
  return value
end

--- The CPUs in "0-3,8", ascending. Raises "invalid".
---@param text string
---@return integer[]
function cpuset.parse(text)
  local seen, cpus = {}, {}
  local function refuse()
    errors.refuse("invalid", ("'%s' is not a list of CPUs"):format(tostring(text)),
      "write single CPUs and ranges, such as \"0-3,8\"")
  end
  if type(text) ~= "string" then
    refuse()
  end
  for part in (text .. ","):gmatch "([^,]*)," do
    local first, last = part:match "^%s*(%d+)%-(%d+)%s*$"
    first = tonumber(first or part:match "^%s*(%d+)%s*$")
    last = tonumber(last) or first
    if not first or last < first or last > 8191 then
      refuse()
    end
    for cpu = first, last do
      if not seen[cpu] then
        seen[cpu] = true
        cpus[#cpus + 1] = cpu
      end
    end
  end
  table.sort(cpus)
  return cpus
end

--- The kernel's list format: "0-3,8"; "" for none.
---@param cpus integer[]
---@return string
function cpuset.format(cpus)
  local sorted, parts = { unpack(cpus) }, {}
  table.sort(sorted)
  local i = 1
  while i <= #sorted do
    local last = i
    while sorted[last + 1] and sorted[last + 1] - sorted[last] <= 1 do
      last = last + 1
    end
    parts[#parts + 1] = sorted[i] == sorted[last] and tostring(sorted[i])
      or ("%d-%d"):format(sorted[i], sorted[last])
    i = last + 1
  end
  return table.concat(parts, ",")
end

--- All CPUs of LLC i, counted from 0 over the whole machine.
---@param i integer
---@return ktstr.Cpuset
function cpuset.llc(i)
  return setmetatable({ kind = "llc", index = check_index(i, "llc") }, Cpuset)
end

--- All CPUs of NUMA node i.
---@param i integer
---@return ktstr.Cpuset
function cpuset.numa(i)
  return setmetatable({ kind = "numa", index = check_index(i, "numa") }, Cpuset)
end

--- CPUs a to b, both included.
---@param a integer
---@param b integer
---@return ktstr.Cpuset
function cpuset.range(a, b)
  check_index(a, "the first CPU")
  check_index(b, "the last CPU")
  if b < a then
    errors.refuse("invalid", ("the range of CPUs %d to %d is empty"):format(a, b))
  end
  return setmetatable({ kind = "range", first = a, last = b }, Cpuset)
end

--- Exactly these CPUs: a list such as "0,2,4-5", or an array of numbers.
---@param set string|integer[]
---@return ktstr.Cpuset
function cpuset.exact(set)
  local cpus
  if type(set) == "table" then
    for _, cpu in ipairs(set) do
      check_index(cpu, "a CPU")
    end
    cpus = cpuset.parse(cpuset.format(set))
  else
    cpus = cpuset.parse(set)
  end
  return setmetatable({ kind = "exact", cpus = cpus }, Cpuset)
end

---@param value any
---@return boolean
function cpuset.is(value)
  return getmetatable(value) == Cpuset
end

--- The CPUs that a set names on a machine, ascending. Raises "invalid" when it has no such place.
---@param set ktstr.Cpuset|string
---@param topology ktstr.Topology
---@return integer[]
function cpuset.resolve(set, topology)
  if not cpuset.is(set) then
    set = cpuset.exact(set)
  end
  local cpus
  if set.kind == "llc" then
    cpus = topology:llc_cpus(set.index)
  elseif set.kind == "numa" then
    cpus = topology:node_cpus(set.index)
  elseif set.kind == "range" then
    cpus = cpuset.parse(("%d-%d"):format(set.first, set.last))
  else
    cpus = set.cpus
  end
  for _, cpu in ipairs(cpus) do
    if cpu >= topology.cpus then
      errors.refuse("invalid", ("the cpuset %s names CPU %d, but %s has CPUs 0 to %d"):format(tostring(set),
        cpu, tostring(topology), topology.cpus - 1))
    end
  end
  if #cpus == 0 then
    errors.refuse("invalid", ("the cpuset %s is empty on %s"):format(tostring(set), tostring(topology)))
  end
  return cpus
end

return cpuset
