-- The checks of a test's workers: what each looks at, its default, its verdict.
-- A check without data is inconclusive and says which data; it never passes. One on time fails only if it
-- does so net of what the host may have taken from the workers' CPUs, and only while the host took at most
-- max_dilation_pct of what the vCPUs wanted; otherwise it is inconclusive.
local cpuset = require "ktstr.cpuset"
local errors = require "ktstr.errors"
local metrics = require "ktstr.metrics"
local options = require "ktstr.options"

local checks = {}

---@class ktstr.Checks
---@field not_starved boolean|nil every worker did some work; on
---@field isolation boolean|nil every CPU that a worker ran on is in its cgroup's cpuset; on
---@field max_gap_ms number|false|nil longest time between two iterations of a runnable worker; 2000
---@field max_spread_pct number|false|nil largest minus smallest off-CPU share in a cgroup, points; 15
---@field max_throughput_cv number|false|nil deviation over mean of work per CPU second in a cgroup; off
---@field min_work_rate number|false|nil work units per CPU second, slowest worker; off
---@field max_p99_wake_latency_ns number|false|nil over a cgroup's wake samples; off
---@field max_wake_latency_cv number|false|nil likewise; off
---@field min_iteration_rate number|false|nil iterations per second, slowest worker; off
---@field max_migration_ratio number|false|nil migrations over iterations, worst worker; off
---@field max_dilation_pct number|nil the host's dilation above which time-based checks cannot fail; 20

---@type ktstr.Checks
checks.defaults = {
  not_starved = true,
  isolation = true,
  max_gap_ms = 2000,
  max_spread_pct = 15,
  max_dilation_pct = 20,
}

local number = { "number|boolean", min = 0 }

---@type table<string, ktstr.OptionRule>
checks.rules = {
  not_starved = { "boolean" },
  isolation = { "boolean" },
  max_gap_ms = number,
  max_spread_pct = number,
  max_throughput_cv = number,
  min_work_rate = number,
  max_p99_wake_latency_ns = number,
  max_wake_latency_cv = number,
  min_iteration_rate = number,
  max_migration_ratio = number,
  max_dilation_pct = { "number", min = 0, max = 100 },
}

--- Defaults overlaid by a test's own: nil inherits, false turns off. Raises "invalid".
---@param given ktstr.Checks|nil
---@return ktstr.Checks
function checks.merge(given)
  given = options.check("checks", given, checks.rules)
  local merged = {}
  for name in pairs(checks.rules) do
    merged[name] = given[name]
    if merged[name] == nil then
      merged[name] = checks.defaults[name]
    end
    -- For a limit, true means "as by default".
    if merged[name] == true and checks.rules[name] == number then
      merged[name] = checks.defaults[name]
      if not merged[name] then
        errors.refuse("invalid", ("checks: option '%s' must be a number: it has no default"):format(name))
      end
    end
  end
  merged.asked = given
  return merged
end

---@class ktstr.Finding
---@field check string
---@field status "pass"|"fail"|"inconclusive"
---@field where string "cg_0", "cg_0 worker 1"
---@field expected string|nil
---@field found string|nil
---@field notes string[]|nil what it does not stand on, for one that passed too

local function finding(check, status, where, expected, found)
  return { check = check, status = status, where = where, expected = expected, found = found }
end

local function worker(cgroup, report)
  return ("%s worker %d"):format(cgroup.name, report.index)
end

local function show(value, unit)
  local text = value % 1 == 0 and value < 1e15 and ("%d"):format(value) or ("%.4g"):format(value)
  return unit == "%" and text .. " points" or unit and text .. " " .. unit or text
end

local function no_data(check, where, what)
  return finding(check, "inconclusive", where, nil, "no data: " .. what)
end

-- A violation on time is believed only when the host gave the guest its time.
local function time_verdict(run, config)
  local dilation = run.dilation.share
  if dilation and dilation * 100 > config.max_dilation_pct then
    return "inconclusive", (" (the host took %.0f %% of the time that the vCPUs wanted)"):format(
      dilation * 100)
  end
  return "fail", ""
end

local evaluators = {}

function evaluators.not_starved(cgroup)
  for _, report in ipairs(cgroup.reports) do
    if not report.work_units then
      return no_data("not_starved", worker(cgroup, report), "work units")
    elseif report.work_units == 0 then
      return finding("not_starved", "fail", worker(cgroup, report), "work units above 0", "0")
    end
  end
  return finding("not_starved", "pass", cgroup.name)
end

function evaluators.isolation(cgroup)
  if not cgroup.cpus then
    return nil
  end
  local allowed = {}
  for _, cpu in ipairs(cgroup.cpus) do
    allowed[cpu] = true
  end
  for _, report in ipairs(cgroup.reports) do
    if not report.cpus_used or report.cpus_used == "" then
      return no_data("isolation", worker(cgroup, report), "CPUs used")
    end
    local outside = {}
    for _, cpu in ipairs(cpuset.parse(report.cpus_used)) do
      if not allowed[cpu] then
        outside[#outside + 1] = cpu
      end
    end
    if #outside > 0 then
      return finding("isolation", "fail", worker(cgroup, report),
        "only the CPUs " .. cpuset.format(cgroup.cpus), "it ran on " .. cpuset.format(outside) .. " too")
    end
  end
  return finding("isolation", "pass", cgroup.name)
end

-- The time that the host took from the CPU is known, but not when: a gap that it may explain proves
-- nothing.
local function judge_gap(cgroup, report, limit, run, config)
  local gap = report.max_gap_ns / 1e6
  local stolen = (run.dilation.steal[report.max_gap_cpu] or 0) * (report.wall_ns or 0) / 1e6
  local at = report.max_gap_at_ns and ("at %.2f s"):format(report.max_gap_at_ns / 1e9) or "at an unknown time"
  local status, why = time_verdict(run, config)
  if status == "fail" and gap - stolen <= limit then
    status, why = "inconclusive", (" (the host took %.0f ms from that CPU)"):format(stolen)
  end
  return finding("max_gap_ms", status, worker(cgroup, report), "at most " .. show(limit, "ms"),
    ("%.0f ms, on CPU %s, %s%s"):format(gap, tostring(report.max_gap_cpu or "?"), at, why))
end

function evaluators.max_gap_ms(cgroup, limit, run, config)
  local worst
  for _, report in ipairs(cgroup.reports) do
    if not report.max_gap_ns then
      return no_data("max_gap_ms", worker(cgroup, report), "longest gap")
    end
    if not worst or report.max_gap_ns > worst.max_gap_ns then
      worst = report
    end
  end
  if worst.max_gap_ns / 1e6 > limit then
    return judge_gap(cgroup, worst, limit, run, config)
  end
  return finding("max_gap_ms", "pass", cgroup.name)
end

-- What a number of a cgroup would be at the best without the host's steal (a share of the time).
local best = {
  points = function(value, stolen)
    return value - 100 * stolen
  end,
  rate = function(value, stolen)
    return value / math.max(1 - stolen, 0.001)
  end,
  as_it_is = function(value)
    return value
  end,
}

-- A limit on one number of a cgroup. traits: data (what it needs), unit, least (the limit is a lower one),
-- net (for a number on time: how it changes with steal).
local function limited(check, value_of, traits)
  local function holds(value, limit)
    if traits.least then
      return value >= limit
    end
    return value <= limit
  end

  evaluators[check] = function(cgroup, limit, run, config)
    local value, lacking = value_of(cgroup.reports)
    if value == nil or value ~= value then
      return no_data(check, lacking and worker(cgroup, lacking) or cgroup.name, traits.data)
    elseif holds(value, limit) then
      return finding(check, "pass", cgroup.name)
    end
    local status, why = "fail", ""
    if traits.net then
      status, why = time_verdict(run, config)
      local stolen = metrics.steal_share(cgroup.reports, run.dilation.steal)
      if status == "fail" and holds(traits.net(value, stolen), limit) then
        status, why = "inconclusive", (" (the host took up to %.0f %% of a CPU's time)"):format(stolen * 100)
      end
    end
    return finding(check, status, cgroup.name,
      (traits.least and "at least " or "at most ") .. show(limit, traits.unit),
      show(value, traits.unit) .. why)
  end
end

limited("max_spread_pct", metrics.spread_pct, { net = best.points, unit = "%", data = "CPU and wall time" })
limited("max_throughput_cv", metrics.throughput_cv, { net = best.as_it_is, data = "work units and CPU time" })
limited("min_work_rate", metrics.least_work_rate,
  { net = best.rate, least = true, unit = "per CPU second", data = "work units and CPU time" })
limited("max_p99_wake_latency_ns", metrics.p99_wake_latency_ns,
  { net = best.as_it_is, unit = "ns", data = "wake latencies" })
limited("max_wake_latency_cv", metrics.wake_latency_cv, { net = best.as_it_is, data = "wake latencies" })
limited("min_iteration_rate", metrics.least_iteration_rate,
  { net = best.rate, least = true, unit = "per second", data = "iterations and wall time" })
limited("max_migration_ratio", metrics.migration_ratio, { data = "migrations and iterations" })

local order = {
  "not_starved", "isolation", "max_gap_ms", "max_spread_pct", "max_throughput_cv", "min_work_rate",
  "max_p99_wake_latency_ns", "max_wake_latency_cv", "min_iteration_rate", "max_migration_ratio",
}

-- A worker that could not run or did not stop: no check on numbers says so.
local function broken_workers(cgroup, findings)
  for _, report in ipairs(cgroup.reports) do
    if report.failed then
      findings[#findings + 1] = finding("worker", "fail", worker(cgroup, report), "it runs",
        report.reason or "it could not run")
    elseif report.killed then
      findings[#findings + 1] = finding("worker", "fail", worker(cgroup, report), "it stops when told to",
        "it had to be killed; its numbers are its last ones")
    end
  end
end

--- Judges a run.
---@param config ktstr.Checks from merge()
---@param run { cgroups: table[], dilation: ktstr.Dilation } each cgroup with name, cpus, reports
---@return ktstr.Finding[]
function checks.evaluate(config, run)
  local findings, judged = {}, {}
  for _, cgroup in ipairs(run.cgroups) do
    broken_workers(cgroup, findings)
    for _, name in ipairs(order) do
      if config[name] and #cgroup.reports > 0 then
        local result = evaluators[name](cgroup, config[name], run, config)
        findings[#findings + 1] = result
        judged[name] = judged[name] or result ~= nil
      end
    end
  end
  for _, name in ipairs(order) do
    if config.asked[name] and not judged[name] then
      findings[#findings + 1] = no_data(name, "the test",
        name == "isolation" and "no worker ran in a cgroup with a cpuset" or "no worker ran")
    end
  end
  return findings
end

return checks
