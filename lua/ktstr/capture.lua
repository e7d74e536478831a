-- What was recorded of a machine at one moment.
local errors = require "ktstr.errors"
local registers = require "ktstr.registers"

---@class ktstr.Capture
---@field tag string its name
---@field source string "main", "guest", "periodic", "watch" or "kernel-op": who asked for it
---@field elapsed_ms number since the machine's start, without the time that it was frozen
---@field clock number the guest's kvmclock, seconds
local Capture = {}
Capture.__index = Capture

local capture = {}

--- How many CPUs it has.
---@return integer
function Capture:cpus()
  return #self.raw
end

--- One CPU's part. Raises "invalid" when there is no such CPU.
---@param cpu integer from 0
---@return { regs: ktstr.Registers }
function Capture:cpu(cpu)
  local raw = self.raw[cpu + 1]
  if not raw then
    errors.raise("invalid", ("capture '%s': there is no CPU %s: it has CPUs 0 to %d"):format(self.tag,
      tostring(cpu), #self.raw - 1))
  end
  return { regs = registers.decode(cpu, raw.regs, raw.sregs) }
end

function Capture:__tostring()
  return ("capture '%s' (%s, at %.1f ms)"):format(self.tag, self.source, self.elapsed_ms)
end

--- All that a machine has recorded, in order.
---@param machine ktstr.core.machine
---@return ktstr.Capture[]
function capture.list(machine)
  local list = {}
  for i, raw in ipairs(machine:captures()) do
    list[i] = setmetatable({
      tag = raw.tag,
      source = raw.source,
      elapsed_ms = raw.elapsed * 1000,
      clock = raw.clock,
      raw = raw.cpus,
    }, Capture)
  end
  return list
end

return capture
