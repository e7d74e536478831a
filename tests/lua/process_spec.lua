-- Running programs, and saying how far a long task is.

local fixture = require "tests.lua.sandbox"
local files = require "ktstr.files"
local unistd = require "posix.unistd"
local process = require "ktstr.process"
local progress = require "ktstr.kernels.progress"

local raised, sandbox = fixture.raised, fixture.sandbox

describe("a program", function()
  it("gets its arguments as they are and gives back what it printed", function()
    local script = 'printf "%s|" "$@"; echo oops >&2; exit 3'
    local result = process.run { "sh", "-c", script, "sh", "a b", "$HOME", "'", "*" }
    assert.same({ status = 3, stdout = "a b|$HOME|'|*|", stderr = "oops\n" }, result)
  end)

  it("ended by a signal says so", function()
    local result = process.run { "sh", "-c", "kill -9 $$" }
    assert.equal(9, result.signal)
    assert.is_nil(result.status)
    assert.equal("signal 9", process.describe(result))
  end)

  it("runs where and with what it is told", function()
    local options = { cwd = "/", env = { A = "1", B = false } }
    local result = process.run({ "sh", "-c", 'pwd; echo "$A-$B"; cat' }, options)
    assert.equal("/\n1-\n", result.stdout)
  end)

  it("is heard line by line, a rest without a line end too", function()
    local lines = {}
    process.run({ "printf", "one\\ntwo\\rthree" }, { on_stdout = function(line)
      lines[#lines + 1] = line
    end })
    assert.same({ "one", "two", "three" }, lines)
  end)

  it("may print more than a pipe holds on both sides", function()
    local result = process.run { "sh", "-c", "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2" }
    assert.equal(300000, #result.stdout)
    assert.equal(300000, #result.stderr)
  end)

  it("that is not there is told from one that fails", function()
    local err = raised(process.run, { "no-such-program-anywhere" })
    assert.equal("not-found", err.code)
    assert.matches("'no%-such%-program%-anywhere' is not installed", err.message)
    assert.equal("os", raised(process.run, { "true" }, { cwd = "/no/such/place" }).code)
  end)

  it("leaves no descriptor behind", function()
    local function count()
      return #files.list "/proc/self/fd"
    end
    process.run { "true" }
    local before = count()
    for _ = 1, 20 do
      process.run { "sh", "-c", "echo x; echo y >&2" }
      pcall(process.run, { "true" }, { cwd = "/no/such/place" })
    end
    assert.equal(before, count())
  end)

  it("is ended with all that it started when ktstr is interrupted", function()
    local box = sandbox()
    finally(box.undo)
    local function interrupted()
      return files.exists(box.directory .. "/pid") and 15 or nil
    end
    local err = raised(fixture.with_interruption, interrupted, process.run, { "sh", "-c", [[
      sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 600' & trap "" TERM; wait; wait; sleep 600
    ]] }, { cwd = box.directory })
    assert.equal("interrupted", err.code)
    local pid = tonumber(files.read(box.directory .. "/pid"))
    local state = (files.read(("/proc/%d/stat"):format(pid)) or ""):match "%) (%a)"
    assert.is_true(state == nil or state == "Z", state)
  end)

  it("dies when its caller is killed", function()
    local box = sandbox()
    finally(box.undo)
    files.write(box.directory .. "/caller.lua", ([[
      package.path = %q
      package.preload["ktstr.core"] = function() return { error_metatable = {} } end
      require("ktstr.process").run { "sh", "-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 600" }
    ]]):format(unistd.getcwd() .. "/lua/?.lua;" .. package.path))
    -- Every wait has a bound: 10 s.
    local result = process.run({ "sh", "-c", [[
      luajit caller.lua & caller=$!
      n=0; while [ ! -e pid ] && [ $n -lt 500 ]; do sleep 0.02; n=$((n + 1)); done
      kill -9 $caller; read pid < pid || { echo "never started"; exit; }
      alive() { grep -q '^State:.*[RSDT] ' /proc/$pid/status 2>/dev/null; }
      n=0; while alive && [ $n -lt 500 ]; do sleep 0.02; n=$((n + 1)); done
      alive && echo alive || echo gone
    ]] }, { cwd = box.directory })
    assert.equal("gone\n", result.stdout)
  end)
end)

describe("progress", function()
  local function record(tty)
    local text = {}
    local file = { flush = function() end }
    function file.write(_, ...)
      text[#text + 1] = table.concat { ... }
    end
    local p = progress.new(file, tty)
    p:step "Downloading"
    for percent = 0, 100, 10 do
      p:percent(percent)
    end
    p:done()
    return table.concat(text)
  end

  it("is drawn anew on a terminal", function()
    local text = record(true)
    assert.matches("\rDownloading   50%%", text)
    assert.equal("\n", text:sub(-1))
    assert.equal(1, select(2, text:gsub("\n", "")))
  end)

  it("is a few lines elsewhere", function()
    assert.equal("Downloading\n  25%\n  50%\n  75%\n", record(false))
  end)
end)

