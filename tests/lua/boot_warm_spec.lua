-- ktstr.boot with saved machines, over a core without machines: what it takes, keeps, says and gives up.
local fake = require "tests.lua.fake_image"
local support = require "tests.lua.support"

local core, load = support.library()
local raised = support.raised
fake.install(core)
core.regs = function()
  return "", ""
end
package.loaded["ktstr.warm.hashes"] = { of = fake.hash }

local WRITE_REPLACE = core.wire.WRITE_REPLACE
local ECANCELED = 125

-- A cache in memory, which tells what was asked of it.
local cache
package.loaded["ktstr.warm.cache"] = setmetatable({}, {
  __index = function(_, name)
    return cache[name]
  end,
})

local function new_cache()
  local self = { entries = {}, discarded = {}, given_up = {} }
  function self.find(text)
    local stored = self.entries[text]
    if stored then -- each has a handle of its own
      return setmetatable({ closed = false }, { __index = stored }), { name = text }
    end
  end
  function self.store(text, image)
    self.entries[text] = image
  end
  function self.discard(entry, reason)
    table.insert(self.discarded, tostring(reason))
    self.entries[entry.name] = nil
  end
  function self.give_up(e)
    table.insert(self.given_up, tostring(e))
  end
  function self.directory()
    return "/fake/warm"
  end
  return self
end

local boot = load "ktstr.boot"
local errors = load "ktstr.errors"
local image_module = load "ktstr.image"
local json = load "dkjson"
local vm_module = load "ktstr.vm"
local warm = load "ktstr.warm"

before_each(function()
  cache = new_cache()
  core.boots, core.before_op, core.hellos, core.save_error, core.restore_errors = nil, nil, nil, nil, nil
  core.freeze_errors, core.events, core.machines, core.images, core.probe.stock_kernel = {}, {}, {}, {}, true
end)

after_each(function()
  vm_module.close_all()
end)

local function booted(options)
  options = options or {}
  if options.warm == nil then
    options.warm = true
  end
  local vm = boot.boot(options)
  return vm, core.machines[#core.machines]
end

local function ops(machine)
  local names = {}
  for i, request in ipairs(machine.requests) do
    names[i] = request.op
  end
  return names
end

describe("ktstr.boot with saved machines", function()
  it("boots and keeps what nobody has saved, and starts from that afterwards", function()
    local vm, machine = booted()
    assert.same({ false, nil, 1 }, { vm.warm, machine.image, #core.images })
    assert.equals("/fake/warm", core.images[1].directory)
    assert.is_true(core.images[1].closed)
    assert.is_false(vm:is_frozen())
    vm, machine = booted()
    assert.is_true(vm.warm)
    assert.equals(core.images[1].identity_text, machine.image.identity_text)
    assert.equals(1, #core.images)
    assert.same({ "RESTORED" }, ops(machine))
    assert.equals(32, #machine.restored.RUN_ID)
    assert.equals(256, #machine.restored.ENTROPY)
    assert.is_true(machine.restored.REALTIME_NS > 1.6e18)
    assert.same({ {}, {} }, { cache.discarded, cache.given_up })
  end)

  it("does neither where it is told not to", function()
    for _, options in ipairs { { warm = false }, {} } do -- the spec's library has --cold
      local vm = boot.boot(options)
      assert.is_false(vm.warm)
    end
    assert.same({}, core.images)
    assert.same({}, cache.entries)
    assert.is_false(warm.enabled())
  end)

  it("keeps each kind of machine for itself", function()
    for _, options in ipairs {
      {}, { topology = "1n1l4c1t" }, { memory = "1G" }, { cmdline = "quiet" }, { la57 = true },
      { steal_time = false }, { invariant_tsc = false }, { cmdline = "nokaslr" },
    } do
      assert.is_false(booted(options).warm, json.encode(options))
      assert.is_true(booted(options).warm, json.encode(options))
    end
    assert.equals(8, #core.images)
  end)

  it("keeps one whatever the timeout, the console and the files are", function()
    booted()
    for _, options in ipairs {
      { timeout = 7 }, { freeze_limit = 7 }, { console = function() end }, { files = { "/etc/hostname" } },
    } do
      assert.is_true(booted(options).warm)
    end
    local _, machine = booted { timeout = 7 }
    assert.equals(7, machine.options.timeout)
  end)

  it("puts files in after the start in both cases, in place of what is there", function()
    for _, expected in ipairs { false, true } do
      local vm, machine = booted { files = { ["/bin/ls"] = "/etc/hostname" } }
      assert.equals(expected, vm.warm)
      assert.is_nil(core.archive.entries["/bin/ls"].host)
      assert.is_string(machine.files["/bin/ls"])
      assert.is_true(math.floor(machine.flags["/bin/ls"] / WRITE_REPLACE) % 2 == 1)
    end
    assert.is_nil(core.images[1].files["/bin/ls"])
    local vm = boot.boot { warm = false, files = { ["/bin/ls"] = "/etc/hostname" } }
    assert.equals("/etc/hostname", core.archive.entries["/bin/ls"].host)
    vm:kill()
  end)

  it("boots when the saved machine is of no use, and says why", function()
    for i, case in ipairs {
      { code = "format", message = "a saved vCPU is cut short" },
      { code = "unsupported", message = "the machine was saved on another CPU" },
    } do
      booted()
      core.restore_errors = { setmetatable(case, core.error_metatable) }
      local vm = booted()
      assert.is_false(vm.warm)
      assert.same({ case.message }, { cache.discarded[i] })
      assert.is_true(booted().warm)
    end
  end)

  it("boots when the saved machine ends, or refuses to wake up", function()
    local vms = { (booted()) } -- held: what nobody holds may be collected, and is not live then
    core.before_op = function(machine, name)
      if name == "RESTORED" then
        core.before_op = nil
        machine:finish { exit_reason = "Fatal", exit_code = -1, timed_out = false, seconds = 0,
          reported = false, last_words = "", channel = {} }
      end
    end
    vms[2] = booted()
    assert.is_false(vms[2].warm)
    assert.matches("the machine ended while waking up", cache.discarded[1])
    core.before_op = function(machine, name, payload)
      if name == "RESTORED" then
        core.before_op = nil
        machine:reply(payload.id, {}, 2)
      end
    end
    vms[3] = booted()
    assert.is_false(vms[3].warm)
    assert.matches("could not wake up: No such file", cache.discarded[2])
    assert.equals(#vms, vm_module.live_count()) -- those that were booted
  end)

  it("gives up with a saved machine that took all of the run's time, which goes", function()
    booted()
    core.before_op = function(machine)
      machine:finish { exit_reason = "Timeout", exit_code = -1, timed_out = true, seconds = 60,
        reported = false, last_words = "", channel = {} }
    end
    assert.equals("timeout", raised(booted).code)
    assert.equals(1, #cache.discarded)
    core.before_op = nil
    assert.is_false(booted().warm)
  end)

  it("does not take an interruption for a reason", function()
    booted()
    local interrupted = setmetatable({ code = "interrupted", message = "interrupted" }, core.error_metatable)
    core.restore_errors = { interrupted }
    assert.equals(interrupted, raised(booted))
    core.restore_errors = { setmetatable({ code = "no-memory", message = "none" }, core.error_metatable) }
    assert.equals("no-memory", raised(booted).code)
    assert.same({}, cache.discarded)
    assert.is_true(booted().warm)
  end)

  it("goes on when the machine cannot be saved, and says so", function()
    for _, code in ipairs { "os", "unsupported", "no-memory" } do
      core.save_error = setmetatable({ code = code, message = "no: " .. code }, core.error_metatable)
      local vm = booted()
      assert.is_false(vm.warm)
      assert.is_false(vm:is_frozen())
      assert.is_true(vm:ping() >= 0)
    end
    assert.same({ "no: os", "no: unsupported", "no: no-memory" }, cache.given_up)
  end)

  it("ends the run when it is interrupted in a save, or the machine ends in it", function()
    core.save_error = setmetatable({ code = "interrupted", message = "interrupted" }, core.error_metatable)
    assert.equals("interrupted", raised(booted).code)
    assert.equals(0, vm_module.live_count())
    core.save_error = setmetatable({ code = "ended", message = "it has ended" }, core.error_metatable)
    local ok, vm = pcall(booted)
    assert.is_true(not ok or not pcall(vm.ping, vm))
  end)

  it("refuses bad input before it looks for anything", function()
    cache.find = error
    for _, options in ipairs { { topolgy = "x" }, { topology = "9z" }, { files = { "relative" } } } do
      assert.is_true(raised(booted, options).cannot_run)
    end
    core.host_cpu, cache.find = function()
      errors.raise("os", "cannot open /dev/kvm")
    end, nil
    local e = raised(booted)
    core.host_cpu = function()
      return "FakeCPU 1-2-3"
    end
    assert.same({ "os", true }, { e.code, e.cannot_run })
  end)
end)

describe("a restored machine", function()
  local function forked(options)
    local vm, machine = booted()
    for _ = 1, 5 do
      vm:ping()
    end
    local image = vm:save()
    local fork = image:boot(options)
    return fork, core.machines[#core.machines], machine
  end

  it("is taken for ready by its own hello, and no other", function()
    core.hellos = { false, ("0"):rep(32), ("a"):rep(32) }
    local vm, machine = forked()
    assert.equals("7.3.4-fake", vm.release)
    assert.equals(machine.restored.RUN_ID, vm.channel.run_id)
  end)

  it("asks with ids that the saved one has not used", function()
    local _, machine, saved = forked()
    local last = saved.requests[#saved.requests].id
    assert.is_true(machine.requests[1].id > last)
  end)

  it("has none of what was said to the saved one", function()
    core.before_op = function(machine, name)
      if name == "RESTORED" then
        machine:push("WORKER_REPORT", { group = 1, index = 0 })
        machine:push("STDOUT", { program = 3, data = "x" })
        machine:push("OP_REPLY", { id = 2, error = 0, body = {} })
      end
    end
    local vm = forked()
    assert.same({}, vm.channel:take_reports())
    assert.same({}, vm.channel.pending)
  end)

  it("takes options of its own, and none that would make it another machine", function()
    local _, machine = forked { timeout = 9, files = { ["/opt/file"] = "/etc/hostname" } }
    assert.equals(9, machine.options.timeout)
    assert.is_string(machine.files["/opt/file"])
    local vm = booted { topology = "1n1l4c1t" }
    local image = vm:save()
    assert.equals(4, image:boot().topology.cpus)
    assert.equals(4, image:boot({ topology = "1n1l4c1t" }).topology.cpus)
    local count = #core.machines
    for text, options in pairs {
      ["topology is 1n1l2c1t, the saved machine has 1n1l4c1t"] = { topology = "1n1l2c1t" },
      ["memory is 1 GiB, the saved machine has 256 MiB"] = { memory = "1G" },
      ["the command line is 'console=ttyS0 loglevel=5 panic=-1 tsc=nowatchdog a'"] = { cmdline = "a" },
      ["steal-time is no, the saved machine has yes"] = { steal_time = false },
    } do
      local e = raised(image.boot, image, options)
      assert.same({ "unsupported", true }, { e.code, e.cannot_run })
      assert.is_truthy(e.message:find(text, 1, true), e.message)
    end
    for _, options in ipairs { { warm = true }, { warm = false }, { memroy = 1 }, { timeout = 0 } } do
      assert.is_true(raised(image.boot, image, options).cannot_run)
    end
    assert.equals(count, #core.machines)
  end)

  it("is refused for another host, another build and another agent, each named", function()
    local image = booted():save()
    local host_cpu, build_id = core.host_cpu, core.build_id
    core.host_cpu = function()
      return "OtherCPU 3-2-1"
    end
    core.build_id = function()
      return "ffff"
    end
    local e = raised(image.boot, image)
    core.host_cpu, core.build_id = host_cpu, build_id
    assert.matches("ktstr is 0.0.0 ffff, the saved machine has 0.0.0 0123abcd", e.message, 1, true)
    assert.matches("the host's CPU is OtherCPU 3-2-1, the saved machine has FakeCPU 1-2-3", e.message, 1,
      true)
    assert.is_true(image:boot().warm)
  end)

  it("can be saved itself, as the same machine", function()
    local vm = forked()
    local image = vm:save()
    assert.equals(core.images[1].identity_text, core.images[#core.images].identity_text)
    assert.is_true(image:boot().warm)
  end)

  it("is refused from an image of another version, or of none", function()
    for _, script in ipairs { "", "nonsense", "7", "{}", '{"version":99}' } do
      local handle = { script = function()
        return script
      end }
      local image = image_module.wrap(setmetatable(handle, { __index = core.images[1] }))
      assert.equals("format", raised(image.boot, image).code, script)
    end
  end)
end)

describe("a machine that goes back", function()
  it("answers what was asked since with an error, and waits on for the rest", function()
    local vm, machine = booted()
    core.before_op = function(_, name)
      if name == "PING" then
        machine.reply = function() end -- the guest takes its time
      end
    end
    local replies = {}
    local function ask(name)
      return vm.channel:post(core.wire.OP_PING, "", {
        on_reply = function(reply)
          replies[name] = reply
        end,
      })
    end
    local before = ask "before"
    local checkpoint = vm:checkpoint()
    assert.is_false(vm:is_frozen())
    ask "after"
    vm:rewind(checkpoint)
    core.before_op, machine.reply = nil, nil
    assert.is_true(vm:is_frozen())
    assert.is_nil(replies.before)
    assert.equals(ECANCELED, replies.after.error)
    assert.matches("could not do it: the machine was taken back to before it was asked %(Operation",
      raised(load("ktstr.channel").check, replies.after, "do it").message)
    vm:thaw()
    machine:reply(before.id)
    vm:ping()
    assert.equals(0, replies.before.error)
    assert.equals(checkpoint.image, machine.rewound)
  end)

  it("has heard what came before the checkpoint", function()
    local vm, machine = booted()
    machine:push("WORKER_REPORT", { group = 1, index = 0 })
    local checkpoint = vm:checkpoint()
    assert.equals(1, #vm.channel:take_reports())
    machine:push("WORKER_REPORT", { group = 1, index = 1 })
    vm:rewind(checkpoint)
    vm:thaw()
    vm:ping()
    assert.same({}, vm.channel:take_reports())
  end)

  it("needs a checkpoint of its own, the last one unless it is told which", function()
    local vm, machine = booted()
    assert.equals("invalid", raised(vm.rewind, vm).code)
    local first = vm:checkpoint()
    local second = vm:checkpoint()
    vm:rewind()
    assert.equals(second.image, machine.rewound)
    vm:rewind(first)
    assert.equals(first.image, machine.rewound)
    assert.equals("invalid", raised(vm.rewind, vm, booted():checkpoint()).code)
    vm:kill()
    assert.equals("ended", raised(vm.rewind, vm).code)
    assert.equals("ended", raised(vm.checkpoint, vm).code)
  end)

  it("tells of its end when it cannot be taken back", function()
    local vm, machine = booted()
    vm:checkpoint()
    machine.rewind = function(self)
      self:kill()
      error(setmetatable({ code = "ended", message = "the machine has ended" }, core.error_metatable), 0)
    end
    assert.matches("ended while taken back: ", raised(vm.rewind, vm).message)
  end)
end)
