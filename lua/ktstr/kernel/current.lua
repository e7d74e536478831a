-- What each CPU runs.
local access = require "ktstr.kernel.access"

local current = {}

--- The task that a CPU runs: its idle task, when it has nothing to do.
---@param k ktstr.Kernel
---@param cpu integer
---@return ktstr.Object
function current.task(k, cpu)
  -- From 6.2 to 6.14 it was a member of the hottest per-CPU variables' struct.
  if access.has_symbol(k, "pcpu_hot") then
    return k:per_cpu("pcpu_hot", cpu).current_task
  end
  return k:per_cpu("current_task", cpu)
end

return current
