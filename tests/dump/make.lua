-- usage: ktstr script make.lua OUT [PROCESSES]
-- Boots a stock kernel with that many processes that sleep, beside some that do other things, and writes OUT,
-- its core file by vm:dump; and OUT.fields: what vm.k saw in the machine at that moment.
local ktstr = require "ktstr"
local draw = dofile(arg[0]:match "^(.*)/" .. "/draw.lua")

local out, processes = assert(arg[1], "where to?"), tonumber(arg[2] or 20)
local FIELDS = tonumber(os.getenv "FIELDS" or 100)
local TIMEOUT_S = 1800

local vm = ktstr.boot {
  kernel = os.getenv "KERNEL",
  topology = "1n1l2c1t",
  memory = "512M",
  timeout = TIMEOUT_S,
}
local k = vm.k
-- One that spins, one that is stopped, one that is dead and not waited for, and the sleepers. It says so when
-- all of them are there.
local load = vm:spawn { "sh", "-c", [[
  while :; do :; done &
  sleep 100000 & kill -STOP $!
  sh -c 'true & exec sleep 100000' &
  i=0
  while [ $i -lt ]] .. processes .. [[ ]; do sleep 100000 & i=$((i + 1)); done
  echo there
  wait]] }
while not load:stdout():find "there" do
  vm:sleep(0.1)
end
vm:sleep(0.5)

local seed = tonumber(os.getenv "SEED") or os.time()
math.randomseed(seed)
vm:freeze()
local file = assert(io.open(out .. ".fields", "w"))
file:write(("seed\t%d\n"):format(seed))
for _, field in ipairs(draw.fields(k, vm.topology.cpus, FIELDS)) do
  file:write(("field\t%s\t%s\t%s\t%s\n"):format(field.type, field.place, field.path, field.value))
end
for task in k:tasks() do
  local comm = task.comm:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end)
  file:write(("task\t%d\t%s\t%s\t%d\n"):format(task.pid, comm, k:task_state(task), k:task_cpu(task)))
end
file:close()
vm:dump(out)
vm:kill()
