-- What the guest's own /sys says about the topology that was asked for.
local ktstr = require "ktstr"
local outcome = require "ktstr.outcome"

local function lines_of(text)
  local values = {}
  for path, value in text:gmatch "([^\n]-):([^\n]*)" do
    values[path] = value
  end
  return values
end

-- Every file that the shell's pattern names, by path.
local function read_all(vm, pattern)
  return lines_of(vm:exec({ "sh", "-c", "grep -H . " .. pattern }).stdout)
end

local function distinct(values, file)
  local seen, count = {}, 0
  for path, value in pairs(values) do
    if path:match(file .. "$") and not seen[value] then
      seen[value] = true
      count = count + 1
    end
  end
  return count
end

-- The topology as the guest sees it must be the one that was asked for, CPU by CPU.
local function check(vm)
  local t = vm.topology
  local cpus = read_all(vm, "/sys/devices/system/cpu/cpu[0-9]*/topology/*_list")
  local caches = read_all(vm, "/sys/devices/system/cpu/cpu[0-9]*/cache/index3/shared_cpu_list")
  assert.equals(("0-%d"):format(t.cpus - 1), (vm:read("/sys/devices/system/cpu/online"):gsub("%s", "")))
  assert.equals(t.cpus / t.threads, distinct(cpus, "thread_siblings_list"))
  assert.equals(t.llcs, distinct(caches, "shared_cpu_list"))
  for llc = 0, t.llcs - 1 do
    local members = t:llc_cpus(llc)
    local range = #members == 1 and tostring(members[1]) or ("%d-%d"):format(members[1], members[#members])
    for i, cpu in ipairs(members) do
      local directory = ("/sys/devices/system/cpu/cpu%d/"):format(cpu)
      assert.equals(range, caches[directory .. "cache/index3/shared_cpu_list"])
      local first = cpu - (i - 1) % t.threads
      local siblings = t.threads == 1 and tostring(cpu) or ("%d-%d"):format(first, first + t.threads - 1)
      assert.equals(siblings, cpus[directory .. "topology/thread_siblings_list"])
    end
  end
end

local ours = {
  "ACPI:", "ACPI BIOS", "ACPI Error", "ACPI Warning", "TSC", "tsc", "topolog", "APIC", "SRAT", "SLIT", "NUMA",
  "sched_domain",
}
-- Warnings about what ktstr itself made up: tables, clocks, CPUs.
local function suspicious(vm)
  local found = {}
  for level, text in vm:exec({ "dmesg", "-r" }).stdout:gmatch "<(%d+)>([^\n]*)" do
    if tonumber(level) % 8 <= 4 then
      for _, word in ipairs(ours) do
        if text:find(word, 1, true) then
          found[#found + 1] = text
          break
        end
      end
    end
  end
  return found
end

local function ends_well(vm)
  local r = vm:shutdown()
  assert.is_true(r.passed, outcome.describe(r))
end

describe("a stock kernel", function()
  it("sees 8 CPUs, 2 LLCs and SMT pairs in 1n2l2c2t", function()
    local vm = ktstr.boot { topology = "1n2l2c2t", timeout = 300 }
    check(vm)
    assert.same({}, suspicious(vm))
    ends_well(vm)
  end)

  it("sees 2 nodes with their CPUs and distances in 2n4l2c1t", function()
    local vm = ktstr.boot { topology = "2n4l2c1t", timeout = 300 }
    check(vm)
    local nodes = read_all(vm, "/sys/devices/system/node/node*/cpulist "
      .. "/sys/devices/system/node/node*/distance")
    assert.same({
      ["/sys/devices/system/node/node0/cpulist"] = "0-3",
      ["/sys/devices/system/node/node1/cpulist"] = "4-7",
      ["/sys/devices/system/node/node0/distance"] = "10 20",
      ["/sys/devices/system/node/node1/distance"] = "20 10",
    }, nodes)
    assert.same({}, suspicious(vm))
    ends_well(vm)
  end)

  it("brings 16 vCPUs to the agent #slow", function()
    local vm = ktstr.boot { topology = "2n4l2c2t", timeout = 600 }
    check(vm)
    ends_well(vm)
  end)

  it("brings 64 vCPUs to the agent #slow", function()
    -- By default it would have 4 GiB, which is all that a helper machine has.
    local vm = ktstr.boot { topology = "1n4l8c2t", memory = "1536M", timeout = 1800 }
    check(vm)
    ends_well(vm)
  end)

  it("sees nodes of different sizes, and one of memory only #slow", function()
    local vm = ktstr.boot {
      topology = {
        nodes = {
          { llcs = 1, memory = "256M" },
          { llcs = 2, memory = "384M" },
          { llcs = 0, memory = "128M" },
        },
        cores = 2,
        distances = { { 10, 17, 28 }, { 17, 10, 28 }, { 28, 28, 10 } },
      },
      timeout = 300,
    }
    check(vm)
    assert.same({
      ["/sys/devices/system/node/node0/distance"] = "10 17 28",
      ["/sys/devices/system/node/node1/distance"] = "17 10 28",
      ["/sys/devices/system/node/node2/distance"] = "28 28 10",
    }, read_all(vm, "/sys/devices/system/node/node*/distance"))
    assert.equals("2-5\n", vm:read "/sys/devices/system/node/node1/cpulist")
    assert.equals("\n", vm:read "/sys/devices/system/node/node2/cpulist")
    ends_well(vm)
  end)
end)
