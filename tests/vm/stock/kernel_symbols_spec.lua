-- Every symbol that the guest's own /proc/kallsyms prints has the same address here: the image's, those of
-- modules, of BPF programs, of ftrace and of kprobes.
local bpf_fixture = require "tests.vm.bpf_fixture"
local kallsyms = require "tests.vm.kallsyms"
local kernel_guest = require "tests.vm.kernel_guest"
local kernel_view = require "tests.vm.kernel_view"

local NAMES = 300 -- of the image, that are looked up by name and by address
local IMAGE = "ffffffff80000000" -- below are per-CPU symbols, before 7.x

-- A sequence that is the same in every run: what it chooses only has to be spread.
local function sequence()
  local state = 1
  local function next()
    state = (state * 1103515245 + 12345) % 2 ^ 31
    return math.floor(state / 2 ^ 16)
  end
  return function(n)
    return (next() * 2 ^ 15 + next()) % n
  end
end

local function shown(name, offset, module)
  return name .. (offset == 0 and "" or ("+0x%x"):format(offset))
    .. (module and (" [%s]"):format(module) or "")
end

-- --- the image ---

local function check_image_name(k, text, at)
  local symbol = kallsyms.lines_below(text, bit.tohex(at))[1]
  local offset = tonumber(at - kernel_view.hex(symbol.digits))
  assert.equals(shown(symbol.name, offset), k:name(at))
end

local function is_line(text, digits, name)
  for _, line in ipairs(kallsyms.lines_below(text, digits)) do
    if line.digits == digits and line.name == name then
      return true
    end
  end
  return false
end

-- Each place that a name has here is one that the guest says, and this one is among them.
local function check_image_lookup(k, text, line)
  local found = false
  for _, symbol in ipairs(k:symbols(line.name)) do
    local digits = tostring(symbol.address):sub(3)
    found = found or digits == line.digits
    assert.is_true(symbol.module ~= nil or is_line(text, digits, line.name))
  end
  assert.is_true(found, line.name)
end

local function check_image(k)
  local text, random = kallsyms.image(k).text, sequence()
  for _ = 1, NAMES do
    local line = kallsyms.line_at(text, random(#text) + 1)
    if line.digits >= IMAGE and line.kind ~= "A" then
      local place = kernel_view.hex(line.digits)
      check_image_name(k, text, place)
      if place + 4096 < kernel_view.hex(kallsyms.line_at(text, #text).digits) then
        check_image_name(k, text, place + random(4096))
      end
      check_image_lookup(k, text, line)
    end
  end
end

-- --- the others ---

-- The names at the nearest place at or below an address, as k:name shows them.
local function names_at(symbols, at, module)
  local place, names = nil, {}
  for _, symbol in ipairs(symbols) do
    if symbol.place <= at and (not place or symbol.place > place) then
      place = symbol.place
    end
  end
  for _, symbol in ipairs(symbols) do
    if symbol.place == place then
      names[shown(symbol.name, tonumber(at - place), module)] = true
    end
  end
  return names
end

local function check_names(k, symbols, module)
  local random, step = sequence(), math.max(1, math.floor(#symbols / 60))
  for i = 1, #symbols, step do
    local place = symbols[i].place
    if bit.tohex(place) >= IMAGE then
      assert.is_true(names_at(symbols, place, module)[k:name(place)], ("%s: %s"):format(bit.tohex(place),
        k:name(place)))
      local at = place + random(64)
      local name = k:name(at)
      -- Behind the last one of a section there may be nothing.
      assert.is_true(name == nil or names_at(symbols, at, module)[name], ("%s: %s"):format(bit.tohex(at),
        name))
    end
  end
end

local function check_lookups(k, symbols)
  local places = {}
  for _, symbol in ipairs(symbols) do
    local all = places[symbol.name] or {}
    places[symbol.name] = all
    all[#all + 1] = bit.tohex(symbol.place)
  end
  for name, expected in pairs(places) do
    local seen = {}
    for _, symbol in ipairs(k:symbols(name)) do
      if symbol.module then
        seen[#seen + 1] = tostring(symbol.address):sub(3)
      end
    end
    table.sort(expected)
    assert.same(expected, seen) -- by address
  end
end

-- Modules' names are shown with the module's; those of what the kernel itself has made, without.
local function check_live(k, told)
  local by_module = {}
  for _, symbol in ipairs(told) do
    by_module[symbol.module] = by_module[symbol.module] or {}
    table.insert(by_module[symbol.module], symbol)
  end
  for module, symbols in pairs(by_module) do
    check_names(k, symbols, module ~= "bpf" and not module:find "^__builtin" and module or nil)
  end
  check_lookups(k, told)
end

local function compare_live(guest)
  local told, wrong = kallsyms.compare_live(guest)
  assert.same({}, wrong)
  return told
end

local function count(told, pattern)
  local n = 0
  for _, symbol in ipairs(told) do
    n = n + (symbol.name:find(pattern) and 1 or 0)
  end
  return n
end

-- The whole comparison.
local function compare(guest, with_bpf)
  local k = guest.k
  local told, wrong = kallsyms.compare(guest)
  assert.same({}, wrong)
  assert.is_true(count(told, "vxlan") > 100)
  assert.is_true(not with_bpf or count(told, "^bpf_prog_%x+_fx_") > 0)
  guest:frozen(function()
    check_image(k)
    check_live(k, told)
  end)
end

-- ftrace with a trampoline, a probe that needs a page for its instruction, and a module whose start-up
-- function ftrace keeps the name of.
local TRACING = [[
set -e
[ -e /sys/kernel/tracing/kprobe_events ] || mount -t tracefs none /sys/kernel/tracing
cd /sys/kernel/tracing
echo vfs_read >set_ftrace_filter
echo function >current_tracer
rmmod vxlan
insmod $(find /lib/modules -name 'vxlan.ko*' | head -n 1)
# Behind what ftrace would do itself: the first instruction that the probe is taken for.
at=9
until echo p:probe kernel_clone+$at >kprobe_events 2>/dev/null; do
  at=$((at + 1))
done
echo 1 >events/kprobes/probe/enable
]]

-- What takes long is done with one of them; with the other among what is slow.
local machines = {
  { topology = "1n1l1c1t", levels = 4, slow = { image = " #slow" } },
  { topology = "1n1l2c2t", levels = 5, la57 = true, slow = { tracing = " #slow", bpf = " #slow" } },
}

local function slow(m, what)
  return m.slow[what] or ""
end

for _, m in ipairs(machines) do
  describe(("the symbols of a kernel with %s and %d levels"):format(m.topology, m.levels), function()
    local guest, fixture
    local no_bpf = bpf_fixture.missing()

    setup(function()
      guest = kernel_guest.boot { topology = m.topology, la57 = m.la57, modules = { "vxlan" },
        files = not no_bpf and bpf_fixture.files() or nil }
      fixture = not no_bpf and bpf_fixture.start(guest.vm)
    end)

    teardown(function()
      if guest then
        guest.vm:kill()
      end
    end)

    it("are those of /proc/kallsyms", function()
      compare(guest, fixture)
      assert.equals(m.levels, guest.k._view.levels)
      assert.is_true(guest.k._view.slide ~= 0ULL)
    end)

    it("are those of /proc/kallsyms when it is started from an image" .. slow(m, "image"), function()
      local image = guest.vm:save()
      local ok, e = pcall(function()
        local fork = kernel_guest.of(image:boot { timeout = kernel_guest.TIMEOUT_S })
        local forked, wrong = pcall(compare, fork, fixture)
        fork.vm:kill()
        if not forked then
          error(wrong, 0)
        end
      end)
      image:close()
      if not ok then
        error(e, 0)
      end
    end)

    it("are those of ftrace, of kprobes and of modules' start, too" .. slow(m, "tracing"), function()
      guest:sh(TRACING)
      local told = compare_live(guest)
      assert.is_true(count(told, "^ftrace_trampoline$") > 0)
      assert.equals(1, count(told, "^kprobe_insn_page$"))
      -- Its memory has been given back: whatever is there now has the address.
      local there = {}
      for _, symbol in ipairs(told) do
        if symbol.name ~= "vxlan_init_module" then
          there[#there + 1] = symbol
        else
          assert.is_true(guest.k:symbol(symbol.name) == symbol.place)
        end
      end
      assert.equals(#told - 1, #there)
      guest:frozen(function()
        check_live(guest.k, there)
      end)
    end)

    it("are those of BPF programs only as long as these are there" .. slow(m, "bpf"), function()
      if no_bpf then
        pending(no_bpf)
        return
      end
      local names = {}
      for _, symbol in ipairs(compare_live(guest)) do
        if symbol.name:find "^bpf_prog_%x+_fx_" then
          names[#names + 1] = symbol.name
          assert.is_true(guest.k:symbol(symbol.name) == symbol.place)
        end
      end
      assert.is_true(#names > 0)
      fixture:stop()
      guest:eventually("the programs' end", function()
        for _, name in ipairs(names) do
          if #guest.k:symbols(name) > 0 then
            return false
          end
        end
        return true
      end)
      assert.equals(0, count(compare_live(guest), "^bpf_prog_%x+_fx_"))
    end)
  end)
end
