-- A script that is interrupted, at any moment, ends with the right status and leaves nothing.
local signal = require "posix.signal"
local process = require "ktstr.process"
local support = require "tests.vm.support"

local BOOT = [[
io.stdout:setvbuf "no"
local ktstr = require "ktstr"
local function boot(scenario, options)
  options = options or {}
  options.kernel = os.getenv "KTSTR_TINY"
  options.cmdline = "tiny.run=" .. scenario
  options.timeout = 60
  return ktstr.boot(options)
end
]]

local moments = {
  ["before it does anything"] = [[ print "x" ]],
  ["while a guest boots that never will"] = [[
    boot("hang", { console = function() print "x" end })
  ]],
  ["while it sleeps"] = [[
    local vm = boot "echo"
    print "x"
    vm:sleep(60)
  ]],
  ["while it talks to the guest"] = [[
    local vm = boot "echo"
    print "x"
    while true do vm:ping() end
  ]],
  ["while every CPU spins"] = [[
    local vm = boot("count", { topology = "1n1l4c1t" })
    print "x"
    vm:sleep(60)
  ]],
  ["while Lua computes"] = [[
    local vm = boot "echo"
    print "x"
    local i = 0
    while true do i = i + 1 end
  ]],
  ["while it catches every error"] = [[
    local vm = boot "echo"
    print "x"
    while true do pcall(vm.ping, vm) end
  ]],
  ["while it starts machine after machine"] = [[
    print "x"
    while true do boot("echo"):kill() end
  ]],
  ["in a test"] = [[
    ktstr.test("t", { kernel = os.getenv "KTSTR_TINY", cmdline = "tiny.run=echo" }, function(t)
      print "x"
      t.vm:sleep(60)
    end)
  ]],
}

local statuses = { [signal.SIGINT] = 130, [signal.SIGTERM] = 143 }

for moment, text in pairs(moments) do
  describe("a signal " .. moment, function()
    for name, number in pairs { SIGINT = signal.SIGINT, SIGTERM = signal.SIGTERM } do
      it("ends the script: " .. name, function()
        local r, path = support.signal_while("script", BOOT .. text, number, finally)
        -- One that had nothing left to do may have ended by itself.
        local fine = r.status == statuses[number] or (moment:find "before" and r.status == 0)
        assert.is_true(fine, ("status %s, signal %s"):format(tostring(r.status), tostring(r.signal)))
        assert.same({}, support.processes_with(path))
      end)
    end

    it("that cannot be caught leaves nothing: SIGKILL", function()
      local r, path = support.signal_while("script", BOOT .. text, signal.SIGKILL, finally)
      assert.is_true(r.signal == signal.SIGKILL or moment:find "before" ~= nil and r.status == 0)
      assert.same({}, support.processes_with(path))
    end)
  end)
end

describe("a script that was told of a signal", function()
  it("cleans up without being told again", function()
    local marker = os.tmpname()
    finally(function()
      os.remove(marker)
    end)
    local r = support.signal_while("script", BOOT .. ([[
      local vm = boot "echo"
      pcall(function()
        print "x"
        vm:sleep(60)
      end)
      local n = 0
      for i = 1, 1000 do
        n = n + i
      end
      os.remove "%s"
    ]]):format(marker), signal.SIGINT, finally)
    assert.equals(130, r.status)
    assert.is_nil(io.open(marker))
  end)
end)

describe("a user with as many signals pending as may be", function()
  it("can stop and end machines all the same", function()
    local path = support.temporary_file(BOOT .. [[
      local vm = boot("count", { topology = "1n1l2c1t" })
      vm:freeze()
      vm:thaw()
      print(vm:kill().exit_reason)
    ]], finally)
    local r = process.run({ "timeout", "-s", "KILL", "60", "bash", "-c", 'ulimit -i 0; exec "$0" script "$1"',
      support.program, path }, { env = { KTSTR_TINY = support.tiny_kernel } })
    assert.same({ 0, "ExternalKill\n", "" }, { r.status, r.stdout, r.stderr })
  end)
end)

describe("a signal to ktstr test", function()
  for name, number in pairs { SIGINT = signal.SIGINT, SIGTERM = signal.SIGTERM } do
    it("ends it without running what is left: " .. name, function()
      local marker = os.tmpname()
      finally(function()
        os.remove(marker)
      end)
      local spec = BOOT .. ([[
        it("sleeps", function()
          local vm = boot "echo"
          print "x"
          vm:sleep(60)
        end)
        it("is never run", function()
          os.remove "%s"
        end)
      ]]):format(marker)
      local r, path = support.signal_while("test", spec, number, finally)
      assert.equals(statuses[number], r.status)
      assert.is_truthy(io.open(marker)):close()
      assert.same({}, support.processes_with(path))
    end)
  end
end)
