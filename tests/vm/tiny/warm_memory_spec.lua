-- A saved machine whose memory was chosen for it is the one that is asked for by its other options.
local ktstr = require "ktstr"
local sandbox = require "tests.lua.sandbox"
local support = require "tests.vm.support"

local TOPOLOGY = "1n1l2c1t"

describe("an image of a machine with large files", function()
  local box, vm, image

  setup(function()
    box = sandbox.sandbox()
    box.setenv("KTSTR_WARM_DIR", box.directory .. "/warm")
    local large = box.directory .. "/large"
    local file = assert(io.open(large, "wb"))
    file:seek("set", 80 * 2 ^ 20)
    file:write "the end"
    file:close()
    -- With warm = false its files are part of the initramfs, of which this guest makes no use.
    vm = ktstr.boot {
      kernel = support.tiny_kernel, cmdline = "tiny.run=warm", topology = TOPOLOGY, timeout = 120,
      files = { ["/large"] = large }, warm = false,
    }
    image = vm:save()
  end)

  teardown(function()
    if vm then
      vm:kill()
    end
    box.undo()
  end)

  it("can be asked for by its topology", function()
    local fork = image:boot { topology = TOPOLOGY, timeout = 120 }
    fork:ping()
    fork:kill()
  end)

  it("is refused for another one, and for other memory", function()
    local function refusal(options)
      local ok, e = pcall(image.boot, image, options)
      assert.is_false(ok)
      assert.equals("unsupported", e.code)
      return e.message
    end
    assert.matches("topology is 1n1l4c1t, the saved machine has " .. TOPOLOGY,
      refusal { topology = "1n1l4c1t" }, 1, true)
    assert.matches("memory is 1 GiB, the saved machine has", refusal { memory = "1G" }, 1, true)
  end)
end)
