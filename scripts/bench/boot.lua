-- usage: ktstr script boot.lua cold|warm|use KERNEL VCPUS MEMORY
-- Boots a stock kernel, or starts it from the cache, and says when its agent is ready. use: like warm, but
-- something is done with it then, and it is ended as a test ends it.
local ktstr = require "ktstr"

local vm = ktstr.boot {
  kernel = arg[2],
  topology = ("1n1l%dc1t"):format(tonumber(arg[3])),
  memory = arg[4],
  timeout = 300,
  warm = arg[1] ~= "cold",
}
io.stdout:write "ready\n"
io.stdout:flush()
if arg[1] == "use" then
  vm:exec { "true" }
  vm:shutdown()
else
  vm:sleep(300)
end
