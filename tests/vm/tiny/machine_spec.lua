-- The machine itself, by the tiny guest: it starts every CPU, reports, and ends in every way there is.
local ktstr = require "ktstr"
local support = require "tests.vm.support"
local topology = require "ktstr.topology"

local function apic_ids(text)
  local ids = {}
  for apic, cpuid in text:gmatch "apic (%d+) cpuid (%d+)\n" do
    assert.equals(apic, cpuid)
    assert.is_nil(ids[tonumber(apic)])
    ids[tonumber(apic)] = true
  end
  return ids
end

local function count(t)
  local n = 0
  for _ in pairs(t) do
    n = n + 1
  end
  return n
end

describe("the tiny guest", function()
  for _, spec in ipairs { "1n1l1c1t", "1n2l2c2t", "2n4l2c1t", "1n4l2c2t", "1n3l3c1t", "1n8l4c2t" } do
    it("finds and starts every CPU of " .. spec, function()
      local cpus = topology.parse(spec).cpus
      local result = support.run_tiny("cpus", { topology = spec, timeout = 60 })
      assert.same({ true, 0 }, { result.reported, result.exit_code })
      local text = support.output_of(result)
      assert.matches(("cpus %d of %d\n"):format(cpus, cpus), text, 1, true)
      assert.equals(cpus, count(apic_ids(text)))
    end)
  end

  it("finds and starts 252 CPUs with ids above 254 #slow", function()
    local result = support.run_tiny("cpus", { topology = "max-cpu", timeout = 300, memory = 512 * 2 ^ 20 })
    assert.same({ true, 0 }, { result.reported, result.exit_code })
    local text = support.output_of(result)
    assert.matches("cpus 252 of 252\n", text, 1, true)
    assert.is_true(apic_ids(text)[433])
  end)

  it("reports its exit code in a frame, or on COM2", function()
    local result = support.run_tiny "exit=42"
    assert.same({ true, 42, "Shutdown" }, { result.reported, result.exit_code, result.exit_reason })
    result = support.run_tiny "sentinel=7"
    assert.same({ true, 7, "Shutdown" }, { result.reported, result.exit_code, result.exit_reason })
    assert.matches("KTSTR_EXIT:7", result.last_words, 1, true)
  end)

  it("is found again after noise on the channel", function()
    local result = support.run_tiny "garbage-then-exit=5"
    assert.same({ true, 5 }, { result.reported, result.exit_code })
    assert.is_true(result.channel.skipped_bytes > 0)
  end)

  it("answers requests under the library", function()
    local vm = ktstr.boot { kernel = support.tiny_kernel, cmdline = "tiny.run=echo", topology = "1n1l2c1t" }
    assert.equals("0.1.0-tiny", vm.release)
    assert.is_true(vm:ping() > 0)
    local r = vm:shutdown()
    assert.same({ true, 0, false }, { r.passed, r.exit_code, r.timed_out })
    assert.matches("tiny: up", r.console)
  end)

  it("gives its console line by line while it runs", function()
    local lines = {}
    local vm = ktstr.boot {
      kernel = support.tiny_kernel,
      cmdline = "tiny.run=echo",
      console = function(line)
        lines[#lines + 1] = line
      end,
    }
    assert.same({ "tiny: up" }, lines)
    vm:kill()
  end)
end)

describe("a guest that fails", function()
  local function failed(scenarios, timeout)
    local ok, e = pcall(ktstr.boot, {
      kernel = support.tiny_kernel,
      cmdline = "tiny.run=" .. table.concat(scenarios, " tiny.run="),
      timeout = timeout,
    })
    assert.is_false(ok)
    assert.is_true(ktstr.errors.is(e))
    assert.is_nil(e.cannot_run)
    assert.matches("the guest's console, last %d+ lines:\n  | tiny: up", tostring(e))
    return e
  end

  for scenario, text in pairs {
    poweroff = "the guest powered off.*no exit code was reported",
    reset = "the guest reset.*no exit code was reported",
    triple = "no exit code was reported",
    panic = "last words: Kernel panic %- not syncing",
  } do
    it("by " .. scenario .. " is told apart", function()
      local e = failed { scenario }
      assert.equals("ended", e.code)
      assert.matches(text, e.message)
    end)
  end

  it("with an exit code of its own has not passed", function()
    local vm = ktstr.boot { kernel = support.tiny_kernel, cmdline = "tiny.run=exit=9" }
    local r = vm:shutdown()
    assert.same({ false, true, 9 }, { r.passed, r.reported, r.exit_code })
  end)

  it("by hanging ends with its timeout", function()
    local e = failed({ "hang" }, 0.3)
    assert.equals("timeout", e.code)
    assert.matches("its time was up (timeout = 0.3 s)", e.message, 1, true)
    assert.is_true(e.result.timed_out)
    assert.equals("Timeout", e.result.exit_reason)
  end)

  it("by spinning ends with its timeout on every CPU", function()
    local e = failed({ "spin" }, 0.3)
    assert.equals("Timeout", e.result.exit_reason)
  end)

  for _, case in ipairs {
    { "badcrc", "bad payload checksums 1" },
    { "badlength", "bad headers" },
    { "unknown", "unknown types 1" },
    { "garbage", "bytes skipped" },
  } do
    it("to send a good frame after " .. case[1] .. " is told with what was dropped", function()
      local e = failed { case[1] }
      assert.matches("no exit code was reported", e.message)
      assert.matches("frames dropped on port 1: .*" .. case[2], e.message)
    end)
  end

  it("by flooding its channel still ends with its timeout", function()
    local machine = support.tiny_machine("flood", { timeout = 1 })
    machine:start()
    local frames = 0
    while true do
      local kind, why = machine:recv()
      frames = frames + 1
      if why == "ended" then
        break
      end
      assert.is_truthy(kind)
    end
    assert.is_true(frames > 1)
    assert.equals("Timeout", machine:join().exit_reason)
  end)
end)
