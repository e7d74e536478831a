-- A load on a stock guest that takes every way between it and the host, until it is told to stop: workers
-- that spin, pinned and not, a fork storm, output to the console, frames to the host.
local checks = require "ktstr.checks"
local host = require "ktstr.host"
local metrics = require "ktstr.metrics"
local steal = require "ktstr.steal"
local workers = require "ktstr.workers"

local guest_load = {}

local CGROUPS = {
  { name = "pinned", workers = 1, cpuset = "1" },
  { name = "asking", workers = 1, affinity = "2" },
  { name = "loose", workers = 2 },
  { name = "bursty", workers = 2, work = "Bursty" },
}

local PROGRAMS = {
  forks = "while :; do /bin/true; done",
  -- With a pause: each character is an exit, which emulation makes so slow that a full buffer of them keeps a
  -- CPU in the UART's interrupt handler for seconds.
  console = "exec >/dev/console; while :; do echo a load on the console; usleep 50000; done",
  frames = "i=0; while :; do echo $i; i=$((i+1)); done",
}

---@class tests.Load
---@field programs table<string, ktstr.Program>
local Load = {}
Load.__index = Load

local function start_workers(vm)
  local self = { cgroups = {}, groups = {} }
  for i, given in ipairs(CGROUPS) do
    local options = {}
    for name, value in pairs(given) do
      options[name] = name ~= "name" and value or nil
    end
    local cgroup = workers.define(given.name, options, vm.topology)
    workers.create_cgroup(vm, cgroup)
    self.cgroups[i] = cgroup
    self.groups[i] = workers.line_up(vm, cgroup)
  end
  self.stat, self.since = steal.parse(vm:read "/proc/stat"), host.now()
  workers.start(vm)
  return self
end

--- Starts it on a machine of 3 CPUs or more.
---@param vm ktstr.VM
---@return tests.Load
function guest_load.start(vm)
  local self = setmetatable({ vm = vm, programs = {} }, Load)
  self.workers = start_workers(vm)
  for name, script in pairs(PROGRAMS) do
    self.programs[name] = vm:spawn { "sh", "-c", script }
  end
  return self
end

--- How far the program that talks to the host has come, and what is wrong with what arrived: its numbers
--- follow each other.
---@return integer lines, string|nil wrong
function Load:frames()
  local lines = 0
  for number in self.programs.frames:stdout():gmatch "([^\n]*)\n" do
    if tonumber(number) ~= lines then
      return lines, ("'%s' came after %d"):format(number, lines - 1)
    end
    lines = lines + 1
  end
  return lines
end

local function stop_workers(vm, self)
  local reports = workers.stop(vm)
  local seconds = host.now() - self.since
  local run = {
    dilation = steal.between(self.stat, steal.parse(vm:read "/proc/stat"), seconds),
    cgroups = {},
  }
  local rows = {}
  for i, cgroup in ipairs(self.cgroups) do
    run.cgroups[i] = { name = cgroup.name, cpus = cgroup.cpus, work = cgroup.work,
      reports = reports[self.groups[i]] or {} }
    rows[cgroup.name] = metrics.summarise(run.cgroups[i])
    vm:exec { "rmdir", "/sys/fs/cgroup/" .. cgroup.name }
  end
  return rows, checks.evaluate(checks.merge(), run)
end

--- Ends it all.
---@return table<string, ktstr.CgroupSummary> rows by cgroup
---@return ktstr.Finding[] findings of a test's default checks
function Load:stop()
  for _, program in pairs(self.programs) do
    program:kill "KILL"
    program:wait(120)
  end
  return stop_workers(self.vm, self.workers)
end

return guest_load
