-- How fast a kernel is seen from outside: symbols and types of its image; fields and tasks in a core file,
-- beside drgn on the same file. scripts/bench/run has made the file, and got drgn.
local errors = require "ktstr.errors"
local files = require "ktstr.files"
local kernels = require "ktstr.kernels"
local process = require "ktstr.process"

local figures = require "figures"

local median, ms, row, verdict = figures.median, figures.ms, figures.row, figures.verdict

local RUNS = 10
local ROUNDS = tonumber(os.getenv "ROUNDS_KERNEL" or 3)
local COUNT, COUNT_SLOW, PASSES = 2 ^ 20, 2 ^ 17, 5 -- fields a pass; the same of what is slower; passes
local WALKS = 20
local COLD_MS, CACHED_MS, TIMES_READS, TIMES_WALK = 100, 5, 20, 10 -- what is promised

-- The lines NAME<tab>VALUE that a program prints: lists by name, the values as they are.
local function lines(argv)
  local result = process.run(argv)
  if result.status ~= 0 then
    errors.raise("os", ("%s: %s"):format(table.concat(argv, " "), result.stderr))
  end
  local found = {}
  for name, value in result.stdout:gmatch "(%S+)\t(%S+)\n" do
    found[name] = found[name] or {}
    table.insert(found[name], value)
  end
  return found
end

local function numbers(list)
  local found = {}
  for i, text in ipairs(list) do
    found[i] = tonumber(text)
  end
  return found
end

local function ours(...)
  return lines(figures.ktstr("look.lua", ...))
end

-- p: what is compared with: python, vmlinux; core.
local function drgn(p, what, ...)
  local script = (arg[0]:match "^(.*)/[^/]*$" or ".") .. "/look.py"
  return lines(figures.words(p.python, script, what, p.core, p.vmlinux, ...))
end

-- --- image to symbols and types ---

-- In a process of its own, with a cache that has nothing of the image, then with one that has all.
local function ready_us(directory, path, runs_of)
  local cold, cached = {}, {}
  for i = 1, runs_of do
    local cache = ("%s/%d"):format(directory, i)
    local command = figures.words("env", "XDG_CACHE_HOME=" .. cache, "KTSTR_WARM_DIR=" .. cache .. "/warm",
      figures.ktstr("look.lua", "ready", path))
    cold[i] = tonumber(lines(command).ready[1])
    cached[i] = tonumber(lines(command).ready[1])
    files.remove(cache)
  end
  return median(cold), median(cached)
end

local function promised(what, us, most_ms)
  row(what, ms(us), ("at most %d ms"):format(most_ms), verdict(us <= most_ms * 1000))
end

local function compare_ready(p, kernel)
  print(("From the image of %s to its symbols and types, one of each found"):format(kernel.release))
  figures.with_directory(function(directory)
    local cold, cached = ready_us(directory, kernel.path, RUNS)
    promised("  ktstr, for the first time", cold, COLD_MS)
    promised("  from its cache", cached, CACHED_MS)
    if kernel.bzimage and kernel.bzimage ~= kernel.path then
      row("  from a bzImage, for the first time", ms((ready_us(directory, kernel.bzimage, 3))))
    end
  end)
  if p.python then
    local times = {}
    for i = 1, ROUNDS do
      times[i] = tonumber(drgn(p, "ready").ready[1])
    end
    row("  drgn, core file and vmlinux with DWARF", ms(median(times)))
  end
end

-- --- fields ---

local function check_same(what, a, b)
  if a ~= b then
    errors.raise("format", ("%s: ktstr has %s, drgn %s"):format(what, tostring(a), tostring(b)))
  end
end

local function per_second(count, seconds)
  return count / median(numbers(seconds)) / 1e6
end

local function add(list, value)
  list[#list + 1] = value
end

local function compare_fields(p)
  print "Fields read a second, in millions: task_struct.pid of objects made in the loop, each elsewhere"
  local compiled, interpreted, objects, words = {}, {}, {}, {}
  for _ = 1, ROUNDS do
    local own = ours("fields", p.core, COUNT, PASSES)
    add(compiled, per_second(COUNT, own.seconds))
    local slow = ours("fields", p.core, COUNT_SLOW, PASSES, "off")
    add(interpreted, per_second(COUNT_SLOW, slow.seconds))
    if p.python then
      local peer = drgn(p, "fields", COUNT_SLOW, PASSES, own.first[1])
      check_same("the sum of the fields", tonumber(slow.sum[1]), tonumber(peer.sum[1]))
      add(objects, per_second(COUNT_SLOW, peer.seconds))
      add(words, per_second(COUNT_SLOW, peer.words))
    end
  end
  local own, peer = median(compiled), median(objects)
  row("  ktstr", ("%.1f"):format(own), peer and ("%d x drgn or more: %.0f x"):format(TIMES_READS, own / peer),
    peer and verdict(own / peer >= TIMES_READS))
  row("  without LuaJIT's compiler", ("%.2f"):format(median(interpreted)),
    peer and ("%.2f x drgn"):format(median(interpreted) / peer))
  if peer then
    row("  drgn", ("%.2f"):format(peer), ("bare words at an address: %.2f"):format(median(words)))
  end
end

-- --- tasks ---

local function us_a_task(found, name)
  return median(numbers(found[name])) * 1e6 / tonumber(found.count[1])
end

local function compare_walks(p)
  print "A walk over all tasks: pid, comm, state and CPU (microseconds a task)"
  local own, slow, peer, count = { members = {}, helpers = {} }, { members = {}, helpers = {} },
    { members = {}, helpers = {} }, nil
  for _ = 1, ROUNDS do
    local found, off = ours("walk", p.core, WALKS), ours("walk", p.core, WALKS, "off")
    local other = p.python and drgn(p, "walk", WALKS)
    count = found.count[1]
    for name in pairs(own) do
      add(own[name], us_a_task(found, name))
      add(slow[name], us_a_task(off, name))
      if other then
        check_same("tasks", count, other.count[1])
        check_same("the sum over all tasks", found[name .. "_sum"][1], other[name .. "_sum"][1])
        add(peer[name], us_a_task(other, name))
      end
    end
  end
  for _, one in ipairs { { "members", "as they are" }, { "helpers", "as /proc says" } } do
    local name = one[1]
    local mine, its = median(own[name]), median(peer[name])
    row(("  ktstr, %s; %s tasks"):format(one[2], count), ("%.2f us"):format(mine),
      its and ("1/%d of drgn (%.1f us) or less: 1/%.0f"):format(TIMES_WALK, its, its / mine),
      its and verdict(its / mine >= TIMES_WALK))
    row("  without LuaJIT's compiler", ("%.1f us"):format(median(slow[name])))
  end
end

return function()
  local kernel = kernels.resolve(os.getenv "KERNEL")
  local p = {
    core = os.getenv "CORE"
      or errors.refuse("invalid", "CORE names no core file", "scripts/bench/run makes one"),
    python = os.getenv "DRGN_PYTHON",
    vmlinux = os.getenv "DRGN_VMLINUX",
  }
  if not p.python then
    print "drgn is not to be had (scripts/debuggers): nothing is beside these figures"
  end
  compare_ready(p, kernel)
  compare_fields(p)
  compare_walks(p)
end
