-- ktstr.test over a stock kernel: cgroups, every work type, checks, reports.
local ktstr = require "ktstr"
local core = require "ktstr.core"
local report = require "ktstr.report"
local test = require "ktstr.test"

-- Runs a test here, instead of declaring it, to look at its result.
local function result_of(options, fn)
  return test.run { name = "inner", options = options, fn = fn }
end

local machine = { topology = "1n2l1c1t", timeout = 600, duration = 2 }

describe("a test", function()
  it("runs every work type, each with its report", function()
    local result = result_of(machine, function(t)
      for _, info in ipairs(core.work_types()) do
        t:cgroup(info.name, { work = info.name, workers = 2 * info.group })
      end
      local cgroups = t:hold()
      for _, info in ipairs(core.work_types()) do
        local row = cgroups[info.name]
        t:expect(row.workers, "workers of " .. info.name):equals(2 * info.group)
        t:expect(row.units_min, "least work of " .. info.name):greater_than(0)
        t:expect(row.cpu_s, "CPU seconds of " .. info.name):greater_than(0)
        t:expect(row.cpus_used, "CPUs of " .. info.name):matches "^[01-]+$"
        for _, worker in ipairs(row.reports) do
          t:expect(worker.iterations, "iterations"):greater_than(0)
          t:expect(worker.wall_ns, "wall time"):at_least(1e9)
          t:expect(worker.run_delay_ns, "run delay"):at_least(0)
          t:expect(worker.failed, "failed"):is_false()
        end
      end
      t:expect(cgroups.Bursty.reports[1].blocked_ns, "sleep of Bursty"):greater_than(0)
    end)
    for _, finding in ipairs(result.findings) do
      assert.not_equals("fail", finding.status, report.finding(finding))
    end
    assert.is_nil(result.error, tostring(result.error))
  end)

  it("keeps workers in their cpuset, sets controls, and sees a worker that leaves its own", function()
    local result = result_of(machine, function(t)
      t:cgroup("left", { workers = 2, cpuset = ktstr.cpuset.llc(0), cpu_weight = 200, memory_max = "64M" })
      t:cgroup("right", { workers = 1, cpuset = "1", nice = 5, policy = "batch", cpu_max = "50000 100000" })
      t:cgroup("outer/inner", { workers = 1, affinity = "0" })
      local root = "/sys/fs/cgroup/"
      t:expect(t.vm:read(root .. "left/cpuset.cpus"), "cpuset"):equals "0\n"
      t:expect(t.vm:read(root .. "left/cpu.weight"), "weight"):equals "200\n"
      t:expect(t.vm:read(root .. "left/memory.max"), "memory"):equals(("%d\n"):format(64 * 2 ^ 20))
      t:expect(t.vm:read(root .. "right/cpu.max"), "quota"):equals "50000 100000\n"
      t:start()
      local pids = t.vm:read(root .. "right/cgroup.procs")
      local fields = {}
      for field in t.vm:read(("/proc/%s/stat"):format(pids:match "%d+")):gmatch "%S+" do
        fields[#fields + 1] = field
      end
      t:expect(fields[19], "nice"):equals "5"
      t:expect(fields[41], "policy"):equals "3" -- SCHED_BATCH
      t.vm:sleep(2)
      local cgroups = t:stop()
      t:expect(cgroups.left.cpus_used, "CPUs of left"):equals "0"
      t:expect(cgroups.right.cpus_used, "CPUs of right"):equals "1"
      t:expect(cgroups["outer/inner"].cpus_used, "CPUs of inner"):equals "0"
    end)
    for _, finding in ipairs(result.findings) do
      assert.not_equals("fail", finding.status, report.finding(finding))
    end
    assert.is_nil(result.error, tostring(result.error))
    assert.equals("pass", result.findings[#result.findings].status)
  end)

  it("fails with what was found, the table and the console, when a worker starves", function()
    -- Real-time spinners on the only CPU leave nothing to the one below them.
    local result = result_of({ topology = "1n1l1c1t", timeout = 600, duration = 3 }, function(t)
      t.vm:write("/proc/sys/kernel/sched_rt_runtime_us", "-1")
      t:cgroup("above", { workers = 1, policy = "fifo 20" })
      t:cgroup("below", { workers = 1, policy = "fifo 10" })
      t:hold()
    end)
    assert.equals("fail", result.status)
    local text = report.block(result)
    assert.matches("FAILED not_starved (below worker 0): expected work units above 0, found 0", text, 1, true)
    assert.matches("\n  below +1  SpinWait +0 ", text)
    assert.matches("\nFAIL$", text)
  end)
end)
