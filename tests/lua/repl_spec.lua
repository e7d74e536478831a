-- The prompt without a terminal and without a machine: parsing, showing, completing, commands, history.
local conversation = require "tests.lua.conversation"
local sandbox = require "tests.lua.sandbox"
local support = require "tests.lua.support"

local core, load = support.library()
local commands = load "ktstr.repl.commands"
local complete = load "ktstr.repl.complete"
local errors = load "ktstr.errors"
local evaluate = load "ktstr.repl.evaluate"
local files = load "ktstr.files"
local history = load "ktstr.repl.history"
local session = load "ktstr.repl.session"
local show = load "ktstr.repl.show"

-- A machine as the prompt sees it.
local function fake_vm()
  local vm = { frozen = false, log = {} }
  vm.channel = {
    pump = function()
      return false
    end,
  }
  function vm:_check_alive(doing)
    if self.dead then
      errors.raise("ended", "the machine ended while " .. doing)
    end
  end
  function vm:freeze()
    self.frozen = true
  end
  function vm:thaw()
    if not self.frozen then
      errors.raise("running", "the machine is not frozen", "vm:freeze() first")
    end
    self.frozen = false
  end
  function vm:is_frozen()
    return self.frozen
  end
  function vm:regs(cpu)
    return setmetatable({ rip = 0x1234 + cpu }, {
      __tostring = function()
        return "registers of " .. cpu
      end,
    })
  end
  function vm:step(cpu, n)
    self.log[#self.log + 1] = { cpu, n }
    return n
  end
  function vm:console()
    return "one\r\ntwo\27[2J\nthree\n"
  end
  return vm
end

-- Evaluates lines; what was shown, what was complained about, the prompts, the session.
local function converse(lines, env)
  return conversation.hold(session, lines, env or setmetatable({ vm = fake_vm() }, { __index = _G }))
end

describe("what is typed", function()
  it("is shown when it is an expression, with = or without", function()
    assert.equals("2\n", (converse { "1+1" }))
    assert.equals("2\n", (converse { "= 1+1" }))
    assert.equals("1, nil, \"x\", nil\n", (converse { "1, nil, 'x', nil" }))
    assert.equals("nil\n", (converse { "undefined_name" }))
  end)

  it("shows nothing when it has no value", function()
    local out, err = converse { "x = 5", "local y = 1", "(function() end)()", "", "  ", "-- words" }
    assert.same({ "", "" }, { out, err })
  end)

  it("sets globals that later lines see, and no locals", function()
    assert.equals("5\nnil\n", (converse { "x = 5", "local y = 6", "x", "y" }))
  end)

  it("goes on at the next prompt until it is complete", function()
    local out, err, prompts = converse { "for i = 1, 2 do", "s = (s or '') .. i", "end", "s" }
    assert.same({ '"12"\n', "" }, { out, err })
    assert.same({ "ktstr> ", "   ...> ", "   ...> ", "ktstr> ", "ktstr> " }, prompts)
    local open = { "f(", "{", "x =", "if true then", "[[text", "1 +", "function f()", "= 1 +", "'a\\" }
    for _, text in ipairs(open) do
      local chunk, message = evaluate.parse(text, _G)
      assert.is_nil(chunk, text)
      assert.is_nil(message, text)
    end
  end)

  it("is complained about when nothing can complete it", function()
    for _, text in ipairs { "x = = 1", ")", "'abc", "foo bar", "= =", "return return" } do
      local chunk, message = evaluate.parse(text, _G)
      assert.is_nil(chunk)
      assert.matches("^prompt:1: ", message)
    end
    local _, err, _, one = converse { "x = = 1" }
    assert.matches("unexpected symbol near '='", err)
    assert.is_true(one.failed)
  end)

  it("that ends in the middle has failed", function()
    local _, err, _, one = converse { "for i = 1, 2 do" }
    assert.matches("the input ended in the middle of a statement", err)
    assert.is_true(one.failed)
  end)

  it("that raises shows where, and the session goes on", function()
    local out, err = converse { "local function f() error 'boo' end f()", "1" }
    assert.equals("1\n", out)
    assert.matches("^prompt:1: boo\nstack traceback:\n", err)
    assert.matches("prompt:1: in main chunk\n$", err)
  end)

  it("that calls what raises shows the line, as an expression too", function()
    assert.matches("^prompt:1: boo\n", (select(2, converse { "error 'boo'" })))
    assert.equals("1, 2\n1\n", (converse { "1, 2 -- words", "1;" }))
  end)

  it("that raises one of ktstr's errors shows message and hint", function()
    local _, err = converse { "vm:thaw()" }
    assert.equals("the machine is not frozen; vm:freeze() first\n", err)
  end)

  it("that raises something else shows that", function()
    assert.matches("^{ 1, 2 }\n", (select(2, converse { "error { 1, 2 }" })))
    assert.matches("^nil\n", (select(2, converse { "error()" })))
  end)

  it("is never compiled, nor is what it defines #compiled", function()
    local chunk = evaluate.parse("local n = 0 for i = 1, 1000 do n = n + i end return jit.util and n", _G)
    local compiled = {}
    local function watch(what)
      compiled[#compiled + 1] = what
    end
    jit.attach(watch, "trace")
    chunk()
    jit.attach(watch)
    assert.same({}, compiled)
  end)
end)

describe("a value", function()
  it("is shown as Lua would read it", function()
    assert.equals("42", show.value(42))
    assert.equals("0.1", show.value(0.1))
    assert.equals('"a\\n\\"b\\"\\x01"', show.value 'a\n"b"\1')
    assert.equals('{ 1, 2, ["a b"] = true, ["end"] = 1, nil_is_not = "shown" }',
      show.value { 1, 2, nil_is_not = "shown", ["a b"] = true, ["end"] = 1 })
    assert.equals("{}", show.value {})
    assert.equals("5ULL", show.value(5ULL))
    assert.equals("0xffffffff81000000ULL", show.value(0xffffffff81000000ULL))
    assert.equals("-5LL", show.value(-5LL))
  end)

  it("has its keys in order: numbers, names, the rest", function()
    assert.equals('{ "a", [-1] = 0, [2.5] = 0, [10] = 0, a = 0, b = 0, [<boolean>] = 0 }',
      show.value { "a", [10] = 0, [2.5] = 0, [-1] = 0, b = 0, a = 0, [true] = 0 })
  end)

  it("takes several lines when it does not fit on one", function()
    local list = {}
    for i = 1, 30 do
      list[i] = ("element %d"):format(i)
    end
    local text = show.value { list = list, x = 1 }
    assert.matches('^{\n  list = {\n    "element 1",\n', text)
    assert.matches('    "element 30"\n  },\n  x = 1\n}$', text)
  end)

  it("that contains itself comes to an end", function()
    local t = { name = "t" }
    t.self = t
    assert.equals('{ name = "t", self = <the same table again> }', show.value(t))
    local shared = { 1 }
    assert.equals("{ { 1 }, { 1 } }", show.value { shared, shared })
  end)

  it("is cut in depth, in length, and as a string", function()
    local deep = {}
    local t = deep
    for _ = 1, 50 do
      t.x = {}
      t = t.x
    end
    assert.equals("{ x = { x = { x = { x = {...} } } } }", show.value(deep))
    local long = {}
    for i = 1, 5000 do
      long[i] = i
    end
    assert.matches("%.%.%. %(4900 more%)", show.value(long))
    assert.matches('^"a+"%.%.%. %(100000 bytes%)$', show.value(("a"):rep(100000)))
    local wide = {}
    for i = 1, 100 do
      wide[i] = {}
      for j = 1, 100 do
        wide[i][j] = ("x"):rep(200)
      end
    end
    assert.is_true(#show.value(wide) < 200000)
  end)

  it("with a __tostring of its own is shown by it, and one that fails by its fields", function()
    local good = setmetatable({}, {
      __tostring = function()
        return "me\nmyself"
      end,
    })
    assert.equals("me\nmyself", show.value(good))
    assert.equals("{\n  x = me\n  myself\n}", show.value { x = good })
    local bad = setmetatable({ a = 1 }, {
      __tostring = function()
        error "no"
      end,
    })
    assert.equals("{ a = 1 }", show.value(bad))
  end)
end)

describe("Tab", function()
  local calls = 0
  local env = setmetatable({
    vm = setmetatable({ release = "7", topology = { cpus = 2, cores = 1 }, _private = 1 }, {
      __index = {
        freeze = print,
        frozen = print,
        _check = print,
      },
    }),
    lazy = setmetatable({ here = 1 }, {
      __index = function()
        calls = calls + 1
        return { hidden = 1 }
      end,
    }),
    ["not a name"] = 1,
  }, { __index = { print = print, pairs = pairs } })

  local function names(line)
    return (complete.names(line, env, commands.names()))
  end

  it("offers globals, keywords, and at the line's start commands", function()
    assert.same({ "pairs", "print", "ps" }, names "p")
    assert.same({ "pairs", "print" }, names "x = p")
    assert.same({ "task", "thaw", "then", "true" }, names "t")
    assert.same({ "then", "true" }, names "x = t")
    assert.same({ "vm" }, names "f(1,v")
    assert.same({ "vm" }, names "'a'..v")
    assert.same({ "vm" }, names "x..v")
  end)

  it("offers fields after a dot, and methods after a colon", function()
    assert.same({ "freeze", "frozen" }, names "vm:fr")
    assert.same({ "freeze", "frozen", "release", "topology" }, names "vm.")
    assert.same({ "freeze", "frozen" }, names "vm:")
    assert.same({ "cores", "cpus" }, names "print(vm.topology.c")
    assert.same({ "_check" }, names "vm:_")
  end)

  it("offers nothing where there is nothing", function()
    local lines = { "nothing.", "vm.release.x", "vm:freeze.", "f().", "x[1].a", '"vm:fr', "print('v", "1." }
    for _, line in ipairs(lines) do
      assert.same({}, names(line), line)
    end
  end)

  it("offers what a class has whose __index is a function", function()
    local class = { ping = print }
    class.__index = function()
      calls = calls + 1
    end
    env.object = setmetatable({ pid = 1 }, class)
    assert.same({ "pid", "ping" }, names "object.p")
    assert.same({ "ping" }, names "object:")
    assert.equals(0, calls)
  end)

  it("calls no function to look", function()
    assert.same({ "here" }, names "lazy.")
    assert.same({}, names "lazy.other.")
    assert.equals(0, calls)
  end)

  it("inserts what is certain, and lists what is not", function()
    assert.same({ "eze" }, { complete.line("vm:fre", env, {}) })
    assert.same({ "r" }, { complete.line("vm:f", env, {}) })
    assert.same({ n = 2, nil, "freeze  frozen" }, { n = 2, complete.line("vm:fr", env, {}) })
    assert.same({}, { complete.line("vm:freeze", env, {}) })
    assert.same({}, { complete.line("zzz", env, {}) })
  end)
end)

describe("a command", function()
  it("freezes and thaws, and the prompt says so", function()
    local out, err, prompts = converse { "freeze", "thaw", "thaw" }
    assert.same({ "", "the machine is not frozen; vm:freeze() first\n" }, { out, err })
    assert.same({ "ktstr> ", "frozen> ", "ktstr> ", "ktstr> " }, prompts)
  end)

  it("shows registers, and steps", function()
    local vm = fake_vm()
    local out = converse({ "regs", " regs 3 ", "step", "step 1 20" }, { vm = vm })
    assert.equals("registers of 0\nregisters of 3\n1 executed, rip 0000000000001234\n"
      .. "20 executed, rip 0000000000001235\n", out)
    assert.same({ { 0, 1 }, { 1, 20 } }, vm.log)
  end)

  it("shows the console's end, and nothing that would steer the terminal", function()
    assert.equals("two?[2J\nthree\n", (converse { "console 2" }))
    assert.equals("one\ntwo?[2J\nthree\n", (converse { "console" }))
    assert.equals("", (converse { "console 0" }))
  end)

  it("is explained by help", function()
    local out = converse { "help" }
    for _, name in ipairs(commands.names()) do
      assert.matches("\n?  " .. name, out)
    end
    assert.matches("^regs %[CPU%]: ", (converse { "help regs" }))
    assert.matches("did you mean 'regs'%?", (select(2, converse { "help regz" })))
  end)

  it("quits", function()
    assert.equals("", (converse { "quit", "1" }))
  end)

  it("can be added", function()
    commands.add {
      name = "greet",
      arguments = "WHOM",
      help = "for this test",
      most = 1,
      words = true,
      run = function(_, whom)
        return "hello " .. whom
      end,
    }
    assert.equals("hello you\n", (converse { "greet you" }))
  end)

  it("is Lua when it is anything else", function()
    local env = setmetatable({ vm = fake_vm() }, { __index = _G })
    local out, err = converse({ "regs = { 7 }", "regs[1]", "=regs", "regs or 1" }, env)
    assert.equals("7\n{ 7 }\n{ 7 }\n", out)
    assert.equals("", err)
    out, err = converse({ "task, rd = 5, {}", "task", "task - 1", "rd.x", "-task" }, env)
    assert.equals("5\n4\nnil\n-5\n", out)
    assert.equals("", err)
  end)

  it("with arguments that it does not have says how it is used", function()
    local wrong = { ["regs x"] = "regs %[CPU%]", ["freeze 1"] = "freeze", ["step 1 2 3"] = "step",
      ["regs or x"] = "regs %[CPU%]", task = "task PID", ["dis a b c"] = "dis ADDR" }
    for line, usage in pairs(wrong) do
      local _, err, _, one = converse { line }
      assert.matches("^usage: " .. usage, err)
      assert.is_true(one.failed)
    end
  end)

  it("without a machine says so", function()
    assert.matches("`vm` is no machine", (select(2, converse({ "freeze" }, {}))))
  end)
end)

describe("the name k", function()
  it("is the kernel of what vm is, also of the next one", function()
    local one, other = fake_vm(), fake_vm()
    one.k, other.k = "the first's", "the second's"
    local env = setmetatable({ vm = one, other = other }, { __index = _G })
    assert.equals('"the first\'s"\n"the second\'s"\nnil\n',
      (converse({ "k", "vm = other", "k", "vm = {}", "k" }, env)))
  end)

  it("is the user's once it means something else", function()
    local one, other = fake_vm(), fake_vm()
    one.k, other.k = "the first's", "the second's"
    local env = setmetatable({ vm = one, other = other }, { __index = _G })
    assert.equals("5\n", (converse({ "k = 5", "vm = other", "k" }, env)))
    env = setmetatable({ vm = one, k = 6 }, { __index = _G })
    assert.equals("6\n", (converse({ "k" }, env)))
  end)
end)

describe("a machine that ends", function()
  it("is told of once, and the session goes on", function()
    local vm = fake_vm()
    local out = converse({ "vm.dead = true", "1", "2" }, { vm = vm })
    assert.equals("the machine ended while at the prompt\n1\n2\n", out)
  end)

  it("has its last messages taken in", function()
    local vm, left = fake_vm(), 3
    vm.channel.pump = function()
      left = left - 1
      return left >= 0
    end
    converse({ "1" }, { vm = vm })
    assert.is_true(left < 0)
  end)
end)

describe("the history", function()
  local box

  before_each(function()
    box = sandbox.sandbox()
    box.setenv("XDG_STATE_HOME", box.directory .. "/state")
  end)

  after_each(function()
    box.undo()
  end)

  it("is empty at first, and then what was added, in order", function()
    assert.same({}, history.load())
    history.add "one"
    history.add "two"
    assert.same({ "one", "two" }, history.load())
    assert.equals(box.directory .. "/state/ktstr/history", history.path())
  end)

  it("is below the home directory where no other place is named", function()
    box.setenv("HOME", "/home/x")
    for _, value in ipairs { false, "", "relative" } do
      box.setenv("XDG_STATE_HOME", value or nil)
      assert.equals("/home/x/.local/state/ktstr/history", history.path())
    end
    box.setenv("HOME", nil)
    assert.is_nil(history.path())
    history.add "nowhere"
    assert.same({}, history.load())
  end)

  it("is bounded: the oldest lines go", function()
    local lines = {}
    for i = 1, 2 * history.SIZE + 1 do
      lines[i] = "line " .. i
    end
    history.add(table.concat(lines, "\n"))
    local kept = history.load()
    assert.equals(history.SIZE, #kept)
    assert.equals(lines[#lines], kept[#kept])
    local on_disk = select(2, files.read(history.path()):gsub("\n", ""))
    assert.equals(history.SIZE, on_disk)
    assert.same({ "history" }, files.list(box.directory .. "/state/ktstr"))
  end)

  it("is the user's alone", function()
    history.add "secret"
    local mode = require("posix.sys.stat").stat(history.path()).st_mode % 512
    assert.equals(tonumber("600", 8), mode)
  end)

  it("that cannot be written is no error", function()
    files.write(box.directory .. "/file", "")
    box.setenv("XDG_STATE_HOME", box.directory .. "/file")
    history.add "lost"
    assert.same({}, history.load())
  end)
end)

describe("ktstr repl", function()
  local repl = load "ktstr.repl"

  local function refused(text, ...)
    local e = support.raised(repl.main, { ... })
    assert.is_true(e.cannot_run)
    assert.matches(text, tostring(e), 1, true)
  end

  it("refuses options that it does not have, and names the nearest", function()
    refused("did you mean '--topology'?", "--topolgy", "1n1l1c1t")
    refused("option '--kernel' wants a value", "--kernel")
    refused("--timeout wants seconds, not 'x'", "--timeout=x")
    refused("No such file", "/no/such/file.lua")
    assert.is_nil(core.asked_kernel)
  end)
end)
