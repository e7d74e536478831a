-- A stock kernel's memory made hostile: page tables that lead outside, pointers that lead anywhere, lists
-- that change under the walk. What comes of it is a value or an error of ktstr's, and it comes.
local ffi = require "ffi"
local bpf_fixture = require "tests.vm.bpf_fixture"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local kernel_guest = require "tests.vm.kernel_guest"

local guest, vm, k

setup(function()
  local no_bpf = bpf_fixture.missing()
  guest = kernel_guest.boot { topology = "1n1l2c1t", modules = { "vxlan" },
    files = not no_bpf and bpf_fixture.files() or nil }
  vm, k = guest.vm, guest.k
  if not no_bpf then
    bpf_fixture.start(vm)
  end
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

after_each(function()
  guest:stop_programs()
end)

local function word_of(value)
  return ffi.string(ffi.new("uint64_t[1]", value), 8)
end

-- Has a word of the frozen kernel be another one while f runs, and puts it back whatever happened.
local function with_word(place, value, f, ...)
  local before = k:read(place, 8)
  k:write(place, word_of(value))
  local ok, e = pcall(f, ...)
  k:write(place, before)
  if not ok then
    error(e, 0)
  end
end

local function refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "nothing was raised")
  assert(errors.is(e, code), ("expected '%s', found %s"):format(code, tostring(e)))
  return e
end

local ENOUGH = 5000 -- what is damaged may be long, too: garbage has no end

local function drain(next)
  local count = 0
  while next() do
    count = count + 1
    if count == ENOUGH then
      break
    end
  end
  return count
end

-- Of BPF maps: those whose elements are walked.
local KINDS = { array = true, percpu_array = true, hash = true, percpu_hash = true, lru_hash = true,
  task_storage = true, ringbuf = true }

-- All of these read what is not theirs to trust.
local WALKS = {
  tasks = function()
    return drain(k:tasks())
  end,
  children = function()
    local task = k:task(1)
    return task and drain(k:children(task))
  end,
  modules = function()
    return drain(k:modules())
  end,
  symbols = function()
    return #k:symbols "vxlan_init_net"
  end,
  cgroups = function()
    return drain(k:cgroups())
  end,
  mappings = function()
    local task = k:task(1)
    return task and task.mm ~= k.null and drain(k:maple(task.mm:member_ "mm_mt", "struct vm_area_struct"))
  end,
  entities = function()
    return drain(k:cfs_entities(k:per_cpu("runqueues", 0)))
  end,
  maps = function()
    return drain(k:bpf_maps())
  end,
  programs = function()
    return drain(k:bpf_progs())
  end,
  elements = function()
    local count = 0
    for map in k:bpf_maps() do
      if KINDS[map.type] then
        count = count + drain(map:entries())
      end
    end
    return count
  end,
  log = function()
    return drain(k:printk_records())
  end,
  stack = function()
    local task = k:task(2)
    return task and #k:backtrace(task)
  end,
}

describe("page tables that lead outside of the memory", function()
  local ADDRESS, OUTSIDE = 0x000ffffffffff000ULL, 0x000ff00000000000ULL
  local LARGE, PRESENT = 0x80ULL, 1ULL
  local ENDED = { "level 1 (PTE)", "level 2 (PMD)", "level 3 (PUD)", "level 4 (PGD)" }

  -- Entries on the way to an address, from the top on: where each lies in the direct map.
  local function entries_to(place)
    local direct = k:pointer(k:symbol "page_offset_base")
    local found, table = {}, k:symbol "init_top_pgt"
    for level = 4, 1, -1 do
      local index = tonumber(bit.band(bit.rshift(place, 12 + 9 * (level - 1)), 511ULL))
      local at = table + index * 8
      local entry = k:pointer(at).value_
      found[#found + 1] = { level = level, place = at, value = entry }
      if bit.band(entry, LARGE) ~= 0ULL and level < 4 then
        break
      end
      table = direct + bit.band(entry, ADDRESS)
    end
    return found
  end

  it("are an error with the address and the level, at each level", function()
    vm:frozen(function()
      local stack = k:task(1).stack -- in memory that only page tables lead to
      local expected = k:u64(stack)
      local entries = entries_to(stack.value_)
      assert.equals(4, #entries)
      for _, entry in ipairs(entries) do
        local function seen()
          return k:u64(stack)
        end
        local outside = bit.bor(bit.band(entry.value, bit.bnot(ADDRESS)), OUTSIDE)
        local absent = bit.band(entry.value, bit.bnot(PRESENT))
        -- The table that is outside is that of the next level, or the page itself.
        local ends = { [outside] = ENDED[entry.level - 1] or "where the guest has no memory",
          [0ULL] = ENDED[entry.level], [absent] = ENDED[entry.level] }
        for value, where in pairs(ends) do
          with_word(entry.place, value, function()
            local e = refused("unmapped", seen)
            assert.matches(tostring(stack), e.message, 1, true)
            assert.matches(where, e.message, 1, true)
          end)
        end
        assert.equals(expected, k:u64(stack))
      end
    end)
  end)

  it("or in a circle give an end, whatever it is", function()
    vm:frozen(function()
      local stack = k:task(1).stack
      for _, entry in ipairs(entries_to(stack.value_)) do
        local own = bit.bor(bit.band(entry.value, bit.bnot(ADDRESS)), k:phys(k:symbol "init_top_pgt"))
        with_word(entry.place, own, function()
          local ok, e = pcall(k.u64, k, stack)
          assert(ok or errors.is(e, "unmapped"), tostring(e))
        end)
      end
    end)
  end)
end)

describe("pointers that lead anywhere", function()
  local STRUCTS = { hash = "struct bpf_htab", percpu_hash = "struct bpf_htab", array = "struct bpf_array",
    ringbuf = "struct bpf_ringbuf_map", task_storage = "struct bpf_local_storage_map" }

  -- The first map of a kind; anything else where there is none.
  local function map_of(kind)
    for map in k:bpf_maps() do
      if map.type == kind then
        return map.object:cast_(STRUCTS[kind])
      end
    end
    return k:var "init_task"
  end

  -- Members that the walks go by, of what object; kernels have most of them.
  local MEMBERS = {
    { function() return k:var "init_task" end, "tasks.next", "children.next", "thread_pid", "signal" },
    { function() return k:task(1) end, "tasks.next", "tasks.prev", "children.next", "sibling.next", "mm",
      "comm", "cgroups", "real_parent", "nsproxy", "signal" },
    { function() return k:task(2) end, "tasks.next", "children.next", "stack", "thread.sp", "sched_class" },
    { function() return k:task(1).mm end, "mm_mt.ma_root", "pgd" },
    { function() return k:modules()() end, "list.next", "kallsyms", "core_kallsyms.symtab",
      "core_kallsyms.num_symtab", "core_kallsyms.strtab", "core_kallsyms.typetab", "name", "mem[0].base" },
    { function() return k:per_cpu("runqueues", 0) end, "curr", "idle", "cfs.tasks_timeline.rb_root.rb_node",
      "cfs.tasks_timeline.rb_leftmost", "cfs.curr" },
    { function() return k:var "prb" end, "desc_ring.descs", "desc_ring.infos", "desc_ring.count_bits",
      "desc_ring.head_id", "desc_ring.tail_id", "text_data_ring.data", "text_data_ring.size_bits" },
    { function() return map_of "hash" end, "map.btf", "map.max_entries", "map.key_size", "map.value_size",
      "map.map_type", "buckets", "elems", "n_buckets", "elem_size" },
    { function() return map_of "percpu_hash" end, "buckets", "elem_size" },
    { function() return map_of "array" end, "map.btf", "map.max_entries", "elem_size" },
    { function() return map_of "ringbuf" end, "rb" },
    { function() return map_of "task_storage" end, "map.btf", "buckets" },
    { function() return k:var "prog_idr" end, "idr_rt.xa_head" },
    { function() return k:var "map_idr" end, "idr_rt.xa_head", "idr_base" },
    { function() return k:var("init_pid_ns", "struct pid_namespace") end, "idr.idr_rt.xa_head" },
    { function() return k:var "cgrp_dfl_root" end, "cgrp.self.children.next", "cgrp.kn",
      "cgrp.self.sibling.next" },
    { function() return k:object("struct list_head", k:symbol "modules") end, "next" },
    { function() return k:object("struct list_head", k:symbol "bpf_kallsyms") end, "next" },
    { function() return k:object("struct list_head", k:symbol "ftrace_mod_maps") end, "next" },
    { function() return k:object("struct list_head", k:symbol "ftrace_ops_trampoline_list") end, "next" },
  }

  -- Words that the walks read: their places.
  local function words()
    local places = {}
    for _, one in ipairs(MEMBERS) do
      local object = one[1]()
      for i = 2, #one do
        if object:has_(one[i]) then
          local place = object:member_(one[i]):address_()
          places[#places + 1] = place.value_ % 8 == 0ULL and place or place - tonumber(place.value_ % 8)
        end
      end
    end
    return places
  end

  -- What is put there.
  local HOSTILE = {
    function() return 0ULL end,
    function(place) return place.value_ end, -- to itself
    function() return 0xdead000000000100ULL end,
    function() return 0x4141414141414141ULL end,
    function() return -8ULL end,
    function() return 1ULL end,
    function() return -1ULL end,
    function(_, places) return places[math.random(#places)].value_ end,
    function() return k:symbol "_text".value_ + math.random(0x10000) end,
    function() return k:pointer(k:symbol "page_offset_base").value_ + math.random(2 ^ 26) end,
  }
  local function try(rounds)
    local seed = math.floor(host.now() * 1000) % 2 ^ 31
    math.randomseed(seed)
    local before, failed = vm:frozen(WALKS.modules), 0
    for round = 1, rounds do
      vm:frozen(function()
        local places = words()
        local place = places[math.random(#places)]
        local value = HOSTILE[math.random(#HOSTILE)](place, places)
        with_word(place, value, function()
          for name, walk in pairs(WALKS) do
            local ok, e = pcall(walk)
            assert(ok or errors.is(e), ("seed %d, round %d, %s, %s at %s: %s"):format(seed, round, name,
              bit.tohex(value), tostring(place), tostring(e)))
            failed = failed + (ok and 0 or 1)
          end
        end)
      end)
    end
    assert.is_true(failed > 0, "seed " .. seed)
    assert.equals(before, vm:frozen(WALKS.modules))
    assert.is_true(vm:frozen(WALKS.tasks) > 40)
  end

  it("end each walk with a value or an error, and the next one sees the kernel as it was #slow", function()
    try(40)
  end)

  it("do so a thousand times #slow", function()
    try(1000)
  end)
end)

describe("lists that change under the walk", function()
  -- What a walk of a running kernel may raise.
  local MAY = { format = true, unmapped = true, null = true, ["not-found"] = true }

  it("end it with a value or an error", function()
    guest:spawn { "sh", "-c", "while :; do (:); done", cpus = "0" }
    guest:spawn { "sh", "-c", "ko=$(find /lib/modules -name 'vxlan.ko*'); "
      .. "while :; do rmmod vxlan; insmod $ko; done", cpus = "1" }
    local good = {}
    for _ = 1, 30 do
      for _, name in ipairs { "tasks", "modules", "symbols", "children" } do
        local ok, e = pcall(WALKS[name])
        assert(ok or errors.is(e) and MAY[e.code], tostring(e))
        good[name] = (good[name] or 0) + (ok and 1 or 0)
      end
    end
    assert.is_true(good.tasks > 0 and good.modules > 0)
  end)
end)
