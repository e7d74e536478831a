-- The host's dilation, from the guest's /proc/stat: what the vCPUs wanted and did not get.
local steal = {}

--- Per CPU: busy and stolen time in clock ticks.
---@param text string /proc/stat
---@return table<integer, { busy: number, stolen: number }>
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
        busy = fields[1] + fields[2] + fields[3] + fields[6] + fields[7],
        stolen = fields[8],
      }
    end
  end
  return cpus
end

local TICKS_PER_S = 100 -- USER_HZ, the same on every Linux

---@class ktstr.Dilation
---@field share number|nil of the time that the vCPUs wanted: 0 to 1; nil when it is not known
---@field steal table<integer, number> per CPU, of the wall time: 0 to 1

--- What happened between two readings, `seconds` apart.
---@return ktstr.Dilation
function steal.between(before, after, seconds)
  local busy, stolen, per_cpu, any = 0, 0, {}, false
  for cpu, b in pairs(after) do
    local a = before[cpu]
    if a then
      any = true
      local lost = math.max(0, b.stolen - a.stolen)
      busy = busy + math.max(0, b.busy - a.busy)
      stolen = stolen + lost
      per_cpu[cpu] = seconds > 0 and math.min(1, lost / TICKS_PER_S / seconds) or 0
    end
  end
  local wanted = busy + stolen
  return { share = any and (wanted > 0 and stolen / wanted or 0) or nil, steal = per_cpu }
end

return steal
