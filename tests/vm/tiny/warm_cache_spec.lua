-- ktstr.boot and the cache of saved machines: what is found, what is of no use, what killed runs leave.
local ktstr = require "ktstr"
local core = require "ktstr.core"
local directory = require "ktstr.warm.directory"
local fcntl = require "posix.fcntl"
local files = require "ktstr.files"
local process = require "ktstr.process"
local sandbox = require "tests.lua.sandbox"
local signal = require "posix.signal"
local support = require "tests.vm.support"
local tiny_guest = require "tests.vm.tiny_guest"
local unistd = require "posix.unistd"
local wait = require "posix.sys.wait"

local box, warm_dir

before_each(function()
  box = sandbox.sandbox()
  warm_dir = box.directory .. "/warm"
  box.setenv("KTSTR_WARM_DIR", warm_dir)
  box.setenv("KTSTR_WARM", "1")
end)

after_each(function()
  box.undo()
end)

-- A script's first lines: boot(OPTIONS) gives a machine of the tiny guest, say() what it is.
local PRELUDE = [[
io.stdout:setvbuf "no"
local ktstr = require "ktstr"
local function boot(options)
  options = options or {}
  options.kernel = os.getenv "KTSTR_TINY"
  options.cmdline = options.cmdline or "tiny.run=warm"
  options.memory, options.timeout = "128M", options.timeout or 60
  return ktstr.boot(options)
end
local function say(vm)
  vm:ping()
  print(vm.warm and "warm" or "cold")
  return vm
end
]]

-- Runs the text as a script, after the prelude.
local function run(finally, text, ...)
  local arguments = { support.program, "script", ... }
  arguments[#arguments + 1] = support.temporary_file(PRELUDE .. text, finally)
  return process.run(arguments, { env = { KTSTR_TINY = support.tiny_kernel } })
end

-- What one run says that boots one machine: its output, its warnings.
local function run_once(finally, ...)
  local result = run(finally, "assert(say(boot()):shutdown().passed)", ...)
  assert.equals(0, result.status, result.stderr)
  return result.stdout, result.stderr
end

local function expect(finally, ...)
  assert.same({ ... }, { run_once(finally) })
end

local function entries()
  local paths = {}
  for _, entry in ipairs(directory.scan()) do
    paths[#paths + 1] = entry.path
  end
  return paths
end

-- The one entry of a cache that has just been filled.
local function filled(finally)
  expect(finally, "cold\n", "")
  assert.equals(1, #entries())
  return entries()[1]
end

-- Of this process: a machine that is ended when the test ends.
local function boot(finally, options)
  options = options or {}
  options.kernel, options.memory = support.tiny_kernel, "128M"
  options.timeout = options.timeout or 60
  options.cmdline = options.cmdline or "tiny.run=warm"
  local vm = ktstr.boot(options)
  finally(function()
    vm:kill()
  end)
  return vm
end

-- Starts a script and returns its pid; its output goes nowhere.
local function start(path)
  local pid = assert(unistd.fork())
  if pid == 0 then
    local null = fcntl.open("/dev/null", fcntl.O_WRONLY)
    unistd.dup2(null, 1)
    unistd.dup2(null, 2)
    require("posix.stdlib").setenv("KTSTR_TINY", support.tiny_kernel)
    unistd.exec(support.program, { "script", path })
    unistd._exit(127)
  end
  return pid
end

local function draft()
  for _, name in ipairs(files.list(warm_dir)) do
    if name:find(".tmp-", 1, true) then
      return name
    end
  end
end

describe("a run", function()
  it("boots what no run before it did, and starts from it afterwards", function()
    expect(finally, "cold\n", "")
    expect(finally, "warm\n", "")
    expect(finally, "warm\n", "")
    assert.is_true(boot(finally).warm)
    assert.is_false(boot(finally, { topology = "1n1l4c1t" }).warm)
    assert.is_true(boot(finally, { topology = "1n1l4c1t" }).warm)
    assert.is_false(boot(finally, { steal_time = false }).warm)
    assert.equals(3, #entries())
    assert.is_nil(draft())
  end)

  it("does neither with --cold, KTSTR_WARM=0 or warm = false", function()
    assert.same({ "cold\n", "" }, { run_once(finally, "--cold") })
    box.setenv("KTSTR_WARM", "0")
    expect(finally, "cold\n", "")
    assert.is_false(boot(finally).warm)
    box.setenv("KTSTR_WARM", "1")
    assert.is_false(boot(finally, { warm = false }).warm)
    assert.is_false(files.is_directory(warm_dir))
    filled(finally)
    assert.same({ "cold\n", "" }, { run_once(finally, "--cold") })
    assert.is_false(boot(finally, { warm = false }).warm)
    box.setenv("KTSTR_WARM", "0")
    expect(finally, "cold\n", "")
    assert.is_true(boot(finally, { warm = true }).warm)
  end)

  it("gives each machine its own files, which are no part of what is kept", function()
    local path = support.temporary_file("mine", finally)
    local other = support.temporary_file("another's", finally)
    local function content(file)
      local vm = boot(finally, { files = file and { ["/memory"] = file } })
      return vm:read "/memory"
    end
    assert.equals("mine", content(path))
    assert.equals("another's", content(other))
    assert.equals("", content())
    assert.equals(1, #entries())
  end)

  it("may have several machines of one entry, at the same time", function()
    filled(finally)
    local machines = {}
    for i = 1, 4 do
      machines[i] = boot(finally)
      machines[i]:write("/memory", "machine " .. i)
    end
    files.remove(entries()[1]) -- they go on without it
    for i, machine in ipairs(machines) do
      assert.same({ true, "machine " .. i }, { machine.warm, machine:read "/memory" })
      assert.is_true(machine:shutdown().passed)
    end
  end)
end)

describe("an entry", function()
  local function change(path, f)
    assert(os.execute(("chmod u+w '%s'"):format(path)) == 0)
    f(path)
  end

  local damages = {
    ["whose memory is cut short"] = function(entry)
      change(entry .. "/memory", function(path)
        assert(os.execute(("truncate -s -4096 '%s'"):format(path)) == 0)
      end)
      return "its memory has 134213632 bytes and should have 134217728"
    end,
    ["whose memory is missing"] = function(entry)
      os.remove(entry .. "/memory")
      return "it has no file 'memory'"
    end,
    ["whose state is missing"] = function(entry)
      os.remove(entry .. "/state")
      return "it has no file 'state'"
    end,
    ["whose memory is another's"] = function(entry)
      boot(function() end, { cmdline = "tiny.run=warm a=b" }):kill()
      for _, path in ipairs(entries()) do
        if path ~= entry then
          os.rename(path .. "/memory", entry .. "/memory")
          files.remove(path)
        end
      end
      return "its memory is not what was saved"
    end,
    ["whose memory was written to"] = function(entry)
      change(entry .. "/memory", function(path)
        local file = io.open(path, "r+b")
        file:seek("set", 0x1000b00)
        file:write "\204"
        file:close()
      end)
      return "its memory is not what was saved"
    end,
    ["whose state was written to"] = function(entry)
      change(entry .. "/state", function(path)
        local file = io.open(path, "r+b")
        file:seek("end", -1000)
        file:write "x"
        file:close()
      end)
      return "its checksum is wrong"
    end,
    ["whose state is empty"] = function(entry)
      change(entry .. "/state", function(path)
        files.write(path, "")
      end)
      return "'state' is damaged"
    end,
    ["that is another's, under this name"] = function(entry)
      boot(function() end, { cmdline = "tiny.run=warm a=b" }):kill()
      for _, path in ipairs(entries()) do
        if path ~= entry then
          files.remove(entry)
          os.rename(path, entry)
        end
      end
      return "it is another machine than its name says: the command line is"
    end,
  }
  for what, damage in pairs(damages) do
    it(what .. " is reported once, removed, and the run boots", function()
      local entry = filled(finally)
      local reason = damage(entry)
      local stdout, stderr = run_once(finally)
      assert.equals("cold\n", stdout)
      assert.is_truthy(stderr:find(reason, 1, true), stderr)
      assert.matches("^ktstr: warning: saved machine '[^\n]*; it was removed\n$", stderr)
      expect(finally, "warm\n", "")
      assert.is_nil(draft())
    end)
  end

  it("is refused with any byte of its state changed, and cut short anywhere", function()
    local path = filled(finally)
    local state = path .. "/state"
    local good = assert(require("ktstr.host").read_file(state))
    change(state, function()
      local file = assert(io.open(state, "r+b"))
      file:setvbuf "no"
      for at = 0, #good - 1 do
        local byte = good:byte(at + 1)
        file:seek("set", at)
        file:write(string.char(bit.bxor(byte, bit.lshift(1, at % 8))))
        local ok, e = pcall(core.image_open, path)
        assert.is_true(not ok and e.code == "format", ("byte %d"):format(at))
        file:seek("set", at)
        file:write(string.char(byte))
      end
      file:close()
    end)
    core.image_open(path):close()
    for size = #good - 1, 0, -61 do
      files.write(state, good:sub(1, size))
      assert.equals("format", select(2, pcall(core.image_open, path)).code)
    end
  end)

  -- In the place of an entry, and with its identity: a machine that asks for captures, and does that then.
  local function replace(entry, scenario)
    local image = core.image_open(entry)
    local identity, script = image:identity(), image:script()
    image:close()
    files.remove(entry)
    local machine
    tiny_guest.wait_until(function() -- it may be past that
      machine = support.tiny_machine({ "capture=200", scenario },
        { topology = "1n1l2c1t", memory = 128 * 2 ^ 20 })
      machine:start()
      while machine:freeze_counts().guest.done < 5 do
      end
      return pcall(machine.freeze, machine)
    end)
    machine:save(identity, script):publish(entry)
    machine:kill()
    machine:join()
  end

  it("whose guest dies at once is reported once, removed, and the run boots", function()
    replace(filled(finally), "triple")
    local stdout, stderr = run_once(finally)
    assert.equals("cold\n", stdout)
    assert.matches("^ktstr: warning: [^\n]*ended while waking up[^\n]*; it was removed\n$", stderr)
    expect(finally, "warm\n", "")
  end)

  it("whose guest never wakes up costs one run its time, and no other", function()
    replace(filled(finally), "hang")
    local r = run(finally, "boot { timeout = 1 }")
    assert.equals(1, r.status)
    assert.matches("^ktstr: warning: [^\n]*ended while waking up: its time was up[^\n]*; it was removed\n",
      r.stderr)
    assert.same({}, entries())
    expect(finally, "cold\n", "")
    expect(finally, "warm\n", "")
  end)
end)

describe("a run that is killed", function()
  it("while it saves leaves nothing that is used, and what it leaves is swept", function()
    local path = support.temporary_file(PRELUDE .. [[
      for i = 1, 1000 do
        boot({ cmdline = "tiny.run=warm i=" .. i }):kill()
      end
    ]], finally)
    local kills, drafts = 0, 0
    repeat
      local pid = start(path)
      kills = kills + 1
      -- When it is about to give one of its first machines a name, or has just done so. A draft is there so
      -- shortly that it may never be seen.
      local patience = os.time() + 3
      tiny_guest.wait_until(function()
        return #directory.scan() >= kills % 5 and (kills % 5 > 0 or draft() or os.time() > patience)
      end)
      signal.kill(pid, signal.SIGKILL)
      wait.wait(pid)
      drafts = drafts + (draft() and 1 or 0)
      for _, entry in ipairs(entries()) do
        local image = core.image_open(entry)
        image:verify()
        image:close()
        files.remove(entry)
      end
    until kills >= 20 and drafts >= 3 or kills == 150
    assert.is_true(drafts >= 3, "none was killed in the middle of it")
    expect(finally, "cold\n", "")
    assert.is_nil(draft())
    expect(finally, "warm\n", "")
  end)
end)

describe("a signal", function()
  local moments = {
    ["while it starts from saved machines"] = "while true do boot():kill() end",
    ["while it saves into the cache"] = [[
      for i = 1, 1e9 do
        boot({ cmdline = "tiny.run=warm i=" .. i % 50 }):kill()
      end]],
    ["while it saves, and forks"] = [[
      local vm = boot()
      while true do
        local image = vm:save()
        image:boot():kill()
        image:close()
      end]],
    ["while it goes back and forth"] = [[
      local vm = boot()
      vm:checkpoint()
      while true do
        vm:rewind()
        vm:thaw()
        vm:ping()
      end]],
  }
  for moment, text in pairs(moments) do
    it(moment .. " ends the run, and leaves nothing", function()
      for round = 1, 4 do
        for number, status in pairs { [signal.SIGINT] = 130, [signal.SIGTERM] = 143 } do
          local script = PRELUDE .. ("for _ = 1, %d do boot():kill() end print 'x' "):format(round) .. text
          local r, path = support.signal_while("script", script, number, finally)
          assert.equals(status, r.status)
          assert.same({}, support.processes_with(path))
          assert.is_nil(draft())
        end
      end
      expect(finally, "warm\n", "")
    end)
  end
end)

describe("processes that race", function()
  it("to make and to use one entry all run, and one entry is there", function()
    local path = support.temporary_file(PRELUDE .. [[
      for i = 1, 5 do
        assert(say(boot()):shutdown().passed)
      end
      assert(boot().warm)
    ]], finally)
    for _ = 1, 4 do
      local pids = {}
      for i = 1, 4 do
        pids[i] = start(path)
      end
      for _, pid in ipairs(pids) do
        assert.same({ pid, "exited", 0 }, { wait.wait(pid) })
      end
      assert.equals(1, #entries())
      assert.is_nil(draft())
      files.remove(entries()[1])
    end
  end)

  it("to use it and to remove it all run", function()
    filled(finally)
    local path = support.temporary_file(PRELUDE .. [[
      for i = 1, 20 do
        assert(say(boot()):shutdown().passed)
      end
    ]], finally)
    local pids = { start(path), start(path) }
    for _ = 1, 30 do
      assert.equals(0, support.ktstr("warm", "clean", "--all").status)
    end
    for _, pid in ipairs(pids) do
      assert.same({ pid, "exited", 0 }, { wait.wait(pid) })
    end
    assert.is_nil(draft())
  end)
end)

describe("a full disk", function()
  it("is said once, and the run goes on", function()
    local path = support.temporary_file(PRELUDE .. [[
      for i = 1, 3 do
        local vm = boot { cmdline = "tiny.run=warm i=" .. i }
        assert(say(vm):shutdown().passed)
      end
    ]], finally)
    local script = 'mount -t tmpfs -o size="$1" none "$2" && exec "$3" script "$4"'
    files.make_directory(warm_dir)
    for _, size in ipairs { "16k", "300k", "600k", "1m", "2m" } do
      local r = process.run({ "unshare", "-m", "sh", "-c", script, "sh", size, warm_dir, support.program,
        path }, { env = { KTSTR_TINY = support.tiny_kernel } })
      if r.status ~= 0 and r.stdout == "" then
        pending("needs the right to mount: " .. r.stderr)
      end
      assert.same({ 0, "cold\ncold\ncold\n" }, { r.status, r.stdout }, r.stderr)
      local _, lines = r.stderr:gsub("\n", "")
      assert.equals(1, lines, r.stderr)
      assert.matches("^ktstr: warning: ", r.stderr)
    end
  end)
end)
