-- The public face: what require "ktstr" gives a script.
local boot = require "ktstr.boot"
local core = require "ktstr.core"
local cpuset = require "ktstr.cpuset"
local errors = require "ktstr.errors"
local num = require "ktstr.num"
local test = require "ktstr.test"
local topology = require "ktstr.topology"
local work = require "ktstr.work"

---@class ktstr
local ktstr = {}

---@type string
ktstr.version = core.version

--- Boots a machine. See ktstr.BootOptions.
---@param options ktstr.BootOptions|nil
---@return ktstr.VM
ktstr.boot = boot.boot

--- Declares a test. See ktstr.TestOptions and ktstr.Test.
---@param name string
---@param options ktstr.TestOptions|fun(t: ktstr.Test)
---@param fn fun(t: ktstr.Test)|nil
ktstr.test = test.declare

--- Work types by name: ktstr.work.Bursty { burst_ms = 50, sleep_ms = 100 }
---@type table<string, fun(params: table|nil): ktstr.Work>
ktstr.work = work.constructors

--- Places in a topology: ktstr.cpuset.llc(0), numa(i), range(a, b), exact("0-3,8").
ktstr.cpuset = { llc = cpuset.llc, numa = cpuset.numa, range = cpuset.range, exact = cpuset.exact }

--- A topology without a machine: counts and where each CPU sits.
---@param value string|table
---@return ktstr.Topology
ktstr.topology = topology.parse

--- errors.is(e [, code]) tells ktstr's errors from others; their fields are code, message and hint.
ktstr.errors = { is = errors.is }

--- A kernel value as a Lua number.
---@param value any
---@return number
ktstr.num = num

return ktstr
