local support = require "tests.lua.support"

local _, load = support.library()
local checks = load "ktstr.checks"
local metrics = load "ktstr.metrics"
local raised = support.raised
local steal = load "ktstr.steal"

local S, MS = 1e9, 1e6

local function worker(fields)
  local report = {
    index = 0,
    work_units = 1000,
    iterations = 100,
    wall_ns = 2 * S,
    cpu_ns = 1 * S,
    run_delay_ns = 1 * S,
    migrations = 2,
    max_gap_ns = 10 * MS,
    max_gap_at_ns = 1.5 * S,
    max_gap_cpu = 1,
    cpus_used = "0-1",
    wake_samples = {},
  }
  for name, value in pairs(fields or {}) do
    report[name] = value ~= "unknown" and value or nil
  end
  return report
end

local function run_of(reports, fields)
  for i, report in ipairs(reports) do
    report.index = i - 1
  end
  fields = fields or {}
  return {
    cgroups = { { name = "cg_0", cpus = fields.cpus, work = "SpinWait", reports = reports } },
    dilation = { share = fields.share or 0, steal = fields.steal or {} },
  }
end

-- The findings of one check alone.
local function judge(config, run)
  local only = {}
  for name in pairs(checks.rules) do
    if name ~= "max_dilation_pct" then
      only[name] = config[name] or false
    end
  end
  only.max_dilation_pct = config.max_dilation_pct
  local findings = checks.evaluate(checks.merge(only), run)
  return findings[1] or {}, findings
end

describe("merging", function()
  it("takes defaults where nothing is said, and turns off with false", function()
    local merged = checks.merge { max_gap_ms = false, max_spread_pct = 30 }
    assert.same({ true, true, false, 30, 20 }, { merged.not_starved, merged.isolation, merged.max_gap_ms,
      merged.max_spread_pct, merged.max_dilation_pct })
    assert.is_nil(merged.min_work_rate)
    assert.equals(2000, checks.merge({ max_gap_ms = true }).max_gap_ms)
    assert.equals(2000, checks.merge().max_gap_ms)
  end)

  it("refuses unknown checks and limits that are none", function()
    assert.equals("checks: unknown option 'max_gap'; did you mean 'max_gap_ms'?",
      tostring(raised(checks.merge, { max_gap = 1 })))
    assert.matches("must be a number: it has no default",
      tostring(raised(checks.merge, { min_work_rate = true })))
    assert.matches("at least 0", tostring(raised(checks.merge, { max_gap_ms = -1 })))
  end)
end)

describe("not_starved", function()
  it("fails for a worker without work", function()
    local finding = judge({ not_starved = true }, run_of { worker(), worker { work_units = 0 } })
    assert.same({ "fail", "cg_0 worker 1", "0" }, { finding.status, finding.where, finding.found })
    assert.equals("pass", judge({ not_starved = true }, run_of { worker() }).status)
  end)

  it("is inconclusive without data", function()
    local finding = judge({ not_starved = true }, run_of { worker { work_units = "unknown" } })
    assert.same({ "inconclusive", "no data: work units" }, { finding.status, finding.found })
  end)
end)

describe("isolation", function()
  it("fails for a CPU outside of the cpuset, and names it", function()
    local finding = judge({ isolation = true }, run_of({ worker { cpus_used = "0-3" } }, { cpus = { 0, 1 } }))
    assert.same({ "fail", "only the CPUs 0-1", "it ran on 2-3 too" },
      { finding.status, finding.expected, finding.found })
  end)

  it("passes inside of it, and says nothing without one", function()
    assert.equals("pass", judge({ isolation = true }, run_of({ worker() }, { cpus = { 0, 1 } })).status)
    assert.is_nil(checks.evaluate(checks.merge { not_starved = false, max_gap_ms = false,
      max_spread_pct = false }, run_of { worker() })[1])
  end)

  it("is inconclusive without data, or when it was asked for and no cgroup has a cpuset", function()
    assert.equals("inconclusive", judge({ isolation = true },
      run_of({ worker { cpus_used = "" } }, { cpus = { 0 } })).status)
    local finding = judge({ isolation = true }, run_of { worker() })
    assert.same({ "inconclusive", "no data: no worker ran in a cgroup with a cpuset" },
      { finding.status, finding.found })
  end)
end)

describe("max_gap_ms", function()
  it("takes the longest gap of any worker, its limit included", function()
    assert.equals("pass", judge({ max_gap_ms = 10 }, run_of { worker() }).status)
    local finding = judge({ max_gap_ms = 10 }, run_of { worker(), worker { max_gap_ns = 11 * MS } })
    assert.same({ "fail", "cg_0 worker 1", "at most 10 ms", "11 ms, on CPU 1, at 1.50 s" },
      { finding.status, finding.where, finding.expected, finding.found })
  end)

  it("is inconclusive when the host's steal may explain the gap", function()
    local reports = { worker { max_gap_ns = 150 * MS } }
    local finding = judge({ max_gap_ms = 100 }, run_of(reports, { share = 0.1, steal = { [1] = 0.05 } }))
    assert.equals("inconclusive", finding.status)
    assert.matches("the host took 100 ms from that CPU", finding.found)
    finding = judge({ max_gap_ms = 100 }, run_of(reports, { share = 0.1, steal = { [1] = 0.02 } }))
    assert.equals("fail", finding.status)
  end)

  it("is inconclusive above the dilation limit, which is an option", function()
    local run = run_of({ worker { max_gap_ns = 5000 * MS } }, { share = 0.3 })
    local finding = judge({ max_gap_ms = 100 }, run)
    assert.equals("inconclusive", finding.status)
    assert.matches("the host took 30 %% of the time", finding.found)
    assert.equals("fail", judge({ max_gap_ms = 100, max_dilation_pct = 40 }, run).status)
  end)

  it("passes below its limit whatever the host did", function()
    assert.equals("pass", judge({ max_gap_ms = 100 }, run_of({ worker() }, { share = 0.9 })).status)
  end)

  it("is inconclusive without data", function()
    local finding = judge({ max_gap_ms = 100 }, run_of { worker { max_gap_ns = "unknown" } })
    assert.equals("inconclusive", finding.status)
  end)
end)

describe("max_spread_pct", function()
  it("is largest minus smallest off-CPU share, in points", function()
    local reports = { worker { cpu_ns = 1 * S }, worker { cpu_ns = 1.4 * S } }
    assert.near(20, metrics.spread_pct(reports), 1e-9)
    assert.equals("pass", judge({ max_spread_pct = 21 }, run_of(reports)).status)
    local finding = judge({ max_spread_pct = 15 }, run_of(reports))
    assert.same({ "fail", "at most 15 points", "20 points" },
      { finding.status, finding.expected, finding.found })
  end)

  it("leaves out what the host took while a worker ran", function()
    -- Half of the second one's running time was stolen, and its clock stood still then.
    local reports = {
      worker { cpu_ns = 1 * S, run_delay_ns = 1 * S, blocked_ns = 0 },
      worker { cpu_ns = 0.5 * S, run_delay_ns = 1 * S, blocked_ns = 0 },
    }
    assert.near(0, metrics.spread_pct(reports), 1e-9)
  end)

  it("is inconclusive when the host's steal may explain it", function()
    local reports = { worker { cpu_ns = 1 * S }, worker { cpu_ns = 1.4 * S, cpus_used = "1" } }
    local finding = judge({ max_spread_pct = 15 }, run_of(reports, { steal = { [1] = 0.06 } }))
    assert.same({ "inconclusive", "20 points (the host took up to 6 % of a CPU's time)" },
      { finding.status, finding.found })
    assert.equals("fail", judge({ max_spread_pct = 15 }, run_of(reports, { steal = { [1] = 0.04 } })).status)
    assert.equals("fail", judge({ max_spread_pct = 15 }, run_of(reports, { steal = { [7] = 0.9 } })).status)
  end)

  it("is inconclusive without data", function()
    local finding = judge({ max_spread_pct = 15 }, run_of { worker(), worker { cpu_ns = "unknown" } })
    assert.same({ "inconclusive", "cg_0 worker 1" }, { finding.status, finding.where })
  end)
end)

describe("the checks that are off by default", function()
  it("judge rates", function()
    local reports = { worker { work_units = 100, cpu_ns = S }, worker { work_units = 300, cpu_ns = S } }
    assert.equals("fail", judge({ min_work_rate = 101 }, run_of(reports)).status)
    assert.equals("pass", judge({ min_work_rate = 100 }, run_of(reports)).status)
    assert.near(0.5, metrics.throughput_cv(reports), 1e-9)
    assert.equals("fail", judge({ max_throughput_cv = 0.49 }, run_of(reports)).status)
    assert.near(50, metrics.least_iteration_rate(reports), 1e-9)
    assert.equals("fail",
      judge({ min_iteration_rate = 60 }, run_of(reports, { steal = { [0] = 0.1 } })).status)
    assert.equals("inconclusive",
      judge({ min_iteration_rate = 60 }, run_of(reports, { steal = { [0] = 0.2 } })).status)
    assert.equals("inconclusive", judge({ min_work_rate = 1 }, run_of { worker { cpu_ns = 0 } }).status)
  end)

  it("judge migrations and wake latencies", function()
    local samples = {}
    for i = 1, 200 do
      samples[i] = i * 1000
    end
    local reports = { worker { migrations = 50, wake_samples = samples } }
    assert.equals(0.5, (metrics.migration_ratio(reports)))
    assert.equals("fail", judge({ max_migration_ratio = 0.4 }, run_of(reports)).status)
    assert.equals(198000, metrics.p99_wake_latency_ns(reports))
    assert.equals("pass", judge({ max_p99_wake_latency_ns = 198000 }, run_of(reports)).status)
    assert.equals("inconclusive", judge({ max_p99_wake_latency_ns = 1 }, run_of { worker() }).status)
    assert.near(0.5745, metrics.wake_latency_cv(reports), 1e-3)
  end)
end)

describe("a run", function()
  it("fails for workers that could not run or did not stop", function()
    local _, findings = judge({}, run_of {
      worker { failed = true, reason = "EPERM" }, worker { killed = true },
    })
    assert.equals(2, #findings)
    assert.same({ "fail", "EPERM" }, { findings[1].status, findings[1].found })
    assert.matches("had to be killed", findings[2].found)
  end)

  it("without workers has nothing to check, unless a check was asked for", function()
    assert.same({}, checks.evaluate(checks.merge(), { cgroups = {}, dilation = { steal = {} } }))
    local findings = checks.evaluate(checks.merge { max_gap_ms = 100 },
      { cgroups = {}, dilation = { steal = {} } })
    assert.same({ 1, "inconclusive", "no data: no worker ran" },
      { #findings, findings[1].status, findings[1].found })
  end)
end)

describe("dilation", function()
  it("is the share of the wanted time that was not given", function()
    local before = steal.parse "cpu  1 1 1 1 1 1 1 1 0\ncpu0 0 0 0 9 0 0 0 0 0\ncpu1 10 0 0 0 0 0 0 5 0\n"
    local after = steal.parse "cpu0 60 0 20 9 0 10 10 100 0 0\ncpu1 110 0 0 50 0 0 0 5 0 0\n"
    local dilation = steal.between(before, after, 2)
    assert.near(1 / 3.5, dilation.share, 1e-9)
    assert.same({ [0] = 0.5, [1] = 0 }, dilation.steal)
  end)

  it("does not trust busy time, which misses the ticks that were stolen", function()
    local before = steal.parse "cpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n"
    local after = steal.parse "cpu0 3 0 0 0 0 0 0 150 0 0\ncpu1 2 0 0 0 0 0 0 150 0 0\n"
    assert.near(0.5, steal.between(before, after, 3).share, 1e-9)
  end)

  it("is all of it at the most", function()
    local before = steal.parse "cpu0 0 0 0 0 0 0 0 0 0 0\n"
    local after = steal.parse "cpu0 0 0 0 150 0 0 0 120 0 0\n"
    assert.equals(1, steal.between(before, after, 2).share)
  end)

  it("is unknown where the kernel does not tell", function()
    assert.is_nil(steal.between({}, {}, 1).share)
  end)
end)

describe("a cgroup's row", function()
  it("adds up its workers", function()
    local row = metrics.summarise({ name = "x", work = "SpinWait", reports = {
      worker { work_units = 5 }, worker { work_units = 7, cpus_used = "3", max_gap_ns = 20 * MS },
    } })
    assert.same({ 12, 5, 7, 4, 20, 2000, "0-1,3" }, { row.work_units, row.units_min, row.units_max,
      row.migrations, row.max_gap_ms, row.run_delay_ms, row.cpus_used })
  end)

  it("leaves out what is not known", function()
    local row = metrics.summarise({ name = "x", work = "W", reports = { { index = 0 } } })
    assert.is_nil(row.work_units)
    assert.is_nil(row.max_gap_ms)
    assert.equals("", row.cpus_used)
  end)
end)
