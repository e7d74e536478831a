-- The kernel of a record: as vm.k of a frozen machine, with the memory that was copied and no other. It goes
-- on from what was known of the machine's kernel when the plan was compiled: image, slide, where per-CPU
-- memory is.
local ffi = require "ffi"
require "ktstr.kernel.c" -- declares the functions
local errors = require "ktstr.errors"
local kernel = require "ktstr.kernel"
local lines = require "ktstr.kernel.lines"
local memory = require "ktstr.kernel.memory"
local percpu = require "ktstr.kernel.percpu"

local C = ffi.C

local recorded = {}

---@class ktstr.RecordOrigin what records need to know of the kernel that they are of
---@field image ktstr.KernelImage
---@field topology ktstr.Topology
---@field release string|nil

--- What a kernel's records need of it.
---@param k ktstr.Kernel
---@return ktstr.RecordOrigin
function recorded.origin(k)
  if not k._percpu_known then
    percpu.measure(k)
  end
  lines.prepare(k) -- by its build, which no record has
  return {
    image = k._image,
    lines = k._lines or false,
    no_lines = k._no_lines,
    topology = k._vm.topology,
    release = k._vm.release,
    area = { start = k._area.start + 0ULL, size = k._area.size + 0ULL },
    static_area = { start = k._static_area.start + 0ULL, size = k._static_area.size + 0ULL },
    percpu = k._percpu,
    is_whole = k._percpu_known,
  }
end

local function new(view, origin, regs)
  local k = kernel.new {
    release = origin.release,
    topology = origin.topology,
    machine = { view = function()
      return view -- and so holds it
    end },
    regs = function(_, cpu)
      return regs(cpu)
    end,
    is_frozen = function()
      return true
    end,
  }
  k._image = origin.image
  k._lines, k._no_lines = origin.lines, origin.no_lines
  k._prepared = true
  k.is_recorded = true
  return k
end

-- One pid to its task; k:task() of a machine goes by a table of the kernel's that is not recorded. Where the
-- record was cut short, of a task that is not there nobody knows whether it was.
local function task_by_pid(k, pid)
  local by_pid = k._by_pid
  if not by_pid then
    by_pid = {}
    local ok, e = memory.try(function()
      for task in k:tasks() do
        by_pid[task.pid] = task
      end
    end)
    k._by_pid, k._by_pid_error = by_pid, not ok and e or nil
  end
  if not by_pid[pid] and k._by_pid_error then
    error(k._by_pid_error, 0)
  end
  return by_pid[pid]
end

--- The kernel of a record.
---@param origin ktstr.RecordOrigin
---@param record ffi.cdata* struct record *
---@param regs fun(cpu: integer): ktstr.Registers
---@param holder any what keeps the record
---@return ktstr.Kernel
function recorded.new(origin, record, regs, holder)
  local view = ffi.new "struct view"
  C.record_open_view(record, view)
  local k = new(view, origin, regs)
  k._holder = holder
  k._area.start, k._area.size = origin.area.start, origin.area.size
  k._static_area.start, k._static_area.size = origin.static_area.start, origin.static_area.size
  k._percpu, k._percpu_known = origin.percpu, true
  k.task = task_by_pid
  return k
end

--- One without memory, to check plans with before there is a machine.
---@param image ktstr.KernelImage
---@param topology ktstr.Topology
---@return ktstr.Kernel
function recorded.empty(image, topology)
  local view = ffi.new "struct view"
  C.view_init_recorded(view, nil, 0, 0)
  local k = new(view, { image = image, topology = topology }, function()
    errors.raise("ended", "there is no machine")
  end)
  percpu.measure(k)
  return k
end

return recorded
