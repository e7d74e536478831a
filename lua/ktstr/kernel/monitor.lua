-- vm:monitor: samples of the running kernel's state at an interval, as series by name; and stalled CPUs.
local access = require "ktstr.kernel.access"
local cpumask = require "ktstr.kernel.cpumask"
local errors = require "ktstr.errors"
local known = require "ktstr.kernel.known"
local monitor_fields = require "ktstr.kernel.monitor_fields"
local monitor_program = require "ktstr.kernel.monitor_program"
local nearest = require "ktstr.nearest"
local options = require "ktstr.options"
local percpu = require "ktstr.kernel.percpu"
local series = require "ktstr.series"
local stalls = require "ktstr.kernel.stalls"
local values = require "ktstr.kernel.values"

local monitor = {}

local INTERVAL_S = 0.1
local KEEP, KEEP_BYTES = 6000, 64 * 2 ^ 20 -- ten minutes, unless that is too much memory
local STALL_INTERVALS = 5
local LEVELS = 8 -- of scheduling domains: no machine has so many
local RULES = {
  interval = { "number", min = 0.001, max = 3600 },
  keep = { "number", min = 1, max = 10 ^ 7, integer = true },
  fields = { "list" },
}

-- --- compiling ---

-- The type of what a field begins with.
local function type_of(k, field)
  local set = k:_types()
  if field.type then
    return values.resolve_type(set, field.type)
  end
  local name = field.per_cpu or field.var
  local type = set:variable(name)
  local names = known.globals[name]
  for _, one in ipairs(type and {} or _G.type(names) == "table" and names or { names }) do
    type = type or set:find(one)
  end
  return type or errors.raise("not-found", ("nothing says of which type '%s' is"):format(name),
    "say it: type = \"struct ...\"")
end

local function start_of(k, field)
  local name = field.per_cpu or field.var
  local is_percpu = field.per_cpu ~= nil
  local symbol = k:_symbol(name, function(one)
    return percpu.is_symbol(k, one) == is_percpu
  end)
  if percpu.is_symbol(k, symbol) ~= is_percpu then
    errors.raise("per-cpu", ("'%s' is %sper-CPU"):format(name, is_percpu and "not " or ""),
      ("%s = \"%s\" names it"):format(is_percpu and "var" or "per_cpu", name))
  end
  return k:_place(symbol)
end

-- How a number is read out of the bits that the kernel has made a macro of.
local function with_bit(place, field)
  if field.bit then
    place.shift, place.bits = field.bit, 1
  end
  return place
end

-- Where its values are in a sample: index; by CPU; by CPU and level.
local function add_field(build, field)
  local k, program = build.k, build.program
  local type, start, is_percpu = type_of(k, field), start_of(k, field), field.per_cpu ~= nil
  if field.scope == "machine" or field.scope == "sum" then
    local place = with_bit(monitor_program.place(type, field.path), field)
    return program:add(start, place, field.scope == "sum" and build.cpus or { false }, is_percpu)
  end
  local index = {}
  for level = 0, field.scope == "domain" and build.levels - 1 or 0 do
    local prefix = field.scope == "domain" and "sd." .. ("parent."):rep(level) or ""
    local place = with_bit(monitor_program.place(type, prefix .. field.path), field)
    for _, cpu in ipairs(build.cpus) do
      index[cpu] = index[cpu] or {}
      index[cpu][level] = program:add(start, place, { cpu }, is_percpu)
    end
  end
  return index
end

-- How many levels of domains the CPU with the most has.
local function count_levels(k, cpus)
  local most = 0
  for _, cpu in ipairs(cpus) do
    local levels = 0
    for _ in k:sched_domains(cpu) do
      levels = levels + 1
    end
    most = math.max(most, levels)
  end
  return math.min(most, LEVELS)
end

-- CPUs whose tick may be stopped while they run a task.
local function nohz_full_cpus(k)
  local set = {}
  if access.has_symbol(k, "tick_nohz_full_running") and access.has_symbol(k, "tick_nohz_full_mask")
    and k:u8(k:symbol "tick_nohz_full_running") ~= 0 then
    local place = k:symbol "tick_nohz_full_mask"
    local type = k:_types():find "cpumask_var_t"
    for _, cpu in ipairs(cpumask.cpumask(k, type and type.kind == "pointer" and k:pointer(place) or place)) do
      set[cpu] = true
    end
  end
  return set
end

-- What the kernel has not, with the reason; what a script describes itself has to be there.
local function compile_field(build, field)
  local ok, index = pcall(add_field, build, field)
  if ok then
    field.index = index
    build.fields[#build.fields + 1], build.by_name[field.name] = field, field
  elseif field.is_own or not (errors.is(index, "not-found") or errors.is(index, "unsupported")) then
    error(index, 0)
  else
    build.absent[field.name] = "this kernel has none: " .. index.message
  end
end

local function compile(k, wanted)
  local cpus = cpumask.cpus(k, "possible")
  local unset = access.has_symbol(k, "__per_cpu_load") and access.symbol(k, "__per_cpu_load") or nil
  local build = {
    k = k,
    cpus = cpus,
    levels = count_levels(k, cpus),
    program = monitor_program.new(k._vm.topology.cpus, access.symbol(k, "__per_cpu_offset"), unset),
    fields = {}, by_name = {}, absent = {},
  }
  local chosen = monitor_fields.choose(monitor_fields.groups(k:_types()), wanted)
  local gated = false
  for _, field in ipairs(chosen) do
    if field.scope == "domain" and build.levels == 0 then
      build.absent[field.name] = "this machine has no scheduling domains"
    else
      compile_field(build, field)
      gated = gated or field.gate ~= nil
    end
  end
  if gated then
    compile_field(build, monitor_fields.gate)
  end
  return build
end

-- --- samples ---

---@class ktstr.Sample
---@field number integer of all that were taken, from 0
---@field time number CLOCK_MONOTONIC of the host, seconds
---@field elapsed number seconds since the machine's start, without those that it was frozen
---@field epoch integer another one once the machine was taken back (vm:rewind)
---@field spent number seconds that the sample took
---@field cpus table<integer, table> from 0: fields by name, domains[level] (0 is the smallest), host_ran
---  (seconds that the host has run the vCPU since its start), host_state ("wants" to run or "sleeps")
---@field events table<string, number> sched_ext's counters, of all CPUs
---@field machine table<string, number> fields that the machine has one of: jiffies, schedstats (the key)

local Sample = {}

-- nil: it could not be read, or means nothing because the kernel does not count.
local function value_of(self, field, sample, index)
  if field.gate then
    local gate = self._by_name[field.gate]
    local on = gate and self._program:get(sample, gate.index)
    if not on or on == 0 then
      return nil
    end
  end
  return self._program:get(sample, index)
end

local function decode_cpu(self, sample, cpu)
  local one = { domains = {} }
  one.host_ran, one.host_state = self._program:host(sample, cpu)
  for _, field in ipairs(self._fields) do
    if field.scope == "cpu" then
      one[field.name] = value_of(self, field, sample, field.index[cpu][0])
    elseif field.scope == "domain" then
      for level, index in pairs(field.index[cpu]) do
        local value = value_of(self, field, sample, index)
        if value ~= nil then
          one.domains[level] = one.domains[level] or {}
          one.domains[level][field.name] = value
        end
      end
    end
  end
  return one
end

-- Decoded when it is first asked for: most samples are only read as series.
local parts = {}

function parts.cpus(self, raw)
  local cpus = {}
  for _, cpu in ipairs(self._cpus) do
    cpus[cpu] = decode_cpu(self, raw, cpu)
  end
  return cpus
end

local function decode_plain(self, raw, wanted)
  local list = {}
  for _, field in ipairs(self._fields) do
    if (field.scope == "machine" or field.scope == "sum") and (field.is_event or false) == wanted then
      list[field.name] = value_of(self, field, raw, field.index)
    end
  end
  return list
end

function parts.events(self, raw)
  return decode_plain(self, raw, true)
end

function parts.machine(self, raw)
  return decode_plain(self, raw, false)
end

function Sample.__index(sample, name)
  local decode = parts[name]
  if decode then
    local part = decode(sample._monitor, sample._raw)
    rawset(sample, name, part)
    return part
  end
end

local function new_sample(self, raw)
  return setmetatable({ number = raw.number, time = raw.time, elapsed = raw.elapsed, epoch = raw.epoch,
    spent = raw.spent, _raw = raw, _monitor = self }, Sample)
end

-- --- monitors ---

---@class ktstr.Monitor
---@field interval number seconds
---@field keep integer samples
---@field absent table<string, string> fields that this kernel has not: why
local Monitor = {}
Monitor.__index = Monitor

-- What has come since is read in; no more is kept than the ring would.
local function update(self)
  local list, size = self._samples, self._program:sample_size()
  while true do
    local bytes = self._core:read(self._next)
    if bytes == "" then
      break
    end
    for at = 0, #bytes - size, size do
      local raw = self._program:open(bytes, at)
      list[#list + 1] = new_sample(self, raw)
      self._next = raw.number + 1
    end
  end
  if #list > self.keep then
    local kept = {}
    for i = #list - self.keep + 1, #list do
      kept[#kept + 1] = list[i]
    end
    self._samples = kept
  end
  return self._samples
end

--- The samples so far, the oldest first: at most `keep`, the newest. Also after the machine's end.
---@return ktstr.Sample[]
function Monitor:samples()
  local list = {}
  for i, sample in ipairs(update(self)) do
    list[i] = sample
  end
  return list
end

--- How it went: samples taken; dropped, because more came than are kept; left out before the kernel had set
--- up its per-CPU areas (early), and while the machine was frozen; and the seconds that the longest one took.
---@return { taken: number, dropped: number, early: number, frozen: number, longest: number }
function Monitor:counts()
  return self._core:counts()
end

local function raise_unknown(self, name)
  if self.absent[name] then
    errors.raise("unsupported", ("'%s' cannot be monitored: %s"):format(name, self.absent[name]))
  elseif type(name) == "string" and name:match "^SCX_EV_" then
    errors.raise("unsupported", ("this kernel does not count '%s'"):format(name))
  end
  local names = {}
  for known_name in pairs(self._by_name) do
    names[#names + 1] = known_name
  end
  errors.raise("not-found", ("the monitor has no field '%s'"):format(tostring(name)),
    nearest.hint(tostring(name), names))
end

-- The place of a field's value in a sample.
local function index_of(self, name, cpu, level)
  local field = self._by_name[name] or raise_unknown(self, name)
  if field.scope ~= "cpu" and field.scope ~= "domain" then
    return field, field.index
  end
  local of_cpu = field.index[cpu]
  if not of_cpu then
    errors.raise("invalid", ("'%s' is of a CPU, and there is no CPU %s"):format(name, tostring(cpu)),
      ("monitor:series(\"%s\", 0)"):format(name))
  end
  local index = of_cpu[field.scope == "domain" and (level or 0) or 0]
  if not index then
    errors.raise("invalid", ("CPU %d has no domain at level %s"):format(cpu, tostring(level)))
  end
  return field, index
end

local function check_counted(self, field, samples, missing)
  if field.gate and missing == #samples and missing > 0 and self._by_name[field.gate] then
    local on = self._program:get(samples[#samples]._raw, self._by_name[field.gate].index)
    if on == 0 then
      errors.raise("unsupported", ("'%s' means nothing: the kernel's sched_schedstats is off"):format(
        field.name), "vm:write(\"/proc/sys/kernel/sched_schedstats\", \"1\") turns it on")
    end
  end
end

-- A series' name: "nr_running of CPU 0", "flags of CPU 0, domain 1".
local function full_name(field, cpu, level)
  if field.scope == "cpu" then
    return ("%s of CPU %d"):format(field.name, cpu)
  elseif field.scope == "domain" then
    return ("%s of CPU %d, domain %d"):format(field.name, cpu, level or 0)
  end
  return field.name
end

--- One field over time. A sample that could not read it is missing in the series. Raises "not-found",
--- "unsupported" (this kernel has it not, or does not count it now), "invalid".
---@param name string
---@param cpu integer|nil of a field that each CPU has
---@param level integer|nil of a domain's: 0 is the smallest
---@return ktstr.Series
function Monitor:series(name, cpu, level)
  local field, index = index_of(self, name, cpu, level)
  local points, samples = {}, update(self)
  for i, sample in ipairs(samples) do
    local value = value_of(self, field, sample._raw, index)
    points[i] = { value = value, time = sample.time, elapsed = sample.elapsed, epoch = sample.epoch,
      reason = value == nil and (field.gate and "it could not be read, or was not counted"
        or "it could not be read") or nil }
  end
  local list = series.of_samples(full_name(field, cpu, level), points)
  check_counted(self, field, samples, list.missing)
  return list
end

--- CPUs with runnable tasks whose runqueue's clock stood still for that long; and, as a second list, those
--- that are excused: the host did not run the vCPU, or it is nohz_full with its tick stopped. Raises
--- "invalid" when the monitor does not sample what that takes.
---@param given { sustained: number|nil }|nil seconds; nil: five intervals
---@return ktstr.Stall[] stalls, ktstr.Stall[] exempt
function Monitor:stalls(given)
  given = options.check("monitor:stalls", given, { sustained = { "number", above = 0 } })
  for _, name in ipairs { "clock", "nr_running" } do
    if not self._by_name[name] then
      errors.raise("invalid", ("stalls are not to be seen without the field '%s'"):format(name))
    end
  end
  return stalls.find(update(self), {
    sustained = given.sustained or STALL_INTERVALS * self.interval,
    nohz_full = self._nohz_full,
  })
end

--- Takes no more samples; those that there are stay.
function Monitor:stop()
  self._core:stop()
end

function Monitor:__tostring()
  local counts = self:counts()
  return ("a monitor: %d fields each %g s, %d samples (%d dropped, %d left out frozen)"):format(
    #self._fields, self.interval, counts.taken, counts.dropped, counts.frozen)
end

--- A monitor of a program that is compiled already.
---@param machine ktstr.core.machine
---@param build { program: ktstr.MonitorProgram, fields: table[], by_name: table, absent: table,
---  cpus: integer[] }
---@param given { interval: number|nil, keep: integer|nil }
---@return ktstr.Monitor
function monitor.attach(machine, build, given)
  local interval = given.interval or INTERVAL_S
  local keep = given.keep
    or math.max(1, math.min(KEEP, math.floor(KEEP_BYTES / build.program:sample_size())))
  return setmetatable({
    interval = interval,
    keep = keep,
    absent = build.absent,
    _core = build.program:start(machine, interval, keep),
    _program = build.program,
    _fields = build.fields,
    _by_name = build.by_name,
    _cpus = build.cpus,
    _nohz_full = build.nohz_full,
    _samples = {},
    _next = 0,
  }, Monitor)
end

--- Starts one. See vm:monitor.
---@param k ktstr.Kernel
---@param given table|nil
---@return ktstr.Monitor
function monitor.monitor(k, given)
  given = options.check("monitor", given, RULES)
  local build = compile(k, given.fields)
  build.nohz_full = nohz_full_cpus(k)
  return monitor.attach(k._machine, build, given)
end

return monitor
