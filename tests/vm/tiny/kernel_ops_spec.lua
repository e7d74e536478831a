-- Kernel operations on a running guest: hot and cold, beside other freezes, and the guest's own requests.
local ffi = require "ffi"
local core = require "ktstr.core"
local kernel = require "ktstr.kernel"
local ops = require "ktstr.ops"
local tiny_guest = require "tests.vm.tiny_guest"
local watch_guest = require "tests.vm.watch_guest"

local wire = core.wire
local IMAGE = 0x1000000 -- where the guest's image is, which its view has from the start
local READ, WRITE, OR = wire.KERNEL_OP_READ, wire.KERNEL_OP_WRITE, wire.KERNEL_OP_OR

local refused = tiny_guest.refused

local CR3_OFFSET = 240 -- in struct kvm_sregs

-- The guest's tables are those of the boot protocol, outside of its image: its counters are seen by them.
local function know_tables(machine)
  machine:frozen(nil, function()
    local sregs = select(2, machine:regs(0))
    local root = ffi.new "uint64_t[1]"
    ffi.copy(root, sregs:sub(CR3_OFFSET + 1, CR3_OFFSET + 8), 8)
    ffi.cast("struct view *", machine:view()).root = root[0]
  end)
end

local function bytes_of(ctype, ...)
  return ffi.string(ffi.new(ctype, ...), ffi.sizeof(ctype))
end

local function op(kind, address, size, value)
  local one = ffi.new("struct op", { start = address, size = size, value = value or 0, op = kind })
  return ffi.string(one, ffi.sizeof(one))
end

-- Values of what was carried out, and the error of what was not.
local function run(machine, list, cold)
  local raw, _, err = machine:run_ops(bytes_of "struct op_layout", table.concat(list), "", "", cold or false)
  local values, words = {}, ffi.cast("const uint64_t *", raw)
  for i = 1, #raw / 8 do
    values[i] = tonumber(words[i - 1])
  end
  return values, err
end

-- Four CPUs, each of which counts in a word of its own.
local function counting(options)
  local machine = tiny_guest.start("load=0", finally, options or { cpus = 4 })
  know_tables(machine)
  local counters = {}
  for cpu = 0, 3 do
    counters[cpu + 1] = tiny_guest.address.counters + cpu * 64
  end
  return machine, counters
end

local function read_twice(counters)
  local list = {}
  for round = 0, 1 do
    for i, address in ipairs(counters) do
      list[round * #counters + i] = op(READ, address, 8)
    end
  end
  return list
end

describe("a batch", function()
  it("that is cold is of one moment, while the guest runs on around it", function()
    local machine, counters = counting()
    local last = { 0, 0, 0, 0 }
    for round = 1, 50 do
      local values = run(machine, read_twice(counters), true)
      for i = 1, 4 do
        assert.equals(values[i], values[4 + i])
        assert.is_true(values[i] >= last[i])
        last[i] = values[i]
      end
      assert.equals(round, machine:freeze_counts()["kernel-op"].done)
    end
    assert.is_false(machine:is_frozen())
    tiny_guest.wait_until(function()
      return run(machine, read_twice(counters))[1] > last[1]
    end)
  end)

  it("that is hot sees the guest go on, and freezes nothing", function()
    local machine, counters = counting()
    local list = {}
    for i = 1, 2000 do
      list[i] = op(READ, counters[1], 8)
    end
    tiny_guest.wait_until(function()
      local values = run(machine, list)
      for i = 2, #values do
        assert.is_true(values[i] >= values[i - 1])
      end
      return values[#values] > values[1]
    end)
    assert.same({ done = 0, busy = 0, timeout = 0, failed = 0 }, machine:freeze_counts()["kernel-op"])
  end)

  it("writes what the guest goes on from", function()
    local machine, counters = counting()
    run(machine, { op(WRITE, counters[2], 8, 2 ^ 40), op(OR, counters[3] + 4, 4, 0x100) })
    tiny_guest.wait_until(function()
      local values = run(machine, read_twice(counters))
      return values[2] > 2 ^ 40 and values[2] < 2 ^ 41 and values[3] > 2 ^ 40 and values[3] < 2 ^ 41
    end)
  end)

  it("sets a bit of a word in which four CPUs count, and no count is lost", function()
    local COUNT = 2 ^ 16
    local guest = watch_guest.start(finally, 4)
    local machine, high = guest.machine, 2 ^ 31
    know_tables(machine)
    local list, seen, rounds = {}, {}, 0
    for i = 1, 64 do
      list[i] = op(OR, watch_guest.pages, 4, high)
    end
    -- Until both have been at it at the same time, which a busy host may put off.
    repeat
      rounds = rounds + 1
      guest:begin("lock-inc", COUNT)
      local is_done
      repeat
        for _, before in ipairs(run(machine, list)) do
          seen[before % high] = true
        end
        is_done = guest:turn(0.001)
      until is_done
      local different = 0
      for _ in pairs(seen) do
        different = different + 1
      end
    until different > 100
    assert.equals(high + 4 * COUNT * rounds, (run(machine, { op(READ, watch_guest.pages, 4) }))[1])
  end)

  it("fires no watch, whose next fire has what was written as the old value", function()
    local guest = watch_guest.start(finally)
    know_tables(guest.machine)
    local id = guest:watch(0, 8, { backend = "page" })
    for i, cold in ipairs { false, true } do
      run(guest.machine, { op(WRITE, watch_guest.pages, 8, 0x70 + i) }, cold)
      assert.equals(i - 1, guest:hits(id))
      guest:run("write-8", 1)
      assert.same({ ("%x -> 101010101010101"):format(0x70 + i) }, guest:changes(id))
    end
    run(guest.machine, { op(OR, watch_guest.pages, 4, 0x80) })
    assert.equals(2, guest:hits(id))
  end)

  it("ends with the first that fails, and what was done stays", function()
    local machine = tiny_guest.start("load=4", finally)
    for _, cold in ipairs { false, true } do
      run(machine, { op(WRITE, IMAGE, 8, 0) })
      local values, err = run(machine, { op(WRITE, IMAGE, 8, 77), op(READ, IMAGE, 8),
        op(READ, 0xdead00000000ULL, 8), op(WRITE, IMAGE, 8, 78) }, cold)
      assert.same({ 2, 77, "unmapped" }, { #values, values[2], err.code })
      assert.same({ 77 }, (run(machine, { op(READ, IMAGE, 8) })))
    end
  end)

  it("that makes no sense is refused", function()
    local machine = tiny_guest.start("load=4", finally)
    refused("invalid", run, machine, { op(9, IMAGE, 8) })
    refused("invalid", run, machine, { op(READ, IMAGE, 3) })
    assert.is_false(pcall(machine.run_ops, machine, "", "", "", "", false))
    assert.is_false(pcall(machine.run_ops, machine, bytes_of "struct op_layout", "x", "", "", false))
    assert.same({}, (run(machine, {}, true)))
  end)

  it("that is cold is told to be busy when main has frozen the machine, and then has done nothing", function()
    local machine = tiny_guest.start("load=4", finally)
    run(machine, { op(WRITE, IMAGE, 8, 0x123456) })
    machine:freeze()
    refused("busy", run, machine, { op(WRITE, IMAGE, 8, 2) }, true)
    assert.same({ 0x123456 }, (run(machine, { op(READ, IMAGE, 8) })))
    -- Not by itself, but frozen it is: what is not aligned can be done.
    assert.same({ 0x1234 }, (run(machine, { op(READ, IMAGE + 1, 4) })))
    machine:thaw()
    assert.equals(1, machine:freeze_counts()["kernel-op"].busy)
    local _, err = run(machine, { op(READ, IMAGE + 1, 4) })
    assert.equals("running", err.code)
  end)

  it("that is cold gives up when a vCPU does not stop, and then has done nothing", function()
    local machine = tiny_guest.start("load=0", finally)
    run(machine, { op(WRITE, IMAGE, 8, 1) })
    machine:test_hook("rendezvous_timeout", 0.05)
    machine:test_hook("deaf", 0, 3600)
    refused("timeout", run, machine, { op(WRITE, IMAGE, 8, 2) }, true)
    machine:test_hook("deaf", 0, 0)
    machine:test_hook("rendezvous_timeout", 30)
    assert.same({ 1 }, (run(machine, { op(READ, IMAGE, 8) })))
    assert.same({ 1 }, (run(machine, { op(READ, IMAGE, 8) }, true)))
    local counts = machine:freeze_counts()["kernel-op"]
    assert.same({ 1, 1 }, { counts.timeout, counts.done })
  end)

  it("shares the one gate with captures of all kinds", function()
    local machine, counters = counting()
    machine:test_hook("periodic", 0.0005)
    local done, busy = 0, 0
    tiny_guest.wait_until(function()
      local ok, values = pcall(run, machine, read_twice(counters), true)
      if ok then
        done = done + 1
        for i = 1, 4 do
          assert.equals(values[i], values[4 + i])
        end
      else
        assert.equals("busy", values.code)
        busy = busy + 1
      end
      return done >= 200 and machine:freeze_counts().periodic.done >= 50
    end)
    machine:test_hook("periodic", 0)
    local counts = machine:freeze_counts()["kernel-op"]
    assert.same({ done, busy, 0, 0 }, { counts.done, counts.busy, counts.timeout, counts.failed })
  end)

  it("of a machine that has ended is an error", function()
    local machine = tiny_guest.start("load=4", finally)
    machine:kill()
    tiny_guest.finish(machine)
    refused("ended", run, machine, { op(READ, IMAGE, 8) })
  end)
end)

-- What serves the guest's requests: the library itself, over a kernel that has neither symbols nor types.
local function serving(machine)
  local vm = { machine = machine, release = "tiny", topology = { cpus = 1 } }
  local nothing = { find = function() return {} end, names = function() return {} end, at = function() end }
  vm.k = kernel.new(vm)
  vm.k._image, vm.k._prepared = { path = "tiny", symbols = nothing }, true
  return vm
end

-- Serves until the guest has reported; its code, its output, and how many requests came.
local function serve(machine, each)
  local vm, output, requests = serving(machine), {}, 0
  while true do
    local kind, payload = machine:recv(60)
    if kind == wire.MSG_KERNEL_OP_REQUEST then
      requests = requests + 1
      if not each or each(requests) then
        ops.serve(vm, wire.decode(kind, payload))
      end
    elseif kind == wire.MSG_STDOUT then
      output[#output + 1] = wire.decode(kind, payload).data
    elseif kind == wire.MSG_EXIT then
      return wire.decode(kind, payload).code, table.concat(output), requests
    else
      error(("a frame of type %s"):format(tostring(kind or payload)))
    end
  end
end

describe("a guest's request", function()
  it("is carried out and answered with its own id, one by one", function()
    local machine = tiny_guest.start("kernel-op=100", finally)
    local code, output, requests = serve(machine)
    assert.same({ 0, 100 }, { code, requests })
    assert.equals("kernel-ops: done 100 busy 0 timeout 0 failed 0 strange 0\n", output)
    assert.equals(50, machine:freeze_counts()["kernel-op"].done)
  end)

  it("is answered with its own id when a thousand come at once", function()
    local machine = tiny_guest.start("kernel-op-burst=1000", finally, { cpus = 2 })
    local code, output, requests = serve(machine)
    assert.same({ 0, 1000 }, { code, requests })
    assert.equals("kernel-ops: done 1000 busy 0 timeout 0 failed 0 strange 0\n", output)
  end)

  it("that nobody comes to serve is answered in time, and not carried out later", function()
    local machine = tiny_guest.start("kernel-op-burst=200", finally)
    machine:test_hook("kernel_op_timeout", 0.001)
    -- The first hundred are left where they are; there are never more than 64 under way.
    local code, output = serve(machine, function(number)
      if number == 150 then
        machine:test_hook("kernel_op_timeout", 60)
      end
      return number >= 100
    end)
    assert.equals(0, code)
    local done, timeout = output:match "done (%d+) busy 0 timeout (%d+) failed 0 strange 0"
    assert.equals(200, done + timeout)
    assert.is_true(tonumber(timeout) >= 99)
    assert.is_true(tonumber(done) >= 1)
  end)

  it("that is bad is answered with the reason, and the next one is carried out", function()
    local machine = tiny_guest.start("kernel-op-bad", finally)
    local code, output = serve(machine)
    assert.equals(0, code)
    local lines = {}
    for line in output:gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    assert.same({
      "the request is malformed: it has no entry",
      "the request is malformed: it does not begin with an entry",
      "the request is malformed: entry 1: it says nowhere",
      "the request is malformed: entry 1: it says two places",
      "the request is malformed: entry 1: a WRITE has either a VALUE or DATA",
      "the request is malformed: entry 1: its LENGTH",
      "the request is malformed: entry 1: malformed attributes",
    }, { unpack(lines, 1, 7) })
    assert.matches("^entry 1, 0xffffdead00000000: 0xffffdead00000000 is not mapped", lines[8])
    assert.matches("^entry 1, no_such_symbol: ", lines[9])
    assert.same({
      "the request is malformed: entry 1: malformed attributes",
      "the request is malformed: entry 1: malformed attributes",
      "the request is malformed: entry 1: its KERNEL_OP is none",
      "the request is malformed: entry 1: the length of its STRUCT",
    }, { unpack(lines, 10, 13) })
    assert.matches("the 8 bytes at 0x%x+ are not aligned", lines[14])
    assert.equals(14, #lines)
  end)

  it("is dropped when the machine ends first", function()
    local machine = tiny_guest.start("kernel-op=1", finally)
    assert.equals(wire.MSG_KERNEL_OP_REQUEST, (machine:recv(60)))
    machine:kill()
    assert.equals("ExternalKill", tiny_guest.finish(machine).exit_reason)
  end)
end)
