local support = require "tests.lua.support"

local core, load = support.library()
local boot = load "ktstr.boot"
local raised = support.raised
local vm_module = load "ktstr.vm"
local wire = core.wire

local function machine_of()
  return core.machines[#core.machines]
end

local function requests_of(op)
  local found = {}
  for _, request in ipairs(machine_of().requests) do
    if request.op == op then
      found[#found + 1] = request
    end
  end
  return found
end

local function attributes(request)
  local values = {}
  for _, attribute in ipairs(request.body) do
    values[attribute[1]] = attribute[2]
  end
  return values
end

local vm

before_each(function()
  core.commands, core.events, core.boots, core.before_op = {}, {}, nil, nil
  vm = boot.boot {}
end)

after_each(function()
  vm_module.close_all()
end)

describe("vm:exec", function()
  it("returns status and output", function()
    core.commands.uname = function(values)
      return { stdout = { "Lin", "ux " .. values.args[2] .. "\n" }, stderr = "w", status = 3 }
    end
    local r = vm:exec { "uname", "-s" }
    assert.same({ status = 3, stdout = "Linux -s\n", stderr = "w", timed_out = false, truncated = 0 }, r)
  end)

  it("hands on what the program is to run with", function()
    core.commands.x = function()
      return {}
    end
    vm:exec { "x", env = { B = 2, A = "1" }, cwd = "/tmp", cgroup = "/a/b", cpus = "0", policy = "fifo 10" }
    local request = requests_of("EXEC")[1]
    local values = attributes(request)
    assert.same({ { "ARG", "x" }, { "ENV", "A=1" }, { "ENV", "B=2" } },
      { request.body[1], request.body[2], request.body[3] })
    assert.same({ "/tmp", "a/b", "0", 1, 10 },
      { values.CWD, values.CGROUP, values.CPUS, values.POLICY, values.PRIORITY })
  end)

  it("tells which program could not be started", function()
    local e = raised(vm.exec, vm, { "nope" })
    assert.equals("guest", e.code)
    assert.equals(2, e.errno)
    assert.is_nil(e.cannot_run)
    assert.equals("the guest could not run 'nope': nope (No such file or directory)", tostring(e))
  end)

  it("kills a program that outlives its timeout and keeps what it wrote", function()
    core.commands.spin = function()
      return { endless = true, stdout = "so far" }
    end
    local start = core.clock
    local r = vm:exec { "spin", timeout = 5 }
    assert.same({ true, 9, "so far" }, { r.timed_out, r.signal, r.stdout })
    assert.is_nil(r.status)
    assert.equals(5, core.clock - start)
    assert.equals(9, attributes(requests_of("KILL")[1]).SIGNAL)
  end)

  it("keeps no more output than it was told to, and counts the rest", function()
    core.commands.flood = function()
      return { stdout = { ("a"):rep(60), ("b"):rep(60), ("c"):rep(60) }, stderr = "err" }
    end
    local r = vm:exec { "flood", max_output = 100 }
    assert.equals(("a"):rep(60) .. ("b"):rep(40), r.stdout)
    assert.equals("err", r.stderr)
    assert.equals(80, r.truncated)
  end)

  it("feeds standard input in pieces and closes it", function()
    core.commands.cat = function()
      return { endless = true }
    end
    core.events[1] = function(machine)
      local id = requests_of("EXEC")[1].id
      machine.programs[id] = nil
      machine:reply(id, { { "STATUS", 0 } })
    end
    local data = ("x"):rep(wire.WIRE_DATA_MAX) .. "tail"
    assert.equals(0, vm:exec({ "cat", stdin = data }).status)
    assert.same({ ("x"):rep(wire.WIRE_DATA_MAX), "tail", "" }, machine_of().stdin)
  end)

  it("that is interrupted leaves no program behind, and the machine as it was", function()
    core.commands.spin = function()
      return { endless = true }
    end
    core.events[1] = function()
      error(setmetatable({ code = "interrupted", message = "interrupted" }, core.error_metatable), 0)
    end
    assert.equals("interrupted", raised(vm.exec, vm, { "spin" }).code)
    local request = attributes(requests_of("KILL")[1])
    assert.same({ 9, requests_of("EXEC")[1].id }, { request.SIGNAL, request.PROGRAM })
    core.commands.echo = function()
      return { stdout = "fine" }
    end
    assert.equals("fine", vm:exec({ "echo" }).stdout)
  end)

  it("ends when the machine ends, with the console's end", function()
    core.commands.boom = function()
      return { endless = true }
    end
    core.events[1] = function(machine)
      machine.text = "line 1\r\nKernel panic - not syncing\r\n"
      machine:finish { exit_reason = "Shutdown", exit_code = 0, timed_out = false, seconds = 2,
        reported = false, last_words = "", channel = { bad_headers = 3 } }
    end
    local e = raised(vm.exec, vm, { "boom" })
    assert.equals("ended", e.code)
    assert.is_nil(e.cannot_run)
    local text = tostring(e)
    assert.matches("the machine ended while waiting for 'boom': the guest reset or powered off; "
      .. "no exit code was reported; frames dropped on port 1: bad headers 3", text, 1, true)
    assert.matches("  | Kernel panic - not syncing", text, 1, true)
  end)

  it("tells a run's timeout from other ends", function()
    core.commands.boom = function()
      return { endless = true }
    end
    core.events[1] = function(machine)
      machine:finish { exit_reason = "Timeout", exit_code = -1, timed_out = true, seconds = 60,
        reported = false, last_words = "", channel = {} }
    end
    local e = raised(vm.exec, vm, { "boom" })
    assert.equals("timeout", e.code)
    assert.matches("its time was up %(timeout = 60 s%)", tostring(e))
  end)

  it("refuses bad options before anything is sent", function()
    for _, case in ipairs {
      { {}, "no command was given" },
      { { "a", tiemout = 1 }, "did you mean 'timeout'?" },
      { { "a", {} }, "argument 2 must be a string" },
      { { "a\0b" }, "argument 1 must be a string without NUL" },
      { { "a", timeout = 0 }, "must be above 0" },
      { { "a", policy = "fifo" }, "policy 'fifo' needs a priority" },
      { { "a", policy = "fifoo 1" }, "did you mean 'fifo'?" },
      { { "a", policy = "normal 3" }, "has no priority" },
      { { "a", cpus = "7" }, "names CPU 7" },
      { { "a", env = { ["A=B"] = "1" } }, "env must be" },
      { { "a", max_output = "lots" }, "is not a size" },
    } do
      local e = raised(vm.exec, vm, case[1])
      assert.is_truthy(tostring(e):find(case[2], 1, true), tostring(e))
      assert.is_true(e.cannot_run)
    end
    assert.same({}, requests_of "EXEC")
  end)

  it("keeps nothing of programs that have ended", function()
    core.commands.x = function()
      return { stdout = "out" }
    end
    for _ = 1, 100 do
      vm:exec { "x" }
    end
    assert.same({}, vm.channel.programs)
    assert.same({}, vm.channel.pending)
    pcall(vm.exec, vm, { "nope" })
    assert.same({}, vm.channel.programs)
  end)
end)

describe("vm:spawn", function()
  before_each(function()
    core.commands.daemon = function()
      return { endless = true, stdout = "ready\n" }
    end
  end)

  it("returns at once with a pid, and its output as it comes", function()
    local p = vm:spawn { "daemon" }
    assert.equals(100 + p.id, p.pid)
    assert.equals("ready\n", p:stdout())
    assert.equals("", p:stderr())
    assert.is_true(p:kill "TERM")
    local r = p:wait(5)
    assert.same({ 15, "ready\n" }, { r.signal, r.stdout })
    assert.equals(r, p:wait())
    assert.is_false(p:kill "KILL")
  end)

  it("waits no longer than asked, and can be waited for again", function()
    local p = vm:spawn { "daemon" }
    local e = raised(p.wait, p, 2)
    assert.equals("timeout", e.code)
    assert.equals("'daemon' has not ended within 2 s", tostring(e))
    p:kill(9)
    assert.equals(9, p:wait(1).signal)
    assert.equals(1, #requests_of "WAIT")
  end)

  it("takes its input later", function()
    local p = vm:spawn { "daemon", stdin = true }
    assert.is_true(p:write "hello")
    assert.is_true(p:close_stdin())
    assert.same({ "hello", "" }, machine_of().stdin)
  end)

  it("raises when the program does not start", function()
    assert.matches("could not start 'nope': No such file", tostring(raised(vm.spawn, vm, { "nope" })))
    assert.same({}, vm.channel.programs)
  end)

  it("names a signal that was probably meant", function()
    local p = vm:spawn { "daemon" }
    assert.equals("unknown signal 'TREM'; did you mean 'TERM'?", tostring(raised(p.kill, p, "TREM")))
  end)
end)

describe("files in the guest", function()
  it("come and go in pieces", function()
    local data = ("0123456789"):rep(350)
    vm:write("/tmp/a/b", data)
    assert.equals(4, #requests_of "WRITE")
    assert.equals(data, vm:read "/tmp/a/b")
    assert.equals(4, #requests_of "READ")
    assert.equals(tonumber("644", 8), machine_of().modes["/tmp/a/b"])
    local head = requests_of("WRITE")[1].body.head
    assert.equals(wire.WRITE_TRUNCATE + wire.WRITE_MKDIR, head.flags)
  end)

  it("may have exactly the size of a piece, or none", function()
    for _, length in ipairs { 0, wire.WIRE_DATA_MAX, 2 * wire.WIRE_DATA_MAX } do
      local data = ("x"):rep(length)
      vm:write("/f", data)
      assert.equals(data, vm:read "/f")
    end
  end)

  it("are cut when they are written again", function()
    vm:write("/f", ("x"):rep(3000))
    vm:write("/f", "short")
    assert.equals("short", vm:read "/f")
  end)

  it("raise the guest's own reason", function()
    local e = raised(vm.read, vm, "/nope")
    assert.equals("guest", e.code)
    assert.equals("the guest could not read '/nope': /nope (No such file or directory)", tostring(e))
    assert.matches("not an absolute path", tostring(raised(vm.read, vm, "nope")))
    assert.matches("must be a string, not a table", tostring(raised(vm.write, vm, "/x", {})))
  end)

  it("are copied to and from the host", function()
    local path = os.tmpname()
    finally(function()
      os.remove(path)
    end)
    local data = ("some data\0"):rep(250)
    local file = assert(io.open(path, "wb"))
    file:write(data)
    file:close()
    vm:put(path, "/bin/tool", tonumber("755", 8))
    assert.equals(data, machine_of().files["/bin/tool"])
    assert.equals(tonumber("755", 8), machine_of().modes["/bin/tool"])
    os.remove(path)
    vm:get("/bin/tool", path)
    file = assert(io.open(path, "rb"))
    assert.equals(data, file:read "*a")
    file:close()
    assert.matches("No such file", tostring(raised(vm.put, vm, "/no/such/file", "/x")))
  end)

  it("leave nothing on the host when reading fails", function()
    local path = os.tmpname()
    os.remove(path)
    raised(vm.get, vm, "/nope", path)
    assert.is_nil(io.open(path))
  end)
end)

describe("time", function()
  it("passes in vm:sleep", function()
    local start = core.clock
    vm:sleep(2.5)
    assert.equals(2.5, core.clock - start)
    assert.matches("wants seconds", tostring(raised(vm.sleep, vm, -1)))
  end)

  it("is cut short by the machine's end", function()
    core.events[1] = function(machine)
      machine:finish { exit_reason = "Fatal", exit_code = -1, timed_out = false, seconds = 1,
        reported = false, detail = "triple fault", last_words = "", channel = {} }
    end
    assert.matches("ended while sleeping: triple fault", tostring(raised(vm.sleep, vm, 10)))
  end)
end)

describe("the end", function()
  it("is a result, the same each time", function()
    local r = vm:shutdown()
    assert.same({ true, 0, "Shutdown", false }, { r.passed, r.exit_code, r.exit_reason, r.timed_out })
    assert.equals(r, vm:shutdown())
    assert.equals(r, vm:kill())
    assert.matches("has been shut down", tostring(raised(vm.exec, vm, { "x" })))
    assert.equals(0, vm_module.live_count())
  end)

  it("has not passed when the guest did not report", function()
    core.before_op = function(machine, name)
      if name == "SHUTDOWN" then
        machine:finish { exit_reason = "Shutdown", exit_code = 0, timed_out = false, seconds = 1,
          reported = false, last_words = "", channel = {} }
      end
    end
    local r = vm:shutdown()
    assert.is_false(r.passed)
    assert.equals(0, r.exit_code)
  end)

  it("comes by force when the guest does not end by itself", function()
    core.before_op = function(machine, name)
      if name == "SHUTDOWN" then
        machine.hangs = true
        machine.finish = function(self, result)
          if result.exit_reason == "ExternalKill" then
            self.result = result
          end
        end
      end
    end
    assert.equals("ExternalKill", vm:shutdown().exit_reason)
  end)

  it("can be had at once", function()
    local r = vm:kill()
    assert.same({ false, "ExternalKill" }, { r.passed, r.exit_reason })
    assert.matches("has been killed", tostring(raised(vm.sleep, vm, 1)))
  end)

  it("comes to every machine in close_all", function()
    local other = boot.boot {}
    assert.equals(2, vm_module.live_count())
    vm_module.close_all()
    assert.equals(0, vm_module.live_count())
    assert.is_not_nil(other.result) -- and the machine is held until here: what nobody holds may be collected
  end)
end)

describe("the console", function()
  it("is handed on line by line at the next wait, the last line at the end", function()
    local lines = {}
    local other = boot.boot { console = function(line)
      lines[#lines + 1] = line
    end }
    machine_of().text = "one\r\ntwo\r\npart"
    other:ping()
    assert.same({ "one", "two" }, lines)
    machine_of().text = machine_of().text .. "ial\nlast"
    other:shutdown()
    assert.same({ "one", "two", "partial", "last" }, lines)
  end)

  it("may call the machine from its function", function()
    local depth = 0
    local other
    other = boot.boot { console = function()
      depth = depth + 1
      other:ping()
    end }
    machine_of().text = "a\nb\n"
    other:ping()
    assert.equals(2, depth)
  end)

  it("raises what its function raises from the call that waits", function()
    local other = boot.boot { console = function()
      error "mine"
    end }
    machine_of().text = "a\n"
    assert.matches("mine", tostring(raised(other.ping, other)))
  end)

  it("can go to a file", function()
    local path = os.tmpname()
    finally(function()
      os.remove(path)
    end)
    local other = boot.boot { console = path }
    machine_of().text = "text\n"
    other:shutdown()
    local file = assert(io.open(path))
    assert.equals("text\n", file:read "*a")
    file:close()
  end)
end)
