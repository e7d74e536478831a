-- Programs and files in a guest with a stock kernel, in one machine.
local ktstr = require "ktstr"

local EXECS = tonumber(os.getenv "KTSTR_EXECS" or "100")
local MIB = 2 ^ 20

local vm

-- In a guest that emulation runs, everything takes long: the bounds below end what hangs, no more.
setup(function()
  vm = ktstr.boot {
    topology = "1n1l2c1t",
    timeout = 1800 + EXECS,
    cmdline = "ktstr.spec=1",
    files = { "/usr/bin/env", ["/opt/hosts"] = "/etc/hostname" },
    modules = { "vxlan" }, -- depends on others
  }
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

describe("vm:exec", function()
  it("runs a program of the initramfs", function()
    local r = vm:exec { "cat", "/proc/cmdline" }
    assert.same({ 0, "" }, { r.status, r.stderr })
    assert.matches("console=ttyS0 .* ktstr.spec=1\n$", r.stdout)
    assert.equals(vm.release .. "\n", vm:exec({ "uname", "-r" }).stdout)
  end)

  it("returns status, signal and both outputs", function()
    local r = vm:exec { "sh", "-c", "echo out; echo err >&2; exit 7" }
    assert.same({ 7, "out\n", "err\n" }, { r.status, r.stdout, r.stderr })
    r = vm:exec { "sh", "-c", "kill -SEGV $$" }
    assert.is_nil(r.status)
    assert.equals(11, r.signal)
  end)

  it("sets environment, directory, input, CPUs and policy", function()
    local r = vm:exec { "sh", "-c", "echo $A; pwd; cat; grep Cpus_allowed_list /proc/self/status; "
      .. "awk '{ print $40, $41 }' /proc/self/stat",
      env = { A = "x y" }, cwd = "/proc", stdin = "input\n", cpus = "1", policy = "fifo 7" }
    -- The last line is priority and policy: FIFO is 1.
    assert.equals("x y\n/proc\ninput\nCpus_allowed_list:\t1\n7 1\n", r.stdout)
  end)

  it("says why a program did not start", function()
    local ok, e = pcall(vm.exec, vm, { "no-such-program" })
    assert.is_false(ok)
    assert.same({ "guest", 2 }, { e.code, e.errno })
    assert.matches("could not run 'no%-such%-program': .*No such file or directory", tostring(e))
  end)

  it("runs a host's program with its libraries", function()
    local r = vm:exec { "/usr/bin/env", "-i", "A=1", "/usr/bin/env" }
    assert.same({ 0, "A=1\n" }, { r.status, r.stdout })
  end)

  it("kills a program that never ends, with its children", function()
    local r = vm:exec { "sh", "-c", "echo started; sleep 1000 & sleep 1000", timeout = 2 }
    assert.same({ true, 9, "started\n" }, { r.timed_out, r.signal, r.stdout })
    assert.is_nil(vm:exec({ "ps" }).stdout:find("sleep 1000", 1, true))
  end)

  it("survives a program that floods its output, and keeps what it was told to", function()
    local r = vm:exec { "sh", "-c", "yes | head -c 8000000", max_output = "1M" }
    assert.same({ 0, MIB, 8000000 - MIB }, { r.status, #r.stdout, r.truncated })
    r = vm:exec { "yes", timeout = 2, max_output = 4096 }
    assert.same({ true, 9, 4096 }, { r.timed_out, r.signal, #r.stdout })
    assert.is_true(r.truncated > 0)
    assert.equals(0, vm:exec({ "true" }).status)
  end)

  it("passes large input through", function()
    local data = ("0123456789abcdef"):rep(MIB / 16)
    local r = vm:exec { "md5sum", stdin = data }
    assert.equals(vm:exec({ "sh", "-c", "md5sum", stdin = data }).stdout, r.stdout)
    assert.equals(data, vm:exec({ "cat", stdin = data }).stdout)
    assert.equals("0", vm:exec({ "sh", "-c", "exec 0<&-; printf 0", stdin = data }).stdout)
  end)

  it(("leaves nothing behind after %d small ones"):format(EXECS), function()
    vm:exec { "true" }
    local before = vm:agent_usage()
    collectgarbage()
    local memory = collectgarbage "count"
    for _ = 1, EXECS do
      assert.equals("x\n", vm:exec({ "echo", "x" }).stdout)
    end
    local after = vm:agent_usage()
    assert.same({ before.descriptors, before.children }, { after.descriptors, after.children })
    assert.is_true(after.rss <= before.rss + 64 * 1024, ("rss %d, before %d"):format(after.rss, before.rss))
    collectgarbage()
    assert.is_true(collectgarbage "count" - memory < 256)
    assert.same({}, vm.channel.programs)
    assert.same({}, vm.channel.pending)
  end)
end)

describe("modules", function()
  it("are loaded with what they depend on", function()
    local loaded = vm:exec({ "cat", "/proc/modules" }).stdout
    assert.matches("vxlan %d+ 0 %-", "\n" .. loaded)
    assert.matches("\nudp_tunnel %d+ %d+ vxlan,", "\n" .. loaded)
  end)
end)

describe("vm:spawn", function()
  it("runs in the background, is signalled, and tells how it ended", function()
    local p = vm:spawn {
      "sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 1; done",
    }
    while p:stdout() == "" do
      vm:sleep(0.05)
    end
    assert.is_truthy(vm:read(("/proc/%d/cmdline"):format(p.pid)):find "trap")
    assert.is_true(p:kill "TERM")
    local r = p:wait(60)
    assert.same({ 3, "ready\ncaught\n" }, { r.status, r.stdout })
    assert.is_false(p:kill "TERM")
  end)

  it("can be fed while it runs", function()
    local p = vm:spawn { "cat", stdin = true }
    p:write "one\n"
    while p:stdout() ~= "one\n" do
      vm:sleep(0.05)
    end
    p:write "two\n"
    p:close_stdin()
    assert.same({ 0, "one\ntwo\n" }, { p:wait(60).status, p:wait().stdout })
  end)

  it("runs several at once", function()
    local programs = {}
    for i = 1, 8 do
      programs[i] = vm:spawn { "sh", "-c", ("sleep 0.1; echo %d; exit %d"):format(i, i) }
    end
    for i = 8, 1, -1 do
      local r = programs[i]:wait(60)
      assert.same({ i, i .. "\n" }, { r.status, r.stdout })
    end
  end)
end)

describe("files", function()
  it("of 10 MiB are read back as they were written", function()
    local words = {}
    local state = 12345
    for i = 1, 64 * 1024 do
      state = (state * 1103515245 + 12345) % 2 ^ 31
      words[i] = ("%010d,"):format(state)
    end
    local data = table.concat(words):rep(15):sub(1, 10 * MIB)
    assert.equals(10 * MIB, #data)
    vm:write("/tmp/big", data)
    assert.is_true(vm:read "/tmp/big" == data)
    assert.equals(0, vm:exec({ "rm", "/tmp/big" }).status)
  end)

  it("are made with directories and modes", function()
    vm:write("/tmp/a/b/tool", "#!/bin/sh\necho made\n", tonumber("755", 8))
    assert.equals("made\n", vm:exec({ "/tmp/a/b/tool" }).stdout)
    vm:write("/tmp/a/b/tool", "")
    assert.equals("", vm:read "/tmp/a/b/tool")
    assert.equals("1\n", vm:read "/proc/sys/kernel/sched_schedstats")
  end)

  it("are copied to and from the host", function()
    local path = os.tmpname()
    finally(function()
      os.remove(path)
    end)
    vm:put("/etc/hostname", "/tmp/hostname")
    vm:get("/tmp/hostname", path)
    local file = assert(io.open(path))
    local host = assert(io.open "/etc/hostname")
    assert.equals(host:read "*a", file:read "*a")
    file:close()
    host:close()
    assert.equals(vm:read "/tmp/hostname", vm:read "/opt/hosts")
  end)

  it("raise the guest's own error", function()
    local ok, e = pcall(vm.read, vm, "/no/such")
    assert.is_false(ok)
    assert.same({ "guest", 2 }, { e.code, e.errno })
    ok, e = pcall(vm.write, vm, "/proc/version", "x")
    assert.is_false(ok)
    assert.equals("guest", e.code)
  end)
end)

describe("the end", function()
  it("is clean", function()
    local r = vm:shutdown()
    assert.same({ true, 0, false }, { r.passed, r.exit_code, r.timed_out })
    assert.same({ 0, 0, 0 }, { r.channel.bad_headers, r.channel.bad_payloads, r.channel.unknown })
  end)
end)
