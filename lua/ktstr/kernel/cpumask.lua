-- Sets of CPUs as the kernel keeps them: struct cpumask, cpumask_var_t, bitmaps.
local access = require "ktstr.kernel.access"
local cpuset = require "ktstr.cpuset"
local errors = require "ktstr.errors"

local cpumask = {}

local MAX_CPUS = 8192

--- CPU numbers, ascending; tostring writes them as the kernel does: "0-3,8".
---@class ktstr.Cpus: integer[]
local Cpus = {}
Cpus.__index = Cpus
Cpus.__tostring = cpuset.format

--- Whether a CPU is in the set.
---@param cpu integer
---@return boolean
function Cpus:has(cpu)
  for _, member in ipairs(self) do
    if member == cpu then
      return true
    end
  end
  return false
end

--- The set bits of a bitmap's bytes, as numbers from 0.
---@param bytes string
---@param limit integer bits from this one on are left out
---@return ktstr.Cpus
function cpumask.decode(bytes, limit)
  local cpus = setmetatable({}, Cpus)
  for i = 0, math.min(#bytes * 8, limit) - 1 do
    if bit.band(bytes:byte(i / 8 + 1), bit.lshift(1, i % 8)) ~= 0 then
      cpus[#cpus + 1] = i
    end
  end
  return cpus
end

local function cpu_limit(k)
  -- A kernel for a fixed number of CPUs, such as one, has a macro of that name.
  local count = access.global_u32(k, "nr_cpu_ids") or math.min(access.size(k, "struct cpumask") * 8, MAX_CPUS)
  if count < 1 or count > MAX_CPUS then
    errors.raise("format", ("the kernel says that it has %s possible CPUs"):format(tostring(count)))
  end
  return count
end

--- The CPUs in a mask: `k:cpumask(task.cpus_ptr)`, `k:cpumask(k:symbol "__cpu_online_mask")`.
---@param k ktstr.Kernel
---@param mask ktstr.Object|ktstr.Address a cpumask, or what points to one
---@return ktstr.Cpus
function cpumask.cpumask(k, mask)
  local limit = cpu_limit(k)
  return cpumask.decode(k:read(access.place(k, mask), math.ceil(limit / 64) * 8), limit)
end

--- The CPUs that are "possible", "present", "online" or "active".
---@param k ktstr.Kernel
---@param which string|nil nil: online
---@return ktstr.Cpus
function cpumask.cpus(k, which)
  return cpumask.cpumask(k, k:symbol(("__cpu_%s_mask"):format(which or "online")))
end

return cpumask
