-- usage: ktstr script forks.lua time KERNEL VCPUS MEMORY ROUNDS DIRECTORY
--        ktstr script forks.lua memory KERNEL VCPUS MEMORY COUNT cold|fork
-- time: a line a round: us that saving a booted machine took, and to a fork's agent being ready; then
-- bytes on disk of its state and of its memory.
-- memory: KiB that so many machines, all of them ready, take of the host's memory (Pss), and what of it is
-- theirs alone, no file's (Anonymous).
local ktstr = require "ktstr"
local files = require "ktstr.files"
local host = require "ktstr.host"

local options = {
  kernel = arg[2],
  topology = ("1n1l%dc1t"):format(tonumber(arg[3])),
  memory = arg[4],
  timeout = 600,
}

local function boot(warm)
  options.warm = warm
  return ktstr.boot(options)
end

-- us that it took, and the image, which is the only one left in the directory.
local function save(vm, path, before)
  if before then
    before:close()
    files.remove(before.path)
  end
  local began = host.now()
  local image = vm:save(path)
  return (host.now() - began) * 1e6, image
end

-- us until it was ready.
local function fork(image)
  local began = host.now()
  local vm = image:boot { timeout = 600 }
  local took = (host.now() - began) * 1e6
  vm:kill()
  return took
end

local function time(rounds, directory)
  local vm = boot(true)
  local saves, image = {}, nil
  for i = 1, rounds do
    saves[i], image = save(vm, ("%s/%d"):format(directory, i), image)
  end
  fork(image) -- which notes what it touches
  local state = host.size(image.path .. "/state")
  for i = 1, rounds do
    print(("%.0f\t%.0f\t%d\t%d"):format(saves[i], fork(image), state, image:size() - state))
  end
  vm:kill()
end

local function used()
  collectgarbage()
  collectgarbage()
  local found = {}
  for name, kib in host.read_file("/proc/self/smaps_rollup"):gmatch "([%w_]+): *(%d+) kB" do
    found[name] = tonumber(kib)
  end
  return found
end

local function memory(count, kind)
  local image
  if kind == "fork" then
    local vm = boot(true)
    image = vm:save()
    vm:kill()
  end
  local before, machines = used(), {}
  for i = 1, count do
    machines[i] = image and image:boot { timeout = 600 } or boot(false)
  end
  local after = used()
  print(("%d\t%d"):format(after.Pss - before.Pss, after.Anonymous - before.Anonymous))
  for _, vm in ipairs(machines) do
    vm:kill()
  end
end

if arg[1] == "time" then
  time(tonumber(arg[5]), arg[6])
else
  memory(tonumber(arg[5]), arg[6])
end
