-- The machine object's whole life, in any order of calls; and starts and set-ups that fail half-way.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local resource = require "posix.sys.resource"
local support = require "tests.vm.support"
local topology = require "ktstr.topology"

local MIB = 2 ^ 20

local function refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert.is_true(errors.is(e), tostring(e))
  assert.equals(code, e.code)
  return e
end

local function options(fields)
  local all = {
    kernel = support.tiny_kernel,
    cmdline = "tiny.run=exit=3",
    topology = topology.parse("1n1l2c1t"):for_machine(64 * MIB),
    kaslr = false,
    la57 = false,
    timeout = 30,
  }
  for name, value in pairs(fields or {}) do
    all[name] = value
  end
  return all
end

local function run(machine)
  machine:start()
  repeat
    local kind, why = machine:recv()
  until not kind and why == "ended"
  return machine:join()
end

describe("a machine", function()
  it("that was not started refuses what needs it to run", function()
    local machine = core.machine(options())
    refused("invalid", machine.send, machine, core.wire.MSG_OP_REQUEST, "")
    refused("invalid", machine.recv, machine)
    refused("invalid", machine.join, machine)
    assert.same({ "", 0 }, { machine:console() })
    machine:wake_on_console(true)
    assert.equals(3, run(machine).exit_code)
  end)

  it("that was killed before its start ends by that", function()
    local machine = core.machine(options { cmdline = "tiny.run=hang" })
    machine:kill()
    assert.equals("ExternalKill", run(machine).exit_reason)
  end)

  it("starts once", function()
    local machine = core.machine(options())
    machine:start()
    refused("invalid", machine.start, machine)
    machine:kill()
    machine:join()
    refused("ended", machine.start, machine)
  end)

  it("that has ended still says what it came to", function()
    local machine = core.machine(options())
    local first = run(machine)
    assert.same(first, machine:join())
    assert.same({ nil, "ended" }, { machine:recv() })
    refused("ended", machine.send, machine, core.wire.MSG_OP_REQUEST, "")
    refused("ended", machine.wake_on_console, machine, true)
    machine:kill()
    local text, offset = machine:console()
    assert.matches("tiny: up", text, 1, true)
    assert.same({ text:sub(3), offset }, { machine:console(2) })
    assert.same({ "", offset }, { machine:console(offset) })
    assert.same({ "", offset }, { machine:console(2 ^ 53) })
  end)

  it("whose finalizer was called is gone, and the rest of the script is not", function()
    for _, started in ipairs { false, true } do
      local machine = core.machine(options { cmdline = "tiny.run=echo" })
      if started then
        machine:start()
      end
      getmetatable(machine).__gc(machine)
      refused("ended", machine.start, machine)
      refused("ended", machine.recv, machine)
      refused("ended", machine.join, machine)
      assert.same({ "", 0 }, { machine:console() })
      machine:kill()
    end
  end)

  it("refuses numbers that are none", function()
    for _, timeout in ipairs { 0, -1, 0 / 0, "x", {} } do
      assert.matches("timeout", refused("invalid", core.machine, options { timeout = timeout }).message)
    end
    refused("invalid", core.machine, options { cmdline = 5 })
    local machine = core.machine(options())
    for _, offset in ipairs { -1, 0 / 0, 2 ^ 64, 1 / 0 } do
      assert.is_false(pcall(machine.console, machine, offset))
    end
    machine:start()
    for _, kind in ipairs { -1, 2 ^ 32, 0 / 0 } do
      assert.is_false(pcall(machine.send, machine, kind, ""))
    end
  end)

  it("takes a limit beyond all numbers", function()
    for _, timeout in ipairs { math.huge, 2 ^ 33, 2 ^ 31 } do
      local result = run(core.machine(options { timeout = timeout }))
      assert.same({ "Shutdown", 3 }, { result.exit_reason, result.exit_code })
    end
  end)

  it("that ends while main sends says so, though much is left to read", function()
    local machine = support.tiny_machine("flood", { timeout = 1 })
    local payload = ("x"):rep(core.wire.WIRE_DATA_MAX)
    machine:start()
    local ok, e
    repeat
      ok, e = pcall(machine.send, machine, core.wire.MSG_OP_REQUEST, payload)
    until not ok
    assert.equals("ended", e.code)
    local frames = 0
    repeat
      local kind, why = machine:recv()
      frames = frames + 1
    until not kind and why == "ended"
    assert.is_true(frames > 1000)
    assert.equals("Timeout", machine:join().exit_reason)
  end)
end)

describe("a machine that is sent to without end", function()
  it("ends with its timeout all the same", function()
    local machine = support.tiny_machine("echo", { timeout = 1 })
    local payload = ("x"):rep(1000)
    machine:start()
    local sent = 0
    local ok, e
    repeat
      ok, e = pcall(machine.send, machine, core.wire.MSG_SNAPSHOT_REPLY, payload) -- nothing to the guest
      sent = sent + 1
    until not ok
    assert.equals("ended", e.code)
    assert.is_true(sent > 100)
    assert.equals("Timeout", machine:join().exit_reason)
  end)
end)

describe("two machines in one process", function()
  it("do not know of each other", function()
    local echo = core.machine(options { cmdline = "tiny.run=echo" })
    echo:start()
    assert.equals(core.wire.MSG_SYS_RDY, (echo:recv(30)))
    for code = 1, 3 do
      assert.equals(code, run(core.machine(options { cmdline = "tiny.run=exit=" .. code })).exit_code)
    end
    echo:send(core.wire.MSG_OP_REQUEST, core.wire.op_request(77, core.wire.OP_PING, ""))
    local kind, payload = echo:recv(30)
    assert.equals(77, core.wire.decode(kind, payload).id)
    echo:kill()
    assert.equals("ExternalKill", echo:join().exit_reason)
  end)
end)

describe("creating a machine", function()
  local function fails(fields, finally)
    finally(collectgarbage)
    return pcall(core.machine, options(fields))
  end

  it("fails 200 times and leaves nothing", function()
    local damaged = support.temporary_file(("\0"):rep(70000), finally)
    local image = core.cpio()
    image:file("/big", 420, ("x"):rep(3 * MIB))
    local ways = {
      { topology = topology.parse("1n1l2c1t"):for_machine(2 * MIB), initrd = image },
      { kernel = damaged },
      { kernel = "/nonexistent" },
      { cmdline = ("x"):rep(MIB) },
    }
    support.run_tiny "exit"
    local before = support.holdings()
    for i = 1, 200 do
      assert.is_false(fails(ways[i % #ways + 1], finally))
    end
    assert.same(before, support.holdings())
  end)

  -- One descriptor more each time, until there are enough: every step that opens one fails in turn.
  it("fails at every descriptor and leaves nothing", function()
    local soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    local highest = soft.rlim_cur
    finally(function()
      soft.rlim_cur = highest
      resource.setrlimit(resource.RLIMIT_NOFILE, soft)
    end)
    support.run_tiny "exit"
    local before = support.holdings()
    local failures, made = 0, false
    for extra = 0, 100 do
      soft.rlim_cur = before.descriptors + extra
      resource.setrlimit(resource.RLIMIT_NOFILE, soft)
      local e
      made, e = fails({}, finally)
      soft.rlim_cur = highest
      resource.setrlimit(resource.RLIMIT_NOFILE, soft)
      if made then
        break
      end
      assert.is_true(errors.is(e), tostring(e))
      failures = failures + 1
      e = nil -- luacheck: ignore
      assert.same(before, support.holdings())
    end
    assert.is_true(made)
    assert.is_true(failures > 20)
  end)
end)

describe("a start that fails", function()
  -- Room for so many threads' stacks and no more.
  local SCRIPT = [[
    local core = require "ktstr.core"
    local resource = require "posix.sys.resource"
    local topology = require "ktstr.topology"
    local function held()
      collectgarbage()
      collectgarbage()
      return #require("posix.dirent").dir "/proc/self/task"
    end
    local function size()
      for line in io.lines "/proc/self/status" do
        local kib = line:match "^VmSize:%s*(%d+)"
        if kib then
          return tonumber(kib) * 1024
        end
      end
    end
    local limit = resource.getrlimit(resource.RLIMIT_AS)
    local unlimited, failures, before = limit.rlim_cur, 0, held()
    for threads = 0, 20 do
      local machine = core.machine {
        kernel = os.getenv "KTSTR_TINY", cmdline = "tiny.run=shout",
        topology = topology.parse("1n1l4c1t"):for_machine(64 * 2 ^ 20),
        kaslr = false, la57 = false, timeout = 30,
      }
      machine:wake_on_console(true)
      limit.rlim_cur = size() + threads * 4 * 2 ^ 20
      resource.setrlimit(resource.RLIMIT_AS, limit)
      local ok, e = pcall(machine.start, machine)
      limit.rlim_cur = unlimited
      resource.setrlimit(resource.RLIMIT_AS, limit)
      if ok then
        print("failures", failures)
        machine:kill()
        machine:join()
        return
      end
      failures = failures + 1
      assert(e.code == "os" and tostring(e):find "cannot start the", tostring(e))
      assert(held() == before)
      for _, method in ipairs { "start", "join", "recv" } do
        local again, why = pcall(machine[method], machine)
        assert(not again and why.code == "ended", method)
      end
    end
  ]]

  it("ends what had started and gives everything back", function()
    for line in io.lines "/proc/self/status" do
      if tonumber(line:match "^VmSize:%s*(%d+)" or 0) >= 2 ^ 21 then
        pending "a sanitizer's address space cannot be limited" -- posix's limits are 32 bits wide
        return
      end
    end
    local r = support.script(SCRIPT, finally)
    assert.equals(0, r.status, r.stderr)
    assert.is_true(tonumber(r.stdout:match "failures%s+(%d+)") > 1, r.stdout)
  end)
end)
