-- usage: ktstr script boot.lua cold|warm KERNEL VCPUS MEMORY
-- Boots a stock kernel, or starts it from the cache, and says when its agent is ready.
local ktstr = require "ktstr"

local vm = ktstr.boot {
  kernel = arg[2],
  topology = ("1n1l%dc1t"):format(tonumber(arg[3])),
  memory = arg[4],
  timeout = 300,
  warm = arg[1] == "warm",
}
io.stdout:write "ready\n"
io.stdout:flush()
vm:sleep(300)
