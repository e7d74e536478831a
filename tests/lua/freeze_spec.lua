local ffi = require "ffi"
local support = require "tests.lua.support"

local core, load = support.library()
local boot = load "ktstr.boot"
local errors = load "ktstr.errors"
local raised = support.raised
local vm_module = load "ktstr.vm"

local function u64(value)
  return ffi.string(ffi.new("uint64_t[1]", value), 8)
end

local function segment(selector, base, dpl, long)
  return u64(base) .. "\255\255\0\0" .. string.char(selector, 0) .. "\11\1" .. string.char(dpl) .. "\0\1"
    .. string.char(long) .. "\1\0\0\0"
end

-- struct kvm_regs and struct kvm_sregs, each register with a value of its own.
local function registers_of(cpu)
  local regs, sregs = {}, {}
  for i = 1, 15 do
    regs[i] = u64(cpu * 100 + i)
  end
  regs[16] = u64(2 ^ 53 - 1) -- r15
  regs[17] = u64(0xffffffff81000000ULL) -- rip
  regs[18] = u64(0x246)
  for i = 1, 8 do
    sregs[i] = segment(i * 8, i * 0x1000, i == 1 and 3 or 0, i == 1 and 1 or 0)
  end
  sregs[9] = u64(0xfffffe0000001000ULL) .. "\127\0" .. ("\0"):rep(6)
  sregs[10] = u64(0xfffffe0000000000ULL) .. "\255\15" .. ("\0"):rep(6)
  for i = 1, 7 do
    sregs[10 + i] = u64(0x80050033 + i)
  end
  sregs[18] = ("\0"):rep(32)
  return table.concat(regs), table.concat(sregs)
end

local vm, machine

before_each(function()
  core.commands, core.events, core.boots, core.before_op = {}, {}, nil, nil
  core.freeze_errors, core.regs = nil, registers_of
  vm = boot.boot { freeze_limit = 7 }
  machine = core.machines[#core.machines]
end)

after_each(function()
  vm_module.close_all()
end)

local function busy()
  return errors.new("busy", "somebody else")
end

describe("a frozen machine", function()
  it("refuses what needs it to run, and takes it again after the thaw", function()
    vm:freeze()
    assert.is_true(vm:is_frozen())
    for _, f in ipairs {
      function() vm:exec { "true" } end,
      function() vm:read "/x" end,
      function() vm:ping() end,
      function() vm:sleep(1) end,
    } do
      local e = raised(f)
      assert.equals("frozen", e.code)
      assert.matches("vm:thaw() first", tostring(e), 1, true)
    end
    vm:thaw()
    assert.is_false(vm:is_frozen())
    assert.is_true(vm:ping() >= 0)
  end)

  it("is shut down thawed, and killed as it is", function()
    vm:freeze()
    assert.is_true(vm:shutdown().passed)
    vm = boot.boot {}
    vm:freeze()
    assert.equals("ExternalKill", vm:kill().exit_reason)
  end)
end)

describe("a freeze that somebody else is in the way of", function()
  it("is tried again for a while", function()
    core.freeze_errors = { busy(), busy() }
    vm:freeze()
    assert.is_true(vm:is_frozen())
    core.freeze_errors = { busy() }
    vm:thaw()
    vm:capture "x"
    core.freeze_errors = { busy() }
    assert.equals(3, vm:frozen(function()
      return 3
    end))
  end)

  it("is given up after five seconds", function()
    core.freeze_errors = {}
    for i = 1, 100000 do
      core.freeze_errors[i] = busy()
    end
    local start = core.clock
    assert.equals("busy", raised(vm.freeze, vm).code)
    assert.is_true(core.clock - start >= 5 and core.clock - start < 5.1)
  end)

  it("is waited for longer by what it asks of the script meanwhile", function()
    core.freeze_errors = { busy(), busy(), busy() }
    table.insert(machine.queue, { nil, "plan" })
    vm.channel.on_plan = function()
      core.clock = core.clock + 20
    end
    vm:freeze()
    assert.is_true(vm:is_frozen())
  end)

  it("is not mistaken for a busy error of the function's own", function()
    local calls = 0
    local e = raised(vm.frozen, vm, function()
      calls = calls + 1
      error(busy(), 0)
    end)
    assert.same({ "busy", 1 }, { e.code, calls })
  end)
end)

describe("vm:frozen", function()
  it("returns what the function returns, nils too, with the machine's limit", function()
    assert.same({ 4, 1, nil, 3, nil }, { select("#", vm:frozen(function()
      return 1, nil, 3, nil
    end)), vm:frozen(function()
      return 1, nil, 3, nil
    end) })
    assert.equals(7, machine.freeze_limit)
    assert.is_false(vm:is_frozen())
  end)

  it("raises what the function raises, thawed", function()
    assert.equals("x", raised(vm.frozen, vm, function()
      assert(vm:is_frozen())
      error("x", 0)
    end))
    assert.is_false(vm:is_frozen())
  end)

  it("wants a function", function()
    assert.matches("vm:frozen wants a function, not a nil", tostring(raised(vm.frozen, vm)))
  end)
end)

describe("vm:regs", function()
  it("has every register by name, exact", function()
    vm:freeze()
    local r = vm:regs(2)
    assert.same({ 201, 204, 209 }, { r.rax, r.rdx, r.r8 + 0 })
    assert.equals(2 ^ 53 - 1, r.r15)
    assert.is_true(r.rip == 0xffffffff81000000ULL)
    assert.equals("cdata", type(r.rip))
    assert.equals(0x246, r.rflags)
    assert.same({ 8, 0x1000, 65535, 3, 1 }, { r.cs.selector, r.cs.base, r.cs.limit, r.cs.dpl, r.cs.l })
    assert.same({ 64, 0x8000 }, { r.ldt.selector, r.ldt.base })
    assert.same({ 127, 4095 }, { r.gdt.limit, r.idt.limit })
    assert.is_true(r.idt.base == 0xfffffe0000000000ULL)
    assert.same({ 0x80050034, 0x80050036, 0x8005003a }, { r.cr0, r.cr3, r.apic_base })
  end)

  it("reads well", function()
    vm:freeze()
    local text = tostring(vm:regs(1))
    assert.matches("^CPU 1\nrip    ffffffff81000000  rflags 0000000000000246", text)
    assert.matches("cs     0008  base 0000000000001000  limit 0000ffff  ring 3, 64 bit", text, 1, true)
  end)

  it("wants a CPU's number", function()
    assert.matches("vm:regs wants a CPU's number, not nil", tostring(raised(vm.regs, vm)))
  end)
end)

describe("a capture", function()
  it("tells who took it and when, and has registers", function()
    local snap = vm:capture "here"
    assert.same({ "here", "main", 1500, 2, 1 },
      { snap.tag, snap.source, snap.elapsed_ms, snap.clock, snap:cpus() })
    assert.equals(1, snap:cpu(0).regs.rax)
    assert.equals("capture 'here' (main, at 1500.0 ms)", tostring(snap))
    assert.matches("there is no CPU 1: it has CPUs 0 to 0", tostring(raised(snap.cpu, snap, 1)), 1, true)
  end)

  it("is found among the others", function()
    vm:capture "a"
    assert.equals("b", vm:capture("b").tag)
    assert.same({ 2, "a", "b" }, { #vm:captures(), vm:captures()[1].tag, vm:captures()[2].tag })
  end)
end)
