-- The view of a guest's memory over a machine's life: running, frozen, taken back, restored, gone.
local ffi = require "ffi"
local core = require "ktstr.core"
local kernel_view = require "tests.vm.kernel_view"
local tiny_guest = require "tests.vm.tiny_guest"

local COUNTER = tiny_guest.address.counters
local CR3_OFFSET = 240 -- in struct kvm_sregs
local MIB = 2 ^ 20
local LIMIT_S = 0.05

local refused = tiny_guest.refused

local function root_of(machine)
  return machine:frozen(nil, function()
    local sregs = select(2, machine:regs(0))
    local word = ffi.new "uint64_t[1]"
    ffi.copy(word, sregs:sub(CR3_OFFSET + 1, CR3_OFFSET + 8), 8)
    return word[0]
  end)
end

-- A guest whose only CPU counts in memory. It runs on the tables of the boot protocol, which lie outside of
-- its image, where the view would not take them.
local function counting(options)
  local machine = tiny_guest.start("load=0", finally, options)
  local view = kernel_view.of(machine)
  view.v.root = root_of(machine)
  return machine, view
end

-- That what was seen before is stale now.
local function assert_stale(view, generation)
  assert.are_not.equal(generation, view.v.generation)
  assert.are_not.equal(0, view.v.generation)
  return view.v.generation
end

describe("the view of a guest", function()
  it("is there before the start, and has the image", function()
    local machine = require("tests.vm.support").tiny_machine "load=0"
    finally(function()
      machine:kill()
    end)
    local view = kernel_view.of(machine)
    local image = view.v.ranges[0]
    assert.equals(0x1000000ULL, image.start)
    assert.equals(0ULL, view.v.slide)
    assert.equals(4, view.v.levels)
    assert.is_true(view:word(image.start) ~= 0)
    refused("unmapped", view.word, view, COUNTER)
    machine:start()
    assert.equals(core.wire.MSG_SYS_RDY, (machine:recv(60)))
    assert.is_true(view:word(image.start) ~= 0)
  end)

  it("reads by virtual address what is there by physical address", function()
    local machine, view = counting { memory = 64 * MIB }
    machine:freeze()
    for _, address in ipairs { 0, COUNTER, 2 * MIB - 3000, 0x1000000, 64 * MIB - 5000 } do
      assert.equals(machine:read_physical(address, 5000), view:bytes(address, 5000))
    end
    local place = view:place(2 * MIB + 5)
    assert.equals(2 * MIB + 5, tonumber(place.gpa))
    assert.equals(21, tonumber(place.page_shift))
    assert.equals(2 * MIB - 5, tonumber(place.left))
    -- The tables map 4 GiB, whatever is there.
    local e = refused("unmapped", view.word, view, 64 * MIB)
    assert.equals("0x4000000 is mapped to 0x4000000, where the guest has no memory", e.message)
    refused("unmapped", view.bytes, view, 64 * MIB - 8, 16)
    e = refused("unmapped", view.word, view, 2 ^ 32)
    assert.equals("0x100000000 is not mapped: the walk ended at level 3 (PUD), entry 0x0", e.message)
  end)

  it("sees a counter move while the guest runs, compiled or not", function()
    local _, view = counting()
    local C, v, out = ffi.C, view.v, ffi.new "uint64_t[1]"
    -- Without a global in it: busted's own look-up of those may keep LuaJIT from compiling.
    local function poll()
      local changes, last = 0, 0ULL
      while changes < 1000 and C.view_read_scalar(v, COUNTER, 8, out) == nil do
        if out[0] ~= last then
          changes, last = changes + 1, out[0]
        end
      end
      return last, changes
    end
    jit.off(poll)
    local first = poll()
    jit.on(poll)
    -- What the compiler has given up before is nobody's business here.
    jit.flush()
    local traces, second = 0, nil
    local function count(what)
      traces = traces + (what == "stop" and 1 or 0)
    end
    jit.attach(count, "trace")
    for _ = 1, 20 do
      local changes
      second, changes = poll()
      assert.equals(1000, changes)
      if traces > 0 then
        break
      end
    end
    jit.attach(count)
    assert.is_true(traces > 0)
    assert.is_true(second > first)
  end)

  it("sees a counter stand while the guest is frozen, and the same as plain loads do", function()
    local machine, view = counting()
    local loads = ffi.cast("const volatile uint64_t *", view:place(COUNTER).hva)
    for _ = 1, 20 do
      local before = view:word(COUNTER)
      machine:freeze()
      local now = view:word(COUNTER)
      assert.is_true(now >= before)
      for _ = 1, 1000 do
        assert.equals(now, view:word(COUNTER))
        assert.equals(now, loads[0])
      end
      assert.equals(tiny_guest.counters(machine, 1)[1], tonumber(now))
      machine:thaw()
    end
  end)

  it("writes what the guest goes on with, frozen or not", function()
    local machine, view = counting()
    machine:freeze()
    view:set_word(COUNTER, 8, 2 ^ 40)
    machine:thaw()
    tiny_guest.wait_until(function()
      return view:word(COUNTER) > 2 ^ 40
    end)
    -- The guest reads, adds, writes: a store between is lost, so it is stored until it is not.
    tiny_guest.wait_until(function()
      view:set_word(COUNTER, 8, 2 ^ 50)
      return view:word(COUNTER) >= 2 ^ 50
    end)
    view:write(2 * MIB - 3, "across pages")
    assert.equals("across pages", view:bytes(2 * MIB - 3, 12))
    assert.equals("across pages", machine:frozen(nil, machine.read_physical, machine, 2 * MIB - 3, 12))
    refused("unmapped", view.write, view, 32 * MIB - 4, "half of it")
    assert.equals(("\0"):rep(4), view:bytes(32 * MIB - 4, 4))
  end)
end)

describe("what was seen in a freeze", function()
  it("is stale after the thaw", function()
    local machine, view = counting()
    local generation = view.v.generation
    for _ = 1, 3 do
      machine:freeze()
      assert.equals(1, view.v.frozen)
      assert.equals(generation, view.v.generation)
      machine:regs(0)
      machine:step(0, 1)
      assert.equals(generation, view.v.generation)
      machine:thaw()
      assert.equals(0, view.v.frozen)
      generation = assert_stale(view, generation)
    end
    local frozen, inside
    machine:frozen(nil, function()
      frozen, inside = view.v.frozen, view.v.generation
    end)
    assert.same({ 1, generation, 0 }, { frozen, inside, view.v.frozen })
    generation = assert_stale(view, generation)
    assert.is_false(pcall(machine.frozen, machine, nil, error, "out"))
    assert.equals(0, view.v.frozen)
    assert_stale(view, generation)
  end)

  it("is not touched by a capture, nor by what is refused", function()
    local machine, view = counting()
    local generation = view.v.generation
    machine:capture "now"
    refused("running", machine.thaw, machine)
    refused("running", machine.regs, machine, 0)
    assert.same({ 0, generation }, { view.v.frozen, view.v.generation })
    machine:freeze()
    refused("frozen", machine.freeze, machine)
    refused("frozen", machine.frozen, machine, nil, print)
    refused("frozen", machine.capture, machine, "now")
    assert.same({ 1, generation }, { view.v.frozen, view.v.generation })
  end)

  it("is stale after a limit has thawed the machine, which the view knows before it is told", function()
    local machine, view = counting()
    local generation = view.v.generation
    refused("freeze-limit", machine.frozen, machine, LIMIT_S, function()
      while true do
        view:word(COUNTER)
      end
    end)
    assert.equals(0, view.v.frozen)
    generation = assert_stale(view, generation)
    -- Without a function nothing is ended: the view tells, and whatever asks the machine.
    machine:freeze(LIMIT_S)
    tiny_guest.wait_until(function()
      return not pcall(view.word, view, COUNTER)
    end)
    assert.matches("thawed", refused("freeze-limit", view.word, view, COUNTER).message)
    refused("freeze-limit", view.set_word, view, COUNTER, 8, 0)
    assert.same({ 1, generation }, { view.v.frozen, view.v.generation })
    refused("freeze-limit", machine.thaw, machine)
    assert.equals(0, view.v.frozen)
    assert_stale(view, generation)
    tiny_guest.wait_until(function() -- on a busy host it may not have begun yet
      return view:word(COUNTER) > 0
    end)
    -- And one that another call finds: whoever only freezes again is not told.
    machine:freeze(LIMIT_S)
    generation = view.v.generation
    tiny_guest.wait_until(function()
      return not pcall(view.word, view, COUNTER)
    end)
    machine:freeze()
    assert.equals(1, view.v.frozen)
    generation = assert_stale(view, generation)
    assert.is_true(view:word(COUNTER) > 0)
    machine:thaw()
    assert_stale(view, generation)
  end)

  it("is stale after the machine was taken back, which stays frozen", function()
    local machine, view = counting()
    machine:freeze()
    local image = machine:save("", "")
    local before = view:word(COUNTER)
    view:set_word(COUNTER, 8, 7)
    local generation = view.v.generation
    machine:rewind(image)
    assert.equals(1, view.v.frozen)
    generation = assert_stale(view, generation)
    assert.equals(before, view:word(COUNTER))
    machine:thaw()
    assert_stale(view, generation)
    tiny_guest.wait_until(function()
      return view:word(COUNTER) > before
    end)
  end)

  it("is stale when the machine has been told to end, and gone with it", function()
    local machine, view = counting()
    machine:freeze()
    local generation = view.v.generation
    machine:kill()
    assert.equals(0, view.v.frozen)
    generation = assert_stale(view, generation)
    machine:join()
    assert.equals(nil, view.v.memory)
    assert_stale(view, generation)
    for i = 0, 2 do
      assert.equals(0ULL, view.v.ranges[i].size)
    end
    refused("ended", view.word, view, COUNTER)
    refused("ended", view.word, view, 0x1000000)
    refused("ended", view.set_word, view, COUNTER, 8, 0)
    refused("ended", view.bytes, view, COUNTER, 1)
  end)

  it("can be read after the guest's own end, until somebody takes the result", function()
    local machine = tiny_guest.start("ready", finally)
    local view = kernel_view.of(machine)
    tiny_guest.wait_until(function()
      return select(2, machine:recv(60)) == "ended"
    end)
    assert.is_true(view:word(view.v.ranges[0].start) ~= 0)
    machine:join()
    refused("ended", view.word, view, 0x1000000)
  end)
end)

describe("a restored machine", function()
  it("knows where its kernel is", function()
    local machine, view = counting()
    machine:freeze()
    local image = machine:save("", "")
    local before = view:word(COUNTER)
    machine:kill()
    machine:join()

    local restored = core.machine_saved(image, { timeout = 60 })
    finally(function()
      restored:kill()
    end)
    local again = kernel_view.of(restored)
    assert.equals(0x1000000ULL, again.v.ranges[0].start)
    assert.equals(0x1000000ULL, again.v.ranges[0].gpa)
    assert.equals(4, again.v.levels)
    assert.is_true(again:word(again.v.ranges[0].start) ~= 0)
    restored:start()
    again.v.root = root_of(restored)
    tiny_guest.wait_until(function()
      return again:word(COUNTER) > before
    end)
    image:close()
  end)
end)
