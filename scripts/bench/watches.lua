-- What a watch costs the guest: a store loop of the tiny guest, unwatched and watched by either backend, and
-- programs started by a stock kernel whose counter of them is watched.
local core = require "ktstr.core"
local host = require "ktstr.host"
local ktstr = require "ktstr"
local watch_guest = require "tests.vm.watch_guest"

local figures = require "figures"

local median, row = figures.median, figures.row

local ROUNDS = 5
local BESIDE = 0x400 -- in the page, and not what is watched
local FORKS = 50

local watches = {}

-- Microseconds a store, of all CPUs together; what a request costs by itself is taken out.
local function cost(guest, routine, count, at)
  local times = {}
  for i = 1, ROUNDS do
    local began = host.now()
    guest:run(routine, 1, at)
    local one = host.now()
    guest:run(routine, count + 1, at)
    times[i] = (host.now() - one - (one - began)) * 1e6 / (count * guest.cpus)
  end
  return math.max(0, median(times))
end

local function us(value)
  return value < 1 and ("%.3f us"):format(value) or ("%.1f us"):format(value)
end

-- set: how it is watched; nil: not at all. count: few stores, where each takes long.
local function line(text, cpus, routine, at, count, set)
  local guest = watch_guest.start(function() end, cpus)
  local id = set and guest:watch(0, 8, set)
  local value = cost(guest, routine, count, at)
  local note
  if id and not set.counts and not set.when then
    local dropped = guest.machine:watch_counts(id).dropped
    note = dropped == 0 and "each recorded" or ("%d came too fast to be recorded"):format(dropped)
  end
  row("  " .. text, us(value), note)
  guest.machine:kill()
  guest.machine:join()
  return value
end

local function store_loops(backends)
  local loops = { { 1, "write-8", "a store, 1 vCPU" }, { 4, "lock-inc", "LOCK INC, 4 vCPUs at once" } }
  for _, one in ipairs(loops) do
    local cpus, routine, name = unpack(one)
    local function measure(text, at, count, set)
      return line(("%s, %s"):format(name, text), cpus, routine, at, count, set)
    end
    measure("unwatched", 0, 200000)
    for _, backend in ipairs(backends) do
      if backend == "register" then
        measure("beside it, register", BESIDE, 200000, { backend = backend, counts = true })
      else
        measure("beside it, page", BESIDE, 2000, { backend = backend, counts = true })
      end
      measure("counted, " .. backend, 0, 2000, { backend = backend, counts = true })
      measure("condition, " .. backend, 0, 2000, { backend = backend, when = { "==", -1 } })
      if cpus == 1 then
        measure("recorded, " .. backend, 0, 100, { backend = backend, rate = 1e6 })
      end
    end
  end
end

--- The tiny guest's stores, by what this KVM has.
function watches.watches()
  local backends = core.doctor().data_watchpoint and { "register", "page" } or { "page" }
  print(("What a watch costs the guest a store (%s); medians of %d"):format(
    #backends == 2 and "debug registers and pages" or "this KVM has no debug registers: pages", ROUNDS))
  store_loops(backends)
end

--- Programs that a stock kernel starts, while it is watched that it counts them.
function watches.forks_watched()
  local vm = ktstr.boot { kernel = os.getenv "KERNEL", topology = "1n1l2c1t", memory = "512M",
    timeout = 3600 }
  local script = ("i=0; while [ $i -lt %d ]; do /bin/true; i=$((i + 1)); done"):format(FORKS)
  print(("A program started on %s, its counter of them watched; medians of %d"):format(vm.release, ROUNDS))
  for _, backend in ipairs { "nothing", "register", "page" } do
    local times, w = {}, nil
    if backend ~= "nothing" then
      w = vm:watch("total_forks", { len = 8, backend = backend })
    end
    for i = 1, ROUNDS do
      local began = host.now()
      vm:exec { "sh", "-c", script, cpus = "0", timeout = 600 }
      times[i] = (host.now() - began) * 1e6 / FORKS
    end
    row("  watched by " .. backend, figures.ms(median(times)), w and ("%d writes seen"):format(w:hits()))
    if w then
      w:cancel()
    end
  end
  vm:kill()
end

return watches
