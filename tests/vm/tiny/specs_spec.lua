-- `ktstr test`: busted inside the program, with exit statuses of ktstr's own.
local support = require "tests.vm.support"

local PRELUDE = [[
local ktstr = require "ktstr"
local options = { kernel = os.getenv "KTSTR_TINY", cmdline = "tiny.run=echo" }
]]

local function run(text, ...)
  local spec = support.temporary_file(PRELUDE .. text, finally, "_spec.lua")
  local process = require "ktstr.process"
  local result = process.run({ support.program, "test", spec, ... },
    { env = { KTSTR_TINY = support.tiny_kernel } })
  result.path = spec
  return result
end

describe("ktstr test", function()
  it("has status 0 when all passed or were skipped", function()
    local r = run [[
      ktstr.test("declared", options, function(t) t:expect(1, "x"):equals(1) end)
      describe("busted's own", function()
        it("boots", function() assert.equals("0.1.0-tiny", ktstr.boot(options).release) end)
        pending("later")
      end)
      ktstr.test("skipped", options, function(t) t:skip "no" end)
    ]]
    assert.equals(0, r.status)
    assert.matches("2 successes / 0 failures / 0 errors / 2 pending", r.stdout)
  end)

  it("has status 1 for one failure, for two and for many", function()
    for _, count in ipairs { 1, 2, 5 } do
      local r = run(("for i = 1, %d do it('f' .. i, function() assert.is_true(false) end) end"):format(count))
      assert.equals(1, r.status)
    end
    assert.equals(1, run("it('raises', function() error 'x' end)").status)
  end)

  it("fails a declared test with its report", function()
    local r = run [[
      ktstr.test("too many", options, function(t) t:expect(5, "tasks"):at_most(4) end)
      ktstr.test("asserts", options, function(t) assert.equals(1, 2) end)
    ]]
    assert.equals(1, r.status)
    assert.matches("0 successes / 2 failures / 0 errors", r.stdout)
    assert.matches("FAILED expect (tasks): expected at most 4, found 5", r.stdout, 1, true)
    assert.matches("Expected objects to be equal", r.stdout)
  end)

  it("has status 3 when a test was inconclusive, and says why", function()
    local r = run [[
      ktstr.test("unsure", options, function(t) t:inconclusive "no data at all" end)
      ktstr.test("good", options, function() end)
    ]]
    assert.equals(3, r.status)
    assert.matches("1 success / 0 failures / 0 errors / 1 pending", r.stdout)
    assert.matches("no data at all", r.stdout)
    assert.equals(1, run([[
      ktstr.test("unsure", options, function(t) t:inconclusive "why" end)
      it("fails", function() assert.is_true(false) end)
    ]]).status)
  end)

  it("has status 2 when something could not be run", function()
    assert.equals(2, run([[
      it("fails", function() assert.is_true(false) end)
      ktstr.test("impossible", { kernel = "99.1" }, function() end)
    ]]).status)
    assert.equals(2, run("it('x', function() ktstr.boot { topolgy = 1 } end)").status)
    assert.equals(2, run("ktstr.test('x', { topolgy = 1 }, function() end)").status)
    assert.equals(2, run("syntax error").status)
    assert.equals(2, run("-- no test here").status)
    assert.equals(2, support.ktstr("test", "/no/such/directory").status)
    assert.equals(2, support.ktstr("test", "--no-such-option").status)
    assert.equals(2, run("it('x', function() end)", "--filter=nothing").status)
  end)

  it("passes busted's options on", function()
    local r = run([[
      ktstr.test("declared", options, function() end)
      it("plain", function() end)
      it("bad", function() assert.is_true(false) end)
    ]], "-o", "TAP")
    assert.equals(1, r.status)
    assert.matches("ok 1 %- declared\nok 2 %- plain\nnot ok 3 %- bad\n", r.stdout)
    r = run("it('a', function() end) it('b', function() error 'x' end)", "--filter=a")
    assert.same({ 0 }, { r.status })
    r = run("it('listed', function() end)", "--list")
    assert.equals(0, r.status)
    assert.matches("listed", r.stdout)
  end)

  it("writes JUnit through busted", function()
    local out = os.tmpname()
    finally(function()
      os.remove(out)
    end)
    local r = run([[
      ktstr.test("declared", options, function(t) t:fail "why" end)
    ]], "-o", "junit", "-Xoutput", out)
    assert.equals(1, r.status)
    local file = assert(io.open(out))
    local text = file:read "*a"
    file:close()
    assert.matches("<testcase .-name='declared'", (text:gsub('"', "'")))
    assert.matches("<failure", text)
  end)

  it("does not count failures of before_each as passed", function()
    assert.equals(1, run([[
      describe("d", function()
        before_each(function() error "x" end)
        it("y", function() end)
      end)
    ]]).status)
  end)
end)
