-- usage: ktstr script bench.lua start|memory|load|boot...
-- Measures and prints; scripts/bench/run says what runs where.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local initramfs = require "ktstr.initramfs"
local kernels = require "ktstr.kernels"
local process = require "ktstr.process"

local build = os.getenv "BUILD" or "build"
local here = arg[0]:match "^(.*)/[^/]*$" or "."
local programs = build .. "/bench/"
local tiny = core.paths.guest .. "/tiny"

package.path = here .. "/?.lua;" .. package.path

local RUNS, PEER_RUNS, BOOTS = 20, 3, tonumber(os.getenv "BOOTS" or 5)
local PEER_LIMIT = 30 -- seconds; interpreted firmware takes most of it
local MIB_PER_VCPU, MIB_LEAST = 64, 256
local MACHINES = { "q35", "microvm,pcie=on,acpi=on" }

local function median(values)
  local sorted = {}
  for _, value in ipairs(values) do
    if value >= 0 then
      sorted[#sorted + 1] = value
    end
  end
  table.sort(sorted)
  return sorted[math.ceil(#sorted / 2)]
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
      "start, memory, load or boot")
  end
  measurements[name]()
end
