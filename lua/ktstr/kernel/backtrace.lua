-- The calls that a task or a CPU is in: what the crash utility's users know as `bt`.
--
-- The walk itself is C's (core/kernel/unwind.h). Here is where it begins, which unwind tables there are, and
-- what the addresses are called.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local address = require "ktstr.kernel.address"
local c = require "ktstr.kernel.c"
local current = require "ktstr.kernel.current"
local errors = require "ktstr.errors"
local lines = require "ktstr.kernel.lines"
local memory = require "ktstr.kernel.memory"
local modules = require "ktstr.kernel.modules"
local traced = require "ktstr.kernel.traced"

local C = ffi.C
local has_flag = bit.band

local backtrace = {}

local ENTRY, INACTIVE = "struct orc_entry", "struct inactive_task_frame"
local TABLE_MAX = 64 * 2 ^ 20 -- bytes of one
local MODULES_MAX = 8 -- tables of modules that one backtrace may take
local STACK_SIZE = 16384 -- where the types do not say
local USER_MODE = 3

local Start, Unwind = ffi.typeof "struct unwind_start", ffi.typeof "struct unwind"
local Tables, Stacks = ffi.typeof "struct unwind_table[?]", ffi.typeof "struct unwind_stack[1]"
local Result = ffi.typeof "struct unwind_result"

---@class ktstr.Frame
---@field address ktstr.Address of the code; of a call the address that it returns to
---@field name string "pipe_read+0x2b3"; the address where no symbol is near
---@field symbol string|nil "pipe_read"
---@field sp ktstr.Address its stack pointer
---@field regs ktstr.Address|nil of the struct pt_regs, when it was interrupted here
---@field interrupted boolean by an interrupt or an exception; false: it called the frame before
---@field guessed boolean by the frame pointer: no unwind table covers what it called
---@field traced boolean tracing (a function graph, a return probe) sees what it called return, before it does
---@field source ktstr.SourceLine|nil where a vmlinux with DWARF is to be had (k:line); of a call the call's

---@class ktstr.Backtrace : ktstr.Frame[] the innermost first; tostring() is a line for each
---@field task ktstr.Object|nil whose stack it is; nil: a CPU's that the kernel does not know yet
---@field pid integer|nil the task's, and its name, as they were then: objects do not outlive a thaw
---@field comm string|nil
---@field cpu integer|nil that was stopped in it; nil: the task sleeps
---@field whole boolean it ends where the stack does
---@field ending string why it ends
---@field user boolean it is entered from user mode
---@field user_ip ktstr.Address|nil where that was
---@field user_regs ktstr.Address|nil of the struct pt_regs that it left; nil: user mode runs

-- --- unwind tables ---

local function layout_of(k)
  local layout = ffi.new "struct orc_layout"
  layout.size = access.size(k, ENTRY)
  for _, name in ipairs { "sp_offset", "bp_offset", "sp_reg", "bp_reg", "type", "signal", "end" } do
    if access.has(k, ENTRY, name) then
      local member = access.type(k, ENTRY):member(name)
      layout[name].offset = member.offset
      layout[name].bits = member.bits > 0 and member.bits or member.type.size * 8
    end
  end
  return layout
end

local function bytes_at(k, at, size)
  if size > TABLE_MAX then
    errors.raise("format", "the kernel's unwind tables are damaged (too large)")
  end
  local data = ffi.new("uint8_t[?]", size)
  c.check(C.view_read(k._view, 0, at, data, size))
  return data
end

-- ips, entries: where they lie; first: where the addresses are counted from.
local function read_table(k, ips, entries, count, first)
  local layout = layout_of(k)
  local ret = ffi.new "struct orc *[1]"
  c.check(C.orc_create(bytes_at(k, ips, count * 4), first, bytes_at(k, entries, count * layout.size), count,
    layout, ret))
  return ffi.gc(ret[0], C.orc_destroy)
end

local image_tables = setmetatable({}, { __mode = "k" }) -- by the kernel's types

-- The image's own: the same for all machines that run it, since it is of addresses as linked. nil: the kernel
-- has none, having been built for frame pointers.
local function image_table(k)
  local known = image_tables[access.types(k)]
  if known == nil then
    known = false
    if access.has_type(k, ENTRY) and access.has_symbol(k, "__start_orc_unwind_ip") then
      local ips = access.symbol(k, "__start_orc_unwind_ip")
      local size = access.symbol(k, "__stop_orc_unwind_ip") - ips
      known = read_table(k, ips, access.symbol(k, "__start_orc_unwind"), tonumber(size / 4),
        ips - k._view.slide)
    end
    image_tables[access.types(k)] = known
  end
  return known or nil
end

--- Reads the image's unwind tables, which no record has: a kernel with the same types finds them from then
--- on. Raises "unmapped".
---@param k ktstr.Kernel
function backtrace.prepare(k)
  image_table(k)
end

-- Where a module's code lies.
local function text_of(k, module)
  local base, size
  if access.has(k, "struct module", "mem") then
    local text = module.mem[0] -- MOD_TEXT
    base, size = text.base, text.size
  else
    base, size = module.core_layout.base, module.core_layout.text_size
  end
  return access.address(base), size
end

-- A module's own table; nil: no module's code is there, or it has none.
local function module_table(k, at)
  if not access.has_type(k, "struct module") or not access.has(k, "struct module", "arch.num_orcs") then
    return nil
  end
  for module in modules.modules(k) do
    local base, size = text_of(k, module)
    if at - base < size then
      local arch = module.arch
      local ips, entries = access.address(arch.orc_unwind_ip), access.address(arch.orc_unwind)
      return arch.num_orcs > 0 and read_table(k, ips, entries, arch.num_orcs, ips) or nil
    end
  end
end

-- --- walking ---

-- The code that was gone through, or ended at, for want of a table.
local function uncovered(result)
  for i = 1, result.count - 1 do
    if has_flag(result.frames[i].flags, C.UNWIND_GUESSED) ~= 0 then
      return result.frames[i - 1].address
    end
  end
  return result["end"] == C.UNWIND_NO_TABLE and result.at or nil
end

-- stacks: NULL for any. task: whose calls they are, as far as that is known.
local function run(k, start, stacks, task)
  local known = {}
  local own = image_table(k)
  if own then
    known[1] = { orc = own, slide = k._view.slide }
  end
  local result = Result()
  local tried = {}
  local trampolines, trampoline_count, returns, return_count = traced.returns(k, task)
  while true do
    local tables = Tables(#known + 1)
    for i, one in ipairs(known) do
      tables[i - 1].orc, tables[i - 1].slide = one.orc, one.slide
    end
    local unwind = Unwind(k._view, tables, #known, stacks and 1 or 0, stacks, trampolines, returns,
      trampoline_count, return_count)
    C.unwind_stack(unwind, start, result)
    -- Modules' tables are read when they are first needed: most backtraces need none.
    local at = uncovered(result)
    local key = at and address.key(at)
    local found = at and not tried[key] and #known < MODULES_MAX and module_table(k, at)
    if not found then
      return result
    end
    tried[key] = true
    known[#known + 1] = { orc = found, slide = 0 }
  end
end

-- --- names ---

-- Of a return address the call's, which is the instruction before: the one after may be another function's.
local function name_of(k, at, is_return)
  local name = k:name(address.new(is_return and at - 1 or at))
  if not name then
    return address.hex(at)
  end
  local symbol, offset, rest = name:match "^(.-)%+0x(%x+)(.*)$"
  if not symbol then
    symbol, offset, rest = name:match "^%S+", "0", name:match "^%S+(.*)$"
  end
  offset = tonumber(offset, 16) + (is_return and 1 or 0)
  return ("%s+0x%x%s"):format(symbol, offset, rest), symbol
end

local function optional(raw)
  return raw ~= 0ULL and address.new(raw) or nil
end

local function frame_of(k, raw)
  local is_return = has_flag(raw.flags, C.UNWIND_RETURN) ~= 0
  local name, symbol = name_of(k, raw.address, is_return)
  return {
    address = address.new(raw.address),
    name = name,
    symbol = symbol,
    sp = address.new(raw.sp),
    regs = optional(raw.regs),
    interrupted = not is_return,
    guessed = has_flag(raw.flags, C.UNWIND_GUESSED) ~= 0,
    traced = has_flag(raw.flags, C.UNWIND_TRACED) ~= 0,
  }
end

-- Of a call the address within it: the next instruction may be another line's.
local function code_of(frame)
  local at = address.raw(frame.address)
  return frame.interrupted and at or at - 1
end

local Backtrace = {}
Backtrace.__index = Backtrace

local function head(self)
  local task = self.pid and ("%s (pid %d)"):format(self.comm, self.pid) or "no task"
  return self.cpu and ("CPU %d: %s"):format(self.cpu, task) or task .. ", asleep"
end

function Backtrace:__tostring()
  local shown = { head(self) }
  for i, frame in ipairs(self) do
    shown[#shown + 1] = ("%3d  %s  %s%s%s"):format(i, tostring(frame.address), frame.guessed and "? " or "",
      frame.name, frame.interrupted and i > 1 and "  (interrupted)" or frame.traced and "  (traced)" or "")
    for _, line in ipairs(lines.text(frame.source)) do
      shown[#shown + 1] = "       " .. line
    end
  end
  if self.user then
    shown[#shown + 1] = "     user mode" .. (self.user_ip and " at " .. tostring(self.user_ip) or "")
  elseif not self.whole then
    shown[#shown + 1] = "     ends here: " .. self.ending
  end
  return table.concat(shown, "\n")
end

local function backtrace_of(k, result, fields)
  local ending = result["end"]
  if fields.task then
    fields.pid, fields.comm = fields.task.pid, fields.task.comm
  end
  local frame_type = lines.late(k, code_of)
  for i = 0, result.count - 1 do
    fields[i + 1] = setmetatable(frame_of(k, result.frames[i]), frame_type)
  end
  fields.user = ending == C.UNWIND_USER
  fields.whole = fields.user or ending == C.UNWIND_BOTTOM
  fields.ending = ffi.string(C.unwind_end_text(ending))
  if fields.user then
    fields.user_ip, fields.user_regs = address.new(result.at), optional(result.user_regs)
  elseif not fields.whole then
    fields.ending = ("%s (%s)"):format(fields.ending, address.hex(result.at))
  end
  return setmetatable(fields, Backtrace)
end

-- --- where it begins ---

-- Whether a function of the image begins there. Tables say nothing about the first instruction of thunks.
local function is_first(k, ip)
  local place = ip - k._view.slide
  local symbol = k:_ready().symbols:at(place)
  return symbol ~= nil and symbol.address == place
end

local function cpu_start(k, cpu)
  local regs = k._vm:regs(cpu)
  return Start {
    ip = regs.rip, sp = regs.rsp, bp = regs.rbp,
    ax = regs.rax, dx = regs.rdx, di = regs.rdi, r10 = regs.r10, r13 = regs.r13,
    has_all = true,
    user = has_flag(regs.cs.selector, USER_MODE) == USER_MODE,
    entered = is_first(k, regs.rip),
  }
end

local stack_sizes = setmetatable({}, { __mode = "k" }) -- by the kernel's types

local function stack_size(k)
  local set = access.types(k)
  if not stack_sizes[set] then
    stack_sizes[set] = access.has_type(k, "union thread_union") and access.size(k, "union thread_union")
      or STACK_SIZE
  end
  return stack_sizes[set]
end

local function stack_of(k, task)
  local bottom = access.address(task.stack)
  return Stacks { { bottom, bottom + stack_size(k) } }
end

-- A task that gave its CPU away has a struct inactive_task_frame at its stack pointer; the first thing that a
-- new one does is not a return.
local function sleeping_start(k, task)
  local sp = access.address(task.thread.sp)
  local frame = access.object(k, INACTIVE, sp)
  local ip = access.address(frame.ret_addr)
  local is_new = false
  for _, name in ipairs { "ret_from_fork_asm", "ret_from_fork" } do
    is_new = is_new or (access.has_symbol(k, name) and ip == access.symbol(k, name))
  end
  return Start {
    ip = ip, sp = sp + access.size(k, INACTIVE), bp = access.address(frame.bp), returns = not is_new,
  }
end

local function of_cpu(k, cpu)
  local ok, task = memory.try(current.task, k, cpu)
  task = ok and task or nil
  return backtrace_of(k, run(k, cpu_start(k, cpu), nil, task), { cpu = cpu, task = task })
end

-- Whether the walk came by this stack. A CPU that is between two tasks is still the one's, on the other's.
local function came_by(result, stack)
  local low, high = stack[0].start, stack[0]["end"]
  local function inside(at)
    return at > low and at <= high
  end
  for i = 0, result.count - 1 do
    if inside(result.frames[i].sp) then
      return true
    end
  end
  return inside(result.user_regs)
end

local function of_task(k, task)
  local stack = stack_of(k, task)
  if task.on_cpu ~= 0 then
    local cpu = k:task_cpu(task)
    local start = cpu_start(k, cpu)
    local result = run(k, start, nil, task)
    if (start.user and current.task(k, cpu) == task) or came_by(result, stack) then
      return backtrace_of(k, result, { cpu = cpu, task = task })
    end
  end
  return backtrace_of(k, run(k, sleeping_start(k, task), stack, task), { task = task })
end

--- The calls that a task or a CPU is in, the innermost first. A CPU, and so a task that runs, is asked for
--- its registers: the machine has to be frozen. A sleeping task may be looked at any time. Raises "running",
--- "invalid".
---@param k ktstr.Kernel
---@param what integer|ktstr.Object a CPU's number, or a struct task_struct
---@return ktstr.Backtrace
function backtrace.backtrace(k, what)
  if type(what) == "number" then
    return of_cpu(k, what)
  elseif not access.is_object(what) or what:type_().name:match "^struct task_struct" == nil then
    errors.raise("invalid", ("k:backtrace wants a CPU's number or a task, not %s"):format(tostring(what)),
      "k:task(pid) is a task")
  end
  return of_task(k, what)
end

return backtrace
