-- Captures as scripts take them, of a guest whose kernel nobody can read: registers and clocks. What goes
-- wrong is an error, and the machine goes on.
local ktstr = require "ktstr"
local errors = require "ktstr.errors"
local files = require "ktstr.files"
local sandbox = require "tests.lua.sandbox"
local schema = require "tests.lua.json_schema"
local support = require "tests.vm.support"

local box

before_each(function()
  box = sandbox.sandbox()
  box.setenv("KTSTR_WARM_DIR", box.directory .. "/warm")
end)

after_each(function()
  box.undo()
end)

local function options(given)
  local all = { kernel = support.tiny_kernel, cmdline = "tiny.run=warm", memory = "128M", timeout = 120 }
  for name, value in pairs(given or {}) do
    all[name] = value
  end
  return all
end

local function boot(finally)
  local vm = ktstr.boot(options())
  finally(function()
    vm:kill()
  end)
  return vm
end

local function raised(code, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert(errors.is(e, code), tostring(e))
  return e
end

describe("a plan for a kernel that cannot be read", function()
  it("is refused before there is a machine: booted, and saved", function()
    local e = raised("format", ktstr.boot, options { capture = { "jiffies_64" } })
    assert.is_true(e.cannot_run)
    assert.matches("the kernel image has no linux_banner", tostring(e))
    local vm = boot(finally)
    local image = vm:save()
    e = raised("format", image.boot, image, { capture = { "jiffies_64" } })
    assert.is_true(e.cannot_run)
    assert.matches("the kernel image has no linux_banner", tostring(e))
    vm:ping()
    local fork = image:boot()
    fork:ping()
    fork:kill()
  end)
end)

describe("a capture", function()
  it("has registers, says why it has nothing else, and is the same in JSON", function()
    local vm = boot(finally)
    local snap = vm:capture "bare"
    assert.equals("no-plan", snap.notes[1].what)
    local text = snap:json()
    local kept = ktstr.record(text)
    assert.equals(snap:cpu(0).regs.rip, kept:cpu(0).regs.rip)
    assert.equals(text, kept:json())
    if not schema.missing() then
      assert.same({ "" }, schema.all { text })
    end
    raised("not-found", snap.var, snap, "jiffies_64")
    vm:ping()
  end)

  it("takes the place of the one of its name, with a warning in the result", function()
    local vm = boot(finally)
    local first = vm:capture "twice"
    vm:capture "other"
    local second = vm:capture "twice"
    assert.is_true(second.elapsed_ms > first.elapsed_ms)
    local list = vm:captures()
    local found = {}
    for i, snap in ipairs(list) do
      found[i] = { snap.tag, snap.elapsed_ms }
    end
    assert.equals(2, #list)
    assert.same({ "twice", second.elapsed_ms }, found[1][1] == "twice" and found[1] or found[2])
    local result = vm:kill()
    local warnings = table.concat(result.warnings, "\n")
    local _, times = warnings:gsub("the capture 'twice' was taken more than once: only the last one is kept",
      "")
    assert.equals(1, times, warnings)
  end)

  it("of a machine that has ended is an error, and the earlier ones are there", function()
    local vm = boot(finally)
    local snap = vm:capture "before"
    local rip = snap:cpu(0).regs.rip
    vm:kill()
    local e = raised("ended", vm.capture, vm, "too late")
    assert.matches("asked for a capture", tostring(e))
    assert.equals(1, #vm:captures())
    assert.equals(rip, vm:captures()[1]:cpu(0).regs.rip)
  end)

  it("that a full disk does not take leaves nothing behind, and the machine goes on", function()
    local directory = box.directory .. "/full"
    files.make_directory(directory)
    if os.execute(("mount -t tmpfs -o size=4k none %s 2>/dev/null"):format(directory)) ~= 0 then
      pending "needs to mount a file system: be root"
    end
    finally(function()
      os.execute("umount " .. directory)
    end)
    files.write(directory .. "/all.there.is", ("x"):rep(4096))
    local vm = boot(finally)
    local snap = vm:capture "much"
    local e = raised("os", snap.json, snap, directory .. "/much.json")
    assert.matches("cannot write the capture to .*/full/much.json: .*No space left on device", tostring(e))
    assert.same({ "all.there.is" }, files.list(directory))
    vm:ping()
    snap:json(box.directory .. "/much.json")
    assert.equals("much", ktstr.record(box.directory .. "/much.json").tag)
  end)
end)
