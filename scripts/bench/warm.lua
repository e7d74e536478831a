-- Saving machines, restoring and forking them, beside QEMU's migration of the same guest to a file and back.
local core = require "ktstr.core"
local host = require "ktstr.host"
local process = require "ktstr.process"
local topology = require "ktstr.topology"
local figures = require "figures"

local wire = core.wire
local ms, row, verdict, median = figures.ms, figures.row, figures.verdict, figures.median

local ROUNDS, RUNS = tonumber(os.getenv "ROUNDS" or 100), 10
local TINY_MIB = 256
local HOST_MS, PART_OF_PEER, PART_OF_COLD = 5, 10, 50 -- what is promised
local CMDLINE = "tiny.run=ready tiny.run=echo"
-- QEMU's two ways of writing a guest to a file; what follows a name makes its restore expect that one.
local FORMS = { { "stream" }, { "mapped-ram", "-global", "migration.mapped-ram=on" } }

local function mib(bytes)
  return ("%.1f MiB"):format(bytes / 2 ^ 20)
end

local function part(own, peer)
  return ("1/%.1f"):format(peer / own)
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- --- QEMU ---

-- p: directory; command, runs; ready, what the guest sends before it is saved; asked, what it is sent as
-- soon as QEMU starts; answer, what it sends then.
local function restore_peer(p, form)
  local path, input = p.directory .. "/qemu", p.directory .. "/input"
  write(input, p.asked)
  local migrate = figures.programs .. "migrate"
  local saved = figures.run(figures.words(migrate, "save", path, form[1], p.ready, p.command))
  local waiting = figures.run(figures.words(migrate, "restore", path, form[1], input, p.answer, p.runs,
    p.command, "-incoming", "defer"))
  local found = figures.measure({ "--runs", p.runs, "--until", p.answer, "--input", input, "--limit", 120 },
    figures.words(p.command, { unpack(form, 2) }, "-incoming", "file:" .. path))
  os.remove(path)
  os.remove(input)
  found.form, found.save, found.disk, found.waiting = form[1], saved[1][1], saved[2][1], median(waiting[1])
  return found
end

local function print_peer(peer)
  row("  QEMU, " .. peer.form, ms(peer.printed), ("its first KVM_RUN %s"):format(ms(peer.entered)))
  row("    in a QEMU that waits for it", ms(peer.waiting), "migrate-incoming to RESUME")
  row("    to save", ms(peer.save), mib(peer.disk) .. " on disk")
end

-- Both ways, and of each figure the better one.
local function restore_peers(p)
  local best = {}
  for _, form in ipairs(FORMS) do
    local peer = restore_peer(p, form)
    print_peer(peer)
    for _, name in ipairs { "entered", "printed", "waiting", "save", "disk" } do
      best[name] = math.min(best[name] or math.huge, peer[name] or math.huge)
    end
  end
  return best
end

-- --- the tiny guest ---

local function ping(machine)
  machine:send(wire.MSG_OP_REQUEST, wire.op_request(1, wire.OP_PING, ""))
  machine:recv()
end

local function tiny_machine(vcpus)
  local machine = core.machine {
    kernel = figures.tiny,
    cmdline = CMDLINE,
    topology = topology.parse(("1n1l%dc1t"):format(vcpus)):for_machine(TINY_MIB * 2 ^ 20),
    kaslr = false,
    la57 = false,
  }
  machine:start()
  machine:recv()
  return machine
end

-- Times of one: us to save it, to a restored machine's start, to its answer.
local function tiny_round(machine, directory)
  local began = host.now()
  local image = machine:save("bench\n", "", directory)
  local saved = host.now()
  local copy = core.machine_saved(image, { timeout = 60 })
  copy:start()
  local started = host.now()
  ping(copy)
  local answered = host.now()
  copy:kill()
  copy:join()
  return image, (saved - began) * 1e6, (started - saved) * 1e6, (answered - saved) * 1e6
end

local function tiny_rounds(vcpus, directory)
  local machine = tiny_machine(vcpus)
  local found = { save = {}, start = {}, answer = {} }
  machine:freeze()
  for i = 1, ROUNDS do
    local image
    image, found.save[i], found.start[i], found.answer[i] = tiny_round(machine, directory)
    if i == ROUNDS then
      found.disk = image:disk_size()
      image:publish(directory .. "/tiny")
    end
    image:close()
  end
  machine:kill()
  machine:join()
  return found
end

local function restore_tiny(vcpus, directory)
  local own = tiny_rounds(vcpus, directory)
  local fresh = figures.measure({ "--runs", RUNS, "--until", "ready" }, figures.ktstr("restored.lua",
    directory .. "/tiny"))
  process.run { "rm", "-rf", directory .. "/tiny" }
  local start = median(own.start)
  print(("%d vCPU%s:"):format(vcpus, vcpus > 1 and "s" or ""))
  row("  ktstr, in a process: to the vCPUs' start", ms(start), ("at most %d ms (p99 %s)"):format(HOST_MS,
    ms(figures.quantile(own.start, 0.99))), verdict(start <= HOST_MS * 1000))
  row("    to the guest's answer", ms(median(own.answer)))
  row("    to save", ms(median(own.save)), mib(own.disk) .. " on disk")
  row("  ktstr, from execve: to the guest's answer", ms(fresh.printed), ("its first KVM_RUN %s"):format(
    ms(fresh.entered)))
  local peer = restore_peers {
    directory = directory,
    command = figures.qemu_tiny(vcpus, TINY_MIB, CMDLINE),
    runs = RUNS,
    ready = figures.frame_start(wire.MSG_SYS_RDY),
    asked = figures.frame(wire.MSG_OP_REQUEST, wire.op_request(1, wire.OP_PING, "")),
    answer = figures.frame_start(wire.MSG_OP_REPLY),
  }
  row("  execve to first KVM_RUN, beside QEMU's", part(fresh.entered, peer.entered),
    ("at most 1/%d"):format(PART_OF_PEER), verdict(fresh.entered * PART_OF_PEER <= peer.entered))
  row("  in a process, beside a QEMU that waits", part(start, peer.waiting))
  row("  saving, beside QEMU's", part(median(own.save), peer.save))
end

-- --- a stock kernel ---

local function memory(kernel, kind, count)
  local lists = figures.run(figures.ktstr("forks.lua", "memory", kernel.release, figures.STOCK_VCPUS,
    figures.STOCK_MIB .. "M", count, kind))
  return lists[1][1] * 1024, lists[2][1] * 1024
end

local function print_memory(kernel)
  for _, count in ipairs { 1, 4 } do
    local cold = memory(kernel, "cold", count)
    local fork, own = memory(kernel, "fork", count)
    row(("  memory of %d fork%s"):format(count, count > 1 and "s" or ""), mib(fork),
      ("copied: %s; booted: %s: %s"):format(mib(own), mib(cold), part(fork, cold)))
  end
end

-- What the agent of a restored machine is sent first.
local function wake_up()
  return figures.frame(wire.MSG_OP_REQUEST, wire.op_request(1, wire.OP_RESTORED, wire.pack {
    { "RUN_ID", ("0123456789abcdef"):rep(2) },
    { "REALTIME_NS", os.time() * 1e9 },
    { "ENTROPY", ("entropy."):rep(32) },
  }))
end

local function warm_starts(kernel)
  local function command(mode)
    return figures.ktstr("boot.lua", mode, kernel.release, figures.STOCK_VCPUS, figures.STOCK_MIB .. "M")
  end
  -- One fills the cache, and one notes what a restored machine touches.
  process.run(command "use")
  process.run(command "use")
  return figures.measure({ "--until", "ready", "--runs", RUNS }, command "warm")
end

local function print_own(kernel, directory)
  local cold = figures.cold_boot(kernel)
  row("  ktstr, cold boot", ms(cold))
  local warm = warm_starts(kernel)
  row("  ktstr, warm start", ms(warm.printed), ("at most 1/%d of that: %s"):format(PART_OF_COLD,
    part(warm.printed, cold)), verdict(warm.printed * PART_OF_COLD <= cold))
  row("    its first KVM_RUN", ms(warm.entered))
  local lists = figures.run(figures.ktstr("forks.lua", "time", kernel.release, figures.STOCK_VCPUS,
    figures.STOCK_MIB .. "M", RUNS, directory))
  row("  ktstr, fork", ms(median(lists[2])))
  row("    to save", ms(median(lists[1])), ("on disk: state %.1f KiB, memory %s"):format(
    median(lists[3]) / 1024, mib(median(lists[4]))))
  print_memory(kernel)
  return warm, median(lists[1])
end

local function warm_stock(kernel, directory)
  local initrd = directory .. "/initrd"
  local warm, save = print_own(kernel, directory)
  figures.write_initramfs(initrd)
  local peer = restore_peers {
    directory = directory,
    command = figures.qemu_stock("q35", kernel, initrd),
    runs = figures.BOOTS,
    ready = figures.frame_start(wire.MSG_SYS_RDY),
    asked = wake_up(),
    answer = figures.frame_start(wire.MSG_SYS_RDY),
  }
  row("  warm start, beside QEMU's", part(warm.printed, peer.printed))
  row("  execve to first KVM_RUN, beside QEMU's", part(warm.entered, peer.entered),
    ("at most 1/%d"):format(PART_OF_PEER), verdict(warm.entered * PART_OF_PEER <= peer.entered))
  row("  saving, beside QEMU's", part(save, peer.save))
end

local measurements = {}

function measurements.restore()
  print(("Restoring the tiny guest, %d MiB, beside QEMU's -incoming file:, by medians"):format(TINY_MIB))
  figures.with_directory(function(directory)
    for _, vcpus in ipairs { 1, 4 } do
      restore_tiny(vcpus, directory)
    end
  end)
end

function measurements.warm()
  figures.with_stock(function(directory, kernel)
    print(("Warm machines to agent ready with %s, %d vCPUs, %d MiB, beside QEMU's -incoming file:"):format(
      kernel.release, figures.STOCK_VCPUS, figures.STOCK_MIB))
    warm_stock(kernel, directory)
  end)
end

return measurements
