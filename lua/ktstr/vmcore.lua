-- A core file of a kernel, opened again: ktstr.vmcore(path). Its k is that of the machine that vm:dump()
-- wrote, frozen for good; no machine is needed.
local ffi = require "ffi"
local c = require "ktstr.kernel.c"
local errors = require "ktstr.errors"
local kernels = require "ktstr.kernels"
local options = require "ktstr.options"
local registers = require "ktstr.registers"

local C = ffi.C

local vmcore = {}

local REGS_SIZE, SREGS_SIZE = 144, 312 -- of struct kvm_regs, struct kvm_sregs

---@class ktstr.Vmcore
---@field path string
---@field release string the kernel's version string
---@field k ktstr.Kernel as vm.k of a frozen machine
local Vmcore = {}

-- k is made when it is first asked for: only then the kernel's image is.
function Vmcore.__index(self, name)
  if name ~= "k" then
    return Vmcore[name]
  end
  local k = require("ktstr.kernel").new(self)
  rawset(self, "k", k)
  return k
end

function Vmcore:__tostring()
  return ("the core file %s"):format(self.path)
end

local rules = {
  kernel = { "string" },
  vmlinux = { "string" },
}

local function release_of(info)
  local release = ("\n" .. info):match "\nOSRELEASE=([^\n]+)"
  if not release then
    errors.raise("unsupported", "its VMCOREINFO does not say OSRELEASE, so nobody knows which kernel it is",
      "ktstr.vmcore(path, { kernel = ... }) says it")
  end
  return release
end

--- Opens a core file that vm:dump() has written (or another ELF one of a kernel, with all of its memory in
--- one piece or two). What is written to its objects stays in this process; the file must not change
--- meanwhile. Raises "not-found" (also when its kernel is not cached), "format", "unsupported".
---   local core = ktstr.vmcore "hung.core"
---   print(core.k:task(1).comm)
---@param path string
---@param given { kernel: string|nil, vmlinux: string|nil }|nil kernel: as for ktstr.boot; nil: the cached one
---  of its release. vmlinux: as for ktstr.boot
---@return ktstr.Vmcore
function vmcore.open(path, given)
  if type(path) ~= "string" then
    errors.refuse("invalid", ("ktstr.vmcore wants a file's name, not %s"):format(tostring(path)))
  end
  given = given or {}
  options.check("ktstr.vmcore", given, rules)
  return errors.preparing(function()
    local ret = ffi.new "struct vmcore_file *[1]"
    c.check(C.vmcore_open(path, ret))
    local file = ffi.gc(ret[0], C.vmcore_close)
    local self = {
      path = path,
      file = file,
      vmlinux = kernels.vmlinux(given.vmlinux),
      topology = { cpus = C.vmcore_cpu_count(file) },
      machine = {
        view = function()
          return C.vmcore_view(file)
        end,
      },
    }
    local ok, release = errors.try(release_of, ffi.string(C.vmcore_info(file)))
    if not ok and not given.kernel then
      error(release, 0)
    end
    self.plan = { kernel = kernels.resolve(given.kernel or release) }
    self.release = ok and release or self.plan.kernel.release
    return setmetatable(self, Vmcore)
  end)
end

--- The text of its VMCOREINFO: lines of NAME=value.
---@return string
function Vmcore:info()
  return ffi.string(C.vmcore_info(self.file))
end

---@return boolean
function Vmcore:is_frozen() -- luacheck: no self
  return true
end

--- A CPU's registers when the file was written; as vm:regs(). A file of another tool's may have no segments
--- and control registers: they are 0 then. Raises "invalid".
---@param cpu integer
---@return ktstr.Registers
function Vmcore:regs(cpu)
  local count = self.topology.cpus
  if type(cpu) ~= "number" or cpu < 0 or cpu >= count or cpu % 1 ~= 0 then
    errors.raise("invalid", ("there is no CPU %s in %s: it has %d"):format(tostring(cpu), self.path, count))
  end
  return registers.decode(cpu, ffi.string(C.vmcore_regs(self.file, cpu), REGS_SIZE),
    ffi.string(C.vmcore_sregs(self.file, cpu), SREGS_SIZE))
end

function Vmcore:_ended_error(doing)
  return errors.new("ended", ("the core file %s has been closed (%s)"):format(self.path, doing))
end

--- Gives its memory back now rather than when the collector comes; what is read afterwards raises "ended".
function Vmcore:close()
  C.vmcore_end(self.file)
end

return vmcore
