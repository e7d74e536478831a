-- Stock kernels that fail in earnest, or seem to: what is said on stderr, what is written as JSON, and that
-- the record is one of that moment. What a program says of the kernel does not count.
local stdlib = require "posix.stdlib"
local files = require "ktstr.files"
local ktstr = require "ktstr"
local report = require "ktstr.report"
local test = require "ktstr.test"

local TIMEOUT_S = 1800
local MACHINE = { topology = "1n1l2c1t", timeout = TIMEOUT_S }

local directory
local stderr = io.stderr
local said

-- What the library says on stderr while a test runs, and the run's directory of its own.
before_each(function()
  said = {}
  directory = assert(stdlib.mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/postmortem.XXXXXX"))
  stdlib.setenv("KTSTR_RUN_DIR", directory)
  rawset(io, "stderr", {
    write = function(_, ...)
      said[#said + 1] = table.concat { ... }
    end,
    flush = function() end,
  })
end)

after_each(function()
  rawset(io, "stderr", stderr)
  stdlib.setenv("KTSTR_RUN_DIR", "")
  files.remove(directory)
end)

local function options(more)
  local all = {}
  for name, value in pairs(MACHINE) do
    all[name] = value
  end
  for name, value in pairs(more or {}) do
    all[name] = value
  end
  return all
end

local function booted()
  local vm = ktstr.boot(options())
  finally(function()
    vm:kill()
  end)
  return vm
end

local function wait_for(vm, what, done)
  for _ = 1, 2400 do
    local value = done()
    if value then
      return value
    end
    vm:sleep(0.05)
  end
  error("not seen within two minutes: " .. what, 2)
end

local function failure_of(vm)
  for _, one in ipairs(vm:captures()) do
    if one.tag == "failure" then
      return one
    end
  end
end

local function wait_for_failure(vm)
  return wait_for(vm, "a failure", function()
    return failure_of(vm)
  end)
end

-- The CPUs of a capture that were at a task of that name, of all that have a record.
local function cpus_at(snap, comm)
  local list = {}
  for cpu = 0, snap:cpus() - 1 do
    if snap:get(("cpus[%d].rq.curr.comm"):format(cpu)) == comm then
      list[#list + 1] = cpu
    end
  end
  return list
end

-- A capture of the failure with a record, all of which is in the run's directory, too.
local function assert_record(snap, source)
  assert.is_nil(snap.reason)
  assert.same({ "failure", source or "failure" }, { snap.tag, snap.source })
  assert.is_true(#snap.notes == 0 or snap.notes[1].what ~= "no-plan", snap.notes[1] and snap.notes[1].text)
  assert.equals("init", snap:task(1).comm)
end

-- What was said begins with the cause; the file of that name has what the capture has.
local function assert_dump(vm, first_line, name)
  local text = table.concat(said)
  assert.matches(first_line, text:match "^[^\n]*")
  assert.matches("CPU 1: at [^\n]+%[%d+%]  rip 0x%x+  rsp 0x", text)
  local kept = ktstr.record(("%s/%s.failure.json"):format(directory, name or "a_machine"))
  local snap = failure_of(vm)
  assert.equals("init", kept:task(1).comm)
  for cpu = 0, snap:cpus() - 1 do
    local path = ("cpus[%d].rq.curr.pid"):format(cpu)
    assert.equals(snap:get(path), kept:get(path))
  end
  return text
end

local function says_failure(vm, kind, line)
  local result = vm.result or vm:kill()
  assert.equals(kind, result.failure.kind)
  assert.matches(line, result.failure.line)
  local warned = false
  for _, warning in ipairs(result.warnings) do
    warned = warned or warning:find("the guest's kernel, " .. kind, 1, true) ~= nil
  end
  assert.is_true(warned)
  return ("^ktstr: a machine: the guest's kernel has failed %%(%s%%): .*%s"):format(kind, line)
end

describe("a stock kernel that fails", function()
  it("by a panic has its last moment recorded, although no capture was asked for before", function()
    local vm = booted()
    vm:spawn { "sh", "-c", "echo c > /proc/sysrq-trigger", cpus = "1" }
    local ok, e = pcall(function()
      while true do
        vm:sleep(1)
      end
    end)
    assert.is_false(ok)
    assert.equals("ended", e.code)
    local first = says_failure(vm, "panic", "Kernel panic %- not syncing: sysrq triggered crash")
    local snap = failure_of(vm)
    assert_record(snap)
    assert.same({ 1 }, cpus_at(snap, "sh"))
    assert.matches("sh", assert_dump(vm, first))
    assert.equals(1, #vm:captures())
    print(("a panic: stood still for %.0f ms; %s"):format(snap.frozen_ms, vm.result.failure.line))
  end)

  it("by an oops goes on, and the record has the task that it happened to", function()
    local vm = booted()
    local before = vm:kernel_ops { { op = "read", symbol = "saved_command_line", type = "u64" } }[1]
    vm:kernel_ops { { op = "write", symbol = "saved_command_line", type = "u64", value = 16 } }
    -- Not cat: by sendfile it would hold its pipe's lock, and wait for that for ever when it is ended.
    local r = vm:exec { "head", "-c", "4", "/proc/cmdline", cpus = "1" }
    assert.equals(9, r.signal)
    vm:kernel_ops { { op = "write", symbol = "saved_command_line", type = "u64", value = before } }
    local snap = wait_for_failure(vm)
    assert_record(snap)
    assert.same({ 1 }, cpus_at(snap, "head"))
    -- It goes on, with what was wrong put right.
    assert.matches("console=", vm:exec({ "cat", "/proc/cmdline" }).stdout)
    assert.equals("init", vm:capture("later"):task(1).comm)
    local first = says_failure(vm, "oops", "BUG: kernel NULL pointer dereference, address: 0+10")
    local text = assert_dump(vm, first)
    assert.matches("2 captures:", text, 1, true)
    print(("an oops: stood still for %.0f ms; %s"):format(snap.frozen_ms, vm.result.failure.line))
  end)

  it("to let a task go on for a second has that task in its record, waiting", function()
    local vm = booted()
    vm:write("/proc/sys/kernel/hung_task_timeout_secs", "1")
    -- Its count: somebody holds it for writing, who will never give it back.
    vm:kernel_ops { { op = "write", symbol = "uts_sem", type = "u64", value = 1 } }
    local hung = vm:spawn { "sh", "-c", "echo other > /proc/sys/kernel/hostname" }
    local snap = wait_for_failure(vm)
    assert_record(snap)
    local waiting = 0
    for task in snap:tasks() do
      if task.comm == "sh" and snap.k:task_state(task):find "D" then
        waiting = waiting + 1
      end
    end
    assert.equals(1, waiting)
    assert.equals("on", vm:exec({ "echo", "-n", "on" }).stdout)
    assert_dump(vm, says_failure(vm, "hung task", "INFO: task sh:%d+ blocked for more than 1 seconds"))
    assert.is_table(hung)
    print(("a hung task: stood still for %.0f ms; %s"):format(snap.frozen_ms, vm.result.failure.line))
  end)

  it("to leave a lock has the CPU that spins in its record, and goes on when it is let go", function()
    local vm = booted()
    vm:write("/proc/sys/kernel/watchdog_thresh", "1")
    local place = { op = "write", symbol = "binfmt_lock", type = "u8", value = 255 } -- its writer
    local spinning = vm:spawn { "sh", "-c", "echo there; read go; exec /bin/busybox true", cpus = "1",
      stdin = true }
    wait_for(vm, "the shell", function()
      return spinning:stdout():find "there" ~= nil
    end)
    -- One that will never unlock it: who executes a program now spins, with preemption off.
    vm:kernel_ops { place }
    spinning:write "\n"
    local snap = wait_for_failure(vm)
    place.value = 0
    vm:kernel_ops { place }
    assert_record(snap)
    assert.same({ 1 }, cpus_at(snap, "sh"))
    assert.equals(0, spinning:wait(120).status)
    assert.equals("on", vm:exec({ "echo", "-n", "on" }).stdout)
    assert_dump(vm, says_failure(vm, "soft lockup", "BUG: soft lockup %- CPU#1 stuck for %d+s! %[sh:%d+%]"))
    print(("a soft lockup: stood still for %.0f ms; %s"):format(snap.frozen_ms, vm.result.failure.line))
  end)
end)

describe("what a program says", function()
  local LIES = {
    "Kernel panic - not syncing: it is a lie",
    "Oops: Oops: 0002 [#1] SMP NOPTI",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]",
    "INFO: task sh:1 blocked for more than 120 seconds.",
  }

  local function console_has(vm, text)
    return (vm.machine:console()):find(text, 1, true) ~= nil
  end

  it("in the kernel's log or on its console is no failure of the kernel; one that follows it is", function()
    local vm = booted()
    for i, lie in ipairs(LIES) do
      vm:write("/dev/kmsg", ("<0>%s (%d)\n"):format(lie, i))
      wait_for(vm, lie, function()
        return console_has(vm, ("%s (%d)"):format(lie, i))
      end)
    end
    vm:write("/dev/ttyS0", "\nKernel panic - not syncing: on the line itself\n")
    wait_for(vm, "the last lie", function()
      return console_has(vm, "on the line itself")
    end)
    assert.equals("on", vm:exec({ "echo", "-n", "on" }).stdout)
    assert.is_nil(failure_of(vm))
    assert.is_true(vm:capture_early()) -- nor is it as if there had been one
    vm:spawn { "sh", "-c", "echo '<0>Kernel panic - not syncing: another lie' > /dev/kmsg; "
      .. "echo c > /proc/sysrq-trigger" }
    pcall(function()
      while true do
        vm:sleep(1)
      end
    end)
    assert_dump(vm, says_failure(vm, "panic", "Kernel panic %- not syncing: sysrq triggered crash"))
  end)
end)

describe("a workload that dies", function()
  local function run(body)
    local vm
    local result = test.run { name = "inner/test", options = options { duration = 1 }, fn = function(t)
      vm = t.vm
      body(t)
    end }
    return result, vm
  end

  it("by a worker's signal is recorded when that is found, and the test has its verdict", function()
    local result, vm = run(function(t)
      t:cgroup("work", { workers = 2 })
      t:start()
      local pid = t.vm:read("/sys/fs/cgroup/work/cgroup.procs"):match "%d+"
      assert.equals(0, t.vm:exec({ "kill", "-SEGV", pid }).status)
      t.vm:sleep(0.5)
      t:stop()
    end)
    assert.is_nil(result.error, tostring(result.error))
    assert_record(failure_of(vm), "main")
    local text = assert_dump(vm,
      "^ktstr: inner/test: the workload has died: worker %d: ended by signal 11", "inner_test")
    assert.matches("written: ", text)
    assert.is_true(result.status == "pass" or result.status == "inconclusive" or result.status == "fail",
      report.block(result))
  end)

  it("by a program's crash is recorded likewise", function()
    local result, vm = run(function(t)
      local r = t.vm:exec { "sh", "-c", "kill -SEGV $$" }
      t:expect(r.signal, "its signal"):equals(11)
    end)
    assert.is_nil(result.error, tostring(result.error))
    assert.equals("pass", result.status, report.block(result))
    assert_record(failure_of(vm), "main")
    assert_dump(vm, "^ktstr: inner/test: the workload has died: 'sh': ended by signal 11", "inner_test")
  end)
end)
