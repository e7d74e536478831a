-- Which CPUs stalled, by a monitor's samples: a CPU with runnable tasks whose runqueue's clock stands still.
local errors = require "ktstr.errors"

local stalls = {}

-- A vCPU that the host has run for less than this share of the time cannot be blamed for it.
local RAN_SHARE = 0.1

---@class ktstr.Stall
---@field cpu integer
---@field from number seconds of the machine's running time: the first sample with that clock
---@field to number the last one
---@field seconds number between them
---@field clock number|ffi.cdata* rq.clock, which stood
---@field nr_running integer in the last sample
---@field halted boolean|nil the vCPU had halted, with tasks to run
---@field exempt string|nil why it is none: "host" (it did not run the vCPU), "nohz_full" (its tick stands)

-- Whether the host let the vCPU run between two samples. One that has halted did not want to.
local function host_verdict(run)
  local first, last = run.first_cpu, run.last_cpu
  if not first.host_ran or not last.host_ran then
    return "host"
  end
  if last.host_ran - first.host_ran >= RAN_SHARE * (run.last.elapsed - run.first.elapsed) then
    return nil
  end
  return not run.slept and "host" or nil, run.slept
end

local function report(run, cpu)
  local exempt, halted = host_verdict(run)
  if run.nohz_full then
    exempt = "nohz_full"
  end
  return {
    cpu = cpu,
    from = run.first.elapsed,
    to = run.last.elapsed,
    seconds = run.last.elapsed - run.first.elapsed,
    clock = run.first_cpu.clock,
    nr_running = run.last_cpu.nr_running,
    halted = halted or nil,
    exempt = exempt,
  }
end

-- The sample goes on with what was seen before: the same clock, in the same life of the machine.
local function goes_on(run, sample, one)
  return run and run.first.epoch == sample.epoch and run.first_cpu.clock == one.clock
end

local function is_busy(one)
  return one and one.clock ~= nil and one.nr_running ~= nil and one.nr_running > 0
end

-- Of a nohz_full CPU: its clock stands where its tick is stopped, or where nobody knows about that.
local function tick_stands(one, cpu, nohz_full)
  return nohz_full ~= nil and nohz_full[cpu] == true and one.tick_stopped ~= 0
end

local function of_cpu(samples, cpu, sustained, nohz_full, add)
  local run
  local function finish()
    if run and run.last.elapsed - run.first.elapsed >= sustained then
      add(report(run, cpu))
    end
    run = nil
  end
  for _, sample in ipairs(samples) do
    local one = sample.cpus[cpu]
    if not is_busy(one) then
      finish()
    elseif goes_on(run, sample, one) then
      run.last, run.last_cpu = sample, one
      run.slept = run.slept and one.host_state == "sleeps"
      run.nohz_full = run.nohz_full or tick_stands(one, cpu, nohz_full)
    else
      finish()
      run = { first = sample, first_cpu = one, last = sample, last_cpu = one, slept = true,
        nohz_full = tick_stands(one, cpu, nohz_full) }
    end
  end
  finish()
end

--- Finds them. A stall that lasts to the last sample is one as soon as it is long enough.
---@param samples { elapsed: number, epoch: integer, cpus: table<integer, table> }[] of each CPU clock,
---  nr_running, tick_stopped, host_ran (seconds), host_state
---@param options { sustained: number, nohz_full: table<integer, boolean>|nil }
---@return ktstr.Stall[] stalls, ktstr.Stall[] exempt as long, but excused
function stalls.find(samples, options)
  local found, exempt, cpus = {}, {}, {}
  if type(options.sustained) ~= "number" or options.sustained <= 0 then
    errors.raise("invalid", "sustained must be a number of seconds above 0")
  end
  for _, sample in ipairs(samples) do
    for cpu in pairs(sample.cpus) do
      cpus[cpu] = true
    end
  end
  local function add(one)
    local list = one.exempt and exempt or found
    list[#list + 1] = one
  end
  for cpu in pairs(cpus) do
    of_cpu(samples, cpu, options.sustained, options.nohz_full, add)
  end
  for _, list in ipairs { found, exempt } do
    table.sort(list, function(a, b)
      if a.from ~= b.from then
        return a.from < b.from
      end
      return a.cpu < b.cpu
    end)
  end
  return found, exempt
end

return stalls
