local support = require "tests.lua.support"

local core, load = support.library()
local boot = load "ktstr.boot"
local raised = support.raised
local plan = load "ktstr.plan"
local vm_module = load "ktstr.vm"

local MIB = 2 ^ 20

before_each(function()
  core.boots, core.before_op, core.needed, core.machines = nil, nil, {}, {}
  core.probe.stock_kernel = true
end)

after_each(function()
  vm_module.close_all()
end)

local function booted(options)
  local vm = boot.boot(options)
  return core.machines[#core.machines].options, vm
end

describe("ktstr.boot", function()
  it("puts a machine together from its options", function()
    local options, vm = booted {
      kernel = "6.12", topology = "2n4l2c1t", memory = "1G", cmdline = "foo=1", timeout = 7, la57 = true,
    }
    assert.equals("6.12", core.asked_kernel)
    assert.equals("/fake/vmlinux", options.kernel)
    assert.equals("console=ttyS0 loglevel=5 panic=-1 tsc=nowatchdog foo=1", options.cmdline)
    local node = { llcs = 2, memory = 512 * MIB }
    assert.same({ node, node }, options.topology.nodes)
    assert.same({ 7, true, true, true }, { options.timeout, options.la57, options.kaslr, options.steal_time })
    assert.equals("7.3.4-fake", vm.release)
    assert.equals(8, vm.topology.cpus)
  end)

  it("passes the choice of an invariant TSC on, which may be none", function()
    assert.is_nil(booted({}).invariant_tsc)
    assert.is_true(booted({ invariant_tsc = true }).invariant_tsc)
    assert.is_false(booted({ invariant_tsc = false }).invariant_tsc)
  end)

  it("turns KASLR off for nokaslr, as a word of its own", function()
    assert.is_false(booted({ cmdline = "nokaslr" }).kaslr)
    assert.is_true(booted({ cmdline = "nokaslrx" }).kaslr)
  end)

  it("gives memory by the number of CPUs, with a floor", function()
    local function memory(topology)
      return booted({ topology = topology }).topology.nodes[1].memory / MIB
    end
    assert.equals(256, memory "1n1l1c1t")
    assert.equals(512, memory "1n1l8c1t")
    assert.equals(252 * 64, memory "1n14l9c2t")
  end)

  it("gives more memory for a large initramfs, and refuses too little", function()
    local t = load("ktstr.topology").parse "1n1l1c1t"
    assert.equals(696 * MIB, plan.memory(nil, t, 200 * MIB))
    local e = raised(plan.memory, "256M", t, 200 * MIB)
    assert.is_true(e.cannot_run)
    assert.equals("memory 256 MiB is too little for the initramfs of 200 MiB; give at least 696 MiB",
      tostring(e))
    assert.equals(32 * MIB + 96 * MIB, plan.memory(128 * MIB, t, 32 * MIB / 3))
  end)

  it("takes the nodes' own memory", function()
    local options = booted { topology = { nodes = { { llcs = 1, memory = "512M" } }, cores = 1 } }
    assert.equals(512 * MIB, options.topology.nodes[1].memory)
    assert.matches("but the topology's nodes have 512 MiB", tostring(raised(boot.boot, {
      memory = "1G", topology = { nodes = { { llcs = 1, memory = "512M" } }, cores = 1 },
    })))
  end)

  it("refuses bad input in one line, before anything runs", function()
    for _, case in ipairs {
      { { topolgy = "1n1l1c1t" }, "ktstr.boot: unknown option 'topolgy'; did you mean 'topology'?" },
      { { topology = "9z" }, "topology '9z'" },
      { { memory = "12Q" }, "memory is not a size: '12Q'" },
      { { scheduler = {} }, "sched_ext" },
      { { timeout = -1 }, "must be above 0" },
      { { files = { "/no/such/file" } }, "no readable file '/no/such/file'" },
      { { files = { "relative" } }, '["/usr/bin/relative"]' },
      { { files = { ["/x/../y"] = "/etc/passwd" } }, "not an absolute path" },
      { { files = { "/etc" } }, "is a directory" },
      { { modules = { 1 } }, "a name must be a string" },
      { { modules = { "virtio_blk" } }, "no module directory" },
      { { console = "/no/such/dir/file" }, "cannot write the console" },
    } do
      local e = raised(boot.boot, case[1])
      local text = tostring(e)
      assert.is_true(e.cannot_run, text)
      assert.is_nil(text:find "\n", text)
      assert.is_truthy(text:find(case[2], 1, true), text)
    end
    assert.equals(0, #core.machines)
  end)

  it("marks what the core refuses as bad input too", function()
    local machine = core.machine
    finally(function()
      core.machine = machine
    end)
    core.machine = function()
      error(setmetatable({ code = "os", message = "/dev/kvm: No such file or directory" },
        core.error_metatable), 0)
    end
    assert.is_true(raised(boot.boot, {}).cannot_run)
  end)

  it("raises when the guest ends before its agent is ready", function()
    core.boots = function(machine)
      machine.text = "Kernel panic - not syncing: no init\n"
      machine:finish { exit_reason = "Shutdown", exit_code = 0, timed_out = false, seconds = 1,
        reported = false, last_words = "KTSTR_EXIT:7\nbad stack\n", channel = {} }
    end
    local e = raised(boot.boot, {})
    assert.equals("ended", e.code)
    assert.is_nil(e.cannot_run)
    assert.matches("ended while booting: the guest reset or powered off; no exit code was reported; "
      .. "last words: bad stack\n", tostring(e), 1, true)
    assert.matches("| Kernel panic - not syncing: no init", tostring(e), 1, true)
  end)

  it("blames the host when its KVM cannot run kernels and the guest said nothing", function()
    core.probe.stock_kernel = false
    core.boots = function(machine)
      machine:finish { exit_reason = "Fatal", exit_code = -1, timed_out = false, seconds = 0,
        reported = false, last_words = "", channel = {} }
    end
    local e = raised(boot.boot, {})
    assert.is_true(e.cannot_run)
    assert.matches("cannot run a stock kernel; see 'ktstr doctor'", tostring(e))
  end)

  it("blames the host when the guest stays silent on such a KVM, and waits on otherwise", function()
    local silent = function() end
    core.boots = silent
    core.probe.stock_kernel = false
    local start = core.clock
    assert.is_true(raised(boot.boot, {}).cannot_run)
    assert.equals(2, core.clock - start)
    core.probe.stock_kernel = true
    core.events = {
      function(machine)
        machine:push("SYS_RDY", { version = 1, release = "late", pid = 1 })
      end,
    }
    assert.equals("late", boot.boot({}).release)
  end)

  it("refuses an agent that speaks another version", function()
    core.boots = function(machine)
      machine:push("SYS_RDY", { version = 2, release = "x", pid = 1 })
    end
    assert.matches("speaks version 2 of the protocol, not 1", tostring(raised(boot.boot, {})))
    assert.equals(0, vm_module.live_count())
  end)
end)

describe("the initramfs", function()
  it("holds the agent as init, busybox with its applets, and what is needed to start", function()
    booted {}
    local entries = core.archive.entries
    assert.equals("/fake/guest/agent", entries["/init"].host)
    assert.equals(tonumber("755", 8), entries["/init"].mode)
    assert.same({ kind = "symlink", target = "busybox" }, entries["/bin/cat"])
    assert.same({ "char", 5, 1 }, { entries["/dev/console"].kind, entries["/dev/console"].major,
      entries["/dev/console"].minor })
    assert.equals("dir", entries["/proc"].kind)
    assert.matches("^root:x:0:0", entries["/etc/passwd"].data)
  end)

  it("holds the programs that ask the host for something, where PATH finds them", function()
    booted {}
    for _, name in ipairs { "ktstr-capture", "ktstr-kernel" } do
      local entry = core.archive.entries["/usr/bin/" .. name]
      assert.equals("/fake/guest/" .. name, entry.host)
      assert.equals(tonumber("755", 8), entry.mode)
    end
  end)

  it("holds files with the libraries that they need", function()
    core.needed["/etc/passwd"] = { "/lib64/ld.so", "/lib/libc.so.6" }
    booted { files = { "/etc/hostname", ["/opt/tool"] = "/etc/passwd" } }
    local entries = core.archive.entries
    assert.equals("/etc/hostname", entries["/etc/hostname"].host)
    assert.equals("/etc/passwd", entries["/opt/tool"].host)
    assert.equals("/lib64/ld.so", entries["/lib64/ld.so"].host)
    assert.equals("/lib/libc.so.6", entries["/lib/libc.so.6"].host)
  end)

  it("lets a file take an applet's place", function()
    booted { files = { ["/bin/cat"] = "/etc/passwd" } }
    assert.equals("/etc/passwd", core.archive.entries["/bin/cat"].host)
  end)
end)

describe("modules", function()
  local directory

  local function write(name, data)
    local file = assert(io.open(directory .. "/" .. name, "wb"))
    file:write(data)
    file:close()
  end

  local function module_with(depends)
    return "\127ELF...\0license=GPL\0depends=" .. depends .. "\0name=x\0"
  end

  setup(function()
    directory = os.tmpname()
    os.remove(directory)
    assert(os.execute("mkdir -p " .. directory .. "/kernel") == 0)
    write("modules.order", "kernel/net-core.ko\nkernel/veth.ko\nkernel/zipped.ko\nkernel/gone.ko\n"
      .. "kernel/virtio_console.ko\n")
    write("kernel/virtio_console.ko", module_with "net-core")
    write("modules.builtin", "kernel/virtio.ko\n")
    write("kernel/net-core.ko", module_with "virtio")
    write("kernel/veth.ko", module_with "net-core,zipped")
    write("kernel/zipped.ko", module_with "")
    assert(os.execute("gzip " .. directory .. "/kernel/zipped.ko") == 0)
  end)

  teardown(function()
    os.execute("rm -r " .. directory)
    core.modules = nil
  end)

  before_each(function()
    core.modules = directory
  end)

  it("are put in and loaded after what they depend on, decompressed", function()
    booted { modules = { "veth" } }
    local base = "/lib/modules/7.3.4-fake/kernel/"
    assert.same({ base .. "net-core.ko", base .. "zipped.ko", base .. "veth.ko" },
      core.machines[#core.machines].loaded)
    assert.equals(module_with "", core.archive.entries[base .. "zipped.ko"].data)
  end)

  it("that the agent's channel needs are listed for it, and put in once", function()
    booted { modules = { "net_core" } }
    local base = "/lib/modules/7.3.4-fake/kernel/"
    assert.equals(base .. "net-core.ko\n" .. base .. "virtio_console.ko\n",
      core.archive.entries["/etc/ktstr/modules"].data)
    assert.same({ base .. "net-core.ko" }, core.machines[#core.machines].loaded)
    core.modules = nil
    booted {}
    assert.is_nil(core.archive.entries["/etc/ktstr/modules"])
  end)

  it("that are built in need nothing", function()
    booted { modules = { "virtio" } }
    assert.is_nil(core.machines[#core.machines].loaded)
  end)

  it("that do not exist are refused with the nearest name", function()
    local e = raised(boot.boot, { modules = { "vteh" } })
    assert.is_true(e.cannot_run)
    assert.matches("no kernel module 'vteh' in .*; did you mean 'veth'%?", tostring(e))
    assert.matches("its file .*/gone.ko is missing", tostring(raised(boot.boot, { modules = { "gone" } })))
  end)
end)
