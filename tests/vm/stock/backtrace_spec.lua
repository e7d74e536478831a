-- The calls that tasks and CPUs are in, against the guest's own account of them; and its code as text.
local ffi = require "ffi"
local ktstr = require "ktstr"
local address = require "ktstr.kernel.address"
local tiny_guest = require "tests.vm.tiny_guest"

local refused = tiny_guest.refused
local TIMEOUT_S = 1800
local FREEZES = 100
local USER = 0x7fff00001000 -- an address of user mode, where nothing is

-- Its threads sleep in its own code.
local MODULE, MODULE_THREAD = "pktgen", "kpktgend_0"

local vm, k
local scheduler_first, scheduler_end
local module_symbols = {} -- by name

-- In a guest that emulation runs, everything takes long: the bounds below end what hangs, no more.
setup(function()
  vm = ktstr.boot { topology = "1n1l2c1t", timeout = TIMEOUT_S, modules = { MODULE } }
  k = vm.k
  local lines = vm:exec({ "grep", "-F", ("[%s]"):format(MODULE), "/proc/kallsyms" }).stdout
  for digits, name in lines:gmatch "(%x+) %a (%S+)" do
    local high, low = tonumber(digits:sub(1, 8), 16), tonumber(digits:sub(9), 16)
    module_symbols[name] = address.new(ffi.cast("uint64_t", high) * 2 ^ 32 + low)
  end
  scheduler_first, scheduler_end = k:symbol "__sched_text_start", k:symbol "__sched_text_end"
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

-- What /proc/PID/stack leaves out.
local function is_scheduler(frame)
  return frame.address >= scheduler_first and frame.address < scheduler_end
end

-- Our frames as lines, without the scheduler's.
local function our_frames(pid)
  local frames = {}
  for _, frame in ipairs(k:backtrace(k:task(pid))) do
    if not is_scheduler(frame) then
      frames[#frames + 1] = frame
    end
  end
  return frames
end

local function names(frames)
  local list = {}
  for i, frame in ipairs(frames) do
    list[i] = frame.name
  end
  return table.concat(list, "\n")
end

-- The guest's lines: "[<0>] vfs_read+0x341/0x370".
local function guest_lines(pid)
  local lines = {}
  for name, offset in vm:read(("/proc/%d/stack"):format(pid)):gmatch "%[<0>%] (%S-)%+0x(%x+)/" do
    lines[#lines + 1] = { name = name, offset = tonumber(offset, 16) }
  end
  return lines
end

-- The same place: by address, since a function may have several names.
local function is_at(line, frame)
  local of_module = module_symbols[line.name]
  if of_module and of_module + line.offset == frame.address then
    return true
  end
  for _, symbol in ipairs(k:symbols(line.name)) do
    if symbol.address + line.offset == frame.address then
      return true
    end
  end
  return false
end

local function same(lines, frames)
  if #lines ~= #frames then
    return false
  end
  for i, line in ipairs(lines) do
    if not is_at(line, frames[i]) then
      return false
    end
  end
  return true
end

local function as_text(lines)
  local list = {}
  for i, line in ipairs(lines) do
    list[i] = ("%s+0x%x"):format(line.name, line.offset)
  end
  return table.concat(list, "\n")
end

-- Waits until a task sleeps in a function of that name.
local function wait_for(pid, pattern)
  tiny_guest.wait_until(function()
    return vm:read(("/proc/%d/stack"):format(pid)):find(pattern) ~= nil
  end)
end

describe("the backtrace of a task that waits", function()
  for what, case in pairs {
    ["for a pipe"] = { program = { "cat", stdin = true }, pattern = "pipe_read" },
    ["for its child"] = { program = { "sh", "-c", "sleep 1000; true" }, pattern = "do_wait" },
    ["for a timer"] = { program = { "sleep", "1000" }, pattern = "hrtimer_nanosleep" },
  } do
    it(what .. " is what the guest says", function()
      local program = vm:spawn(case.program)
      wait_for(program.pid, case.pattern)
      local lines, frames = guest_lines(program.pid), our_frames(program.pid)
      assert(same(lines, frames), ("the guest:\n%s\nours:\n%s"):format(as_text(lines), names(frames)))
      local all = k:backtrace(k:task(program.pid))
      assert.equals("__schedule", all[1].symbol)
      assert.is_true(all.whole)
      assert.is_true(all.user)
      assert.is_nil(all.cpu)
      assert.matches("entry_SYSCALL_64_after_hwframe", all[#all].symbol)
      for _, frame in ipairs(all) do
        assert.is_false(frame.guessed)
        assert.is_false(frame.interrupted)
      end
      local text = tostring(all)
      assert.matches(("(pid %d), asleep"):format(program.pid), text, 1, true)
      assert.matches("user mode at 0x", text)
      assert.is_true(text:find(frames[1].name, 1, true) ~= nil)
      program:kill()
      program:wait()
    end)
  end

  it("in a module's code is what the guest says", function()
    local pid = vm:frozen(function()
      for task in k:tasks() do
        if task.comm == MODULE_THREAD then
          return task.pid
        end
      end
    end)
    wait_for(pid, MODULE)
    local lines, all = guest_lines(pid), k:backtrace(k:task(pid))
    assert(all.whole, tostring(all))
    local frames = our_frames(pid)
    assert(same(lines, frames), ("the guest:\n%s\nours:\n%s"):format(as_text(lines), names(frames)))
    assert.is_true(module_symbols[lines[1].name] ~= nil)
    for _, frame in ipairs(all) do
      assert(not frame.guessed, tostring(all))
    end
  end)

  it("goes through what traces the returns of functions", function()
    local function calls()
      local program = vm:spawn { "sleep", "1000" }
      -- The guest's own account may end at what is traced.
      tiny_guest.wait_until(function()
        return k:task_state(k:task(program.pid)) == "S"
          and tostring(k:backtrace(k:task(program.pid))):find "do_nanosleep" ~= nil
      end)
      local all, list, seen = k:backtrace(k:task(program.pid)), {}, 0
      for i, frame in ipairs(all) do
        list[i], seen = frame.name, seen + (frame.traced and 1 or 0)
      end
      assert(all.whole, tostring(all))
      assert.equals(seen > 0, tostring(all):find("(traced)", 1, true) ~= nil)
      program:kill()
      program:wait()
      return list, seen
    end
    local plain, none = calls()
    assert.equals(0, none)
    local function trace(...)
      local r = vm:exec { "sh", "-ec", "cd /sys/kernel/tracing; " .. table.concat({ ... }, "; ") }
      assert.equals(0, r.status, r.stderr)
    end
    finally(function()
      trace("echo nop > current_tracer", "echo > set_ftrace_filter", "echo 0 > events/kprobes/enable",
        "echo > kprobe_events")
    end)
    trace("echo hrtimer_nanosleep common_nsleep > set_ftrace_filter", "echo function_graph > current_tracer")
    local graph, two = calls()
    assert.same(plain, graph)
    assert.equals(2, two)
    -- One function's is replaced by both.
    trace("echo 'r:one do_nanosleep' > kprobe_events", "echo 'r:two hrtimer_nanosleep' >> kprobe_events",
      "echo 1 > events/kprobes/enable")
    local both, three = calls()
    assert.same(plain, both)
    assert.equals(3, three)
  end)

  it("and of every other is what the guest says, kernel threads among them", function()
    local compared = 0
    for _, pid in ipairs(vm:frozen(function()
      local pids = {}
      for task in k:tasks() do
        pids[#pids + 1] = task.pid
      end
      return pids
    end)) do
      local task = k:task(pid)
      -- Between two looks of ours that agree the guest looks, too. The agent itself is awake then.
      local before = task and task.on_cpu == 0 and names(our_frames(pid))
      local ok, lines = pcall(guest_lines, pid)
      task = k:task(pid)
      if before and ok and task and task.on_cpu == 0 then
        local frames = our_frames(pid)
        if names(frames) == before and #lines > 0 and pid ~= 1 then
          assert(same(lines, frames), ("pid %d; the guest:\n%s\nours:\n%s"):format(pid, as_text(lines),
            before))
          compared = compared + 1
        end
      end
    end
    assert.is_true(compared > 20)
  end)

  it("is whole for every one of them", function()
    vm:frozen(function()
      local count = 0
      for task in k:tasks() do
        local all = k:backtrace(task)
        assert(all.whole, tostring(all))
        assert.is_true(all.task == task)
        for _, frame in ipairs(all) do
          assert.is_false(frame.guessed)
        end
        count = count + 1
      end
      assert.is_true(count > 20)
    end)
  end)
end)

describe("the backtrace of a CPU", function()
  it("that has nothing to do ends where the CPU began", function()
    local seen
    tiny_guest.wait_until(function()
      vm:frozen(function()
        for cpu = 0, vm.topology.cpus - 1 do
          local all = k:backtrace(cpu)
          if all.pid == 0 and not all.user then
            seen = all
          end
        end
      end)
      return seen
    end)
    assert(seen.whole, tostring(seen))
    assert.matches("^CPU %d: swapper/%d %(pid 0%)", tostring(seen))
    local symbols = {}
    for _, frame in ipairs(seen) do
      symbols[frame.symbol] = true
    end
    assert.is_true(symbols.do_idle)
    assert.is_true(symbols.cpu_startup_entry)
  end)

  -- Somewhere else each time: in system calls, interrupts, switches, user mode.
  it("is whole wherever it is stopped", function()
    local busy = vm:spawn { "sh", "-c", "while :; do cat /proc/self/maps >/dev/null; done" }
    local kernel = 0
    for _ = 1, FREEZES do
      vm:frozen(function()
        for cpu = 0, vm.topology.cpus - 1 do
          local all = k:backtrace(cpu)
          assert(all.whole, tostring(all))
          assert.equals(cpu, all.cpu)
          kernel = kernel + (#all > 0 and 1 or 0)
          for i, frame in ipairs(all) do
            assert(not frame.guessed, tostring(all))
            assert.equals(frame.regs ~= nil or i == 1, frame.interrupted)
          end
        end
      end)
    end
    busy:kill()
    busy:wait()
    assert.is_true(kernel > 0)
  end)

  it("is that of the task that runs there", function()
    local busy = vm:spawn { "sh", "-c", "while :; do :; done" }
    local text, cpu
    tiny_guest.wait_until(function()
      return vm:frozen(function()
        local task = k:task(busy.pid)
        if task.on_cpu == 0 then
          return false
        end
        local all = k:backtrace(task)
        text, cpu = tostring(all), all.cpu
        return all.cpu == k:task_cpu(task) and all.user
      end)
    end)
    assert.matches(("CPU %d: sh (pid %d)"):format(cpu, busy.pid), text, 1, true)
    assert.matches("user mode at 0x", text)
    -- It runs, and nobody knows where until it is stopped.
    tiny_guest.wait_until(function()
      local ok, e = pcall(k.backtrace, k, k:task(busy.pid))
      return not ok and require("ktstr.errors").is(e, "running")
    end)
    busy:kill()
    busy:wait()
  end)
end)

describe("a backtrace", function()
  it("of a damaged stack ends, and says why", function()
    local program = vm:spawn { "sleep", "1000" }
    wait_for(program.pid, "hrtimer_nanosleep")
    vm:frozen(function()
      local task = k:task(program.pid)
      local sp = task.thread.sp
      for _, wild in ipairs { USER, 0xffffffffffffff00ULL, 0xdead000000000100ULL } do
        task.thread.sp = wild
        local ok, e = pcall(k.backtrace, k, task)
        assert.is_false(ok)
        assert.equals("unmapped", e.code)
      end
      task.thread.sp = sp
      -- A return address that is none.
      local whole = k:backtrace(task)
      local place = whole[3].sp - 8
      local good = k:read(place, 8)
      k:write(place, ("A"):rep(8))
      local all = k:backtrace(task)
      assert.equals(2, #all)
      assert.is_false(all.whole)
      assert.matches("ends here: the return address is no code %(0x4141414141414141%)", tostring(all))
      k:write(place, good)
      assert.equals(tostring(whole), tostring(k:backtrace(task)))
    end)
    program:kill()
    program:wait()
  end)

  it("of what is neither a CPU nor a task is refused", function()
    assert.matches("a CPU's number or a task, not nil", refused("invalid", k.backtrace, k, nil).message)
    refused("invalid", k.backtrace, k, k:var("init_task", "struct task_struct").se)
    refused("running", k.backtrace, k, 0)
    vm:frozen(function()
      refused("invalid", k.backtrace, k, 99)
    end)
  end)
end)

describe("k:disassemble", function()
  it("shows a function's instructions, and where its calls go", function()
    local list = k:disassemble("schedule", 40)
    assert.equals(40, #list)
    assert.is_true(list[1].address == k:symbol "schedule")
    local at, calls = list[1].address, false
    for _, one in ipairs(list) do
      assert.is_true(one.address == at)
      assert.equals(k:read(at, one.length), one.bytes)
      at = at + one.length
      if one.text:match "^call" and one.comment == "__schedule" then
        calls = one.target == k:symbol "__schedule"
      end
    end
    assert.is_true(calls)
    assert.matches("^0x%x+ <schedule>:  ", tostring(list))
    assert.matches("\n0x%x+ <schedule%+0x%x+>:  callq?%s+0x%x+  <__schedule>", tostring(list))
  end)

  it("takes any address, and says when nothing is there", function()
    local whole = k:disassemble("vfs_read", 5)
    local from_third = k:disassemble(whole[3].address, 3)
    assert.equals(whole[5].text, from_third[3].text)
    assert.equals(10, #k:disassemble "vfs_read")
    assert.matches("0x7fff00001000", refused("unmapped", k.disassemble, k, USER).message)
    refused("not-found", k.disassemble, k, "no_such_function")
    refused("invalid", k.disassemble, k, "vfs_read", 0)
  end)
end)
