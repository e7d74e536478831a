-- The kernel cache, and which kernel a version or a path means.

local fixture = require "tests.lua.sandbox"
local unistd = require "posix.unistd"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local cache = require "ktstr.kernels.cache"
local command = require "ktstr.kernels.command"
local files = require "ktstr.files"
local kernels = require "ktstr.kernels"
local process = require "ktstr.process"
local version = require "ktstr.kernels.version"

local raised, sandbox = fixture.raised, fixture.sandbox

local function add_kernel(release, package_version, meta)
  local directory = cache.directory() .. "/" .. release
  files.make_directory(directory .. "/modules")
  files.write(directory .. "/bzImage", "bzImage of " .. release)
  files.write(directory .. "/vmlinux", "vmlinux of " .. release)
  files.write(directory .. "/config", "")
  local values = { distribution = "debian", package_version = package_version }
  values.version = version.upstream(package_version)
  for key, value in pairs(meta or {}) do
    values[key] = value
  end
  files.write(directory .. "/meta.json", require("dkjson").encode(values))
  return directory
end

describe("kernel versions", function()
  it("are matched by component", function()
    assert.is_true(version.matches("7.3", "7.3.4+deb13-cloud-amd64"))
    assert.is_true(version.matches("7.3", "7.3"))
    assert.is_true(version.matches("6.1", "6.1.0-56-cloud-amd64"))
    assert.is_true(version.matches("6.1.192", "6.1.192"))
    assert.is_true(version.matches("7", "7.3.4"))
    assert.is_true(version.matches("7.3", "7.3-rc2"))
    assert.is_false(version.matches("6.1", "6.12.117"))
    assert.is_false(version.matches("6.1.19", "6.1.192"))
    assert.is_false(version.matches("7.3.4+deb", "7.3.4+deb13-cloud-amd64"))
    assert.is_false(version.matches("7.3.4", "7.3"))
  end)

  it("are ordered as dpkg orders them", function()
    local ascending = {
      "6.1.9-1", "6.1.170-3", "6.1.192-1", "6.1.192-2", "6.12.90-1~bpo12+1", "6.12.90-1", "6.12.90-2",
      "6.12.117-1~deb12u1", "6.12.117-1", "7.3~rc1-1", "7.3-1", "7.3.4-1~bpo13+1", "7.3.4-1", "7.10-1",
    }
    for i = 1, #ascending do
      for j = 1, #ascending do
        local expected = i < j and -1 or i > j and 1 or 0
        local a, b = ascending[i], ascending[j]
        assert.equal(expected, version.compare(a, b), a .. " " .. b)
      end
    end
  end)

  it("put a release candidate before its release", function()
    assert.equal(-1, version.compare("7.3-rc4", "7.3"))
    assert.equal(-1, version.compare("7.3-rc4", "7.3.1"))
  end)

  it("are told from paths", function()
    assert.is_true(version.is_version "7.3.4+deb13-cloud-amd64")
    for _, text in ipairs { "", "bzImage", "./7.3", "7.3/bzImage", "7.", "7.3 " } do
      assert.is_false(version.is_version(text), text)
    end
  end)
end)

describe("the kernel cache", function()
  local box
  before_each(function()
    box = sandbox()
  end)
  after_each(function()
    box.undo()
  end)

  local function no_wait()
    error "waited for the lock"
  end

  it("is empty to begin with, and says what to do", function()
    assert.same({}, kernels.list())
    local err = raised(kernels.resolve)
    assert.equal("not-found", err.code)
    assert.equal("no kernel is cached; try 'ktstr kernel get debian:7.3'", tostring(err))
  end)

  it("follows XDG_CACHE_HOME, else HOME, and refuses to guess", function()
    assert.equal(box.directory .. "/cache/ktstr/kernels", cache.directory())
    box.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    box.setenv("HOME", "/home/somebody")
    assert.equal("/home/somebody/.cache/ktstr/kernels", cache.directory())
    box.setenv("HOME", "")
    assert.equal("invalid", raised(cache.directory).code)
  end)

  it("finds the highest kernel of a version", function()
    add_kernel("6.1.0-56-cloud-amd64", "6.1.192-2")
    add_kernel("6.12.117+deb13-cloud-amd64", "6.12.117-1")
    add_kernel("7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1")
    local newest = add_kernel("7.3.10+deb14-cloud-amd64", "7.3.10-1")
    local kernel = kernels.resolve "7.3"
    assert.equal("7.3.10+deb14-cloud-amd64", kernel.release)
    assert.equal(newest .. "/vmlinux", kernel.path)
    assert.equal(newest .. "/bzImage", kernel.bzimage)
    assert.equal(newest .. "/modules", kernel.modules)
    assert.equal("7.3.10", kernel.version)
    assert.equal("7.3.4+deb13-cloud-amd64", kernels.resolve("7.3.4").release)
    assert.equal("6.1.0-56-cloud-amd64", kernels.resolve("6.1").release)
    assert.equal("6.1.0-56-cloud-amd64", kernels.resolve("debian:6.1.192").release)
    assert.equal("7.3.10+deb14-cloud-amd64", kernels.resolve().release)
  end)

  it("names what it has when it lacks what is asked for", function()
    add_kernel("6.1.0-47-cloud-amd64", "6.1.170-3")
    add_kernel("7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1")
    local err = raised(kernels.resolve, "7.9")
    assert.equal("kernel '7.9' is not cached (have: 6.1.170, 7.3.4); try 'ktstr kernel get debian:7.9'",
      tostring(err))
    assert.is_true(err.cannot_run)
    assert.equal("KTSTR_KERNEL: kernel '7.9'", (function()
      box.setenv("KTSTR_KERNEL", "7.9")
      return raised(kernels.resolve).message:match "^.*'7.9'"
    end)())
  end)

  it("lets KTSTR_KERNEL choose where a test does not", function()
    add_kernel("6.1.0-47-cloud-amd64", "6.1.170-3")
    add_kernel("7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1")
    box.setenv("KTSTR_KERNEL", "6.1")
    assert.equal("6.1.0-47-cloud-amd64", kernels.resolve().release)
    assert.equal("7.3.4+deb13-cloud-amd64", kernels.resolve("7.3").release)
  end)

  it("passes over a directory that is not complete", function()
    local directory = add_kernel("7.3.4+deb13-cloud-amd64", "7.3.4-1")
    files.remove(directory .. "/meta.json")
    assert.same({}, kernels.list())
  end)

  it("gives what is made in a temporary directory its place, and removes the directory", function()
    local used
    cache.with_temporary(no_wait, function(directory)
      used = directory
      files.make_directory(directory .. "/kernel")
      files.write(directory .. "/kernel/bzImage", "new")
      cache.install(directory .. "/kernel", "7.3.4", { version = "7.3.4" })
    end)
    assert.equal("new", files.read(kernels.resolve("7.3").bzimage))
    assert.is_false(files.exists(used))
  end)

  it("replaces a kernel of the same release", function()
    add_kernel("7.3.4", "7.3.4-1")
    cache.with_temporary(no_wait, function(directory)
      files.make_directory(directory .. "/kernel")
      files.write(directory .. "/kernel/bzImage", "newer")
      cache.install(directory .. "/kernel", "7.3.4", { version = "7.3.4", package_version = "7.3.4-2" })
    end)
    local found = kernels.list()
    assert.equal(1, #found)
    assert.equal("newer", files.read(found[1].bzimage))
  end)

  it("keeps nothing of work that failed or of a run that was killed", function()
    local left = cache.directory() .. "/.tmp-killed"
    files.make_directory(left .. "/debs")
    local err = raised(cache.with_temporary, no_wait, function(directory)
      assert.is_false(files.exists(left))
      files.write(directory .. "/half", "done")
      errors.raise("os", "broken")
    end)
    assert.equal("broken", err.message)
    assert.same({ ".lock" }, files.list(cache.directory()))
  end)

  it("lets one process at a time change it", function()
    cache.with_temporary(no_wait, function()
      local other = process.run { "flock", "--nonblock", cache.directory() .. "/.lock", "true" }
      assert.equal(1, other.status)
    end)
    assert.equal(0, process.run({ "flock", "--nonblock", cache.directory() .. "/.lock", "true" }).status)
  end)

  it("says that it waits for another process, and stops waiting when interrupted", function()
    files.make_directory(cache.directory())
    local fcntl = require "posix.fcntl"
    local fd = fcntl.open(cache.directory() .. "/.lock", fcntl.O_RDWR + fcntl.O_CREAT, tonumber("644", 8))
    require("ffi").C.flock(fd, 2)
    local waited = 0
    local function interrupted()
      return waited > 0 and 2 or nil
    end
    local err = raised(fixture.with_interruption, interrupted, cache.with_temporary, function()
      waited = waited + 1
    end, error)
    unistd.close(fd)
    assert.equal("interrupted", err.code)
    assert.equal(1, waited)
  end)

  it("forgets a kernel that is removed", function()
    add_kernel("7.3.4", "7.3.4-1")
    cache.remove(kernels.resolve "7.3")
    assert.same({}, files.list(cache.directory()))
  end)
end)

describe("a kernel given by its path", function()
  local box, saved_info
  before_each(function()
    box = sandbox()
    saved_info = core.kernel_info
    core.kernel_info = function(path)
      if not files.read(path):find("kernel", 1, true) then
        errors.raise("format", path .. " is not a kernel image")
      end
      return { format = path:match "vmlinux" and "vmlinux" or "bzImage", release = "7.3.0-test" }
    end
  end)
  after_each(function()
    core.kernel_info = saved_info
    box.undo()
  end)

  it("may be a bzImage, with the configuration beside it", function()
    files.write(box.directory .. "/vmlinuz", "kernel")
    files.write(box.directory .. "/config-7.3.0-test", "")
    local kernel = kernels.resolve(box.directory .. "/vmlinuz")
    assert.equal(box.directory .. "/vmlinuz", kernel.path)
    assert.equal(kernel.path, kernel.bzimage)
    assert.is_nil(kernel.vmlinux)
    assert.equal("7.3.0-test", kernel.release)
    assert.equal(box.directory .. "/config-7.3.0-test", kernel.config)
  end)

  it("may be a vmlinux", function()
    files.write(box.directory .. "/vmlinux", "kernel")
    local kernel = kernels.resolve(box.directory .. "/vmlinux")
    assert.equal(kernel.path, kernel.vmlinux)
    assert.is_nil(kernel.bzimage)
  end)

  it("may be a build tree, whose bzImage is booted", function()
    files.make_directory(box.directory .. "/tree/arch/x86/boot")
    files.make_directory(box.directory .. "/tree/include/config")
    files.write(box.directory .. "/tree/arch/x86/boot/bzImage", "kernel")
    files.write(box.directory .. "/tree/vmlinux", "kernel")
    files.write(box.directory .. "/tree/include/config/kernel.release", "7.3.0-mine+\n")
    local kernel = kernels.resolve(box.directory .. "/tree/")
    assert.equal(box.directory .. "/tree/arch/x86/boot/bzImage", kernel.path)
    assert.equal(box.directory .. "/tree/vmlinux", kernel.vmlinux)
    assert.equal("7.3.0-mine+", kernel.release)
  end)

  it("keeps what the cache has beside it, when it is there", function()
    local directory = add_kernel("6.1.0-56-cloud-amd64", "6.1.192-2")
    for _, name in ipairs { "vmlinux", "bzImage" } do
      local kernel = kernels.resolve(directory .. "/" .. name)
      assert.equal(directory .. "/" .. name, kernel.path)
      assert.equal(directory .. "/modules", kernel.modules)
      assert.equal("6.1.0-56-cloud-amd64", kernel.release)
    end
  end)

  it("that is not there, not built or not a kernel is refused with the remedy", function()
    local err = raised(kernels.resolve, box.directory .. "/nothing")
    assert.equal("not-found", err.code)
    assert.matches("there is no kernel '.*/nothing'", err.message)
    files.make_directory(box.directory .. "/tree")
    err = raised(kernels.resolve, box.directory .. "/tree")
    assert.matches("holds no built kernel", err.message)
    assert.matches("make bzImage", err.hint)
    files.write(box.directory .. "/text", "hello")
    assert.equal("format", raised(kernels.resolve, box.directory .. "/text").code)
    assert.equal("invalid", raised(kernels.resolve, "ubuntu:7.3").code)
    assert.equal("invalid", raised(kernels.resolve, "").code)
    assert.equal("invalid", raised(kernels.resolve, 7.3).code)
  end)
end)

describe("ktstr kernel", function()
  it("refuses what it does not know, and says what it does", function()
    local cases = {
      [{ "frob" }] = "unknown command 'kernel frob'",
      [{ "get" }] = "no kernel named",
      [{ "get", "7.3" }] = "'7.3' does not say where to get it from",
      [{ "get", "ubuntu:7.3" }] = "'ubuntu:7.3' is not a kernel to fetch",
      [{ "get", "debian:" }] = "'debian:' is not a kernel to fetch",
      [{ "get", "--flavor", "rt", "debian:7.3" }] = "unknown option '--flavor'",
      [{ "get", "--flavour" }] = "'--flavour' wants a value",
      [{ "get", "--flavour=small", "debian:7.3" }] = "unknown flavour 'small' (known: cloud, rt, generic)",
      [{ "list", "x" }] = "unexpected argument 'x'",
      [{ "path" }] = "no kernel named",
      [{ "path", "7.3", "initrd" }] = "unknown part 'initrd' (known: bzimage, vmlinux, config, modules)",
      [{ "rm" }] = "no kernel named",
    }
    for args, message in pairs(cases) do
      local err = raised(command.main, command, args)
      assert.equal(message, err.message)
      assert.is_true(err.cannot_run)
    end
  end)
end)
