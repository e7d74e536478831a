-- What Tab offers of a kernel: its symbols, types and members, by hand-made types and memory of this process.
local support = require "tests.lua.support"

local _, load = support.library()
local errors = load "ktstr.errors"
local commands = load "ktstr.repl.commands"
local complete = load "ktstr.repl.complete"
local pure = load "ktstr.repl.pure"
local session = load "ktstr.repl.session"
local tokens = load "ktstr.repl.tokens"
local fake_kernel = require "tests.lua.fake_kernel"

local DIRECT, IMAGE = fake_kernel.DIRECT, fake_kernel.IMAGE
local TASK, OTHER = DIRECT + 0x1000, DIRECT + 0x3000

local fake, k, env

before_each(function()
  fake = fake_kernel.new()
  fake:set_up_percpu()
  k = fake.k
  local set = k._image.symbols
  set[#set + 1] = { name = "_etext", address = set[1].address + 0x200, kind = "T", moves = true }
  fake:put(TASK + 8, "uint64_t", OTHER) -- .parent
  fake:put_string(OTHER + 16, "other")
  env = setmetatable({ k = k, vm = { k = k }, task = k:object("struct task", TASK) }, { __index = _G })
end)

after_each(function()
  fake:finish()
end)

local function names(line)
  return (complete.names(line, env, commands.names()))
end

describe("a line's tokens", function()
  local function texts(line)
    local list = {}
    for i, token in ipairs(tokens.of(line)) do
      list[i] = token.kind .. " " .. token.text
    end
    return list
  end

  it("are names, numbers, strings and marks", function()
    assert.same({ "name k", "mark :", "name var", "string a b", "mark .", "name x" }, texts "k:var 'a b' .x")
    assert.same({ "number 0x10ULL", "mark ..", "name a", "mark [", "number 3", "mark ]" },
      texts "0x10ULL ..a[3]")
    assert.same({ "name f", "string x", "string y]" }, texts "f[[x]] [=[y]]=]")
    assert.same({}, texts "   ")
  end)

  it("end with a string that is open", function()
    assert.same({ "name f", "mark (", "open a'b" }, texts [[f("a'b]])
    assert.same({ "open a\\" }, texts [["a\]])
    assert.same({ [[string a\"b]], "open c" }, texts [["a\"b" "c]])
  end)
end)

describe("an expression that does nothing", function()
  local function value(text)
    local list = tokens.of(text)
    return (pure.value(list, 1, #list, env))
  end

  it("is a name with fields and indexes", function()
    env.t = { a = { 7, x = "y" } }
    assert.equals(7, value "t.a[1]")
    assert.equals("y", value "t['a'].x")
    assert.equals("other", value "task.parent.comm")
    assert.is_nil(value "t.b.c")
    assert.is_nil(value "task.nothing")
    assert.is_nil(value "task.parent.parent.comm") -- NULL
    assert.equals(k.types["struct task"], value "k.types['struct task']")
    assert.is_nil(value "k.types['struct nothing']")
  end)

  it("may look something up in a kernel, and calls nothing else", function()
    local called = 0
    env.f = function()
      called = called + 1
      return { x = 1 }
    end
    env.o = { var = env.f, object = env.f }
    for _, text in ipairs { "f().x", "o:var('x').x", "o.var('x').x", "k:write(1, 'x')", "k:read(1, 1)",
      "k:var(f())", "k:var('a' .. 'b')", "task:set_('pid', 1)", "task:address_()" } do
      assert.is_nil(value(text), text)
    end
    assert.equals(0, called)
    fake:put(IMAGE + 0x2000, "uint64_t", 4711)
    assert.equals(4711, value "k:var 'jiffies_64'")
    assert.equals(k:symbol "schedule", value "vm.k:symbol('schedule')")
    assert.equals("other", value(("k:object('struct task', 0x%sULL).comm"):format(bit.tohex(OTHER))))
    assert.equals(0, value "k:per_cpu('runqueues', 1).nr_running")
    assert.is_nil(value "k:per_cpu('runqueues', 99)")
    assert.is_nil(value "k:var 'nothing'")
  end)
end)

describe("Tab offers", function()
  it("members of objects, and their methods", function()
    assert.same({ "pairs", "parent", "pid" }, names "task.p")
    assert.same({ "pairs", "parent", "pid" }, names "x = task.parent.p")
    assert.same({ "either" }, names "print(task.ei") -- of an anonymous member
    assert.same({ "cast_", "container_of_" }, names "task:c")
    assert.same({}, names "task:p")
    assert.same({ "parent" }, names "task['par")
    assert.same({}, names "task.pid.x")
  end)

  it("members of what a lookup gives", function()
    assert.same({ "nr_running" }, names "k:per_cpu('runqueues', 0).n")
    assert.same({ "color", "comm", "cpus" }, names "=k:object('struct task', k:symbol 'init_task').c")
    assert.same({}, names "print('x').c")
  end)

  it("members that methods take", function()
    assert.same({ "parent" }, names "task:get_ 'par")
    assert.same({ "next" }, names "task:container_of_('struct node', 'ne")
    assert.same({ "next" }, names "k:list(head, \"struct node\", \"ne")
    assert.same({}, names "k:list(head, 'struct nothing', 'ne")
  end)

  it("symbols: any, code, variables, and per-CPU ones, where each is wanted", function()
    assert.same({ "schedule", "scx_root" }, names "k:symbol 'sc")
    assert.same({ "schedule" }, names "k:disassemble('sc")
    assert.same({ "scx_root" }, names "f(k:var(\"sc")
    assert.same({ "runqueues" }, names "k:per_cpu('r")
    assert.same({}, names "k:per_cpu('sc")
    assert.same({}, names "k:var 'runq")
    assert.same({ "jiffies", "jiffies_64" }, names "vm.k:symbols('jif")
  end)

  it("types", function()
    assert.same({ "struct task" }, names "k:object(\"struct ta")
    assert.same({ "struct task" }, names "k.types['struct ta")
    assert.same({ "struct task" }, names "k:var('init_task', 'struct ta")
    assert.same({ "struct task" }, names "task:cast_ 'struct ta")
    assert.same({}, names "k.types['nothing")
  end)

  it("the names of enums, and macros", function()
    assert.same({ "GREEN" }, names "k:enum 'GR")
    assert.same({ "TASK_DEAD" }, names "k:enum('TASK_DE")
  end)

  it("methods of a kernel, also those that are loaded later", function()
    assert.same({ "processes" }, names "k:proc")
    assert.same({ "symbol", "symbols" }, names "vm.k:sy")
  end)

  it("keys of a table, inside brackets", function()
    env.t = { ["a key"] = 1, another = 2, [3] = 4 }
    assert.same({ "a key", "another" }, names "t['a")
  end)

  it("nothing in other strings, and nothing of a kernel that cannot say", function()
    for _, line in ipairs { "print('sc", "'sc", "f('a', 'sc", "k:string('sc", "k:symbol(x, 'sc",
      "k:symbol('\\sc", "{ 'sc", "k.x['sc", "k:var 'a' 'sc" } do
      assert.same({}, names(line), line)
    end
    k._ready = function()
      errors.raise("unsupported", "no symbols")
    end
    assert.same({}, names "k:symbol 'sc")
    assert.same({}, names "k:object('struct ta")
  end)

  it("the beginning that all have, and the names as far as they fit", function()
    assert.same({ "iffies" }, { complete.line("k:symbol 'j", env, {}) })
    assert.same({ n = 2, nil, "jiffies     jiffies_64" },
      { n = 2, complete.line("k:symbol 'jiffies", env, {}) })
    local set = k._image.symbols
    for i = 1, 500 do
      set[#set + 1] = { name = ("many_%03d"):format(i), address = 1ULL, kind = "d", moves = true }
    end
    local _, choice = complete.line("k:symbol 'many_", env, {})
    assert.matches("many_200\n%.%.%. %(300 more%)$", choice)
    for i = 501, 12000 do
      set[#set + 1] = { name = ("many_%03d"):format(i), address = 1ULL, kind = "d", moves = true }
    end
    -- What all have in common nobody can tell who has not seen all.
    local insert
    insert, choice = complete.line("k:symbol 'man", env, {})
    assert.is_nil(insert)
    assert.matches("%(at least 9800 more%)$", choice)
  end)
end)

describe("Tab in a command", function()
  local function line(text)
    return session.new(env):complete(text)
  end

  it("offers what its argument may be", function()
    assert.equals("ule", line "dis sched")
    assert.equals("k", line "struct tas")
    assert.equals("or", line "struct col")
    assert.equals("sk", line "struct task init_ta")
    assert.equals("ies", line "sym jiff")
    assert.is_nil(line "ps sched")
    assert.is_nil(line "rd jiffies_64 sched")
  end)

  it("is Lua's where the line is none", function()
    env.dis = { schedule = 1 }
    assert.equals("ule", line "dis.sched")
    assert.equals("k", line "x = tas")
  end)
end)
