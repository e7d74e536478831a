-- Scheduling domains: which CPUs the load balancer looks at together.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local cpumask = require "ktstr.kernel.cpumask"
local walk = require "ktstr.kernel.walk"

local domains = {}

local DOMAIN = "struct sched_domain"
local zero = ffi.cast("uint64_t", 0)
local LEVELS = 64 -- no machine has so many

-- From a struct to what its member points to, until that is null or where it began.
local function follow(k, first, type, member, what, limit)
  local make = access.maker(k, type)
  local m = access.memory(k)
  local offset = access.offset(k, type, member)
  local state = walk.new(first, limit)
  local next = first
  return function()
    local at = next
    if at == zero then
      return nil
    end
    walk.step(state, what, at)
    next = walk.reading(state, what, access.word, m, at + offset)
    if next == first then
      next = zero
    end
    return make(at)
  end
end

--- The domains of a CPU, from the smallest up; none on a machine with one CPU.
---@param k ktstr.Kernel
---@param cpu integer
---@return fun(): ktstr.Object|nil
function domains.sched_domains(k, cpu)
  local first = access.address(k:per_cpu("runqueues", cpu).sd)
  return follow(k, first, DOMAIN, "parent", "the domains of CPU " .. cpu, LEVELS)
end

--- The CPUs of a domain.
---@param k ktstr.Kernel
---@param domain ktstr.Object
---@return ktstr.Cpus
function domains.domain_span(k, domain)
  -- The mask is behind the struct, with a name or without.
  local offset = access.has(k, DOMAIN, "span") and access.offset(k, DOMAIN, "span") or access.size(k, DOMAIN)
  return cpumask.cpumask(k, access.address(domain) + offset)
end

--- The groups that a domain is made of, beginning with the CPU's own.
---@param k ktstr.Kernel
---@param domain ktstr.Object
---@return fun(): ktstr.Object|nil
function domains.sched_groups(k, domain)
  return follow(k, access.address(domain.groups), "struct sched_group", "next", "the groups of a domain")
end

--- The CPUs of a group.
---@param k ktstr.Kernel
---@param group ktstr.Object
---@return ktstr.Cpus
function domains.group_span(k, group)
  return cpumask.cpumask(k, access.address(group) + access.offset(k, "struct sched_group", "cpumask"))
end

return domains
