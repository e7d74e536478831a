-- Watches where it is hard to have them: instructions of every kind, several at one place, in the midst of
-- freezes, saves and steps; and both backends tell the same.
local ffi = require "ffi"
local core = require "ktstr.core"
local tiny_guest = require "tests.vm.tiny_guest"
local watch_guest = require "tests.vm.watch_guest"

-- The paravirtual KVM executes no vector instruction in kernel mode, wherever it writes.
local has_vectors = core.doctor().stock_kernel
local has_registers = core.doctor().data_watchpoint

-- Sum over what the CPUs tell.
local function sum(results)
  local total = 0ULL
  for _, result in ipairs(results) do
    total = total + result
  end
  return total
end

local function warnings_of(guest)
  guest.machine:kill()
  return tiny_guest.finish(guest.machine).warnings or ""
end

describe("an instruction that writes to a watched page", function()
  it("may stand behind a byte that looks like its prefix", function()
    for _, cpus in ipairs { 1, 4 } do
      local guest = watch_guest.start(finally, cpus)
      local id = guest:watch(0, 8, { backend = "page", counts = true })
      guest:run("write-8", 1)
      local before = guest:word()
      local rest = sum(guest:run("xchg-prefixed", 500))
      assert.equals(before, guest:word() + rest)
      assert.equals(500 * cpus + 1, guest:hits(id))
    end
  end)

  it("may lie in that page, and change the one behind it", function()
    local guest = watch_guest.start(finally)
    local id = guest:watch(0, 8, { backend = "page" })
    local other = guest:watch(0x808, 8, { backend = "page", counts = true }) -- in the code itself
    assert.equals(15ULL, guest:run("code", 5)[1])
    assert.same({ "0 -> 1", "1 -> 2", "2 -> 3", "3 -> 4", "4 -> 5" }, guest:changes(id))
    assert.is_true(guest:hits(other) >= 5)
  end)

  if not has_vectors then
    return
  end

  -- Of four watches in a row; what has not changed is not seen.
  local function changes_of(routine)
    local guest = watch_guest.start(finally)
    local ids, list = {}, {}
    for i = 1, 4 do
      ids[i] = guest:watch((i - 1) * 8, 8, { backend = "page" })
    end
    guest:run(routine, 2)
    for i = 1, 4 do
      list[i] = table.concat(guest:changes(ids[i]), ", ")
    end
    return list
  end

  it("may be a store of sixteen bytes", function()
    assert.same({ "0 -> 1, 1 -> 2", "0 -> fffffffffffffffe, fffffffffffffffe -> fffffffffffffffd", "", "" },
      changes_of "sse")
  end)

  it("may be an AVX store", function()
    assert.same({ "0 -> 1, 1 -> 2", "0 -> fffffffffffffffe, fffffffffffffffe -> fffffffffffffffd",
      "0 -> 2, 2 -> 3", "0 -> 3, 3 -> 4" }, changes_of "avx")
  end)

  it("may save the vector registers", function()
    local expected = { "0 -> 37f", "", "", "0 -> ffff00001f80, ffff00001f80 -> ffff00001f00" }
    assert.same(expected, changes_of "fxsave")
    assert.same(expected, changes_of "xsave")
  end)

  it("may be stepped over, and be watched itself, where KVM does not emulate it", function()
    local guest = watch_guest.start(finally)
    local id = guest:watch(0, 8, { backend = "page" })
    guest:run("cmpxchg16b", 1)
    local lock_cmpxchg16b = guest.fires[1].rip - 5
    guest:begin("cmpxchg16b", 20)
    local steps, asked = 0, 0
    for _ = 1, 5 do
      tiny_guest.freeze(guest.machine)
      for _ = 1, 20 do
        steps, asked = steps + guest.machine:step(0, 1), asked + 1
      end
      guest.machine:thaw()
    end
    guest:finish()
    assert.equals(asked, steps)
    assert.same({ 21ULL, 42ULL, 21 }, { guest:word(), guest:word(8), guest:hits(id) })
    for i, change in ipairs(guest:changes(id)) do
      assert.equals(("%x -> %x"):format(i - 1, i), change)
    end

    local code = guest:watch(lock_cmpxchg16b, 8, { code = true, counts = true })
    guest:run("cmpxchg16b", 5)
    assert.same({ 5, 26 }, { guest:hits(code), guest:hits(id) })
  end)
end)

describe("many watches", function()
  it("may be of one place", function()
    local guest = watch_guest.start(finally)
    local ids = {}
    for i = 1, 20 do
      ids[i] = guest:watch(0, 8, { backend = "page" })
    end
    guest:run("write-8", 3)
    for i = 1, 20 do
      local counts = guest.machine:watch_counts(ids[i])
      assert.same({ 3, 3, 0 }, { #guest:changes(ids[i]), counts.hits, counts.dropped })
    end
  end)

  it("may be of two machines at once", function()
    local guests, ids = {}, {}
    for i = 1, 2 do
      guests[i] = watch_guest.start(finally, 2)
      ids[i] = guests[i]:watch(0, 8, { backend = "page" })
    end
    guests[1]:begin("lock-inc", 40)
    guests[2]:begin("lock-inc", 30)
    guests[1]:finish()
    guests[2]:finish()
    for i, count in ipairs { 80, 60 } do
      assert.same({ count + 0ULL, count }, { guests[i]:word(), guests[i]:hits(ids[i]) })
      assert.equals(count, #guests[i].fires)
      local changes = guests[i]:changes()
      assert.equals("0 -> 1", changes[1])
      assert.equals(("%x -> %x"):format(count - 1, count), changes[count])
    end
  end)
end)

describe("fires", function()
  it("that nobody takes are counted as dropped beyond the queue's end, and said", function()
    local guest = watch_guest.start(finally)
    local id = guest:watch(0, 8, { backend = "page", rate = 1e6 })
    guest:begin("write-8", 300)
    repeat
      local hits = guest:hits(id)
    until hits == 300
    guest:finish()
    local counts = guest.machine:watch_counts(id)
    assert.is_true(counts.dropped > 0)
    assert.equals(300, counts.dropped + #guest.fires)
    assert.matches("the script does not take them", warnings_of(guest), 1, true)
  end)

  it("that come too fast are said by the watch's name", function()
    local guest = watch_guest.start(finally)
    guest:watch(0x40, 8, { backend = "page", rate = 1 })
    guest:run("write-8", 20, 0x40)
    assert.matches("the watch of 0x40 fires more than 1 times a second", warnings_of(guest), 1, true)
  end)

  it("are not to be had cheaply where the page is a hot one, which is said once", function()
    local guest = watch_guest.start(finally)
    local id = guest:watch(0, 8, { backend = "page" })
    guest:run("beside", 9000)
    guest:run("beside", 9000)
    assert.equals(0, guest:hits(id))
    local _, times = warnings_of(guest):gsub("the page of the watch of 0x0 is hot", "")
    assert.equals(1, times)
  end)

  it("of every CPU are exact, in the order in which they were", function()
    local guest = watch_guest.start(finally, 4)
    local id = guest:watch(0, 8, { backend = "page", rate = 1e6 })
    guest:run("lock-xadd", 50)
    local by_cpu = { [0] = 0, 0, 0, 0 }
    for i, fire in ipairs(guest.fires) do
      assert.same({ i, i - 1 + 0ULL, i + 0ULL, false }, { fire.number, fire.before, fire.after, fire.raced })
      by_cpu[fire.cpu] = by_cpu[fire.cpu] + 1
    end
    assert.same({ [0] = 50, 50, 50, 50 }, by_cpu)
    assert.equals(200, guest:hits(id))
  end)

  it("may wait while the machine is saved, and its fork goes on behind that write", function()
    local guest = watch_guest.start(finally, 2)
    local id = guest:watch(0, 8, { backend = "page", rate = 1e6 })
    local count, total = 10, 0
    local image
    repeat -- until it is frozen in the midst of it
      count = count * 10
      total = total + 2 * count
      guest:begin("lock-inc", count)
      for _ = 1, 5 do
        guest:turn(1)
      end
      tiny_guest.freeze(guest.machine)
      local word = ffi.cast("const uint64_t *", guest.machine:read_physical(watch_guest.pages, 8))[0]
      local is_amid = word > total - 2 * count and word < total - 4
      image = is_amid and guest.machine:save("identity", "script")
      guest.machine:thaw()
      while not guest.results do
        guest:turn(1)
      end
      guest.results = nil
    until image
    local counts = guest.machine:watch_counts(id)
    assert.same({ total + 0ULL, total }, { guest:word(), counts.hits })
    guest:take_fires()
    assert.equals(total, #guest.fires + counts.dropped)

    local machine = core.machine_saved(image, { timeout = 250 })
    finally(function()
      machine:kill()
      pcall(machine.join, machine)
      guest.machine:kill()
      pcall(guest.machine.join, guest.machine)
    end)
    machine:start()
    local fork = setmetatable({ machine = machine, fires = {}, last_id = guest.last_id }, getmetatable(guest))
    fork:finish()
    assert.same({ total + 0ULL, 0 }, { fork:word(), #fork.fires })

    tiny_guest.freeze(guest.machine)
    guest.machine:rewind(image)
    guest.machine:thaw()
    guest:finish()
    assert.equals(total + 0ULL, guest:word())
    -- What had been fired and not recorded when the image was made is in it as a write that was.
    local again = guest:hits(id) - total
    assert.is_true(again > 0 and again < 2 * count)
  end)
end)

if has_registers then
  describe("both backends", function()
    -- What a routine's writes look like to one backend, by CPU.
    local function told_by(backend, cpus, routine, count, at, size, when)
      local guest = watch_guest.start(finally, cpus)
      local id = guest:watch(at, size, { backend = backend, rate = 1e6, when = when })
      assert.equals(backend, guest.machine:watch_counts(id).backend)
      local results = guest:run(routine, count, 0)
      local told = { hits = guest:hits(id), results = results, word = guest:word(at - at % 8) }
      for _, fire in ipairs(guest.fires) do
        told[#told + 1] = ("CPU %d at %x: %s to %s"):format(fire.cpu, fire.rip, fire.before, fire.after)
      end
      return told
    end

    for _, one in ipairs {
      { "write-1", 5, 0, 1 }, { "write-2", 5, 0, 2 }, { "write-4", 5, 0, 4 }, { "write-8", 5, 0, 8 },
      { "write-8", 5, 4, 4 }, { "forms", 1, 0, 4 }, { "forms", 1, 1, 1 }, { "lock-xadd", 20, 0, 4 },
      { "cmpxchg", 10, 0, 8 }, { "xchg", 10, 0, 8 }, { "push", 5, 0, 8 }, { "cmpxchg16b", 5, 8, 8 },
      { "write-8", 9, 0, 8, { "&", 2 } }, { "write-4", 9, 0, 4, { "changed" } },
    } do
      local routine, count, at, size, when = unpack(one)
      it(("tell the same of %s, %d bytes at %d%s"):format(routine, size, at, when and ", " .. when[1] or ""),
        function()
          local page = told_by("page", 1, routine, count, at, size, when)
          assert.is_true(#page > 0)
          assert.same(page, told_by("register", 1, routine, count, at, size, when))
        end)
    end

    it("count the same of four CPUs, whose marks of a race are right", function()
      for _, backend in ipairs { "page", "register" } do
        local guest = watch_guest.start(finally, 4)
        local id = guest:watch(0, 8, { backend = backend, rate = 1e6 })
        guest:run("lock-inc", 100)
        assert.same({ 400ULL, 400, 400 }, { guest:word(), guest:hits(id), #guest.fires })
        for i, fire in ipairs(guest.fires) do
          if not fire.raced then
            assert.same({ i - 1 + 0ULL, i + 0ULL }, { fire.before, fire.after })
          end
        end
        assert.is_true(backend == "register" or guest.machine:watch_counts(id).raced == 0)
      end
    end)

    it("see each its own where one's page holds the other's place", function()
      local guest = watch_guest.start(finally)
      local page = guest:watch(0, 8, { backend = "page" })
      local register = guest:watch(8, 8, { backend = "register" })
      guest:run("write-8", 2, 8)
      guest:run("write-8", 1, 0)
      guest:run("cmpxchg16b", 2, 0)
      local one = 0x101010101010101ULL
      assert.same({ one + 2, 2 * one + 4 }, { guest:word(), guest:word(8) })
      assert.same({ "0 -> 101010101010101", "101010101010101 -> 101010101010102",
        "101010101010102 -> 101010101010103" }, guest:changes(page))
      assert.same({ "0 -> 101010101010101", "101010101010101 -> 202020202020202",
        "202020202020202 -> 202020202020204", "202020202020204 -> 202020202020206" }, guest:changes(register))
    end)
  end)
end
