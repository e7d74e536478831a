-- The BPF programs that other specs read from outside: they load in a stock kernel, and hold what
-- tests/vm/bpf_fixture.lua says, by the guest's own account.
local json = require "dkjson"
local host = require "ktstr.host"
local ktstr = require "ktstr"
local bpf_fixture = require "tests.vm.bpf_fixture"

local missing = bpf_fixture.missing()
local vm, fixture

setup(function()
  if not missing then
    vm = ktstr.boot { topology = "1n1l2c1t", timeout = 1200, files = bpf_fixture.files() }
    fixture = bpf_fixture.start(vm)
  end
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

local function with_fixture(test)
  return function()
    if missing then
      pending(missing)
    end
    test()
  end
end

-- bpftool's answer; numbers that a double cannot hold as strings of digits.
local function bpftool(...)
  local r = vm:exec { "bpftool", "-j", ... }
  assert.same({ 0, "" }, { r.status, r.stderr })
  local text = r.stdout:gsub("([:,%[]%s*)(%-?%d%d%d%d%d%d%d%d%d%d%d%d%d%d+)", '%1"%2"')
  return (assert(json.decode(text)))
end

local BIT_FIELDS = { low = true, middle = true, high = true }

-- A value as bpftool writes it.
local function shown(value, field)
  if type(value) == "cdata" then
    return (tostring(value):gsub("U?LL$", ""))
  elseif BIT_FIELDS[field] then
    return ("0x%x"):format(value)
  elseif type(value) ~= "table" then
    return value
  end
  local copy = {}
  for name, member in pairs(value) do
    copy[name] = shown(member, name)
  end
  return copy
end

-- A number of 64 bits that was written in hexadecimal.
local function number(text)
  local value = 0ULL
  for digit in text:match("^0x(%x+)$"):gmatch "%x" do
    value = value * 16 + tonumber(digit, 16)
  end
  return value
end

local function by_key(list)
  local found = {}
  for _, element in ipairs(list) do
    local key = element.key
    found[type(key) == "table" and key.number .. key.tag or key] = element
  end
  return found
end

local function formatted(dump)
  local list = {}
  for i, element in ipairs(dump) do
    list[i] = element.formatted
  end
  return list
end

-- The elements that a map should have, as bpftool writes them.
local function expected(elements)
  local list = {}
  for i, element in ipairs(elements) do
    list[i] = { key = shown(element.key), value = shown(element.value) }
    for cpu = 0, element.values and fixture.cpus - 1 or -1 do
      list[i].values = list[i].values or {}
      table.insert(list[i].values, { cpu = cpu, value = shown(element.values[cpu]) })
    end
  end
  return list
end

local function globals(section)
  local dump = bpftool("map", "dump", "id", tostring(fixture.maps["fixture" .. section].id))
  local found = {}
  for _, variable in ipairs(dump[1].formatted.value[section]) do
    local name, value = next(variable)
    found[name] = value
  end
  return found
end

describe("the fixture", function()
  it("has the maps and programs that it names", with_fixture(function()
    for what, named in pairs { map = fixture.maps, prog = fixture.programs } do
      local found = {}
      for _, entry in ipairs(bpftool(what, "list")) do
        found[entry.name or ""] = { id = entry.id, type = entry.type }
      end
      for name, entry in pairs(named) do
        assert.same(entry, found[name], name)
      end
    end
    for name in pairs(bpf_fixture.contents(1)) do
      local kind = name:match("^fx_(.*)$"):gsub("_lazy", ""):gsub("^lru$", "lru_hash")
      assert.equals(kind, fixture.maps[name].type)
    end
    assert.same({ "raw_tracepoint", "syscall", "tracing" },
      { fixture.programs.fx_switch.type, fixture.programs.fx_fill.type, fixture.programs.fx_count.type })
  end))

  it("has in its maps what is written of them", with_fixture(function()
    for name, elements in pairs(bpf_fixture.contents(fixture.cpus)) do
      local dump = bpftool("map", "dump", "id", tostring(fixture.maps[name].id))
      assert.same(by_key(expected(elements)), by_key(formatted(dump)), name)
    end
  end))

  it("has in its globals what is written of them", with_fixture(function()
    for section, variables in pairs(bpf_fixture.globals) do
      local found = globals(section)
      for name, value in pairs(variables) do
        assert.same(shown(value), found[name], name)
      end
    end
    local bss = globals ".bss"
    assert.equals(fixture.program.pid, bss.fx_pid)
    assert.is_true(bss.fx_switches > 0)
  end))

  it("counts each of its loader's calls, and no other's", with_fixture(function()
    local before = globals(".bss").fx_counted
    assert.equals(before + 1, fixture:count())
    assert.equals(before + 2, fixture:count())
    assert.equals(before + 2, globals(".bss").fx_counted)
    assert.is_true(before >= 7)
  end))

  it("keeps a value for the loader and its children in task storage", with_fixture(function()
    assert.equals(#bpf_fixture.tasks, #fixture.tasks)
    for i, task in ipairs(bpf_fixture.tasks) do
      local found = fixture.tasks[i]
      assert.equals(task.comm .. "\n", vm:read(("/proc/%d/comm"):format(found.pid)))
      assert.same({ shown(task.value.id), task.value.name }, { shown(number(found.id)), found.name })
    end
    assert.equals(fixture.program.pid, fixture.tasks[1].pid)
  end))

  it("has records in its ring buffer that nobody consumes", with_fixture(function()
    assert.equals(#bpf_fixture.records, #fixture.records)
    for i, record in ipairs(bpf_fixture.records) do
      local found = fixture.records[i]
      assert.same({ record.at, record.length, shown(record.id), record.text, record.discarded },
        { found.at, found.length, shown(number(found.id)), found.text, found.discarded })
    end
  end))

  it("has a list in its arena", with_fixture(function()
    if not fixture.maps.fx_arena then
      assert.is_nil(fixture.programs.fx_fill_arena)
      pending "this kernel has no arenas"
    end
    assert.equals(#bpf_fixture.nodes, #fixture.nodes)
    for i, node in ipairs(bpf_fixture.nodes) do
      local found = fixture.nodes[i]
      assert.same({ shown(node.address), node.index, shown(node.id) },
        { shown(number(found.address)), found.index, shown(number(found.id)) })
    end
  end))
end)

describe("the scheduler", function()
  it("schedules until it is told to end", with_fixture(function()
    local reason = bpf_fixture.no_scheduler(vm)
    if reason then
      pending(reason)
    end
    assert.equals("disabled", bpf_fixture.scheduler_state(vm))
    local scheduler = bpf_fixture.start_scheduler(vm)
    assert.equals(scheduler.name .. "\n", vm:read "/sys/kernel/sched_ext/root/ops")
    assert.equals(0, vm:exec({ "true", timeout = 120 }).status)
    local result = scheduler:stop()
    assert.equals("disabled", bpf_fixture.scheduler_state(vm))
    if result then
      assert.equals(0, result.status, result.stderr)
      assert.matches("unregistered from user space", result.stderr)
    end
  end))
end)

-- The last, since it takes the fixture away.
it("the fixture leaves nothing behind", with_fixture(function()
  assert.equals(0, fixture:stop().status)
  -- The kernel unloads in the background.
  local deadline = host.now() + 120
  local left
  repeat
    left = 0
    for _, what in ipairs { "map", "prog" } do
      for _, entry in ipairs(bpftool(what, "list")) do
        left = left + ((entry.name or ""):match "^fx_" and 1 or 0)
      end
    end
  until left == 0 or host.now() > deadline
  assert.equals(0, left)
end))
