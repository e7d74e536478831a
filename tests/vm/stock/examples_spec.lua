-- The examples do what the documentation says they do.
local support = require "tests.vm.support"

require("posix.stdlib").setenv("KTSTR_WARM", "1") -- as a user runs them

describe("docs/examples", function()
  it("first.lua ends with the kernel's release, the table and PASS", function()
    local r = support.ktstr("script", "docs/examples/first.lua")
    assert.same({ 0, "" }, { r.status, r.stderr })
    assert.matches("\n  kernel %d+%.%d+%S*, topology 1n1l2c1t %(2 CPUs%)\n", r.stdout)
    assert.matches("\n  cgroup +workers +work .-\n  cg_0 +2  SpinWait .-\n  cg_1 +2  Bursty .-\nPASS\n",
      r.stdout)
    assert.matches("\n1 passed, 0 failed\n$", r.stdout)
  end)

  it("freeze.lua passes", function()
    local r = support.ktstr("script", "docs/examples/freeze.lua")
    assert.same({ 0, "" }, { r.status, r.stderr }, r.stdout)
    assert.matches("\n  cg_0 +2  SpinWait .-\nPASS\n\n1 passed, 0 failed\n$", r.stdout)
  end)

  it("captures.lua passes", function()
    local r = support.ktstr("script", "docs/examples/captures.lua")
    assert.same({ 0, "" }, { r.status, r.stderr }, r.stdout)
    assert.matches("\nPASS\n\n1 passed, 0 failed\n$", r.stdout)
  end)

  it("look.lua shows what runs, and where a task sleeps", function()
    local r = support.ktstr("script", "docs/examples/look.lua")
    assert.same({ 0, "" }, { r.status, r.stderr }, r.stdout)
    assert.matches("^CPU 1 runs .-\n  sh +vruntime %-?%d", r.stdout)
    assert.matches("\ninit %(pid 1%), .-\n +%d+  0x%x+ +%S+%+0x%x+\n", r.stdout)
  end)

  it("fork.lua starts two machines from a third", function()
    local r = support.ktstr("script", "docs/examples/fork.lua")
    assert.same({ 0, "", "done once\nfork 1\ndone once\nfork 2\n" }, { r.status, r.stderr, r.stdout })
  end)
end)
