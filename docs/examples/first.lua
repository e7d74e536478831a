-- Two groups of workers on two CPUs: each worker gets its share, and none waits long.
local ktstr = require "ktstr"

ktstr.test("two groups share two CPUs", { topology = "1n1l2c1t", duration = 3 }, function(t)
  t:cgroup("cg_0", { workers = 2, work = "SpinWait" })
  t:cgroup("cg_1", { workers = 2, work = ktstr.work.Bursty { burst_ms = 50, sleep_ms = 100 } })
  local cgroups = t:hold()
  t:expect(cgroups.cg_0.work_units, "work of cg_0"):greater_than(0)
  t:expect(t.vm:exec({ "cat", "/proc/cmdline" }).status, "status of cat"):equals(0)
end)
