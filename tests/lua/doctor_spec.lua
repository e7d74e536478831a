local support = require "tests.lua.support"

local _, load = support.library()
local doctor = load "ktstr.doctor"

local GIB = 2 ^ 30

local function good()
  return {
    kvm = "ok", api_version = 12, stock_kernel = true, paravirtual = false, long_mode = true, int3 = true,
    sse = true, xsave = true, popcnt = true, cmpxchg16b = true, syscall = true, data_watchpoint = true,
    code_breakpoint = true, master_clock = true, tsc_deadline = true, invariant_tsc = true,
    max_vcpus = 1024, memory_available = 8 * GIB,
  }
end

-- The finding that a changed probe makes.
local function finding(name, changes, module)
  local probe = good()
  for field, value in pairs(changes) do
    probe[field] = value
  end
  for _, one in ipairs(doctor.findings(probe, module)) do
    if one.name == name then
      return one
    end
  end
end

describe("the doctor", function()
  it("finds nothing wrong where all is well", function()
    for _, one in ipairs(doctor.findings(good())) do
      assert.equals("ok", one.level, one.name)
      assert.is_nil(one.remedy)
    end
  end)

  it("has a remedy for a missing /dev/kvm, by CPU", function()
    local one = finding("kvm", { kvm = "missing" }, "kvm_amd")
    assert.equals("problem", one.level)
    assert.matches("sudo modprobe kvm_amd", one.remedy)
    assert.matches("scripts/with%-kvm", finding("kvm", { kvm = "missing" }).remedy)
  end)

  it("has a remedy for a lack of permission, and for an error", function()
    assert.matches("usermod %-aG kvm", finding("kvm", { kvm = "permission" }).remedy)
    local one = finding("kvm", { kvm = "error", error = "KVM_CREATE_VM: EBUSY", hint = "end VirtualBox" })
    assert.matches("KVM_CREATE_VM: EBUSY", one.text)
    assert.equals("end VirtualBox", one.remedy)
  end)

  it("says what a paravirtual KVM cannot do, and where to go", function()
    local one = finding("stock kernels",
      { stock_kernel = false, paravirtual = true, int3 = false, sse = false })
    assert.equals("problem", one.level)
    assert.matches("paravirtual one; what fails: INT3, SSE", one.text)
    assert.matches("scripts/with%-kvm", one.remedy)
  end)

  it("notes what works less well", function()
    assert.matches("write%-protected pages", finding("data watchpoints", { data_watchpoint = false }).remedy)
    assert.matches("stable TSC", finding("master clock", { master_clock = false }).remedy)
    assert.equals("note", finding("vCPUs", { max_vcpus = 64 }).level)
    local one = finding("memory", { memory_available = 200 * 2 ^ 20 })
    assert.same({ "note", "only 200 MiB available" }, { one.level, one.text })
  end)

  it("judges no more than it knows without KVM", function()
    assert.is_nil(finding("stock kernels", { kvm = "missing" }))
    assert.is_nil(finding("master clock", { kvm = "missing" }))
  end)
end)
