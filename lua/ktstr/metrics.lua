-- Numbers drawn from workers' reports. Pure functions; nil where the data is missing.
local cpuset = require "ktstr.cpuset"

local metrics = {}

local NS_PER_S, NS_PER_MS = 1e9, 1e6

local function values_of(reports, value_of)
  local values = {}
  for i, report in ipairs(reports) do
    local value = value_of(report)
    if value == nil then
      return nil, report
    end
    values[i] = value
  end
  return values
end

local function extremes(values)
  return math.min(unpack(values)), math.max(unpack(values))
end

-- Many samples do not fit into a call's arguments.
local function mean_and_deviation(values)
  local sum, squares = 0, 0
  for _, value in ipairs(values) do
    sum = sum + value
  end
  local mean = sum / #values
  for _, value in ipairs(values) do
    squares = squares + (value - mean) ^ 2
  end
  return mean, math.sqrt(squares / #values)
end

--- The largest share of the wall time that the host took from one of the CPUs that the workers used: what
--- steal may explain at the most.
---@param reports table[]
---@param steal table<integer, number>
---@return number 0 to 1
function metrics.steal_share(reports, steal)
  local most = 0
  for _, report in ipairs(reports) do
    if report.cpus_used and report.cpus_used ~= "" then
      for _, cpu in ipairs(cpuset.parse(report.cpus_used)) do
        most = math.max(most, steal[cpu] or 0)
      end
    end
  end
  return most
end

--- The share of its time that a worker was off the CPU, in percent. Time in which it neither ran by its
--- own clock, nor waited, nor slept is what the host took while it ran (kernels differ in whether a task's
--- clock goes on then), and does not count.
---@param report table
---@return number|nil
function metrics.off_cpu_pct(report)
  local wall, cpu = report.wall_ns, report.cpu_ns
  if not wall or wall <= 0 or not cpu then
    return nil
  end
  local off = wall - cpu
  if report.run_delay_ns and report.blocked_ns then
    off = math.min(off, report.run_delay_ns + report.blocked_ns)
  end
  return math.max(0, off) / wall * 100
end

--- Largest minus smallest off-CPU share in a cgroup, percentage points.
---@return number|nil, table|nil the report that lacks data
function metrics.spread_pct(reports)
  local shares, lacking = values_of(reports, metrics.off_cpu_pct)
  if not shares or #shares == 0 then
    return nil, lacking
  end
  local least, most = extremes(shares)
  return most - least
end

local function work_rate(report)
  return report.work_units and report.cpu_ns and report.cpu_ns > 0
    and report.work_units / (report.cpu_ns / NS_PER_S) or nil
end

--- The smallest number of work units per CPU second.
function metrics.least_work_rate(reports)
  local rates, lacking = values_of(reports, work_rate)
  return rates and rates[1] and (extremes(rates)), lacking
end

--- Standard deviation over mean of work units per CPU second.
function metrics.throughput_cv(reports)
  local rates, lacking = values_of(reports, work_rate)
  if not rates or not rates[1] then
    return nil, lacking
  end
  local mean, deviation = mean_and_deviation(rates)
  return mean > 0 and deviation / mean or nil
end

--- Iterations per second of wall time of the slowest worker.
function metrics.least_iteration_rate(reports)
  local rates, lacking = values_of(reports, function(report)
    local wall = report.wall_ns
    return report.iterations and wall and wall > 0 and report.iterations / (wall / NS_PER_S) or nil
  end)
  return rates and rates[1] and (extremes(rates)), lacking
end

--- Migrations over iterations, worst worker.
function metrics.migration_ratio(reports)
  local ratios, lacking = values_of(reports, function(report)
    return report.migrations and report.iterations and report.iterations > 0
      and report.migrations / report.iterations or nil
  end)
  return ratios and ratios[1] and select(2, extremes(ratios)), lacking
end

local function wake_samples(reports)
  local all = {}
  for _, report in ipairs(reports) do
    for _, sample in ipairs(report.wake_samples or {}) do
      all[#all + 1] = tonumber(sample)
    end
  end
  return all
end

--- The 99th percentile (nearest rank) of all wake latencies of a cgroup, ns.
function metrics.p99_wake_latency_ns(reports)
  local all = wake_samples(reports)
  if #all == 0 then
    return nil
  end
  table.sort(all)
  return all[math.ceil(#all * 0.99)]
end

--- Standard deviation over mean of all wake latencies of a cgroup.
function metrics.wake_latency_cv(reports)
  local all = wake_samples(reports)
  if #all == 0 then
    return nil
  end
  local mean, deviation = mean_and_deviation(all)
  return mean > 0 and deviation / mean or nil
end

local function sum(reports, field)
  local total
  for _, report in ipairs(reports) do
    if report[field] then
      total = (total or 0) + report[field]
    end
  end
  return total
end

local function used_cpus(reports)
  local seen, cpus = {}, {}
  for _, report in ipairs(reports) do
    if report.cpus_used and report.cpus_used ~= "" then
      for _, cpu in ipairs(cpuset.parse(report.cpus_used)) do
        if not seen[cpu] then
          seen[cpu] = true
          cpus[#cpus + 1] = cpu
        end
      end
    end
  end
  return cpuset.format(cpus)
end

---@class ktstr.CgroupSummary
---@field name string
---@field workers integer
---@field work string
---@field work_units number|nil sum
---@field units_min number|nil
---@field units_max number|nil
---@field iterations number|nil sum
---@field spread_pct number|nil percentage points
---@field max_gap_ms number|nil
---@field migrations number|nil sum
---@field run_delay_ms number|nil sum
---@field cpu_s number|nil sum of CPU seconds
---@field cpus_used string "0-3"
---@field reports table[] one a worker, as it sent it

--- A cgroup's workers in one row.
---@param cgroup { name: string, work: any, reports: table[] }
---@return ktstr.CgroupSummary
function metrics.summarise(cgroup)
  local reports = cgroup.reports
  local units = values_of(reports, function(report)
    return report.work_units
  end)
  local gaps = values_of(reports, function(report)
    return report.max_gap_ns
  end)
  local row = {
    name = cgroup.name,
    workers = #reports,
    work = tostring(cgroup.work),
    work_units = sum(reports, "work_units"),
    iterations = sum(reports, "iterations"),
    spread_pct = (metrics.spread_pct(reports)),
    migrations = sum(reports, "migrations"),
    cpus_used = used_cpus(reports),
    reports = reports,
  }
  if units and units[1] then
    row.units_min, row.units_max = extremes(units)
  end
  if gaps and gaps[1] then
    row.max_gap_ms = select(2, extremes(gaps)) / NS_PER_MS
  end
  local delay, cpu = sum(reports, "run_delay_ns"), sum(reports, "cpu_ns")
  row.run_delay_ms = delay and delay / NS_PER_MS
  row.cpu_s = cpu and cpu / NS_PER_S
  return row
end

return metrics
