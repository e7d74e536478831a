-- vm:dump(): a machine as a core file for other tools, of which drgn is asked where it is installed.
local ffi = require "ffi"
local stdlib = require "posix.stdlib"
local ktstr = require "ktstr"
local address = require "ktstr.kernel.address"
local files = require "ktstr.files"
local process = require "ktstr.process"
local tiny_guest = require "tests.vm.tiny_guest"

local refused = tiny_guest.refused
local TIMEOUT_S = 1800
local PT_LOAD = 1
local BANNER = 64 -- bytes of it

local vm, k, directory

-- In a guest that emulation runs, everything takes long: the bounds below end what hangs, no more.
setup(function()
  directory = assert(stdlib.mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/dump.XXXXXX"))
  vm = ktstr.boot { topology = "1n1l2c1t", timeout = TIMEOUT_S }
  k = vm.k
end)

teardown(function()
  if vm then
    vm:kill()
  end
  if directory then
    files.remove(directory)
  end
end)

local function read(path, offset, size)
  local file = assert(io.open(path, "rb"))
  file:seek("set", offset)
  local bytes = file:read(size)
  file:close()
  return bytes
end

local Segment = ffi.typeof [[struct {
  uint32_t type, flags; uint64_t offset, vaddr, paddr, filesz, memsz, align;
}]]

-- The file's segments, from the headers behind its first 64 bytes.
local function segments(path)
  local count = read(path, 56, 1):byte()
  local list = {}
  for i = 1, count do
    list[i] = Segment()
    ffi.copy(list[i], read(path, 64 + (i - 1) * ffi.sizeof(Segment), ffi.sizeof(Segment)),
      ffi.sizeof(Segment))
  end
  return list
end

-- What the file has at a virtual address of one of its segments.
local function bytes_at(path, at, size)
  for _, segment in ipairs(segments(path)) do
    local place = at - segment.vaddr
    if segment.type == PT_LOAD and place < segment.filesz then
      return read(path, tonumber(segment.offset + place), size)
    end
  end
end

describe("vm:dump", function()
  it("writes the kernel's memory, which goes on", function()
    local path = directory .. "/core"
    vm:dump(path)
    assert.is_false(vm:is_frozen())
    assert.equals("\127ELF", read(path, 0, 4))
    local banner = k:symbol "linux_banner"
    assert.equals(k:read(banner, BANNER), bytes_at(path, address.raw(banner), BANNER))
    -- The same by the direct map.
    local direct = k._view.ranges[1].start + k:phys(banner)
    assert.equals(k:read(banner, BANNER), bytes_at(path, direct, BANNER))
    assert.equals(0, vm:exec({ "true" }).status)
    os.remove(path)
  end)

  it("has VMCOREINFO and the registers of a frozen machine", function()
    local path = directory .. "/core"
    vm:freeze()
    vm:dump(path)
    assert.is_true(vm:is_frozen())
    local notes = segments(path)[1]
    local text = read(path, tonumber(notes.offset), tonumber(notes.filesz))
    assert.matches("VMCOREINFO", text, 1, true)
    assert.matches(("\0OSRELEASE=%s\n"):format(vm.release), text, 1, true)
    assert.matches(("KERNELOFFSET=%x\n"):format(tonumber(k._view.slide)), text, 1, true)
    for cpu = 0, vm.topology.cpus - 1 do
      local general = vm.machine:regs(cpu)
      local rip = general:sub(16 * 8 + 1, 17 * 8)
      assert.is_true(text:find(rip, 1, true) ~= nil)
    end
    vm:thaw()
    os.remove(path)
  end)

  it("leaves nothing behind when it cannot be written", function()
    local path = directory .. "/none/core"
    assert.matches(path, refused("os", vm.dump, vm, path).message, 1, true)
    refused("invalid", vm.dump, vm, nil)
    assert.is_false(vm:is_frozen())
    assert.equals(0, vm:exec({ "true" }).status)
  end)
end)

-- Reads memory at each "ADDRESS SIZE" of its input, by the page tables in the file, and prints it in hex.
local DRGN = [[
import sys, drgn
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
for line in sys.argv[2:]:
    address, size = line.split()
    print(prog.read(int(address, 16), int(size)).hex())
]]

describe("drgn", function()
  it("opens it, and reads the same as we do", function()
    local python = "/usr/bin/python3"
    if process.run({ python, "-c", "import drgn" }).status ~= 0 then
      pending "python3-drgn is not installed"
      return
    end
    local path = directory .. "/core"
    local expected, wanted = {}, {}
    vm:freeze()
    vm:dump(path)
    local function want(place, size)
      wanted[#wanted + 1] = ("%s %d"):format(address.hex(address.raw(place)), size)
      expected[#expected + 1] = k:read(place, size)
    end
    want(k:symbol "linux_banner", BANNER)
    for task in k:tasks() do
      want(task:address_(), 64) -- the direct map
      want(task.stack, 64) -- vmalloc
    end
    want(k:per_cpu("runqueues", 1):address_(), 64)
    vm:thaw()
    local result = process.run { python, "-c", DRGN, path, unpack(wanted) }
    assert.equals("", result.stderr)
    local i = 0
    for line in result.stdout:gmatch "%x+" do
      i = i + 1
      assert.equals(expected[i], (line:gsub("%x%x", function(byte)
        return string.char(tonumber(byte, 16))
      end)))
    end
    assert.equals(#expected, i)
    os.remove(path)
  end)
end)
