-- What a machine is to be, from what a boot is asked for: kernel, topology, memory, initramfs. And what makes
-- a saved one the same (its identity).
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local initramfs = require "ktstr.initramfs"
local kernels = require "ktstr.kernels"
local modules = require "ktstr.modules"
local size = require "ktstr.size"
local topology = require "ktstr.topology"

local plan = {}

local MIB = 2 ^ 20
local DEFAULT_TOPOLOGY = "1n1l2c1t"
local MEMORY_UNIT = 2 * MIB

-- What is needed beside the initramfs: the kernel, its tables, room to work.
local MEMORY_FLOOR = 96 * MIB
local MEMORY_PER_CPU = 64 * MIB
local MEMORY_LEAST = 256 * MIB

-- Near to a stock boot, so that what is tested is what users run:
--   console=ttyS0  the kernel's messages come out on COM1
--   loglevel=5     of them warnings and worse: each character costs an exit. The rest is in dmesg;
--                  cmdline = "loglevel=7" brings it back
--   panic=-1       a panic ends the run at once instead of standing until its timeout
--   tsc=nowatchdog no CPU waits for another one's TSC. On a host that stops vCPUs, 7.3 was seen to hang for
--                  good in the middle of that (watchdog_check_skew) while another CPU was in stop_machine
local CMDLINE = "console=ttyS0 loglevel=5 panic=-1 tsc=nowatchdog"

--- Bytes that a guest needs at the least to unpack an initramfs: the archive, and twice its contents
--- (its root file system may take half of the memory), beside the kernel.
---@param archive_size number
---@return number
function plan.memory_needed(archive_size)
  return MEMORY_FLOOR + 3 * archive_size
end

--- The memory of a machine in bytes. Raises "invalid" when what was asked is too little.
---@param asked string|number|nil
---@param t ktstr.Topology
---@param archive_size number
---@return number
function plan.memory(asked, t, archive_size)
  local needed = plan.memory_needed(archive_size)
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

local function check_modules(names)
  for _, name in ipairs(names) do
    if type(name) ~= "string" then
      errors.refuse("invalid", ("modules: a name must be a string, not a %s"):format(type(name)))
    end
  end
  return names
end

---@class ktstr.Plan
---@field given ktstr.BootOptions what decides over the rest; plain values
---@field topology ktstr.Topology
---@field kernel { path: string, tree: string|nil, release: string|nil, modules: string|nil }
---@field modules ktstr.Module[] to be loaded
---@field module_paths string[] where they are in the guest
---@field parts ktstr.initramfs.Part[] of the initramfs
---@field files ktstr.initramfs.Part[] the test's own
---@field memory number bytes
---@field cmdline string
---@field kaslr boolean
---@field kernel_stamp string|nil what its file was when it was read (ktstr.file_status)
---@field identity string|nil of a machine that was saved

-- The options that make one machine another, in a form that can be kept.
local DECIDING = { "kernel", "topology", "memory", "cmdline", "modules", "la57", "steal_time",
  "invariant_tsc" }

--- Of what was given, what makes one machine another.
---@param given ktstr.BootOptions
---@return ktstr.BootOptions
function plan.deciding(given)
  local deciding = {}
  for _, name in ipairs(DECIDING) do
    deciding[name] = given[name]
  end
  return deciding
end

local function stamp_of(path)
  local status = require("ktstr.file_status").of(path, true)
  return status and status.stamp
end

---@param given ktstr.BootOptions
---@return ktstr.Topology
function plan.topology(given)
  return topology.parse(given.topology or DEFAULT_TOPOLOGY)
end

--- Raises "invalid", "not-found", "format".
---@param given ktstr.BootOptions
---@return ktstr.Plan
function plan.of(given)
  local t = plan.topology(given)
  if given.memory then
    size.parse(given.memory, "memory")
  end
  local kernel = kernels.resolve(given.kernel)
  local loaded = modules.resolve(kernel.modules, check_modules(given.modules or {}))
  local files = initramfs.files(given.files)
  local parts, module_paths = initramfs.parts {
    modules = loaded,
    channel_modules = modules.for_channel(kernel.modules),
    module_directory = "/lib/modules/" .. (kernel.release or "ktstr"),
  }
  local cmdline = given.cmdline and given.cmdline ~= "" and CMDLINE .. " " .. given.cmdline or CMDLINE
  local deciding = plan.deciding(given)
  deciding.kernel = kernel.tree or kernel.path
  return {
    given = deciding,
    topology = t,
    kernel = kernel,
    kernel_stamp = stamp_of(kernel.path),
    modules = loaded,
    module_paths = module_paths,
    parts = parts,
    files = files,
    memory = plan.memory(given.memory, t, initramfs.size(parts, files)),
    cmdline = cmdline,
    kaslr = not (" " .. cmdline .. " "):find " nokaslr ",
  }
end

--- What core.host_cpu takes.
---@param given ktstr.BootOptions
---@param memory number bytes
---@return table
function plan.host(given, memory)
  return {
    topology = plan.topology(given):for_machine(memory),
    la57 = given.la57 or false,
    steal_time = given.steal_time ~= false,
    invariant_tsc = given.invariant_tsc,
  }
end

--- What core.machine takes.
---@param p ktstr.Plan
---@param timeout number|nil
---@param archive userdata the initramfs
---@return table
function plan.machine(p, timeout, archive)
  local machine = plan.host(p.given, p.memory)
  machine.kernel = p.kernel.path
  machine.initrd = archive
  machine.cmdline = p.cmdline
  machine.kaslr = p.kaslr
  machine.timeout = timeout
  return machine
end

local function identify(p)
  return require("ktstr.warm.identity").text {
    kernel = p.kernel.path,
    kernel_release = p.kernel.release,
    cmdline = p.cmdline,
    agent = initramfs.agent(),
    initramfs = p.parts,
    modules = p.modules,
    topology = p.topology,
    memory = p.memory,
    la57 = p.given.la57 or false,
    steal_time = p.given.steal_time ~= false,
    invariant_tsc = p.given.invariant_tsc,
    kaslr = p.kaslr,
    host_cpu = core.host_cpu(plan.host(p.given, p.memory)),
  }
end

--- See ktstr.warm.identity. Raises "unsupported" when the kernel's file is not the one any more that the plan
--- was made for.
---@param p ktstr.Plan
---@return string
function plan.identity(p)
  if not p.identity then
    local identity = identify(p)
    if stamp_of(p.kernel.path) ~= p.kernel_stamp then
      errors.raise("unsupported", ("the kernel %s has changed since it was booted, so nothing says what this "
        .. "machine runs"):format(p.kernel.path), "boot the new one")
    end
    p.identity = identity
  end
  return p.identity
end

return plan
