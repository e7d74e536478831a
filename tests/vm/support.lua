-- What the specs that boot machines share: the tiny guest by itself, and the program as a child.
local fcntl = require "posix.fcntl"
local signal = require "posix.signal"
local unistd = require "posix.unistd"
local wait = require "posix.sys.wait"
local core = require "ktstr.core"
local process = require "ktstr.process"
local topology = require "ktstr.topology"

local support = {}

-- The tiny guest is started for what it does from its first instruction on: no spec takes a saved one, here
-- or in the programs that it runs, but where it asks for that.
require("posix.stdlib").setenv("KTSTR_WARM", "0")

local MIB = 2 ^ 20

--- This program, and the tiny guest beside it.
support.program = assert(unistd.readlink "/proc/self/exe")
support.tiny_kernel = core.paths.guest .. "/tiny"

local type_names = {}
for name, value in pairs(core.wire) do
  if name:match "^MSG_" then
    type_names[value] = name:sub(5)
  end
end

--- A machine with the tiny guest, not yet started. scenarios: "exit=3" or a list, run in order.
---@param scenarios string|string[]
---@param options { topology: string|nil, timeout: number|nil, memory: number|nil }|nil
---@return ktstr.core.machine
function support.tiny_machine(scenarios, options)
  options = options or {}
  local words = {}
  for i, scenario in ipairs(type(scenarios) == "table" and scenarios or { scenarios }) do
    words[i] = "tiny.run=" .. scenario
  end
  return core.machine {
    kernel = support.tiny_kernel,
    cmdline = table.concat(words, " "),
    topology = topology.parse(options.topology or "1n1l1c1t"):for_machine(options.memory or 64 * MIB),
    kaslr = false,
    la57 = false,
    timeout = options.timeout or 30,
  }
end

--- Runs the tiny guest to its end.
---@return table result what join() says, with frames = { { type=, message= } } and console
function support.run_tiny(scenarios, options)
  local machine = support.tiny_machine(scenarios, options)
  local frames = {}
  machine:start()
  while true do
    local kind, payload = machine:recv()
    if not kind and payload == "ended" then
      break
    elseif kind then
      frames[#frames + 1] = { type = type_names[kind], message = core.wire.decode(kind, payload) }
    end
  end
  local result = machine:join()
  result.frames = frames
  result.console = machine:console()
  return result
end

--- What the guest wrote to standard output, over all frames.
function support.output_of(result)
  local pieces = {}
  for _, frame in ipairs(result.frames) do
    if frame.type == "STDOUT" then
      pieces[#pieces + 1] = frame.message.data
    end
  end
  return table.concat(pieces)
end

--- A file with these contents, removed when the test ends.
---@param text string
---@param finally fun(f: fun())
---@param suffix string|nil
---@return string path
function support.temporary_file(text, finally, suffix)
  local base = os.tmpname()
  local path = base .. (suffix or "")
  finally(function()
    os.remove(base)
    os.remove(path)
  end)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

--- Runs the program with arguments.
---@return { status: integer|nil, signal: integer|nil, stdout: string, stderr: string }
function support.ktstr(...)
  return process.run { support.program, ... }
end

--- Runs the text as a script. KTSTR_TINY is the tiny guest's path to it.
---@param text string
---@param finally fun(f: fun())
---@param env table|nil
function support.script(text, finally, env)
  local path = support.temporary_file(text, finally)
  env = env or {}
  env.KTSTR_TINY = support.tiny_kernel
  local result = process.run({ support.program, "script", path }, { env = env })
  result.path = path
  return result
end

--- Starts `ktstr COMMAND` on the text, waits until it has printed something, sends a signal, and waits for
--- its end.
---@param command "script"|"test"
---@return { status: integer|nil, signal: integer|nil }, string path
function support.signal_while(command, text, number, finally)
  local path = support.temporary_file(text, finally, "_spec.lua")
  local read_end, write_end = assert(unistd.pipe())
  local pid = assert(unistd.fork())
  if pid == 0 then
    unistd.dup2(write_end, 1)
    unistd.dup2(fcntl.open("/dev/null", fcntl.O_WRONLY), 2)
    unistd.close(read_end)
    unistd.close(write_end)
    require("posix.stdlib").setenv("KTSTR_TINY", support.tiny_kernel)
    unistd.exec(support.program, { command, path })
    unistd._exit(127)
  end
  unistd.close(write_end)
  unistd.read(read_end, 1) -- the end of file, too, is an answer
  signal.kill(pid, number)
  local _, how, code = wait.wait(pid)
  unistd.close(read_end)
  return { status = how == "exited" and code or nil, signal = how ~= "exited" and code or nil }, path
end

local function count_lines(path, pattern)
  local count = 0
  for line in io.lines(path) do
    if not pattern or line:find(pattern) then
      count = count + 1
    end
  end
  return count
end

local function count_entries(path)
  return #require("posix.dirent").dir(path)
end

--- What this process holds: open files, threads, mappings that are not the allocator's.
function support.holdings()
  collectgarbage()
  collectgarbage()
  return {
    descriptors = count_entries "/proc/self/fd",
    threads = count_entries "/proc/self/task",
    files_mapped = count_lines("/proc/self/maps", "/"),
    kvm = count_lines("/proc/self/maps", "kvm"),
  }
end

--- Processes whose command line holds the text.
function support.processes_with(text)
  local found = {}
  for _, entry in ipairs(require("posix.dirent").dir "/proc") do
    local file = entry:match "^%d+$" and io.open(("/proc/%s/cmdline"):format(entry))
    if file then
      local line = file:read "*a" or ""
      file:close()
      if line:find(text, 1, true) and tonumber(entry) ~= unistd.getpid() then
        found[#found + 1] = entry
      end
    end
  end
  return found
end

return support
