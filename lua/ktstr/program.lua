-- Programs in the guest: started in the foreground (exec) or the background (spawn).
local core = require "ktstr.core"
local channel = require "ktstr.channel"
local cpuset = require "ktstr.cpuset"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local options = require "ktstr.options"
local policy = require "ktstr.policy"
local signals = require "ktstr.signals"
local size = require "ktstr.size"

local wire = core.wire

local program = {}

local DEFAULT_MAX_OUTPUT = 64 * 2 ^ 20
local KILL_GRACE_S = 30 -- from SIGKILL until the agent has told of the end
local CATCH_UP_S = 0.1
local MAX_ARGUMENTS = 1024

---@class ktstr.ExecOptions
---@field [integer] string the command and its arguments; no shell is involved
---@field timeout number|nil seconds after which it is killed
---@field env table<string, string>|nil variables added to the agent's own
---@field cwd string|nil
---@field stdin string|nil what it reads; nil: nothing. vm:spawn also takes true: written later
---@field cgroup string|nil path below /sys/fs/cgroup; must exist
---@field cpus string|ktstr.Cpuset|nil CPUs that it may run on: "0-3"
---@field policy string|nil "normal", "batch", "idle", "fifo 10", "rr 10", "ext"
---@field max_output string|number|nil bytes of each stream that are kept; the rest is counted. "64M"

---@class ktstr.ExecResult
---@field status integer|nil exit status
---@field signal integer|nil the signal that ended it
---@field stdout string
---@field stderr string
---@field timed_out boolean it was killed because its timeout passed; signal is 9
---@field truncated number bytes of output that were not kept; 0: all is there

local exec_rules = {
  list = true,
  timeout = { "number", above = 0 },
  env = { "table" },
  cwd = { "string" },
  stdin = { "string" },
  cgroup = { "string" },
  cpus = { "string|table" },
  policy = { "string" },
  max_output = { "string|number" },
}

local spawn_rules = {}
for name, rule in pairs(exec_rules) do
  spawn_rules[name] = rule
end
spawn_rules.timeout = nil
spawn_rules.stdin = { "string|boolean" }

local function argument_attributes(what, given, attributes)
  if #given == 0 then
    errors.refuse("invalid", what .. ": no command was given", 'write { "cat", "/proc/cmdline" }')
  elseif #given > MAX_ARGUMENTS then
    errors.refuse("invalid", ("%s: %d arguments; at most %d are possible"):format(what, #given,
      MAX_ARGUMENTS))
  end
  for i, argument in ipairs(given) do
    if type(argument) == "number" then
      argument = tostring(argument)
    end
    if type(argument) ~= "string" or argument:find("%z") then
      errors.refuse("invalid", ("%s: argument %d must be a string without NUL, not %s"):format(what, i,
        options.show(argument)))
    elseif #argument > wire.WIRE_ATTR_VALUE_MAX then
      errors.refuse("invalid", ("%s: argument %d has %d bytes; at most %d are possible"):format(what, i,
        #argument, wire.WIRE_ATTR_VALUE_MAX), "put it into a file with vm:write")
    end
    attributes[#attributes + 1] = { "ARG", argument }
  end
end

local function environment_attributes(what, env, attributes)
  local names = {}
  for name, value in pairs(env) do
    if type(name) ~= "string" or name == "" or name:find "[=%z]" or type(value) == "table" then
      errors.refuse("invalid", ("%s: env must be { NAME = \"value\" }"):format(what))
    end
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    attributes[#attributes + 1] = { "ENV", name .. "=" .. tostring(env[name]) }
  end
end

local function start_attributes(what, given, topology)
  local attributes = {}
  argument_attributes(what, given, attributes)
  environment_attributes(what, given.env or {}, attributes)
  if given.cwd then
    attributes[#attributes + 1] = { "CWD", given.cwd }
  end
  if given.cgroup then
    attributes[#attributes + 1] = { "CGROUP", (given.cgroup:gsub("^/+", "")) }
  end
  if given.cpus then
    attributes[#attributes + 1] = { "CPUS", cpuset.format(cpuset.resolve(given.cpus, topology)) }
  end
  for _, attribute in ipairs(policy.attributes(given.policy, what)) do
    attributes[#attributes + 1] = attribute
  end
  if given.stdin then
    attributes[#attributes + 1] = { "HAS_STDIN", true }
  end
  return attributes
end

---@class ktstr.Program
---@field pid integer
local Program = {}
Program.__index = Program

local function new_program(vm, given, what)
  return setmetatable({
    vm = vm,
    what = what,
    max_output = given.max_output and size.parse(given.max_output, what .. ": max_output")
      or DEFAULT_MAX_OUTPUT,
    streams = { stdout = { bytes = 0 }, stderr = { bytes = 0 } },
    truncated = 0,
  }, Program)
end

--- Takes in output; beyond the limit it is only counted.
function Program:take_output(name, data)
  local stream = self.streams[name]
  local room = self.max_output - stream.bytes
  if #data > room then
    self.truncated = self.truncated + #data - room
    data = data:sub(1, room)
  end
  if data ~= "" then
    stream.bytes = stream.bytes + #data
    stream[#stream + 1] = data
  end
end

-- Joins the pieces, and keeps them joined.
local function text_of(stream)
  local text = table.concat(stream)
  for i = #stream, 2, -1 do
    stream[i] = nil
  end
  stream[1] = text ~= "" and text or nil
  return text
end

local function u32(value)
  return string.char(value % 256, math.floor(value / 2 ^ 8) % 256, math.floor(value / 2 ^ 16) % 256,
    math.floor(value / 2 ^ 24) % 256)
end

-- The bytes in pieces, each answered when it was taken in. False when the program stops reading, or when
-- the deadline passes first.
local function feed(self, data, close, deadline)
  local function piece(bytes)
    local request = self.vm.channel:post(wire.OP_STDIN, u32(self.id) .. bytes)
    self.vm.channel:wait(function()
      return request.reply or self.result
    end, deadline)
    self.vm:_check_alive("writing to " .. self.what)
    return request.reply ~= nil and request.reply.error == 0
  end
  for first = 1, #data, wire.WIRE_DATA_MAX do
    if not piece(data:sub(first, first + wire.WIRE_DATA_MAX - 1)) then
      return false
    end
  end
  return not close or piece ""
end

local function finish(self, reply)
  self.vm.channel.programs[self.id] = nil
  local values = channel.attributes(reply.body)
  self.result = {
    status = values.STATUS,
    signal = values.SIGNAL,
    stdout = text_of(self.streams.stdout),
    stderr = text_of(self.streams.stderr),
    timed_out = self.timed_out or false,
    truncated = self.truncated,
  }
  if self.vm.on_crash and values.SIGNAL and signals.is_crash(values.SIGNAL) and not self.was_signalled then
    self.vm.on_crash(self.what, values.SIGNAL)
  end
end

local function kill_request(self, number)
  return wire.pack { { "PROGRAM", self.id }, { "SIGNAL", number } }
end

local function send_kill(self, number)
  self.was_signalled = true
  return self.vm:_ask(wire.OP_KILL, kill_request(self, number), "signal " .. self.what)
end

-- Nobody waits for it any more: at a prompt the machine goes on, and the program must not.
local function abandon(self)
  pcall(self.vm.channel.post, self.vm.channel, wire.OP_KILL, kill_request(self, signals.number "KILL"))
end

-- Waits for the program's end; past the deadline it is killed.
local function await(self, request, deadline)
  local vm = self.vm
  local function done()
    return request.reply ~= nil
  end
  if not vm.channel:wait(done, deadline) then
    vm:_check_alive("waiting for " .. self.what)
    self.timed_out = true
    send_kill(self, signals.number "KILL")
    if not vm.channel:wait(done, host.now() + KILL_GRACE_S) then
      vm:_check_alive("killing " .. self.what)
      errors.raise("timeout", ("%s did not end within %d s of being killed"):format(self.what, KILL_GRACE_S))
    end
  end
end

--- Runs a program to its end. See vm:exec.
function program.exec(vm, given)
  local what = ("'%s'"):format(tostring(type(given) == "table" and given[1] or "?"))
  options.check("vm:exec", given, exec_rules)
  local attributes = start_attributes("vm:exec", given, vm.topology)
  local deadline = given.timeout and host.now() + given.timeout
  local self = new_program(vm, given, what)
  vm:_check_alive("running " .. what)

  local request = vm.channel:post(wire.OP_EXEC, wire.pack(attributes), {
    program = self,
    on_reply = function(reply)
      finish(self, reply)
    end,
  })
  local ok, e = pcall(function()
    if given.stdin then
      feed(self, given.stdin, true, deadline)
    end
    await(self, request, deadline)
  end)
  if not ok then
    if errors.is(e, "interrupted") then
      abandon(self)
    end
    error(e, 0)
  end
  channel.check(request.reply, "run " .. what)
  return self.result
end

--- Starts a program in the background. See vm:spawn.
function program.spawn(vm, given)
  local what = ("'%s'"):format(tostring(type(given) == "table" and given[1] or "?"))
  options.check("vm:spawn", given, spawn_rules)
  local attributes = start_attributes("vm:spawn", given, vm.topology)
  local self = new_program(vm, given, what)
  vm:_check_alive("starting " .. what)
  local reply = vm:_ask(wire.OP_SPAWN, wire.pack(attributes), "start " .. what, { program = self })
  if reply.error ~= 0 then
    vm.channel.programs[self.id] = nil
    channel.check(reply, "start " .. what)
  end
  self.pid = channel.attributes(reply.body).PID
  if type(given.stdin) == "string" then
    feed(self, given.stdin, true)
  end
  return self
end

--- Waits for the program's end. Returns the same result each time. Raises "timeout" (the program goes
--- on), "ended".
---@param seconds number|nil nil: as long as it takes
---@return ktstr.ExecResult
function Program:wait(seconds)
  if self.result then
    return self.result
  end
  local vm = self.vm
  vm:_check_alive("waiting for " .. self.what)
  if not self.wait_request then
    self.wait_request = vm.channel:post(wire.OP_WAIT, wire.pack { { "PROGRAM", self.id } }, {
      on_reply = function(reply)
        if reply.error == 0 then
          finish(self, reply)
        else
          self.wait_request = nil -- another wait asks anew
        end
      end,
    })
  end
  local request = self.wait_request
  local function done()
    return request.reply ~= nil
  end
  if not vm.channel:wait(done, seconds and host.now() + seconds) then
    vm:_check_alive("waiting for " .. self.what)
    errors.raise("timeout", ("%s has not ended within %g s"):format(self.what, seconds))
  end
  channel.check(request.reply, "wait for " .. self.what)
  return self.result
end

--- Sends a signal to the program and its children.
---@param signal integer|string|nil 15, "TERM", "SIGTERM"; nil: TERM
---@return boolean false when it had ended already
function Program:kill(signal)
  local number = signals.number(signal or "TERM")
  if self.result then
    return false
  end
  self.vm:_check_alive("signalling " .. self.what)
  local reply = send_kill(self, number)
  if reply.error == signals.ESRCH then
    return false
  end
  channel.check(reply, ("signal %s"):format(self.what))
  return true
end

--- What it has written to its standard output so far.
---@return string
function Program:stdout()
  return self:_output "stdout"
end

--- What it has written to its standard error so far.
---@return string
function Program:stderr()
  return self:_output "stderr"
end

function Program:_output(name)
  if not self.result and not self.vm.channel.ended then
    -- What is there now; a program that never stops writing does not keep us here.
    local deadline = host.now() + CATCH_UP_S
    repeat
      local more = self.vm.channel:pump(0)
    until not more or host.now() >= deadline
  end
  return text_of(self.streams[name])
end

--- Writes to its standard input (it was started with stdin = true).
---@param data string
---@return boolean false when it no longer reads
function Program:write(data)
  self.vm:_check_alive("writing to " .. self.what)
  return feed(self, data, false)
end

--- Closes its standard input.
function Program:close_stdin()
  self.vm:_check_alive("writing to " .. self.what)
  return feed(self, "", true)
end

return program
