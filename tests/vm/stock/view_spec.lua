-- A stock kernel's memory by its own addresses, against what the guest itself says: its symbols, its files.
local ffi = require "ffi"
local ktstr = require "ktstr"
local kernel_view = require "tests.vm.kernel_view"
local tiny_guest = require "tests.vm.tiny_guest"

local TIMEOUT_S = 1800
local MSR_LSTAR = 0xc0000082
local USER_CS_RPL = 3 -- CS's low two bits
local CR3_ADDRESS = 0x000ffffffffff000ULL

local SYMBOLS = { "_text", "_sinittext", "_edata", "linux_banner", "linux_proc_banner", "init_top_pgt",
  "page_offset_base", "entry_SYSCALL_64", "modules", "this_cpu_off", "__per_cpu_offset", "panic_on_warn",
  "jiffies_64" }

local refused = tiny_guest.refused

local function u64(bytes)
  local word = ffi.new "uint64_t[1]"
  ffi.copy(word, bytes, 8)
  return word[0]
end

-- The view of a machine whose symbols are known, set up as whoever looks into a kernel does.
local function open(vm, symbols)
  local view = kernel_view.of(vm.machine)
  view:set_root(symbols.init_top_pgt)
  view:set_direct_map(view:word(symbols.page_offset_base))
  return view
end

-- Freezes until that CPU is in user mode and f(its tables' root) is true.
local function in_user_mode(vm, cpu, f)
  tiny_guest.wait_until(function()
    return vm:frozen(function()
      local sregs = select(2, vm.machine:regs(cpu))
      local cs = sregs:byte(13) -- its low half
      return cs % 4 == USER_CS_RPL and f(bit.band(u64(sregs:sub(241, 248)), CR3_ADDRESS))
    end)
  end)
end

-- What holds for every machine with these options, however it came about.
local function tests_of(get, levels)
  local vm, symbols, view

  before_each(function()
    vm, symbols, view = get()
  end)

  it("knows where the image is, and how many levels its tables have", function()
    assert.equals(levels, view.v.levels)
    assert.equals(symbols._text, view.v.ranges[0].start)
    assert.is_true(symbols._edata - symbols._text < view.v.ranges[0].size)
    assert.equals(0ULL, view.v.slide % 0x200000ULL)
  end)

  it("reads the banner that /proc/version shows, in the image, by the tables, in the direct map", function()
    local version = vm:read "/proc/version"
    local direct = view.v.ranges[1].start + view:place(symbols.linux_banner).gpa
    assert.equals(version, view:string(symbols.linux_banner))
    assert.equals(version, view:string(direct))
    assert.equals(version, view:string(symbols.linux_banner, view.v.root))
    assert.equals(version, view:string(direct, view.v.root))
  end)

  it("finds every page of the image, and a thousand of the direct map, where they should be", function()
    local shifts, absent, elsewhere = {}, 0, {} -- no assertion a page: they are tens of thousands
    local function compare(address)
      local ok, walked = pcall(view.place, view, address, true)
      if not ok then
        assert.equals("unmapped", walked.code)
        absent = absent + 1
        return false
      elseif view:place(address).gpa ~= walked.gpa then
        elsewhere[#elsewhere + 1] = bit.tohex(address)
      end
      shifts[tonumber(walked.page_shift)] = true
      return true
    end
    -- What only the boot needed may be unmapped, and the end is padding.
    for offset = 0, tonumber(symbols._edata - symbols._text) - 1, 4096 do
      local address = symbols._text + offset
      if not compare(address) then
        assert.is_true(address >= symbols._sinittext - 4096)
      end
    end
    local direct = view.v.ranges[1]
    absent = 0
    for i = 0, 999 do
      compare(direct.start + bit.band(direct.size / 1000ULL * i, bit.bnot(0xfffULL)))
    end
    assert.same({}, elsewhere)
    assert.is_true(absent < 100)
    assert.is_true(shifts[12] and shifts[21])
  end)

  it("reads each CPU's own memory", function()
    for cpu = 0, vm.topology.cpus - 1 do
      local offset = view:word(symbols.__per_cpu_offset + 8 * cpu)
      assert.equals(offset, view:word(symbols.this_cpu_off + offset))
    end
  end)

  it("reads a module's memory, which no range has", function()
    local first = view:word(symbols.modules) - 8 -- struct module: state, list, name
    assert.equals(vm:read("/proc/modules"):match "^%S+", view:string(first + 24))
    assert.equals(symbols.modules, view:word(first + 16)) -- the one before the first is the list's head
    assert.equals(12, tonumber(view:place(first).page_shift))
  end)

  it("reads a program's memory by its tables, and writes it", function()
    local cpu = vm.topology.cpus - 1
    local program = vm:spawn { "sh", "-c", "while :; do :; done", env = { MARK = "seen from outside" },
      cpus = tostring(cpu) }
    local stat = vm:read(("/proc/%d/stat"):format(program.pid))
    local fields = {}
    for field in stat:match "%) (.*)":gmatch "%S+" do
      fields[#fields + 1] = field
    end
    local first, last = tonumber(fields[50 - 2]), tonumber(fields[51 - 2]) -- env_start, env_end
    local environment = vm:read(("/proc/%d/environ"):format(program.pid))
    assert.equals(last - first, #environment)
    in_user_mode(vm, cpu, function(root)
      -- Another program may have the CPU: it has no such memory, or not that in it.
      local ok, seen = pcall(view.bytes, view, first, #environment, root)
      if not ok or seen ~= environment then
        return false
      end
      assert.equals(12, tonumber(view:place(first, false, root).page_shift))
      refused("unmapped", view.place, view, first)
      view:write(first + environment:find "from" - 1, "FROM", root)
      return true
    end)
    assert.equals((environment:gsub("from", "FROM", 1)), vm:read(("/proc/%d/environ"):format(program.pid)))
    program:kill()
    program:wait()
  end)

  it("has the address of the system calls' entry in each CPU", function()
    vm:frozen(function()
      for cpu = 0, vm.topology.cpus - 1 do
        assert.equals(symbols.entry_SYSCALL_64, u64(vm.machine:msr(cpu, MSR_LSTAR)))
      end
    end)
  end)

  it("sees time pass in a running guest, and stand in a frozen one", function()
    local before = view:word(symbols.jiffies_64)
    tiny_guest.wait_until(function()
      return view:word(symbols.jiffies_64) > before
    end)
    vm:frozen(function()
      local now, moved = view:word(symbols.jiffies_64), 0
      for _ = 1, 1000 do
        moved = moved + (view:word(symbols.jiffies_64) == now and 0 or 1)
      end
      assert.equals(0, moved)
    end)
  end)

  it("writes what the guest reads: its data, and pages that are still the kernel file's", function()
    local function panic_on_warn()
      return vm:read "/proc/sys/kernel/panic_on_warn"
    end
    assert.equals("0\n", panic_on_warn())
    view:set_word(symbols.panic_on_warn, 4, 1)
    assert.equals("1\n", panic_on_warn())
    vm:frozen(function()
      view:set_word(symbols.panic_on_warn, 4, 0)
    end)
    assert.equals("0\n", panic_on_warn())

    local version = vm:read "/proc/version"
    local format = view:string(symbols.linux_proc_banner)
    local at = symbols.linux_proc_banner + format:find "%(" -- behind it: who built it
    local before = view:bytes(at, 6)
    view:write(at, "nobody")
    assert.equals((version:gsub("%(......", "(nobody", 1)), vm:read "/proc/version")
    view:write(at, before)
    assert.equals(version, vm:read "/proc/version")
  end)

  it("says where a walk ended", function()
    local e = refused("unmapped", view.word, view, 0x10)
    assert.equals(("0x10 is not mapped: the walk ended at level %d (PGD), entry 0x0"):format(levels),
      e.message)
    e = refused("unmapped", view.word, view, 0x8000000000000000ULL)
    assert.matches("with " .. levels .. " levels of paging it is no address", e.message)
    e = refused("unmapped", view.word, view, symbols._text - 0x200000)
    assert.matches("ended at level %d %(P..%)", e.message)
    e = refused("unmapped", view.set_direct_map, view, view.v.ranges[1].start + 0x40000000ULL)
    assert.matches("as the direct map's start", e.message)
    refused("unmapped", view.set_root, view, symbols._text)
  end)
end

local machines = {
  { topology = "1n1l1c1t", levels = 4 },
  { topology = "1n1l2c2t", levels = 5, la57 = true },
}

for _, m in ipairs(machines) do
  describe(("the view of a kernel with %s and %d levels of paging"):format(m.topology, m.levels), function()
    local vm, symbols, view

    setup(function()
      vm = ktstr.boot { topology = m.topology, la57 = m.la57, modules = { "vxlan" },
        timeout = TIMEOUT_S }
      symbols = kernel_view.addresses(vm, SYMBOLS)
      view = open(vm, symbols)
    end)

    teardown(function()
      if vm then
        vm:kill()
      end
    end)

    describe("as it was booted", function()
      tests_of(function()
        return vm, symbols, view
      end, m.levels)
    end)

    describe("as it is started from an image", function()
      local image, fork, fork_view

      setup(function()
        image = vm:save()
        fork = image:boot { timeout = TIMEOUT_S }
        fork_view = open(fork, symbols) -- the same kernel in the same place
      end)

      teardown(function()
        if fork then
          fork:kill()
        end
        if image then
          image:close()
        end
      end)

      tests_of(function()
        return fork, symbols, fork_view
      end, m.levels)

      it("is another memory than that it was saved from", function()
        assert.equals(view.v.slide, fork_view.v.slide)
        fork_view:set_word(symbols.panic_on_warn, 4, 1)
        assert.equals("0\n", vm:read "/proc/sys/kernel/panic_on_warn")
        assert.equals("1\n", fork:read "/proc/sys/kernel/panic_on_warn")
      end)
    end)
  end)
end
