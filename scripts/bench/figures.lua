-- What the measurements share: running the programs beside this file, and printing a figure.
local stdlib = require "posix.stdlib"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local initramfs = require "ktstr.initramfs"
local kernels = require "ktstr.kernels"
local process = require "ktstr.process"

local figures = {}

-- Where the program is, and the scripts beside this file.
local build = os.getenv "BUILD" or "build"
local here = arg[0]:match "^(.*)/[^/]*$" or "."

figures.programs = build .. "/bench/"
figures.tiny = core.paths.guest .. "/tiny"
figures.BOOTS = tonumber(os.getenv "BOOTS" or 5)
figures.STOCK_VCPUS, figures.STOCK_MIB = 2, 512

-- The value that so large a part of them does not exceed; what did not come, -1, is left out.
function figures.quantile(values, part)
  local sorted = {}
  for _, value in ipairs(values or {}) do
    if value >= 0 then
      sorted[#sorted + 1] = value
    end
  end
  table.sort(sorted)
  return sorted[math.ceil(#sorted * part)]
end

function figures.median(values)
  return figures.quantile(values, 0.5)
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

function figures.run(argv)
  local result = process.run(argv)
  if result.stdout == "" then
    errors.raise("os", ("%s: %s"):format(table.concat(argv, " "), result.stderr))
  end
  return columns(result.stdout)
end

--- An argument list; lists among the words are taken apart.
function figures.words(...)
  local list = {}
  for _, word in ipairs { ... } do
    for _, each in ipairs(type(word) == "table" and word or { word }) do
      list[#list + 1] = tostring(each)
    end
  end
  return list
end

-- Medians of what `measure` says: us to the first entry, to the mark, to the text; KiB resident, own.
function figures.measure(options, command)
  local lists = figures.run(figures.words(figures.programs .. "measure", "--trace",
    figures.programs .. "kvm_trace.so", options, command))
  local found = {}
  for i, name in ipairs { "entered", "marked", "printed", "resident", "own" } do
    found[name] = figures.median(lists[i])
  end
  return found
end

function figures.ms(us)
  return us and ("%.1f ms"):format(us / 1000) or "did not come"
end

function figures.row(what, value, promise, verdict)
  print((("%-46s %14s   %-36s %s"):format(what, value, promise or "", verdict or ""):gsub("%s+$", "")))
end

function figures.verdict(kept)
  return kept == nil and "" or kept and "kept" or "NOT kept"
end

function figures.ktstr(script, ...)
  return figures.words(build .. "/ktstr", "script", here .. "/" .. script, ...)
end

function figures.qemu(machine, vcpus, memory, ...)
  return figures.words("qemu-system-x86_64", "-M", machine, "-accel", "kvm", "-cpu", "host",
    "-smp", vcpus, "-m", memory, "-nodefaults", "-no-user-config", "-display", "none", ...)
end

--- The guest's port is QEMU's standard input and output. Without ioeventfd: the console's would add three
--- milliseconds to each `stop`. qboot reaches the payload in a tenth of a second, where SeaBIOS takes four.
function figures.qemu_tiny(vcpus, memory, cmdline)
  return figures.qemu("q35", vcpus, memory, "-bios", "qboot.rom", "-kernel", figures.tiny, "-append", cmdline,
    "-chardev", "stdio,id=port,signal=off", "-device", "virtio-serial-pci,disable-legacy=on,ioeventfd=off",
    "-device", "virtserialport,chardev=port,nr=1,name=ktstr.tlv")
end

function figures.qemu_stock(machine, kernel, initrd)
  return figures.qemu(machine, figures.STOCK_VCPUS, figures.STOCK_MIB, "-kernel", kernel.bzimage,
    "-initrd", initrd, "-append", "console=ttyS0 loglevel=5 panic=-1", "-serial", "null",
    "-chardev", "stdio,id=port,signal=off", "-device", "virtio-serial-pci",
    "-device", "virtserialport,chardev=port,nr=1,name=ktstr.tlv")
end

local cold

--- From execve to the agent's hello, of a machine that boots; measured once a run. us.
function figures.cold_boot(kernel)
  cold = cold or figures.measure({ "--runs", figures.BOOTS, "--until", "ready", "--limit", "120" },
    figures.ktstr("boot.lua", "cold", kernel.release, figures.STOCK_VCPUS, figures.STOCK_MIB .. "M")).printed
  return cold
end

--- The initramfs of ktstr's own machines, in a file.
function figures.write_initramfs(path)
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

-- 32 bits, least significant byte first.
local function u32(number)
  local bytes = {}
  for i = 1, 4 do
    bytes[i] = string.char(number % 256)
    number = math.floor(number / 256)
  end
  return table.concat(bytes)
end

--- The bytes that begin a frame of that type (all of them letters).
function figures.frame_start(type)
  return u32(type)
end

local function crc32(text)
  local bit = require "bit"
  local crc = -1
  for i = 1, #text do
    crc = bit.bxor(crc, text:byte(i))
    for _ = 1, 8 do
      crc = bit.bxor(bit.rshift(crc, 1), bit.band(-bit.band(crc, 1), 0xedb88320))
    end
  end
  return bit.bnot(crc) % 2 ^ 32
end

--- A frame as it goes over the port: for a guest that no machine of ours sends to.
function figures.frame(type, payload)
  local head = u32(type) .. u32(#payload) .. u32(crc32(payload))
  return head .. u32(crc32(head)) .. payload
end

local function run_quietly(argv)
  local result = process.run(argv)
  if result.status ~= 0 then
    errors.raise("os", ("%s: %s"):format(table.concat(argv, " "), result.stderr))
  end
  return result.stdout
end

--- Calls fn(directory) with one that is on the disk where saved machines are, and removes it afterwards.
function figures.with_directory(fn)
  local base = os.getenv "KTSTR_WARM_DIR" or "/var/tmp"
  local directory = run_quietly { "mktemp", "-d", "-p", base, "bench.XXXXXX" }:match "%S+"
  local ok, err = pcall(fn, directory)
  process.run { "rm", "-rf", directory }
  if not ok then
    error(err, 0)
  end
end

-- The program, its scripts and the kernel, for whoever is started from now on.
local function settle(directory, kernel)
  local kernels_there = directory .. "/xdg/ktstr/kernels"
  run_quietly { "mkdir", "-p", kernels_there }
  run_quietly(figures.words("cp", "-r", build .. "/ktstr", build .. "/lua", build .. "/guest", directory))
  run_quietly { "cp", "-r", here, directory .. "/scripts" }
  run_quietly { "cp", "-r", (kernel.bzimage:match "^(.*)/"), kernels_there }
  build, here = directory, directory .. "/scripts"
  stdlib.setenv("XDG_CACHE_HOME", directory .. "/xdg")
  stdlib.setenv("KTSTR_WARM_DIR", directory .. "/warm")
end

--- Calls fn(directory, kernel) with all that a stock machine is started from in that directory: in the helper
--- machine the rest is on 9p, where it costs a millisecond to open a file. A user's cache is left alone.
function figures.with_stock(fn)
  figures.with_directory(function(directory)
    local before = { build, here, os.getenv "XDG_CACHE_HOME", os.getenv "KTSTR_WARM_DIR" }
    local ok, err = pcall(function()
      settle(directory, kernels.resolve(os.getenv "KERNEL"))
      fn(directory, kernels.resolve(os.getenv "KERNEL"))
    end)
    build, here = before[1], before[2]
    stdlib.setenv("XDG_CACHE_HOME", before[3])
    stdlib.setenv("KTSTR_WARM_DIR", before[4])
    if not ok then
      error(err, 0)
    end
  end)
end

return figures
