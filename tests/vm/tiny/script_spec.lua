-- `ktstr script` as users meet it: a child process, its output and its exit status.
local process = require "ktstr.process"
local support = require "tests.vm.support"

local BOOT = [[
local ktstr = require "ktstr"
local function boot(options)
  options = options or {}
  options.kernel = options.kernel or os.getenv "KTSTR_TINY"
  options.cmdline = "tiny.run=echo"
  return ktstr.boot(options)
end
]]

local function run(text, env)
  return support.script(BOOT .. text, finally, env)
end

-- Bad input: status 2 and one line that names the remedy.
local function refused(r, text)
  assert.same({ 2, "" }, { r.status, r.stdout })
  local line = r.stderr:match "^([^\n]*)\n$"
  assert.is_truthy(line, r.stderr)
  assert.is_truthy(line:find(text, 1, true), line)
  if r.path then
    assert.same({}, support.processes_with(r.path))
  end
end

describe("a script", function()
  it("that comes to its end has status 0", function()
    local r = run [[ local vm = boot() print(vm.release, vm:shutdown().passed) ]]
    assert.same({ 0, "0.1.0-tiny\ttrue\n", "" }, { r.status, r.stdout, r.stderr })
  end)

  it("sees its arguments, and modules beside it", function()
    local path = support.temporary_file([[ print(arg[0] ~= nil, arg[1], #arg, ...) ]], finally)
    local r = support.ktstr("script", path, "one", "--help")
    assert.same({ 0, "true\tone\t2\tone\t--help\n" }, { r.status, r.stdout })
  end)

  it("that leaves machines running leaves nothing", function()
    local r = run [[ boot() boot() ]]
    assert.same({ 0, "" }, { r.status, r.stderr })
    assert.same({}, support.processes_with(r.path))
  end)

  it("may come from standard input", function()
    local result = process.run { "sh", "-c", "echo 'print(...)' | $0 script - a b", support.program }
    assert.same({ 0, "a\tb\n" }, { result.status, result.stdout })
  end)

  it("that raises has status 1, with message and traceback", function()
    local r = run [[ local vm = boot() local x = nil + 1 ]]
    assert.equals(1, r.status)
    assert.matches("attempt to perform arithmetic on a nil value\nstack traceback:", r.stderr)
    assert.same({}, support.processes_with(r.path))
  end)

  it("that calls os.exit has its status", function()
    for _, n in ipairs { 0, 1, 7, 200 } do
      assert.equals(n, run(("boot() os.exit(%d)"):format(n)).status)
    end
  end)

  it("whose guest fails has status 1, with the console's end", function()
    local r = run [[ ktstr.boot { kernel = os.getenv "KTSTR_TINY", cmdline = "tiny.run=panic" } ]]
    assert.equals(1, r.status)
    assert.matches("| Kernel panic - not syncing: tiny.run=panic", r.stderr, 1, true)
  end)
end)

describe("bad input", function()
  it("is a script that is missing, or has a syntax error", function()
    refused(support.ktstr("script", "/no/such.lua"), "/no/such.lua: No such file or directory")
    refused(support.ktstr "script", "usage: ktstr script FILE")
    refused(support.ktstr("script", "/tmp"), "Is a directory")
    refused(run "local = 3", "near '='")
  end)

  it("is a command or an option that does not exist", function()
    refused(support.ktstr "scirpt", "did you mean 'script'?")
    refused(support.ktstr("doctor", "--quite"), "did you mean '--quiet'?")
    refused(support.ktstr "--verion", "did you mean")
    assert.equals(2, support.ktstr().status)
    assert.equals(2, support.ktstr("test", "--no-such-option").status)
  end)

  it("is a kernel that is not there", function()
    refused(run [[ boot { kernel = "99.1" } ]], "ktstr kernel get debian:99.1")
    refused(run [[ boot { kernel = "/no/such/bzImage" } ]], "/no/such/bzImage")
  end)

  it("is an empty kernel, or one of another kind", function()
    for _, contents in ipairs { "", "text\n", ("\0"):rep(4096) } do
      local path = support.temporary_file(contents, finally)
      refused(run(([[ boot { kernel = "%s" } ]]):format(path)), path)
    end
  end)

  it("is a kernel of another architecture", function()
    local file = assert(io.open(support.tiny_kernel, "rb"))
    local elf = file:read "*a"
    file:close()
    local arm64 = elf:sub(1, 18) .. "\183\0" .. elf:sub(21)
    local path = support.temporary_file(arm64, finally)
    refused(run(([[ boot { kernel = "%s" } ]]):format(path)), path)
  end)

  for _, spec in ipairs { "0n1l1c1t", "2n3l1c1t", "9z", "1n11l23c1t" } do
    it("is the topology " .. spec, function()
      refused(run(([[ boot { topology = "%s" } ]]):format(spec)), 'such as "1n2l4c2t"')
    end)
  end

  it("is memory that is no size, or too little for the initramfs", function()
    refused(run [[ boot { memory = "12Q" } ]], 'such as "768M"')
    refused(run [[ boot { memory = "32M" } ]], "give at least")
  end)

  it("is a misspelt option", function()
    refused(run [[ boot { topolgy = "1n1l1c1t" } ]], "did you mean 'topology'?")
    refused(run [[ boot():exec { "ls", tiemout = 1 } ]], "did you mean 'timeout'?")
    refused(run [[ ktstr.test("x", { cheks = {} }, function() end) ]], "did you mean 'checks'?")
  end)

  it("is a KTSTR_KERNEL that is not there", function()
    refused(run([[ ktstr.boot() ]], { KTSTR_KERNEL = "99.1" }), "KTSTR_KERNEL: kernel '99.1' is not cached")
  end)
end)

describe("declared tests", function()
  local DECLARE = [[
    local options = { kernel = os.getenv "KTSTR_TINY", cmdline = "tiny.run=echo" }
  ]]

  local function tests(text)
    return run(DECLARE .. text)
  end

  it("run after the file has been read, and are counted on a line of their own", function()
    local r = tests [[
      ktstr.test("one", options, function(t) t:expect(t.vm.release, "release"):contains "tiny" end)
      ktstr.test("two", options, function(t) t:skip "not today" end)
      print "read"
    ]]
    assert.equals(0, r.status)
    assert.matches("^read\ntest: one\n  kernel 0.1.0%-tiny, topology 1n1l2c1t %(2 CPUs%)\nPASS\n", r.stdout)
    assert.matches("not today\nSKIPPED\n\n1 passed, 0 failed, 1 skipped\n$", r.stdout)
  end)

  it("that fail have status 1, whatever the number, and say what was expected and found", function()
    local r = tests [[
      for i = 1, 3 do
        ktstr.test("fails " .. i, options, function(t) t:expect(i, "the number"):at_most(0) end)
      end
    ]]
    assert.equals(1, r.status)
    assert.matches("FAILED expect (the number): expected at most 0, found 2", r.stdout, 1, true)
    assert.matches("| tiny: up", r.stdout, 1, true)
    assert.matches("\n0 passed, 3 failed\n$", r.stdout)
  end)

  it("that are inconclusive have status 3, and say why", function()
    local r = tests [[
      ktstr.test("unsure", options, function(t) t:expect(nil, "nothing"):at_most(1) end)
      ktstr.test("good", options, function() end)
    ]]
    assert.equals(3, r.status)
    assert.matches("inconclusive expect (nothing)", r.stdout, 1, true)
    assert.matches("\nINCONCLUSIVE\n", r.stdout)
    assert.matches("\n1 passed, 0 failed, 1 skipped\n$", r.stdout)
  end)

  it("have the worst status: could not run before failed before inconclusive", function()
    local unsure = [[ ktstr.test("unsure", options, function(t) t:inconclusive "why" end) ]]
    local bad = [[ ktstr.test("bad", options, function(t) error "x" end) ]]
    local impossible = [[ ktstr.test("impossible", { kernel = "99.1" }, function() end) ]]
    assert.equals(1, tests(unsure .. bad).status)
    local r = tests(bad .. impossible .. unsure)
    assert.equals(2, r.status)
    assert.matches("ktstr: test 'impossible': kernel '99.1' is not cached", r.stderr, 1, true)
  end)

  it("without a machine that reports have failed", function()
    local r = tests [[
      ktstr.test("gone", options, function(t) t.vm:kill() end)
    ]]
    assert.equals(1, r.status)
    assert.matches("expected that it powers off and reports exit code 0", r.stdout)
  end)
end)

describe("help", function()
  it("is there for every command", function()
    for _, command in ipairs { "script", "test", "repl", "doctor", "version", "kernel", "help" } do
      local long = support.ktstr(command, "--help")
      assert.same({ 0, "" }, { long.status, long.stderr })
      assert.matches("^[Uu]sage: ktstr " .. command, long.stdout)
      assert.equals(long.stdout, support.ktstr("help", command).stdout)
    end
    assert.matches("usage: ktstr COMMAND", support.ktstr("--help").stdout)
    assert.matches("%-%-filter", support.ktstr("help", "test").stdout)
    assert.matches("did you mean 'kernel'", support.ktstr("help", "kernle").stderr)
  end)

  it("has the version", function()
    assert.matches("^ktstr %d+%.%d+%.%d+\n$", support.ktstr("--version").stdout)
    assert.equals(support.ktstr("version").stdout, support.ktstr("--version").stdout)
  end)
end)
