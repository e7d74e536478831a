-- Watches of code where debug registers run out: an INT3 in the guest's code, which nobody gets to see.
local core = require "ktstr.core"
local registers = require "ktstr.registers"
local kernel_view = require "tests.vm.kernel_view"
local tiny_guest = require "tests.vm.tiny_guest"
local watch_guest = require "tests.vm.watch_guest"

local REGISTERS = 3

-- Whether this KVM stops at an INT3 of the host's: the paravirtual one does, QEMU's emulated SVM does not.
local function has_int3()
  local guest = watch_guest.start(function() end)
  local list
  for i = 1, REGISTERS + 1 do
    local ok, id = pcall(guest.watch, guest, watch_guest.pages + 16 * i, 8, { code = true, counts = true })
    list = ok and guest.machine:watch_counts(id).backend
  end
  guest.machine:kill()
  guest.machine:join()
  return list == "int3"
end

if not has_int3() then
  describe("a watch of code by INT3", function()
    it("is refused where KVM does not stop at one, with what to do", function()
      local guest = watch_guest.start(finally)
      for i = 1, REGISTERS do
        guest:watch(watch_guest.pages + 16 * i, 8, { code = true })
      end
      local e = tiny_guest.refused("unsupported", guest.watch, guest, watch_guest.pages, 8, { code = true })
      assert.matches("this host's KVM does not stop at INT3", e.message, 1, true)
      assert.matches("cancel a watch that has one", e.hint, 1, true)
      guest:run("write-8", 1)
    end)
  end)
  return
end

-- The instructions of a routine's loop, by stepping through it.
local function loop_of(guest, routine)
  guest:begin(routine, 100000)
  repeat -- until it has got there
    local word = guest:word()
  until word ~= 0
  local seen, list = {}, {}
  while #list < REGISTERS + 2 do
    tiny_guest.freeze(guest.machine)
    for _ = 1, 40 do
      guest.machine:step(0, 1)
      local rip = tonumber(registers.decode(0, guest.machine:regs(0)).rip)
      seen[rip] = (seen[rip] or 0) + 1
    end
    guest.machine:thaw()
    list = {}
    for rip, times in pairs(seen) do
      if times >= 2 then
        list[#list + 1] = rip
      end
    end
  end
  table.sort(list)
  return list
end

-- A guest all of whose instructions of a loop are watched; their addresses, and the watches.
local function watched_loop(cpus, routine, options)
  local scout = watch_guest.start(finally)
  local loop = loop_of(scout, routine)
  scout.machine:kill()
  local guest = watch_guest.start(finally, cpus)
  local ids, planted = {}, 0
  for i, rip in ipairs(loop) do
    ids[i] = guest:watch(rip, 8, options or { code = true, counts = true })
    planted = planted + (guest.machine:watch_counts(ids[i]).backend == "int3" and 1 or 0)
  end
  assert.equals(#loop - REGISTERS, planted)
  return guest, loop, ids
end

local function code_at(guest, address)
  return guest.machine:read_physical(address, 64)
end

describe("a watch of code by INT3", function()
  it("stops in front of its instruction each time, as by a debug register, and it is executed", function()
    local guest, loop, ids = watched_loop(1, "write-8", { code = true })
    guest:run("write-8", 10, 0x100)
    assert.equals(0xa0a0a0a0a0a0a0aULL, guest:word(0x100))
    local least = math.huge
    for i, id in ipairs(ids) do
      local hits = guest:hits(id)
      least = math.min(least, hits)
      -- The loop's test is made once more.
      assert.is_true(hits == 10 or hits == 11, ("%d hits of %x"):format(hits, loop[i]))
    end
    assert.equals(10, least)
    local last = 0
    for i, fire in ipairs(guest.fires) do
      assert.equals("call", fire.kind)
      last = i
    end
    assert.is_true(last >= 10 * #loop)
    for _, id in ipairs(ids) do
      guest.machine:unwatch(id)
    end
    guest.fires = {}
    guest:run("write-8", 10, 0x100)
    assert.equals(0, #guest.fires)
  end)

  it("stops each of four CPUs, and LOCK INC stays exact", function()
    local guest, _, ids = watched_loop(4, "lock-inc")
    guest:run("lock-inc", 20)
    assert.equals(80ULL, guest:word())
    for _, id in ipairs(ids) do
      assert.is_true(guest:hits(id) >= 80)
    end
  end)

  it("is not to be seen in a frozen machine, nor in a saved one, and goes with single steps", function()
    local guest, loop = watched_loop(1, "write-8")
    local plain = watch_guest.start(finally)
    tiny_guest.freeze(plain.machine)
    local code = code_at(plain, loop[1])
    plain.machine:thaw()
    guest:begin("write-8", 300)
    local steps, image = 0, nil
    repeat
      if pcall(guest.machine.freeze, guest.machine) then
        assert.equals(code, code_at(guest, loop[1]))
        steps = steps + guest.machine:step(0, 3)
        assert.equals(code, code_at(guest, loop[1]))
        image = image or guest.machine:save("identity", "script")
        guest.machine:thaw()
      end
    until guest:turn(0)
    assert.is_true(steps > 0)

    local machine = core.machine_saved(image, { timeout = 100 })
    finally(function()
      machine:kill()
      pcall(machine.join, machine)
    end)
    machine:start()
    local fork = setmetatable({ machine = machine, fires = {}, last_id = guest.last_id }, getmetatable(guest))
    fork:finish() -- what nobody lets past an INT3 would not come back
    fork:run("write-8", 2, 0x40)
    assert.equals(0x202020202020202ULL, fork:word(0x40))

    tiny_guest.freeze(guest.machine)
    guest.machine:rewind(image)
    guest.machine:thaw()
    guest:finish()
    assert.equals(300 % 256, tonumber(guest:word() % 256))
  end)

  it("is not to be seen by who looks while the guest runs", function()
    local guest, loop = watched_loop(1, "write-8")
    local plain = watch_guest.start(finally)
    local view, expected = kernel_view.of(guest.machine), kernel_view.of(plain.machine)
    local words = {}
    for i, rip in ipairs(loop) do
      words[i] = expected:word(rip)
      assert.equals(words[i], view:word(rip))
    end
    guest:begin("write-8", 200)
    repeat
      for i, rip in ipairs(loop) do
        assert.equals(words[i], view:word(rip))
      end
    until guest:turn(0)
  end)

  it("is over with its machine, in the midst of it, and leaves its code as it was", function()
    for round = 1, 5 do
      local guest = watched_loop(2, "store", { code = true, counts = round % 2 == 0 })
      guest:begin("store", 1e6)
      for _ = 1, round * 2 do
        guest:turn(0.005)
      end
      guest.machine:kill()
      assert.equals("ExternalKill", tiny_guest.finish(guest.machine).exit_reason)
    end
  end)

  it("catches returns, and what they return", function()
    local guest = watch_guest.start(finally)
    guest:run("code", 1) -- puts the function there
    for i = 1, REGISTERS do
      guest:watch(watch_guest.pages + 0x100 * i, 8, { code = true, counts = true })
    end
    local id = guest:watch(watch_guest.pages + 0x800, 8, { code = true, returns = true })
    assert.equals("int3", guest.machine:watch_counts(id).backend)
    assert.equals(10ULL, guest:run("code", 4)[1])
    local list = {}
    for i, fire in ipairs(guest.fires) do
      list[i] = fire.kind == "return" and ("return %d"):format(tonumber(fire.after)) or fire.kind
    end
    assert.equals("call, return 1, call, return 2, call, return 3, call, return 4", table.concat(list, ", "))
  end)
end)
