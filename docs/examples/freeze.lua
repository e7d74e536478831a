-- Stops a machine under load, looks at every CPU, lets it go on: the workers do not notice.
local ktstr = require "ktstr"

-- The workers run for too short a time to be compared with one another.
local checks = { max_spread_pct = false }

ktstr.test("a freeze is not noticed", { topology = "1n1l2c1t", checks = checks }, function(t)
  t:cgroup("cg_0", { workers = 2, work = "SpinWait" })
  t:start()
  for _ = 1, 20 do
    local before, after = t.vm:frozen(function()
      local before = tostring(t.vm:regs(1))
      return before, tostring(t.vm:regs(1))
    end)
    t:expect(after, "registers of a frozen CPU"):equals(before)
  end
  t:expect(t.vm:exec({ "ktstr-capture", "from inside" }).status, "status of ktstr-capture"):equals(0)
  t:stop()
  local snap = t.vm:captures()[1]
  t:expect(snap.tag, "the capture's name"):equals "from inside"
  t:expect(snap.source, "who asked for it"):equals "guest"
end)
