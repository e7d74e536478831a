-- usage: ktstr script tiny.lua VCPUS MIB
-- Starts the tiny guest and waits for its end, which a measurement does not.
local core = require "ktstr.core"
local topology = require "ktstr.topology"

local machine = core.machine {
  kernel = core.paths.guest .. "/tiny",
  cmdline = "tiny.run=ready tiny.run=hang",
  topology = topology.parse(("1n1l%dc1t"):format(tonumber(arg[1]))):for_machine(tonumber(arg[2]) * 2 ^ 20),
  kaslr = false,
  la57 = false,
  timeout = 60,
}
machine:start()
machine:recv()
io.stdout:write "ready\n"
io.stdout:flush()
machine:recv()
