-- Stopping a stock kernel and letting it go on, whatever runs in it and whoever else wants to stop it.
local ktstr = require "ktstr"
local report = require "ktstr.report"
local time = require "posix.time"
local guest_load = require "tests.vm.guest_load"
local kernel_log = require "tests.vm.kernel_log"

local CPUS = 4
-- Each bound is far above what emulation on a loaded host needs. It ends what hangs, no more.
local BOUND_S = 120

local vm, log_of_boot

local function dmesg()
  return vm:exec({ "dmesg", "-r" }).stdout
end

setup(function()
  vm = ktstr.boot { topology = "1n1l4c1t", timeout = 1200 }
  log_of_boot = dmesg()
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

local function sleep(seconds)
  time.nanosleep { tv_sec = math.floor(seconds), tv_nsec = seconds % 1 * 1e9 }
end

-- It runs, the gate is free, and its kernel has nothing to say.
local function assert_free()
  assert.is_false(vm:is_frozen())
  assert.equals(0, vm:exec({ "true", timeout = BOUND_S }).status)
  assert.equals("free", vm:capture("free").tag)
  assert.same({}, kernel_log.complaints_only_in(dmesg(), log_of_boot))
end

local function assert_refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert.equals(code, e.code, tostring(e))
  return e
end

local function hex(bytes)
  return (bytes:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

-- All that may move while the guest runs.
local function state()
  local registers = {}
  for cpu = 1, CPUS do
    local regs, sregs = vm.machine:regs(cpu - 1)
    registers[cpu] = hex(regs) .. " " .. hex(sregs)
  end
  return { registers = registers, memory = vm.machine:memory_crc() }
end

describe("a frozen machine", function()
  local load

  before_each(function()
    load = guest_load.start(vm)
  end)

  after_each(function()
    load:stop()
  end)

  it("stands still, registers and memory, and goes on where it stood", function()
    vm:freeze()
    local before = state()
    sleep(1)
    local same = state()
    vm:thaw()
    assert.same(before, same)
    local lines = load:frames()
    -- Every vCPU has something to do: each goes on, as does the program that counts.
    local moved = {}
    local deadline = os.time() + BOUND_S
    repeat
      vm:sleep(0.05)
      vm:freeze()
      local now = state()
      vm:thaw()
      for cpu = 1, CPUS do
        moved[cpu] = moved[cpu] or now.registers[cpu] ~= before.registers[cpu]
      end
      assert.not_equals(before.memory, now.memory)
    until (moved[1] and moved[2] and moved[3] and moved[4] and load:frames() > lines) or os.time() > deadline
    assert.same({ true, true, true, true }, moved)
    local more, wrong = load:frames()
    assert.is_nil(wrong)
    assert.is_true(more > lines)
    assert_free()
  end)
end)

-- Asks for captures until there is /tmp/enough, then says how often, and how they ended.
local CAPTURES = [[
tries=0 taken=0 busy=0 other=
while [ ! -e /tmp/enough ]; do
  why=$(ktstr-capture "$1 $((tries % 8))" 2>&1)
  status=$?
  tries=$((tries + 1))
  case $status in
  0) taken=$((taken + 1)) ;;
  3) busy=$((busy + 1)) ;;
  *) other="$other; $status $why" ;;
  esac
done
echo "$tries $taken $busy$other"
]]

local cycles = {
  function()
    vm:freeze()
    vm:thaw()
  end,
  function()
    vm:freeze()
    for cpu = 0, CPUS - 1 do
      vm:regs(cpu)
    end
    vm:thaw()
  end,
  function()
    assert.is_true(vm:frozen(function()
      return vm:is_frozen() and vm:regs(CPUS - 1).rip ~= nil
    end))
  end,
  function()
    vm:freeze()
    sleep(0.002)
    vm:thaw()
  end,
}

local function difference(after, before)
  local result = {}
  for source, counts in pairs(after) do
    result[source] = {}
    for kind, count in pairs(counts) do
      result[source][kind] = count - before[source][kind]
    end
  end
  return result
end

-- What the guest says of its captures, summed up.
local function end_captures(programs)
  vm:write("/tmp/enough", "")
  local tries, taken, busy = 0, 0, 0
  for _, program in ipairs(programs) do
    local r = program:wait(BOUND_S)
    local t, d, b, rest = r.stdout:match "^(%d+) (%d+) (%d+)(.*)\n$"
    assert.same({ 0, "" }, { r.status, rest }, r.stdout)
    tries, taken, busy = tries + t, taken + d, busy + b
  end
  vm:exec { "rm", "/tmp/enough" }
  return tries, taken, busy
end

local function assert_contended(count)
  local load = guest_load.start(vm)
  local before = vm.machine:freeze_counts()
  local programs = {}
  for i = 1, 2 do
    programs[i] = vm:spawn { "sh", "-c", CAPTURES, "sh", "guest " .. i }
  end
  local ended
  finally(function() -- the tests after one that failed have a machine of their own
    if not ended then
      vm.machine:test_hook("periodic", 0)
      pcall(end_captures, programs)
    end
  end)
  vm.machine:test_hook("periodic", 0.05)
  for i = 1, count do
    cycles[i % #cycles + 1]()
    assert.is_false(vm:is_frozen())
    -- Of different length, and so that what the guest says is taken in.
    vm:sleep(i * 7 % 16 / 1000)
  end
  vm.machine:test_hook("periodic", 0)
  local tries, taken, busy = end_captures(programs)
  ended = true
  local counts = difference(vm.machine:freeze_counts(), before)
  -- Not a reply lost, on either side.
  assert.equals(tries, taken + busy)
  assert.same({ done = taken, busy = busy, timeout = 0, failed = 0 }, counts.guest)
  assert.is_true(taken > 0)
  assert.same({ count, 0, 0 }, { counts.main.done, counts.main.timeout, counts.main.failed })
  assert.is_true(counts.periodic.done > 0)
  assert.same({ 0, 0 }, { counts.periodic.timeout, counts.periodic.failed })
  local lines, wrong = load:frames()
  assert.is_nil(wrong)
  assert.is_true(lines > 0)
  local rows, findings = load:stop()
  for _, finding in ipairs(findings) do
    assert.not_equals("fail", finding.status, report.finding(finding))
  end
  for name, row in pairs(rows) do
    assert.is_true(row.units_min > 0, name)
  end
  assert.equals("1", rows.pinned.cpus_used)
  assert_free()
end

describe("a machine under load, with captures by the guest and by a timer", function()
  it("is frozen and thawed a hundred times, and nothing is lost", function()
    assert_contended(100)
  end)

  it("is frozen and thawed a thousand times, and nothing is lost #slow", function()
    assert_contended(1000)
  end)
end)

describe("a visitor", function()
  it("that raises leaves a machine that runs", function()
    local ok, e = pcall(vm.frozen, vm, function()
      assert(vm:is_frozen())
      error("from the visitor", 0)
    end)
    assert.same({ false, "from the visitor" }, { ok, e })
    assert_free()
  end)

  it("that sleeps keeps the machine frozen so long, and leaves one that runs", function()
    local before = vm:capture "before"
    assert.equals("done", vm:frozen(function()
      sleep(5)
      return vm:is_frozen() and "done"
    end))
    local after = vm:capture "after"
    -- Much less than the sleep, in the guest's clock and in the machine's time.
    assert.is_true(after.clock - before.clock < 4)
    assert.is_true(after.elapsed_ms - before.elapsed_ms < 4000)
    assert_free()
  end)

  local function limited(seconds)
    local limit = vm.freeze_limit
    vm.freeze_limit = seconds
    finally(function()
      vm.freeze_limit = limit
    end)
  end

  it("that sleeps beyond the freeze limit does not keep the machine with it", function()
    limited(1)
    local frozen
    assert_refused("freeze-limit", vm.frozen, vm, function()
      sleep(5)
      frozen = vm:is_frozen()
    end)
    assert.is_not_true(frozen)
    assert_free()
  end)

  it("that computes for ever is ended by the freeze limit", function()
    limited(1)
    assert_refused("freeze-limit", vm.frozen, vm, function()
      local i = 0
      while true do
        i = i + 1
      end
    end)
    assert_free()
  end)
end)

local function capture_named(tag)
  for _, capture in ipairs(vm:captures()) do
    if capture.tag == tag then
      return capture
    end
  end
end

-- A 64-bit address of the kernel's half, with ring 0; one of the user's half, with ring 3.
local function assert_plausible(registers)
  local in_kernel = registers.rip >= 0xffff800000000000ULL
  assert.equals(in_kernel and 0 or 3, registers.cs.dpl, tostring(registers))
  local in_user = registers.rip > 0x1000 and registers.rip < 0x800000000000ULL
  assert.is_true(in_kernel or in_user, tostring(registers))
  assert.is_true(registers.cr3 > 0)
  assert.is_true(registers.efer % 2 ^ 12 >= 2 ^ 10) -- long mode active
end

-- A "busy" answer has no test here: while the host holds the machine the guest cannot ask, and what it asked
-- just before waits in the ring for the thaw. It comes where a request is read between the wish to freeze
-- and the last vCPU's stop, a moment that a guest cannot choose; the tests under load happen on it.
describe("ktstr-capture", function()
  it("has the machine captured under its name, with every CPU's registers", function()
    local r = vm:exec { "ktstr-capture", "from the guest" }
    assert.same({ 0, "", "" }, { r.status, r.stdout, r.stderr })
    local capture = capture_named "from the guest"
    assert.equals("guest", capture.source)
    assert.equals(CPUS, capture:cpus())
    for cpu = 0, CPUS - 1 do
      assert_plausible(capture:cpu(cpu).regs)
    end
  end)

  it("refuses a name that cannot be one", function()
    for _, name in ipairs { "", "a\tb", "caf\195\169", ("x"):rep(65) } do
      local r = vm:exec { "ktstr-capture", name }
      assert.equals(2, r.status)
      assert.matches("^ktstr%-capture: .*name", r.stderr)
      assert.is_nil(capture_named(name))
    end
  end)

  it("tells of a vCPU that did not stop, and the guest lives on", function()
    local before = vm.machine:freeze_counts()
    vm.machine:test_hook("rendezvous_timeout", 0.3)
    finally(function()
      vm.machine:test_hook("rendezvous_timeout", 30)
    end)
    -- A CPU that stands still may also keep the request from coming in time.
    local r
    local tries = 0
    repeat
      tries = tries + 1
      vm.machine:test_hook("deaf", 2, 3)
      r = vm:exec { "ktstr-capture", "with a deaf vCPU" }
    until r.status ~= 0 or tries == 10
    assert.equals(4, r.status, r.stderr)
    assert.matches("timeout .*: 1 of 4 vCPUs did not stop within 0.3 s; vCPU 2 ", r.stderr)
    local counts = difference(vm.machine:freeze_counts(), before)
    assert.same({ tries - 1, 1 }, { counts.guest.done, counts.guest.timeout })
    vm.machine:test_hook("rendezvous_timeout", 30)
    assert.equals(0, vm:exec({ "ktstr-capture", "all hear" }).status)
    assert.equals("guest", capture_named("all hear").source)
    assert_free()
  end)
end)

describe("the end", function()
  local function assert_clean()
    local r = vm:shutdown()
    assert.same({ true, 0, false }, { r.passed, r.exit_code, r.timed_out })
    assert.same({ 0, 0, 0, 0 },
      { r.channel.bad_headers, r.channel.bad_payloads, r.channel.skipped_bytes, r.channel.unknown })
    assert.is_true(r.channel.frames > 0)
  end

  it("is clean: no frame was torn", assert_clean)
  it("is clean after the long tests, too: no frame was torn #slow", assert_clean)
end)
