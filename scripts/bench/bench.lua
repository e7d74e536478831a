-- usage: ktstr script bench.lua start|memory|load|freeze|boot...
-- Measures and prints; scripts/bench/run says what runs where.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local initramfs = require "ktstr.initramfs"
local kernels = require "ktstr.kernels"
local process = require "ktstr.process"
local topology = require "ktstr.topology"

local build = os.getenv "BUILD" or "build"
local here = arg[0]:match "^(.*)/[^/]*$" or "."
local programs = build .. "/bench/"
local tiny = core.paths.guest .. "/tiny"

package.path = here .. "/?.lua;" .. package.path

local RUNS, PEER_RUNS, BOOTS = 20, 3, tonumber(os.getenv "BOOTS" or 5)
local PEER_LIMIT = 30 -- seconds; interpreted firmware takes most of it
local MIB_PER_VCPU, MIB_LEAST = 64, 256
local MACHINES = { "q35", "microvm,pcie=on,acpi=on" }
local ROUNDS, FREEZE_MIB = tonumber(os.getenv "ROUNDS" or 100), 256
local FEW_VCPUS = 8 -- beyond, half as many rounds: each takes long
local RUN_MS_LEAST, RUN_MS_MOST = 2, 20 -- a guest's turn: a millisecond a vCPU within these
-- What `tiny.run=load=N` makes of the vCPUs.
local LOADS = { { 0, "in kernel mode" }, { 1, "in user mode" }, { 2, "halted, timers armed" },
  { 4, "halted for good" }, { 3, "mixed" } }

-- The value that so large a part of them does not exceed; what did not come, -1, is left out.
local function quantile(values, part)
  local sorted = {}
  for _, value in ipairs(values) do
    if value >= 0 then
      sorted[#sorted + 1] = value
    end
  end
  table.sort(sorted)
  return sorted[math.ceil(#sorted * part)]
end

local function median(values)
  return quantile(values, 0.5)
end

-- Columns of numbers, a line a run, as lists.
local function columns(text)
  local lists = {}
  for line in text:gmatch "[^\n]+" do
    local i = 0
    for field in line:gmatch "%S+" do
      i = i + 1
      lists[i] = lists[i] or {}
      table.insert(lists[i], tonumber(field))
    end
  end
  return lists
end

local function run(argv)
  local result = process.run(argv)
  if result.stdout == "" then
    errors.raise("os", ("%s: %s"):format(table.concat(argv, " "), result.stderr))
  end
  return columns(result.stdout)
end

-- Medians of what `measure` says: us to the first entry, to the mark, to the text; KiB resident, own.
local function measure(options, command)
  local argv = { programs .. "measure", "--trace", programs .. "kvm_trace.so", unpack(options) }
  for _, word in ipairs(command) do
    argv[#argv + 1] = word
  end
  local lists = run(argv)
  local names, found = { "entered", "marked", "printed", "resident", "own" }, {}
  for i, name in ipairs(names) do
    found[name] = median(lists[i])
  end
  return found
end

local function ms(us)
  return us and ("%.1f ms"):format(us / 1000) or "did not come"
end

local function row(what, value, promise, verdict)
  print(("%-46s %14s   %-36s %s"):format(what, value, promise or "", verdict or ""))
end

local function verdict(kept)
  return kept == nil and "" or kept and "kept" or "NOT kept"
end

local function memory_of(vcpus)
  return math.max(MIB_PER_VCPU * vcpus, MIB_LEAST)
end

local function ktstr(script, ...)
  return { build .. "/ktstr", "script", here .. "/" .. script, ... }
end

local function qemu(machine, vcpus, memory, ...)
  return { "qemu-system-x86_64", "-M", machine, "-accel", "kvm", "-cpu", "host", "-smp", tostring(vcpus),
    "-m", tostring(memory), "-nodefaults", "-no-user-config", "-display", "none", ... }
end

io.stdout:setvbuf "line"

local measurements = {}

function measurements.start()
  print "From execve to the first guest instruction of the tiny guest (medians)"
  for _, vcpus in ipairs { 1, 4, 16 } do
    local memory = memory_of(vcpus)
    local floor = median(run({ programs .. "floor", tostring(RUNS), tostring(vcpus) })[3])
    local own = measure({ "--runs", tostring(RUNS) }, ktstr("tiny.lua", tostring(vcpus), tostring(memory)))
    local ratio = own.entered / floor
    row(("  ktstr, %d vCPU"):format(vcpus), ms(own.entered),
      ("1.5 x floor (%s): %.2f x"):format(ms(floor), ratio), verdict(ratio <= 1.5))
    for _, machine in ipairs(MACHINES) do
      local peer = measure({ "--runs", tostring(PEER_RUNS), "--limit", tostring(PEER_LIMIT) },
        qemu(machine, vcpus, memory, "-kernel", tiny, "-append", "tiny.run=hang"))
      row(("  QEMU %s, %d vCPU"):format(machine:match "^%w+", vcpus), ms(peer.entered),
        "payload's first instruction: " .. ms(peer.marked))
    end
  end
end

function measurements.memory()
  print "Resident memory beyond the guest's own, tiny guest, 1 vCPU"
  local own = measure({ "--runs", "5", "--until", "ready" }, ktstr("tiny.lua", "1", tostring(MIB_LEAST)))
  local beyond = (own.resident - own.own) / 1024
  row("  ktstr", ("%.1f MiB"):format(beyond), "at most 10 MiB", verdict(beyond <= 10))
end

function measurements.load()
  local kernel = kernels.resolve(os.getenv "KERNEL")
  print(("Loading and relocating %s on the host"):format(kernel.release))
  local lists = run { programs .. "load", kernel.path, tostring(RUNS) }
  local total = median(lists[3])
  row("  ktstr", ms(total), "at most 25 ms", verdict(total <= 25000))
end

-- "p50/p99" of microseconds.
local function spread(values)
  return ("%.0f/%.0f"):format(median(values), quantile(values, 0.99))
end

local function sums(a, b)
  local list = {}
  for i = 1, #a do
    list[i] = a[i] + b[i]
  end
  return list
end

-- qboot reaches the payload in a tenth of a second, where SeaBIOS takes four. Without ioeventfd: the
-- console's would add three milliseconds to each `stop`.
local function freeze_peer(vcpus, cmdline)
  return qemu("q35", vcpus, FREEZE_MIB, "-bios", "qboot.rom", "-kernel", tiny, "-append", cmdline,
    "-chardev", "stdio,id=port,signal=off", "-device", "virtio-serial-pci,disable-legacy=on,ioeventfd=off",
    "-device", "virtserialport,chardev=port,nr=1,name=ktstr.tlv")
end

local function freeze_beside_peer(vcpus, load)
  local cmdline = ("tiny.run=load=%d"):format(load[1])
  local run_ms = math.min(math.max(vcpus, RUN_MS_LEAST), RUN_MS_MOST)
  local rounds = vcpus > FEW_VCPUS and ROUNDS / 2 or ROUNDS
  local command = { programs .. "freeze", tiny, cmdline, tostring(vcpus), tostring(FREEZE_MIB),
    tostring(rounds), tostring(run_ms) }
  for _, word in ipairs(freeze_peer(vcpus, cmdline)) do
    command[#command + 1] = word
  end
  local freeze, thaw, first, last, stop, cont = unpack(run(command))
  local own, peer = median(sums(freeze, thaw)), median(sums(stop, cont))
  print(("  %2d %-20s %12s %12s %12s %13s %13s %13s %6.0f %7.0f  1/%-5.1f %s"):format(vcpus, load[2],
    spread(freeze), spread(thaw), spread(first), spread(last), spread(stop), spread(cont), own, peer,
    peer / own, verdict(peer / own >= 8)))
end

-- What a script pays: the same calls from Lua, nothing beside them.
local function freeze_from_lua()
  local machine = core.machine {
    kernel = tiny,
    cmdline = "tiny.run=load=4",
    topology = topology.parse("1n1l1c1t"):for_machine(FREEZE_MIB * 2 ^ 20),
    kaslr = false,
    la57 = false,
  }
  local freeze, thaw = {}, {}
  machine:start()
  machine:recv()
  for i = 1, ROUNDS do
    local began = host.now()
    machine:freeze()
    local frozen = host.now()
    machine:thaw()
    freeze[i], thaw[i] = (frozen - began) * 1e6, (host.now() - frozen) * 1e6
    machine:recv(RUN_MS_LEAST / 1000)
  end
  machine:kill()
  machine:join()
  print(("   1 %-20s %12s %12s"):format("halted, from Lua", spread(freeze), spread(thaw)))
end

function measurements.freeze()
  print "Freezing the tiny guest and letting it go, beside QEMU's QMP stop and cont on the same guest:"
  print "microseconds, p50/p99; promise: freeze and thaw, together, 1/8 of stop and cont or less at p50"
  print(("  %-23s %12s %12s %12s %13s %13s %13s %6s %7s"):format("vCPUs", "freeze", "thaw", "first runs",
    "last runs", "QEMU stop", "cont", "both", "QEMU's"))
  for _, vcpus in ipairs { 1, 2, 4, 8, 32 } do
    for _, load in ipairs(LOADS) do
      freeze_beside_peer(vcpus, load)
    end
  end
  freeze_from_lua()
end

-- The initramfs of ktstr's own machines, in a file.
local function write_initramfs(path)
  local file = require("archive").new(path)
  local original = core.cpio
  core.cpio = function()
    return file
  end
  local ok, err = pcall(initramfs.build, {})
  core.cpio = original
  file:close()
  if not ok then
    error(err, 0)
  end
end

-- The bytes that begin an agent's first frame, as `measure` takes them.
local function ready_bytes()
  local number, text = core.wire.MSG_SYS_RDY, {}
  for i = 1, 4 do
    text[i] = ("\\x%02x"):format(number % 256)
    number = math.floor(number / 256)
  end
  return table.concat(text)
end

function measurements.boot()
  local kernel = kernels.resolve(os.getenv "KERNEL")
  local vcpus, memory = 2, 512
  print(("Start to agent ready with %s, %d vCPUs, %d MiB"):format(kernel.release, vcpus, memory))
  local own = measure({ "--runs", tostring(BOOTS), "--until", "ready", "--limit", "120" },
    ktstr("boot.lua", kernel.release, tostring(vcpus), memory .. "M"))
  row("  ktstr", ms(own.printed))
  local initrd = os.tmpname()
  write_initramfs(initrd)
  local best
  for _, machine in ipairs(MACHINES) do
    local command = qemu(machine, vcpus, memory, "-kernel", kernel.bzimage, "-initrd", initrd,
      "-append", "console=ttyS0 loglevel=5 panic=-1", "-serial", "null",
      "-chardev", "stdio,id=port,signal=off", "-device", "virtio-serial-pci",
      "-device", "virtserialport,chardev=port,nr=1,name=ktstr.tlv")
    local options = { "--runs", tostring(BOOTS), "--until", ready_bytes(), "--limit", "120" }
    local peer = measure(options, command)
    row("  QEMU " .. machine:match "^%w+", ms(peer.printed))
    best = peer.printed and math.min(best or math.huge, peer.printed) or best
  end
  os.remove(initrd)
  if own.printed and best then
    local ratio = own.printed / best
    row("  ktstr beside the better QEMU", ("%.2f x"):format(ratio), "at most 0.8 x", verdict(ratio <= 0.8))
  end
end

for _, name in ipairs(arg) do
  if not measurements[name] then
    errors.refuse("invalid", ("bench.lua: '%s' is not a measurement"):format(name),
      "start, memory, load, freeze or boot")
  end
  measurements[name]()
end
