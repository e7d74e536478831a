-- Puts a machine together from a table, starts it, and waits for the guest's agent.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local initramfs = require "ktstr.initramfs"
local kernels = require "ktstr.kernels"
local modules = require "ktstr.modules"
local options = require "ktstr.options"
local size = require "ktstr.size"
local topology = require "ktstr.topology"
local vm = require "ktstr.vm"

local boot = {}

local MIB = 2 ^ 20
local DEFAULT_TOPOLOGY = "1n1l2c1t"
-- scripts/with-kvm has found a KVM that works, an emulated one: it needs more time, and no doubts.
local IN_HELPER = os.getenv "KTSTR_IN_HELPER" ~= nil
local DEFAULT_TIMEOUT_S = IN_HELPER and 240 or 60
local DEFAULT_FREEZE_LIMIT_S = 60
local MEMORY_UNIT = 2 * MIB
local DOUBT_S = 2 -- of silence, then the host is looked at

-- What is needed beside the initramfs: the kernel, its tables, room to work.
local MEMORY_FLOOR = 96 * MIB
local MEMORY_PER_CPU = 64 * MIB
local MEMORY_LEAST = 256 * MIB

-- Near to a stock boot, so that what is tested is what users run:
--   console=ttyS0  the kernel's messages come out on COM1
--   loglevel=5     of them warnings and worse: each character costs an exit. The rest is in dmesg;
--                  cmdline = "loglevel=7" brings it back
--   panic=-1       a panic ends the run at once instead of standing until its timeout
local CMDLINE = "console=ttyS0 loglevel=5 panic=-1"

---@class ktstr.BootOptions
---@field kernel string|nil a cached version or its prefix by component ("7.3"), a bzImage, a vmlinux, a
---  build tree; nil: $KTSTR_KERNEL, or else the highest version in the cache
---@field topology string|table|nil "1n2l4c2t", a preset's name or a table (ktstr.topology); nil: 1n1l2c1t
---@field memory string|number|nil "768M"; nil: the largest of 64 MiB a CPU, 256 MiB, and what the
---  initramfs needs
---@field cmdline string|nil appended to ktstr's own
---@field files table|nil host paths (or ["/guest/path"] = "host/path") put in, with their libraries
---@field modules string[]|nil kernel modules loaded by name, with what they depend on
---@field timeout number|false|nil seconds of wall time before the run is killed; nil: 60, and 240 in the
---  emulated helper machine; false: never
---@field freeze_limit number|nil seconds that a function may keep the machine frozen (vm:frozen); nil: 60
---@field console string|fun(line: string)|nil nil: kept, shown on failure; a path to write it to; or a
---  function called for each line, at the next wait
---@field la57 boolean|nil 5-level paging
---@field steal_time boolean|nil show the guest the time that the host took from it; nil: true
---@field invariant_tsc boolean|nil true: show the guest an invariant TSC, which its kernel then takes for its
---  clock, even where the host has none; false: hide it, and the kernel takes kvmclock; nil: as the host
---  has it

---@type table<string, ktstr.OptionRule>
boot.rules = {
  kernel = { "string" },
  topology = { "string|table" },
  memory = { "string|number" },
  cmdline = { "string" },
  files = { "table" },
  modules = { "list" },
  scheduler = { "any", unsupported = "sched_ext schedulers are not part of this version" },
  timeout = { "number|boolean", above = 0, max = 7 * 24 * 3600 },
  freeze_limit = { "number", above = 0, max = 24 * 3600 },
  console = { "string|function" },
  la57 = { "boolean" },
  steal_time = { "boolean" },
  invariant_tsc = { "boolean" },
}

--- Bytes that a guest needs at the least to unpack an initramfs: the archive, and twice its contents
--- (its root file system may take half of the memory), beside the kernel.
---@param archive_size number
---@return number
function boot.memory_needed(archive_size)
  return MEMORY_FLOOR + 3 * archive_size
end

--- The memory of a machine in bytes. Raises "invalid" when what was asked is too little.
---@param asked string|number|nil
---@param t ktstr.Topology
---@param archive_size number
---@return number
function boot.memory(asked, t, archive_size)
  local needed = boot.memory_needed(archive_size)
  local own = t:own_memory()
  local bytes
  if asked then
    bytes = size.parse(asked, "memory")
    if own and own ~= bytes then
      errors.refuse("invalid", ("memory is %s, but the topology's nodes have %s in all"):format(
        size.format(bytes), size.format(own)), "leave one of them out")
    end
  else
    bytes = own or math.max(MEMORY_PER_CPU * t.cpus, MEMORY_LEAST, needed)
  end
  bytes = math.ceil(bytes / MEMORY_UNIT) * MEMORY_UNIT
  if bytes < needed then
    errors.refuse("invalid", ("memory %s is too little for the initramfs of %s"):format(size.format(bytes),
      size.format(archive_size)), ("give at least %s"):format(size.format(math.ceil(needed / MIB) * MIB)))
  end
  return bytes
end

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

local function check_modules(names)
  for _, name in ipairs(names) do
    if type(name) ~= "string" then
      errors.refuse("invalid", ("modules: a name must be a string, not a %s"):format(type(name)))
    end
  end
  return names
end

-- Everything up to the first instruction. What goes wrong here is bad input or a lack of this host.
local function prepare(given)
  options.check("ktstr.boot", given, boot.rules)
  local t = topology.parse(given.topology or DEFAULT_TOPOLOGY)
  if given.memory then
    size.parse(given.memory, "memory")
  end
  local kernel = kernels.resolve(given.kernel)
  local loaded = modules.resolve(kernel.modules, check_modules(given.modules or {}))
  local archive, module_paths = initramfs.build {
    files = given.files,
    modules = loaded,
    channel_modules = modules.for_channel(kernel.modules),
    module_directory = "/lib/modules/" .. (kernel.release or "ktstr"),
  }
  local memory = boot.memory(given.memory, t, archive:size())
  local cmdline = given.cmdline and given.cmdline ~= "" and CMDLINE .. " " .. given.cmdline or CMDLINE
  local timeout = given.timeout == nil and DEFAULT_TIMEOUT_S or given.timeout or nil
  local sink = console_sink(given.console)
  local machine = core.machine {
    kernel = kernel.path,
    initrd = archive,
    cmdline = cmdline,
    topology = t:for_machine(memory),
    kaslr = not (" " .. cmdline .. " "):find " nokaslr ",
    la57 = given.la57 or false,
    timeout = timeout,
    steal_time = given.steal_time ~= false,
    invariant_tsc = given.invariant_tsc,
  }
  local self = vm.new(machine, {
    topology = t,
    timeout = timeout,
    freeze_limit = given.freeze_limit or DEFAULT_FREEZE_LIMIT_S,
  })
  if sink then
    self.channel:watch_console(sink)
  end
  machine:start()
  return self, module_paths
end

-- A guest that says nothing on a KVM that cannot run it is the host's lack, not the guest's. The probe runs
-- only when there is doubt: a machine that starts well does not wait for it.
local function blame_host(console)
  if console == "" and not core.doctor().stock_kernel then
    errors.refuse("unsupported", "the KVM of this host cannot run a stock kernel",
      "see 'ktstr doctor', or " .. host.helper_hint)
  end
end

local function wait_ready(self)
  if not self:_wait_ready(not IN_HELPER and DOUBT_S or nil) then
    blame_host(self:console())
    self:_wait_ready()
  end
end

local function load_modules(self, paths)
  local attributes = {}
  for i, path in ipairs(paths) do
    attributes[i] = { "PATH", path }
  end
  if #paths > 0 then
    self:_request(core.wire.OP_LOAD_MODULES, core.wire.pack(attributes), "load its modules")
  end
end

-- Those that scripts still hold, in the order in which they were booted.
local booted, count = setmetatable({}, { __mode = "v" }), 0

--- The machine that was booted last, of those that run.
---@return ktstr.VM|nil
function boot.latest()
  for i = count, 1, -1 do
    if booted[i] and not booted[i].result then
      return booted[i]
    end
  end
end

--- Boots a machine; returns when the guest's agent is ready.
---   local vm = ktstr.boot { kernel = "7.3", topology = "1n2l4c2t" }
--- Raises "invalid", "not-found", "format", "unsupported" for bad input, before anything runs (exit status
--- 2); "ended" and "timeout", with the end of the console, when the guest failed.
---@param given ktstr.BootOptions|nil
---@return ktstr.VM
function boot.boot(given)
  local self, module_paths = errors.preparing(prepare, given or {})
  local ok, e = pcall(wait_ready, self)
  if ok then
    ok, e = pcall(load_modules, self, module_paths)
  end
  if not ok then
    pcall(self.kill, self)
    if errors.is(e, "ended") then
      blame_host(e.result.console)
    end
    error(e, 0)
  end
  count = count + 1
  booted[count] = self
  return self
end

return boot
