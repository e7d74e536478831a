-- `ktstr doctor`: what this host can do, from a functional probe, and a remedy for each lack.
local core = require "ktstr.core"
local host = require "ktstr.host"
local size = require "ktstr.size"

local doctor = {}

local LITTLE_MEMORY = 512 * 2 ^ 20

---@class ktstr.DoctorFinding
---@field name string
---@field level "ok"|"note"|"problem" a problem keeps stock kernels from running here
---@field text string
---@field remedy string|nil

local function cpu_has_virtualisation()
  local file = io.open "/proc/cpuinfo"
  local text = file and file:read "*a" or ""
  if file then
    file:close()
  end
  return text:find " vmx" and "kvm_intel" or text:find " svm" and "kvm_amd" or nil
end

local HELPER = host.helper_hint

local function kvm_finding(probe, module)
  if probe.kvm == "ok" then
    return { name = "kvm", level = "ok", text = ("/dev/kvm works (API version %s)"):format(
      tostring(probe.api_version or "?")) }
  elseif probe.kvm == "permission" then
    return { name = "kvm", level = "problem", text = "/dev/kvm is there, but you may not open it",
      remedy = "sudo usermod -aG kvm $USER, then log in again" }
  elseif probe.kvm == "missing" then
    local remedy = "this CPU shows no vmx or svm: " .. HELPER
    if module then
      remedy = ("sudo modprobe %s (virtualisation may be off in the firmware); or %s"):format(module, HELPER)
    end
    return { name = "kvm", level = "problem", text = "/dev/kvm is missing", remedy = remedy }
  end
  return {
    name = "kvm",
    level = "problem",
    text = "/dev/kvm does not work: " .. (probe.error or "unknown error"),
    remedy = probe.hint or HELPER,
  }
end

local function stock_kernel_finding(probe)
  if probe.stock_kernel then
    return { name = "stock kernels", level = "ok", text = "guests run unmodified kernels" }
  end
  local missing = {}
  for _, what in ipairs {
    { "long_mode", "64-bit mode" }, { "int3", "INT3" }, { "sse", "SSE" }, { "xsave", "XSAVE" },
    { "popcnt", "POPCNT" }, { "cmpxchg16b", "CMPXCHG16B" }, { "syscall", "SYSCALL" },
  } do
    if probe[what[1]] == false then
      missing[#missing + 1] = what[2]
    end
  end
  return { name = "stock kernels", level = "problem",
    text = ("guests cannot run unmodified kernels%s; what fails: %s"):format(
      probe.paravirtual and ": this KVM is a paravirtual one" or "",
      #missing > 0 and table.concat(missing, ", ") or "unknown"),
    remedy = HELPER }
end

local function either(good, name, yes, no, remedy)
  if good then
    return { name = name, level = "ok", text = yes }
  end
  return { name = name, level = "note", text = no, remedy = remedy }
end

--- Findings from what core.doctor() says.
---@param probe table
---@param module string|nil the KVM module that suits this CPU
---@return ktstr.DoctorFinding[]
function doctor.findings(probe, module)
  local list = { kvm_finding(probe, module) }
  if probe.kvm == "ok" then
    list[#list + 1] = stock_kernel_finding(probe)
    list[#list + 1] = either(probe.data_watchpoint, "data watchpoints", "hardware watches fire",
      "data watchpoints do not fire", "watches use write-protected pages instead; in a nested machine, "
        .. "QEMU 10 or newer is needed for them")
    list[#list + 1] = either(probe.master_clock, "master clock", "the guest's clock is exact",
      "KVM has no master clock: its own TSC is not stable, so freezes may show in guest time",
      "boot the host with a stable TSC (in a machine: tsc=reliable)")
    list[#list + 1] = either(probe.tsc_deadline, "TSC deadline timers", "they work",
      "there are no TSC deadline timers: guests start slower")
    if probe.max_vcpus then
      list[#list + 1] = either(probe.max_vcpus >= 252, "vCPUs", ("up to %d"):format(probe.max_vcpus),
        ("at most %d"):format(probe.max_vcpus), "larger topologies need another kernel on the host")
    end
  end
  local memory = probe.memory_available or 0
  list[#list + 1] = either(memory >= LITTLE_MEMORY, "memory", size.format(memory) .. " available",
    ("only %s available"):format(size.format(memory)),
    "a machine takes 64 MiB a CPU, and 256 MiB at the least")
  return list
end

local marks = { ok = "ok  ", note = "note", problem = "FAIL" }

local function print_text(list, usable)
  for _, finding in ipairs(list) do
    print(("%s  %-20s %s"):format(marks[finding.level], finding.name, finding.text))
    if finding.remedy then
      print("      " .. finding.remedy)
    end
  end
  print(usable and "this host runs stock kernels" or "this host cannot run stock kernels by itself")
end

--- Exit status 0 when a stock kernel can run here, else 1.
---@param mode "text"|"json"|"quiet"
---@return integer
function doctor.main(mode)
  local probe = core.doctor()
  local usable = probe.kvm == "ok" and probe.stock_kernel == true
  if mode ~= "quiet" then
    local list = doctor.findings(probe, cpu_has_virtualisation())
    if mode == "json" then
      print(require("dkjson").encode({ stock_kernel = usable, probe = probe, findings = list },
        { indent = true }))
    else
      print_text(list, usable)
    end
  end
  return usable and 0 or 1
end

return doctor
