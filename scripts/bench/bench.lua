-- usage: ktstr script bench.lua start|memory|load|freeze|restore|kernel|clock|capture|periodic|captures|
--   watches|forks_watched|boot|warm...
-- Measures and prints; scripts/bench/run says what runs where.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local kernels = require "ktstr.kernels"
local topology = require "ktstr.topology"

package.path = (arg[0]:match "^(.*)/[^/]*$" or ".") .. "/?.lua;" .. package.path

local figures = require "figures"

local measure, median, ms, quantile, row, run = figures.measure, figures.median, figures.ms, figures.quantile,
  figures.row, figures.run
local ktstr, programs, qemu, tiny, verdict = figures.ktstr, figures.programs, figures.qemu, figures.tiny,
  figures.verdict

local RUNS, PEER_RUNS = 20, 3
local PEER_LIMIT = 30 -- seconds; interpreted firmware takes most of it
local MIB_PER_VCPU, MIB_LEAST = 64, 256
local MACHINES = { "q35", "microvm,pcie=on,acpi=on" }
local ROUNDS, FREEZE_MIB = tonumber(os.getenv "ROUNDS" or 100), 256
local FEW_VCPUS = 8 -- beyond, half as many rounds: each takes long
local RUN_MS_LEAST, RUN_MS_MOST = 2, 20 -- a guest's turn: a millisecond a vCPU within these
-- What `tiny.run=load=N` makes of the vCPUs.
local LOADS = { { 0, "in kernel mode" }, { 1, "in user mode" }, { 2, "halted, timers armed" },
  { 4, "halted for good" }, { 3, "mixed" } }

local function memory_of(vcpus)
  return math.max(MIB_PER_VCPU * vcpus, MIB_LEAST)
end

io.stdout:setvbuf "line"

local measurements = require "warm"
measurements.kernel = require "kernel"
for _, part in ipairs { require "captures", require "watches" } do
  for name, measurement in pairs(part) do
    measurements[name] = measurement
  end
end

function measurements.start()
  print "From execve to the first guest instruction of the tiny guest (medians)"
  for _, vcpus in ipairs { 1, 4, 16 } do
    local memory = memory_of(vcpus)
    local floor = median(run({ programs .. "floor", tostring(RUNS), tostring(vcpus) })[3])
    local own = measure({ "--runs", RUNS }, ktstr("tiny.lua", vcpus, memory))
    local ratio = own.entered / floor
    row(("  ktstr, %d vCPU"):format(vcpus), ms(own.entered),
      ("1.5 x floor (%s): %.2f x"):format(ms(floor), ratio), verdict(ratio <= 1.5))
    for _, machine in ipairs(MACHINES) do
      local peer = measure({ "--runs", PEER_RUNS, "--limit", PEER_LIMIT },
        qemu(machine, vcpus, memory, "-kernel", tiny, "-append", "tiny.run=hang"))
      row(("  QEMU %s, %d vCPU"):format(machine:match "^%w+", vcpus), ms(peer.entered),
        "payload's first instruction: " .. ms(peer.marked))
    end
  end
end

function measurements.memory()
  print "Resident memory beyond the guest's own, tiny guest, 1 vCPU"
  local own = measure({ "--runs", "5", "--until", "ready" }, ktstr("tiny.lua", 1, MIB_LEAST))
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

local function freeze_beside_peer(vcpus, load)
  local cmdline = ("tiny.run=load=%d"):format(load[1])
  local run_ms = math.min(math.max(vcpus, RUN_MS_LEAST), RUN_MS_MOST)
  local rounds = vcpus > FEW_VCPUS and ROUNDS / 2 or ROUNDS
  local command = figures.words(programs .. "freeze", tiny, cmdline, vcpus, FREEZE_MIB,
    rounds, run_ms, figures.qemu_tiny(vcpus, FREEZE_MIB, cmdline))
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

local function boot_beside_peers(directory, kernel)
  local own = figures.cold_boot(kernel)
  row("  ktstr", ms(own))
  local initrd = directory .. "/initrd"
  figures.write_initramfs(initrd)
  local best
  for _, machine in ipairs(MACHINES) do
    local peer = measure({ "--runs", figures.BOOTS, "--until", figures.frame_start(core.wire.MSG_SYS_RDY),
      "--limit", "120" }, figures.qemu_stock(machine, kernel, initrd)).printed
    row("  QEMU " .. machine:match "^%w+", ms(peer))
    best = peer and math.min(best or math.huge, peer) or best
  end
  if own and best then
    local ratio = own / best
    row("  ktstr beside the better QEMU", ("%.2f x"):format(ratio), "at most 0.8 x", verdict(ratio <= 0.8))
  end
end

function measurements.boot()
  figures.with_stock(function(directory, kernel)
    print(("Start to agent ready with %s, %d vCPUs, %d MiB"):format(kernel.release, figures.STOCK_VCPUS,
      figures.STOCK_MIB))
    boot_beside_peers(directory, kernel)
  end)
end

for _, name in ipairs(arg) do
  if not measurements[name] then
    errors.refuse("invalid", ("bench.lua: '%s' is not a measurement"):format(name),
      "start, memory, load, freeze, restore, kernel, boot or warm")
  end
  measurements[name]()
end
