-- Symbols from a kernel's own lists, over lists made by hand: what is found, and what damage does.
local btf = require "tests.lua.btf"
local fake_kernel = require "tests.lua.fake_kernel"
local errors = require "ktstr.errors"
local live = require "ktstr.kernel.live"
local types = require "ktstr.kernel.types"

local DIRECT, IMAGE = fake_kernel.DIRECT, fake_kernel.IMAGE
local MODULES, PROGRAMS = IMAGE + 0x3000, IMAGE + 0x3010 -- heads of lists
local MODULE, SECOND, PROGRAM = DIRECT + 0x1000, DIRECT + 0x2000, DIRECT + 0x3000
local TEXT, DATA, SECOND_TEXT, CODE = 0xffffffffc0000000ULL, 0xffffffffc0010000ULL, 0xffffffffc0020000ULL,
  0xffffffffc0030000ULL

local DATA_OF_MODULE = DIRECT + 0x8000 -- where there is memory

-- Members by name to where they are in a module and a program.
local STATE, LIST, NAME, KALLSYMS, MEM = 0, 8, 24, 80, 96
local START, END, PROGRAM_NAME, LNODE = 0, 8, 16, 48

local function refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "nothing was raised")
  assert(errors.is(e), "not an error of ktstr's: " .. tostring(e))
  assert(e.code == code, ("expected '%s', found '%s': %s"):format(code, e.code, e.message))
  return e
end

local function make_types()
  local b = btf.new()
  local u32, u64, char = b:int("unsigned int", 4), b:int("unsigned long", 8), b:int("char", 1, "signed")
  b.index = u32
  local void, text = b:pointer(0), b:pointer(char)
  local node = b.count + 1
  b:struct("list_head", 16, { { "next", node + 1, 0 }, { "prev", node + 1, 64 } })
  b:pointer(node)
  local state = b:enum("module_state", 4, { { "MODULE_STATE_LIVE", 0 }, { "MODULE_STATE_UNFORMED", 3 } })
  local tables = b:pointer(b:struct("mod_kallsyms", 32, { { "symtab", void, 0 }, { "num_symtab", u32, 64 },
    { "strtab", text, 128 }, { "typetab", text, 192 } }))
  local memory = b:array(b:struct("module_memory", 16, { { "base", void, 0 }, { "size", u32, 64 } }), 2)
  local name = b:array(char, 56)
  b:struct("module", 128, { { "state", state, STATE * 8 }, { "list", node, LIST * 8 },
    { "name", name, NAME * 8 }, { "kallsyms", tables, KALLSYMS * 8 }, { "mem", memory, MEM * 8 } })
  b:struct("bpf_ksym", 64, { { "start", u64, START * 8 }, { "end", u64, END * 8 },
    { "name", b:array(char, 32), PROGRAM_NAME * 8 }, { "lnode", node, LNODE * 8 } })
  return types.from_blob(b:blob())
end

describe("symbols that no image has", function()
  local fake, k

  local function put(place, ...)
    for i, word in ipairs { ... } do
      fake:put(place + (i - 1) * 8, "uint64_t", word)
    end
  end

  -- A circle of these nodes.
  local function link(...)
    local nodes = { ... }
    for i, node in ipairs(nodes) do
      put(node, nodes[i % #nodes + 1])
    end
  end

  -- symbols: { name, kind, address, section }
  local function put_module(at, name, ranges, symbols)
    local kallsyms, symtab, strtab, typetab = at + 0x100, at + 0x200, at + 0x800, at + 0xc00
    fake:put(at + STATE, "uint32_t", 0)
    fake:put_string(at + NAME, name .. "\0")
    put(at + KALLSYMS, kallsyms)
    put(at + MEM, ranges[1], 0x1000, ranges[2] or 0, ranges[2] and 0x1000 or 0)
    put(kallsyms, symtab, #symbols + 1, strtab, typetab)
    put(symtab, 0, 0, 0)
    fake:put_string(strtab, "\0")
    fake:put_string(typetab, "?")
    local used = 1
    for i, symbol in ipairs(symbols) do
      local one = symtab + 24 * i
      fake:put(one, "uint32_t", used)
      fake:put(one + 6, "uint16_t", symbol[4] or 1)
      put(one + 8, symbol[3], 0)
      fake:put_string(strtab + used, symbol[1] .. "\0")
      fake:put_string(typetab + i, symbol[2])
      used = used + #symbol[1] + 1
    end
  end

  before_each(function()
    fake = fake_kernel.new()
    k = fake.k
    k._image.types = make_types()
    for name, place in pairs { modules = MODULES, bpf_kallsyms = PROGRAMS } do
      table.insert(k._image.symbols, { name = name, address = place - fake_kernel.SLIDE, kind = "d",
        moves = true })
    end
    put_module(MODULE, "one", { TEXT, DATA }, {
      { "run", "t", TEXT + 0x100 }, { "start", "T", TEXT }, { "other", "U", 0ULL, 0 },
      { "table", "d", DATA + 0x10 }, { "alias", "d", DATA + 0x10 }, { "", "t", TEXT + 0x50 },
    })
    put_module(SECOND, "two", { SECOND_TEXT }, { { "run", "t", SECOND_TEXT + 8 } })
    link(MODULES, MODULE + LIST, SECOND + LIST)
    put(PROGRAM, CODE, CODE + 0x40)
    fake:put_string(PROGRAM + PROGRAM_NAME, "bpf_prog_0123456789abcdef_f\0")
    link(PROGRAMS, PROGRAM + LNODE)
  end)

  it("are listed as /proc/kallsyms does it", function()
    local list = {}
    for _, symbol in ipairs(live.symbols(k).list) do
      list[#list + 1] = ("%s %s %s [%s]"):format(bit.tohex(symbol.address), symbol.kind, symbol.name,
        symbol.module)
    end
    assert.same({
      "ffffffffc0000100 t run [one]", "ffffffffc0000000 t start [one]", "0000000000000000 u other [one]",
      "ffffffffc0010010 d table [one]", "ffffffffc0010010 d alias [one]", "ffffffffc0020008 t run [two]",
      "ffffffffc0030000 t bpf_prog_0123456789abcdef_f [bpf]",
    }, list)
  end)

  it("are found by name, where the image has none", function()
    assert.is_true(k:symbol "start" == TEXT)
    assert.is_true(k:symbol "bpf_prog_0123456789abcdef_f" == CODE)
    assert.matches("0xffffffffc0000100 (t, one), 0xffffffffc0020008 (t, two)",
      refused("ambiguous", k.symbol, k, "run").message, 1, true)
    local all = k:symbols "run"
    assert.equal(2, #all)
    assert.is_true(all[2].address == SECOND_TEXT + 8)
    assert.equal("two", all[2].module)
    refused("not-found", k.symbol, k, "stop")

    put_module(SECOND, "two", { SECOND_TEXT }, { { "schedule", "t", SECOND_TEXT + 8 } })
    fake:thaw()
    assert.is_true(k:symbol "schedule" == IMAGE + 0x100)
    assert.equal(2, #k:symbols "schedule")
  end)

  it("are found by address, each within what is its module's or program's", function()
    for place, name in pairs {
      [TEXT] = "start [one]", [TEXT + 0xff] = "start+0xff [one]", [TEXT + 0xfff] = "run+0xeff [one]",
      [DATA + 0x18] = "table+0x8 [one]", [SECOND_TEXT + 8] = "run [two]",
      [CODE + 0x3f] = "bpf_prog_0123456789abcdef_f+0x3f",
    } do
      assert.equal(name, k:name(place))
    end
    for _, place in ipairs { TEXT - 1, TEXT + 0x1000, DATA, SECOND_TEXT + 7, CODE + 0x40, CODE - 1 } do
      assert.is_nil(k:name(place))
    end
  end)

  it("are looked up anew when the machine has run, and where it runs", function()
    assert.equal("start [one]", k:name(TEXT))
    fake:thaw()
    link(MODULES, SECOND + LIST)
    assert.is_nil(k:name(TEXT))
    link(MODULES, MODULE + LIST)
    assert.equal("start [one]", k:name(TEXT))
    -- Another module, in the same place.
    put_module(MODULE, "six", { TEXT }, { { "begin", "t", TEXT } })
    assert.equal("begin [six]", k:name(TEXT))
    fake:freeze()
    assert.equal("begin [six]", k:name(TEXT))
    fake:thaw()
    fake:put_string(MODULE + 0x800 + 1, "began")
    assert.equal("began [six]", k:name(TEXT))
  end)

  it("and are per-CPU are not read as if they were the image's data that lies there", function()
    k._area.start, k._area.size = IMAGE + 0x5000, 0x1000
    put_module(SECOND, "two", { SECOND_TEXT }, { { "count", "d", IMAGE + 0x5100 } })
    for _, place in ipairs { k:symbol "count", k:symbols("count")[1].address } do
      refused("per-cpu", k.u32, k, place)
    end
    refused("per-cpu", k.var, k, "count", "unsigned int")
    refused("per-cpu", k.set_var, k, "count", 1, "unsigned int")
    fake:put(DATA_OF_MODULE, "uint32_t", 7)
    put_module(SECOND, "two", { SECOND_TEXT }, { { "plain", "d", DATA_OF_MODULE } })
    fake:thaw()
    assert.equal(7, k:u32(k:symbol "plain"))
    assert.equal(7, k:var("plain", "unsigned int"))
  end)

  it("of a module that is not there yet are left out", function()
    fake:put(MODULE + STATE, "uint32_t", 3)
    put(SECOND + KALLSYMS, 0)
    assert.equal(1, #live.symbols(k).list)
  end)

  it("are none in a kernel without such lists, or without types", function()
    k._image.types = nil
    assert.same({}, k:symbols "start")
    assert.equal(1, #k:symbols "schedule")
    assert.same({}, live.symbols(fake_kernel.new().k).list)
  end)

  it("are an error where the lists are damaged", function()
    local kallsyms = MODULE + 0x100
    local damages = {
      { "format", MODULE + LIST, MODULE + LIST }, -- a circle without its head
      { "unmapped", MODULE + LIST, 0xdead000000000100ULL },
      { "format", MODULE + LIST, 0 },
      { "unmapped", MODULE + KALLSYMS, 0xffffc90000000000ULL },
      { "format", kallsyms + 8, 0xffffffff }, -- so many symbols
      { "unmapped", kallsyms + 8, 2 ^ 19 },
      { "unmapped", kallsyms, 0x10 },
      { "unmapped", kallsyms + 16, DIRECT + fake_kernel.DIRECT_SIZE },
      { "unmapped", kallsyms + 24, DIRECT - 1 },
      { "format", MODULE + 0x200 + 24, 0xffffffff }, -- a name so far away
      { "unmapped", MODULE + 0x200 + 24, 2 ^ 24 },
      { "unmapped", PROGRAM + LNODE, 0x8000000000000000ULL },
    }
    for i, damage in ipairs(damages) do
      local code, place, word = unpack(damage)
      local before = fake:peek(place, "uint64_t")
      put(place, word)
      for _, is_frozen in ipairs { true, false } do
        fake:thaw() -- what was found before is forgotten
        if is_frozen then
          fake:freeze()
        end
        for _, f in ipairs { k.symbols, k.symbol } do
          local ok, e = pcall(f, k, "start")
          assert(not ok and errors.is(e, code), ("%d: %s"):format(i, tostring(e)))
        end
        assert.is_false(pcall(k.name, k, TEXT))
        assert.equal("schedule", k:name(IMAGE + 0x100)) -- which asks no list
      end
      put(place, before)
      fake:thaw()
      fake:freeze()
      assert.is_true(k:symbol "start" == TEXT)
    end
  end)
end)
