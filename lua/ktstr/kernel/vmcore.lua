-- A frozen machine as an ELF core file that crash (8) and drgn open.
local access = require "ktstr.kernel.access"
local address = require "ktstr.kernel.address"
local current = require "ktstr.kernel.current"
local errors = require "ktstr.errors"
local memory = require "ktstr.kernel.memory"

local vmcore = {}

local INFO_MAX = 64 * 1024
local NOTE_HEADER, NOTE_NAME = 12, "VMCOREINFO\0\0"

local function raise_no_info(why)
  errors.raise("unsupported", ("the kernel has no VMCOREINFO (%s)"):format(why),
    "it needs CONFIG_VMCORE_INFO (CONFIG_CRASH_CORE before 6.9), and to have booted to user space")
end

-- The whole note, from where the kernel keeps it for its own crash.
local function note_text(k)
  local m = access.memory(k)
  local note = access.global_word(k, "vmcoreinfo_note")
  if note == access.zero then
    raise_no_info "nothing has filled it"
  end
  local size = access.u32(m, note + 4)
  if size == 0 or size > INFO_MAX or k:read(address.new(note + NOTE_HEADER), #NOTE_NAME) ~= NOTE_NAME then
    raise_no_info "its note is damaged"
  end
  return k:read(address.new(note + NOTE_HEADER + #NOTE_NAME), size)
end

--- The text of the kernel's VMCOREINFO: lines of NAME=value. Raises "unsupported" when it has none (yet).
---@param k ktstr.Kernel
---@return string
function vmcore.info(k)
  if not access.has_symbol(k, "vmcoreinfo_data") or not access.has_symbol(k, "vmcoreinfo_size") then
    if not access.has_symbol(k, "vmcoreinfo_note") then
      raise_no_info "it has no such symbol"
    end
    return note_text(k)
  end
  local data = access.global_word(k, "vmcoreinfo_data")
  local size = access.global_word(k, "vmcoreinfo_size")
  if data == access.zero or size == 0ULL then
    raise_no_info "nothing has filled it"
  elseif size > INFO_MAX then
    raise_no_info "its size is damaged"
  end
  return k:read(address.new(data), tonumber(size))
end

local function pids(vm)
  local list = {}
  for cpu = 0, vm.topology.cpus - 1 do
    local ok, task = memory.try(current.task, vm.k, cpu)
    list[cpu + 1] = ok and task.pid or 0 -- a CPU that the kernel has not brought up runs nothing
  end
  return list
end

--- Writes the machine into an ELF core file; it is frozen meanwhile. The file is there whole or not at all;
--- pages of zeros take no room in it. Raises "unsupported", "os" (disk full), "interrupted", "ended".
---@param vm ktstr.VM
---@param path string on the host
function vmcore.dump(vm, path)
  if type(path) ~= "string" or path == "" then
    errors.refuse("invalid", ("vm:dump wants a file's name, not %s"):format(tostring(path)))
  end
  local function write()
    vm.machine:dump(path, vmcore.info(vm.k), pids(vm))
  end
  if vm:is_frozen() then
    return write()
  end
  -- Not vm:frozen(): a large machine may take longer than its limit.
  vm:freeze()
  local ok, e = pcall(write)
  vm:thaw()
  if not ok then
    error(e, 0)
  end
end

return vmcore
