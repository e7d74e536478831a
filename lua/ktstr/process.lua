-- Runs programs: an argument list, no shell, so nothing needs quoting.
--
-- A child dies with ktstr (also when that is killed), starts with default signal handling, and is
-- ended, with all that it started, when SIGINT or SIGTERM comes to ktstr while it is waited for; the
-- error raised then has the code "interrupted".

local ffi = require "ffi"
local errno = require "posix.errno"
local fcntl = require "posix.fcntl"
local poll = require "posix.poll".poll
local signal = require "posix.signal"
local stat = require "posix.sys.stat"
local stdlib = require "posix.stdlib"
local unistd = require "posix.unistd"
local wait = require "posix.sys.wait"
local errors = require "ktstr.errors"

ffi.cdef [[
int prctl(int option, unsigned long arg2, unsigned long arg3, unsigned long arg4, unsigned long arg5);
int setpgid(int pid, int group);
int sigprocmask(int how, const void *set, void *old);
]]

local PR_SET_PDEATHSIG = 1
local SIG_SETMASK = 2
local READ_SIZE = 65536
local POLL_MS = 200 -- how late a signal that comes just before a poll() is noticed
local GRACE_MS = 2000 -- from SIGTERM to SIGKILL
local ORPHANS_MS = 300 -- for what a child started to end after SIGKILL
local STEP_MS = 10

local process = {}

--- Raises "interrupted" once SIGINT or SIGTERM has come.
function process.check_interrupted()
  local core = package.loaded["ktstr.core"]
  local number = core and core.interrupted and core.interrupted()
  if number then
    errors.raise("interrupted", "interrupted by signal " .. number)
  end
end

--- Calls a function that undoes something, to its end: an interruption that arrives in the middle of
--- it makes it start again. It has to bear that.
---@param undo fun(...)
function process.finish(undo, ...)
  local ok, err = pcall(undo, ...)
  if not ok and errors.is(err, "interrupted") then
    ok, err = pcall(undo, ...)
  end
  if not ok then
    error(err, 0)
  end
end

--- The path of a program in PATH, or in the administrator's directories that a user's PATH lacks.
---@param name string
---@return string|nil
function process.find(name)
  local path = (os.getenv "PATH" or "") .. ":/usr/local/sbin:/usr/sbin:/sbin"
  for directory in path:gmatch "[^:]+" do
    local candidate = directory .. "/" .. name
    local info = stat.stat(candidate)
    if info and stat.S_ISREG(info.st_mode) ~= 0 and unistd.access(candidate, "x") then
      return candidate
    end
  end
  return nil
end

local function open_pipe()
  local read_end, write_end, number = unistd.pipe()
  if not read_end then
    errors.raise("os", "cannot make a pipe: " .. tostring(errno.errno(number)))
  end
  for _, fd in ipairs { read_end, write_end } do
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
  end
  return read_end, write_end
end

-- In the child, between fork and exec: nothing here may return or raise.
local function become(argv, options, parent, fds)
  ffi.C.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
  if unistd.getppid() ~= parent then
    unistd._exit(127) -- ktstr died before the line above
  end
  if options.stdin ~= "inherit" then -- a group of its own could not read from the terminal
    ffi.C.setpgid(0, 0)
  end
  ffi.C.sigprocmask(SIG_SETMASK, ffi.new "uint8_t[128]", nil)
  local stdin = fds.stdin or fcntl.open("/dev/null", fcntl.O_RDONLY)
  unistd.dup2(stdin, 0)
  if fds.stdout then
    unistd.dup2(fds.stdout, 1)
  end
  if fds.stderr then
    unistd.dup2(fds.stderr, 2)
  end
  for name, value in pairs(options.env or {}) do
    stdlib.setenv(name, value or nil)
  end
  local ok, message = true, nil
  if options.cwd then
    ok, message = unistd.chdir(options.cwd)
  end
  if ok then
    local args = { [0] = argv[1] }
    for i = 2, #argv do
      args[i - 1] = argv[i]
    end
    message = select(2, unistd.exec(fds.program, args))
  end
  unistd.write(fds.report, message or "unknown error")
  unistd._exit(127)
end

-- One pipe from the child: what came in, and lines as they are complete.
local function make_stream(fd, on_line)
  return { fd = fd, chunks = {}, partial = "", on_line = on_line }
end

local function feed(stream, data)
  if not stream.on_line then
    stream.chunks[#stream.chunks + 1] = data
    return
  end
  -- A carriage return ends a line too: programs that draw progress end lines that way.
  local text = stream.partial .. data
  local from = 1
  for line, after in text:gmatch "([^\r\n]*)[\r\n]()" do
    stream.on_line(line)
    from = after
  end
  stream.partial = text:sub(from)
end

local function close_stream(stream)
  if stream.fd then
    unistd.close(stream.fd)
    stream.fd = nil
  end
  if stream.on_line and stream.partial ~= "" then
    local line = stream.partial
    stream.partial = ""
    stream.on_line(line)
  end
end

-- What a stream's function raises for its last, unended line comes after all are closed.
local function close_streams(child)
  local ok, err = true, nil
  for _, stream in ipairs(child.streams) do
    local closed, reason = pcall(close_stream, stream)
    if not closed then
      ok, err = false, reason
    end
  end
  if not ok then
    error(err, 0)
  end
end

-- Reads what is there, at most one piece a stream. Returns whether anything came.
local function pump(streams, timeout)
  local fds = {}
  for _, stream in ipairs(streams) do
    if stream.fd then
      fds[stream.fd] = { events = { IN = true } }
    end
  end
  if poll(fds, timeout) == nil then
    return false -- EINTR
  end
  local any = false
  for _, stream in ipairs(streams) do
    local entry = stream.fd and fds[stream.fd]
    if entry and entry.revents and (entry.revents.IN or entry.revents.HUP or entry.revents.ERR) then
      local data = unistd.read(stream.fd, READ_SIZE)
      if data == "" then
        close_stream(stream)
      elseif data then
        feed(stream, data)
      end
      any = true
    end
  end
  return any
end

-- Returns how and with what the child ended once it has, nil before.
local function reap(child)
  local pid, how, code = wait.wait(child.pid, wait.WNOHANG)
  if pid == child.pid and how ~= "running" then
    child.how, child.code = how, code
  end
  return child.how
end

-- Ends a child, then what it started; that may go on for a moment, and write, after the child's end.
local function finish(child, number)
  local waited = 0
  while not reap(child) do
    signal.kill(child.target, waited < GRACE_MS and number or signal.SIGKILL)
    poll({}, STEP_MS)
    waited = waited + STEP_MS
  end
  waited = 0
  while child.target < 0 and signal.kill(child.target, signal.SIGKILL) and waited < ORPHANS_MS do
    poll({}, STEP_MS)
    waited = waited + STEP_MS
  end
end

local function spawn(argv, options)
  local program = argv[1]:find("/", 1, true) and argv[1] or process.find(argv[1])
  if not program then
    errors.raise("not-found", ("the program '%s' is not installed"):format(argv[1]))
  end
  local fds = { program = program }
  local ours = {}
  local report
  report, fds.report = open_pipe()
  if options.stdout ~= "inherit" then
    ours.stdout, fds.stdout = open_pipe()
  end
  if options.stderr == "stdout" then
    fds.stderr = fds.stdout
  elseif options.stderr ~= "inherit" then
    ours.stderr, fds.stderr = open_pipe()
  end
  if options.stdin == "inherit" then
    fds.stdin = 0
  end

  io.stdout:flush()
  io.stderr:flush()
  local parent = unistd.getpid()
  local pid, message = unistd.fork()
  if pid == 0 then
    pcall(become, argv, options, parent, fds)
    unistd._exit(127)
  end
  for _, fd in ipairs { fds.report, fds.stdout or false, fds.stderr ~= fds.stdout and fds.stderr or false } do
    if fd then
      unistd.close(fd)
    end
  end
  local failure = pid and unistd.read(report, 512) or message
  unistd.close(report)
  local child = { pid = pid, streams = {} }
  child.target = options.stdin == "inherit" and pid or pid and -pid
  for _, name in ipairs { "stdout", "stderr" } do
    if ours[name] then
      local stream = make_stream(ours[name], options["on_" .. name])
      child[name] = stream
      table.insert(child.streams, stream)
    end
  end
  if failure and failure ~= "" then
    for _, stream in ipairs(child.streams) do
      close_stream(stream)
    end
    if pid then
      process.finish(finish, child, signal.SIGKILL)
    end
    errors.raise("os", ("cannot run '%s': %s"):format(program, failure))
  end
  return child
end

local function collect(child)
  local open = #child.streams > 0
  while open or not reap(child) do
    process.check_interrupted()
    local came = pump(child.streams, open and POLL_MS or 5)
    -- A grandchild may hold the pipes open after the child's end: what is there is read, then no more.
    if not came and reap(child) then
      break
    end
    open = false
    for _, stream in ipairs(child.streams) do
      open = open or stream.fd ~= nil
    end
  end
end

---@class ktstr.process.options
---@field cwd string|nil working directory
---@field env table<string, string|false>|nil variables to set, or to unset (false)
---@field stdin "inherit"|nil nil: /dev/null
---@field stdout "inherit"|nil nil: captured
---@field stderr "inherit"|"stdout"|nil nil: captured; "stdout": joined with it
---@field on_stdout fun(line: string)|nil each line as it comes, instead of capturing
---@field on_stderr fun(line: string)|nil

--- Runs a program to its end.
--- Raises "not-found" when there is no such program, "os" when it cannot be started, "interrupted".
---@param argv string[] program (looked up in PATH) and arguments
---@param options ktstr.process.options|nil
---@return { status: integer|nil, signal: integer|nil, stdout: string, stderr: string }
function process.run(argv, options)
  process.check_interrupted()
  local child = spawn(argv, options or {})
  local ok, err = pcall(collect, child)
  if not ok then
    process.finish(finish, child, signal.SIGTERM)
  end
  process.finish(close_streams, child)
  if not ok then
    error(err, 0)
  end
  local exited = child.how == "exited"
  return {
    status = exited and child.code or nil,
    signal = not exited and child.code or nil,
    stdout = child.stdout and table.concat(child.stdout.chunks) or "",
    stderr = child.stderr and table.concat(child.stderr.chunks) or "",
  }
end

--- "exit status 1" or "signal 9".
---@param result { status: integer|nil, signal: integer|nil }
function process.describe(result)
  return result.status and "exit status " .. result.status or "signal " .. result.signal
end

return process
