-- `ktstr warm`, and the switches that boot afresh.

local fixture = require "tests.lua.sandbox"
local fake = require "tests.lua.fake_image"
local json = require "dkjson"
local core = require "ktstr.core"
local files = require "ktstr.files"
local cache = require "ktstr.warm.cache"
local command = require "ktstr.warm.command"
local identity = require "ktstr.warm.identity"
local support = require "tests.lua.support"

local function capture(f, ...)
  local out = { stdout = "", stderr = "" }
  local saved = { stdout = io.stdout, stderr = io.stderr }
  for name in pairs(saved) do
    rawset(io, name, {
      write = function(_, ...)
        out[name] = out[name] .. table.concat { ... }
      end,
      flush = function() end,
    })
  end
  local ok, result = pcall(f, ...)
  for name, file in pairs(saved) do
    rawset(io, name, file)
  end
  if not ok then
    error(result, 0)
  end
  out.status = result
  return out
end

describe("ktstr warm", function()
  local box, undo, root
  before_each(function()
    box = fixture.sandbox()
    root = box.directory .. "/warm"
    box.setenv("KTSTR_WARM_DIR", root)
    undo = fake.install(core)
  end)
  after_each(function()
    undo()
    box.undo()
  end)

  local function run(...)
    return capture(command.main, command, { ... })
  end

  local function text_of(topology, program)
    return ("ktstr %s\nkernel-release 7.3.4-cloud\ntopology %s\nmemory 268435456\n"):format(
      program or identity.program(), topology)
  end

  -- Keeps a machine, and returns its name and place.
  local function store(topology, program)
    local text = text_of(topology, program)
    assert.is_true(cache.store(text, fake.image(text, "memory of " .. topology)))
    local name = identity.name(text)
    return name, root .. "/" .. name
  end

  it("prints its help, and that of each command", function()
    for _, args in ipairs { {}, { "--help" }, { "-h" }, { "help" } } do
      local r = run(unpack(args))
      assert.equal(0, r.status)
      assert.matches("^Usage: ktstr warm COMMAND", r.stdout)
      assert.matches("Machines are saved in " .. root, r.stdout, 1, true)
    end
    for _, name in ipairs { "list", "clean", "verify" } do
      assert.matches("^Usage: ktstr warm " .. name, run(name, "--help").stdout)
    end
  end)

  it("refuses what it does not know", function()
    local cases = {
      [{ "frob" }] = "unknown command 'warm frob'",
      [{ "list", "x" }] = "unexpected argument 'x'",
      [{ "list", "--yaml" }] = "unknown option '--yaml'",
      [{ "clean", "--all", "abc" }] = "'--all' leaves nothing to name, and there is 'abc'",
      [{ "clean", "abc" }] = "no saved machine is called 'abc'",
      [{ "clean", "" }] = "no saved machine is called ''",
      [{ "verify", "--all" }] = "unknown option '--all'",
      [{ "verify", "abc" }] = "no saved machine is called 'abc'",
    }
    for args, message in pairs(cases) do
      local e = fixture.raised(run, unpack(args))
      assert.equal(message, e.message)
      assert.is_true(e.cannot_run)
    end
  end)

  describe("list", function()
    it("says where it looked when there is nothing", function()
      local r = run "list"
      assert.same({ 0, "", ("No machine is saved in %s.\n"):format(root) }, { r.status, r.stdout, r.stderr })
      assert.same({}, json.decode(run("list", "--json").stdout))
    end)

    it("is a table of what is known of each", function()
      local fine = store "1n2l4c2t"
      local damaged, place = store "1n1l2c1t"
      files.write(place .. "/state", "nonsense")
      local stale = store("1n1l1c1t", "0.0.1 beef")
      local lines = {}
      for line in run("list").stdout:gmatch "[^\n]+" do
        lines[line:match "^%S+"] = line
      end
      assert.matches("^NAME +KERNEL +TOPOLOGY +MEMORY +SIZE +CREATED +USED +STATE$", lines.NAME)
      assert.matches("7%.3%.4%-cloud +1n2l4c2t +256 MiB +8 KiB +%d+%-%d+%-%d+ %d+:%d+ .* ok$",
        lines[fine:sub(1, 12)])
      assert.matches("%?.*damaged$", lines[damaged:sub(1, 12)])
      assert.matches("1n1l1c1t.*stale$", lines[stale:sub(1, 12)])
    end)

    it("is JSON when asked", function()
      local name, place = store "1n2l4c2t"
      local rows = json.decode(run("list", "--json").stdout)
      assert.equal(1, #rows)
      local row = rows[1]
      assert.same({ name, place, "ok", "7.3.4-cloud", "1n2l4c2t", 2 ^ 28, 8192 },
        { row.name, row.path, row.state, row.kernel_release, row.topology, row.memory, row.size })
      assert.equal("268435456", row.identity.memory)
      assert.is_true(math.abs(row.created - row.used) < 10)
    end)
  end)

  describe("clean", function()
    it("removes what is stale or damaged and what killed runs left, and says so", function()
      local _, fine = store "1n2l4c2t"
      local damaged, place = store "1n1l2c1t"
      os.remove(place .. "/memory")
      local stale = store("1n1l1c1t", "0.0.1 beef")
      files.make_directory(root .. "/x.tmp-abcdef")
      files.write(root .. "/x.tmp-abcdef/memory", "half")
      local r = run "clean"
      assert.equal(0, r.status)
      assert.matches(damaged:sub(1, 12) .. " removed (damaged: a file is missing), 4 KiB", r.stdout, 1, true)
      assert.matches(stale:sub(1, 12) .. " removed (stale: it was saved by another build of ktstr), 8 KiB",
        r.stdout, 1, true)
      assert.matches("1 left by runs that were killed removed, 4 KiB", r.stdout, 1, true)
      assert.matches("16 KiB in all (16384 bytes)", r.stdout, 1, true)
      assert.same({ ".lock", fine:match "[^/]+$" }, files.list(root))
      assert.equal("Nothing is to be removed.\n", run("clean").stdout)
    end)

    it("removes what is named by the beginning of its name, whatever its state", function()
      local a = store "1n2l4c2t"
      local b = store "1n1l2c1t"
      local r = run("clean", a:sub(1, 6), a)
      assert.equal(("%s removed, 8 KiB\n8 KiB in all (8192 bytes)\n"):format(a:sub(1, 12)), r.stdout)
      assert.same({ ".lock", b }, files.list(root))
    end)

    it("asks for more of a name that several begin with", function()
      local common, other = {}, nil
      for cores = 1, 17 do -- of 17 names two begin with the same digit
        local name = store(("1n1l%dc1t"):format(cores))
        other = common[name:sub(1, 1)]
        if other then
          break
        end
        common[name:sub(1, 1)] = name
      end
      local e = fixture.raised(run, "clean", other:sub(1, 1))
      assert.matches("^2 saved machines have names that begin with", e.message)
      assert.matches(other:sub(1, 12), e.hint)
    end)

    it("removes all when asked, with the hashes of the host's files", function()
      store "1n2l4c2t"
      store "1n1l2c1t"
      files.write(root .. "/hashes", "")
      local r = run("clean", "--all")
      assert.matches("16 KiB in all", r.stdout)
      assert.same({ ".lock" }, files.list(root))
    end)

    it("has nothing to do where nothing was ever saved", function()
      for _, args in ipairs { {}, { "--all" } } do
        local r = run("clean", unpack(args))
        assert.same({ 0, "Nothing is to be removed.\n" }, { r.status, r.stdout })
      end
      assert.is_false(files.exists(root))
    end)
  end)

  describe("verify", function()
    it("finds all well", function()
      local name = store "1n2l4c2t"
      local r = run "verify"
      assert.same({ 0, name:sub(1, 12) .. " ok\n", "" }, { r.status, r.stdout, r.stderr })
    end)

    it("names what is damaged, leaves it, and says how to remove it", function()
      local fine = store "1n2l4c2t"
      local bad, place = store "1n1l2c1t"
      files.write(place .. "/memory", "other than it was")
      local r = run "verify"
      assert.equal(1, r.status)
      assert.matches(fine:sub(1, 12) .. " ok\n", r.stdout, 1, true)
      assert.matches(bad:sub(1, 12) .. " damaged: block 0 of its memory is damaged\n", r.stdout, 1, true)
      assert.matches("ktstr warm clean " .. bad:sub(1, 12), r.stderr, 1, true)
      assert.is_true(files.exists(place))
      assert.equal(0, run("verify", fine).status)
      assert.equal(1, run("verify", bad:sub(1, 8)).status)
    end)

    it("is not confused by one that goes meanwhile", function()
      local name, place = store "1n2l4c2t"
      core.image_open = function(path)
        files.remove(place)
        return fake.open(path)
      end
      local r = run "verify"
      assert.same({ 0, name:sub(1, 12) .. " removed meanwhile\n" }, { r.status, r.stdout })
    end)
  end)
end)

describe("booting afresh", function()
  local box, load, warm
  before_each(function()
    box = fixture.sandbox()
    box.setenv("KTSTR_WARM", nil)
    local _
    _, load = support.library()
    package.loaded["ktstr.warm"] = nil -- support's has been told to boot afresh
    warm = load "ktstr.warm"
  end)
  after_each(function()
    box.undo()
  end)

  it("is not the default", function()
    assert.is_true(warm.enabled())
  end)

  it("is what KTSTR_WARM=0 asks for; what else makes no sense is refused", function()
    for value, expected in pairs { ["0"] = false, ["1"] = true, [""] = true } do
      box.setenv("KTSTR_WARM", value)
      assert.equal(expected, warm.enabled())
    end
    box.setenv("KTSTR_WARM", "no")
    local e = support.raised(warm.enabled)
    assert.equal("KTSTR_WARM is 'no'", e.message)
    assert.is_true(e.cannot_run)
  end)

  it("stays once asked for, whatever the environment says", function()
    warm.disable()
    box.setenv("KTSTR_WARM", "1")
    assert.is_false(warm.enabled())
  end)

  -- What a script sees: whether saved machines are used, and its arguments.
  local function run_script(...)
    local path = box.directory .. "/script.lua"
    files.write(path, [[
      local arguments = table.concat({ ... }, " ")
      print(tostring(require("ktstr.warm").enabled()) .. " " .. arguments)
    ]])
    local lines = {}
    local saved = print
    _G.print = function(line)
      lines[#lines + 1] = line
    end
    local args = {}
    for i, argument in ipairs { ... } do
      args[i] = argument == "SCRIPT" and path or argument
    end
    local ok, result = pcall(load("ktstr.cli").main, { "script", unpack(args) })
    _G.print = saved
    assert(ok, result)
    assert.equal(0, result)
    return lines[1]
  end

  it("is what ktstr script --cold does, before the script's name only", function()
    assert.equal("true a --cold", run_script("SCRIPT", "a", "--cold"))
    assert.equal("false a", run_script("--cold", "SCRIPT", "a"))
  end)

  it("goes with other switches of ktstr script", function()
    assert.equal("false --cold", run_script("--repl-on-failure", "--cold", "SCRIPT", "--cold"))
  end)

  it("is what ktstr test --cold does, wherever it stands", function()
    local seen
    package.loaded["ktstr.specs"] = {
      run = function(args)
        seen = table.concat(args, " ")
        return 0
      end,
    }
    local main = load("ktstr.cli").main
    assert.equal(0, main { "test", "spec", "-o", "TAP" })
    assert.is_true(warm.enabled())
    assert.equal(0, main { "test", "spec", "--cold", "-o", "TAP" })
    assert.equal("spec -o TAP", seen)
    assert.is_false(warm.enabled())
  end)

  it("is what ktstr repl --cold does, among its other options", function()
    local seen
    load("ktstr.boot").boot = function(given)
      seen = ("%s %s"):format(given.topology, given.memory)
      error("booted", 0)
    end
    local main, args = load("ktstr.repl").main, { "--topology", "1n1l1c1t", "--cold", "--memory=1G" }
    assert.equal("booted", support.raised(capture, main, args))
    assert.equal("1n1l1c1t 1G", seen)
    assert.is_false(warm.enabled())
  end)
end)
