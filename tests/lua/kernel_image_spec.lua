-- Symbols and types of the kernels in the cache, and how they are kept; and that what ktstr knows of kernels
-- by its own tables is so in each.
local errors = require "ktstr.errors"
local files = require "ktstr.files"
local kernels = require "ktstr.kernels"
local known = require "ktstr.kernel.known"
local percpu_members = require "ktstr.kernel.known_percpu"
local stdlib = require "posix.stdlib"

local function refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "nothing was raised")
  assert(errors.is(e), "not an error of ktstr's: " .. tostring(e))
  assert(e.code == code, ("expected '%s', found '%s': %s"):format(code, e.code, e.message))
  return e
end

-- Found before a spec has a cache of its own.
local cached = kernels.list()

-- The module without what it has opened so far, as in another process.
local function fresh()
  package.loaded["ktstr.kernel.image"] = nil
  return require "ktstr.kernel.image"
end

local function pending_without_kernel()
  if #cached == 0 then
    pending "no kernel is cached: 'ktstr kernel get debian:7.3'"
  end
end

describe("the symbols and types of a kernel", function()
  local directory, entry, path
  local saved = {}

  local function setenv(name, value)
    saved[name] = saved[name] or os.getenv(name) or false
    stdlib.setenv(name, value)
  end

  -- What is written to stderr while f runs.
  local function warnings(f)
    local text, stderr = {}, io.stderr
    rawset(io, "stderr", { write = function(_, ...)
      text[#text + 1] = table.concat { ... }
    end })
    local ok, result = pcall(f)
    rawset(io, "stderr", stderr)
    assert(ok, result)
    return table.concat(text), result
  end

  local function check(one)
    assert.matches("^Linux version " .. (cached[1].release:gsub("%p", "%%%0")), one.banner)
    assert.equal(1, #one.symbols:find "init_task")
    assert.equal("init_task", (one.symbols:at(one.symbols:find("init_task")[1].address)).name)
    assert.equal("struct", one.types:get("struct task_struct").kind)
  end

  before_each(function()
    if cached[1] then
      directory = stdlib.mkdtemp "/tmp/ktstr-spec-XXXXXX"
      setenv("XDG_CACHE_HOME", directory)
      path = cached[1].path
    end
  end)

  after_each(function()
    for name, value in pairs(saved) do
      stdlib.setenv(name, value or nil)
    end
    saved = {}
    if directory then
      files.remove(directory)
    end
    fresh()
  end)

  local function entries()
    return files.list(directory .. "/ktstr/symbols")
  end

  it("are read once, and kept for the next process", function()
    pending_without_kernel()
    local image = fresh()
    local one = image.open(path)
    check(one)
    assert.equal(one, image.open(path))
    assert.equal(1, #entries())
    entry = directory .. "/ktstr/symbols/" .. entries()[1]
    local before = require("ktstr.file_status").of(entry .. "/types").stamp
    check(fresh().open(path))
    assert.equal(before, require("ktstr.file_status").of(entry .. "/types").stamp)
    -- It is known by what is in it.
    files.write(directory .. "/copy", files.read(path))
    check(fresh().open(directory .. "/copy"))
    assert.equal(1, #entries())
  end)

  it("that were damaged on disk are noticed, removed and made again", function()
    pending_without_kernel()
    fresh().open(path)
    entry = directory .. "/ktstr/symbols/" .. entries()[1]
    for _, name in ipairs { "symbols", "types", "kernel" } do
      local good = files.read(entry .. "/" .. name)
      local middle = math.floor(#good / 2)
      local damaged = {
        good:sub(1, #good - 100),
        good:sub(1, middle) .. string.char((good:byte(middle + 1) + 1) % 256) .. good:sub(middle + 2),
        "",
      }
      for _, bad in ipairs(damaged) do
        os.remove(entry .. "/" .. name)
        files.write(entry .. "/" .. name, bad)
        local said, one = warnings(function()
          return fresh().open(path)
        end)
        check(one)
        assert.matches("are of no use: .*; they are made again", said)
        assert.is_true(files.read(entry .. "/" .. name) == good)
      end
    end
    os.remove(entry .. "/types")
    local said = warnings(function()
      check(fresh().open(path))
    end)
    assert.matches("they are made again", said, 1, true)
    assert.equal(1, #entries())
  end)

  it("are had without a place to keep them, too", function()
    pending_without_kernel()
    files.write(directory .. "/ktstr", "in the way")
    local said = warnings(function()
      check(fresh().open(path))
    end)
    assert.matches("are not kept for the next run", said, 1, true)
    setenv("HOME", nil)
    setenv("XDG_CACHE_HOME", nil)
    assert.equal("", (warnings(function()
      check(fresh().open(path))
    end)))
  end)

  it("are those of the kernel that the machine was booted with, or an error", function()
    pending_without_kernel()
    local image = fresh()
    local copy = directory .. "/vmlinux"
    files.write(copy, files.read(path))
    local stamp = require("ktstr.file_status").of(copy).stamp
    local vm = { plan = { kernel = { path = copy }, kernel_stamp = stamp } }
    check(image.of(vm))
    -- A saved machine knows its kernel by its hash, also when the file has gone.
    local hash = require("ktstr.core").hash_file(copy)
    local identity = ("ktstr x\nkernel %s\n"):format(hash)
    files.write(copy, "another")
    refused("unsupported", image.of, vm)
    check(image.of { plan = { given = { kernel = copy }, identity = identity } })
    os.remove(copy)
    local e = refused("not-found", image.of, vm)
    assert.matches(copy, e.message, 1, true)
    check(fresh().of { plan = { given = { kernel = copy }, identity = identity } })
    files.remove(directory .. "/ktstr")
    refused("not-found", fresh().of, { plan = { given = { kernel = copy }, identity = identity } })
    files.write(copy, "another")
    refused("unsupported", fresh().of, { plan = { given = { kernel = copy }, identity = identity } })
    refused("unsupported", fresh().of, {})
  end)
end)

describe("what ktstr knows of kernels", function()
  -- Names that occur in a kernel, over all that are cached.
  local function seen_in(find)
    local seen = {}
    for _, kernel in ipairs(cached) do
      find(require("ktstr.kernel.image").open(kernel.path), seen)
    end
    return seen
  end

  it("are the types of globals that are there", function()
    pending_without_kernel()
    local seen = seen_in(function(image, seen)
      for name, types in pairs(known.globals) do
        if #image.symbols:find(name) > 0 then
          local found
          for _, one in ipairs(type(types) == "table" and types or { types }) do
            found = found or image.types:find(one)
          end
          assert(found, ("%s: '%s' has no type"):format(image.path, name))
          assert(not image.types:variable(name), ("%s types '%s' itself"):format(image.path, name))
          seen[name] = true
        end
      end
    end)
    for _, name in ipairs { "init_task", "jiffies_64", "prb", "map_idr", "prog_idr", "modules",
      "cgrp_dfl_root", "nr_cpu_ids", "__per_cpu_offset", "pcpu_first_chunk", "page_offset_base" } do
      assert(seen[name], name)
    end
  end)

  it("are per-CPU members that are pointers", function()
    pending_without_kernel()
    local seen = seen_in(function(image, seen)
      for struct, members in pairs(percpu_members) do
        local type_of = image.types:find(struct)
        for name in members:gmatch "%S+" do
          local ok, member = pcall(function()
            return type_of and type_of:member(name)
          end)
          if ok and member then
            local inner = member.type.kind == "array" and member.type:target() or member.type
            assert(inner.kind == "pointer" or struct == "struct bpf_prog", struct .. "." .. name)
            seen[struct] = true
          end
        end
      end
    end)
    for _, struct in ipairs { "struct percpu_counter", "struct psi_group", "struct srcu_struct" } do
      assert(seen[struct], struct)
    end
  end)
end)
