-- BPF maps, globals and programs in a guest, with all that is in them: guest/scx/fixture.bpf.c and its
-- loader, started in a stock kernel; and the scheduler scx_simple. guest/scx/README.md has it as a table.
local core = require "ktstr.core"
local files = require "ktstr.files"
local host = require "ktstr.host"

local bpf_fixture = {}

local DIRECTORY = core.paths.guest .. "/bpf"
local LOADER, BPFTOOL, SIMPLE, PLAIN = "ktstr-bpf-fixture", "bpftool", "scx_simple", "plain.bpf.o"
local BOUND_S = 120 -- ends what hangs, no more
local POLL_S = 0.1

--- Why there is nothing to start here, or nil.
---@return string|nil
function bpf_fixture.missing()
  for _, name in ipairs { LOADER, BPFTOOL, SIMPLE, PLAIN } do
    if not files.is_file(DIRECTORY .. "/" .. name) then
      return ("%s/%s is not built: 'make bpf' builds it where 'scripts/setup bpf' finds a compiler"):format(
        DIRECTORY, name)
    end
  end
  return nil
end

--- What ktstr.boot's `files` takes: ktstr-bpf-fixture, scx_simple and bpftool, in the guest's /bin.
---@return table<string, string>
function bpf_fixture.files()
  return {
    ["/bin/" .. LOADER] = DIRECTORY .. "/" .. LOADER,
    ["/bin/" .. SIMPLE] = DIRECTORY .. "/" .. SIMPLE,
    ["/bin/" .. BPFTOOL] = DIRECTORY .. "/" .. BPFTOOL,
  }
end

--- Lets the machine run until this is true. Raises an error with the program's output when the program
--- ends before, or it takes too long.
---@param program ktstr.Program
---@param done fun(): any
function bpf_fixture.await(program, done)
  local vm, deadline = program.vm, host.now() + BOUND_S
  while not done() do
    if program.result or host.now() > deadline then
      error(("%s: not what was waited for\n%s%s"):format(program.what, program:stdout(), program:stderr()), 2)
    end
    pcall(program.wait, program, POLL_S)
    vm:_check_alive "waiting for a BPF program"
  end
end

---@class tests.BpfFixture
---@field program ktstr.Program the loader; tests.BpfFixture:count() and :stop()
---@field cpus integer that are possible in the guest: as many values has a per-CPU element
---@field maps table<string, { id: integer, type: string }> by name
---@field programs table<string, { id: integer, type: string }> by name
---@field tasks { pid: integer, id: string, name: string }[] with task storage: the loader, two children
---@field records { at: integer, length: integer, id: string, text: string, discarded: boolean }[] of the
---  ring buffer
---@field nodes { address: string, index: integer, id: string }[] in the arena
local Fixture = {}
Fixture.__index = Fixture

local readers = {
  CPUS = function(self, rest)
    self.cpus = tonumber(rest)
  end,
  MAP = function(self, rest)
    local id, kind, name = rest:match "^(%d+) (%S+) (%S+)$"
    self.maps[name] = { id = tonumber(id), type = kind }
  end,
  PROG = function(self, rest)
    local id, kind, name = rest:match "^(%d+) (%S+) (%S+)$"
    self.programs[name] = { id = tonumber(id), type = kind }
  end,
  TASK = function(self, rest)
    local pid, id, name = rest:match "^(%d+) (%S+) (%S+)$"
    table.insert(self.tasks, { pid = tonumber(pid), id = id, name = name })
  end,
  RECORD = function(self, rest)
    local at, length, id, text, discarded = rest:match "^(%d+) (%d+) (%S+) (%S+)( ?%a*)$"
    table.insert(self.records, { at = tonumber(at), length = tonumber(length), id = id, text = text,
      discarded = discarded ~= "" })
  end,
  NODE = function(self, rest)
    local address, index, id = rest:match "^(%S+) (%d+) (%S+)$"
    table.insert(self.nodes, { address = address, index = tonumber(index), id = id })
  end,
  READY = function() end,
}

--- Starts the loader in a machine that was booted with bpf_fixture.files(), and waits until all is in place.
---@param vm ktstr.VM
---@return tests.BpfFixture
function bpf_fixture.start(vm)
  local program = vm:spawn { LOADER, stdin = true }
  bpf_fixture.await(program, function()
    return program:stdout():find "READY\n"
  end)
  local self = setmetatable({ program = program, maps = {}, programs = {}, tasks = {}, records = {},
    nodes = {} }, Fixture)
  for word, rest in program:stdout():gmatch "(%u+) ?([^\n]*)\n" do
    readers[word](self, rest)
  end
  return self
end

--- Has the loader make one more of the calls that fx_counted counts.
---@return integer fx_counted as the loader then sees it
function Fixture:count()
  local _, before = self.program:stdout():gsub("COUNTED", "")
  self.program:write "\n"
  local counted = "COUNTED (%d+)\n$"
  bpf_fixture.await(self.program, function()
    local _, now = self.program:stdout():gsub("COUNTED %d+\n", "")
    return now > before
  end)
  return tonumber(self.program:stdout():match(counted))
end

--- Ends the loader, and with it all that it has loaded.
---@return ktstr.ExecResult
function Fixture:stop()
  self.program:close_stdin()
  return self.program:wait(BOUND_S)
end

-- Whether scx_simple runs on this machine's kernel, which has sched_ext. The argument that the verifier adds
-- is none of a program's: a kernel whose types show it to programs, as those of Debian's 7.2 do, takes none
-- that calls the function.
local function takes_simple(vm)
  return #vm.k:_types():function_type "scx_bpf_create_dsq":parameters() == 2
end

--- Why there is no scheduler to start on this machine, or nil.
---@param vm ktstr.VM
---@return string|nil
function bpf_fixture.no_scheduler(vm)
  if not bpf_fixture.scheduler_state(vm) then
    return "this kernel has no sched_ext"
  end
  return bpf_fixture.missing()
end

---@class tests.Scheduler scx_simple; plain where a kernel does not take that
---@field vm ktstr.VM
---@field name string as sched_ext has it
---@field queues integer how many it has made
---@field program ktstr.Program|nil that has loaded it, and ends with it
local Scheduler = {}
Scheduler.__index = Scheduler

local function bpftool(vm, ...)
  local result = vm:exec { BPFTOOL, ... }
  if result.status ~= 0 then
    error(("bpftool: status %s\n%s%s"):format(tostring(result.status), result.stdout, result.stderr), 3)
  end
end

--- Starts a scheduler and waits until it schedules.
---@param vm ktstr.VM
---@return tests.Scheduler
function bpf_fixture.start_scheduler(vm)
  local self = setmetatable({ vm = vm, name = "plain", queues = 0 }, Scheduler)
  if takes_simple(vm) then
    self.name, self.queues, self.program = "simple", 1, vm:spawn { SIMPLE }
    bpf_fixture.await(self.program, function()
      return bpf_fixture.scheduler_state(vm) == "enabled" and self.program:stdout() ~= ""
    end)
  else
    vm:put(DIRECTORY .. "/" .. PLAIN, "/tmp/" .. PLAIN)
    bpftool(vm, "struct_ops", "register", "/tmp/" .. PLAIN) -- returns when it schedules
  end
  return self
end

--- Ends it, and waits until it is gone.
---@return ktstr.ExecResult|nil what its program said
function Scheduler:stop()
  if self.stopped then
    return
  end
  self.stopped = true
  local result
  if self.program then
    self.program:kill "TERM"
    result = self.program:wait(BOUND_S)
  else
    bpftool(self.vm, "struct_ops", "unregister", "name", self.name)
  end
  local deadline = host.now() + BOUND_S
  while bpf_fixture.scheduler_state(self.vm) ~= "disabled" do
    if host.now() > deadline then
      error(("scheduler '%s' does not end"):format(self.name), 2)
    end
    self.vm:sleep(POLL_S)
  end
  return result
end

--- sched_ext's state ("enabled", "disabled", ...); nil in a kernel that has none.
---@param vm ktstr.VM
---@return string|nil
function bpf_fixture.scheduler_state(vm)
  local result = vm:exec { "cat", "/sys/kernel/sched_ext/state" }
  return result.status == 0 and (result.stdout:gsub("\n", "")) or nil
end

-- ----- what is in it: as fixture.h makes it -----

local KINDS = {
  fx_array = 0xa1, fx_percpu_array = 0xa2, fx_hash = 0xa3, fx_hash_lazy = 0xa4, fx_percpu_hash = 0xa5,
  fx_lru = 0xa6, fx_task = 0xa7, fx_ringbuf = 0xa8, fx_arena = 0xa9, bss = 0xb1,
}
local COLORS = { [0] = "FX_RED", "FX_GREEN", "FX_BLUE" }

--- The id of element i of a map, in its value on a CPU.
---@param map string
---@param i integer
---@param cpu integer|nil
---@return ffi.cdata* uint64_t
function bpf_fixture.id(map, i, cpu)
  return KINDS[map] * 2ULL ^ 56 + (cpu or 0) * 65536ULL + i
end

--- A struct fx_value.
---@param map string
---@param i integer
function bpf_fixture.value(map, i)
  return {
    id = bpf_fixture.id(map, i),
    index = i,
    color = COLORS[i % 3],
    at = { x = i * 10, y = -i * 10 - 1 },
    name = "element-" .. i,
    low = i % 8,
    middle = 1000 + i,
    high = 500000 - i,
  }
end

-- Elements 0 to count - 1.
local function elements(count, make)
  local list = {}
  for i = 0, count - 1 do
    list[#list + 1] = make(i)
  end
  return list
end

local function per_cpu(cpus, make)
  local values = {}
  for cpu = 0, cpus - 1 do
    values[cpu] = make(cpu)
  end
  return values
end

--- Keys and values of the maps that have such: { key, value }, or { key, values by CPU } in per-CPU ones.
---@param cpus integer that are possible
---@return table<string, { key: any, value: any, values: table|nil }[]>
function bpf_fixture.contents(cpus)
  return {
    fx_array = elements(5, function(i)
      return { key = i, value = bpf_fixture.value("fx_array", i) }
    end),
    fx_percpu_array = elements(3, function(i)
      return { key = i, values = per_cpu(cpus, function(cpu)
        return bpf_fixture.id("fx_percpu_array", i, cpu)
      end) }
    end),
    fx_hash = elements(7, function(i)
      return { key = { number = 1000 + i, tag = "key" .. i }, value = bpf_fixture.value("fx_hash", i) }
    end),
    fx_hash_lazy = elements(5, function(i)
      return { key = 2000 + i, value = bpf_fixture.id("fx_hash_lazy", i) }
    end),
    fx_percpu_hash = elements(4, function(i)
      return { key = 3000 + i, values = per_cpu(cpus, function(cpu)
        return 0xa5000000 + cpu * 256 + i
      end) }
    end),
    fx_lru = elements(6, function(i)
      return { key = 4000 + i, value = { x = i, y = -i } }
    end),
  }
end

--- fx_task by task: the loader's value, and those of its children.
bpf_fixture.tasks = elements(3, function(i)
  local comm = i == 0 and LOADER:sub(1, 15) or "fx-child-" .. i - 1
  return { comm = comm, value = bpf_fixture.value("fx_task", i) }
end)

--- fx_ringbuf: nothing of it is consumed. `at` is where the record's header of 8 bytes begins, `length` what
--- follows it.
bpf_fixture.records = elements(5, function(i)
  return {
    at = ({ [0] = 0, 32, 64, 96, 136 })[i],
    length = 18 + 3 * i,
    discarded = i == 2,
    id = bpf_fixture.id("fx_ringbuf", i),
    number = i,
    text = ("abcde"):sub(i + 1, i + 1):rep(3 * i + 1),
  }
end)

--- fx_arena: a list from fx_arena_head on, over two pages.
bpf_fixture.nodes = elements(10, function(i)
  return { address = 2ULL ^ 44 + 512ULL * i, index = i, id = bpf_fixture.id("fx_arena", i) }
end)

--- Globals by section. In .bss there are also fx_pid (the loader's), fx_counted (7, and what was counted
--- since), fx_switches (grows) and fx_arena_head (the first node's address; 0 where there is no arena).
bpf_fixture.globals = {
  [".data"] = {
    fx_data_bool = true,
    fx_data_u8 = 0xab,
    fx_data_s16 = -12345,
    fx_data_u32 = 0x11223344,
    fx_data_s64 = -1234567890123456789LL,
    fx_data_u64 = 0xfedcba9876543210ULL,
    fx_data_text = "data of fixture",
    fx_data_array = { 1, 10, 100, 1000, 10000 },
    fx_data_color = "FX_BLUE",
    fx_data_huge = "FX_HUGE", -- 0x123456789abcdef0
    fx_data_points = { { x = 1, y = -1 }, { x = 2, y = -2 }, { x = 3, y = -3 } },
  },
  [".rodata"] = {
    fx_ro_u32 = 0xdecade,
    fx_ro_point = { x = 33, y = -33 },
    fx_ro_array = { 7, 77, 0x7777777777777777ULL },
    fx_ro_color = "FX_GREEN",
    fx_ro_text = "read-only text",
  },
  [".bss"] = {
    fx_bss_u32 = 0xb55b55,
    fx_bss_u64 = bpf_fixture.id("bss", 64),
    fx_bss_matrix = { { 0, -1, -2 }, { 100, 99, 98 } },
    fx_bss_value = bpf_fixture.value("bss", 4),
  },
}

return bpf_fixture
