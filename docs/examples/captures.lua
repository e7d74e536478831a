-- Records the kernel before and after some work: what each CPU has done in between, and a file for later.
local ktstr = require "ktstr"

ktstr.test("both CPUs have worked", {
  topology = "1n1l2c1t",
  capture = ktstr.plan { "runqueues[].cfs.h_nr_queued|runqueues[].cfs.h_nr_running" },
  checks = { max_spread_pct = false }, -- the workers run for too short a time to be compared
}, function(t)
  t:cgroup("cg_0", { workers = 2, work = "SpinWait" })
  t:start()
  local before = t.vm:capture "before"
  t.vm:sleep(0.5)
  local after = t.vm:capture "after"
  t:stop()
  for cpu = 0, before:cpus() - 1 do
    local label = ("CPU %d"):format(cpu)
    t:expect(after:cpu(cpu).rq.nr_switches, label .. ": switches"):at_least(before:cpu(cpu).rq.nr_switches)
    t:expect(after:cpu(cpu).rq.clock, label .. ": clock"):greater_than(before:cpu(cpu).rq.clock)
  end
  t:expect(after:task(1).comm, "pid 1"):equals "init"
  -- As text for people, as JSON for programs, and back.
  local again = ktstr.record(after:json())
  t:expect(again:get "tasks[1].comm", "pid 1 in the file"):equals "init"
  t:expect(again:get "runqueues[1].clock", "CPU 1's clock in the file"):equals(after:cpu(1).rq.clock)
end)
