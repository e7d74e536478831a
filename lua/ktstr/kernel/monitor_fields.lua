-- What a monitor of a kernel knows by name, and where kernels have it.
--
-- A field: name; where it begins: per_cpu (a per-CPU variable) or var (a global), and its type where the
-- kernel does not say; path from there; scope: "cpu" (each CPU has one), "domain" (each scheduling domain of
-- each CPU has one), "machine" (one) or "sum" (of all CPUs); gate: what must not be 0 for it to be there.
local errors = require "ktstr.errors"

local monitor_fields = {}

local RUNQUEUE = "runqueues"
local TICK_STOPPED_BIT = 1 -- TS_FLAG_STOPPED, a macro; before 6.9 a member of its own

-- --- those of a CPU ---

local function of_runqueue(name, path, gate)
  return { name = name, per_cpu = RUNQUEUE, path = path or name, scope = "cpu", gate = gate }
end

local function tick_stopped(types)
  local tick = types:find "struct tick_sched"
  local field = { name = "tick_stopped", per_cpu = "tick_cpu_sched", path = "tick_stopped", scope = "cpu" }
  if tick and not tick:find_member "tick_stopped" then
    field.path, field.bit = "flags", TICK_STOPPED_BIT
  end
  return field
end

local function runqueue_fields(types)
  return {
    of_runqueue "nr_running",
    of_runqueue "clock",
    of_runqueue "nr_switches",
    of_runqueue("run_delay", "rq_sched_info.run_delay"),
    of_runqueue("pcount", "rq_sched_info.pcount"),
    tick_stopped(types),
  }
end

local function scx_fields()
  return {
    of_runqueue("scx_nr_running", "scx.nr_running"),
    of_runqueue("scx_flags", "scx.flags"),
    of_runqueue("local_dsq", "scx.local_dsq.nr"),
  }
end

local function schedstat_fields()
  local fields = {}
  for i, name in ipairs { "yld_count", "sched_count", "sched_goidle", "ttwu_count", "ttwu_local" } do
    fields[i] = of_runqueue(name, name, "schedstats")
  end
  return fields
end

-- --- those of a scheduling domain ---

local ALWAYS = { "level", "flags", "span_weight", "balance_interval", "last_balance", "nr_balance_failed",
  "newidle_call", "newidle_success", "newidle_ratio", "max_newidle_lb_cost" }
local COUNTED = { lb = true, alb = true, sbe = true, sbf = true, ttwu = true }
local IDLE_TYPES = { CPU_IDLE = "idle", CPU_NOT_IDLE = "busy", __CPU_NOT_IDLE = "busy",
  CPU_NEWLY_IDLE = "newidle" }

local function of_domain(name, path, gate)
  return { name = name, per_cpu = RUNQUEUE, path = path or name, scope = "domain", gate = gate }
end

-- A counter for each way in which a CPU was idle when it balanced: lb_count_newidle.
local function add_by_idleness(fields, types, member)
  local enum = types:find "enum cpu_idle_type"
  for name, value in pairs(enum and enum:values() or {}) do
    if IDLE_TYPES[name] and value < member.type.count then
      fields[#fields + 1] = of_domain(("%s_%s"):format(member.name, IDLE_TYPES[name]),
        ("%s[%d]"):format(member.name, value), "schedstats")
    end
  end
end

local function domain_fields(types)
  local fields = {}
  for i, name in ipairs(ALWAYS) do
    fields[i] = of_domain(name)
  end
  local domain = types:find "struct sched_domain"
  for _, member in ipairs(domain and domain:members() or {}) do
    if COUNTED[member.name:match "^%l+" or ""] and member.name:find("_", 1, true) then
      if member.type.kind == "array" then
        add_by_idleness(fields, types, member)
      else
        fields[#fields + 1] = of_domain(member.name, member.name, "schedstats")
      end
    end
  end
  table.sort(fields, function(a, b)
    return a.name < b.name
  end)
  return fields
end

-- --- sched_ext's event counters ---

-- They have had three places.
local function event_place(types)
  local scheduler = types:find "struct scx_sched"
  for _, path in ipairs(scheduler and { "pcpu.event_stats", "event_stats_cpu" } or {}) do
    if scheduler:find_member(path:match "^%w+[%w_]*") then
      return { var = "scx_root", type = "struct scx_sched *", path = path .. "." }
    end
  end
  return { per_cpu = "event_stats_cpu", type = "struct scx_event_stats", path = "" }
end

local function event_fields(types)
  local stats = types:find "struct scx_event_stats"
  local fields, place = {}, event_place(types)
  for i, member in ipairs(stats and stats:members() or {}) do
    fields[i] = { name = member.name, var = place.var, per_cpu = place.per_cpu, type = place.type,
      path = place.path .. member.name, scope = "sum", is_event = true }
  end
  return fields
end

-- --- all of them ---

local function time_fields()
  return { { name = "jiffies", var = "jiffies_64", type = "u64", path = "", scope = "machine" } }
end

local GROUPS = {
  { "time", time_fields },
  { "runqueue", runqueue_fields },
  { "scx", scx_fields },
  { "events", event_fields },
  { "schedstat", schedstat_fields },
  { "domains", domain_fields },
}

--- What `gate = "schedstats"` goes by: the kernel's static key. It is read with each sample.
monitor_fields.gate = { name = "schedstats", var = "sched_schedstats", type = "struct static_key_false",
  path = "key.enabled.counter", scope = "machine" }

--- All groups of fields that there are for such types, in order.
---@param types ktstr.TypeSet
---@return { name: string, fields: table[] }[]
function monitor_fields.groups(types)
  local groups = {}
  for i, group in ipairs(GROUPS) do
    groups[i] = { name = group[1], fields = group[2](types) }
  end
  return groups
end

local SCOPES = { cpu = true, sum = true, machine = true }

local function check_own(field)
  local scope = field.scope or (field.per_cpu and "cpu" or "machine")
  local base = field.per_cpu or field.var
  if type(field.name) ~= "string" or type(field.path) ~= "string" or type(base) ~= "string"
    or (field.per_cpu and field.var) or not SCOPES[scope] or (scope == "machine" and field.per_cpu) then
    errors.raise("invalid", "a field of one's own has a name, per_cpu or var, and a path: "
      .. '{ name = "queued", per_cpu = "runqueues", path = "cfs.h_nr_queued" }',
      'scope = "sum" adds up all CPUs; type says what the kernel does not')
  end
  return { name = field.name, per_cpu = field.per_cpu, var = field.var, type = field.type, path = field.path,
    scope = scope, is_own = true }
end

--- Those that were asked for: names of fields and groups, and tables for one's own. nil: every group.
--- Raises "not-found" with the nearest, "invalid".
---@param groups { name: string, fields: table[] }[]
---@param wanted (string|table)[]|nil
---@return table[]
function monitor_fields.choose(groups, wanted)
  local by_name, names, chosen, seen = {}, {}, {}, {}
  local function add(field)
    if not seen[field.name] then
      seen[field.name] = true
      chosen[#chosen + 1] = field
    end
  end
  for _, group in ipairs(groups) do
    by_name[group.name], names[#names + 1] = group.fields, group.name
    for _, field in ipairs(group.fields) do
      by_name[field.name], names[#names + 1] = { field }, field.name
    end
  end
  for _, one in ipairs(wanted or { "time", "runqueue", "scx", "events", "schedstat", "domains" }) do
    if type(one) == "table" then
      add(check_own(one))
    elseif by_name[one] then
      for _, field in ipairs(by_name[one]) do
        add(field)
      end
    else
      errors.raise("not-found", ("a monitor has no field '%s'"):format(tostring(one)),
        require("ktstr.nearest").hint(tostring(one), names))
    end
  end
  return chosen
end

return monitor_fields
