-- What the specs of vm.k's helpers share: a guest whose own account they compare with.
local ktstr = require "ktstr"

local kernel_guest = {}

local TIMEOUT_S = 1800
kernel_guest.TIMEOUT_S = TIMEOUT_S
local BOUND_S = 120 -- ends a script that hangs

---@class tests.KernelGuest
---@field vm ktstr.VM
---@field k ktstr.Kernel
local Guest = {}
Guest.__index = Guest

--- Of a machine that is there.
---@param vm ktstr.VM
---@return tests.KernelGuest
function kernel_guest.of(vm)
  return setmetatable({ vm = vm, k = vm.k, programs = {} }, Guest)
end

--- Boots one, with debugfs mounted.
---@param options table for ktstr.boot
---@return tests.KernelGuest
function kernel_guest.boot(options)
  options.timeout = TIMEOUT_S
  local guest = kernel_guest.of(ktstr.boot(options))
  guest:sh "[ -e /sys/kernel/debug/sched ] || mount -t debugfs none /sys/kernel/debug"
  return guest
end

--- What a shell script writes; it must succeed, and say nothing about errors. It runs on CPU 0.
---@param script string
---@return string
function Guest:sh(script)
  local r = self.vm:exec { "sh", "-c", script, cpus = "0", timeout = BOUND_S }
  if r.status ~= 0 or r.stderr ~= "" then
    error(("status %s of: %s\n%s"):format(tostring(r.status), script, r.stderr), 2)
  end
  return r.stdout
end

--- Starts a program that ends with the test.
---@param options table for vm:spawn
---@return ktstr.Program
function Guest:spawn(options)
  local program = self.vm:spawn(options)
  table.insert(self.programs, program)
  return program
end

--- A program that does nothing but use one CPU.
---@param cpu integer
---@param policy string|nil
---@return ktstr.Program
function Guest:spin(cpu, policy)
  return self:spawn { "sh", "-c", "while :; do :; done", policy = policy, cpus = tostring(cpu) }
end

--- Ends what was started, and waits until it is gone.
function Guest:stop_programs()
  for _, program in ipairs(self.programs) do
    pcall(program.kill, program, "KILL")
  end
  for _, program in ipairs(self.programs) do
    pcall(program.wait, program, 60)
  end
  self.programs = {}
end

--- Lets the guest run until f() is true, and returns what it returned.
---@param what string
---@param f fun(): any
---@return any
function Guest:eventually(what, f)
  for _ = 1, 600 do
    local value = f()
    if value then
      return value
    end
    self.vm:sleep(0.05)
  end
  error("not seen: " .. what, 2)
end

--- f() of the frozen machine.
---@param f fun(): any
---@return any
function Guest:frozen(f)
  return self.vm:frozen(f)
end

return kernel_guest
