-- usage: ktstr script boot.lua KERNEL VCPUS MEMORY
-- Boots a stock kernel and says when its agent is ready.
local ktstr = require "ktstr"

local vm = ktstr.boot {
  kernel = arg[1],
  topology = ("1n1l%dc1t"):format(tonumber(arg[2])),
  memory = arg[3],
  timeout = 300,
}
io.stdout:write "ready\n"
io.stdout:flush()
vm:sleep(300)
