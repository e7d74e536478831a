-- What a monitor makes of samples: stalls and their exemptions; and what it reads where, by a kernel's types.

-- The library itself, over the core of the program that runs this.
local errors = require "ktstr.errors"
local kernels = require "ktstr.kernels"
local monitor_fields = require "ktstr.kernel.monitor_fields"
local monitor_program = require "ktstr.kernel.monitor_program"
local stalls = require "ktstr.kernel.stalls"

local INTERVAL = 0.1

-- Samples of one CPU. Each step: what changes at it; a clock that is not given moves on.
local function samples_of(count, steps)
  local list = {}
  local now = { clock = 0, nr_running = 1, tick_stopped = 0, host_ran = 0, host_state = "wants", epoch = 1,
    runs = true, moves = true }
  for i = 1, count do
    for name, value in pairs(steps[i] or {}) do
      now[name] = value
    end
    now.clock = now.clock + (now.moves and 100 or 0)
    now.host_ran = now.host_ran + (now.runs and INTERVAL or 0)
    list[i] = { elapsed = i * INTERVAL, epoch = now.epoch, cpus = { [3] = {
      clock = not now.unreadable and now.clock or nil,
      nr_running = now.nr_running,
      tick_stopped = now.tick_stopped,
      host_ran = not now.untold and now.host_ran or nil,
      host_state = now.host_state or nil,
    } } }
  end
  return list
end

local function find(steps, options)
  options = options or {}
  return stalls.find(samples_of(20, steps), {
    sustained = options.sustained or 0.5,
    nohz_full = options.nohz_full,
  })
end

local function assert_exempt(why, found, exempt)
  assert.same({}, found)
  assert.equals(1, #exempt)
  assert.equals(why, exempt[1].exempt)
end

describe("a CPU with runnable tasks", function()
  it("that goes on does not stall", function()
    assert.same({ {}, {} }, { find {} })
  end)

  it("whose clock stands still for the sustained window stalls", function()
    local found, exempt = find { [5] = { moves = false, nr_running = 2 }, [15] = { moves = true } }
    assert.same({}, exempt)
    assert.equals(1, #found)
    local stall = found[1]
    assert.same({ 3, 2, 400 }, { stall.cpu, stall.nr_running, stall.clock })
    assert.near(0.4, stall.from, 1e-9)
    assert.near(1.4, stall.to, 1e-9)
    assert.near(1.0, stall.seconds, 1e-9)
    assert.is_nil(stall.halted)
  end)

  it("stalls as soon as that is long enough, and not before", function()
    assert.equals(1, #find { [14] = { moves = false } })
    assert.equals(0, #find { [17] = { moves = false } })
    assert.equals(1, #find({ [17] = { moves = false } }, { sustained = 0.35 }))
    assert.equals(0, #find { [5] = { moves = false }, [9] = { moves = true } })
  end)

  it("stalls twice", function()
    local found = find { [2] = { moves = false }, [8] = { moves = true }, [12] = { moves = false } }
    assert.equals(2, #found)
    assert.is_true(found[1].to < found[2].from)
  end)

  it("has a window that begins anew with what cannot be read, is idle, or was taken back", function()
    for _, change in ipairs { { unreadable = true }, { nr_running = 0 } } do
      local back = { unreadable = false, nr_running = 1 }
      assert.equals(0, #find { [8] = { moves = false }, [12] = change, [13] = back, [17] = { moves = true } })
      assert.equals(1, #find { [8] = { moves = false }, [17] = { moves = true } })
    end
    assert.equals(0, #find { [8] = { moves = false }, [12] = { epoch = 2 }, [16] = { moves = true } })
  end)
end)

describe("not a stall", function()
  it("is an idle CPU, however long its clock stands", function()
    assert.same({ {}, {} }, { find { [1] = { moves = false, nr_running = 0 } } })
  end)

  it("is a vCPU that the host did not run", function()
    assert_exempt("host", find { [5] = { moves = false, runs = false } })
    -- A little is not enough to blame it.
    assert_exempt("host", find { [5] = { moves = false, runs = false }, [10] = { runs = true },
      [11] = { runs = false } })
  end)

  it("is a vCPU of which the host tells nothing", function()
    assert_exempt("host", find { [5] = { moves = false, untold = true } })
  end)

  it("is a nohz_full CPU whose tick is stopped, or of whose tick nothing is known", function()
    local full = { nohz_full = { [3] = true } }
    assert_exempt("nohz_full", find({ [5] = { moves = false, tick_stopped = 1 } }, full))
    assert.equals(1, #find({ [5] = { moves = false } }, full))
    assert.equals(1, #find({ [5] = { moves = false, tick_stopped = 1 } }, { nohz_full = { [2] = true } }))
    local unknown = samples_of(20, { [5] = { moves = false } })
    for _, sample in ipairs(unknown) do
      sample.cpus[3].tick_stopped = nil
    end
    assert_exempt("nohz_full", stalls.find(unknown, { sustained = 0.5, nohz_full = { [3] = true } }))
  end)

  it("is one that the host did not run because it slept: that one stalls, halted", function()
    local found = find { [5] = { moves = false, runs = false, host_state = "sleeps" } }
    assert.equals(1, #found)
    assert.is_true(found[1].halted)
    -- Once it wanted to run and did not get to: the host's doing.
    assert_exempt("host", find { [5] = { moves = false, runs = false, host_state = "sleeps" },
      [12] = { host_state = "wants" } })
  end)
end)

it("stalls of several CPUs come in the order of their beginning", function()
  local list = samples_of(20, { [10] = { moves = false } })
  local other = samples_of(20, { [4] = { moves = false } })
  for i, sample in ipairs(list) do
    sample.cpus[0] = other[i].cpus[3]
  end
  local found = stalls.find(list, { sustained = 0.5 })
  assert.same({ 0, 3 }, { found[1].cpu, found[2].cpu })
  assert.equals("invalid", select(2, pcall(stalls.find, list, { sustained = 0 })).code)
end)

-- --- programs ---

local function refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert(errors.is(e, code), tostring(e))
end

for _, version in ipairs { "6.1", "7.3" } do
  describe("a program for " .. version, function()
    local types

    setup(function()
      local ok, kernel = pcall(kernels.resolve, version)
      types = ok and require("ktstr.kernel.image").open(kernel.path).types
    end)

    local function with_types(name, f)
      it(name, function()
        if not types then
          pending(("no kernel %s is cached"):format(version))
          return
        end
        f()
      end)
    end

    local function offset(type, member)
      return types:get(type):member(member).offset / 8
    end

    with_types("finds members within others, by index, and behind pointers", function()
      local rq = types:get "struct rq"
      local place = monitor_program.place(rq, "rq_sched_info.run_delay")
      assert.same({}, place.steps)
      assert.same({ offset("struct rq", "rq_sched_info") + offset("struct sched_info", "run_delay"), 8 },
        { place.offset, place.size })
      place = monitor_program.place(rq, "sd.parent.lb_count[2]")
      assert.same({ { offset = offset("struct rq", "sd"), per_cpu = false },
        { offset = offset("struct sched_domain", "parent"), per_cpu = false } }, place.steps)
      assert.same({ offset("struct sched_domain", "lb_count") + 8, 4 }, { place.offset, place.size })
      assert.is_true(monitor_program.place(types:get "struct task_struct", "prio").is_signed)
      assert.is_false(place.is_signed)
      assert.same({ 0, 8 }, { monitor_program.place(types:get "u64", "").offset, 8 })
    end)

    with_types("refuses what is no number, and what is not there", function()
      local rq = types:get "struct rq"
      refused("unsupported", monitor_program.place, rq, "cfs")
      refused("unsupported", monitor_program.place, rq, "curr.comm")
      refused("not-found", monitor_program.place, rq, "cfs.nothing")
      refused("not-found", monitor_program.place, rq, "nr_running.more")
      refused("not-found", monitor_program.place, rq, "sd.lb_count[3]")
    end)

    with_types("has the stopped tick, and balance counters by idleness", function()
      local by_name = {}
      for _, group in ipairs(monitor_fields.groups(types)) do
        for _, field in ipairs(group.fields) do
          assert.is_nil(by_name[field.name])
          by_name[field.name] = field
        end
      end
      local tick = by_name.tick_stopped
      local place = monitor_program.place(types:variable(tick.per_cpu), tick.path)
      if tick.bit then
        assert.same({ "flags", 1, 8 }, { tick.path, tick.bit, place.size })
      else
        assert.same({ 76, 1, 1, 4 }, { place.offset, place.shift, place.bits, place.size })
      end
      local idleness = types:get("enum cpu_idle_type"):values()
      assert.equals(("lb_count[%d]"):format(idleness.CPU_NEWLY_IDLE), by_name.lb_count_newidle.path)
      assert.equals(("lb_count[%d]"):format(idleness.CPU_IDLE), by_name.lb_count_idle.path)
      assert.equals("schedstats", by_name.alb_pushed.gate)
      assert.is_nil(by_name.balance_interval.gate)
    end)

    with_types("has sched_ext's counters where the kernel keeps them", function()
      local stats = types:find "struct scx_event_stats"
      local fields = monitor_fields.choose(monitor_fields.groups(types), { "events" })
      assert.equals(stats and #stats:members() or 0, #fields)
      if stats then
        local field = fields[1]
        local place = monitor_program.place(types:get(field.type), field.path)
        assert.equals("SCX_EV_SELECT_CPU_FALLBACK", field.name)
        assert.same({ { offset = 0, per_cpu = false }, { offset = offset("struct scx_sched", "pcpu"),
          per_cpu = true } }, place.steps)
        assert.equals(offset("struct scx_sched_pcpu", "event_stats"), place.offset)
      end
    end)

    with_types("chooses fields by name, by group, and one's own", function()
      local groups = monitor_fields.groups(types)
      local chosen = monitor_fields.choose(groups, { "clock", "clock", { name = "x", var = "y", path = "" } })
      assert.equals(2, #chosen)
      assert.equals("machine", chosen[2].scope)
      refused("not-found", monitor_fields.choose, groups, { "clok" })
      for _, wrong in ipairs { {}, { name = "x" }, { name = "x", var = "y", per_cpu = "z", path = "" },
        { name = "x", var = "y", path = "", scope = "domain" } } do
        refused("invalid", monitor_fields.choose, groups, { wrong })
      end
    end)
  end)
end

describe("a sample", function()
  local ffi = require "ffi"

  local function bytes_of(program, values, present)
    local head = ffi.new("struct monitor_sample", 7, 5e9, 3e9, 2, 1000)
    local cpu = ffi.new("struct monitor_cpu", 2e9, 2)
    local words = ffi.new("uint64_t[?]", #values, values)
    local text = ffi.string(head, ffi.sizeof(head)) .. ffi.string(cpu, ffi.sizeof(cpu))
      .. ffi.string(words, #values * 8) .. string.char(present) .. ("\0"):rep(7)
    assert.equals(#text, program:sample_size())
    return text
  end

  it("is taken apart: numbers, signs, bits, and what is absent", function()
    local program = monitor_program.new(1)
    local function add(place)
      place.steps, place.offset, place.size = {}, 0, 8
      return program:add(0, place, { false })
    end
    add {}
    add { is_signed = true }
    add { shift = 3, bits = 2 }
    add { shift = 0, bits = 4, is_signed = true }
    add {}
    add {}
    local sample = program:open("xxx" .. bytes_of(program, { 5, -1ULL, 0x1a, 0xf, 2 ^ 63, 9 }, 0x1f), 3)
    assert.same({ 7, 5, 3, 2 }, { sample.number, sample.time, sample.elapsed, sample.epoch })
    assert.near(1e-6, sample.spent, 1e-12)
    assert.same({ 2, "sleeps" }, { program:host(sample, 0) })
    assert.same({ 5, -1, 3, -1 }, { program:get(sample, 0), program:get(sample, 1), program:get(sample, 2),
      program:get(sample, 3) })
    assert.equals(0x8000000000000000ULL, program:get(sample, 4))
    assert.is_nil(program:get(sample, 5))
  end)
end)
