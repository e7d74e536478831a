-- The prompt in front of a stock kernel, fed from a pipe and on a terminal: what its commands say, beside
-- what the guest says itself.
local process = require "ktstr.process"
local sandbox = require "tests.lua.sandbox"
local support = require "tests.vm.support"
local terminal = require "tests.vm.terminal"

local OPTIONS = { "--topology", "1n1l2c1t", "--timeout=1800" }

local function arguments(...)
  local argv = { support.program, "repl", ... }
  for _, option in ipairs(OPTIONS) do
    argv[#argv + 1] = option
  end
  return argv
end

-- Feeds a session; what each line printed, in turn: a line that prints a mark stands between them.
local function feed(lines)
  local fed = {}
  for _, line in ipairs(lines) do
    fed[#fed + 1] = line
    fed[#fed + 1] = 'print "=== mark ==="'
  end
  local path = support.temporary_file(table.concat(fed, "\n") .. "\n", finally)
  local argv = { "sh", "-c", 'file=$1; shift; exec "$@" <"$file"', "sh", path, unpack(arguments()) }
  local r = process.run(argv)
  local answers = {}
  for answer in r.stdout:gmatch "(.-)=== mark ===\n" do
    answers[#answers + 1] = answer
  end
  assert.equals(#lines, #answers, r.stdout .. r.stderr)
  return answers, r
end

local function errors_of(r)
  return (r.stderr:gsub("^booting [^\n]*\n", ""))
end

local function has(text, part)
  assert.is_truthy(text:find(part, 1, true), ("'%s' is not in:\n%s"):format(part, text))
end

-- Programs whose place in the kernel is known. `busy` is three that share CPU 1, in a cgroup: two of them
-- wait.
local SET_UP = {
  'sleeper = vm:spawn { "sleep", "1000" }',
  'vm:exec { "sh", "-c", "cd /sys/fs/cgroup; mkdir crowd; echo +cpu >cgroup.subtree_control" }.status',
  'busy = {} for i = 1, 3 do busy[i] = vm:spawn { "sh", "-c", "while :; do :; done", cpus = "1", '
    .. 'cgroup = "crowd" } end',
  "vm:sleep(1)",
}

local function with_set_up(lines)
  local all = { unpack(SET_UP) }
  for _, line in ipairs(lines) do
    all[#all + 1] = line
  end
  local answers, r = feed(all)
  local rest = {}
  for i = #SET_UP + 1, #answers do
    rest[#rest + 1] = answers[i]
  end
  assert.equals("0\n", answers[2])
  return rest, r
end

describe("the commands of the prompt", function()
  it("show tasks, what they do and where they wait", function()
    local a, r = with_set_up {
      "sleeper.pid, busy[1].pid, busy[2].pid, busy[3].pid", -- 1
      'vm:read(("/proc/%d/stat"):format(sleeper.pid))', -- 2
      "ps", -- 3
      -- Not in the middle of a switch, where two tasks have the CPU: while a program runs in user mode.
      "repeat if vm:is_frozen() then vm:thaw() end vm:freeze() until vm:regs(1).cs.selector % 4 == 3", -- 4
      "ps sleep", -- 5
      "runq 1", -- 6
      "bt -c 1", -- 7
      "for task in k:tasks() do if task.pid == sleeper.pid then print(k:backtrace(task)) end end", -- 8
      "bt", -- 9
      "thaw", -- 10
      "bt 1", -- 11
      "task 1 pid,comm,se.vruntime", -- 12
      "bt all", -- 13
      "vm:is_frozen()", -- 14
      'k:var("init_task"):has_ "se.h_load"', -- 15
    }
    assert.equals("", errors_of(r))
    local pids = {}
    for pid in a[1]:gmatch "%d+" do
      pids[#pids + 1] = pid
    end

    -- Idle tasks, processes, kernel threads; the two CPUs run something.
    assert.matches("^ +PID +PPID +CPU +TASK +ST +POLICY +NICE +COMM\n", a[3])
    has(a[3], "[swapper/0]\n")
    has(a[3], "[swapper/1]\n")
    has(a[3], "[kthreadd]\n")
    assert.equals(2, select(2, ("\n" .. a[3]):gsub("\n>", "")))
    local parent = a[2]:match "%) %u (%d+)"
    assert.matches(("\n +%s +%s +%%d +%%x+ +IN +normal +0 +sleep\n$"):format(pids[1], parent), a[5])

    -- One of the three has the CPU, two wait for it in their group.
    local current = a[6]:match "CURRENT: PID: (%d+)"
    local waiting = a[6]:match "GROUP CFS RB_ROOT: [^\n]*</crowd>[^\n]*\n(.*)$"
    if a[15] == "true\n" then
      -- This kernel has all tasks in one tree, whatever their groups.
      assert.is_nil(waiting)
      waiting = a[6]
    end
    for i = 2, 4 do
      local queued = waiting:gsub("CURRENT: [^\n]*", ""):find(("PID: %-8d"):format(pids[i]), 1, true) ~= nil
      assert.equals(pids[i] ~= current, queued, a[6])
    end
    assert.matches("^PID: " .. current .. " ", a[7])
    assert.equals(2, select(2, a[9]:gsub("PID: ", "")))
    has(a[9], a[7])

    -- The sleeper sleeps.
    has(a[8], "do_nanosleep")
    assert.matches('^PID: 1 +TASK: %x+ +CPU: %d +COMMAND: "[^\n]*"\n #0 %[%x+%] __schedule%+0x%x+ at %x+\n',
      a[11])
    assert.matches("\n *#%d+ %[%x+%] entry_SYSCALL_64_after_hwframe%+0x%x+ at %x+\n    user mode at %x+\n$",
      a[11])
    assert.matches('^PID: 1 .*\n  pid = 1\n  comm = "[^\n]+"\n  se.vruntime = %d+\n$', a[12])
    local tasks = select(2, a[13]:gsub("%f[%w]PID: ", ""))
    assert.is_true(tasks > 40, a[13])
    assert.is_nil(a[13]:find("ends here", 1, true), a[13])
    assert.equals("false\n", a[14])
  end)

  it("show symbols, types, memory, code, modules and messages", function()
    local a, r = feed {
      "sym schedule", -- 1
      'vm:exec({ "grep", " schedule$", "/proc/kallsyms" }).stdout:sub(1, 16)', -- 2
      "sym linux_banner+0x2", -- 3
      "struct list_head", -- 4
      'k.types["struct rq"]', -- 5
      "struct rq.nr_running,curr runqueues:1", -- 6
      "rd linux_banner 2", -- 7
      "dis schedule", -- 8
      "dis __x64_sys_read 3", -- 9
      "dmesg 5", -- 10
      'print(vm:exec({ "dmesg" }).stdout)', -- 11
      'print(vm:read "/proc/modules")', -- 12
      "mod", -- 13
      "=k:var('init_task').comm", -- 14
    }
    assert.equals("", errors_of(r))
    assert.equals(a[2]:match '"(%x+)"' .. " (T) schedule\n", a[1])
    assert.matches("^%x+ %(%a%) linux_banner%+0x2\n$", a[3])
    assert.matches("^struct list_head {\n.*next;.*prev;.*/%* size: 16", a[4])
    assert.matches("^struct rq {\n.*\tunsigned int nr_running; +/%* +%d+ +4 %*/\n", a[5])
    assert.matches("\n\t/%* size: %d+, cachelines: %d+, members: %d+ %*/\n", a[5])
    assert.matches("^  nr_running = %d+\n  curr = %(struct task_struct %*%) 0x%x+\n$", a[6])
    assert.matches("^%x+:  65762078756e694c 2%x+   Linux version", a[7])
    assert.matches("^0x%x+ <schedule>:", a[8])
    has(a[8], "<__schedule>")
    assert.is_nil(a[8]:find("<schedule_", 1, true) and a[8]:match "\n0x%x+ <schedule_")
    assert.equals(3, select(2, a[9]:gsub("\n", "")))
    assert.equals(5, select(2, a[10]:gsub("\n", "")))
    for line in a[10]:gmatch "%] ([^\n]+)" do
      has(a[11], line)
    end
    local count = 0
    for name in a[12]:gmatch '%f[%w_]([%w_]+) %d+ %d+ ' do
      count = count + 1
      assert.matches("%x+  " .. name .. " +%x+ +%d+\n", a[13])
    end
    assert.equals(count + 1, select(2, a[13]:gsub("\n", "")))
    assert.equals('"swapper/0"\n', a[14])
  end)

  it("say what is wrong, and the session goes on", function()
    local a, r = feed { "sym no_such_symbol", "struct no_such", "bt 99999", "rd 0", "rd runqueues", "1" }
    assert.equals(1, r.status)
    for _, text in ipairs { "'no_such_symbol' is neither a symbol nor an address", "no_such",
      "bt: there is no task with PID 99999", "runqueues:0 is CPU 0's" } do
      has(r.stderr, text)
    end
    assert.equals("1\n", a[6])
  end)
end)

-- A terminal's patience is for what a prompt does; a stock kernel may take longer to boot.
local function wait_for_boot(t)
  for _ = 1, 20 do
    if pcall(t.wait_for, t, "ktstr> ") or t.ended then
      break
    end
  end
  assert.is_nil(t.ended, t.text)
end

describe("Tab in front of a stock kernel", function()
  local box, cache

  before_each(function()
    cache = os.getenv "XDG_CACHE_HOME" or os.getenv "HOME" .. "/.cache"
    box = sandbox.sandbox()
  end)

  after_each(function()
    box.undo()
  end)

  it("completes symbols, types and members", function()
    local t = terminal.start(arguments(), {
      TERM = "xterm",
      HOME = box.directory,
      XDG_CACHE_HOME = cache,
      XDG_STATE_HOME = box.directory .. "/state",
    }, finally)
    wait_for_boot(t)
    t:type 'k:per_cpu("runq\t'
    t:wait_for "ueues"
    t:type '", 0).nr_runn\t'
    t:wait_for "ing"
    t:type " >= 0\n"
    t:wait_for "\ntrue\r\n"
    t:wait_for "ktstr> "
    t:type "k:object(\"struct sched_ent\t"
    t:wait_for "ity"
    t:type "\3"
    t:wait_for "ktstr> "
    t:type "sym schedule_timeout_unin\t"
    t:wait_for "terruptible"
    t:type "\n"
    t:wait_for ") schedule_timeout_uninterruptible\r\n"
    t:wait_for "ktstr> "
    t:type "\4"
    assert.equals(0, t:status())
  end)
end)
