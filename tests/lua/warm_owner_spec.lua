-- Whose saved machines are used, where users share a directory for them.
local fixture = require "tests.lua.sandbox"
local core = require "ktstr.core"
local unistd = require "posix.unistd"
local fake = require "tests.lua.fake_image"

describe("a saved machine", function()
  local box, undo, cache, warnings, geteuid, real_stderr

  before_each(function()
    box = fixture.sandbox()
    box.setenv("KTSTR_WARM_DIR", box.directory .. "/warm")
    undo = fake.install(core)
    for _, name in ipairs { "cache", "directory", "hashes", "identity", "settings" } do
      package.loaded["ktstr.warm." .. name] = nil
    end
    cache = require "ktstr.warm.cache"
    geteuid, real_stderr, warnings = unistd.geteuid, io.stderr, {}
    rawset(io, "stderr", {
      write = function(_, ...)
        warnings[#warnings + 1] = table.concat { ... }
      end,
    })
  end)

  after_each(function()
    rawset(io, "stderr", real_stderr)
    unistd.geteuid = geteuid
    undo()
    box.undo()
  end)

  it("of another user is not used, which is said once, and stays", function()
    local text = "kernel-release 7.3.4\n"
    assert.is_true(cache.store(text, fake.image(text, "memory")))
    assert.is_truthy(cache.find(text))
    unistd.geteuid = function()
      return geteuid() + 1
    end
    assert.is_nil(cache.find(text))
    assert.is_nil(cache.find(text))
    assert.equals(1, #warnings)
    assert.matches("it is another user's, and is not used", warnings[1], 1, true)
    unistd.geteuid = geteuid
    assert.is_truthy(cache.find(text))
  end)
end)
