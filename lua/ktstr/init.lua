-- The public face: what require "ktstr" gives a script. Each part is loaded when it is first used: a script
-- that only boots a machine does not wait for what judges tests.
local core = require "ktstr.core"

---@class ktstr
---@field version string
---@field boot fun(options: ktstr.BootOptions|nil): ktstr.VM boots a machine
---@field image fun(path: string): ktstr.Image a machine that vm:save(path) has saved
---@field vmcore fun(path: string, options: table|nil): ktstr.Vmcore a core file that vm:dump(path) wrote
---@field test fun(name: string, options: ktstr.TestOptions|fun(t: ktstr.Test), fn: fun(t: ktstr.Test)|nil)
---  declares a test
---@field work table<string, fun(params: table|nil): ktstr.Work> work types by name:
---  ktstr.work.Bursty { burst_ms = 50, sleep_ms = 100 }
---@field cpuset table places in a topology: ktstr.cpuset.llc(0), numa(i), range(a, b), exact("0-3,8")
---@field topology fun(value: string|table): ktstr.Topology counts and where each CPU sits, without a machine
---@field errors table errors.is(e [, code]) tells ktstr's errors from others; their fields are code, message
---  and hint
---@field series fun(source: table[], field: string|function|nil, options: string|table|nil): ktstr.Series a
---  value over time, of captures or a list
---@field plan fun(items: table): ktstr.CapturePlan what captures record; ktstr.plan.map(name) is a BPF map
---@field record fun(json: string): ktstr.KeptCapture a capture that was written as JSON
---@field num fun(value: any): number a kernel value as a Lua number
local ktstr = { version = core.version }

local parts = {
  boot = function()
    return require("ktstr.boot").boot
  end,
  image = function()
    return require("ktstr.image").open
  end,
  vmcore = function()
    return require("ktstr.vmcore").open
  end,
  test = function()
    return require("ktstr.test").declare
  end,
  work = function()
    return require("ktstr.work").constructors
  end,
  cpuset = function()
    local cpuset = require "ktstr.cpuset"
    return { llc = cpuset.llc, numa = cpuset.numa, range = cpuset.range, exact = cpuset.exact }
  end,
  topology = function()
    return require("ktstr.topology").parse
  end,
  errors = function()
    return { is = require("ktstr.errors").is }
  end,
  series = function()
    return require("ktstr.series").new
  end,
  plan = function()
    return require "ktstr.capture.plan"
  end,
  record = function()
    return require("ktstr.capture.json").read
  end,
  num = function()
    return require "ktstr.num"
  end,
}

setmetatable(ktstr, {
  __index = function(self, name)
    local load = parts[name]
    if load then
      local part = load()
      rawset(self, name, part)
      return part
    end
  end,
  --- Loads every part.
  __call = function(self)
    for name in pairs(parts) do
      local _ = self[name]
    end
    return self
  end,
})

return ktstr
