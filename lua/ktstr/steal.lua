-- The host's dilation, from the guest's /proc/stat: what the vCPUs wanted and did not get.
-- What a vCPU wanted is the wall time without its idle time. The busy fields do not tell: a tick in which
-- more was stolen than a tick is long counts as no busy time at all, so they would be far too small.
local steal = {}

local TICKS_PER_S = 100 -- USER_HZ, the same on every Linux

--- Per CPU: idle and stolen seconds since the start.
---@param text string /proc/stat
---@return table<integer, { idle: number, stolen: number }>
function steal.parse(text)
  local cpus = {}
  for cpu, rest in text:gmatch "cpu(%d+)([^\n]*)" do
    local fields = {}
    for field in rest:gmatch "%d+" do
      fields[#fields + 1] = tonumber(field)
    end
    -- user nice system idle iowait irq softirq steal
    if fields[8] then
      cpus[tonumber(cpu)] = {
        idle = (fields[4] + fields[5]) / TICKS_PER_S,
        stolen = fields[8] / TICKS_PER_S,
      }
    end
  end
  return cpus
end

---@class ktstr.Dilation
---@field share number|nil of the time that the vCPUs wanted: 0 to 1; nil when it is not known
---@field steal table<integer, number> per CPU, of the wall time: 0 to 1

--- What happened between two readings, `seconds` apart.
---@return ktstr.Dilation
function steal.between(before, after, seconds)
  local wanted, stolen, per_cpu, any = 0, 0, {}, false
  for cpu, b in pairs(after) do
    local a = before[cpu]
    if a and seconds > 0 then
      any = true
      local lost = math.min(seconds, math.max(0, b.stolen - a.stolen))
      -- What is stolen from a CPU that just woke counts as idle too, and was wanted all the same.
      wanted = wanted + math.max(lost, seconds - math.max(0, b.idle - a.idle))
      stolen = stolen + lost
      per_cpu[cpu] = lost / seconds
    end
  end
  return { share = any and (wanted > 0 and stolen / wanted or 0) or nil, steal = per_cpu }
end

return steal
