-- Captures: asked for by main, by the guest, by a timer, all through the one gate.
local core = require "ktstr.core"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"

local refused = tiny_guest.refused

-- "captures: sent 5 done 5 busy 0 ..." as a table.
local function counts_of(output)
  local counts = {}
  for name, value in output:match "captures:([^\n]*)":gmatch "(%l+) (%d+)" do
    counts[name] = tonumber(value)
  end
  return counts
end

local function by_source(machine, source)
  local found = {}
  for _, capture in ipairs(machine:captures()) do
    if capture.source == source then
      found[#found + 1] = capture
    end
  end
  return found
end

describe("main's capture", function()
  it("records registers and clocks of a machine that goes on", function()
    local machine = tiny_guest.start("load=3", finally, { cpus = 4 })
    for i = 1, 10 do
      machine:capture("capture " .. i)
      assert.is_false(machine:is_frozen())
    end
    local captures = machine:captures()
    assert.equals(10, #captures)
    for i, capture in ipairs(captures) do
      assert.same({ "capture " .. i, "main", 4 }, { capture.tag, capture.source, #capture.cpus })
      local last = captures[i - 1]
      assert.is_true(capture.elapsed > (last and last.elapsed or 0))
      assert.is_true(capture.clock > (last and last.clock or 0))
    end
    -- What a frozen machine's registers say: the fourth CPU does nothing any more.
    machine:freeze()
    for cpu = 0, 3 do
      local regs, sregs = machine:regs(cpu)
      assert.same({ #regs, #sregs }, { #captures[1].cpus[cpu + 1].regs, #captures[1].cpus[cpu + 1].sregs })
      assert.equals(sregs:sub(1, 64), captures[1].cpus[cpu + 1].sregs:sub(1, 64))
    end
    machine:thaw()
    tiny_guest.wait_until(function()
      return machine:freeze_counts().main.done == 11
    end)
  end)

  it("keeps a name's last capture, and says so once", function()
    local machine = tiny_guest.start("load=0", finally)
    machine:capture "twice"
    machine:capture "other"
    machine:capture "twice"
    machine:capture "twice"
    local tags = {}
    for i, capture in ipairs(machine:captures()) do
      tags[i] = capture.tag
    end
    table.sort(tags)
    assert.same({ "other", "twice" }, tags)
    machine:kill()
    local warnings = tiny_guest.finish(machine).warnings
    local _, times = warnings:gsub("the capture 'twice' was taken more than once", "")
    assert.equals(1, times)
  end)

  it("is listed with all others of the moment, while some are replaced", function()
    local machine = tiny_guest.start("load=0", finally)
    machine:capture "first"
    machine:test_hook("periodic", 0.0001) -- by as many names
    local function periodic()
      return machine:freeze_counts().periodic.done
    end
    -- A freeze is counted just before what it recorded can be listed.
    tiny_guest.wait_until(function()
      return periodic() > 64
    end)
    local listed = 0
    tiny_guest.wait_until(function()
      local tags = {}
      for i, capture in ipairs(machine:captures()) do
        assert.is_nil(tags[capture.tag])
        tags[capture.tag] = i
      end
      assert.equals(1, tags.first)
      for i = 0, 63 do
        assert.is_number(tags[("periodic_%03d"):format(i)])
      end
      listed = listed + 1
      return listed >= 200 and periodic() >= 1000
    end)
  end)

  it("has a name of 1 to 64 printable characters", function()
    local machine = tiny_guest.start("load=0", finally)
    for _, tag in ipairs { "", "a\0b", "tab\tbed", "\255", ("x"):rep(65), "line\n" } do
      refused("invalid", machine.capture, machine, tag)
    end
    machine:capture(("x"):rep(64))
    machine:capture "~ !"
    assert.equals(2, #machine:captures())
  end)

  it("is still there when the machine has ended", function()
    local machine = tiny_guest.start("load=0", finally)
    machine:capture "kept"
    machine:kill()
    tiny_guest.finish(machine)
    assert.equals("kept", machine:captures()[1].tag)
  end)
end)

describe("a guest's capture", function()
  it("is answered with its own id, one by one", function()
    local machine = tiny_guest.start("capture=50", finally)
    local result = tiny_guest.finish(machine)
    assert.same({ "Shutdown", 0 }, { result.exit_reason, result.exit_code })
    assert.same({ sent = 50, done = 50, busy = 0, timeout = 0, failed = 0, strange = 0 },
      counts_of(result.output))
    local captures = by_source(machine, "guest")
    assert.equals(50, #captures)
    for i, capture in ipairs(captures) do
      assert.equals("t" .. i - 1, capture.tag)
    end
    assert.same({ done = 50, busy = 0, timeout = 0, failed = 0 }, machine:freeze_counts().guest)
  end)

  it("is answered with its own id when many are asked for at once", function()
    local machine = tiny_guest.start("capture-burst=200", finally, { cpus = 2 })
    local result = tiny_guest.finish(machine)
    assert.same({ "Shutdown", 0 }, { result.exit_reason, result.exit_code })
    local counts = counts_of(result.output)
    assert.same({ 200, 200, 0, 0 },
      { counts.sent, counts.done + counts.busy, counts.timeout + counts.failed, counts.strange })
    assert.equals(counts.done, #by_source(machine, "guest"))
  end)

  it("is not part of what a test sees of its guest", function()
    local result = support.run_tiny "capture=3"
    for _, frame in ipairs(result.frames) do
      assert.is_true(frame.type == "SYS_RDY" or frame.type == "STDOUT" or frame.type == "EXIT", frame.type)
    end
  end)

  it("that is wrong is answered, too, and nothing is harmed", function()
    local machine = tiny_guest.start("capture-bad", finally)
    local result = tiny_guest.finish(machine)
    assert.same({ "Shutdown", 0 }, { result.exit_reason, result.exit_code })
    local answers = {}
    for name, answer in result.output:gmatch "([^\n]-):([^\n]*)\n" do
      answers[name] = answer
    end
    for _, name in ipairs { "a single byte", "part of an id" } do
      assert.matches("^ failed for id 0 %(.*malformed.*%)$", answers[name], name)
      answers[name] = nil
    end
    for _, name in ipairs {
      "an id alone", "a byte less", "a byte more", "no tag", "a tag behind a NUL", "a tag that is not text",
      "a tag beyond ASCII",
    } do
      assert.matches("^ failed %(.*malformed.*%)$", answers[name], name)
      answers[name] = nil
    end
    for name, kind in pairs { ["kind 0"] = 0, ["kind 99"] = 99, ["a watch"] = 2 } do
      assert.matches(("^ failed %%(.*kind %d.*%%)$"):format(kind), answers[name], name)
      answers[name] = nil
    end
    assert.same({
      ["a tag with more behind its NUL"] = " done",
      ["a tag of 64 bytes"] = " done",
      ["id 0"] = " done",
      ["an id twice"] = " done done",
    }, answers)
    local tags = {}
    for _, capture in ipairs(by_source(machine, "guest")) do
      tags[capture.tag] = true
    end
    local full = ("0123456789abcdef"):rep(4)
    assert.same({ x = true, [full] = true, zero = true, twin = true, fence = true }, tags)
  end)

  it("is told to be busy while main holds the machine", function()
    -- The guest asks all the time; the freeze comes between its request and the answer, sooner or later.
    local machine = tiny_guest.start({ "capture=100000" }, finally, { timeout = 100 })
    tiny_guest.wait_until(function()
      if pcall(machine.freeze, machine) then
        machine:thaw()
      end
      local counts = machine:freeze_counts()
      return counts.guest.busy > 0 and counts.main.busy > 0 and counts.guest.done > 0
    end)
    tiny_guest.wait_until(function()
      return (pcall(machine.freeze, machine))
    end)
    local cells = tiny_guest.cells(machine, tiny_guest.address.captures, 6)
    machine:thaw()
    assert.is_true(cells[1] > 0)
    assert.equals(0, cells[6])
  end)
end)

describe("every source at once", function()
  -- Main freezes the machine so often; how often it was turned away.
  local function contend(machine, freezes)
    local froze, busy = 0, 0
    while froze < freezes do
      local ok, e = pcall(machine.freeze, machine)
      if ok then
        froze = froze + 1
        assert.is_true(machine:is_frozen())
        machine:thaw()
      else
        assert.equals("busy", e.code)
        busy = busy + 1
      end
    end
    return busy
  end

  -- What the guest says of its captures, and the code that it reports then.
  local function outcome_of(machine)
    local output
    while true do
      local kind, payload = machine:recv(120)
      if kind == core.wire.MSG_STDOUT then
        output = core.wire.decode(kind, payload).data
      else
        assert.equals(core.wire.MSG_EXIT, kind)
        return counts_of(output), core.wire.decode(kind, payload).code
      end
    end
  end

  local function all_at_once(scenario, requests, freezes, cpus)
    local words = { scenario .. "=" .. requests, "echo" }
    local machine = tiny_guest.start(words, finally, { cpus = cpus, timeout = 250 })
    machine:test_hook("periodic", 0.001)
    local busy = contend(machine, freezes)
    -- With main away, the rest of the guest's are done.
    local replies, code = outcome_of(machine)
    machine:test_hook("periodic", 0)
    assert.equals(0, code)
    assert.same({ requests, requests, 0, 0, 0 },
      { replies.sent, replies.done + replies.busy, replies.timeout, replies.failed, replies.strange })
    local counts = machine:freeze_counts()
    assert.same({ done = freezes, busy = busy, timeout = 0, failed = 0 }, counts.main)
    assert.same({ done = replies.done, busy = replies.busy, timeout = 0, failed = 0 }, counts.guest)
    assert.is_true(counts.periodic.done > 0)
    assert.same({ 0, 0 }, { counts.periodic.timeout, counts.periodic.failed })
    assert.equals(replies.done, #by_source(machine, "guest"))
    machine:kill()
    local channel = tiny_guest.finish(machine).channel
    assert.same({ 0, 0, 0 }, { channel.bad_headers, channel.bad_payloads, channel.unknown })
  end

  it("loses no reply: one by one", function()
    all_at_once("capture", 200, 200, 1)
  end)

  it("loses no reply: one by one, with more CPUs", function()
    all_at_once("capture", 200, 200, 4)
  end)

  it("loses no reply: a burst", function()
    all_at_once("capture-burst", 500, 200, 1)
  end)

  it("loses no reply: 900 of each #slow", function()
    all_at_once("capture", 900, 900, 2)
  end)

  it("gives main and the timer their turns, too", function()
    local machine = tiny_guest.start("load=3", finally, { cpus = 4 })
    machine:test_hook("periodic", 0.002)
    tiny_guest.wait_until(function()
      pcall(machine.capture, machine, "main's")
      local counts = machine:freeze_counts()
      return counts.main.done > 20 and counts.periodic.done > 20
    end)
    machine:test_hook("periodic", 0)
    -- While main holds the machine the timer is turned away, and counted.
    tiny_guest.wait_until(function()
      return pcall(machine.freeze, machine)
    end)
    local before = machine:freeze_counts().periodic
    machine:test_hook("periodic", 0.001)
    tiny_guest.wait_until(function()
      return machine:freeze_counts().periodic.busy >= before.busy + 5
    end)
    assert.equals(before.done, machine:freeze_counts().periodic.done)
    machine:test_hook("periodic", 0)
    machine:thaw()
  end)
end)
