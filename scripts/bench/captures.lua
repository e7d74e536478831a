-- What a capture costs: the default plan's program over the memory of a stock kernel with 4 vCPUs and 300
-- tasks, natively over its core file, and as a whole in the machine that the file is of. scripts/bench/run
-- runs the second where KVM can run that kernel; it leaves the file for the first.
local core = require "ktstr.core"
local ktstr = require "ktstr"
local native = require "ktstr.capture.native"
local on_clock = require "ktstr.periodic"
local plan = require "ktstr.capture.plan"
local topology = require "ktstr.topology"

local figures = require "figures"

local median, ms, quantile, row, verdict = figures.median, figures.ms, figures.quantile, figures.row,
  figures.verdict

local RUNS, CAPTURES = 100, 20
local VCPUS, TASKS, OWN = 4, 300, 75 -- so many tasks of its own such a guest has at the least
local PROMISE_MS = 2
local ON_CLOCK, ON_CLOCK_S, LATE_MS = 64, 10, 5
local ORIGINAL = "the original documents 10 to 100 ms"

local captures = {}

local function count(tasks)
  local n = 0
  for _ in tasks do
    n = n + 1
  end
  return n
end

-- The host's own: who sleeps until the same moments and does nothing then, on the same machine at the same
-- time. Returns what has the microseconds of each, when all are over.
local function start_ticks()
  local ticks = io.popen(("%sticks %d %d"):format(figures.programs, ON_CLOCK, ON_CLOCK_S))
  return function()
    local late = {}
    for line in ticks:lines() do
      late[#late + 1] = tonumber(line)
    end
    ticks:close()
    return late
  end
end

-- late: microseconds behind its moment, of each that was taken; hosts: those of a bare sleeper beside it.
local function print_lateness(guest, moments, late, hosts)
  print(("%d captures in %d s, %s: %d taken"):format(#moments, moments.over, guest, #late))
  for _, share in ipairs { 0.5, 0.9, 0.99, 1 } do
    row(share < 1 and ("  late: %.0f of 100 within"):format(share * 100) or "  the latest",
      ms(quantile(late, share)), "a bare clock_nanosleep beside it: " .. ms(quantile(hosts, share)))
  end
  local within = 0
  for _, us in ipairs(late) do
    within = within + (us <= LATE_MS * 1000 and 1 or 0)
  end
  row(("  within %d ms"):format(LATE_MS), tostring(within), ("all %d"):format(#moments),
    verdict(within == #moments))
end

-- Computes until f() is true, as a script does that has no time for its machine.
local function busy_until(f)
  local n = 0
  repeat
    for i = 1, 1e6 do
      n = (n + i) % 7
    end
  until f()
end

local function lateness(workload_s, moment_s)
  return math.max(0, (workload_s - moment_s) * 1e6) -- beside what rounding makes of it
end

--- How late captures on a clock are, of the tiny guest with all its CPUs at work.
function captures.clock()
  for _, cpus in ipairs { 1, VCPUS } do
    local machine = core.machine {
      kernel = core.paths.guest .. "/tiny",
      cmdline = "tiny.run=load=1",
      topology = topology.parse(("1n1l%dc1t"):format(cpus)):for_machine(2 ^ 25),
      kaslr = false,
      la57 = false,
      timeout = 600,
    }
    machine:start()
    machine:recv()
    local moments, late = on_clock.plan { count = ON_CLOCK, over = ON_CLOCK_S }, {}
    local hosts = start_ticks()
    machine:start_periodic(moments, false)
    busy_until(function()
      return machine:periodic() ~= "running"
    end)
    for i, raw in ipairs(machine:captures()) do
      late[#late + 1] = not raw.missed and lateness(raw.workload, moments[i].moment) or nil
    end
    print_lateness(("the tiny guest, %d busy vCPUs"):format(cpus), moments, late, hosts())
    machine:kill()
    machine:join()
  end
end

--- The plan's program over the core file $CORE, by this processor.
function captures.captures()
  local dump = ktstr.vmcore(os.getenv "CORE")
  local k = dump.k
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
  print(("The default plan over the memory of %s: %d vCPUs, %d tasks; %d runs"):format(dump.release,
    dump.topology.cpus, count(k:tasks()), RUNS))
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

--- How late they are on a stock kernel: idle, and with a task of its own for each CPU.
function captures.periodic()
  local vm = ktstr.boot { kernel = os.getenv "KERNEL", topology = ("1n1l%dc1t"):format(VCPUS),
    memory = "512M", timeout = 3600 }
  for _, load in ipairs { { "idle", 0 }, { "at work", VCPUS } } do
    for _ = 1, load[2] do
      vm:spawn { "sh", "-c", "while :; do :; done" }
    end
    local hosts = start_ticks()
    local periodic = vm:periodic { count = ON_CLOCK, over = ON_CLOCK_S }
    busy_until(function()
      return periodic:state() ~= "running"
    end)
    local late = {}
    for i, snap in ipairs(periodic:finish()) do
      late[#late + 1] = snap.record and lateness(snap.workload_ms / 1000, periodic.plan[i].moment) or nil
    end
    print_lateness(("%s, %d vCPUs, %s"):format(vm.release, VCPUS, load[1]), periodic.plan, late, hosts())
  end
  vm:kill()
end

return captures
