-- The modules that the kernel has loaded.
local access = require "ktstr.kernel.access"
local containers = require "ktstr.kernel.containers"

local modules = {}

--- Each loaded module, a struct module, the newest first.
---@param k ktstr.Kernel
---@return fun(): ktstr.Object|nil
function modules.modules(k)
  return containers.list(k, access.symbol(k, "modules"), "struct module", "list")
end

return modules
