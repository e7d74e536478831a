-- A kernel that says that it has failed: one capture of that moment, or a placeholder where it came too late.
local files = require "ktstr.files"
local ktstr = require "ktstr"
local process = require "ktstr.process"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"

local wait_until = tiny_guest.wait_until

local function failing(words)
  local machine = support.tiny_machine(words, { timeout = 120, memory = 2 ^ 25 })
  finally(function()
    machine:kill()
    pcall(machine.join, machine)
  end)
  machine:start()
  return machine
end

local KINDS = {
  { "oops", "BUG: kernel NULL pointer dereference, address: 0000000000000008" },
  { "soft lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [tiny:1]" },
  { "hung task", "INFO: task tiny:1 blocked for more than 120 seconds." },
}

describe("a kernel that fails", function()
  for number, kind in ipairs(KINDS) do
    it(("is captured once: %s"):format(kind[1]), function()
      local machine = failing { ("fail=%d"):format(number - 1), "fail=0", "load=0" }
      wait_until(function()
        return #machine:captures() > 0
      end)
      local raw = machine:captures()[1]
      assert.same({ "failure", "failure", 1, false }, { raw.tag, raw.source, #raw.cpus, raw.missed })
      machine:capture "later"
      assert.equals(2, #machine:captures())
      machine:kill()
      local result = tiny_guest.finish(machine)
      assert.same({ kind = kind[1], line = kind[2] }, result.failure)
      assert.matches(("the guest's kernel, %s: %s"):format(kind[1], kind[2]), result.warnings, 1, true)
      assert.equals(1, machine:freeze_counts().failure.done)
    end)
  end

  it("and ends at once has its capture, of a machine that has ended if need be", function()
    local machine = failing { "panic" }
    local result = tiny_guest.finish(machine)
    assert.same({ kind = "panic", line = "Kernel panic - not syncing: tiny.run=panic" }, result.failure)
    local list = machine:captures()
    assert.same({ 1, "failure" }, { #list, list[1].tag })
    assert.same({ false, 1 }, { list[1].missed, #list[1].cpus })
  end)

  it("and ends before anybody can freeze it is captured as it has ended", function()
    local unfrozen, left = 0, 500
    while unfrozen == 0 and left > 0 do -- the first one, where the hook is there before the guest has failed
      left = left - 1
      local machine = failing { "fail=1", "reset" } -- behind the last letter of the line
      machine:test_hook "late_failure"
      assert.equals("soft lockup", tiny_guest.finish(machine).failure.kind)
      local list = machine:captures()
      assert.same({ 1, "failure", false, 1 }, { #list, list[1].tag, list[1].missed, #list[1].cpus })
      unfrozen = unfrozen + 1 - machine:freeze_counts().failure.done
    end
    assert.is_true(unfrozen > 0)
  end)

  it("is none that is well", function()
    local machine = failing { "load=0" }
    machine:recv(60)
    machine:kill()
    assert.is_nil(tiny_guest.finish(machine).failure)
    assert.same({}, machine:captures())
  end)

  it("has not failed where it is taken back to", function()
    local machine = failing { "fail=1", "load=0" }
    wait_until(function()
      return #machine:captures() > 0
    end)
    tiny_guest.freeze(machine)
    machine:rewind(machine:save("", ""))
    machine:thaw()
    machine:kill()
    assert.is_nil(tiny_guest.finish(machine).failure)
  end)
end)

describe("a failure's capture that nobody has said yet what to record in", function()
  -- It is asked for, and the machine stands still until it is said.
  local function asking(words)
    local machine = support.tiny_machine(words, { timeout = 120, memory = 2 ^ 25 })
    finally(function()
      machine:kill()
      pcall(machine.join, machine)
    end)
    machine:wake_on_plan(true)
    machine:start()
    return machine
  end

  local function wait_for_question(machine)
    repeat
      local kind, payload = machine:recv(60)
      assert(kind or payload == "plan", payload)
    until payload == "plan" and not kind
  end

  local function its_capture(machine)
    wait_until(function()
      return #machine:captures() > 0
    end)
    local raw = machine:captures()[1]
    assert.same({ "failure", false, 1 }, { raw.tag, raw.missed, #raw.cpus })
    return raw
  end

  it("has it said in time, whatever else is asked meanwhile", function()
    local machine = asking { "fail=0", "load=0" }
    wait_for_question(machine)
    assert.same({}, machine:captures())
    tiny_guest.refused("busy", machine.freeze, machine)
    tiny_guest.refused("busy", machine.capture, machine, "mine")
    assert.is_false(machine:is_frozen()) -- not by the script
    machine:set_plan(nil, "there is none")
    assert.equals("there is none", its_capture(machine).reason)
    assert.is_true(tiny_guest.freeze(machine))
    machine:thaw()
  end)

  it("is taken with registers alone when nobody hears", function()
    local machine = asking { "fail=1", "load=0" }
    assert.matches("the script was busy", its_capture(machine).reason)
    assert.is_true(tiny_guest.freeze(machine)) -- and the machine goes on
    machine:thaw()
  end)

  it("is taken of a machine that is killed meanwhile", function()
    local machine = asking { "fail=2", "load=0" }
    wait_for_question(machine)
    machine:kill()
    assert.equals("hung task", tiny_guest.finish(machine).failure.kind)
    assert.equals("nobody has said what captures record", its_capture(machine).reason)
  end)

  it("is taken of one that has ended by itself, when that has been said", function()
    local machine = asking { "panic" }
    wait_for_question(machine)
    machine:set_plan(nil, "there is none")
    assert.equals("panic", tiny_guest.finish(machine).failure.kind)
    assert.equals("there is none", its_capture(machine).reason)
  end)

  it("is taken of one that nobody listens to any more", function()
    local machine = asking { "panic" }
    assert.equals("panic", machine:join().failure.kind)
    its_capture(machine)
  end)
end)

describe("a dual capture", function()
  local function tags(machine)
    local list = {}
    for i, raw in ipairs(machine:captures()) do
      list[i] = raw.tag .. (raw.missed and " missed" or "")
    end
    return list
  end

  -- A guest that fails when main has let it: its first capture waits for what is to be recorded.
  local function about_to_fail()
    local machine = support.tiny_machine({ "capture=1", "fail=0", "load=0" },
      { timeout = 120, memory = 2 ^ 25 })
    finally(function()
      machine:kill()
      pcall(machine.join, machine)
    end)
    machine:wake_on_plan(true)
    machine:start()
    machine:recv(60)
    assert.same({ nil, "plan" }, { machine:recv(60) })
    return machine
  end

  local function fail(machine)
    machine:wake_on_plan(false)
    machine:set_plan(nil, "no plan")
    wait_until(function()
      local list = tags(machine)
      return #list > 0 and list[#list]:find "^failure"
    end)
  end

  it("is an early one, once, and a late one", function()
    local machine = about_to_fail()
    assert.is_true(machine:capture_early())
    assert.is_false(machine:capture_early())
    fail(machine)
    assert.same({ "early", "t0", "failure" }, tags(machine))
    assert.is_false(machine:capture_early())
    assert.equals(3, #machine:captures())
    assert.equals("failure", machine:captures()[1].source)
  end)

  it("has no early one after the late one", function()
    local machine = about_to_fail()
    fail(machine)
    assert.is_false(machine:capture_early())
    assert.same({ "t0", "failure" }, tags(machine))
  end)

  it("has its early one tried again when it could not be taken", function()
    local machine = about_to_fail()
    machine:freeze()
    assert.is_false((pcall(machine.capture_early, machine)))
    machine:thaw()
    machine:test_hook("rendezvous_timeout", 0.05)
    machine:test_hook("deaf", 0, 3600)
    tiny_guest.refused("timeout", machine.capture_early, machine)
    assert.same({ "early missed" }, tags(machine))
    machine:test_hook("deaf", 0, 0)
    machine:test_hook("rendezvous_timeout", 30)
    wait_until(function()
      return machine:capture_early()
    end)
    assert.same({ "early" }, tags(machine))
    assert.is_false(machine:capture_early())
  end)

  it("begins anew where the machine is taken back to, from either state", function()
    local machine = about_to_fail()
    machine:freeze()
    local image = machine:save("", "")
    machine:thaw()
    local function take_back()
      tiny_guest.freeze(machine)
      machine:rewind(image)
      machine:thaw()
    end
    assert.is_true(machine:capture_early())
    take_back() -- from TookEarly
    assert.is_true(machine:capture_early())
    fail(machine)
    assert.is_false(machine:capture_early())
    local count = machine:freeze_counts().failure.done
    assert.equals(3, count) -- two early ones, a late one
    take_back() -- from Done
    -- It fails once more, which is recorded once more.
    wait_until(function()
      return machine:freeze_counts().failure.done > count
    end)
    assert.is_false(machine:capture_early())
  end)
end)

describe("what is said of it", function()
  local SCRIPT = [[
    local ktstr = require "ktstr"
    local vm = ktstr.boot { kernel = os.getenv "KTSTR_TINY", cmdline = "tiny.run=fail=%d tiny.run=echo" }
    for i = 1, %d do vm:capture("before/" .. i) end
    local result = vm:kill()
    print(result.failure.kind, #vm:captures())
  ]]

  local function text_of(stderr, ...)
    for _, part in ipairs { ... } do
      assert(stderr:find(part, 1, true), ("no '%s' in: %s"):format(part, stderr))
    end
  end

  it("is on stderr: the failure, the last captures, the newest as text, how to get files", function()
    local run = support.script(SCRIPT:format(0, 7), finally, { KTSTR_RUN_DIR = "" })
    assert.same({ "oops\t8\n", 0 }, { run.stdout, run.status })
    text_of(run.stderr,
      "ktstr: a machine: the guest's kernel has failed (oops): "
        .. "BUG: kernel NULL pointer dereference, address: 0000000000000008\n",
      "8 captures, the last 5 of them:", "capture 'before/7' (main, at ", "rip", "KTSTR_RUN_DIR=")
    assert.is_nil(run.stderr:find("before/2", 1, true))
  end)

  it("is in the run's directory as JSON, under names that are no paths", function()
    local directory = os.tmpname()
    os.remove(directory)
    finally(function()
      files.remove(directory)
    end)
    local run = support.script(SCRIPT:format(1, 1), finally, { KTSTR_RUN_DIR = directory .. "/deep" })
    local paths = {}
    for path in run.stderr:gmatch "written: ([^\n]+)" do
      paths[path:match "[^/]+$"] = path
    end
    local before = ktstr.record(paths["a_machine.before_1.json"])
    assert.same({ "before/1", "main" }, { before.tag, before.source })
    assert.equals("failure", ktstr.record(paths["a_machine.failure.json"]).source)
  end)

  it("goes on where the disk is full, and leaves nothing half written", function()
    local directory = os.tmpname()
    os.remove(directory)
    files.make_directory(directory)
    local mounted = process.run { "mount", "-t", "tmpfs", "-o", "size=8k", "none", directory }.status == 0
    finally(function()
      if mounted then
        process.run { "umount", directory }
      end
      files.remove(directory)
    end)
    if not mounted then
      pending "no right to mount a file system"
    end
    local run = support.script(SCRIPT:format(0, 6), finally, { KTSTR_RUN_DIR = directory })
    assert.same({ "oops\t7\n", 0 }, { run.stdout, run.status })
    text_of(run.stderr, "KTSTR_RUN_DIR: ", "cannot write the capture to " .. directory .. "/a_machine.",
      "No space left on device")
    -- Those that it had room for are whole.
    for _, name in ipairs(require("posix.dirent").dir(directory)) do
      if name ~= "." and name ~= ".." then
        text_of(run.stderr, "written: " .. directory .. "/" .. name .. "\n")
        assert.is_string(ktstr.record(directory .. "/" .. name).tag)
      end
    end
  end)

  it("goes on where the directory cannot be", function()
    local run = support.script(SCRIPT:format(2, 0), finally, { KTSTR_RUN_DIR = "/dev/null/x" })
    assert.same({ "hung task\t1\n", 0 }, { run.stdout, run.status })
    text_of(run.stderr, "KTSTR_RUN_DIR: ", "/dev/null")
  end)
end)
