-- vm:dump(): a machine as a core file for other tools. What they make of it is compared in tests/dump.
local ffi = require "ffi"
local stdlib = require "posix.stdlib"
local ktstr = require "ktstr"
local address = require "ktstr.kernel.address"
local files = require "ktstr.files"
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
