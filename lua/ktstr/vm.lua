-- A running machine, as a script sees it: programs, files, time, the end.
local core = require "ktstr.core"
local capture = require "ktstr.capture"
local channel = require "ktstr.channel"
local errors = require "ktstr.errors"
local freeze = require "ktstr.freeze"
local host = require "ktstr.host"
local outcome = require "ktstr.outcome"
local program = require "ktstr.program"
local save = require "ktstr.save"

local wire = core.wire

local SHUTDOWN_S = 60 -- from the request until the machine must have ended
local DEFAULT_FILE_MODE = tonumber("644", 8)

---@class ktstr.VM
---@field topology ktstr.Topology
---@field release string the guest kernel's version string
---@field channel ktstr.Channel
---@field plan ktstr.Plan|nil what it was made of
---@field capture_plan ktstr.CapturePlan|nil what captures record beside what they always do
---@field watching table<integer, ktstr.Watch>|nil its watches, by their numbers
---@field periodic_set ktstr.Periodic|nil its captures on a clock, the last set of them
---@field name string|nil of the test that it is for
---@field on_crash fun(what: string, signal: integer)|nil a program has crashed that nobody sent a signal
---@field warm boolean it was started from a saved machine, and not booted
---@field k ktstr.Kernel its kernel from outside: symbols, types, objects, memory
local VM = {}

-- k is made when it is first asked for.
function VM.__index(self, name)
  if name ~= "k" then
    return VM[name]
  end
  local k = require("ktstr.kernel").new(self)
  rawset(self, "k", k)
  return k
end

local vm = {}

-- Machines that have not ended, with the order they were made in; the collector may take one away (its memory
-- goes with it).
local live, made = setmetatable({}, { __mode = "k" }), 0

---@param machine ktstr.core.machine
---@param fields { topology: ktstr.Topology, timeout: number|nil, freeze_limit: number|nil,
---  plan: ktstr.Plan|nil, warm: boolean|nil, capture_plan: ktstr.CapturePlan|nil }
---@return ktstr.VM
function vm.new(machine, fields)
  local self = setmetatable({
    machine = machine,
    topology = fields.topology,
    timeout = fields.timeout,
    freeze_limit = fields.freeze_limit,
    plan = fields.plan,
    vmlinux = fields.vmlinux,
    warm = fields.warm or false,
    channel = channel.new(machine),
  }, VM)
  self.capture_plan = fields.capture_plan
  -- A guest's first capture waits for it, for a moment.
  machine:wake_on_plan(true)
  self.channel.on_plan = function()
    capture.answer(self)
  end
  self.channel.on_watch = function()
    self:_serve_watches()
  end
  self.channel.on_kernel_op = function(message)
    require("ktstr.ops").serve(self, message)
  end
  made = made + 1
  live[self] = made
  return self
end

--- The machine that was started last, of those that run and whose agent is ready.
---@return ktstr.VM|nil
function vm.latest()
  local latest
  for self, number in pairs(live) do
    if self.channel.ready and (not latest or number > live[latest]) then
      latest = self
    end
  end
  return latest
end

--- Ends every machine that still runs.
function vm.close_all()
  local all = {}
  for self in pairs(live) do
    all[#all + 1] = self
  end
  for _, self in ipairs(all) do
    -- An interruption is what brings us here: it must not keep the others alive.
    pcall(self.kill, self)
  end
end

---@return integer
function vm.live_count()
  local count = 0
  for _ in pairs(live) do
    count = count + 1
  end
  return count
end

-- The result, once and for all. The machine has ended or was told to.
function VM:_finish()
  if not self.result then
    if self.watching then
      require("ktstr.watch").remember(self)
    end
    local result = self.machine:join()
    self.channel.ended = true
    self.channel:close_console()
    live[self] = nil
    self.last_checkpoint = nil
    self.result = outcome.of(result, (self.machine:console()))
    if self.result.failure then
      require("ktstr.postmortem").of_kernel(self, self.result.failure)
    end
  end
  return self.result
end

function VM:_ended_error(doing)
  local result = self:_finish()
  if self.closed then
    return errors.new("ended", ("the machine has been %s (%s)"):format(self.closed, doing))
  end
  return errors.new(result.timed_out and "timeout" or "ended",
    ("the machine ended while %s: %s"):format(doing, outcome.describe(result, self.timeout)), nil,
    { detail = outcome.tail(result.console), result = result })
end

function VM:_check_alive(doing)
  if self.channel.ended or self.result then
    error(self:_ended_error(doing), 0)
  end
  self:_serve_watches()
end

-- Calls the functions of what watches have seen. In a freeze of the script's own they wait.
function VM:_serve_watches()
  if self.watching and not self.machine:is_frozen() then
    require("ktstr.watch").serve(self)
  end
end

--- Asks the agent and waits for its reply, whatever it says.
---@param what string what is asked, for messages: "read '/x'"
function VM:_ask(op, body, what, options)
  self:_check_alive("asked to " .. what)
  local request = self.channel:post(op, body, options)
  self.channel:wait(function()
    return request.reply
  end)
  if not request.reply then
    error(self:_ended_error("asked to " .. what), 0)
  end
  return request.reply
end

--- As _ask; raises code "guest" when the reply tells of a failure.
function VM:_request(op, body, what)
  return channel.check(self:_ask(op, body, what), what)
end

--- Waits for the agent; false when it is not there after `seconds` (nil: as long as it takes). Raises
--- "ended" or "timeout" with the end of the console.
function VM:_wait_ready(seconds)
  self.channel:wait(function()
    return self.channel.ready
  end, seconds and host.now() + seconds)
  local ready = self.channel.ready
  if not ready and self.channel.ended then
    error(self:_ended_error "booting", 0)
  elseif not ready then
    return false
  end
  if ready.version ~= wire.WIRE_VERSION then
    errors.raise("format", ("the guest's agent speaks version %s of the protocol, not %d"):format(
      tostring(ready.version), wire.WIRE_VERSION), "run 'make' again")
  end
  self.release = ready.release
  return true
end

--- Runs a program in the guest and waits for its end.
---   local r = vm:exec { "cat", "/proc/cmdline", timeout = 5 }
--- A program that outlives its timeout is killed with all its children: signal is 9, timed_out true.
--- Raises "guest" when it cannot be started, "ended" or "timeout" when the machine ends first, "invalid".
---@param options ktstr.ExecOptions
---@return ktstr.ExecResult
function VM:exec(options)
  return program.exec(self, options)
end

--- Starts a program in the background. Raises as vm:exec.
---@param options ktstr.ExecOptions without `timeout`; stdin = true leaves it open for :write
---@return ktstr.Program
function VM:spawn(options)
  return program.spawn(self, options)
end

local function check_guest_path(path, what)
  if type(path) ~= "string" or path:sub(1, 1) ~= "/" then
    errors.refuse("invalid", ("%s: '%s' is not an absolute path in the guest"):format(what, tostring(path)))
  end
end

-- Calls sink(data) for each piece of a file in the guest.
local function read_pieces(self, path, sink)
  local what = ("read '%s'"):format(path)
  local offset = 0
  repeat
    local data = self:_request(wire.OP_READ, wire.pack {
      { "PATH", path }, { "OFFSET", offset }, { "LENGTH", wire.WIRE_DATA_MAX },
    }, what).body
    sink(data)
    offset = offset + #data
  until #data < wire.WIRE_DATA_MAX
end

-- Writes what source() returns, piece by piece, until it returns nil. The first piece cuts the file; with
-- `replace` it takes the place of whatever is there, and is not written through a link.
local function write_pieces(self, path, mode, source, replace)
  local what = ("write '%s'"):format(path)
  local offset, flags = 0, wire.WRITE_TRUNCATE + wire.WRITE_MKDIR + (replace and wire.WRITE_REPLACE or 0)
  local data = source() or ""
  repeat
    self:_request(wire.OP_WRITE, wire.write_head(path, offset, mode, flags) .. data, what)
    offset, flags = offset + #data, 0
    data = source()
  until not data
end

--- The contents of a file in the guest. Raises "guest", "ended".
---@param path string
---@return string
function VM:read(path)
  check_guest_path(path, "vm:read")
  local pieces = {}
  read_pieces(self, path, function(data)
    pieces[#pieces + 1] = data
  end)
  return table.concat(pieces)
end

--- Writes a file in the guest; it is cut first, and made with the directories above it when there is
--- none. Raises "guest", "ended".
---@param path string
---@param data string
---@param mode integer|nil permission bits of a new file; nil: 0644
function VM:write(path, data, mode)
  check_guest_path(path, "vm:write")
  if type(data) ~= "string" and type(data) ~= "number" then
    errors.refuse("invalid", ("vm:write: the data for '%s' must be a string, not a %s"):format(path,
      type(data)))
  end
  data = tostring(data)
  local first = 1
  write_pieces(self, path, mode or DEFAULT_FILE_MODE, function()
    local piece = data:sub(first, first + wire.WIRE_DATA_MAX - 1)
    first = first + #piece
    return piece ~= "" and piece or nil
  end)
end

--- Copies a file from the host into the guest. Raises "not-found", "guest", "ended".
---@param path string on the host
---@param guest string
---@param mode integer|nil permission bits; nil: as on the host
function VM:put(path, guest, mode)
  check_guest_path(guest, "vm:put")
  self:_put(path, guest, mode, false)
end

function VM:_put(path, guest, mode, replace)
  local file = host.open(path)
  local ok, e = pcall(write_pieces, self, guest, mode or host.mode(path), function()
    return file:read(wire.WIRE_DATA_MAX)
  end, replace)
  file:close()
  if not ok then
    error(e, 0)
  end
end

--- Copies a file from the guest to the host. On failure the host has no such file. Raises "guest",
--- "not-found", "os", "ended".
---@param guest string
---@param path string on the host
function VM:get(guest, path)
  check_guest_path(guest, "vm:get")
  local file = host.open(path, "wb")
  local ok, e = pcall(read_pieces, self, guest, function(data)
    local written, reason = file:write(data)
    if not written then
      errors.raise("os", ("cannot write '%s': %s"):format(path, reason))
    end
  end)
  local closed, reason = file:close()
  if ok and not closed then
    ok, e = false, errors.new("os", ("cannot write '%s': %s"):format(path, reason))
  end
  if not ok then
    os.remove(path)
    error(e, 0)
  end
end

--- Lets the guest run. Raises "ended" or "timeout" when the machine ends meanwhile.
---@param seconds number of wall time
function VM:sleep(seconds)
  if type(seconds) ~= "number" or seconds < 0 or seconds ~= seconds then
    errors.refuse("invalid", ("vm:sleep wants seconds, not %s"):format(tostring(seconds)))
  end
  self:_check_alive "asked to sleep"
  self.channel:wait(function()
    return false
  end, host.now() + seconds)
  self:_check_alive "sleeping"
end

--- Stops every vCPU, the devices and the guest's clocks, until vm:thaw(): the guest notices nothing. The
--- run's timeout stands still meanwhile, and there is no limit of its own. A call that needs the running
--- guest raises "frozen".
--- Raises "frozen" (it is already), "busy" (somebody else has been freezing it for five seconds), "timeout"
--- (a vCPU did not stop: which, and where it was), "ended".
function VM:freeze()
  freeze.freeze(self)
end

--- Lets a frozen machine go on. Raises "running" when it is not frozen, "ended".
function VM:thaw()
  freeze.thaw(self)
end

---@return boolean
function VM:is_frozen()
  return self.machine:is_frozen()
end

--- Freezes, calls fn(vm.k), thaws: also when fn raises. Returns what fn returns. A function that runs for
--- longer than the machine's freeze_limit is ended by an error "freeze-limit", the machine thawed at once.
--- Raises as vm:freeze(), and what fn raises.
---   local rip = vm:frozen(function() return vm:regs(0).rip end)
---   local comm = vm:frozen(function(k) return k:per_cpu("runqueues", 0).curr.comm end)
---@param fn fun(k: ktstr.Kernel): any
---@return any ...
function VM:frozen(fn)
  return freeze.frozen(self, fn)
end

--- Registers of a vCPU of a frozen machine; tostring() shows them all. Raises "running", "invalid", "ended".
---@param cpu integer the guest's CPU number, from 0
---@return ktstr.Registers
function VM:regs(cpu)
  return freeze.regs(self, cpu)
end

--- Executes up to `count` instructions on one vCPU of a frozen machine; the others stand still, interrupts
--- wait. Raises "running", "invalid", "timeout" (after 5 s), "ended".
---@param cpu integer
---@param count integer|nil nil: 1
---@return integer executed fewer than asked where the vCPU halted, or has not been started
function VM:step(cpu, count)
  return freeze.step(self, cpu, count or 1)
end

--- Freezes, records, thaws. What is recorded the machine's plan says (ktstr.plan, `capture` of ktstr.boot):
--- by default the runqueues, all tasks, the state of sched_ext, BPF maps, registers, clocks. Raises as
--- vm:freeze(); "invalid" for a name that is not 1 to 64 printable characters. One that timed out is a
--- placeholder among vm:captures().
---@param tag string a name used twice: the later capture takes the earlier one's place
---@return ktstr.Capture
function VM:capture(tag)
  return freeze.capture(self, tag)
end

--- In which phase of the script's scenario captures are from now on, those on a clock, of watches and of the
--- guest, too: what ktstr.series tells apart by phase.
---   vm:phase "warm-up"; vm:sleep(1); vm:phase "storm"; vm:exec { "storm" }; vm:phase()
--- Raises "invalid" for a name that is not 1 to 64 printable characters, "ended".
---@param name string|nil nil: in none
function VM:phase(name)
  if name ~= nil and (type(name) ~= "string" or name == "") then
    errors.refuse("invalid", ("vm:phase wants a name, not '%s'"):format(tostring(name)))
  end
  self:_check_alive "told of a phase"
  self.machine:set_phase(name)
end

--- The early one of a dual capture, "early": for who finds that a failure is on its way (a task has waited
--- too long, a monitor shows a stall). The late one is "failure", which the guest's kernel brings about by
--- itself. There is one of each; the early one only before the late one. Raises as vm:capture().
---   if #monitor:stalls() > 0 then vm:capture_early() end
---@return boolean taken
function VM:capture_early()
  return freeze.capture_early(self)
end

--- Captures `count` times over a workload of `over` seconds that begins now: between 10 % and 90 % of it, in
--- equal steps, as periodic_000, periodic_001, ... The time is the guest's: freezes are taken out, and so are
--- pauses (:pause(), or the guest's SCENARIO_PAUSE). They are taken whatever the script does meanwhile.
--- vm:captures() has each of them in order; one that could not be taken as a placeholder.
---   local periodic = vm:periodic { count = 10, over = 5 }
---   vm:exec { "sleep", "5" }
---   local switches = ktstr.series(periodic:finish(), "cpus[0].rq.nr_switches")
--- Raises "invalid" for more than 64, or closer than 100 ms; "busy" when some are going on; "ended".
---@param given ktstr.PeriodicOptions
---@return ktstr.Periodic
function VM:periodic(given)
  return require("ktstr.periodic").start(self, given)
end

--- Reads and writes the kernel's memory, in order: globals, per-CPU variables, addresses, fields of tasks.
--- "hot" while the guest runs, each word at once; `cold` all of them in one freeze. The first that fails ends
--- the batch: what was done before it stays, and the error has its `index`, and the `values` up to there.
---   vm:kernel_ops { { op = "read", symbol = "jiffies_64" } }[1]
---   vm:kernel_ops { cold = true,
---     { op = "read", symbol = "runqueues", cpu = 1, field = "curr.pid" },
---     { op = "write", task = 1, field = "static_prio", value = 120 },
---     { op = "or", symbol = "sysctl_sched_features", value = 4 } }
--- Raises "invalid", "not-found", "ambiguous", "per-cpu", "unmapped", "running" (what cannot be done at once
--- while the guest runs); cold as vm:freeze(), and then nothing was done.
---@param list table ktstr.KernelOp[] with `cold`
---@return any[] values of each entry: what was read; of "or" what was there before; of a write true
function VM:kernel_ops(list)
  self:_check_alive "asked for kernel operations"
  return require("ktstr.ops").batch(self, list)
end

--- Samples the running kernel's state from outside, at an interval, until the monitor is stopped or the
--- machine ends. Nothing in the guest takes part. While the machine is frozen nothing is sampled. Raises as
--- vm.k where the kernel has no types.
---   local monitor = vm:monitor { interval = 0.1 }
---   for _, point in ipairs(monitor:series("nr_running", 0)) do print(point.elapsed, point.value) end
---   assert(#monitor:stalls() == 0)
---@param options { interval: number|nil, keep: integer|nil, fields: (string|table)[]|nil }|nil
---  interval: seconds, 0.1. keep: the newest so many samples, 6000 unless that is more than 64 MiB.
---  fields: names of fields and groups (time, runqueue, scx, events, schedstat, domains), all by default; and
---  one's own: { name = "queued", per_cpu = "runqueues", path = "cfs.h_nr_queued" }
---@return ktstr.Monitor
function VM:monitor(options)
  self:_check_alive "asked for a monitor"
  return require("ktstr.kernel.monitor").monitor(self.k, options)
end

--- Calls fn(record) when the guest writes to a place in its memory; record.fire says who wrote what: .cpu,
--- .rip, .symbol, .task, .backtrace, .old, .new, .raced. The record is taken right behind the write, and the
--- guest goes on; fn gets it as soon as the script waits for the machine, or asks it for something. With
--- frozen = true the guest waits for fn, for freeze_limit at most. What fn raises is raised by the call that
--- was waited in. Without a function the writes are only counted.
---   local w = vm:watch("sysctl_sched_base_slice", function(snap) print(snap.fire) end)
---   vm:watch(vm.k:task(1):member_ "static_prio", { when = { "<", 100 } }, fn)
--- Raises "not-found" (no such symbol), "invalid" (not 1, 2, 4 or 8 bytes, not aligned, no memory),
--- "per-cpu", "unsupported" (no more can be had), as vm:freeze().
---@param what string|ktstr.Address|ktstr.Object|number a symbol ("x", "x.member"), an address, a member
---@param given { len: integer|nil, when: table|string|nil, frozen: boolean|nil, backend: string|nil,
---  signed: boolean|nil, rate: integer|nil }|fun(snap: ktstr.Capture)|nil
---  len: bytes, as the type has them. when: "changed", { op, value }: ==, ~=, <, <=, >, >=, & (has one of
---  the bits) of the new value. backend: "register" or "page". rate: so many are recorded a second, 1000.
---@param fn fun(snap: ktstr.Capture)|nil
---@return ktstr.Watch w w:hits(), w:cancel()
function VM:watch(what, given, fn)
  return require("ktstr.watch").watch(self, what, given, fn)
end

--- Calls fn(record) when a function of the kernel is called: its first instruction is about to be executed.
--- With returns = true also when that call returns. record.fire has .kind ("call", "return"), .cpu, .task,
--- .value (what is returned); snap:cpu(fire.cpu).regs has the arguments (rdi, rsi, rdx, rcx, r8, r9). Else as
--- vm:watch().
---   vm:on_call("do_exit", function(snap) print(snap.fire, snap:cpu(snap.fire.cpu).regs.rdi) end)
--- A debug register is needed for the function and for each call that has not returned; there are three.
--- Then an INT3 serves, where this KVM stops at one. Raises "not-found", "unsupported" (neither can be had).
---@param what string|ktstr.Address a function, or any instruction's address
---@param given { returns: boolean|nil, frozen: boolean|nil, rate: integer|nil }|fun(snap: ktstr.Capture)|nil
---@param fn fun(snap: ktstr.Capture)|nil
---@return ktstr.Watch w w:hits(), w:cancel()
function VM:on_call(what, given, fn)
  return require("ktstr.watch").on_call(self, what, given, fn)
end

--- All captures so far, in order: the script's, and those that programs in the guest asked for with
--- ktstr-capture. Also after the machine's end.
---@return ktstr.Capture[]
function VM:captures()
  return capture.list(self)
end

--- Writes the machine into an ELF core file on the host, which crash (9) and drgn (0.3) open. It goes on
--- afterwards, or stays frozen. The file is there whole or not at all; pages of zeros take no room in it.
--- Raises as vm:freeze(); "unsupported" when the kernel keeps no VMCOREINFO, "os" when the disk is full.
---@param path string
function VM:dump(path)
  require("ktstr.kernel.vmcore").dump(self, path)
end

-- The machine as it stands, as an image in C.
function VM:_image(directory)
  return save.image(self, directory)
end

--- Saves the machine: its memory, its CPUs, its devices, as they stand between two instructions. It goes on
--- afterwards (or stays frozen), and has not noticed. With a path the image is kept in that directory, which
--- is made; without one it has no name, and is gone when nobody holds it any more.
---   local image = vm:save()
---   local a, b = image:boot(), image:boot()
--- Raises as vm:freeze(); "busy" when there is something at that path, "os" when the disk is full.
---@param path string|nil
---@return ktstr.Image
function VM:save(path)
  return save.save(self, path)
end

--- Remembers how the machine stands, for vm:rewind(). It goes on afterwards, or stays frozen. Raises as
--- vm:freeze().
---@return ktstr.Checkpoint
function VM:checkpoint()
  return save.checkpoint(self)
end

--- Takes the machine back to a checkpoint: memory, CPUs, devices, clocks. It is frozen afterwards; vm:thaw()
--- lets it go on from there. Requests and programs that came after the checkpoint have never been: who waits
--- for one gets an error. What was heard from the machine since (its console, output, captures) is kept.
--- Unlike a restore it is the same machine, so its random numbers come again, and its clock shows the time of
--- the checkpoint. Raises "invalid" when there is no checkpoint, or another machine's; as vm:freeze().
---@param checkpoint ktstr.Checkpoint|nil nil: the one taken last
function VM:rewind(checkpoint)
  save.rewind(self, checkpoint)
end

--- What the agent holds, for leak tests: descriptors, children, rss (bytes), cpu_ns of its I/O thread.
---@return { descriptors: integer, children: integer, rss: number, cpu_ns: number }
function VM:agent_usage()
  local values = channel.attributes(self:_request(wire.OP_SELF, "", "tell what its agent holds").body)
  return {
    descriptors = values.COUNT,
    children = values.COUNT2,
    rss = values.LENGTH,
    cpu_ns = values.CPU_NS,
  }
end

--- A round trip to the agent; its length in seconds.
---@return number
function VM:ping()
  local start = host.now()
  self:_request(wire.OP_PING, "", "answer")
  return host.now() - start
end

--- The kernel's console so far (the last 4 MiB of it).
---@return string
function VM:console()
  return self.result and self.result.console or (self.machine:console())
end

--- Kills what runs in the guest, powers it off, waits for the end; a frozen machine is thawed first. The same
--- result when called again.
--- It never raises because the guest failed: look at result.passed.
---@return ktstr.Result
function VM:shutdown()
  if self.result then
    return self.result
  end
  self.channel:end_first_moments()
  if not self.channel.ended then
    if self.machine:is_frozen() then
      errors.try(self.machine.thaw, self.machine)
    end
    local deadline = host.now() + SHUTDOWN_S
    local asked, e = pcall(self.channel.post, self.channel, wire.OP_SHUTDOWN,
      wire.pack { { "CODE", 0 } })
    if not asked and not errors.is(e, "ended") then
      error(e, 0)
    end
    local ended = self.channel:wait(function()
      return self.channel.ended
    end, deadline)
    if not ended then
      self.machine:kill()
    end
  end
  self.closed = "shut down"
  return self:_finish()
end

--- Ends the machine at once.
---@return ktstr.Result
function VM:kill()
  if not self.result then
    self.channel:end_first_moments()
    self.machine:kill()
    self.closed = "killed"
  end
  return self:_finish()
end

return vm
