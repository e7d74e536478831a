-- --repl-on-failure: the prompt at the place where a test fails.
local process = require "ktstr.process"
local sandbox = require "tests.lua.sandbox"
local signal = require "posix.signal"
local support = require "tests.vm.support"
local terminal = require "tests.vm.terminal"

local PRELUDE = [[
local ktstr = require "ktstr"
local options = { kernel = os.getenv "KTSTR_TINY", cmdline = "tiny.run=echo" }
]]

local box

before_each(function()
  box = sandbox.sandbox()
end)

after_each(function()
  box.undo()
end)

local function start(command, text)
  local path = support.temporary_file(PRELUDE .. text, finally, "_spec.lua")
  local t = terminal.start({ support.program, command, "--repl-on-failure", path }, {
    TERM = "xterm",
    HOME = box.directory,
    XDG_STATE_HOME = box.directory .. "/state",
    KTSTR_TINY = support.tiny_kernel,
  }, finally)
  t.path = path
  return t
end

local function ask(t, line, answer)
  t:type(line .. "\n")
  t:wait_for("\n" .. answer .. "\r\n")
  t:wait_for "frozen> "
end

local function ends(t, status)
  assert.equals(status, t:status())
  local before, after = t:both_settings()
  assert.same(before, after)
  assert.same({}, support.processes_with(t.path))
end

local FAILING = [[
ktstr.test("fails", options, function(t)
  seen = 1
  t:expect(4, "good"):at_most(4)
  t:expect(5, "tasks"):at_most(4)
  seen = 2
  t:expect(t.vm:ping(), "a round trip"):greater_than(0)
  print("went on", t.vm:is_frozen())
end)
]]

for _, command in ipairs { "script", "test" } do
  describe("ktstr " .. command .. " --repl-on-failure", function()
    it("stops at a failed expectation, frozen, before anything else runs", function()
      local t = start(command, FAILING)
      t:wait_for "FAILED expect (tasks): expected at most 4, found 5"
      t:wait_for "frozen> "
      ask(t, "vm == t.vm, vm:is_frozen(), t.name", 'true, true, "fails"')
      ask(t, "seen", "1")
      t:type "\4"
      t:wait_for "went on\tfalse"
      ends(t, 1)
      -- The report is what it is without a prompt.
      assert.is_truthy(t.text:find("FAILED expect (tasks): expected at most 4, found 5", t.seen, true))
    end)

    it("stops where an error is raised in a test, and the error is reported as ever", function()
      local t = start(command, [[
        ktstr.test("raises", options, function(t)
          seen = 1
          local nothing
          nothing()
        end)
      ]])
      t:wait_for "attempt to call"
      t:wait_for "frozen> "
      ask(t, "seen, vm:is_frozen()", "1, true")
      t:type "quit\n"
      t:wait_for "attempt to call"
      ends(t, 1)
    end)

    it("goes on with a machine that was ended or thawed at the prompt", function()
      for _, line in ipairs { "vm:kill()", "thaw", "vm:thaw() vm:freeze()" } do
        local t = start(command, FAILING)
        t:wait_for "frozen> "
        t:type(line .. "\n")
        t:wait_for "> "
        t:type "\4"
        ends(t, 1)
      end
    end)

    it("opens no second prompt from the first", function()
      local t = start(command, FAILING)
      t:wait_for "frozen> "
      ask(t, "t:expect(1, 'x'):equals(2)", "false")
      t:type "error 'x'\n"
      t:wait_for "prompt:1: x"
      t:wait_for "frozen> "
      t:type "\4"
      t:wait_for "went on\tfalse"
      ends(t, 1)
    end)

    it("opens none for what was skipped, for an end, and for what passes", function()
      local t = start(command, [[
        ktstr.test("skipped", options, function(t) t:skip "today" end)
        ktstr.test("good", options, function(t) t:expect(1, "x"):equals(1) end)
        ktstr.test("gone", options, function(t) t.vm:kill() t:expect(1, "x"):equals(2) end)
      ]])
      ends(t, 1)
      assert.is_nil(t.text:find("frozen>", 1, true))
    end)

    it("is interrupted by Ctrl-C at a command only, and ended by SIGTERM", function()
      local t = start(command, FAILING)
      t:wait_for "frozen> "
      t:type "print(6 * 7) while true do end\n"
      t:wait_for "\n42\r\n"
      t:type "\3"
      t:wait_for "interrupted"
      t:wait_for "frozen> "
      t:kill(signal.SIGTERM)
      ends(t, 143)
    end)

    it("without a terminal says so once, and fails as ever", function()
      local path = support.temporary_file(PRELUDE .. FAILING .. FAILING:gsub("fails", "fails too"), finally,
        "_spec.lua")
      local r = process.run({ support.program, command, "--repl-on-failure", path },
        { env = { KTSTR_TINY = support.tiny_kernel } })
      assert.equals(1, r.status)
      local _, count = r.stderr:gsub("%-%-repl%-on%-failure: [^\n]* no prompt is opened\n", "")
      assert.equals(1, count)
      assert.matches("went on\tfalse", r.stdout)
    end)
  end)
end

describe("ktstr test --repl-on-failure", function()
  it("stops at a failed assertion of busted's, with the machine that was booted last", function()
    local t = start("test", [[
      describe("a group", function()
        it("asserts", function()
          local vm = ktstr.boot(options)
          seen = 1
          assert.equals(1, 2)
          seen = 2
        end)
        pending("later")
      end)
    ]])
    t:wait_for "Expected objects to be equal"
    t:wait_for "frozen> "
    ask(t, "vm.release, vm:is_frozen(), seen", '"0.1.0-tiny", true, 1')
    t:type "\4"
    t:wait_for(t.path .. ":7: Expected objects to be equal") -- where it was raised
    ends(t, 1)
  end)

  it("reports the same as without it", function()
    local path = support.temporary_file(PRELUDE .. [[
      it("asserts", function() assert.equals(1, 2) end)
      it("raises", function() error "x" end)
      it("raises a table", function() error {} end)
      it("waits", function() pending "why" end)
      describe("x", function()
        before_each(function() error "y" end)
        it("never runs", function() end)
      end)
    ]], finally, "_spec.lua")
    local reports = {}
    for i, option in ipairs { "--no-coverage", "--repl-on-failure" } do
      local r = support.ktstr("test", option, path, "-o", "TAP")
      assert.equals(1, r.status)
      reports[i] = r.stdout:gsub("0x%x+", "0x")
    end
    assert.equals(reports[1], reports[2])
  end)
end)

describe("ktstr script --repl-on-failure", function()
  it("stops where the script itself raises, too", function()
    local t = start("script", [[
      local vm = ktstr.boot(options)
      error "boo"
    ]])
    t:wait_for "boo"
    t:wait_for "frozen> "
    ask(t, "vm:is_frozen()", "true")
    t:type "\4"
    t:wait_for "stack traceback:"
    ends(t, 1)
  end)

  it("takes the script's own options as the script's", function()
    local path = support.temporary_file([[ print(...) ]], finally)
    local r = support.ktstr("script", "--repl-on-failure", path, "--repl-on-failure", "--help")
    assert.same({ 0, "--repl-on-failure\t--help\n" }, { r.status, r.stdout })
    assert.matches("^usage: ktstr script", support.ktstr("script", "--repl-on-failure", "--help").stdout)
    r = support.ktstr("script", "--repl-on-failur", path)
    assert.matches("did you mean '%-%-repl%-on%-failure'", r.stderr)
  end)
end)
