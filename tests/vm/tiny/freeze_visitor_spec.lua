-- Whatever a visitor of a frozen machine does, the machine is thawed and can be frozen again; and what makes
-- no sense is refused.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local signal = require "posix.signal"
local support = require "tests.vm.support"
local time = require "posix.time"
local tiny_guest = require "tests.vm.tiny_guest"

local refused = tiny_guest.refused

local function sleep(seconds)
  time.nanosleep { tv_sec = math.floor(seconds), tv_nsec = seconds % 1 * 1e9 }
end

local function counting(options)
  return tiny_guest.start("load=0", finally, options)
end

-- It runs, and the gate is free.
local function assert_free(machine)
  assert.is_false(machine:is_frozen())
  machine:freeze()
  local before = tiny_guest.counters(machine, 1)[1]
  machine:thaw()
  tiny_guest.wait_until(function()
    return machine:frozen(nil, tiny_guest.counters, machine, 1)[1] > before
  end)
  assert.is_false(machine:is_frozen())
end

describe("a call out of place", function()
  it("is freezing a frozen machine", function()
    local machine = counting()
    machine:freeze()
    refused("frozen", machine.freeze, machine)
    refused("frozen", machine.frozen, machine, nil, function() end)
    refused("frozen", machine.capture, machine, "again")
    assert.is_true(machine:is_frozen())
    machine:thaw()
    assert_free(machine)
  end)

  it("is thawing a machine that runs, or looking into it", function()
    local machine = counting()
    for _ = 1, 2 do
      refused("running", machine.thaw, machine)
      refused("running", machine.regs, machine, 0)
      refused("running", machine.step, machine, 0, 1)
      refused("running", machine.read_physical, machine, 0, 1)
      refused("running", machine.memory_crc, machine)
      machine:freeze()
      machine:thaw()
    end
  end)

  it("is one with a CPU or a place in memory that is not there", function()
    local machine = counting { cpus = 2 }
    machine:freeze()
    for _, cpu in ipairs { 2, 255, 2 ^ 31 } do
      assert.matches("CPUs 0 to 1", refused("invalid", machine.regs, machine, cpu).message)
      refused("invalid", machine.step, machine, cpu, 1)
    end
    local size = 32 * 2 ^ 20
    for _, range in ipairs { { size, 1 }, { size - 1, 2 }, { 0xfee00000, 4 }, { 2 ^ 52, 4096 } } do
      refused("invalid", machine.read_physical, machine, range[1], range[2])
    end
    assert.equals(1, #machine:read_physical(size - 1, 1))
    for _, cpu in ipairs { -1, 0 / 0, 2 ^ 32, "x" } do
      assert.is_false(pcall(machine.regs, machine, cpu))
    end
    for _, range in ipairs { { 0, 0 }, { 0, -1 }, { -1, 1 }, { 0, 2 ^ 24 + 1 }, { 0 / 0, 1 } } do
      assert.is_false(pcall(machine.read_physical, machine, range[1], range[2]))
    end
    assert.is_false(pcall(machine.test_hook, machine, "nonsense"))
    machine:thaw()
    assert_free(machine)
  end)

  it("is one on a machine that has not been started", function()
    local machine = support.tiny_machine "exit"
    for _, call in ipairs { "freeze", "thaw", "memory_crc" } do
      refused("invalid", machine[call], machine)
    end
    refused("invalid", machine.regs, machine, 0)
    refused("invalid", machine.capture, machine, "x")
    assert.is_false(machine:is_frozen())
    assert.same({}, machine:captures())
  end)

  it("is one on a machine that has ended", function()
    local machine = counting()
    machine:capture "before"
    machine:kill()
    local function all_refused()
      for _, call in ipairs { "freeze", "thaw", "memory_crc" } do
        refused("ended", machine[call], machine)
      end
      refused("ended", machine.frozen, machine, nil, function() end)
      refused("ended", machine.regs, machine, 0)
      refused("ended", machine.step, machine, 0, 1)
      refused("ended", machine.read_physical, machine, 0, 1)
      refused("ended", machine.capture, machine, "after")
      refused("ended", machine.test_hook, machine, "periodic", 1)
      assert.is_false(machine:is_frozen())
      assert.equals("before", machine:captures()[1].tag)
      assert.equals(1, machine:freeze_counts().main.done)
    end
    repeat
      local _, why = machine:recv()
    until why == "ended"
    all_refused()
    assert.equals("ExternalKill", machine:join().exit_reason)
    all_refused()
  end)
end)

describe("a visitor", function()
  it("is given its arguments, and what it returns comes back", function()
    local machine = counting()
    local function visit(...)
      assert.is_true(machine:is_frozen())
      return select("#", ...), ...
    end
    local function packed(...)
      return { n = select("#", ...), ... }
    end
    assert.same({ n = 4, 3, "a", nil, false }, packed(machine:frozen(nil, visit, "a", nil, false)))
    assert.same({ n = 1, 0 }, packed(machine:frozen(30, visit)))
    assert.same({ n = 0 }, packed(machine:frozen(nil, function() end)))
    assert_free(machine)
  end)

  it("raises, and its very error comes out", function()
    local machine = counting()
    local own = {}
    for _, value in ipairs { "text", own, 5, false } do
      local ok, e = pcall(machine.frozen, machine, nil, function()
        error(value, 0)
      end)
      assert.is_false(ok)
      assert.equals(value, e)
      assert_free(machine)
    end
    local e = refused("not-found", machine.frozen, machine, nil, function()
      errors.raise("not-found", "nothing here")
    end)
    assert.equals("nothing here", e.message)
    local ok, text = pcall(machine.frozen, machine, nil, function()
      return (nil)["field"]
    end)
    assert.is_false(ok)
    assert.matches("attempt to index", text)
    assert_free(machine)
  end)

  it("raises with a stack that is full", function()
    local machine = counting()
    local function deeper()
      return 1 + deeper()
    end
    local ok, e = pcall(machine.frozen, machine, nil, deeper)
    assert.is_false(ok)
    assert.matches("stack overflow", tostring(e))
    assert_free(machine)
  end)

  it("freezes and thaws within itself", function()
    local machine = counting()
    local value = machine:frozen(nil, function()
      refused("frozen", machine.freeze, machine)
      refused("frozen", machine.frozen, machine, nil, function()
        error "never called"
      end)
      assert.is_true(machine:is_frozen())
      machine:thaw()
      assert.is_false(machine:is_frozen())
      refused("running", machine.regs, machine, 0)
      machine:freeze()
      assert.is_true(machine:is_frozen())
      return "back"
    end)
    assert.equals("back", value)
    assert_free(machine)
  end)

  it("yields to nobody", function()
    local machine = counting()
    local ok = pcall(coroutine.wrap(function()
      machine:frozen(nil, coroutine.yield, 1)
    end))
    assert.is_false(ok)
    assert_free(machine)
  end)

  it("runs in a coroutine", function()
    local machine = counting()
    local value = coroutine.wrap(function()
      return machine:frozen(nil, function()
        return tiny_guest.registers(machine, 0).rip
      end)
    end)()
    assert.is_true(value > 0)
    assert_free(machine)
  end)

  it("sleeps as long as it likes when it has no limit", function()
    local machine = counting()
    machine:frozen(nil, function()
      local before = tiny_guest.fingerprint(machine, 1)
      sleep(0.3)
      assert.equals(before, tiny_guest.fingerprint(machine, 1))
    end)
    assert_free(machine)
  end)

  it("sleeps for 5 seconds, and nothing has moved #slow", function()
    local machine = counting { cpus = 8 }
    machine:frozen(nil, function()
      local before = tiny_guest.fingerprint(machine, 8)
      sleep(5)
      assert.equals(before, tiny_guest.fingerprint(machine, 8))
    end)
    assert_free(machine)
  end)

  for name, visit in pairs {
    ["computes for ever"] = function()
      local i = 0
      while true do
        i = i + 1
      end
    end,
    ["does nothing for ever"] = function()
      while true do end
    end,
    ["catches every error, for ever"] = function(machine)
      while true do
        pcall(machine.regs, machine, 0)
      end
    end,
    ["sleeps beyond its limit"] = function()
      sleep(0.6)
    end,
    ["looks at the machine for ever"] = function(machine)
      while true do
        machine:regs(0)
      end
    end,
  } do
    it(name .. ", until its limit", function()
      local machine = counting()
      local e = refused("freeze-limit", machine.frozen, machine, 0.2, visit, machine)
      assert.matches("freeze limit", e.message)
      assert_free(machine)
    end)
  end

  -- With many vCPUs the thaw takes its time, and here main is told of the limit in the midst of it.
  it("that has caught its limit at the first moment is ended all the same", function()
    local machine = counting { cpus = 32 }
    local went_on = 0
    for _ = 1, 40 do
      refused("freeze-limit", machine.frozen, machine, 0.02, function()
        while machine:is_frozen() do end
        refused("freeze-limit", machine.regs, machine, 0)
        local deadline = os.time() + 2
        while os.time() < deadline do end
        went_on = went_on + 1
      end)
    end
    assert.equals(0, went_on)
    assert_free(machine)
  end)

  it("that is done within its limit is not ended by it", function()
    local machine = counting()
    assert.equals(5, machine:frozen(0.2, function()
      return 5
    end))
    sleep(0.3)
    assert_free(machine)
  end)

  it("kills its machine", function()
    local machine = counting()
    pcall(machine.frozen, machine, nil, function()
      machine:kill()
      tiny_guest.wait_until(function()
        return not machine:is_frozen()
      end)
      refused("ended", machine.regs, machine, 0)
    end)
    assert.equals("ExternalKill", tiny_guest.finish(machine).exit_reason)
  end)

  it("ends its machine altogether", function()
    local machine = counting()
    pcall(machine.frozen, machine, nil, function()
      machine:kill()
      assert.equals("ExternalKill", machine:join().exit_reason)
      refused("ended", machine.regs, machine, 0)
    end)
    assert.is_false(machine:is_frozen())
    assert.equals("ExternalKill", machine:join().exit_reason)
  end)
end)

describe("a freeze with a limit", function()
  it("ends by itself, and says so once", function()
    local machine = counting()
    machine:freeze(0.1)
    tiny_guest.wait_until(function()
      return not machine:is_frozen()
    end)
    refused("freeze-limit", machine.regs, machine, 0)
    refused("running", machine.regs, machine, 0)
    refused("running", machine.thaw, machine)
    machine:freeze(0.1)
    tiny_guest.wait_until(function()
      return not machine:is_frozen()
    end)
    refused("freeze-limit", machine.thaw, machine)
    assert_free(machine)
  end)
end)

describe("a frozen machine", function()
  it("is killed", function()
    local machine = counting { cpus = 4 }
    machine:freeze()
    machine:kill()
    assert.equals("ExternalKill", tiny_guest.finish(machine).exit_reason)
    assert.is_false(machine:is_frozen())
  end)

  it("is forgotten, killed, or never thawed, and leaves nothing", function()
    support.run_tiny "exit"
    local before = support.holdings()
    for way = 0, 8 do
      local machine = support.tiny_machine("load=3", { topology = "1n1l4c1t" })
      machine:start()
      assert(machine:recv(30))
      machine:freeze(way == 3 and 60 or nil)
      if way % 3 == 1 then
        machine:kill()
        machine:join()
      elseif way % 3 == 2 then
        machine:thaw()
      end
      -- The collector takes it, in whatever state it is.
    end
    assert.same(before, support.holdings())
  end)

  it("has a deadline that stands still with it", function()
    local machine = counting { timeout = 0.8 }
    machine:freeze()
    sleep(1)
    assert.is_true(machine:is_frozen())
    machine:thaw()
    -- Only a machine that runs can be frozen.
    machine:freeze()
    machine:thaw()
    local result = tiny_guest.finish(machine)
    assert.same({ "Timeout", true }, { result.exit_reason, result.timed_out })
  end)
end)

describe("a vCPU that does not park", function()
  it("is named, with where it was; the machine goes on, and can be frozen again", function()
    local machine = counting { cpus = 4 }
    machine:test_hook("rendezvous_timeout", 0.2)
    machine:test_hook("deaf", 2, 0.6)
    local e = refused("timeout", machine.freeze, machine)
    assert.matches("1 of 4 vCPUs did not stop", e.message, 1, true)
    assert.matches("vCPU 2", e.message, 1, true)
    assert.matches("last exit", e.message, 1, true)
    assert.is_false(machine:is_frozen())
    refused("running", machine.regs, machine, 0)
    -- Its acknowledgement comes late, in the midst of what comes next.
    machine:test_hook("rendezvous_timeout", 30)
    for _ = 1, 50 do
      machine:freeze()
      local before = tiny_guest.fingerprint(machine, 4)
      assert.equals(before, tiny_guest.fingerprint(machine, 4))
      machine:thaw()
    end
    assert.equals(1, machine:freeze_counts().main.timeout)
    assert_free(machine)
  end)

  it("is one that is deaf for ever: each freeze says so, and kill ends it", function()
    local machine = counting { cpus = 2 }
    machine:test_hook("rendezvous_timeout", 0.1)
    machine:test_hook("deaf", 1, 1000)
    for _ = 1, 5 do
      assert.matches("vCPU 1", refused("timeout", machine.freeze, machine).message, 1, true)
    end
    refused("timeout", machine.capture, machine, "x")
    local placeholder = machine:captures()[1]
    assert.same({ "x", true, 0 }, { placeholder.tag, placeholder.missed, #placeholder.cpus })
    machine:kill()
    assert.equals("ExternalKill", tiny_guest.finish(machine).exit_reason)
  end)

  it("does not put off the end of the run", function()
    local machine = counting { cpus = 2, timeout = 0.5 }
    machine:test_hook("deaf", 1, 1000)
    assert.equals("the machine has ended", refused("ended", machine.freeze, machine).message)
    assert.equals("Timeout", tiny_guest.finish(machine).exit_reason)
  end)

  it("is refused as a name for what is not there", function()
    local machine = counting()
    refused("invalid", machine.test_hook, machine, "deaf", 1, 1)
  end)
end)

local SCRIPT = [[
io.stdout:setvbuf "no"
local core = require "ktstr.core"
local topology = require "ktstr.topology"
local function start(scenario)
  local machine = core.machine {
    kernel = os.getenv "KTSTR_TINY",
    cmdline = "tiny.run=" .. scenario,
    topology = topology.parse("1n1l4c1t"):for_machine(32 * 2 ^ 20),
    kaslr = false,
    la57 = false,
    timeout = 60,
  }
  machine:start()
  assert(machine:recv(30))
  return machine
end
]]

describe("a script", function()
  it("that calls os.exit in a visitor has that status, and leaves nothing", function()
    for _, call in ipairs { "os.exit(7)", "os.exit(7, true)" } do
      local r = support.script(SCRIPT .. ([[
        start("load=3"):frozen(nil, function() %s end)
      ]]):format(call), finally)
      assert.same({ 7, "" }, { r.status, r.stderr })
      assert.same({}, support.processes_with(r.path))
    end
  end)

  it("that ends with a frozen machine ends", function()
    local r = support.script(SCRIPT .. [[
      start("load=3"):freeze()
      print "frozen"
    ]], finally)
    assert.same({ 0, "frozen\n" }, { r.status, r.stdout })
    assert.same({}, support.processes_with(r.path))
  end)

  it("that raises in a visitor says so", function()
    local r = support.script(SCRIPT .. [[
      start("load=3"):frozen(nil, function() error "from the visitor" end)
    ]], finally)
    assert.is_true(r.status ~= 0)
    assert.matches("from the visitor", r.stderr)
    assert.same({}, support.processes_with(r.path))
  end)
end)

local statuses = { [signal.SIGINT] = 130, [signal.SIGTERM] = 143 }

for moment, text in pairs {
  ["holds a frozen machine and computes"] = [[
    start("load=3"):freeze()
    print "x"
    local i = 0
    while true do i = i + 1 end
  ]],
  ["computes in a visitor"] = [[
    start("load=3"):frozen(nil, function()
      print "x"
      local i = 0
      while true do i = i + 1 end
    end)
  ]],
  ["waits for a frozen guest"] = [[
    local machine = start("echo")
    machine:freeze()
    print "x"
    machine:recv()
  ]],
  ["freezes and thaws for ever"] = [[
    local machine = start("load=3")
    print "x"
    while true do
      machine:freeze()
      machine:thaw()
    end
  ]],
  ["waits for a vCPU that does not park"] = [[
    local machine = start("load=3")
    machine:test_hook("deaf", 1, 1000)
    print "x"
    machine:freeze()
  ]],
  ["catches every error of freezing"] = [[
    local machine = start("load=3")
    print "x"
    while true do pcall(machine.frozen, machine, nil, machine.memory_crc, machine) end
  ]],
} do
  describe("a signal to a script that " .. moment, function()
    for name, number in pairs { SIGINT = signal.SIGINT, SIGTERM = signal.SIGTERM } do
      local slow = moment:find "catches" and " #slow" or ""
      it(("ends it: %s%s"):format(name, slow), function()
        local r, path = support.signal_while("script", SCRIPT .. text, number, finally)
        assert.same({ status = statuses[number] }, r)
        assert.same({}, support.processes_with(path))
      end)
    end
  end)
end

describe("the machine's methods", function()
  it("are all there", function()
    local machine = support.tiny_machine "exit"
    for _, name in ipairs { "freeze", "thaw", "is_frozen", "frozen", "regs", "step", "read_physical",
      "memory_crc", "capture", "captures", "test_hook", "freeze_counts" } do
      assert.equals("function", type(machine[name]))
    end
    assert.equals("table", type(core.error_metatable))
  end)
end)
