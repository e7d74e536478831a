-- Guests that do what none should: each ends as any other, and is judged by what it reported.
local core = require "ktstr.core"
local support = require "tests.vm.support"

describe("a guest", function()
  it("that reports twice has reported what it said last", function()
    local result = support.run_tiny { "report=0", "report=5", "reset" }
    assert.same({ true, 5, "Shutdown" }, { result.reported, result.exit_code, result.exit_reason })
  end)

  it("that reports success and hangs has run out of time", function()
    local result = support.run_tiny({ "report=0", "hang" }, { timeout = 0.5 })
    assert.same({ true, 0, true }, { result.reported, result.exit_code, result.timed_out })
    assert.is_false(require("ktstr.outcome").of(result, "").passed)
  end)

  it("that dies on another CPU has not passed, and says where", function()
    local result = support.run_tiny("triple-elsewhere", { topology = "1n1l4c1t" })
    assert.same({ false, -1, "ExternalKill" }, { result.reported, result.exit_code, result.exit_reason })
    assert.matches("^vCPU %d: .*triple fault", result.detail)
  end)

  it("that dies on its first CPU says so, too", function()
    local result = support.run_tiny "triple"
    assert.equals("Fatal", result.exit_reason)
    assert.matches("^vCPU 0: .*triple fault", result.detail)
  end)

  it("that resets and powers off at once ends once", function()
    for _ = 1, 20 do
      local result = support.run_tiny("end-everywhere", { topology = "1n1l4c1t" })
      assert.is_false(result.reported)
      -- Whoever was first: the first CPU itself, or another that then stopped it.
      assert.is_true(result.exit_reason == "Shutdown" or result.exit_reason == "ExternalKill")
      assert.matches("^the guest reset the machine through the .* %(vCPU %d%)$", (result.detail:gsub(
        "^the guest powered off", "the guest reset the machine through the power button")))
    end
  end)

  it("that floods its serial ports ends with its timeout, its text bounded", function()
    local machine = support.tiny_machine("shout", { timeout = 1 })
    machine:wake_on_console(true)
    machine:start()
    local woken = 0
    repeat
      local _, why = machine:recv()
      woken = woken + 1
    until why == "ended"
    local result = machine:join()
    assert.is_true(woken > 1)
    assert.same({ "Timeout", false }, { result.exit_reason, result.reported })
    assert.is_true(#result.last_words <= 64 * 1024)
  end)

  it("that changes its interrupt vectors all the time ends when it is told to", function()
    local machine = support.tiny_machine("hammer", { topology = "1n1l2c1t" })
    machine:start()
    assert.equals(core.wire.MSG_SYS_RDY, (machine:recv(30)))
    assert.same({ nil, "timeout" }, { machine:recv(0.2) })
    machine:kill()
    assert.equals("ExternalKill", machine:join().exit_reason)
  end)
end)
