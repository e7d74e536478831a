-- `ktstr repl` as users meet it: on a terminal, and fed from a pipe.
local process = require "ktstr.process"
local sandbox = require "tests.lua.sandbox"
local signal = require "posix.signal"
local support = require "tests.vm.support"
local terminal = require "tests.vm.terminal"

local box

before_each(function()
  box = sandbox.sandbox()
end)

after_each(function()
  box.undo()
end)

local function arguments(scenario, ...)
  return { support.program, "repl", "--kernel", support.tiny_kernel, "--cmdline=" .. scenario,
    "--memory=128M", ... }
end

-- A session on a terminal, at its first prompt. HOME and history are the test's own.
local function start(scenario, ...)
  local t = terminal.start(arguments(scenario or "tiny.run=echo", ...), {
    TERM = "xterm",
    HOME = box.directory,
    XDG_STATE_HOME = box.directory .. "/state",
  }, finally)
  return t
end

local function start_at_prompt(...)
  local t = start(...)
  t:wait_for "ktstr> "
  return t
end

-- Types a line that shows `answer` on a line of its own, and waits for the prompt after it.
local function ask(t, line, answer, prompt)
  t:type(line .. "\n")
  t:wait_for("\n" .. answer .. "\r\n")
  t:wait_for(prompt or "ktstr> ")
end

-- Types a line and waits until it runs.
local function run(t, line)
  t:type("print(6 * 7) " .. line .. "\n")
  t:wait_for "\n42\r\n"
end

-- The session's end, and that it leaves nothing: no process, no change of the terminal.
local function ends(t, status)
  assert.equals(status, t:status())
  local before, after = t:both_settings()
  assert.same(before, after)
end

local function feed(lines, scenario, ...)
  local path = support.temporary_file(table.concat(lines, "\n") .. "\n", finally)
  local argv = { "sh", "-c", 'file=$1; shift; exec "$@" <"$file"', "sh", path }
  for _, argument in ipairs(arguments(scenario or "tiny.run=echo", ...)) do
    argv[#argv + 1] = argument
  end
  return process.run(argv)
end

describe("a session on a terminal", function()
  it("evaluates, goes on after errors, and ends with Ctrl-D", function()
    local t = start()
    t:wait_for "booting "
    t:wait_for "kernel 0.1.0-tiny, topology 1n1l2c1t (2 CPUs)"
    t:wait_for "ktstr> "
    ask(t, "1 + 1", "2")
    ask(t, "=vm.release", '"0.1.0-tiny"')
    t:type "error 'boo'\n"
    t:wait_for "prompt:1: boo\r\nstack traceback:"
    t:wait_for "ktstr> "
    t:type "for i = 1, 2 do\n"
    t:wait_for "...> "
    ask(t, "print(i) end", "1\r\n2")
    ask(t, "vm:ping() > 0", "true")
    t:type "\4"
    ends(t, 0)
  end)

  it("takes a topology and all the rest", function()
    local t = start_at_prompt("tiny.run=echo", "--topology", "1n1l3c1t", "--timeout=50")
    ask(t, "vm.topology.cpus, vm.timeout", "3, 50")
    t:type "quit\n"
    ends(t, 0)
  end)

  it("edits: the cursor moves, and what is typed goes in", function()
    local t = start_at_prompt()
    t:type "21 * 3\27[D\27[D\27[D9\1(\5) - 1\127\0012\n" -- back, insert; to the start; to the end; rub out
    t:wait_for "ktstr> "
    ask(t, "'\195\164\195\182' .. 1", '"\195\164\195\1821"')
    t:type "\4"
    ends(t, 0)
  end)

  it("completes names", function()
    local t = start_at_prompt()
    t:type "vm.rele\t"
    t:wait_for "ase" -- what was certain has been inserted
    ask(t, "", '"0.1.0-tiny"')
    t:type "vm:fr\t"
    t:wait_for "freeze  frozen"
    t:wait_for "ktstr> "
    t:type "\3"
    t:wait_for "ktstr> "
    t:type "\4"
    ends(t, 0)
  end)

  it("has a history, also of earlier sessions", function()
    local t = start_at_prompt()
    ask(t, "17 * 3", "51")
    t:type "\27[A"
    t:wait_for "17 * 3"
    ask(t, "", "51")
    t:type "\4"
    ends(t, 0)
    t = start_at_prompt()
    t:type "\27[A"
    t:wait_for "17 * 3"
    ask(t, "", "51")
    t:type "\0187 *"
    t:wait_for "17 * 3"
    t:type "\3"
    t:wait_for "ktstr> "
    t:type "\4"
    ends(t, 0)
  end)

  it("that cannot keep its history does without", function()
    box.setenv("X", nil)
    local t = terminal.start(arguments "tiny.run=echo", {
      TERM = "xterm",
      HOME = "/proc/nowhere",
      XDG_STATE_HOME = "/proc/nowhere",
    }, finally)
    t:wait_for "ktstr> "
    ask(t, "1 + 1", "2")
    t:type "\4"
    ends(t, 0)
  end)

  it("runs a file first, with the machine in vm and modules beside it", function()
    local path = support.temporary_file("answer = vm.release .. (...)\nlocal x = nil + 1", finally)
    local t = start("tiny.run=echo", path, "!")
    t:wait_for "attempt to perform arithmetic on a nil value"
    t:wait_for "ktstr> "
    ask(t, "answer", '"0.1.0-tiny!"')
    t:type "\4"
    ends(t, 0)
  end)

  it("freezes the machine, looks at it, and lets it go on", function()
    local t = start_at_prompt()
    t:type "freeze\n"
    t:wait_for "frozen> "
    t:type "regs 1\n"
    t:wait_for "CPU 1\r\nrip "
    t:wait_for "frozen> "
    t:type "vm:ping()\n"
    t:wait_for "the machine is frozen"
    t:wait_for "frozen> "
    ask(t, "vm:regs(0).rip == vm:regs(0).rip", "true", "frozen> ")
    t:type "thaw\n"
    t:wait_for "ktstr> "
    ask(t, "vm:ping() > 0", "true")
    t:type "console\n"
    t:wait_for "tiny: up\r\n"
    t:wait_for "ktstr> "
    t:type "\4"
    ends(t, 0)
  end)

  it("tells of the machine's end, and goes on", function()
    local t = start_at_prompt "tiny.run=ready tiny.run=triple"
    ask(t, "(pcall(vm.sleep, vm, 60))", "false")
    ask(t, "1 + 1", "2")
    -- At the prompt after it has ended, which may have been the first.
    local _, count = t.text:gsub("the machine ended while at the prompt: ", "")
    assert.equals(1, count)
    t:type "freeze\n"
    t:wait_for "the machine ended while "
    t:wait_for "ktstr> "
    t:type "\4"
    ends(t, 0)
  end)
end)

describe("Ctrl-C", function()
  local commands = {
    ["an empty loop"] = "while true do end",
    ["a loop that counts"] = "local i = 0 while true do i = i + 1 end",
    ["a function that was defined before"] = "spin()",
    ["a sleep"] = "vm:sleep(1000)",
    ["a loop that talks to the guest"] = "while true do vm:ping() end",
    ["a loop that prints"] = "while true do io.write '.' end",
    ["a table without end"] = "return setmetatable({}, { __tostring = function() while true do end end })",
  }
  for what, line in pairs(commands) do
    it("ends " .. what .. ", and not the session", function()
      local t = start_at_prompt()
      t:type "function spin() while true do end end\n"
      t:wait_for "ktstr> "
      for _ = 1, 2 do
        run(t, line)
        t:type "\3"
        t:wait_for "interrupted"
        t:wait_for "ktstr> "
      end
      ask(t, "vm:ping() > 0", "true")
      t:type "\4"
      ends(t, 0)
    end)
  end

  it("ends a loop in front of a frozen machine, which stays frozen", function()
    local t = start_at_prompt()
    t:type "freeze\n"
    t:wait_for "frozen> "
    run(t, "while true do end")
    t:type "\3"
    t:wait_for "interrupted"
    t:wait_for "frozen> "
    t:type "thaw\n"
    t:wait_for "ktstr> "
    ask(t, "vm:ping() > 0", "true")
    t:type "\4"
    ends(t, 0)
  end)

  it("ends a visitor, and the machine is thawed", function()
    local t = start_at_prompt()
    run(t, "vm:frozen(function() local i = 0 while true do i = i + 1 end end)")
    t:type "\3"
    t:wait_for "interrupted"
    t:wait_for "ktstr> "
    ask(t, "vm:is_frozen()", "false")
    ask(t, "vm:ping() > 0", "true")
    t:type "\4"
    ends(t, 0)
  end)

  it("clears the line at the prompt, as often as it is pressed", function()
    local t = start_at_prompt()
    for _, keys in ipairs { "\3", "\3\3", "\3\3\3\3" } do
      t:type "nonsense("
      t:wait_for "nonsense("
      t:type(keys)
      t:wait_for "^C"
      ask(t, "6 * 9", "54")
    end
    t:type "for i = 1, 3 do\n"
    t:wait_for "...> "
    t:type "\3"
    t:wait_for "ktstr> "
    ask(t, "1 + 1", "2")
    t:type "\4"
    ends(t, 0)
  end)

  it("pressed again while the first is ignored ends all", function()
    local t = start_at_prompt()
    t:type "function spin() print(6 * 7) while true do end end while true do pcall(spin) end\n"
    t:wait_for "\n42\r\n"
    t:type "\3"
    t:wait_for "42\r\n" -- it has caught that, and spins again
    t:type "\3"
    ends(t, 130)
  end)

  it("while the guest boots ends ktstr", function()
    local t = start "tiny.run=hang"
    t:wait_for "booting "
    t:kill(signal.SIGINT)
    ends(t, 130)
  end)
end)

describe("SIGTERM ends session and machine", function()
  local moments = {
    ["at the prompt"] = function() end,
    ["while frozen"] = function(t)
      t:type "freeze\n"
      t:wait_for "frozen> "
    end,
    ["in the middle of a line"] = function(t)
      t:type "vm:fr"
      t:wait_for "vm:fr"
    end,
    ["in the middle of a statement"] = function(t)
      t:type "for i = 1, 2 do\n"
      t:wait_for "...> "
    end,
    ["while a command runs"] = function(t)
      run(t, "while true do end")
    end,
    ["while a command waits"] = function(t)
      run(t, "vm:sleep(1000)")
    end,
    ["after a command was interrupted"] = function(t)
      run(t, "while true do end")
      t:type "\3"
      t:wait_for "interrupted"
      t:wait_for "ktstr> "
    end,
  }
  for moment, prepare in pairs(moments) do
    it(moment, function()
      local t = start_at_prompt("tiny.run=echo", "--", "/dev/null", box.directory)
      prepare(t)
      t:kill(signal.SIGTERM)
      ends(t, 143)
      assert.same({}, support.processes_with(box.directory))
    end)
  end
end)

describe("a session fed from a pipe", function()
  it("shows results only, and has status 0", function()
    local r = feed { "x = 20", "x + 1", "for i = 1, 2 do", "print(i)", "end", "vm:ping() > 0" }
    assert.same({ 0, "21\n1\n2\ntrue\n" }, { r.status, r.stdout })
    assert.matches("^booting [^\n]*\n$", r.stderr)
  end)

  it("has status 1 when a line failed, and runs the others", function()
    local r = feed { "nil + 1", "freeze", "vm:is_frozen()", "nonsense nonsense", "2" }
    assert.same({ 1, "true\n2\n" }, { r.status, r.stdout })
    assert.matches("arithmetic on a nil value\nstack traceback:\n\tprompt:1: in main chunk\n"
      .. "prompt:1: '=' expected near 'nonsense'\n$", r.stderr)
  end)

  it("ends with its input, whatever the machine does", function()
    local r = feed({ "freeze" }, "tiny.run=count")
    assert.same({ 0, "" }, { r.status, r.stdout })
    r = feed({ "vm:kill().exit_reason", "1" })
    assert.equals('"ExternalKill"\nthe machine has been killed (at the prompt)\n1\n', r.stdout)
    assert.equals(0, r.status)
  end)

  it("goes back to a checkpoint, as often as it is told to", function()
    local r = feed({
      "vm:write('/memory', 'before')", "checkpoint", "vm:is_frozen()", "vm:write('/memory', 'after')",
      "rewind", "vm:is_frozen()", "thaw", "vm:read '/memory'", "vm:write('/memory', 'later')",
      "freeze", "checkpoint", "vm:is_frozen()", "rewind", "rewind", "thaw", "vm:read '/memory'",
    }, "tiny.run=warm")
    assert.equals("", (r.stderr:gsub("^booting [^\n]*\n", "")))
    assert.same({ 0, 'false\ntrue\n"before"\ntrue\n"later"\n' }, { r.status, r.stdout })
  end)

  it("says that there is no checkpoint, or no machine any more", function()
    local r = feed({ "rewind", "vm:ping() > 0", "checkpoint 1", "vm:kill().exit_reason", "checkpoint" },
      "tiny.run=warm")
    assert.matches('^true\n"ExternalKill"\n', r.stdout)
    assert.equals(1, r.status)
    assert.matches("there is no checkpoint; vm:checkpoint() takes one\n", r.stderr, 1, true)
    assert.matches("usage: checkpoint\n", r.stderr, 1, true)
    assert.matches("the machine has been killed", r.stderr)
  end)

  it("cannot begin with a bad option, a bad file or a bad kernel", function()
    for _, case in ipairs {
      { "did you mean '--kernel'?", "--kernle=7.3" },
      { "/no/such.lua", "/no/such.lua" },
      { 'such as "1n2l4c2t"', "--topology=9z" },
      { "timeout", "--timeout=-1" },
      { "99.1", "--kernel=99.1" },
    } do
      local r = feed({ "1" }, "tiny.run=echo", case[2])
      assert.same({ 2, "" }, { r.status, r.stdout })
      assert.is_truthy(r.stderr:find(case[1], 1, true), r.stderr)
    end
  end)
end)
