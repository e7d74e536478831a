-- What makes a saved machine the one that is wanted, and the hashes of files that go into it.

local fixture = require "tests.lua.sandbox"
local fake = require "tests.lua.fake_image"
local stat = require "posix.sys.stat"
local time = require "posix.time"
local utime = require "posix.utime"
local core = require "ktstr.core"
local files = require "ktstr.files"
local hashes = require "ktstr.warm.hashes"
local identity = require "ktstr.warm.identity"
local topology = require "ktstr.topology"

local MIB = 2 ^ 20

describe("a saved machine's identity", function()
  local box, undo
  before_each(function()
    box = fixture.sandbox()
    box.setenv("KTSTR_WARM_DIR", box.directory .. "/warm")
    undo = fake.install(core)
    files.write(box.directory .. "/vmlinux", "kernel")
    files.write(box.directory .. "/agent", "agent")
  end)
  after_each(function()
    undo()
    box.undo()
  end)

  local function request(changes)
    local r = {
      kernel = box.directory .. "/vmlinux",
      kernel_release = "7.3.4",
      cmdline = "console=ttyS0",
      agent = box.directory .. "/agent",
      initramfs = {
        { kind = "file", path = "/init", mode = 493, host = box.directory .. "/agent" },
        { kind = "file", path = "/etc/hosts", mode = 420, content = "127.0.0.1 localhost\n" },
        { kind = "dir", path = "/tmp", mode = 1023 },
        { kind = "char", path = "/dev/null", mode = 438, content = "1:3" },
      },
      modules = {},
      topology = topology.parse "1n1l2c1t",
      memory = 256 * MIB,
      la57 = false,
      steal_time = true,
      invariant_tsc = nil,
      kaslr = true,
      host_cpu = "AuthenticAMD family 25 model 1 stepping 1, cpuid 1f2e",
    }
    for name, value in pairs(changes or {}) do
      r[name] = value
    end
    return r
  end

  it("is the same for the same boot, in lines of a name and a value", function()
    local text = identity.text(request())
    assert.equal(text, identity.text(request()))
    for line in text:gmatch "([^\n]*)\n" do
      assert.matches("^[%w-]+ .+$", line)
    end
    assert.equal("\n", text:sub(-1))
    local values = identity.parse(text)
    assert.equal("1n1l2c1t", values.topology)
    assert.equal("268435456", values.memory)
    assert.equal("1:268435456", values.nodes)
    assert.equal("host", values["invariant-tsc"])
    assert.matches("0123abcd$", values.ktstr)
    assert.equal(32, #identity.name(text))
  end)

  it("does not depend on the order of the initramfs", function()
    local r = request()
    local turned = {}
    for i, part in ipairs(r.initramfs) do
      turned[#r.initramfs + 1 - i] = part
    end
    assert.equal(identity.text(r), identity.text(request { initramfs = turned }))
  end)

  local changes = {
    kernel_release = { "7.3.5", "the kernel is 7.3.5, the saved machine has 7.3.4" },
    cmdline = { "console=ttyS0 quiet",
      "the command line is 'console=ttyS0 quiet', the saved machine has 'console=ttyS0'" },
    la57 = { true, "la57 is yes, the saved machine has no" },
    steal_time = { false, "steal-time is no, the saved machine has yes" },
    invariant_tsc = { false, "invariant-tsc is no, the saved machine has host" },
    kaslr = { false, "kaslr is no, the saved machine has yes" },
    host_cpu = { "GenuineIntel family 6 model 85 stepping 7, cpuid 99",
      "the host's CPU is GenuineIntel family 6 model 85 stepping 7, cpuid 99, the saved machine has "
        .. "AuthenticAMD family 25 model 1 stepping 1, cpuid 1f2e" },
    modules = { { { name = "virtio_console", data = "ELF" } },
      "the list of modules is virtio_console, the saved machine has none" },
  }

  for field, change in pairs(changes) do
    it("names a difference in " .. field, function()
      local saved = identity.text(request())
      local ours = identity.text(request { [field] = change[1] })
      assert.equal(change[2], identity.difference(ours, saved))
      assert.not_equal(identity.name(ours), identity.name(saved))
    end)
  end

  it("names every difference of a topology and a size", function()
    local saved = identity.text(request())
    local ours = identity.text(request { topology = topology.parse "1n1l4c1t", memory = 512 * MIB })
    assert.equal("topology is 1n1l4c1t, the saved machine has 1n1l2c1t; "
      .. "the nodes are 1 LLC with 512 MiB, the saved machine has 1 LLC with 256 MiB; "
      .. "memory is 512 MiB, the saved machine has 256 MiB", identity.difference(ours, saved))
  end)

  it("tells topologies of the same counts by their nodes' memory and distances", function()
    local function of(given)
      return identity.text(request { topology = topology.parse(given), memory = 1024 * MIB })
    end
    local even = of "2n2l1c1t"
    local uneven = of { nodes = { { llcs = 1, memory = "768M" }, { llcs = 1, memory = "256M" } }, cores = 1 }
    assert.equal("the nodes are 1 LLC with 768 MiB, 1 LLC with 256 MiB, the saved machine has "
      .. "1 LLC with 512 MiB, 1 LLC with 512 MiB", identity.difference(uneven, even))
    local far = of { numa_nodes = 2, llcs = 2, cores = 1, distances = { { 10, 30 }, { 30, 10 } } }
    assert.equal("the distances are 10,30 30,10, the saved machine has 10,20 20,10",
      identity.difference(far, even))
  end)

  it("sees other contents of the kernel, the agent, the initramfs and a module", function()
    local module = { name = "virtio_console", data = "one" }
    local saved = identity.text(request { modules = { module } })
    module.data = "two"
    assert.equal("the list of modules is not the saved machine's",
      identity.difference(identity.text(request { modules = { module } }), saved))
    module.data = "one"
    files.write(box.directory .. "/vmlinux", "another kernel")
    assert.equal("the kernel image is not the saved machine's",
      identity.difference(identity.text(request { modules = { module } }), saved))
    files.write(box.directory .. "/vmlinux", "kernel")
    files.write(box.directory .. "/agent", "another agent")
    assert.equal("the agent is not the saved machine's; the initramfs is not the saved machine's",
      identity.difference(identity.text(request { modules = { module } }), saved))
  end)

  it("sees a mode, a path and a kind in the initramfs", function()
    local saved = identity.text(request())
    for field, value in pairs { mode = 448, path = "/tmp2", kind = "file" } do
      local r = request()
      r.initramfs[3][field] = value
      assert.equal("the initramfs is not the saved machine's", identity.difference(identity.text(r), saved))
    end
  end)

  it("has one line for a value with lines of its own", function()
    local plain = identity.text(request { cmdline = "a\nmemory 1" })
    assert.equal("268435456", identity.parse(plain).memory)
    assert.not_equal(plain, identity.text(request { cmdline = "a\\nmemory 1" }))
  end)

  it("has no difference from itself, and says what only one of two has", function()
    local text = identity.text(request())
    assert.is_nil(identity.difference(text, text))
    assert.equal("colour is said by only one of them", identity.difference(text, text .. "colour red\n"))
    assert.equal("colour is said by only one of them", identity.difference(text .. "colour red\n", text))
  end)
end)

describe("the hash of a file", function()
  local box, undo, path, memory, count, clock, saved_hash_file
  before_each(function()
    box = fixture.sandbox()
    box.setenv("KTSTR_WARM_DIR", box.directory .. "/warm")
    undo = fake.install(core)
    path, memory = box.directory .. "/big", box.directory .. "/warm/hashes"
    files.write(path, ("x"):rep(MIB))
    count, saved_hash_file = 0, core.hash_file
    core.hash_file = function(name)
      count = count + 1
      local text = files.read(name)
      if not text then
        return saved_hash_file(name)
      end
      return fake.hash(#text .. text:sub(-10)) -- all of a megabyte takes long in Lua
    end
    clock = stub(time, "clock_gettime")
    clock.returns { tv_sec = os.time() + 10, tv_nsec = 0 }
  end)
  after_each(function()
    clock:revert()
    core.hash_file = saved_hash_file
    undo()
    box.undo()
  end)

  it("is taken once", function()
    local hash = hashes.of(path)
    assert.equal(hash, hashes.of(path))
    assert.equal(1, count)
  end)

  it("is taken again when the file has changed, in size, contents or time alone", function()
    local first = hashes.of(path)
    files.write(path, ("x"):rep(MIB - 1) .. "y")
    assert.not_equal(first, hashes.of(path))
    assert.equal(2, count)
    utime.utime(path, 1, 1)
    hashes.of(path)
    assert.equal(3, count)
    os.rename(path, path .. ".old")
    files.write(path, ("x"):rep(MIB))
    assert.equal(first, hashes.of(path))
    assert.equal(4, count)
  end)

  it("is not remembered for a file that changed so lately that it may change unseen", function()
    clock.returns { tv_sec = os.time(), tv_nsec = 0 }
    hashes.of(path)
    hashes.of(path)
    assert.equal(2, count)
    assert.is_false(files.exists(memory))
  end)

  it("is not remembered for a file that changed while it was read", function()
    local hash_file = core.hash_file
    core.hash_file = function(name)
      local hash = hash_file(name)
      utime.utime(name, count, count)
      return hash
    end
    hashes.of(path)
    assert.is_false(files.exists(memory))
  end)

  it("is taken each time of a small file", function()
    files.write(path, "small")
    hashes.of(path)
    hashes.of(path)
    assert.equal(2, count)
    assert.is_false(files.exists(memory))
  end)

  it("is the one of the file that a link leads to", function()
    require("posix.unistd").link(path, box.directory .. "/link", true)
    assert.equal(hashes.of(path), hashes.of(box.directory .. "/link"))
    assert.equal(1, count)
  end)

  it("is remembered for any name of a file", function()
    local odd = box.directory .. "/a b%41\nc"
    os.rename(path, odd)
    hashes.of(odd)
    local other = path
    files.write(other, ("z"):rep(MIB))
    hashes.of(other) -- writes and reads the file of hashes again
    hashes.of(odd)
    assert.equal(2, count)
  end)

  it("is taken again when what was remembered is damaged at any byte, then remembered again", function()
    hashes.of(path)
    local whole = files.read(memory)
    local at = { 1, #whole, whole:find "\n" }
    for i = 1, #whole, 7 do
      at[#at + 1] = i
    end
    for i, position in ipairs(at) do
      local byte = whole:byte(position)
      local other = string.char((byte + 1) % 256)
      files.write(memory, whole:sub(1, position - 1) .. other .. whole:sub(position + 1))
      assert.equal(32, #hashes.of(path))
      assert.equal(i + 1, count, ("byte %d was believed"):format(position))
      assert.equal(whole, files.read(memory))
    end
    files.write(memory, "")
    hashes.of(path)
    assert.equal(#at + 2, count)
  end)

  it("is remembered of no more files than is bounded, the newest", function()
    for i = 1, 270 do
      clock.returns { tv_sec = os.time() + 10 + i, tv_nsec = 0 }
      local name = ("%s/%d"):format(box.directory, i)
      os.rename(i == 1 and path or ("%s/%d"):format(box.directory, i - 1), name)
      hashes.of(name)
    end
    local _, lines = files.read(memory):gsub("\n", "")
    assert.equal(257, lines)
    assert.matches("/270\n", files.read(memory), 1, true)
    assert.is_nil(files.read(memory):find("/14\n", 1, true))
  end)

  it("is found without a place to remember it", function()
    files.write(box.directory .. "/warm", "in the way")
    assert.equal(hashes.of(path), hashes.of(path))
    assert.equal(2, count)
  end)

  it("leaves nothing beside the file of hashes, which only its user reads", function()
    hashes.of(path)
    assert.same({ "hashes" }, files.list(box.directory .. "/warm"))
    assert.equal(tonumber("700", 8), stat.stat(box.directory .. "/warm").st_mode % 4096)
  end)

  it("of a file that is not there is refused", function()
    assert.equal("not-found", fixture.raised(hashes.of, box.directory .. "/nothing").code)
  end)
end)
