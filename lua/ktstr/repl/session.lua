-- A person (or a pipe) in front of a machine: reads, evaluates, shows, and goes on whatever happens.
local core = require "ktstr.core"
local commands = require "ktstr.repl.commands"
local complete = require "ktstr.repl.complete"
local errors = require "ktstr.errors"
local evaluate = require "ktstr.repl.evaluate"
local history = require "ktstr.repl.history"
local show = require "ktstr.repl.show"
local unistd = require "posix.unistd"
require "ktstr.repl.task_commands"
require "ktstr.repl.memory_commands"

local PUMPS = 1000 -- messages of the guest that are taken in before a prompt

---@class ktstr.ReplSession
---@field env table the globals; env.vm is the machine
---@field failed boolean whether any line failed
---@field over boolean the session is to end
local Session = {}
Session.__index = Session

local session = {}

-- Lines from a terminal.
local Terminal = {}
Terminal.__index = Terminal

local function open_terminal(owner)
  local self = setmetatable({}, Terminal)
  self.editor = core.editor {
    history = history.SIZE,
    complete = function(line)
      return owner:complete(line)
    end,
  }
  for _, line in ipairs(history.load()) do
    self.editor:add(line)
    self.last = line
  end
  return self
end

function Terminal:line(prompt)
  local line, why = self.editor:line(prompt)
  if line and line:find "%S" and line ~= self.last then
    self.editor:add(line)
    history.add(line)
    self.last = line
  end
  return line, why
end

-- Ctrl-C ends what f does, and not the session.
function Terminal:run(f, ...)
  return core.interruptible(f, ...)
end

function Terminal:close()
  self.editor:close()
end

-- Lines from elsewhere: as a script, it is over when it is interrupted.
local Pipe = {}
Pipe.__index = Pipe

function Pipe:line()
  local line = io.stdin:read "*l"
  return line, not line and "eof" or nil
end

function Pipe:run(f, ...)
  local ok, e = pcall(f, ...)
  if not ok and errors.is(e, "interrupted") then
    error(e, 0)
  end
  return ok, e
end

function Pipe:close() end

--- Whether there is a terminal to talk to.
---@return boolean
function session.has_terminal()
  return unistd.isatty(0) ~= nil and unistd.isatty(1) ~= nil
end

---@param env table the globals that are seen at the prompt
---@param out file*|nil nil: standard output
---@param err file*|nil nil: standard error
---@return ktstr.ReplSession
function session.new(env, out, err)
  return setmetatable({
    env = env,
    out = out or io.stdout,
    err = err or io.stderr,
    failed = false,
    over = false,
  }, Session)
end

--- The machine that commands are about: what `vm` is.
---@return ktstr.VM
function Session:machine()
  local vm = self.env.vm
  if type(vm) ~= "table" then
    errors.raise("invalid", "`vm` is no machine")
  end
  return vm
end

--- Its kernel. Raises why it has none.
---@return ktstr.Kernel
function Session:kernel()
  return self:machine().k or errors.raise("invalid", "`vm` has no kernel to look into")
end

--- What Tab does on a line.
---@param line string up to the cursor
---@return string|nil insert
---@return string|nil choice
function Session:complete(line)
  local kind, prefix = commands.argument(line)
  if kind then
    return complete.argument(self:kernel(), kind, prefix)
  end
  return complete.line(line, self.env, commands.names())
end

-- `k` is the kernel of what `vm` is, until somebody gives the name to something else.
function Session:name_kernel()
  local vm = self.env.vm
  if vm == self.named then
    return
  end
  local before = rawget(self.env, "k")
  self.named = vm
  if before == nil or before == self.k then
    local ok, k = errors.try(self.kernel, self)
    self.k = ok and k or nil
    rawset(self.env, "k", self.k)
  end
end

function Session:say(text)
  if text and text ~= "" then
    self.out:write(text, "\n")
  end
end

function Session:complain(text)
  self.failed = true
  self.out:flush()
  self.err:write(text, "\n")
end

-- Calls f as a command. An interruption, and what nobody else caught, is shown.
function Session:guarded(f, ...)
  local ok, e = self.input:run(f, ...)
  if not ok then
    self:complain(tostring(e))
  end
end

-- What the guest has said while nobody listened. The machine's end is told once.
function Session:look_after_machine()
  local vm = self.env.vm
  if type(vm) ~= "table" or not vm.channel or vm == self.ended then
    return
  end
  for _ = 1, PUMPS do
    if not vm.channel:pump(0) then
      break
    end
  end
  local alive, e = pcall(vm._check_alive, vm, "at the prompt")
  if not alive then
    self.ended = vm
    self:say(tostring(e))
  end
end

function Session:prompt()
  local vm = self.env.vm
  local ok, frozen = pcall(function()
    return vm:is_frozen()
  end)
  return ok and frozen and "frozen> " or "ktstr> "
end

local function show_results(self, values)
  if values.n > 0 then
    self:say(show.values(values))
  end
end

-- Runs a function of the user's, and shows what comes of it.
function Session:execute(f, ...)
  self:guarded(function(...)
    local values, complaint = evaluate.call(f, ...)
    if values then
      show_results(self, values)
    else
      self:complain(complaint)
    end
  end, ...)
end

function Session:run_command(command, arguments)
  self:guarded(function()
    local ok, text = pcall(command.run, self, unpack(arguments))
    if ok then
      self:say(text and commands.harmless(text))
    elseif errors.is(text, "interrupted") then
      error(text, 0)
    else
      self:complain(tostring(text))
    end
  end)
end

-- Reads on until the parser has enough. A function, or nothing when there is none to run.
function Session:read_chunk(text)
  while true do
    local chunk, message = evaluate.parse(text, self.env)
    if chunk then
      return chunk
    elseif message then
      return self:complain(message)
    end
    local line, why = self.input:line "   ...> "
    if not line then
      return why == "eof" and self:complain "prompt: the input ended in the middle of a statement" or nil
    end
    text = text .. "\n" .. line
  end
end

function Session:turn()
  self:guarded(self.look_after_machine, self)
  self:guarded(self.name_kernel, self)
  local line, why = self.input:line(self:prompt())
  if not line then
    self.over = why == "eof"
    return
  elseif not line:find "%S" then
    return
  end
  local command, arguments = commands.parse(line, self.env)
  if command then
    return self:run_command(command, arguments)
  elseif arguments then
    return self:complain(arguments)
  end
  local chunk = self:read_chunk(line)
  if chunk then
    self:execute(chunk)
  end
end

--- Reads and evaluates until the end of input. Raises only "interrupted": SIGTERM, or SIGINT where there is
--- no terminal.
---@param first function|nil called before the first prompt, as if it had been typed
function Session:run(first, ...)
  local terminal = session.has_terminal()
  self.input = terminal and open_terminal(self) or setmetatable({}, Pipe)
  core.patient(terminal)
  local ok, e = pcall(function(...)
    if first then
      self:name_kernel()
      self:execute(first, ...)
    end
    while not self.over do
      self:turn()
    end
  end, ...)
  core.patient(false)
  self.input:close()
  if not ok then
    error(e, 0)
  end
end

return session
