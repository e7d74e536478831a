-- The conversation with the guest's agent: requests, their replies, and all that comes in between.
-- Every wait of the library goes through channel:pump(), so callbacks are served whatever is waited for.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local host = require "ktstr.host"

local wire = core.wire

-- While the guest does not take a frame in, what it sends is read: it may be waiting for that.
local SEND_SLICE_S = 0.05

---@class ktstr.Channel
---@field machine ktstr.core.machine
---@field ready table|nil what SYS_RDY said
---@field ended boolean
---@field on_kernel_op fun(message: table)|nil serves a program of the guest that asks of the kernel's
---@field run_id string|nil of a machine that was saved: what its agent's hello has to say
local Channel = {}
Channel.__index = Channel

local channel = {}

---@param machine ktstr.core.machine
---@return ktstr.Channel
function channel.new(machine)
  return setmetatable({
    machine = machine,
    ended = false,
    last_id = 0,
    pending = {}, -- by request id: { reply = }
    programs = {}, -- by id: what takes in a program's output
    reports = {}, -- of workers, since the last take_reports()
    lifecycle = {},
    console_offset = 0,
  }, Channel)
end

--- Goes on with a machine that was saved: with request ids that nothing in it has, and its hello by a new
--- name.
---@param last_id integer
---@param run_id string
function Channel:go_on(last_id, run_id)
  self.last_id, self.run_id = last_id, run_id
end

--- A machine that was saved has said hello: what it touches soon is what the next one will.
---@param seconds number
function Channel:begin_first_moments(seconds)
  self.moments_end = host.now() + seconds
  self.moments_over = self.moments_end + seconds
end

--- Notes what it has touched, once. When nobody has looked for long it has touched more than what is first,
--- and a later machine notes it.
function Channel:end_first_moments()
  if self.moments_end then
    self.moments_end = nil
    if host.now() < self.moments_over then
      self.machine:note_touched()
    end
  end
end

-- As machine:recv(). The first moments end in time, however long it is waited for the guest.
local function receive(self, timeout)
  local left = self.moments_end and self.moments_end - host.now()
  if left and left > 0 then
    local kind, payload = self.machine:recv(math.min(left, timeout or left))
    if kind or payload ~= "timeout" or (timeout and timeout <= left) then
      return kind, payload
    end
    timeout = timeout and timeout - left
  end
  if left then
    self:end_first_moments()
  end
  return self.machine:recv(timeout)
end

--- Calls sink(text) for the console's new text at every wait, and sink(nil) when no more will come.
---@param sink fun(text: string|nil)
function Channel:watch_console(sink)
  self.console_sink = sink
  self.machine:wake_on_console(true)
end

--- Hands new console text to the sink. The offset moves first: the sink may wait itself.
function Channel:drain_console()
  if not self.console_sink then
    return
  end
  local text, offset = self.machine:console(self.console_offset)
  self.console_offset = offset
  if text ~= "" then
    self.console_sink(text)
  end
end

function Channel:close_console()
  self:drain_console()
  if self.console_sink then
    self.console_sink(nil)
    self.console_sink = nil
  end
end

local handlers = {}

handlers[wire.MSG_SYS_RDY] = function(self, message)
  if self.run_id and message.run_id ~= self.run_id then
    return
  end
  self.ready = message
  -- What has come before is the earlier run's.
  self.reports, self.lifecycle = {}, {}
end

handlers[wire.MSG_OP_REPLY] = function(self, message)
  local request = self.pending[message.id]
  if request then
    self.pending[message.id] = nil
    request.reply = message
    if request.on_reply then
      request.on_reply(message)
    end
  end
end

local function on_output(name)
  return function(self, message)
    local program = self.programs[message.program]
    if program then
      program:take_output(name, message.data)
    end
  end
end

handlers[wire.MSG_STDOUT] = on_output "stdout"
handlers[wire.MSG_STDERR] = on_output "stderr"

handlers[wire.MSG_WORKER_REPORT] = function(self, message)
  self.reports[#self.reports + 1] = message
end

-- Of the machine's own kernel: whoever has that says what becomes of it.
handlers[wire.MSG_KERNEL_OP_REQUEST] = function(self, message)
  if self.on_kernel_op then
    self.on_kernel_op(message)
  end
end

handlers[wire.MSG_LIFECYCLE] = function(self, message)
  self.lifecycle[#self.lifecycle + 1] = message
end

--- Waits for one thing to happen and deals with it.
---@param timeout number|nil seconds; nil: for ever
---@return boolean whether anything came; false after the timeout and once the machine has ended
function Channel:pump(timeout)
  local kind, payload = receive(self, timeout)
  self:drain_console()
  if not kind then
    self.ended = self.ended or payload == "ended"
    if payload == "plan" then
      self.on_plan()
    elseif payload == "watch" then
      self.on_watch()
    end
    return payload == "console" or payload == "plan" or payload == "watch"
  end
  local handler = handlers[kind]
  local message = handler and core.wire.decode(kind, payload)
  if message then
    handler(self, message)
  end
  return true
end

-- A wait for a guest that stands still would never end.
local function check_running(self)
  if self.machine:is_frozen() then
    errors.raise("frozen", "the machine is frozen, and this needs it to run", "vm:thaw() first")
  end
end

--- Pumps until done() is true; false when the machine ended or `deadline` (host.now()) passed first. Raises
--- "frozen".
---@param done fun(): any
---@param deadline number|nil
---@return boolean
function Channel:wait(done, deadline)
  while not done() do
    local left = deadline and deadline - host.now()
    if self.ended or (left and left <= 0) then
      return false
    end
    check_running(self)
    self:pump(left)
  end
  return true
end

function Channel:send(kind, payload)
  while true do
    local ok, e = pcall(self.machine.send, self.machine, kind, payload, SEND_SLICE_S)
    if ok then
      return
    end
    if not errors.is(e, "timeout") then
      error(e, 0)
    end
    self:pump(0)
  end
end

-- An id that no request or program in flight has. 0 is never one.
local function new_id(self)
  repeat
    self.last_id = self.last_id % 0x7fffffff + 1
  until not self.pending[self.last_id] and not self.programs[self.last_id]
  return self.last_id
end

--- Sends a request; its reply comes later.
---@param op integer
---@param body string
---@param options { program: ktstr.Program|nil, on_reply: fun(reply: table)|nil }|nil
---  program: what the request starts; it gets the request's id, and its output from then on
---@return table request .reply once it is there
function Channel:post(op, body, options)
  options = options or {}
  check_running(self)
  local id = new_id(self)
  local request = { id = id, on_reply = options.on_reply }
  self.pending[id] = request
  if options.program then
    options.program.id = id
    self.programs[id] = options.program
  end
  local ok, e = pcall(self.send, self, wire.MSG_OP_REQUEST, wire.op_request(id, op, body))
  if not ok then
    self.pending[id] = nil
    self.programs[id] = nil
    error(e, 0)
  end
  return request
end

--- What is under way, for go_back().
---@return table mark
function Channel:mark()
  local mark = { pending = {} }
  for id in pairs(self.pending) do
    mark.pending[id] = true
  end
  return mark
end

-- To the host's programs ECANCELED: what a reply to a request that never was would say.
local CANCELED = 125

--- The guest has been taken back to when the mark was made: whatever was begun since gets an error for an
--- answer.
---@param mark table
function Channel:go_back(mark)
  local lost = {}
  for id in pairs(self.pending) do
    if not mark.pending[id] then
      lost[#lost + 1] = id
    end
  end
  for _, id in ipairs(lost) do
    handlers[wire.MSG_OP_REPLY](self, {
      id = id, error = CANCELED, strerror = "Operation canceled",
      body = wire.pack { { "MESSAGE", "the machine was taken back to before it was asked" } },
    })
  end
  self.reports = {}
end

---@return table[] reports since the last call
function Channel:take_reports()
  local reports = self.reports
  self.reports = {}
  return reports
end

--- The attributes in bytes, by name; a repeated one is the last.
---@param body string
---@return table<string, any>
function channel.attributes(body)
  local values = {}
  for _, attribute in ipairs(wire.unpack(body)) do
    values[attribute[1]] = attribute[2] == nil and true or attribute[2]
  end
  return values
end

--- Raises code "guest" when a reply tells of a failure in the guest.
---@param reply table
---@param what string what was asked: "read '/proc/x'"
function channel.check(reply, what)
  if reply.error == 0 then
    return reply
  end
  local message = channel.attributes(reply.body).MESSAGE
  local reason = reply.strerror or ("error %d"):format(reply.error)
  if message and not message:find(reason, 1, true) then
    reason = ("%s (%s)"):format(message, reason)
  elseif message then
    reason = message
  end
  return errors.raise("guest", ("the guest could not %s: %s"):format(what, reason), nil,
    { errno = reply.error })
end

return channel
