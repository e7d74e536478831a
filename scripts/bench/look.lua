-- usage: ktstr script look.lua ready IMAGE | fields CORE COUNT PASSES [off] | walk CORE PASSES [off]
-- How fast a kernel is seen from outside: prints lines of a name and a number. With `off`, LuaJIT only
-- interprets. look.py does the same with drgn.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local host = require "ktstr.host"

local STRIDE, SKIPPED = 64, 64 * 2 ^ 20 -- bytes; where the objects begin in the direct map

local function say(name, value)
  print(("%s\t%.17g"):format(name, value))
end

local looks = {}

--- From a kernel's image to its symbols and types, one of each found. us.
function looks.ready(path)
  local began = host.now()
  local image = require("ktstr.kernel.image").open(path)
  local found = #image.symbols:find "runqueues" == 1 and image.types:get("struct rq"):member "nr_running"
  say("ready", (host.now() - began) * 1e6)
  assert(found)
end

local function each_pass(name, passes, f)
  for _ = 1, passes do
    local began = host.now()
    f()
    say(name, host.now() - began)
  end
end

-- The members of one object are another task's, or none's: what is read is whatever lies there.
local function sum_of(k, first, count)
  local sum = 0
  for i = 0, count - 1 do
    sum = sum + k:object("struct task_struct", first + i * STRIDE).pid
  end
  return sum
end

-- The same, out of the bytes.
local function sum_of_bytes(k, first, count)
  local offset = k.types["struct task_struct"]:member("pid").offset / 8
  local bytes = k:read(first + offset, (count - 1) * STRIDE + 4)
  local at, sum = ffi.cast("const char *", bytes), 0
  for i = 0, count - 1 do
    sum = sum + ffi.cast("const int32_t *", at + i * STRIDE)[0]
  end
  return sum
end

--- One field a step, each of an object of its own at an address of its own.
function looks.fields(path, count, passes)
  local k = require("ktstr").vmcore(path).k
  count = tonumber(count)
  k:_ready() -- its direct map is known then
  local first = address.new(k._view.ranges[1].start) + SKIPPED
  local expected, sum = sum_of_bytes(k, first, count), nil
  each_pass("seconds", passes, function()
    sum = sum_of(k, first, count)
    assert(sum == expected, "the sum of the fields is not that of the bytes")
  end)
  print(("first\t%s"):format(tostring(first)))
  say("sum", sum)
end

--- All tasks: pid, comm, state and cpu. Members: as they are; helpers: as /proc says.
function looks.walk(path, passes)
  local k = require("ktstr").vmcore(path).k
  local count, sum
  local function members()
    count, sum = 0, 0
    for task in k:tasks() do
      count, sum = count + 1, sum + task.pid + #task.comm + task.__state + task.thread_info.cpu
    end
  end
  local function helpers()
    count, sum = 0, 0
    for task in k:tasks() do
      count, sum = count + 1, sum + task.pid + #task.comm + #k:task_state(task) + k:task_cpu(task)
    end
  end
  for _, one in ipairs { { "members", members }, { "helpers", helpers } } do
    one[2]() -- what is looked up once
    each_pass(one[1], passes, one[2])
    say(one[1] .. "_sum", sum)
  end
  say("count", count)
end

if arg[#arg] == "off" then
  jit.off()
end
looks[arg[1]](unpack(arg, 2))
