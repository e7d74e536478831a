-- A user without a home, as services and containers have: nothing is kept, and all else works.
local ktstr = require "ktstr"
local sandbox = require "tests.lua.sandbox"
local support = require "tests.vm.support"

local box

before_each(function()
  box = sandbox.sandbox()
  for _, name in ipairs { "HOME", "XDG_CACHE_HOME", "KTSTR_WARM_DIR", "KTSTR_WARM" } do
    box.setenv(name, nil)
  end
end)

after_each(function()
  box.undo()
end)

local function boot(finally, options)
  options.kernel, options.cmdline = support.tiny_kernel, "tiny.run=warm"
  options.memory, options.timeout = "128M", 120
  local vm = ktstr.boot(options)
  finally(function()
    vm:kill()
  end)
  return vm
end

describe("without a place for saved machines", function()
  it("machines boot, are saved in memory, and fork", function()
    local vm = boot(finally, {})
    assert.is_false(vm.warm)
    vm:write("/memory", "saved")
    local image = vm:save()
    local fork = image:boot { timeout = 120 }
    finally(function()
      fork:kill()
      image:close()
    end)
    assert.equals("saved", fork:read "/memory")
    assert.is_false(boot(finally, {}).warm)
  end)

  it("asking for one says what is missing", function()
    local ok, e = pcall(boot, finally, { warm = true })
    assert.is_false(ok)
    assert.same({ "invalid", true }, { e.code, e.cannot_run })
    assert.matches("neither XDG_CACHE_HOME nor HOME is set", e.message, 1, true)
  end)
end)
