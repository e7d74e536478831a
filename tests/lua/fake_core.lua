-- A core without a machine: the guest's side of the protocol in Lua, so that the library can be tested
-- where there is no KVM. Payloads are Lua tables instead of bytes. Time passes only when somebody waits.
local fake = {}

local ENOENT, ESRCH, EPIPE = 2, 3, 32
local strerror = {
  [ENOENT] = "No such file or directory",
  [ESRCH] = "No such process",
  [EPIPE] = "Broken pipe",
}

local names = {
  "SYS_RDY", "LIFECYCLE", "STDOUT", "STDERR", "WORKER_REPORT", "EXIT", "OP_REPLY", "OP_REQUEST",
  "KERNEL_OP_REQUEST",
}
local ops = {
  "SPAWN", "EXEC", "WAIT", "KILL", "STDIN", "READ", "WRITE", "LOAD_MODULES", "CGROUP_CREATE",
  "CGROUP_REMOVE", "WORKERS_CREATE", "WORKERS_START", "WORKERS_STOP", "SHUTDOWN", "SELF", "PING",
  "RESTORED",
}

-- A write's head is joined with its data by "..".
local Head = {
  __concat = function(head, data)
    return { head = head, data = data }
  end,
}

local function new_wire()
  local wire = {
    WIRE_VERSION = 1,
    WIRE_DATA_MAX = 1000, -- small, so that files come in pieces
    WIRE_ATTR_VALUE_MAX = 65531,
    WRITE_TRUNCATE = 1,
    WRITE_APPEND = 2,
    WRITE_MKDIR = 4,
    WRITE_REPLACE = 8,
  }
  for i, name in ipairs(names) do
    wire["MSG_" .. name] = 1000 + i
  end
  for i, name in ipairs(ops) do
    wire["OP_" .. name] = i
  end
  function wire.pack(list)
    return list
  end
  function wire.unpack(body)
    return type(body) == "table" and body or {}
  end
  function wire.op_request(id, op, body)
    return { id = id, op = op, body = body }
  end
  function wire.write_head(path, offset, mode, flags)
    return setmetatable({ path = path, offset = offset, mode = mode, flags = flags }, Head)
  end
  function wire.decode(_, payload)
    return payload
  end
  return wire
end

local Machine = {}
Machine.__index = Machine

function Machine:push(name, payload)
  table.insert(self.queue, { self.core.wire["MSG_" .. name], payload })
end

function Machine:reply(id, body, errno)
  self:push("OP_REPLY", {
    id = id,
    error = errno or 0,
    strerror = strerror[errno],
    body = body or {},
  })
end

function Machine:finish(result)
  self.result = self.result or result
end

function Machine:start()
  self.started = true
  if self.core.boots then
    self.core.boots(self)
  elseif not self.image then
    self:push("SYS_RDY", { version = 1, release = "7.3.4-fake", pid = 1 })
  end
end

function Machine:recv(timeout)
  local frame = table.remove(self.queue, 1)
  if frame then
    return frame[1], frame[2]
  end
  if self.result then
    return nil, "ended"
  end
  local event = table.remove(self.core.events, 1)
  if event then
    event(self)
    return self:recv(timeout)
  end
  assert(timeout, "the library waits for ever")
  self.core.clock = self.core.clock + timeout
  return nil, "timeout"
end

local agent = {}

local function values_of(body)
  local values = { args = {}, controls = {}, paths = {}, params = {}, env = {} }
  local lists = { ARG = "args", CONTROL = "controls", PATH = "paths", PARAM = "params", ENV = "env" }
  for _, attribute in ipairs(type(body) == "table" and body or {}) do
    if lists[attribute[1]] then
      table.insert(values[lists[attribute[1]]], attribute[2])
    end
    values[attribute[1]] = attribute[2]
  end
  return values
end

-- A program's output and end, as its function in core.commands says.
local function run_program(machine, id, values)
  local command = machine.core.commands[values.args[1]]
  if not command then
    return nil
  end
  local program = command(values) or {}
  program.id = id
  machine.programs[id] = program
  for _, name in ipairs { "stdout", "stderr" } do
    for _, data in ipairs(type(program[name]) == "table" and program[name] or { program[name] }) do
      machine:push(name:upper(), { program = id, data = data })
    end
  end
  return program
end

local function end_of(program)
  return { { "PID", 100 + program.id }, program.signal and { "SIGNAL", program.signal }
    or { "STATUS", program.status or 0 } }
end

function agent.EXEC(machine, id, values)
  local program = run_program(machine, id, values)
  if not program then
    machine:reply(id, { { "MESSAGE", values.args[1] } }, ENOENT)
  elseif program.endless then
    program.waiting = id
  else
    machine.programs[id] = nil
    machine:reply(id, end_of(program))
  end
end

function agent.SPAWN(machine, id, values)
  local program = run_program(machine, id, values)
  machine:reply(id, program and { { "PID", 100 + id } }, not program and ENOENT or nil)
end

function agent.WAIT(machine, id, values)
  local program = machine.programs[values.PROGRAM]
  if not program then
    machine:reply(id, {}, ESRCH)
  elseif program.endless then
    program.waiting = id
  else
    machine:reply(id, end_of(program))
  end
end

function agent.KILL(machine, id, values)
  local program = machine.programs[values.PROGRAM]
  if not program or not program.endless then
    return machine:reply(id, {}, ESRCH)
  end
  program.endless, program.signal = false, values.SIGNAL
  machine:reply(id)
  if program.waiting then
    machine:reply(program.waiting, end_of(program))
  end
end

function agent.STDIN(machine, id, _, body)
  local b1, b2 = body:byte(1, 2)
  local program = machine.programs[b1 + b2 * 256]
  if not program then
    return machine:reply(id, {}, EPIPE)
  end
  table.insert(machine.stdin, body:sub(5))
  machine:reply(id)
end

function agent.READ(machine, id, values)
  local data = machine.files[values.PATH]
  if type(data) == "function" then
    data = data()
  end
  if not data then
    return machine:reply(id, { { "MESSAGE", values.PATH } }, ENOENT)
  end
  machine:reply(id, data:sub(values.OFFSET + 1, values.OFFSET + values.LENGTH))
end

function agent.WRITE(machine, id, _, body)
  local head = body.head
  local old = machine.files[head.path] or ""
  if head.flags % 2 == 1 then
    old = ""
  end
  assert(#old == head.offset, "pieces are written in order")
  machine.files[head.path] = old .. body.data
  machine.modes[head.path] = head.mode
  machine.flags[head.path] = (machine.flags[head.path] or 0) + head.flags
  machine:reply(id)
end

function agent.LOAD_MODULES(machine, id, values)
  machine.loaded = values.paths
  machine:reply(id)
end

function agent.CGROUP_CREATE(machine, id, values)
  machine.cgroups[values.CGROUP] = values.controls
  machine:reply(id)
end

function agent.WORKERS_CREATE(machine, id, values)
  table.insert(machine.groups, values)
  machine:reply(id, { { "GROUP", #machine.groups } })
end

function agent.WORKERS_START(machine, id)
  machine:reply(id)
end

function agent.WORKERS_STOP(machine, id)
  local count = 0
  for g, group in ipairs(machine.groups) do
    for index = 0, group.COUNT - 1 do
      local report = { group = g, index = index }
      for name, value in pairs(machine.core.report(group, index)) do
        report[name] = value
      end
      machine:push("WORKER_REPORT", report)
      count = count + 1
    end
  end
  machine.groups = {}
  machine:reply(id, { { "COUNT", count } })
end

function agent.SELF(machine, id)
  machine:reply(id, { { "COUNT", 7 }, { "COUNT2", 0 }, { "LENGTH", 65536 }, { "CPU_NS", 1 } })
end

function agent.PING(machine, id)
  machine:reply(id)
end

-- core.hellos: run ids that come before the right one.
function agent.RESTORED(machine, id, values)
  machine.restored = values
  for _, run_id in ipairs(machine.core.hellos or {}) do
    machine:push("SYS_RDY", { version = 1, release = "an earlier run's", pid = 1, run_id = run_id or nil })
  end
  machine:push("SYS_RDY", { version = 1, release = "7.3.4-fake", pid = 1, run_id = values.RUN_ID })
  machine:reply(id)
end

function agent.SHUTDOWN(machine, id, values)
  machine:reply(id)
  machine:push("EXIT", { code = values.CODE })
  machine:finish { exit_reason = "Shutdown", exit_code = values.CODE, timed_out = false, seconds = 1,
    reported = true, guest_exit = values.CODE, last_words = "", channel = {} }
end

function Machine:send(kind, payload)
  assert(kind == self.core.wire.MSG_OP_REQUEST)
  if self.result then
    error(setmetatable({ code = "ended", message = "the machine has ended" }, self.core.error_metatable), 0)
  end
  local name = ops[payload.op]
  table.insert(self.requests, { op = name, body = payload.body, id = payload.id })
  if self.core.before_op then
    self.core.before_op(self, name, payload)
    if self.result then
      return
    end
  end
  agent[name](self, payload.id, values_of(payload.body), payload.body)
end

function Machine:wake_on_console(on)
  self.wakes = on
end

function Machine:console(from)
  return self.text:sub((from or 0) + 1), #self.text
end

-- core.freeze_errors: what the next calls raise, in turn; false for none.
function Machine:freeze(limit)
  local e = table.remove(self.core.freeze_errors or {}, 1)
  if e then
    error(e, 0)
  end
  self.frozen_now, self.freeze_limit = true, limit
end

function Machine:thaw()
  if not self.frozen_now then
    error(setmetatable({ code = "running", message = "not frozen" }, self.core.error_metatable), 0)
  end
  self.frozen_now = false
end

function Machine:is_frozen()
  return self.frozen_now or false
end

function Machine:frozen(limit, fn, ...)
  self:freeze(limit)
  local function finish(ok, ...)
    self.frozen_now = false
    if not ok then
      error((...), 0)
    end
    return ...
  end
  return finish(pcall(fn, ...))
end

function Machine:regs(cpu)
  return self.core.regs(cpu)
end

function Machine:step(cpu, count)
  return count
end

function Machine:capture(tag)
  local e = table.remove(self.core.freeze_errors or {}, 1)
  if e then
    error(e, 0)
  end
  self.taken = self.taken or {}
  local regs, sregs = self.core.regs(0)
  table.insert(self.taken, { tag = tag, number = #self.taken + 1, source = "main", elapsed = 1.5, clock = 2,
    cpus = {
    { regs = regs, sregs = sregs },
  } })
end

function Machine:start_periodic(plan, waits)
  self.clocks = self.clocks or {}
  table.insert(self.clocks, { plan = plan, waits = waits, at = self.core.clock, said = {} })
end

function Machine:periodic(control)
  table.insert(self.clocks[#self.clocks].said, { control or "look", self.core.clock })
  return "running", 0, 0
end

function Machine:wake_on_plan() end

-- Of a kernel that nobody can read.
function Machine:view()
  local ffi = require "ffi"
  require "ktstr.kernel.c"
  if not self.kernel_view then
    self.kernel_view = ffi.new "struct view"
    self.kernel_view.memory = ffi.cast("const struct guest_memory *", self.kernel_view)
  end
  return self.kernel_view
end

function Machine:set_plan(bytes, reason)
  self.capture_plan = { bytes, reason }
end

function Machine:captures()
  return self.taken or {}
end

local Image = {}
Image.__index = Image

function Image:identity()
  assert(not self.closed, "used after close()")
  return self.identity_text
end

function Image:script()
  return self.script_text
end

function Image:publish(path)
  self.path = path
end

function Image:close()
  self.closed = true
end

-- core.save_error: what the next one raises.
function Machine:save(identity, script, directory)
  assert(self.frozen_now, "only what stands still can be saved")
  local e = self.core.save_error
  self.core.save_error = nil
  if e then
    if e.code == "ended" then
      self:kill()
    end
    error(e, 0)
  end
  local image = setmetatable({ identity_text = identity, script_text = script, directory = directory,
    files = {} }, Image)
  for path, data in pairs(self.files) do
    image.files[path] = data
  end
  table.insert(self.core.images, image)
  return image
end

function Machine:rewind(image)
  assert(self.frozen_now, "only what stands still can be taken back")
  assert(not image.closed)
  self.queue, self.rewound = {}, image
end

function Machine:note_touched()
  self.noted = true
end

function Machine:kill()
  self:finish { exit_reason = "ExternalKill", exit_code = -1, timed_out = false, seconds = 1,
    reported = false, last_words = "", channel = {} }
end

function Machine:join()
  assert(self.result, "join before the end")
  return self.result
end

local Cpio = {}
Cpio.__index = Cpio

function Cpio:file(path, mode, data)
  self.entries[path] = { kind = "file", mode = mode, data = data }
end

function Cpio:host_file(path, mode, host)
  self.entries[path] = { kind = "host", mode = mode, host = host }
end

function Cpio:dir(path, mode)
  self.entries[path] = { kind = "dir", mode = mode }
end

function Cpio:symlink(path, target)
  self.entries[path] = { kind = "symlink", target = target }
end

function Cpio:char_device(path, mode, major, minor)
  self.entries[path] = { kind = "char", mode = mode, major = major, minor = minor }
end

function Cpio:size()
  return self.bytes or 2 * 2 ^ 20
end

--- A new core; the fields below are a test's to change.
function fake.new()
  local core = {
    version = "0.0.0",
    error_metatable = {},
    wire = new_wire(),
    clock = 1000,
    machines = {},
    images = {}, -- that were saved
    events = {}, -- functions of the machine, each called at a wait with nothing to receive
    commands = {}, -- by name: function(values) -> { stdout=, stderr=, status=, signal=, endless= }
    needed = {},
    probe = { kvm = "ok", stock_kernel = true },
  }
  function core.report()
    return {}
  end
  local function new_machine(options)
    local machine = setmetatable({
      core = core,
      options = options,
      queue = {},
      requests = {},
      programs = {},
      groups = {},
      cgroups = {},
      stdin = {},
      modes = {},
      flags = {},
      files = { ["/proc/stat"] = "cpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\n" },
      text = "",
    }, Machine)
    table.insert(core.machines, machine)
    return machine
  end
  core.machine = new_machine
  -- core.restore_errors: what the next calls raise, in turn; false for none.
  function core.machine_saved(image, options)
    assert(not image.closed)
    local e = table.remove(core.restore_errors or {}, 1)
    if e then
      error(e, 0)
    end
    local machine = new_machine(options)
    machine.image = image
    for path, data in pairs(image.files) do
      machine.files[path] = data
    end
    return machine
  end
  function core.host_cpu()
    return "FakeCPU 1-2-3"
  end
  function core.cpio()
    core.archive = setmetatable({ entries = {} }, Cpio)
    return core.archive
  end
  function core.elf_needed(path)
    return core.needed[path] or {}
  end
  function core.work_types()
    return {
      { name = "SpinWait", group = 1, params = {} },
      { name = "Bursty", group = 1, params = {
        { name = "burst_ms", default = 50, min = 1, max = 60000, unit = "ms" },
        { name = "sleep_ms", default = 100, min = 0, max = 60000, unit = "ms" },
      } },
      { name = "PipeIo", group = 2, params = {} },
    }
  end
  function core.doctor()
    return core.probe
  end
  function core.interrupted() end
  return core
end

return fake
