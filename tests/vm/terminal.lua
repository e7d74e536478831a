-- A program on a terminal of its own, as a person would use it: type, wait for text, look how it ends.
local fcntl = require "posix.fcntl"
local poll = require "posix.poll"
local signal = require "posix.signal"
local stdlib = require "posix.stdlib"
local termio = require "posix.termio"
local unistd = require "posix.unistd"
local wait = require "posix.sys.wait"
local host = require "ktstr.host"

local terminal = {}

local LIMIT_S = 60 -- for anything to happen; far above what it takes
local SLICE_S = 0.02 -- between two looks whether the program has ended
local READ_SIZE = 65536

local Terminal = {}
Terminal.__index = Terminal

-- In the child: the terminal becomes the controlling one of a session of its own.
local function become(argv, env, name)
  unistd.setpid "s"
  local fd = fcntl.open(name, fcntl.O_RDWR)
  for target = 0, 2 do
    unistd.dup2(fd, target)
  end
  if fd > 2 then
    unistd.close(fd)
  end
  for variable, value in pairs(env) do
    stdlib.setenv(variable, value or nil)
  end
  unistd.exec(argv[1], { unpack(argv, 2) })
end

--- Starts a program on a new terminal; it is killed when the test ends.
---@param argv string[]
---@param env table<string, string|false>
---@param finally fun(f: fun())
function terminal.start(argv, env, finally)
  local fd = assert(stdlib.openpt(fcntl.O_RDWR + fcntl.O_NOCTTY))
  assert(stdlib.grantpt(fd))
  assert(stdlib.unlockpt(fd))
  local name = assert(stdlib.ptsname(fd))
  -- Held open, so that the terminal's settings can be looked at after the program's end.
  local keep = assert(fcntl.open(name, fcntl.O_RDWR + fcntl.O_NOCTTY))
  for _, one in ipairs { fd, keep } do
    fcntl.fcntl(one, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
  end
  local self = setmetatable({ fd = fd, keep = keep, text = "", seen = 0 }, Terminal)
  self.settings = termio.tcgetattr(keep)
  self.pid = assert(unistd.fork())
  if self.pid == 0 then
    pcall(become, argv, env, name)
    unistd._exit(127)
  end
  finally(function()
    if not self.ended then
      signal.kill(self.pid, signal.SIGKILL)
      wait.wait(self.pid)
    end
    unistd.close(keep)
    unistd.close(fd)
  end)
  return self
end

---@param text string what is typed
function Terminal:type(text)
  assert(unistd.write(self.fd, text) == #text)
end

-- Takes in what was printed; false when nothing comes before the deadline.
local function take_in(self, deadline)
  local left = math.max(0, deadline - host.now())
  local fds = { [self.fd] = { events = { IN = true } } }
  if poll.poll(fds, math.ceil(left * 1000)) ~= 1 then
    return false
  end
  local text = unistd.read(self.fd, READ_SIZE)
  self.text = self.text .. (text or "")
  return text ~= nil and text ~= ""
end

-- Whether the program has ended; its status is kept.
local function has_ended(self)
  if not self.ended then
    local pid, how, code = wait.wait(self.pid, wait.WNOHANG)
    if pid == self.pid and how ~= "running" then
      self.ended = how == "exited" and code or 128 + code
    end
  end
  return self.ended ~= nil
end

--- Waits until the text has been printed, after what was waited for before; fails after a minute, or when the
--- program ends.
---@param text string as it is
---@return string what was printed up to there, since the last wait
function Terminal:wait_for(text)
  local deadline = host.now() + LIMIT_S
  while true do
    local first, last = self.text:find(text, self.seen + 1, true)
    if first then
      local before = self.text:sub(self.seen + 1, last)
      self.seen = last
      return before
    end
    local over = has_ended(self)
    local came = take_in(self, math.min(deadline, host.now() + SLICE_S))
    if not came and (over or host.now() >= deadline) then
      error(("'%s' was not printed; since the last wait: %q"):format(text, self.text:sub(self.seen + 1)), 2)
    end
  end
end

--- Waits for the program's end.
---@return integer status 128 and the number after a signal
function Terminal:status()
  local deadline = host.now() + LIMIT_S
  while not has_ended(self) do
    -- What it prints has to be taken in, or it would wait for that.
    take_in(self, host.now() + SLICE_S)
    assert(host.now() < deadline, "the program does not end")
  end
  return self.ended
end

---@param number integer
function Terminal:kill(number)
  signal.kill(self.pid, number)
end

--- The terminal's settings as at the start, and now: equal when nothing was left changed.
---@return table, table
function Terminal:both_settings()
  return self.settings, termio.tcgetattr(self.keep)
end

return terminal
