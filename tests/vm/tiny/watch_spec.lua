-- Watches: every write is seen, with the values that it found and left, and does what it would have done.
local core = require "ktstr.core"
local tiny_guest = require "tests.vm.tiny_guest"
local watch_guest = require "tests.vm.watch_guest"

local refused = tiny_guest.refused

local PAGE = 4096

-- What `forms` of the guest writes, by its comments there.
local FORMS = {
  "0 -> 5", "5 -> 6", "6 -> 5", "5 -> c", "c -> a", "a -> f", "f -> 6", "6 -> 5",
  "5 -> fffffffa", "fffffffa -> 6", "6 -> 16", "16 -> 14", "14 -> 15", "15 -> 11", "11 -> 33",
  "33 -> 35", "35 -> 33", "33 -> 44", "44 -> 44", "44 -> 7744", "7744 -> 12347744",
}
local FORMS_RESULT = 1 + 0x44 + 0x15 + 0x11

-- Debug registers, where this KVM has them.
local function backends()
  local list = { "page" }
  if core.doctor().data_watchpoint then
    list[2] = "register"
  end
  return list
end

-- Sum over what the CPUs tell, as a Lua number.
local function sum(results)
  local total = 0ULL
  for _, result in ipairs(results) do
    total = total + result
  end
  return total
end

for _, backend in ipairs(backends()) do
  describe("a watch by " .. backend, function()
    it("sees stores of 1, 2, 4 and 8 bytes, and what they replace", function()
      local guest = watch_guest.start(finally)
      for _, size in ipairs { 1, 2, 4, 8 } do
        local at = size * 16
        local id = guest:watch(at, size, { backend = backend })
        assert.equals(backend, guest.machine:watch_counts(id).backend)
        guest:run("write-" .. size, 3, at)
        local one, two, three = ("01"):rep(size):gsub("^0", ""), ("02"):rep(size):gsub("^0", ""),
          ("03"):rep(size):gsub("^0", "")
        assert.same({ "0 -> " .. one, one .. " -> " .. two, two .. " -> " .. three }, guest:changes(id))
        assert.equals(3, guest:hits(id))
        guest.machine:unwatch(id)
      end
    end)

    it("sees each of the instructions that read, change and write", function()
      local guest = watch_guest.start(finally)
      local id = guest:watch(0x100, 4, { backend = backend })
      local results = guest:run("forms", 1, 0x100)
      assert.same(FORMS, guest:changes(id))
      assert.equals(FORMS_RESULT, tonumber(results[1]))
    end)

    it("says who wrote, and has a record of it", function()
      local guest = watch_guest.start(finally)
      guest:watch(0, 8, { backend = backend })
      guest:run("write-8", 2)
      assert.equals(2, #guest.fires)
      local first, second = guest.fires[1], guest.fires[2]
      assert.same({ 0, 1, 0, 2 }, { first.cpu, first.number, second.cpu, second.number })
      assert.equals(first.rip, second.rip)
      local captures = {}
      for _, one in ipairs(guest.machine:captures()) do
        captures[one.tag] = one.source
      end
      assert.same({ "watch", "watch" }, { captures[first.tag], captures[second.tag] })
    end)

    it("sees every repetition of a string instruction that hits it", function()
      local guest = watch_guest.start(finally)
      local id = guest:watch(0x40, 4, { backend = backend })
      guest:run("stosb", 12, 0x3c)
      local changes = guest:changes(id)
      if backend == "page" then
        assert.same({ "0 -> 5a", "5a -> 5a5a", "5a5a -> 5a5a5a", "5a5a5a -> 5a5a5a5a" }, changes)
      else -- a processor may do several before it tells of the first
        assert.matches("^0 %-> 5a", changes[1])
        assert.matches("%-> 5a5a5a5a$", changes[#changes])
      end
      assert.equals(0x5a5a5a5a5a5a5a5aULL, guest:word(0x3c))
      guest:run("movsq", 3, 0x38)
      assert.same({ "5a5a5a5a -> 1001" }, guest:changes(id))
      assert.equals(0x1002ULL, guest:word(0x48))
    end)

    it("tells what is beside it apart", function()
      local guest = watch_guest.start(finally)
      local low = guest:watch(0x100, 4, { backend = backend })
      local high = guest:watch(0x108, 1, { backend = backend })
      guest:run("write-4", 5, 0x104)
      guest:run("write-1", 5, 0x109)
      assert.same({ 0, 0, 0 }, { guest:hits(low), guest:hits(high), #guest.fires })
      guest:run("write-8", 1, 0x100) -- also what lies behind it in the same store
      assert.same({ "4040404 -> 1010101" }, { (guest:changes(low)[1]:gsub("^0 ", "4040404 ")) })
    end)

    it("has a condition, which keeps the others from being recorded", function()
      local guest = watch_guest.start(finally)
      local function recorded(when, signed)
        local id = guest:watch(0, 1, { backend = backend, when = when, signed = signed })
        guest:run("write-1", 5)
        local list = guest:changes(id)
        assert.equals(#list, guest:hits(id))
        guest.machine:unwatch(id)
        for i, change in ipairs(list) do
          list[i] = change:match "-> (.*)$"
        end
        return table.concat(list, " ")
      end
      assert.equals("1 2 3 4 5", recorded())
      assert.equals("3", recorded { "==", 3 })
      assert.equals("1 2 4 5", recorded { "~=", 3 })
      assert.equals("1 2", recorded { "<", 3 })
      assert.equals("1 2 3", recorded { "<=", 3 })
      assert.equals("4 5", recorded { ">", 3 })
      assert.equals("3 4 5", recorded { ">=", 3 })
      assert.equals("2 3", recorded { "&", 2 })
      assert.equals("1 2 3 4 5", recorded { "<", -1 }) -- 255, as the bytes are not signed
      assert.equals("", recorded({ "<", -1 }, true))
      assert.equals("1 2 3 4 5", recorded({ ">", -1 }, true))
      local id = guest:watch(0, 1, { backend = backend, when = { "changed" } })
      guest:run("write-1", 1)
      guest:run("write-1", 1)
      assert.same({ "5 -> 1" }, guest:changes(id))
    end)

    it("is over when it is cancelled", function()
      local guest = watch_guest.start(finally)
      local id = guest:watch(0, 8, { backend = backend })
      guest:run("write-8", 1)
      guest.machine:unwatch(id)
      guest.machine:unwatch(id)
      guest:run("write-8", 2)
      assert.equals(1, #guest.fires)
      assert.equals(0, guest:hits(id))
    end)

    it("knows, after the machine was taken back, what stands there", function()
      local guest = watch_guest.start(finally)
      guest:run("write-8", 1)
      guest.machine:freeze()
      local image = guest.machine:save("identity", "script")
      guest.machine:thaw()
      local id = guest:watch(0, 8, { backend = backend })
      guest:run("write-8", 3)
      guest:changes()
      guest.machine:freeze()
      guest.machine:rewind(image)
      guest.machine:thaw()
      guest:run("write-8", 2)
      assert.same({ "101010101010101 -> 101010101010101", "101010101010101 -> 202020202020202" },
        guest:changes(id))
    end)

    it("is no part of what is saved", function()
      local guest = watch_guest.start(finally)
      local id = guest:watch(0, 8, { backend = backend })
      guest.machine:freeze()
      local image = guest.machine:save("identity", "script")
      guest.machine:thaw()
      local machine = core.machine_saved(image, { timeout = 100 })
      finally(function()
        machine:kill()
        pcall(machine.join, machine)
        guest.machine:kill()
        pcall(guest.machine.join, guest.machine)
      end)
      machine:start()
      local fork = setmetatable({ machine = machine, fires = {}, last_id = 1000 }, getmetatable(guest))
      fork:run("write-8", 3)
      assert.same({ 0, 0 }, { #fork.fires, machine:watch_counts(id).hits })
      guest:run("write-8", 2)
      assert.equals(2, guest:hits(id))
    end)

    it("goes with single steps", function()
      local guest = watch_guest.start(finally, 2)
      local id = guest:watch(0, 8, { backend = backend, counts = true })
      local rounds = 10000 -- far more than a busy host lets pass between the look and the freeze
      guest:begin("cmpxchg", rounds)
      local steps = 0
      while guest:hits(id) < 100 and not guest:turn(0) do
      end
      guest.machine:freeze()
      for _ = 1, 30 do
        steps = steps + guest.machine:step(0, 7)
      end
      guest.machine:thaw()
      guest:finish()
      assert.is_true(steps > 0)
      local again = tonumber(sum(guest.results))
      assert.same({ 2ULL * rounds, 2 * rounds + again }, { guest:word(), guest:hits(id) })
    end)
  end)
end

describe("a watched page", function()
  -- How often, and what the sum over the CPUs and the word have to be.
  local function at_once(guest, count)
    local cpus = guest.cpus
    local id = guest:watch(0, 8, { backend = "page", counts = true })
    guest:run("lock-inc", count)
    assert.equals(cpus * count + 0ULL, guest:word())
    assert.equals(cpus * count, guest:hits(id))

    local found = sum(guest:run("lock-xadd", count))
    local first, last = cpus * count, 2 * cpus * count - 1
    assert.equals((first + last) * (cpus * count) / 2, tonumber(found))

    local again = tonumber(sum(guest:run("cmpxchg", count)))
    assert.equals(3 * cpus * count + 0ULL, guest:word())
    assert.equals(3 * cpus * count + again, guest:hits(id)) -- one that fails writes, too: what was there

    local before = guest:word()
    local rest = sum(guest:run("xchg", count))
    assert.equals(before, guest:word() + rest)

    guest:run("write-8", 1)
    before = guest:hits(id)
    guest:run("write-1", 1)
    local wrong = sum(guest:run("lock-bits", count / 4, 0x200))
    assert.equals(0ULL, wrong)
    assert.equals(0ULL, guest:word(0x200))
    assert.equals(before + 1, guest:hits(id))
  end

  it("is atomic to four CPUs' locked instructions, and no write is lost", function()
    at_once(watch_guest.start(finally, 4), 2 ^ 10)
  end)

  it("is so 2^16 times each #slow", function()
    local guest = watch_guest.start(finally, 4)
    local id = guest:watch(0, 4, { backend = "page", counts = true })
    guest:run("lock-inc", 2 ^ 16)
    assert.same({ 2 ^ 18 + 0ULL, 2 ^ 18 }, { guest:word(), guest:hits(id) })
  end)

  it("takes the writes beside what is watched", function()
    local guest = watch_guest.start(finally, 4)
    local id = guest:watch(0, 8, { backend = "page" })
    for i, cell in ipairs(guest:run("beside", 200)) do
      assert.same({ 200ULL, 200ULL }, { cell, guest:word(64 * i) })
    end
    assert.equals(0, guest:hits(id))
  end)

  it("takes a store that crosses its end", function()
    local guest = watch_guest.start(finally)
    local low = guest:watch(PAGE - 4, 4, { backend = "page" })
    guest:run("write-8", 2, PAGE - 4)
    assert.same({ "0 -> 1010101", "1010101 -> 2020202" }, guest:changes(low))
    local high = guest:watch(PAGE, 2, { backend = "page" })
    guest:run("write-8", 1, PAGE - 3) -- of each page a part
    assert.same({ "2020202 -> 1010102" }, guest:changes(low))
    assert.same({ "202 -> 101" }, guest:changes(high))
    assert.equals(0x101010101010101ULL, guest:word(PAGE - 3))
  end)

  -- The paravirtual KVM does not know it either, wherever it is.
  if core.doctor().stock_kernel then
    it("takes instructions that KVM does not emulate", function()
      local guest = watch_guest.start(finally, 4)
      local low = guest:watch(0x20, 8, { backend = "page" })
      local high = guest:watch(0x28, 4, { backend = "page", counts = true })
      guest:run("cmpxchg16b", 5, 0x20)
      assert.same({ 20ULL, 40ULL }, { guest:word(0x20), guest:word(0x28) })
      assert.same({ 20, 20 }, { guest:hits(low), guest:hits(high) })
      for i, change in ipairs(guest:changes(low)) do
        assert.equals(("%x -> %x"):format(i - 1, i), change)
      end
    end)
  end

  it("is one of many: 20 watches at once see each its own", function()
    local guest = watch_guest.start(finally)
    local ids = {}
    for i = 1, 20 do
      ids[i] = guest:watch((i % 7) * PAGE + i * 32, 8, { backend = "page" })
    end
    for i = 1, 20 do
      guest:run("write-8", i % 3 + 1, (i % 7) * PAGE + i * 32)
    end
    for i = 1, 20 do
      assert.equals(i % 3 + 1, #guest:changes(ids[i]))
    end
    for i = 1, 20 do
      guest.machine:unwatch(ids[i])
    end
    guest:run("write-8", 3, 32)
    assert.equals(0, #guest.fires)
  end)

  it("may be frozen at any time", function()
    local guest = watch_guest.start(finally, 4)
    local id = guest:watch(0, 4, { backend = "page", counts = true })
    guest:begin("lock-inc", 2000)
    local freezes = 0
    repeat
      guest.machine:freeze()
      local before = guest:hits(id)
      assert.equals(before, guest:hits(id))
      guest.machine:thaw()
      freezes = freezes + 1
    until guest:turn(0)
    assert.same({ 8000ULL, 8000 }, { guest:word(), guest:hits(id) })
    assert.is_true(freezes > 10)
  end)

  it("may be watched, and let go, at any time", function()
    local guest = watch_guest.start(finally, 4)
    guest:begin("cmpxchg", 2000)
    local rounds = 0
    repeat
      local id = guest:watch(0, 8, { backend = "page", counts = true })
      local done = guest:turn(0.005)
      guest.machine:unwatch(id)
      rounds = rounds + 1
    until done
    assert.equals(8000ULL, guest:word())
    assert.is_true(rounds > 1)
  end)

  it("may belong to a machine that is ended at any time", function()
    for round = 1, 10 do
      local guest = watch_guest.start(finally, 2)
      guest:watch(0, 4, { backend = "page", counts = round % 2 == 0 })
      guest:begin("lock-inc", 1e6)
      for _ = 1, round * 3 do
        guest:turn(0.002)
      end
      guest.machine:kill()
      assert.equals("ExternalKill", tiny_guest.finish(guest.machine).exit_reason)
    end
  end)

  it("may hold anything but the stack of an interrupt", function()
    local guest = watch_guest.start(finally, 2)
    local ids = {}
    -- The guest's variables, its descriptor and page tables, and what its device reads and writes.
    for page = 0, 53 do
      local at = 0x1007000 - watch_guest.pages + page * PAGE
      ids[#ids + 1] = guest:watch(at, 8, { backend = "page", counts = true })
    end
    for i = 1, 20 do
      guest:run("write-8", i)
    end
    for _, id in ipairs(ids) do
      guest.machine:unwatch(id)
    end
    guest:run("write-8", 1)
    assert.equals(0x101010101010101ULL, guest:word())
  end)
end)

describe("a watch of code", function()
  -- The instruction behind the store of a routine.
  local function place_in(guest, routine)
    local id = guest:watch(0, 8, { backend = "page" })
    guest:run(routine, 1)
    local rip = guest.fires[1].rip
    guest.machine:unwatch(id)
    guest.fires = {}
    return rip
  end

  it("stops in front of the instruction, each time, and it is executed", function()
    local guest = watch_guest.start(finally)
    local rip = place_in(guest, "write-8")
    local id = guest:watch(rip, 8, { code = true })
    assert.equals("register", guest.machine:watch_counts(id).backend)
    guest:run("write-8", 5, 0x100)
    assert.equals(0x505050505050505ULL, guest:word(0x100))
    assert.same({ 5, 5 }, { #guest.fires, guest:hits(id) })
    for i, fire in ipairs(guest.fires) do
      assert.same({ "call", rip, i }, { fire.kind, fire.rip, fire.number })
    end
    guest.machine:unwatch(id)
    guest:run("write-8", 5, 0x100)
    assert.equals(5, #guest.fires)
  end)

  it("stops each of four CPUs", function()
    local guest = watch_guest.start(finally, 4)
    local rip = place_in(guest, "store")
    guest.fires = {}
    local id = guest:watch(rip, 8, { code = true, counts = true })
    guest:run("store", 25)
    assert.equals(100, guest:hits(id))
    guest:run("lock-xadd", 10, 0x200)
    assert.equals(40ULL, guest:word(0x200))
  end)

  it("is not to be seen in a frozen machine, and goes with single steps", function()
    local guest = watch_guest.start(finally)
    local rip = place_in(guest, "write-8")
    guest.machine:freeze()
    local before = guest.machine:read_physical(rip, 16)
    local crc = guest.machine:memory_crc()
    local id = guest:watch(rip, 8, { code = true, counts = true })
    assert.equals(crc, guest.machine:memory_crc())
    guest.machine:thaw()
    guest:begin("write-8", 200)
    local steps = 0
    repeat
      if pcall(guest.machine.freeze, guest.machine) then
        assert.equals(before, guest.machine:read_physical(rip, 16))
        steps = steps + guest.machine:step(0, 3)
        guest.machine:thaw()
      end
    until guest:turn(0)
    assert.is_true(steps > 0)
    assert.is_true(guest:hits(id) <= 200) -- it may have been stepped over
  end)

  it("is over with its machine, in the midst of it", function()
    for round = 1, 5 do
      local guest = watch_guest.start(finally, 2)
      local rip = place_in(guest, "store")
      guest:watch(rip, 8, { code = true, counts = round % 2 == 0 })
      guest:begin("store", 1e6)
      for _ = 1, round * 2 do
        guest:turn(0.005)
      end
      guest.machine:kill()
      assert.equals("ExternalKill", tiny_guest.finish(guest.machine).exit_reason)
    end
  end)

  it("is taken back with its machine, and goes on", function()
    local guest = watch_guest.start(finally)
    local rip = place_in(guest, "write-8")
    guest.machine:freeze()
    local image = guest.machine:save("identity", "script")
    guest.machine:thaw()
    local id = guest:watch(rip, 8, { code = true, counts = true })
    guest:run("write-8", 3)
    guest.machine:freeze()
    guest.machine:rewind(image)
    guest.machine:thaw()
    guest:run("write-8", 4)
    assert.equals(7, guest:hits(id))
  end)
end)

describe("what a watch records", function()
  it("has a rate; what comes faster is counted, and said", function()
    local guest = watch_guest.start(finally)
    local id = guest:watch(0, 8, { backend = "page", rate = 5 })
    guest:run("write-8", 200)
    local counts = guest.machine:watch_counts(id)
    assert.equals(200, counts.hits)
    assert.is_true(counts.dropped > 0)
    assert.equals(200, counts.dropped + #guest.fires)
    guest.machine:kill()
    assert.matches("fires more than 5 times a second", tiny_guest.finish(guest.machine).warnings, 1, true)
  end)

  it("waits for whoever holds the machine", function()
    local guest = watch_guest.start(finally, 2)
    guest:watch(0, 8, { backend = "page" })
    for _ = 1, 20 do
      guest:begin("write-8", 5)
      tiny_guest.freeze(guest.machine)
      guest.machine:thaw()
      guest:finish()
    end
    assert.equals(100, #guest.fires)
  end)
end)

describe("a watch is refused", function()
  it("for what cannot be watched, and the machine goes on", function()
    local guest = watch_guest.start(finally)
    assert.matches("3 bytes: 1, 2, 4 or 8", refused("invalid", guest.watch, guest, 0, 3).message, 1, true)
    assert.matches("not aligned", refused("invalid", guest.watch, guest, 2, 4).message, 1, true)
    assert.matches("not in the guest's memory",
      refused("invalid", guest.watch, guest, 2 ^ 40, 8).message, 1, true)
    guest:run("write-8", 1)
  end)

  it("where there are too many", function()
    local guest = watch_guest.start(finally)
    for i = 1, 64 do
      guest:watch(i * 8, 8, { backend = "page" })
    end
    assert.matches("there are 64 watches already",
      refused("unsupported", guest.watch, guest, 0x800, 8).message, 1, true)
    guest:run("write-8", 1, 64 * 8)
    assert.equals(1, #guest.fires)
  end)

  it("where there is no debug register for it", function()
    local guest = watch_guest.start(finally)
    if core.doctor().data_watchpoint then
      for i = 1, 3 do
        guest:watch(i * 8, 8, { backend = "register" })
      end
      assert.matches("all 3 debug registers are in use",
        refused("unsupported", guest.watch, guest, 0, 8, { backend = "register" }).message, 1, true)
      assert.equals("page", guest.machine:watch_counts(guest:watch(0, 8)).backend)
    else
      assert.matches("does not stop at debug registers",
        refused("unsupported", guest.watch, guest, 0, 8, { backend = "register" }).message, 1, true)
    end
  end)

  it("of a machine that has ended", function()
    local guest = watch_guest.start(finally)
    guest.machine:kill()
    tiny_guest.finish(guest.machine)
    refused("ended", guest.watch, guest, 0, 8)
  end)
end)
