-- What was recorded of a machine at one moment, and how a machine gets to know what to record.
local errors = require "ktstr.errors"
local registers = require "ktstr.registers"

---@class ktstr.Capture
---@field tag string its name
---@field source string "main", "guest", "periodic", "watch", "kernel-op" or "failure": who asked for it
---@field elapsed_ms number since the machine's start, without the time that it was frozen
---@field workload_ms number|nil since the workload's start, without freezes and its pauses; nil: none has
---  started, or its captures on a clock are over (vm:periodic)
---@field phase string|nil of the scenario, as vm:phase() has said
---@field epoch integer|nil another one once the machine was taken back (vm:rewind)
---@field clock number the guest's kvmclock, seconds
---@field frozen_ms number that the machine stood still for it
---@field reason string|nil a placeholder: the capture could not be taken, and why; it has no data
---@field record ktstr.Capture|nil itself; nil in a placeholder
---@field k ktstr.Kernel the kernel as it was recorded, for what vm.k can do
---@field notes ktstr.CaptureNote[] what is missing in it
---@field release string|nil of the kernel
local Capture = {}

local capture = {}

---@class ktstr.CaptureNote
---@field what string "null", "unmapped", "circle", "many", "large", "no-cpu", "damaged", "full", "steps",
---  "time",  "error-pointer"; "no-plan": nothing of the kernel's memory was recorded
---@field count integer
---@field address ktstr.Address|nil where it was first
---@field path string of the plan
---@field text string all of that for people

-- --- notes ---

local NOTES = {
  null = "NULL",
  ["error-pointer"] = "an error in place of a pointer",
  unmapped = "not mapped",
  circle = "a list that runs in a circle",
  many = "more than are recorded",
  large = "larger than what is recorded",
  ["no-cpu"] = "the CPU's own memory is not set up",
  damaged = "a tree that is damaged",
  full = "from here on the record is full",
  steps = "from here on there were too many steps",
  time = "from here on it took too long",
  dropped = "notes of other places, which are not kept",
}

-- A line of C's: what, how often, where first, which path; between tabs.
local function parse_note(line)
  local address = require "ktstr.kernel.address"
  local what, count, at, path = line:match "^([^\t]*)\t(%d+)\t0x(%x+)\t(.*)$"
  local note = { what = what, count = tonumber(count), path = path }
  local place = address.new(address.parse(at))
  local is_cpu = what == "no-cpu"
  note.address = not is_cpu and what ~= "dropped" and place or nil
  note.text = ("%s: %s%s%s"):format(path, NOTES[what] or what,
    is_cpu and (", of CPU %s"):format(tonumber(at, 16)) or note.address and ", at " .. tostring(place) or "",
    note.count > 1 and (" (%d times, first there)"):format(note.count) or "")
  return note
end

local function notes_of(self)
  local list = {}
  if self._raw.record then
    local ffi = require "ffi"
    for line in ffi.string(self:_struct().notes.data):gmatch "[^\n]+" do
      list[#list + 1] = parse_note(line)
    end
  elseif not self.reason then
    list[1] = { what = "no-plan", count = 1, path = "", text = self._raw.reason ~= "" and self._raw.reason
      or "nobody has said what captures record" }
  end
  return list
end

-- --- its parts ---

-- As long as the raw capture is held, so is what this points to.
function Capture:_struct()
  local ffi = require "ffi"
  require "ktstr.kernel.c" -- declares it
  return ffi.cast("struct record **", self._raw.record)[0]
end

function Capture:_check_data()
  if self.reason then
    errors.raise("not-found", ("capture '%s' is a placeholder and has no data: %s"):format(self.tag,
      self.reason))
  end
end

local function kernel_of(self)
  self:_check_data()
  if not self._raw.record or not self._plan then
    errors.raise("not-found", ("capture '%s' has registers and clocks alone: %s"):format(self.tag,
      self.notes[1] and self.notes[1].text or "nobody knows the plan that it was made by"))
  end
  return require("ktstr.capture.kernel").new(self._plan.origin, self:_struct(), function(cpu)
    return self:cpu(cpu).regs
  end, self)
end

-- Made when they are asked for.
local LATE = {
  k = kernel_of,
  notes = notes_of,
}

-- What it has is not in itself, where everybody could set it.
function Capture.__index(self, name)
  local fields = rawget(self, "_fields")
  local value = fields[name]
  if value ~= nil then
    return value
  end
  local late = LATE[name]
  if not late then
    return Capture[name] or require("ktstr.capture.access")[name]
  end
  fields[name] = late(self)
  return fields[name]
end

function Capture.__newindex(self, name)
  errors.raise("unsupported", ("capture '%s': '%s' cannot be set: a record does not change"):format(self.tag,
    tostring(name)))
end

--- How many CPUs it has.
---@return integer
function Capture:cpus()
  return #self._raw.cpus
end

local Cpu = {}

function Cpu.__index(self, name)
  local own = rawget(self, "_capture")
  local value
  if name == "regs" then
    local raw = own._raw.cpus[self.cpu + 1]
    value = registers.decode(self.cpu, raw.regs, raw.sregs)
  elseif name == "rq" then
    value = own.k:per_cpu("runqueues", self.cpu)
  else
    errors.raise("not-found", ("a CPU of a capture has no '%s'"):format(tostring(name)),
      "it has: cpu, regs, rq")
  end
  rawset(self, name, value)
  return value
end

--- One CPU's part. Raises "invalid" when there is no such CPU.
---@param cpu integer from 0
---@return { cpu: integer, regs: ktstr.Registers, rq: ktstr.Object }
function Capture:cpu(cpu)
  self:_check_data()
  if not self._raw.cpus[type(cpu) == "number" and cpu + 1] then
    errors.raise("invalid", ("capture '%s': there is no CPU %s: it has CPUs 0 to %d"):format(self.tag,
      tostring(cpu), #self._raw.cpus - 1))
  end
  return setmetatable({ cpu = cpu, _capture = self }, Cpu)
end

function Capture:__tostring()
  return ("capture '%s' (%s, at %.1f ms%s)%s"):format(self.tag, self.source, self.elapsed_ms,
    self.phase and (" in '%s'"):format(self.phase) or "",
    self.reason and ": not taken: " .. self.reason or "")
end

---@param value any
---@return boolean
function capture.is(value)
  return type(value) == "table" and getmetatable(value) == Capture
end

--- From what core has of one.
---@param raw table
---@param plan ktstr.CompiledPlan|nil that its record was made by
---@return ktstr.Capture
function capture.new(raw, plan)
  local fields = {
    tag = raw.tag,
    source = raw.source,
    elapsed_ms = raw.elapsed * 1000,
    workload_ms = raw.workload and raw.workload * 1000,
    phase = raw.phase,
    epoch = raw.epoch,
    clock = raw.clock,
    frozen_ms = (raw.frozen or 0) * 1000,
    reason = raw.missed and raw.reason or nil,
    release = plan and plan.origin.release,
  }
  local self = setmetatable({ _fields = fields, _raw = raw, _plan = plan or false }, Capture)
  fields.record = not raw.missed and self or nil
  return self
end

-- --- a machine's ---

-- What is known of a machine's captures: by machine, so that two lists have the same.
local kept = setmetatable({}, { __mode = "k" })

local function kept_of(vm)
  local one = kept[vm]
  if not one then
    one = { captures = {}, plans = {} }
    kept[vm] = one
  end
  return one
end

--- All that a machine has recorded, in order.
---@param vm ktstr.VM
---@return ktstr.Capture[]
function capture.list(vm)
  local ours = kept_of(vm)
  local list, known = {}, {}
  for i, raw in ipairs(vm.machine:captures()) do
    local one = ours.captures[raw.number]
    if not one then
      local plan
      if raw.record then
        local ffi = require "ffi"
        require "ktstr.kernel.c"
        plan = ours.plans[ffi.cast("struct record **", raw.record)[0].plan_id]
      end
      one = capture.new(raw, plan)
    end
    list[i], known[raw.number] = one, one
  end
  ours.captures = known
  return list
end

-- Errors that say that a kernel can never be read, rather than that it cannot yet.
local FOR_GOOD = { unsupported = true, ["not-found"] = true, format = true, invalid = true }
-- Those that are about the run, and not about the kernel.
local ENDING = { interrupted = true, ended = true, timeout = true, ["freeze-limit"] = true }

local function compile(vm)
  local k = vm.k
  k:_ready()
  local compiled = require("ktstr.capture.plan").compile(vm.capture_plan, k)
  compiled.origin = require("ktstr.capture.kernel").origin(k)
  return compiled
end

--- Tells the machine what captures record, unless that has been done: a plan is compiled when it is first
--- needed.
---@param vm ktstr.VM
---@param asked boolean|nil the script wants a capture: a plan of its own that is of no use is raised
function capture.prepare(vm, asked)
  local ours = kept_of(vm)
  if ours.settled then
    if ours.reason then
      vm.machine:set_plan(nil, ours.reason) -- somebody may be waiting to hear it
    end
    return
  end
  local ok, result = pcall(compile, vm)
  if ok then
    ours.plans[result.id] = result
    vm.machine:set_plan(result.bytes, nil, require("ktstr.capture.log").layout(vm.k))
    ours.settled = result.origin.is_whole
    return
  elseif not errors.is(result) or ENDING[result.code] then
    error(result, 0)
  end
  vm.machine:set_plan(nil, tostring(result))
  if asked and vm.capture_plan and result.cannot_run then
    error(result, 0)
  end
  ours.settled = FOR_GOOD[result.code] or false
  ours.reason = tostring(result)
end

--- The machine asks for it, in the middle of whatever the script waits for.
---@param vm ktstr.VM
function capture.answer(vm)
  local ok, e = pcall(capture.prepare, vm)
  if not ok and not errors.is(e, "ended") then -- that is for what is being waited for
    error(e, 0)
  end
end

--- Records of a plan that a machine did not compile itself.
---@param vm table
---@param compiled ktstr.CompiledPlan
function capture.know(vm, compiled)
  kept_of(vm).plans[compiled.id] = compiled
end

return capture
