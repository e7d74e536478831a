-- What stock kernels say of the machine that ktstr makes, beside what they say of QEMU's with the same
-- CPUs, nodes and memory on the same host; and the ACPI tables as the guest has them.
local stdlib = require "posix.stdlib"
local ktstr = require "ktstr"
local core = require "ktstr.core"
local files = require "ktstr.files"
local kernels = require "ktstr.kernels"
local process = require "ktstr.process"
local kernel_log = require "tests.vm.kernel_log"

-- Nodes, cores and threads with each kernel; LLCs within a node with the one that looks most closely.
local MACHINES = {
  { kernel = "6.1", topology = "2n2l2c2t" },
  { kernel = "6.12", topology = "2n2l2c2t" },
  { kernel = "7.3", topology = "2n2l2c2t" },
  { kernel = "7.3", topology = "1n2l2c2t" },
}
local TABLES = { "APIC", "DSDT", "FACP", "FACS", "MCFG", "SRAT" }
local TABLES_OF_NODES = { "HMAT", "SLIT" } -- where there are several
local MEMORY_MIB = 1024
local CMDLINE = "console=ttyS0 loglevel=5 panic=-1 tsc=nowatchdog" -- ktstr.boot's
-- Emulation on a loaded host takes minutes. It ends what hangs, no more.
local LIMIT_S = 1200

local QEMU = "qemu-system-x86_64"

-- Says what is in the log and ends. COM2, since a kernel may have virtio-console as a module.
local INIT = [[
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox dmesg -r >/dev/ttyS1
/bin/busybox poweroff -f
]]

local directory

setup(function()
  directory = assert(stdlib.mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/kernel-log.XXXXXX"))
end)

teardown(function()
  files.remove(directory)
end)

local function write(name, data)
  local file = assert(io.open(directory .. "/" .. name, "wb"))
  file:write(data)
  file:close()
end

local function read(name)
  local file = assert(io.open(directory .. "/" .. name, "rb"))
  local data = file:read "*a"
  file:close()
  return data
end

local function run(argv, options)
  local r = process.run(argv, options)
  assert.equals(0, r.status, table.concat(argv, " ") .. "\n" .. r.stdout .. r.stderr)
  return r.stdout
end

-- An initramfs with nothing but busybox and the script.
local function make_initrd()
  local root = directory .. "/root"
  files.make_directory(root .. "/bin")
  files.make_directory(root .. "/dev")
  local busybox = core.paths.guest .. "/busybox"
  write("root/init", INIT)
  run({ busybox, "cp", busybox, root .. "/bin/busybox" })
  run({ busybox, "chmod", "755", root .. "/init", root .. "/bin/busybox" })
  run({ busybox, "sh", "-c", 'find . | "$0" cpio -o -H newc >../initrd', busybox }, { cwd = root })
end

-- QEMU's options for a topology, as ktstr presents it: a node is a package, an LLC is a die.
local function smp_options(t)
  local nodes = t.numa_nodes
  local args = {
    "-smp", ("%d,sockets=%d,dies=%d,cores=%d,threads=%d"):format(t.cpus, nodes, t.llcs / nodes, t.cores,
      t.threads),
  }
  local function add(name, format, ...)
    args[#args + 1] = name
    args[#args + 1] = format:format(...)
  end
  if nodes == 1 then
    return args
  end
  for node = 0, nodes - 1 do
    local cpus = t:node_cpus(node)
    add("-object", "memory-backend-ram,id=m%d,size=%dM", node, MEMORY_MIB / nodes)
    add("-numa", "node,nodeid=%d,memdev=m%d,cpus=%d-%d", node, node, cpus[1], cpus[#cpus])
  end
  for i, row in ipairs(t.distances) do
    for j, distance in ipairs(row) do
      add("-numa", "dist,src=%d,dst=%d,val=%d", i - 1, j - 1, distance)
    end
  end
  return args
end

-- The log of a guest of QEMU.
local function qemu_log(kernel, t)
  local argv = { "timeout", tostring(LIMIT_S), QEMU, "-M", "q35", "-accel", "kvm", "-cpu", "host",
    "-m", tostring(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
    "-kernel", kernel.bzimage, "-initrd", directory .. "/initrd", "-append", CMDLINE,
    "-device", "virtio-serial-pci", "-serial", "file:console", "-serial", "file:log" }
  for _, argument in ipairs(smp_options(t)) do
    argv[#argv + 1] = argument
  end
  local r = process.run(argv, { cwd = directory })
  assert.equals(0, r.status, r.stderr .. read "console")
  return read "log"
end

-- The log of a guest of ktstr, its topology and its ACPI tables by name.
local function ktstr_guest(kernel, topology)
  local vm = ktstr.boot {
    kernel = kernel,
    topology = topology,
    memory = MEMORY_MIB .. "M",
    timeout = LIMIT_S,
  }
  local log = vm:exec({ "dmesg", "-r" }).stdout
  local tables, path = {}, "/sys/firmware/acpi/tables"
  for name in vm:exec({ "find", path, "-maxdepth", "1", "-type", "f" }).stdout:gmatch "([^/\n]+)\n" do
    tables[name] = vm:read(path .. "/" .. name)
  end
  assert.is_true(vm:shutdown().passed)
  return { log = log, topology = vm.topology, tables = tables }
end

local function assert_whole(log, t)
  assert.matches("Linux version ", log:match "^[^\n]*")
  assert.matches(("Brought up %d nodes?, %d CPUs"):format(t.numa_nodes, t.cpus), log)
  assert.matches("Run /init as init process", log)
end

-- Taken apart and put together again: iasl has nothing to say about either.
local function check_table(name, data)
  write(name .. ".dat", data)
  local said = run({ "iasl", "-d", name .. ".dat" }, { cwd = directory }) .. read(name .. ".dsl")
  for _, word in ipairs { "warning", "error", "invalid", "unknown" } do
    assert.is_nil(said:lower():find(word, 1, true), name .. ":\n" .. said)
  end
  said = run({ "iasl", "-p", "again", name .. ".dsl" }, { cwd = directory })
  assert.matches(" 0 Errors, 0 Warnings, 0 Remarks", said)
end

local function assert_has_tables(guest, names)
  for _, name in ipairs(names) do
    assert.is_string(guest.tables[name], name)
  end
end

for _, machine in ipairs(MACHINES) do
  describe(("a stock kernel %s on %s"):format(machine.kernel, machine.topology), function()
    local guest

    lazy_setup(function()
      guest = ktstr_guest(machine.kernel, machine.topology)
    end)

    it("has ACPI tables that iasl takes apart cleanly #slow", function()
      if not process.find "iasl" then
        pending "iasl is not installed (package acpica-tools)"
        return
      end
      assert_has_tables(guest, TABLES)
      assert_has_tables(guest, guest.topology.numa_nodes > 1 and TABLES_OF_NODES or {})
      for name, data in pairs(guest.tables) do
        check_table(name, data)
      end
    end)

    it("complains of nothing that it does not complain of in QEMU #slow", function()
      if not process.find(QEMU) then
        pending(QEMU .. " is not installed (scripts/setup helper)")
        return
      end
      make_initrd()
      local theirs = qemu_log(kernels.resolve(machine.kernel), guest.topology)
      assert_whole(guest.log, guest.topology)
      assert_whole(theirs, guest.topology)
      assert.same({}, kernel_log.complaints_only_in(guest.log, theirs))
    end)
  end)
end
