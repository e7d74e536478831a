-- Looking into the kernel: what the scheduler's own structures say, in a moment that stands still.
local ktstr = require "ktstr"

ktstr.test("what runs is what the runqueue says", { topology = "1n1l2c1t" }, function(t)
  local vm, k = t.vm, t.k
  vm:spawn { "sh", "-c", "while :; do :; done", cpus = "1" }
  vm:sleep(1)
  vm:frozen(function()
    local rq = k:per_cpu("runqueues", 1)
    print(("CPU 1 runs %s (pid %d), %d runnable"):format(rq.curr.comm, rq.curr.pid, rq.nr_running))
    for task in k:cfs_tasks(rq) do
      print(("  %-16s vruntime %s"):format(task.comm, task.se.vruntime))
    end
    print(k:backtrace(k:task(1)))
    t:expect(rq.nr_running, "nr_running of CPU 1"):at_least(1)
  end)
end)
