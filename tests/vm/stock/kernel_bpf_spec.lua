-- BPF maps and programs as vm.k sees them: against what the fixture has put there, and bpftool's list.
local json = require "dkjson"
local bpf_fixture = require "tests.vm.bpf_fixture"
local kernel_guest = require "tests.vm.kernel_guest"

local missing = bpf_fixture.missing()
local guest, vm, k, fixture

setup(function()
  if not missing then
    guest = kernel_guest.boot { topology = "1n1l2c1t", files = bpf_fixture.files() }
    vm, k = guest.vm, guest.k
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
    vm:frozen(test)
  end
end

-- What an object, or a value, has of what is expected: a table of the same form.
local function same(expected, found, what)
  if type(expected) ~= "table" then
    assert.is_true(expected == found, ("%s: %s, not %s"):format(what, tostring(found), tostring(expected)))
    return
  end
  for name, value in pairs(expected) do
    -- Tables count from 1, arrays of the kernel from 0.
    local index = type(name) == "number" and name - 1 or name
    same(value, found[index], what .. "." .. tostring(index))
  end
end

local function key_of(map, key)
  return map == "fx_hash" and key.tag or key
end

describe("k:bpf_map", function()
  it("has the entries of each kind of map, typed", with_fixture(function()
    for name, elements in pairs(bpf_fixture.contents(fixture.cpus)) do
      local map = k:bpf_map(name)
      assert.equals(fixture.maps[name].id, map.id)
      local expected, count = {}, 0
      for _, element in ipairs(elements) do
        expected[key_of(name, element.key)] = element
      end
      for key, value in map:entries() do
        local element = expected[key_of(name, key)]
        assert.is_table(element, name .. " has no such key: " .. tostring(key))
        count = count + 1
        same(element.key, key, name .. "'s key")
        if element.values then
          for cpu = 0, fixture.cpus - 1 do
            same(element.values[cpu], value[cpu], name .. " on CPU " .. cpu)
          end
        else
          same(element.value, value, name)
        end
      end
      assert.equals(#elements, count, name)
    end
  end))

  it("looks one entry up", with_fixture(function()
    same(bpf_fixture.value("fx_array", 3), k:bpf_map("fx_array"):lookup(3), "fx_array[3]")
    same({ x = 2, y = -2 }, k:bpf_map("fx_lru"):lookup(4002), "fx_lru[4002]")
    assert.is_nil(k:bpf_map("fx_lru"):lookup(1))
  end))

  it("has the storage of tasks", with_fixture(function()
    local expected, count = {}, 0
    for i, task in ipairs(fixture.tasks) do
      expected[task.pid] = bpf_fixture.tasks[i]
    end
    for task, value in k:bpf_map("fx_task"):entries() do
      count = count + 1
      assert.equals(expected[task.pid].comm, task.comm)
      same(expected[task.pid].value, value, task.comm)
    end
    assert.equals(3, count)
  end))

  it("has what is in a ring buffer", with_fixture(function()
    local map = k:bpf_map "fx_ringbuf"
    local expected = {}
    for _, record in ipairs(bpf_fixture.records) do
      if not record.discarded then
        expected[#expected + 1] = record
      end
    end
    local i = 0
    -- The type of the records is not among the program's, where only a variable in a function has it; this
    -- one begins alike.
    for record in map:records "struct fx_value" do
      i = i + 1
      same({ id = expected[i].id, index = expected[i].number }, record, "record " .. i)
      assert.equals(expected[i].text, k:string(record:address_() + 16))
    end
    assert.equals(4, i)
    local bytes = map:records()()
    assert.equals(expected[1].length, #bytes)
    assert.equals("a\0", bytes:sub(17))
  end))

  it("has an arena's objects by the addresses that its program uses", with_fixture(function()
    if not fixture.maps.fx_arena then
      pending "this kernel has no arenas"
    end
    local map = k:bpf_map "fx_arena"
    local at = k:bpf_map("fixture.bss"):globals():member_("fx_arena_head")
    local address, count = k:u64(at:address_()), 0
    while address ~= 0 do
      local expected = bpf_fixture.nodes[count + 1]
      assert.is_true(expected.address == address)
      local node = map:arena("struct fx_node", address)
      same({ id = expected.id, index = expected.index }, node, "node " .. count)
      address = k:u64(node:member_("next"):address_())
      count = count + 1
    end
    assert.equals(#bpf_fixture.nodes, count)
    local ok, e = pcall(function()
      return map:arena("struct fx_node", 2 ^ 44 + 2 ^ 31).id
    end)
    assert.is_false(ok)
    assert.equals("unmapped", e.code)
  end))

  it("has globals by name", with_fixture(function()
    for section, expected in pairs(bpf_fixture.globals) do
      same(expected, k:bpf_map("fixture" .. section):globals(), section)
    end
    assert.equals(fixture.program.pid, k:bpf_map("fixture.bss"):globals().fx_pid)
  end))

  it("says what there is, and what cannot be", with_fixture(function()
    local function raised(f, ...)
      local ok, e = pcall(f, ...)
      assert.is_false(ok)
      return e
    end
    local e = raised(k.bpf_map, k, "no-such-map")
    assert.equals("not-found", e.code)
    assert.matches("there is no BPF map no%-such%-map; there are: .*fx_array %(%d+%)", tostring(e))
    assert.matches("map:records%(%) has what", tostring(raised(function()
      return k:bpf_map("fx_ringbuf"):entries()
    end)))
    assert.equals("unsupported", raised(function() return k:bpf_map("fx_hash"):globals() end).code)
    assert.equals("unsupported", raised(function() return k:bpf_map("fx_hash"):records() end).code)
    assert.equals("unsupported", raised(function() return k:bpf_map("fx_hash"):arena("u64", 0) end).code)
  end))
end)

describe("a program's globals", function()
  it("can be written, and the program goes on from there", function()
    if missing then
      pending(missing)
    end
    local counted = fixture:count()
    vm:frozen(function()
      local globals = k:bpf_map("fixture.bss"):globals()
      assert.equals(counted, globals.fx_counted)
      globals.fx_counted = 1000
    end)
    assert.equals(1001, fixture:count())
    -- Hot, too.
    k:bpf_map("fixture.bss"):globals().fx_counted = 2000
    assert.equals(2001, fixture:count())
  end)
end)

-- bpftool's lists by id.
local function told(what)
  local r = vm:exec { "bpftool", "-j", what, "list" }
  assert.same({ 0, "" }, { r.status, r.stderr })
  local found = {}
  for _, entry in ipairs((assert(json.decode(r.stdout)))) do
    found[entry.id] = entry
  end
  return found
end

local function count(set)
  local n = 0
  for _ in pairs(set) do
    n = n + 1
  end
  return n
end

describe("the lists", function()
  it("of maps are bpftool's", function()
    if missing then
      pending(missing)
    end
    local expected, seen = told "map", 0
    for map in k:bpf_maps() do
      local entry = expected[map.id]
      -- bpftool makes maps of its own while it looks.
      if entry then
        seen = seen + 1
        assert.same({ entry.name or "", entry.type, entry.bytes_key, entry.bytes_value, entry.max_entries },
          { map.name, map.type, map.key_size, map.value_size, map.max_entries })
      end
    end
    assert.is_true(seen >= count(fixture.maps) and seen >= count(expected) - 4,
      ("%d of %d"):format(seen, count(expected)))
  end)

  it("of programs are bpftool's, with the instructions that were verified", function()
    if missing then
      pending(missing)
    end
    local expected, seen = told "prog", 0
    for prog in k:bpf_progs() do
      local entry = expected[prog.id]
      if entry then
        seen = seen + 1
        local maps = {}
        for i, map in ipairs(prog:maps()) do
          maps[i] = map.id
        end
        table.sort(maps)
        table.sort(entry.map_ids or {})
        assert.same({ entry.name, entry.type, entry.tag, entry.bytes_jited, entry.map_ids or {} },
          { prog.name, prog.type, prog.tag, prog.jited_len, maps })
        assert.is_true(prog.verified_insns > 0)
        assert.matches("^BPF program %d+ '", tostring(prog))
      end
    end
    assert.is_true(seen >= count(fixture.programs), seen .. " programs")
    for name, one in pairs(fixture.programs) do
      assert.is_table(expected[one.id], name)
    end
  end)
end)
