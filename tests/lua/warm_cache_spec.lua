-- The cache of saved machines: on real directories, between real processes, with images that need no machine.

local fixture = require "tests.lua.sandbox"
local fake = require "tests.lua.fake_image"
local signal = require "posix.signal"
local stat = require "posix.sys.stat"
local statvfs = require "posix.sys.statvfs"
local unistd = require "posix.unistd"
local utime = require "posix.utime"
local wait = require "posix.sys.wait"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local files = require "ktstr.files"

local KIB = 1024

-- Not the library's own: what has been warned of is warned of once a process, and each test is to see it.
local modules = { "settings", "directory", "hashes", "identity", "cache" }

describe("the cache of saved machines", function()
  local box, undo, root, cache, directory, identity, warnings, real_stderr
  before_each(function()
    box = fixture.sandbox()
    root = box.directory .. "/warm"
    box.setenv("KTSTR_WARM_DIR", root)
    box.setenv("KTSTR_WARM_LIMIT", nil)
    undo = fake.install(core)
    for _, name in ipairs(modules) do
      package.loaded["ktstr.warm." .. name] = nil
    end
    cache, directory = require "ktstr.warm.cache", require "ktstr.warm.directory"
    identity = require "ktstr.warm.identity"
    warnings, real_stderr = {}, io.stderr
    rawset(io, "stderr", {
      write = function(_, ...)
        warnings[#warnings + 1] = table.concat { ... }
      end,
      flush = function() end,
    })
  end)
  after_each(function()
    rawset(io, "stderr", real_stderr)
    fake.halfway = function() end
    undo()
    box.undo()
  end)

  local function text_of(n)
    return ("ktstr %s\nkernel-release 7.3.4\ntopology 1n1l%dc1t\nmemory 268435456\n"):format(
      identity.program(), n)
  end

  local function store(n, bytes)
    return cache.store(text_of(n), fake.image(text_of(n), ("m"):rep(bytes or 10)))
  end

  local function place(n)
    return root .. "/" .. identity.name(text_of(n))
  end

  -- When an entry was used last, in seconds before now.
  local function used(n, ago)
    utime.utime(place(n), os.time() - ago, os.time() - ago)
  end

  local function present()
    local numbers = {}
    for n = 1, 20 do
      if files.exists(place(n)) then
        numbers[#numbers + 1] = n
      end
    end
    return numbers
  end

  -- Runs f in a process of its own. Its exit status is what f returns, or 99 when it raises.
  local function fork(f)
    io.stdout:flush()
    local pid = assert(unistd.fork())
    if pid == 0 then
      local ok, result = pcall(f)
      if not ok then
        real_stderr:write(tostring(result), "\n")
      end
      unistd._exit(ok and result or 99)
    end
    return pid
  end

  local function status_of(pid)
    local _, how, code = wait.wait(pid)
    assert.equal("exited", how)
    return code
  end

  -- A process that is in the middle of a publication when this returns, and stays there.
  local function stuck_publisher(n)
    local read_end, write_end = unistd.pipe()
    local pid = fork(function()
      fake.halfway = function()
        unistd.write(write_end, "x")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while true do
          unistd.sleep(60)
        end
      end
      store(n)
    end)
    unistd.close(write_end)
    assert.equal("x", unistd.read(read_end, 1))
    unistd.close(read_end)
    return pid
  end

  local function kill(pid)
    signal.kill(pid, signal.SIGKILL)
    wait.wait(pid)
  end

  describe("keeping and finding", function()
    it("finds nothing where nothing was kept, and makes no directory for that", function()
      assert.is_nil(cache.find(text_of(1)))
      assert.is_false(files.exists(root))
    end)

    it("finds what was kept under its identity, and nothing else", function()
      assert.is_true(store(1))
      assert.is_true(store(2))
      local image = cache.find(text_of(2))
      assert.equal(text_of(2), image:identity())
      assert.is_nil(cache.find(text_of(3)))
      assert.same({}, warnings)
    end)

    it("is for its user's eyes only", function()
      store(1)
      assert.equal(tonumber("700", 8), stat.stat(root).st_mode % 4096)
    end)

    it("leaves what another has kept meanwhile", function()
      cache.store(text_of(1), fake.image(text_of(1), "theirs"))
      assert.is_true(cache.store(text_of(1), fake.image(text_of(1), "ours")))
      assert.equal("theirs", cache.find(text_of(1)).memory)
      assert.same({}, warnings)
      assert.equal(2, #files.list(root)) -- the entry and the lock
    end)

    it("follows KTSTR_WARM_DIR, else the user's cache", function()
      box.setenv("KTSTR_WARM_DIR", nil)
      assert.equal(box.directory .. "/cache/ktstr/warm", require("ktstr.warm.settings").directory())
      box.setenv("KTSTR_WARM_DIR", "here")
      assert.equal("invalid", fixture.raised(cache.find, text_of(1)).code)
    end)

    it("refuses a limit that is none before anything is booted", function()
      box.setenv("KTSTR_WARM_LIMIT", "lots")
      local e = fixture.raised(cache.find, text_of(1))
      assert.matches("KTSTR_WARM_LIMIT is not a size: 'lots'", e.message, 1, true)
      assert.is_true(e.cannot_run)
    end)
  end)

  describe("what is of no use", function()
    local function damage(n)
      files.write(place(n) .. "/state", "nonsense")
    end

    it("is reported once, removed, and can be kept anew", function()
      store(1)
      damage(1)
      assert.is_nil(cache.find(text_of(1)))
      assert.same({ ("ktstr: warning: saved machine '%s': 'state' is damaged; it was removed\n"):format(
        place(1)) }, warnings)
      assert.is_false(files.exists(place(1)))
      assert.is_true(store(1))
      damage(1)
      assert.is_nil(cache.find(text_of(1)))
      assert.equal(1, #warnings)
      assert.is_false(files.exists(place(1)))
    end)

    it("is one of which a part is missing", function()
      for _, part in ipairs { "state", "memory" } do
        store(1)
        os.remove(place(1) .. "/" .. part)
        assert.is_nil(cache.find(text_of(1)))
        assert.is_false(files.exists(place(1)))
      end
      assert.matches("a file is missing; it was removed", warnings[1], 1, true)
    end)

    it("is one that is no directory", function()
      directory.make()
      files.write(place(1), "a file")
      assert.is_nil(cache.find(text_of(1)))
      assert.is_false(files.exists(place(1)))
      assert.equal(1, #warnings)
    end)

    it("is one under another's name, and the difference is named", function()
      store(1)
      os.rename(place(1), place(2))
      assert.is_nil(cache.find(text_of(2)))
      assert.matches("topology is 1n1l2c1t, the saved machine has 1n1l1c1t", warnings[1], 1, true)
      assert.is_false(files.exists(place(2)))
    end)

    it("is not one that cannot be opened for want of something else", function()
      store(1)
      core.image_open = function()
        errors.raise("os", "too many open files")
      end
      assert.is_nil(cache.find(text_of(1)))
      assert.is_true(files.exists(place(1)))
      assert.same({ ("ktstr: warning: saved machine '%s': too many open files\n"):format(place(1)) },
        warnings)
    end)

    it("is not one that another has removed while it was opened", function()
      store(1)
      core.image_open = function(path)
        files.remove(path)
        return fake.open(path)
      end
      assert.is_nil(cache.find(text_of(1)))
      assert.same({}, warnings)
    end)

    it("is not what has taken its place", function()
      store(1)
      local _, entry = cache.find(text_of(1))
      files.remove(place(1))
      cache.store(text_of(1), fake.image(text_of(1), "new"))
      cache.discard(entry, "it was the old one")
      assert.equal("new", cache.find(text_of(1)).memory)
    end)

    it("lets an interruption through, and stays", function()
      store(1)
      core.image_open = function()
        errors.raise("interrupted", "interrupted")
      end
      assert.equal("interrupted", fixture.raised(cache.find, text_of(1)).code)
      assert.is_true(files.exists(place(1)))
    end)
  end)

  describe("its limit", function()
    it("is kept by removing what was used least recently", function()
      for n = 1, 4 do
        store(n, 64 * KIB)
        used(n, 100 - n)
      end
      used(1, 10)
      box.setenv("KTSTR_WARM_LIMIT", "280K") -- four of 68 KiB
      store(5, 64 * KIB)
      assert.same({ 1, 3, 4, 5 }, present())
    end)

    it("counts finding as use", function()
      for n = 1, 3 do
        store(n, 64 * KIB)
        used(n, 100 - n)
      end
      cache.find(text_of(1)):close()
      box.setenv("KTSTR_WARM_LIMIT", "210K")
      store(4, 64 * KIB)
      assert.same({ 1, 3, 4 }, present())
    end)

    it("never costs the one that was just kept, unless that is too big by itself", function()
      box.setenv("KTSTR_WARM_LIMIT", "100K")
      store(1, 64 * KIB)
      assert.is_true(store(2, 64 * KIB))
      assert.same({ 2 }, present())
      assert.same({}, warnings)
      assert.is_false(store(3, 128 * KIB))
      assert.same({ 2 }, present())
      assert.equal(1, #warnings)
      assert.matches("a saved machine of 132 KiB is not kept: .* may hold 100 KiB; KTSTR_WARM_LIMIT",
        warnings[1])
      assert.is_false(store(3, 128 * KIB))
      assert.equal(1, #warnings)
    end)

    it("is never more than half of what the disk could hold of it", function()
      for n = 1, 4 do
        store(n, 64 * KIB)
        used(n, 100 - n)
      end
      -- 272 KiB are held and 136 free: half of that is three of 68.
      local full = stub(statvfs, "statvfs").returns { f_bavail = 34, f_frsize = 4 * KIB }
      cache.trim()
      full:revert()
      assert.same({ 2, 3, 4 }, present())
    end)
  end)

  describe("a machine that cannot be kept", function()
    it("is said once, and leaves nothing behind", function()
      local image = fake.image(text_of(1))
      image.publish = function()
        errors.raise("os", "cannot write: No space left on device")
      end
      assert.is_false(cache.store(text_of(1), image))
      assert.is_false(cache.store(text_of(1), image))
      assert.same({ "ktstr: warning: the machine is not kept for the next run: cannot write: No space left "
        .. "on device\n" }, warnings)
      assert.same({ ".lock" }, files.list(root))
    end)

    it("makes room for the next attempt", function()
      for n = 1, 2 do
        store(n, 64 * KIB)
        used(n, 100 - n)
      end
      local full = stub(statvfs, "statvfs").returns { f_bavail = 0, f_frsize = 4 * KIB }
      cache.give_up "No space left on device"
      full:revert()
      assert.same({ 2 }, present())
    end)

    it("does not end the run when there can be no directory", function()
      files.write(root, "in the way")
      assert.is_false(store(1))
      assert.equal(1, #warnings)
    end)

    it("is no reason to miss an interruption", function()
      local image = fake.image(text_of(1))
      image.publish = function()
        errors.raise("interrupted", "interrupted")
      end
      assert.equal("interrupted", fixture.raised(cache.store, text_of(1), image).code)
    end)
  end)

  describe("between processes", function()
    it("shows nothing of one that is being put together, and sweeps it once its maker is dead", function()
      local pid = stuck_publisher(1)
      assert.is_nil(cache.find(text_of(1)))
      assert.same({ 0, 0 }, { directory.sweep() })
      local draft = files.list(root)[1]
      assert.matches("%.tmp%-", draft)
      kill(pid)
      assert.is_nil(cache.find(text_of(1)))
      assert.equal(1, (directory.sweep()))
      assert.same({}, files.list(root))
      assert.same({}, warnings)
    end)

    it("removes what a killed publisher left when the next machine is kept", function()
      kill(stuck_publisher(1))
      assert.is_true(store(1))
      assert.same({ ".lock", identity.name(text_of(1)) }, files.list(root))
    end)

    it("removes what a killed remover left", function()
      store(1)
      os.rename(place(1), place(1) .. ".tmp-rm-1-1")
      assert.equal(1, (directory.sweep()))
      assert.same({}, present())
    end)

    it("lets one of several removers remove an entry", function()
      store(1)
      local entry = directory.scan()[1]
      local go_read, go_write = unistd.pipe()
      local pids = {}
      for i = 1, 6 do
        pids[i] = fork(function()
          unistd.close(go_write)
          unistd.read(go_read, 1) -- until the parent closes it: all at once
          return #cache.remove { entry }
        end)
      end
      unistd.close(go_read)
      unistd.close(go_write)
      local removed = 0
      for _, pid in ipairs(pids) do
        removed = removed + status_of(pid)
      end
      assert.equal(1, removed)
      assert.same({ ".lock" }, files.list(root))
    end)

    it("shows no half or wrong machine to finders while others keep, remove, trim and sweep", function()
      box.setenv("KTSTR_WARM_LIMIT", "150K") -- two of 68 KiB: keeping a third removes one
      local go_read, go_write = unistd.pipe()
      local pids = {}
      for i = 1, 4 do
        pids[i] = fork(function()
          unistd.close(go_write)
          unistd.read(go_read, 1)
          math.randomseed(i)
          local found = 0
          for _ = 1, 150 do
            local n = math.random(4)
            local image = cache.find(text_of(n))
            if image then
              found = found + 1
              image:verify()
              assert(image:identity() == text_of(n))
              assert(#image.memory == 64 * KIB)
              image:close()
            else
              store(n, 64 * KIB)
            end
            local dice = math.random(10)
            if dice == 1 then
              cache.remove { directory.scan()[1] }
            elseif dice == 2 then
              directory.sweep()
            end
          end
          assert(#warnings == 0, warnings[1])
          return found > 0 and 0 or 1
        end)
      end
      unistd.close(go_read)
      unistd.close(go_write)
      for _, pid in ipairs(pids) do
        assert.equal(0, status_of(pid))
      end
      directory.sweep()
      for _, name in ipairs(files.list(root)) do
        assert.is_true(name == ".lock" or #name == 32, name)
      end
      local bytes = 0
      for _, entry in ipairs(cache.list()) do
        assert.equal("ok", entry.state)
        assert.is_true(cache.verify(entry))
        bytes = bytes + entry.size
      end
      assert.is_true(bytes > 0 and bytes <= 150 * KIB, bytes)
    end)
  end)

  describe("its list", function()
    it("says what each is, how big, and when it was made and used, the one used last first", function()
      store(1, 64 * KIB)
      store(2)
      used(1, 50)
      local list = cache.list()
      assert.equal(2, #list)
      assert.equal(identity.name(text_of(2)), list[1].name)
      local one = list[2]
      assert.equal("ok", one.state)
      assert.equal("1n1l1c1t", one.identity.topology)
      assert.equal(68 * KIB, one.size)
      assert.is_true(math.abs(os.time() - 50 - one.used) < 10)
      assert.is_true(math.abs(os.time() - one.created) < 10)
    end)

    it("tells what is damaged, misplaced, or another build's", function()
      store(1)
      files.write(place(1) .. "/state", "nonsense")
      store(2)
      os.rename(place(2), place(3))
      local old = text_of(4):gsub("^ktstr [^\n]*", "ktstr 0.0.1 beef")
      cache.store(old, fake.image(old))
      store(5)
      local states = {}
      for _, entry in ipairs(cache.list()) do
        states[entry.name] = entry.state
      end
      assert.same({
        [identity.name(text_of(1))] = "damaged",
        [identity.name(text_of(3))] = "damaged",
        [identity.name(old)] = "stale",
        [identity.name(text_of(5))] = "ok",
      }, states)
    end)

    it("has nothing of what is none of the cache's", function()
      store(1)
      files.make_directory(root .. "/notes")
      files.write(root .. "/hashes", "")
      assert.equal(1, #cache.list())
    end)
  end)
end)
