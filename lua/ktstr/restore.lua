-- Starts machines from saved ones, and says what they have to have in common with what is asked for.
local core = require "ktstr.core"
local json = require "dkjson"
local channel = require "ktstr.channel"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local plan = require "ktstr.plan"
local start = require "ktstr.start"

local wire = core.wire

local restore = {}

local VERSION = 1
local ENTROPY_BYTES = 256 -- the random pool's size
local RUN_ID_BYTES = 16
-- From the hello on: long enough for a first program, or a test's workers, to have started.
local FIRST_MOMENTS_S = start.in_helper and 1 or 0.1

local function hex(bytes)
  return (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

-- As many bytes that nobody can foretell.
local function random(count)
  local file = host.open "/dev/urandom"
  local bytes = file:read(count)
  file:close()
  return bytes
end

--- What the library has to know of a machine that is saved, as text.
---@param vm ktstr.VM
---@return string
function restore.script(vm)
  return json.encode {
    version = VERSION,
    given = vm.plan.given,
    memory = vm.plan.memory,
    last_id = vm.channel.last_id,
  }
end

local function read_script(image)
  local script = json.decode(image:script())
  if type(script) ~= "table" or script.version ~= VERSION then
    errors.raise("format", "the saved machine is another version's", "boot it anew")
  end
  return script
end

-- The agent reseeds the guest's random pool and sets its clock; until it has said so, what comes belongs to
-- the earlier run.
local function greet(self)
  local realtime = require "posix.time".clock_gettime(require "posix.time".CLOCK_REALTIME)
  local request = self.channel:post(wire.OP_RESTORED, wire.pack {
    { "RUN_ID", self.channel.run_id },
    { "REALTIME_NS", realtime.tv_sec * 1e9 + realtime.tv_nsec },
    { "ENTROPY", random(ENTROPY_BYTES) },
  })
  self.channel:wait(function()
    return request.reply
  end)
  if not request.reply then
    error(self:_ended_error "waking up", 0)
  end
  channel.check(request.reply, "wake up")
  self:_wait_ready()
  self.channel:begin_first_moments(FIRST_MOMENTS_S)
end

-- What a restored machine's plan is.
local function plan_of(image, script)
  return { given = script.given, memory = script.memory, identity = image:identity() }
end

--- Raises what a capture plan names and the saved machine's kernel has not. Raises "not-found", "unsupported"
--- where that kernel is not to be had any more, too.
---@param image ktstr.core.image
---@param capture ktstr.CapturePlan
function restore.check_captures(image, capture)
  local script = read_script(image)
  local kernel = require("ktstr.kernel.image").of { plan = plan_of(image, script) }
  require("ktstr.capture.plan").check(capture, kernel, plan.topology(script.given))
end

--- Starts a machine where the image's stood; returns when its agent is ready. Raises "format" and
--- "unsupported" when it cannot be, "ended" and "timeout" when it fails.
---@param image ktstr.core.image
---@param session ktstr.Session
---@return ktstr.VM
function restore.restore(image, session)
  local script = read_script(image)
  local self = start.machine(session, function(timeout)
    return core.machine_saved(image, { timeout = timeout })
  end, {
    warm = true,
    topology = plan.topology(script.given),
    plan = plan_of(image, script),
  }, function(self)
    self.channel:go_on(script.last_id, hex(random(RUN_ID_BYTES)))
  end)
  start.finish(self, greet)
  return self
end

-- What is asked for, as far as anything is; else what this program and this host make of the saved machine.
local function wanted_identity(image, given)
  local identity = require "ktstr.warm.identity"
  local script = read_script(image)
  if next(plan.deciding(given)) then
    local all = {}
    for name, value in pairs(script.given) do
      all[name] = value
    end
    for name, value in pairs(plan.deciding(given)) do
      all[name] = value
    end
    -- Its files may have asked for that much, and are not asked for again.
    if not plan.topology(all):own_memory() then
      all.memory = all.memory or script.memory
    end
    return plan.identity(plan.of(all))
  end
  return identity.here(image:identity(), core.host_cpu(plan.host(script.given, script.memory)))
end

--- Refuses an image that is not what is asked for, or that this program or host cannot go on with:
--- "unsupported", with every difference named.
---@param image ktstr.core.image
---@param given ktstr.BootOptions
function restore.check(image, given)
  local wanted = wanted_identity(image, given)
  local difference = require("ktstr.warm.identity").difference(wanted, image:identity())
  if difference then
    errors.refuse("unsupported", "the saved machine is another one: " .. difference,
      "ktstr.boot boots, and saves, what is asked for")
  end
end

return restore
