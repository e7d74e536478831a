-- The commands that look into a kernel: what they print and what they refuse. Objects are real ones of
-- hand-made types in memory of this process; the helpers that would find them in a kernel are this file's.
local support = require "tests.lua.support"

local _, load = support.library()
local errors = load "ktstr.errors"
local session = load "ktstr.repl.session"
local types = load "ktstr.kernel.types"
local btf = require "tests.lua.btf"
local conversation = require "tests.lua.conversation"
local fake_kernel = require "tests.lua.fake_kernel"

local DIRECT, IMAGE = fake_kernel.DIRECT, fake_kernel.IMAGE
local RQ, TASKS = DIRECT + 0x10000, DIRECT + 0x20000
local RQ_SIZE, TASK_SIZE = 0x1000, 0x100
local PF_KTHREAD = 0x200000

-- Members with their places in bytes.
local function members(list)
  for _, member in ipairs(list) do
    member[3] = member[3] * 8
  end
  return list
end

local function make_types()
  local b = btf.new()
  local u32, s32, char = b:int("unsigned int", 4), b:int("int", 4, "signed"), b:int("char", 1, "signed")
  local u64 = b:int("unsigned long", 8)
  b.index = u32
  local comm, root = b:array(char, 16), b:struct("rb_root", 16, members { { "first", u64, 0 } })
  -- A struct and what it points to come before they are known: by their numbers.
  local entity, entity_pointer, queue, queue_pointer = b.count + 1, b.count + 2, b.count + 3, b.count + 4
  b:struct("sched_entity", 24, members { { "deadline", u64, 0 }, { "vruntime", u64, 8 },
    { "my_q", queue_pointer, 16 } })
  b:pointer(entity)
  b:struct("cfs_rq", 32, members { { "tasks_timeline", root, 0 }, { "curr", entity_pointer, 16 } })
  b:pointer(queue)
  local active = b:struct("rt_prio_array", 16, members { { "bitmap", u64, 0 } })
  local rt = b:struct("rt_rq", 16, members { { "active", active, 0 } })
  local dl = b:struct("dl_rq", 16, members { { "root", root, 0 } })
  local dl_entity = b:struct("sched_dl_entity", 8, members { { "deadline", u64, 0 } })
  local dsq = b:struct("scx_dispatch_q", 16, members { { "nr", u32, 0 }, { "id", u64, 8 } })
  local scx = b:struct("scx_rq", 16, members { { "local_dsq", dsq, 0 } })
  local task, task_pointer = b.count + 1, b.count + 2
  b:struct("task_struct", TASK_SIZE, members { { "pid", s32, 0 }, { "tgid", s32, 4 }, { "flags", u32, 8 },
    { "prio", s32, 12 }, { "comm", comm, 16 }, { "real_parent", task_pointer, 32 }, { "se", entity, 40 },
    { "dl", dl_entity, 64 } })
  b:pointer(task)
  b:struct("rq", RQ_SIZE, members { { "nr_running", u32, 0 }, { "curr", task_pointer, 8 },
    { "idle", task_pointer, 16 }, { "cfs", queue, 32 }, { "rt", rt, 64 }, { "dl", dl, 80 },
    { "scx", scx, 96 } })
  b:variable("runqueues", b.count, RQ_SIZE)
  local ops = b:struct("sched_ext_ops", 16, members { { "name", comm, 0 } })
  b:struct("scx_sched", 16, members { { "ops", ops, 0 } })
  b:struct("module", 64, members { { "name", comm, 0 }, { "mem", b:array(b:struct("module_memory", 16,
    members { { "base", b:pointer(0), 0 }, { "size", u32, 8 } }), 2), 16 } })
  b:union("either", 8, members { { "a", u64, 0 } })
  b:enum("color", 4, { { "RED", 0 } })
  return types.from_blob(b:blob())
end

local fake, k, vm, env, asked

local function task(pid)
  return k:object("struct task_struct", TASKS + pid * TASK_SIZE)
end

-- The idle task of CPU n is at place 100 + n.
local function put_task(place, fields)
  local at = TASKS + place * TASK_SIZE
  fake:put(at, "int32_t", fields.pid or place)
  fake:put(at + 4, "int32_t", fields.tgid or fields.pid or place)
  fake:put(at + 8, "uint32_t", fields.flags or 0)
  fake:put(at + 12, "int32_t", fields.prio or 120)
  fake:put_string(at + 16, fields.comm)
  fake:put(at + 32, "uint64_t", fields.parent and TASKS + fields.parent * TASK_SIZE or 0)
  fake:put(at + 40, "uint64_t", fields.deadline or 0)
  fake:put(at + 48, "uint64_t", fields.vruntime or 0)
end

local function rq(cpu)
  return k:object("struct rq", RQ + cpu * RQ_SIZE)
end

local function each(list)
  local i = 0
  return function()
    i = i + 1
    if list[i] then
      return unpack(list[i])
    end
  end
end

local function none() return each {} end

-- What the helpers find.
local function set_up_helpers()
  function k.runqueues() return each { { rq(0), 0 }, { rq(1), 1 } } end
  function k.cpus() return { 0, 1 } end
  function k.tasks() return each { { task(1) }, { task(2) }, { task(3) } } end
  function k.task(_, pid) return pid <= 3 and task(pid) or nil end
  function k.task_state(_, one) return one.pid == 3 and "D" or one.pid == 0 and "R" or "S" end
  function k.task_policy(_, one) return one.pid == 2 and "fifo" or "normal" end
  function k.task_nice() return 0 end
  function k.task_cpu(_, one) return one:key_() == task(101):key_() and 1 or 0 end
  function k.per_cpu(_, _, cpu) return rq(cpu) end
  k.cfs_entities, k.rt_entities, k.dl_entities, k.dsq_tasks = none, none, none, none
  function k.scx_state() return "disabled" end
end

before_each(function()
  fake = fake_kernel.new()
  k, asked = fake.k, {}
  k._image.types = make_types()
  put_task(1, { comm = "init", vruntime = 77 })
  put_task(2, { comm = "kthreadd", flags = PF_KTHREAD, parent = 100 })
  put_task(3, { comm = "a\27[2J", parent = 1, tgid = 1 })
  put_task(100, { comm = "swapper/0", pid = 0, flags = PF_KTHREAD })
  put_task(101, { comm = "swapper/1", pid = 0, flags = PF_KTHREAD })
  for cpu, current in pairs { [0] = 100, 3 } do
    fake:put(RQ + cpu * RQ_SIZE + 8, "uint64_t", TASKS + current * TASK_SIZE)
    fake:put(RQ + cpu * RQ_SIZE + 16, "uint64_t", TASKS + (100 + cpu) * TASK_SIZE)
  end
  set_up_helpers()
  vm = { k = k, log = {}, still = true }
  function vm.is_frozen() return vm.still end
  function vm.frozen(_, f)
    vm.log[#vm.log + 1], vm.still = "frozen", true
    local result = { pcall(f) }
    vm.still = false
    return assert(unpack(result)) and result[2]
  end
  env = setmetatable({ vm = vm }, { __index = _G })
end)

after_each(function()
  fake:finish()
end)

local function converse(...)
  return conversation.hold(session, { ... }, env)
end

local function hex(place) return bit.tohex(place) end

local function at(place)
  return hex(TASKS + place * TASK_SIZE)
end

local function complains(text, line)
  local out, err = converse(line)
  assert.equals("", out)
  assert.is_truthy(err:find(text, 1, true), err)
end

describe("ps", function()
  it("shows all tasks, the idle ones first, and marks those that run", function()
    assert.equals(table.concat({
      "   PID  PPID  CPU  TASK              ST  POLICY  NICE  COMM",
      ">    0     0    0  " .. at(100) .. "  RU  normal     0  [swapper/0]",
      "     0     0    1  " .. at(101) .. "  RU  normal     0  [swapper/1]",
      "     1     0    0  " .. at(1) .. "  IN  normal     0  init",
      "     2     0    0  " .. at(2) .. "  IN  fifo       0  [kthreadd]",
      ">    3     1    0  " .. at(3) .. "  UN  normal     0  a?[2J", -- nothing that steers the terminal
    }, "\n") .. "\n", (converse "ps"))
  end)

  it("shows one by its PID, or those of a name", function()
    assert.matches("\n  +1 [^\n]* init\n$", (converse "ps 1"))
    assert.equals(2, select(2, converse("ps kthreadd"):gsub("\n", "")))
    complains("ps: there is no task with PID 4", "ps 4")
    complains("ps: there is no task called 'kthread'", "ps kthread")
    complains("usage: ps [PID|NAME]", "ps 1 2")
  end)
end)

describe("a command on a running machine", function()
  it("freezes it for the moment, and on a frozen one does not thaw it", function()
    converse "ps"
    assert.same({}, vm.log)
    vm.still = false
    assert.matches("init", (converse "ps"))
    assert.same({ "frozen" }, vm.log)
    assert.is_false(vm.still)
  end)

  it("says why, where there is nothing to look into", function()
    k._ready = function()
      errors.raise("format", "no symbols here", "boot another")
    end
    for _, line in ipairs { "ps", "bt", "runq", "dmesg", "mod", "task 1", "sym x", "rd 1", "dis x",
      "struct rq", "struct rq 1" } do
      complains("no symbols here; boot another", line)
    end
    vm.k = nil
    complains("`vm` has no kernel", "ps")
  end)
end)

describe("task", function()
  it("shows the struct, or members of it", function()
    local title = "PID: 1        TASK: " .. at(1) .. "  CPU: 0    COMMAND: \"init\"\n"
    local out = converse "task 1"
    assert.equals(title .. tostring(task(1)) .. "\n", out)
    assert.equals(title .. "  pid = 1\n  se.vruntime = 77\n  real_parent = (struct task_struct *) NULL\n",
      (converse "task 1 pid,se.vruntime,real_parent"))
    assert.matches("\n  real_parent = %(struct task_struct %*%) 0x" .. at(1) .. "\n$",
      (converse "task 3 real_parent"))
    complains("has no member 'nothing'", "task 1 nothing")
    complains("task: 'x' is no PID; usage: task PID [MEMBER,...]", "task x")
    complains("there is no task with PID 9", "task 9")
  end)
end)

describe("bt", function()
  local function trace(fields)
    return function(_, what)
      asked[#asked + 1] = what
      if what == 1 then
        errors.raise("unmapped", "no such page")
      end
      local one = { whole = true, task = type(what) == "number" and task(100) or what, cpu = nil }
      for key, value in pairs(fields) do
        one[key] = value
      end
      return one
    end
  end

  local function frame(number, name, more)
    local one = { address = k:symbol "schedule" + number, sp = k:symbol "_text" + number, name = name }
    for key, value in pairs(more or {}) do
      one[key] = value
    end
    return one
  end

  local IP, SP = IMAGE + 0x100, IMAGE

  it("shows frames as crash does", function()
    k.backtrace = trace {
      frame(0, "schedule+0x10", { interrupted = true }), frame(1, "a+0x1", { guessed = true }),
      frame(2, "b+0x2", { interrupted = true }), frame(3, "c+0x3", { traced = true }), user = true,
      user_ip = k:symbol "_text",
    }
    assert.equals(table.concat({
      "PID: 3        TASK: " .. at(3) .. "  CPU: 0    COMMAND: \"a?[2J\"",
      " #0 [" .. hex(SP) .. "] schedule+0x10 at " .. hex(IP),
      " #1 [" .. hex(SP + 1) .. "] ? a+0x1 at " .. hex(IP + 1),
      " #2 [" .. hex(SP + 2) .. "] b+0x2 at " .. hex(IP + 2) .. "  (interrupted)",
      " #3 [" .. hex(SP + 3) .. "] c+0x3 at " .. hex(IP + 3) .. "  (traced)",
      "    user mode at " .. hex(SP),
    }, "\n") .. "\n", (converse "bt 3"))
  end)

  it("says why it ends before the stack does", function()
    k.backtrace = trace { whole = false, ending = "no table covers it" }
    assert.matches("\n    ends here: no table covers it\n$", (converse "bt 3"))
  end)

  it("is of a CPU, of every CPU, or of all tasks; one that cannot be had does not hide the others", function()
    k.backtrace = trace {}
    converse "bt -c 0"
    assert.same({ 0 }, asked)
    asked = {}
    local out = converse "bt"
    assert.same({ 0, 1 }, asked)
    assert.matches('COMMAND: "swapper/0"\n\nCPU: 1\n    no such page\n$', out)
    asked = {}
    assert.equals(out, (converse "bt -a"))
    asked = {}
    converse "bt all"
    assert.equals(5, #asked)
    assert.equals(task(3), asked[5])
  end)

  it("refuses what it does not know", function()
    for _, line in ipairs { "bt -c", "bt -c x", "bt 1 2", "bt x", "bt -x" } do
      complains("usage: bt [PID|-c CPU|-a|all]", line)
    end
    complains("there is no task with PID 9", "bt 9")
  end)
end)

describe("runq", function()
  local function line(pid, prio, more)
    return ("[%3d] PID: %-8d TASK: %s  COMMAND: \"%s\"%s"):format(prio, pid, at(pid), task(pid).comm, more)
  end

  it("shows what runs and that nothing waits", function()
    local out = converse "runq 0"
    assert.equals(table.concat({
      "CPU 0 RUNQUEUE: " .. hex(RQ),
      "   CURRENT: PID: 0        TASK: " .. at(100) .. "  COMMAND: \"swapper/0\"",
      "   RT PRIO_ARRAY: " .. hex(RQ + 64),
      "      [no tasks queued]",
      "   CFS RB_ROOT: " .. hex(RQ + 32),
      "      [no tasks queued]",
      "   SCX LOCAL DSQ: " .. hex(RQ + 96),
      "      [no tasks queued]",
    }, "\n") .. "\n", out)
    out = converse "runq"
    assert.matches("^CPU 0 .*\nCPU 1 RUNQUEUE", out)
    complains("runq: there is no CPU 2", "runq 2")
    complains("usage: runq [CPU]", "runq x")
  end)

  it("shows what waits, in order, with the groups that it is in", function()
    local group = RQ + 0x800
    fake:put(TASKS + 2 * TASK_SIZE + 56, "uint64_t", group) -- se.my_q: it stands for a group
    fake:put(TASKS + 2 * TASK_SIZE + 40, "uint64_t", 5)
    put_task(3, { comm = "three", deadline = 30, vruntime = 20 })
    function k.rt_entities() return each { { task(1), task(1), 89 } } end
    function k.dl_entities() return each { { task(1).dl, task(1) }, { task(2).dl } } end
    function k.cfs_entities(_, cfs)
      if cfs:address_() == k:object("struct cfs_rq", group):address_() then
        return each { { task(3).se, task(3) } }
      end
      return each { { task(1).se, task(1) }, { task(2).se } }
    end
    function k.dsq_tasks() return each { { task(3) } } end
    local out = converse "runq 0"
    assert.equals(table.concat({
      "   DEADLINE RB_ROOT: " .. hex(RQ + 80),
      "      " .. line(1, 120, "  DEADLINE: 0"),
      "   RT PRIO_ARRAY: " .. hex(RQ + 64),
      "      " .. line(1, 89, ""),
      "   CFS RB_ROOT: " .. hex(RQ + 32),
      "      " .. line(1, 120, "  DEADLINE: 0  VRUNTIME: 77"),
      "      GROUP CFS RB_ROOT: " .. hex(group) .. "  DEADLINE: 5  VRUNTIME: 0",
      "         " .. line(3, 120, "  DEADLINE: 30  VRUNTIME: 20"),
      "   SCX LOCAL DSQ: " .. hex(RQ + 96),
      "      " .. line(3, 120, ""),
    }, "\n") .. "\n", out:match "\n(   DEAD.*)$")
  end)

  it("shows the group of what runs, which is in no tree", function()
    local group = RQ + 0x800
    fake:put(TASKS + 2 * TASK_SIZE + 56, "uint64_t", group)
    fake:put(RQ + 32 + 16, "uint64_t", TASKS + 2 * TASK_SIZE + 40) -- cfs.curr
    assert.matches("\n      GROUP CFS RB_ROOT: " .. hex(group), (converse "runq 0"))
  end)

  it("shows a loaded scheduler's queues, and of the bypass ones those in use", function()
    local sch, dsqs = k:object("struct scx_sched", RQ + 0x900), {}
    fake:put_string(RQ + 0x900, "central")
    for i, info in ipairs { { kind = "user" }, { kind = "global", node = 1 }, { kind = "bypass", cpu = 0 },
      { kind = "bypass", cpu = 1 } } do
      local place = RQ + 0x900 + 16 * i
      fake:put(place + 8, "uint64_t", 0x40 + i)
      dsqs[i] = { k:object("struct scx_dispatch_q", place), info }
    end
    fake:put(RQ + 0x900 + 16 * 4, "uint32_t", 1)
    function k.scx_state() return "enabled" end
    function k.scx_schedulers() return each { { sch } } end
    function k.dsqs() return each(dsqs) end
    function k.dsq_tasks(_, dsq) return each(dsq.id == 0x41 and { { task(1) } } or {}) end
    local none_queued = "\n      [no tasks queued]"
    assert.equals(table.concat({
      "SCX SCHEDULER central: " .. hex(RQ + 0x900),
      "   SCX DSQ 0000000000000041: " .. hex(RQ + 0x910),
      "      " .. line(1, 120, ""),
      "   SCX GLOBAL DSQ, NODE 1: " .. hex(RQ + 0x920) .. none_queued,
      "   SCX BYPASS DSQ, CPU 1: " .. hex(RQ + 0x940) .. none_queued,
    }, "\n") .. "\n", converse("runq"):match "\n(SCX SCHED.*)$")
    assert.is_nil(converse("runq 1"):find("SCX SCHED", 1, true))
  end)

  it("ends where groups lie in each other for ever", function()
    fake:put(RQ + 32 + 16, "uint64_t", TASKS + 2 * TASK_SIZE + 40)
    fake:put(TASKS + 2 * TASK_SIZE + 56, "uint64_t", RQ + 32)
    complains("more than 32 deep", "runq 0")
  end)
end)

describe("sym", function()
  it("shows where a symbol is, all of its name", function()
    assert.equals(hex(IMAGE + 0x100) .. " (T) schedule\n", (converse "sym schedule"))
    assert.equals(("%s (d) twice\n%s (d) twice\n"):format(hex(IMAGE + 0x2020), hex(IMAGE + 0x2040)),
      (converse "sym twice"))
  end)

  it("shows what is at an address", function()
    local wanted = hex(IMAGE + 0x110) .. " (T) schedule+0x10\n"
    for _, line in ipairs { "sym ffffffff81000110", "sym 0xffffffff81000110", "sym 0xffffffff81000110ULL",
      "sym schedule+0x10", "sym schedule+16" } do
      assert.equals(wanted, (converse(line)), line)
    end
    complains("no symbol is at ffff888000000000", "sym ffff888000000000")
    complains("'schedul' is neither a symbol nor an address; it has: schedule", "sym schedul")
    complains("'0x10000000000000000' is neither", "sym 0x10000000000000000")
    complains("usage: sym NAME|ADDR", "sym")
  end)
end)

describe("struct", function()
  it("shows a definition: of a struct, a union, an enum", function()
    assert.equals(tostring(k.types["struct rq"]) .. "\n", (converse "struct rq"))
    assert.matches("^union either {", (converse "struct either"))
    assert.matches("^enum color {", (converse "struct color"))
    complains("nothing", "struct nothing")
  end)

  it("shows where members lie", function()
    assert.equals("struct task_struct {\n  [0] int pid\n  [48] unsigned long se.vruntime\n}\n",
      (converse "struct task_struct.pid,se.vruntime"))
  end)

  it("shows what is at an address, or some of it", function()
    assert.equals(tostring(task(1)) .. "\n", (converse("struct task_struct " .. at(1))))
    assert.equals("  pid = 1\n  comm = \"init\"\n", (converse("struct task_struct.pid,comm " .. at(1))))
    assert.equals(tostring(rq(1)) .. "\n", (converse "struct rq runqueues:1"))
  end)
end)

describe("rd", function()
  it("shows words and their characters", function()
    fake:put_string(DIRECT + 0x100, "ABCDEFGH\1\2345 7\255\n!")
    assert.equals("ffff888000000100:  4847464544434241                    ABCDEFGH\n",
      (converse "rd ffff888000000100"))
    assert.equals("ffff888000000100:  4847464544434241 210aff372035ea01   ABCDEFGH..5 7..!\n"
      .. "ffff888000000110:  0000000000000000                    ........\n",
      (converse "rd 0xffff888000000100 3"))
    complains("rd: 'x' is no number from 1 to 65536", "rd ffff888000000100 x")
    complains("rd: '0' is no number", "rd ffff888000000100 0")
  end)

  it("of a per-CPU variable wants the CPU", function()
    fake:set_up_percpu()
    k.per_cpu = nil
    complains("runqueues:0 is CPU 0's", "rd runqueues")
    assert.matches("^ffff888000080020:", (converse "rd runqueues:0"))
  end)
end)

describe("dis", function()
  local list

  before_each(function()
    list = setmetatable({}, { __tostring = function(self)
      local names = {}
      for i, one in ipairs(self) do
        names[i] = one.name
      end
      return table.concat(names, " ")
    end })
    -- Instructions of 4 bytes; 100 of schedule, then another function's.
    function k.disassemble(_, where, count)
      asked[#asked + 1] = { where - k:symbol "schedule", count }
      local some = setmetatable({}, getmetatable(list))
      local first = (where - k:symbol "schedule") / 4
      for i = first, first + count - 1 do
        some[#some + 1] = { address = k:symbol "schedule" + i * 4, length = 4,
          name = i < 100 and ("schedule%s"):format(i > 0 and "+" .. i * 4 or "") or "other+" .. i * 4 }
      end
      return some
    end
  end)

  it("shows all of a function, or so many instructions", function()
    local out = converse "dis schedule"
    assert.matches("^schedule schedule%+4 .* schedule%+396\n$", out)
    asked = {}
    converse("dis schedule 3", "dis schedule+0x8", "dis " .. hex(IMAGE + 0x104) .. " 2")
    assert.same({ { 0, 3 }, { 8, 10 }, { 4, 2 } }, asked)
    complains("dis: 'x' is no number from 1 to 10000", "dis schedule x")
  end)
end)

describe("mod", function()
  it("shows the modules", function()
    fake:put_string(DIRECT + 0x200, "virtio_net")
    fake:put(DIRECT + 0x210, "uint64_t", 0xffffffffc0000000ULL)
    fake:put(DIRECT + 0x218, "uint32_t", 4096)
    fake:put(DIRECT + 0x228, "uint32_t", 8192)
    function k.modules() return each { { k:object("struct module", DIRECT + 0x200) } } end
    assert.equals("MODULE            NAME        TEXT_BASE          SIZE\n"
      .. "ffff888000000200  virtio_net  ffffffffc0000000  12288\n", (converse "mod"))
  end)
end)

describe("dmesg", function()
  it("shows the log, or its end", function()
    function k.dmesg() return "[    0.1] one\n[    0.2] t\27wo\n" end
    assert.equals("[    0.1] one\n[    0.2] t?wo\n", (converse "dmesg"))
    assert.equals("[    0.2] t?wo\n", (converse "dmesg 1"))
    assert.equals("[    0.1] one\n[    0.2] t?wo\n", (converse "dmesg 100"))
    complains("dmesg: 'x' is no number", "dmesg x")
  end)
end)

describe("a kernel's object at the prompt", function()
  it("is shown with its members by itself, and by its place in a table", function()
    env.one = task(1)
    assert.equals(tostring(task(1)) .. "\n", (converse "one"))
    assert.equals("{ struct task_struct at 0x" .. at(1) .. " }\n", (converse "{ one }"))
    assert.equals(tostring(k.types["struct rq"]) .. "\n", (converse 'k.types["struct rq"]'))
  end)
end)
