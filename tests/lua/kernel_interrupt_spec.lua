-- Ctrl-C, and a mistake in the program, are never taken for an answer about the kernel.
local backtrace = require "ktstr.kernel.backtrace"
local current = require "ktstr.kernel.current"
local errors = require "ktstr.errors"
local fake_kernel = require "tests.lua.fake_kernel"
local kernel_names = require "ktstr.repl.kernel_names"
local monitor_fields = require "ktstr.kernel.monitor_fields"
local vmcore = require "ktstr.kernel.vmcore"

local k = fake_kernel.new().k

-- A function of some module's raises meanwhile.
local function raising(module, name, e, f, ...)
  local before = module[name]
  module[name] = function()
    error(e, 0)
  end
  local ok, raised = pcall(f, ...)
  module[name] = before
  assert(not ok, "nothing was raised")
  return raised
end

local INTERRUPTED = errors.new("interrupted", "SIGINT")
local MISTAKE = "attempt to index a nil value"

for what, e in pairs { ["an interruption"] = INTERRUPTED, ["a mistake"] = MISTAKE } do
  describe(what, function()
    it("ends a backtrace of a CPU whose task is looked for", function()
      assert.equal(e, raising(current, "task", e, backtrace.backtrace, k, 0))
    end)

    it("ends a dump, which writes nothing", function()
      local info = vmcore.info
      vmcore.info = function()
        return ""
      end
      finally(function()
        vmcore.info = info
      end)
      local written = false
      local vm = {
        k = k,
        topology = { cpus = 1 },
        is_frozen = function()
          return true
        end,
        machine = {
          dump = function()
            written = true
          end,
        },
      }
      assert.equal(e, raising(current, "task", e, vmcore.dump, vm, "/dev/null"))
      assert.is_false(written)
    end)

    it("is no missing member", function()
      local pair = k.types["struct pair"]
      local class = getmetatable(pair).__index
      local object = k:object("struct pair", fake_kernel.DIRECT)
      assert.equal(e, raising(class, "member", e, object.has_, object, "a"))
      assert.equal(e, raising(class, "member", e, pair.find_member, pair, "a"))
      assert.is_nil(pair:find_member "nonsense")
      assert.equal(32, pair:find_member("b").offset)
      local types = {
        find = function()
          return pair
        end,
      }
      assert.equal(e, raising(class, "member", e, monitor_fields.groups, types))
    end)

    it("is no missing type, symbol or name", function()
      local set = k._image.types
      local class = getmetatable(set).__index
      assert.equal(e, raising(class, "get", e, set.find, set, "struct pair"))
      assert.equal(e, raising(class, "names", e, kernel_names.of, k, "type", "struct pa"))
    end)

    it("passes what may fail otherwise", function()
      local function fail(raised)
        error(raised, 0)
      end
      assert.equal(e, raising({ f = 1 }, "f", e, function()
        errors.try(fail, e)
      end))
      local other = errors.new("not-found", "nothing is there")
      assert.same({ false, other }, { errors.try(fail, other) })
      assert.same({ true, 1, nil, 3 }, { errors.try(function(...)
        return ...
      end, 1, nil, 3) })
    end)
  end)
end
