-- Sets a machine up once, and starts two others from there: neither sees what the other does.
local ktstr = require "ktstr"

local vm = ktstr.boot { topology = "1n1l2c1t" }
vm:write("/tmp/set-up", "done once\n")
local image = vm:save()
vm:shutdown()

local forks = { image:boot(), image:boot() }
for i, fork in ipairs(forks) do
  fork:write("/tmp/mine", ("fork %d\n"):format(i))
end
for _, fork in ipairs(forks) do
  io.write(fork:read "/tmp/set-up", fork:read "/tmp/mine")
  assert(fork:shutdown().passed)
end
