-- Machines leave nothing behind in the process that ran them.
local support = require "tests.vm.support"

local BOOTS = tonumber(os.getenv "KTSTR_BOOTS" or "200")

describe("machines", function()
  it(("leave nothing after %d in a row"):format(BOOTS), function()
    support.run_tiny "exit"
    local before = support.holdings()
    for _ = 1, BOOTS do
      assert.equals(0, support.run_tiny("exit", { topology = "1n1l2c1t" }).exit_code)
    end
    assert.same(before, support.holdings())
  end)

  it("leave nothing after 4 at once, ended and killed and forgotten", function()
    support.run_tiny "exit"
    local before = support.holdings()
    for _ = 1, 5 do
      local machines = {}
      for i = 1, 4 do
        machines[i] = support.tiny_machine(i % 2 == 0 and "count" or "echo", { topology = "1n1l2c1t" })
      end
      for _, machine in ipairs(machines) do
        machine:start()
      end
      for _, machine in ipairs(machines) do
        assert.is_truthy(machine:recv(30)) -- SYS_RDY
      end
      machines[1]:kill()
      machines[1]:join()
      machines[2]:kill()
      machines[2]:join()
      -- The others run when the collector takes them.
    end
    assert.same(before, support.holdings())
  end)

  it("leave nothing when they were never started", function()
    support.run_tiny "exit"
    local before = support.holdings()
    for _ = 1, 20 do
      support.tiny_machine "exit"
    end
    assert.same(before, support.holdings())
  end)
end)
