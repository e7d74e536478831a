-- Starting a machine and waiting for its agent: what a boot and a restore have in common.
local errors = require "ktstr.errors"
local vm = require "ktstr.vm"

local start = {}

-- scripts/with-kvm has found a KVM that works, an emulated one: it needs more time, and no doubts.
start.in_helper = os.getenv "KTSTR_IN_HELPER" ~= nil

local DEFAULT_TIMEOUT_S = start.in_helper and 240 or 60
local DEFAULT_FREEZE_LIMIT_S = 60

-- Calls f for each complete line; the last one may lack its end.
local function line_sink(f)
  local rest = ""
  return function(text)
    local lines = {}
    rest = rest .. (text or (rest ~= "" and "\n" or ""))
    for line in rest:gmatch "([^\n]*)\n" do
      lines[#lines + 1] = line:gsub("\r$", "")
    end
    -- Before the calls: f may wait, and so come here again.
    rest = rest:match "[^\n]*$"
    for _, line in ipairs(lines) do
      f(line)
    end
  end
end

local function file_sink(path)
  local file, reason = io.open(path, "wb")
  if not file then
    errors.refuse("os", ("cannot write the console to %s"):format(reason))
  end
  return function(text)
    if text then
      file:write(text)
      file:flush()
    else
      file:close()
    end
  end
end

-- What takes in console text, from what the option says.
local function console_sink(console)
  if type(console) == "function" then
    return line_sink(console)
  end
  return console and file_sink(console)
end

---@class ktstr.Session what a run is to be like, whatever the machine is
---@field timeout number|nil
---@field freeze_limit number
---@field console string|fun(line: string)|nil
---@field capture ktstr.CapturePlan|nil
---@field vmlinux string|nil

--- Of the options of a boot or a restore.
---@param given { timeout: number|false|nil, freeze_limit: number|nil, console: string|fun(line: string)|nil,
---  vmlinux: string|nil }
---@return ktstr.Session
function start.session(given)
  return {
    timeout = given.timeout == nil and DEFAULT_TIMEOUT_S or given.timeout or nil,
    freeze_limit = given.freeze_limit or DEFAULT_FREEZE_LIMIT_S,
    console = given.console,
    capture = given.capture and require("ktstr.capture.plan").wrap(given.capture),
    vmlinux = given.vmlinux and require("ktstr.kernels").vmlinux(given.vmlinux),
  }
end

--- Makes a machine with make(timeout), and starts it.
---@param session ktstr.Session
---@param make fun(timeout: number|nil): ktstr.core.machine
---@param fields table as vm.new(), without the session's
---@param before fun(self: ktstr.VM)|nil called before the start
---@return ktstr.VM
function start.machine(session, make, fields, before)
  local sink = console_sink(session.console)
  fields.timeout, fields.freeze_limit = session.timeout, session.freeze_limit
  fields.capture_plan = session.capture
  fields.vmlinux = session.vmlinux
  local self = vm.new(make(session.timeout), fields)
  if sink then
    self.channel:watch_console(sink)
  end
  if before then
    before(self)
  end
  self.machine:start()
  return self
end

--- Calls steps(self); when that fails, the machine is ended and the error raised again.
---@param self ktstr.VM
---@param steps fun(self: ktstr.VM)
function start.finish(self, steps)
  local ok, e = pcall(steps, self)
  if not ok then
    pcall(self.kill, self)
    error(e, 0)
  end
end

--- Calls fn() without compiling anything: what runs once is not worth it, least of all where the processor is
--- emulated.
---@param fn fun(): any
---@return any
function start.interpreted(fn)
  local compiles = jit.status()
  jit.off()
  local ok, result = pcall(fn)
  if compiles then
    jit.on()
  end
  if not ok then
    error(result, 0)
  end
  return result
end

--- Puts a test's own files into a running guest, in place of what is there.
---@param self ktstr.VM
---@param files ktstr.initramfs.Part[]
function start.deliver(self, files)
  for _, part in ipairs(files) do
    self:_put(part.host, part.path, nil, true)
  end
end

return start
