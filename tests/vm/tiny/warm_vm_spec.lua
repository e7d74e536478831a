-- vm:save(), image:boot(), vm:checkpoint() and vm:rewind() with the tiny guest.
local ktstr = require "ktstr"
local core = require "ktstr.core"
local channel = require "ktstr.channel"
local files = require "ktstr.files"
local sandbox = require "tests.lua.sandbox"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"

local refused = tiny_guest.refused
local wire = core.wire

local MEMORY = "128M"
local ECANCELED = 125

local box

before_each(function()
  box = sandbox.sandbox()
  box.setenv("KTSTR_WARM_DIR", box.directory .. "/warm")
end)

after_each(function()
  box.undo()
end)

-- Ended when the test ends.
local function ended_by(finally, vm)
  finally(function()
    vm:kill()
  end)
  return vm
end

local function boot(finally, options)
  local given = { kernel = support.tiny_kernel, cmdline = "tiny.run=warm", memory = MEMORY, timeout = 120 }
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  return ended_by(finally, ktstr.boot(given))
end

local function fork(finally, image, options)
  return ended_by(finally, image:boot(options))
end

describe("an image", function()
  it("starts machines that go on where the saved one stood", function()
    local vm = boot(finally, { topology = "1n1l4c1t" })
    vm:write("/memory", "before")
    local image = vm:save()
    assert.is_false(vm:is_frozen())
    vm:write("/memory", "after")
    local a, b = fork(finally, image), fork(finally, image)
    for _, machine in ipairs { a, b } do
      assert.same({ true, "before", 4 }, { machine.warm, machine:read "/memory", machine.topology.cpus })
      assert.equals(vm.release, machine.release)
      machine:ping()
    end
    a:write("/memory", "a")
    assert.same({ "after", "a", "before" }, { vm:read "/memory", a:read "/memory", b:read "/memory" })
    assert.is_false(vm.warm)
    assert.matches("tiny: up", a:console())
    assert.is_true(a:shutdown().passed)
    assert.is_true(vm:shutdown().passed)
    assert.is_true(fork(finally, image):shutdown().passed)
  end)

  it("is of a machine that stays frozen when it was", function()
    local vm = boot(finally)
    vm:freeze()
    local image = vm:save()
    assert.is_true(vm:is_frozen())
    local machine = fork(finally, image)
    assert.is_false(machine:is_frozen())
    machine:ping()
    vm:thaw()
    vm:ping()
    vm:frozen(function()
      image = vm:save()
      assert.is_true(vm:is_frozen())
    end)
    assert.is_false(vm:is_frozen())
    fork(finally, image):ping()
  end)

  it("can be made of a machine that was started from one, and so on", function()
    local vm = boot(finally)
    for generation = 1, 4 do
      vm:write("/memory", "generation " .. generation)
      local image = vm:save()
      vm:kill()
      vm = fork(finally, image)
      image:close()
      assert.equals("generation " .. generation, vm:read "/memory")
    end
    assert.is_true(vm:shutdown().passed)
  end)

  it("gives each machine options, console and files of its own", function()
    local vm = boot(finally)
    local image = vm:save()
    local path = box.directory .. "/content"
    files.write(path, "from the host")
    local lines = {}
    local machine = fork(finally, image, {
      timeout = 7, freeze_limit = 3, files = { ["/memory"] = path },
      console = function(line)
        lines[#lines + 1] = line
      end,
    })
    assert.same({ 7, 3, "from the host" }, { machine.timeout, machine.freeze_limit, machine:read "/memory" })
    assert.same({ "tiny: up" }, lines)
    assert.equals("", vm:read "/memory")
    local limited = fork(finally, image, { timeout = 0.5 })
    assert.equals("timeout", select(2, pcall(limited.sleep, limited, 60)).code)
  end)

  it("is refused, with the difference named, for another machine than its own", function()
    local image = boot(finally):save()
    for text, options in pairs {
      ["topology is 1n1l4c1t, the saved machine has 1n1l2c1t"] = { topology = "1n1l4c1t" },
      ["memory is 256 MiB, the saved machine has 128 MiB"] = { memory = "256M" },
      ["the command line is"] = { cmdline = "tiny.run=echo" },
      ["la57 is yes, the saved machine has no"] = { la57 = true },
    } do
      assert.is_truthy(refused("unsupported", image.boot, image, options).message:find(text, 1, true))
    end
    for _, options in ipairs { { topolgy = "1n1l2c1t" }, { warm = true }, { timeout = -1 } } do
      assert.is_true(refused("invalid", image.boot, image, options).cannot_run)
    end
    fork(finally, image, { topology = "1n1l2c1t", memory = MEMORY, cmdline = "tiny.run=warm" }):ping()
    image:close()
    refused("invalid", image.boot, image)
  end)

  it("is kept under a name, which is there once", function()
    local vm = boot(finally)
    local path = box.directory .. "/kept"
    vm:write("/memory", "kept")
    local image = vm:save(path .. "/")
    vm:write("/memory", "later")
    refused("busy", vm.save, vm, path)
    image:close()
    image = ktstr.image(path)
    image:verify()
    assert.equals("kept", fork(finally, image):read "/memory")
    local unnamed = vm:save()
    unnamed:save(path .. "2")
    assert.equals("later", fork(finally, ktstr.image(path .. "2")):read "/memory")
    refused("os", vm.save, vm, box.directory .. "/no/such/place")
    refused("invalid", vm.save, vm, "")
    refused("invalid", vm.save, vm, 7)
    refused("not-found", ktstr.image, path .. "3")
    assert.is_false(vm:is_frozen())
    assert.same({ "kept", "kept2", "warm" }, files.list(box.directory))
  end)

  it("without a name needs no place on disk", function()
    box.setenv("KTSTR_WARM_DIR", "/proc/nowhere")
    local vm = boot(finally)
    vm:write("/memory", "in memory")
    assert.equals("in memory", fork(finally, vm:save()):read "/memory")
    vm:rewind(vm:checkpoint())
    vm:thaw()
    vm:ping()
  end)

  it("cannot be made of a machine that has ended", function()
    local vm = boot(finally)
    vm:kill()
    refused("ended", vm.save, vm)
    refused("ended", vm.checkpoint, vm)
    refused("ended", vm.rewind, vm)
  end)

  it("can be made while requests are under way, of which the others hear nothing", function()
    local vm = boot(finally)
    for _ = 1, 10 do
      local heard = 0
      for _ = 1, 20 do
        vm.channel:post(wire.OP_PING, "", {
          on_reply = function()
            heard = heard + 1
          end,
        })
      end
      local machine = fork(finally, vm:save())
      machine:write("/memory", "mine")
      assert.equals("mine", machine:read "/memory")
      vm:ping()
      assert.equals(20, heard)
      assert.is_nil(next(machine.channel.pending))
      assert.is_true(machine:shutdown().passed)
    end
  end)
end)

describe("a checkpoint", function()
  it("is what a machine goes back to, as often as wanted", function()
    local vm = boot(finally)
    vm:write("/memory", "before")
    local first = vm:checkpoint()
    assert.is_false(vm:is_frozen())
    for round = 1, 5 do
      vm:write("/memory", "round " .. round)
      vm:rewind()
      assert.is_true(vm:is_frozen())
      vm:thaw()
      assert.equals("before", vm:read "/memory")
    end
    vm:write("/memory", "second")
    local second = vm:checkpoint()
    for _, case in ipairs { { first, "before" }, { second, "second" }, { nil, "second" } } do
      vm:rewind(case[1])
      vm:thaw()
      assert.equals(case[2], vm:read "/memory")
    end
    assert.is_true(vm:shutdown().passed)
  end)

  it("answers what was asked since, and goes on with what was asked before", function()
    local vm = boot(finally)
    vm:freeze()
    vm:thaw()
    local replies = {}
    local function ask(name)
      vm.channel:post(wire.OP_PING, "", {
        on_reply = function(reply)
          assert.is_nil(replies[name], "answered twice")
          replies[name] = reply.error
        end,
      })
    end
    for round = 1, 10 do
      replies = {}
      ask "before"
      local checkpoint = vm:checkpoint()
      replies.before = nil -- it may have been answered already
      local pending = next(vm.channel.pending) ~= nil
      ask "after"
      vm:rewind(checkpoint)
      assert.is_true(replies.after == ECANCELED or replies.after == 0, "round " .. round)
      vm:thaw()
      vm:ping()
      assert.equals(pending and 0 or nil, replies.before)
      assert.is_nil(next(vm.channel.pending))
    end
  end)

  it("comes when all that was said before has been heard, however much that is", function()
    local vm = boot(finally, { cmdline = "tiny.run=flood" })
    for _ = 1, 3 do
      local last, same = nil, 0
      tiny_guest.wait_until(function() -- there is no room for more
        local crc = vm:frozen(function()
          return vm.machine:memory_crc()
        end)
        last, same = crc, crc == last and same + 1 or 0
        return same == 20
      end)
      vm:freeze()
      vm:checkpoint()
      assert.same({ nil, "timeout" }, { vm.machine:recv(0) })
      vm:thaw()
    end
  end)

  it("in front of a frozen machine leaves it frozen", function()
    local vm = boot(finally)
    vm:freeze()
    local registers = tostring(vm:regs(0))
    vm:checkpoint()
    assert.is_true(vm:is_frozen())
    vm:step(0, 10)
    vm:rewind()
    assert.equals(registers, tostring(vm:regs(0)))
    vm:thaw()
    vm:ping()
  end)

  it("is the machine's own, and has to be one", function()
    local a, b = boot(finally), boot(finally)
    assert.matches("there is no checkpoint", refused("invalid", a.rewind, a).message)
    local e = refused("invalid", a.rewind, a, b:checkpoint())
    assert.matches("not a checkpoint of this machine", e.message)
    refused("invalid", a.rewind, a, "yesterday")
    refused("invalid", a.rewind, a, {})
    assert.is_false(a:is_frozen())
    a:ping()
  end)

  it("of a machine that goes with it leaves nothing", function()
    local function once()
      local vm = ktstr.boot { kernel = support.tiny_kernel, cmdline = "tiny.run=warm", memory = MEMORY }
      for _ = 1, 3 do
        vm:checkpoint()
      end
      vm:rewind()
      vm:kill()
    end
    once()
    local before = support.holdings()
    for _ = 1, 10 do
      once()
    end
    assert.same(before, support.holdings())
  end)
end)

describe("a machine's hello", function()
  it("is its own, by a name that no other run has", function()
    local vm = boot(finally)
    local image = vm:save()
    local seen = {}
    for _ = 1, 5 do
      local id = fork(finally, image).channel.run_id
      assert.matches("^" .. ("%x"):rep(32) .. "$", id)
      assert.is_nil(seen[id])
      seen[id] = true
    end
    assert.is_nil(vm.channel.run_id)
  end)

  it("is not the saved run's, which may be under way", function()
    local machine = support.tiny_machine("warm")
    finally(function()
      machine:kill()
    end)
    machine:start()
    local conversation = channel.new(machine)
    conversation:go_on(7, ("a"):rep(32))
    assert.is_false(conversation:wait(function()
      return conversation.ready
    end, require("ktstr.host").now() + 0.5))
  end)
end)
