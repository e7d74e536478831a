-- What a capture costs: the default plan's program over the memory of a stock kernel with 4 vCPUs and 300
-- tasks, natively over its core file, and as a whole in the machine that the file is of. scripts/bench/run
-- runs the second where KVM can run that kernel; it leaves the file for the first.
local ktstr = require "ktstr"
local native = require "ktstr.capture.native"
local plan = require "ktstr.capture.plan"

local figures = require "figures"

local median, ms, quantile, row, verdict = figures.median, figures.ms, figures.quantile, figures.row,
  figures.verdict

local RUNS, CAPTURES = 100, 20
local VCPUS, TASKS, OWN = 4, 300, 75 -- so many tasks of its own such a guest has at the least
local PROMISE_MS = 2
local ORIGINAL = "the original documents 10 to 100 ms"

local captures = {}

local function count(tasks)
  local n = 0
  for _ in tasks do
    n = n + 1
  end
  return n
end

--- The plan's program over the core file $CORE, by this processor.
function captures.captures()
  local core = ktstr.vmcore(os.getenv "CORE")
  local k = core.k
  k:_ready()
  local compiled = plan.compile(nil, k)
  local program, expected = native.plan(compiled.bytes), 0
  local first, times, record = nil, {}, nil
  for i = 1, RUNS do
    record = native.run(k, program, expected)
    expected = tonumber(record.size) * 1.25
    local us = tonumber(record.spent_ns) / 1000
    first = first or us
    times[i] = us
  end
  print(("The default plan over the memory of %s: %d vCPUs, %d tasks; %d runs"):format(core.release,
    core.topology.cpus, count(k:tasks()), RUNS))
  local us = median(times)
  row("  its program", ms(us), ("at most %d ms"):format(PROMISE_MS), verdict(us <= PROMISE_MS * 1000))
  row("  99 of 100 of them", ms(quantile(times, 0.99)))
  row("  the first, from a file that nobody has read yet", ms(first))
  row("  what it records", ("%.0f KiB in %d pieces, %d steps"):format(tonumber(record.size) / 1024,
    record.segment_count, record.steps))
end

--- vm:capture on a stock kernel; writes its core file to $CORE.
function captures.capture()
  local vm = ktstr.boot { kernel = os.getenv "KERNEL", topology = ("1n1l%dc1t"):format(VCPUS),
    memory = "512M", timeout = 3600 }
  local sleepers = vm:spawn { "sh", "-c", ("i=0; while [ $i -lt %d ]; do sleep 100000 & i=$((i + 1)); done; "
    .. "echo there; wait"):format(TASKS - OWN) }
  while not sleepers:stdout():find "there" do
    vm:sleep(0.1)
  end
  vm:sleep(1)
  vm:capture "first" -- compiles the plan
  local frozen, spent, tasks = {}, {}, 0
  for i = 1, CAPTURES do
    local snap = vm:capture("c" .. i)
    frozen[i] = snap.frozen_ms * 1000
    spent[i] = tonumber(snap:_struct().spent_ns) / 1000
    tasks = count(snap:tasks())
  end
  print(("vm:capture on %s, %d vCPUs, %d tasks, where it runs; %d captures"):format(vm.release, VCPUS, tasks,
    CAPTURES))
  row("  the machine stands still", ms(median(frozen)), ORIGINAL)
  row("  of which the plan's program takes", ms(median(spent)))
  if os.getenv "CORE" then
    vm:dump(os.getenv "CORE")
  end
  vm:kill()
end

return captures
