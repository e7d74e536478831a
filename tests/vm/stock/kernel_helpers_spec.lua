-- What else the helpers of vm.k find in a stock kernel, against the guest's own account.
local kernel_guest = require "tests.vm.kernel_guest"
local ktstr = require "ktstr"

local guest, vm, k

setup(function()
  guest = kernel_guest.boot { topology = "1n2l2c1t" }
  vm, k = guest.vm, guest.k
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

after_each(function()
  guest:stop_programs()
end)

describe("cgroups", function()
  it("are the directories of the unified hierarchy, and tasks are in theirs", function()
    local root = "/tmp/cgroup2"
    guest:sh("mkdir -p " .. root .. " && mount -t cgroup2 none " .. root)
    guest:sh(("cd %s && mkdir -p a/b/c a/d 'e f' gone && rmdir gone"):format(root))
    local program = guest:spawn { "sh", "-c",
      ("echo $$ > %s/a/b/c/cgroup.procs && exec sleep 1000"):format(root) }
    local path
    guest:eventually("a task in its group", function()
      path = vm:frozen(function()
        return k:cgroup_path(k:task_cgroup(k:task(program.pid)))
      end)
      return path == "/a/b/c"
    end)
    assert.equals("0::/a/b/c\n", guest:sh("grep ^0:: /proc/" .. program.pid .. "/cgroup"))
    local told = {}
    for directory in guest:sh(("cd %s && find . -type d"):format(root)):gmatch "%.([^\n]*)\n" do
      told[#told + 1] = directory == "" and "/" or directory
    end
    local seen = vm:frozen(function()
      local found = {}
      for cgroup, name in k:cgroups() do
        found[#found + 1] = name
        assert.equals(name, k:cgroup_path(cgroup))
      end
      return found
    end)
    assert.equals("/", seen[1])
    table.sort(told)
    table.sort(seen)
    assert.same(told, seen)
    assert.is_true(#seen >= 6)
  end)
end)

describe("clocks", function()
  it("are the guest's", function()
    local function seen()
      return vm:frozen(function()
        return { uptime = k:clocks().boottime / 1e9, jiffies = k:jiffies(),
          realtime = ktstr.num(k:clocks().realtime) / 1e9 }
      end)
    end
    local before = seen()
    local uptime, seconds = guest:sh("cat /proc/uptime; date +%s"):match "^([%d%.]+) %S+\n(%d+)"
    -- The last update that the clocks were brought up to date by may be a tick before the second look.
    local after = guest:eventually("a later tick", function()
      local s = seen()
      return s.uptime >= tonumber(uptime) and s
    end)
    assert.is_true(before.uptime <= uptime + 0.01, ("%f, %s"):format(before.uptime, uptime))
    assert.is_true(before.realtime <= seconds + 1 and seconds + 0 <= after.realtime)
    assert.is_true(before.jiffies <= after.jiffies and before.jiffies > 0)
  end)

  it("of each CPU add up to a per-CPU counter's sum", function()
    local function seen()
      return k:percpu_counter(k:object("struct percpu_counter", k:symbol "vm_committed_as")) * 4
    end
    local before, told, after
    for _ = 1, 20 do
      before = vm:frozen(seen)
      told = tonumber(guest:sh("cat /proc/meminfo"):match "Committed_AS: +(%d+) kB")
      after = vm:frozen(seen)
      if before == after then
        break
      end
    end
    -- The program that looks has memory, too.
    assert.is_true(told >= before and told - before < 16384, ("%d, %d, %d"):format(before, told, after))
  end)
end)

describe("modules", function()
  it("are those of /proc/modules, in its order", function()
    local told = {}
    for name, size in guest:sh("cat /proc/modules"):gmatch "(%S+) (%d+)[^\n]*\n" do
      told[#told + 1] = name
      assert.is_true(tonumber(size) > 0)
    end
    local seen = {}
    for module in k:modules() do
      seen[#seen + 1] = module.name
    end
    assert.same(told, seen)
  end)
end)

describe("a maple tree", function()
  it("has a process's mappings", function()
    local program = guest:spawn { "sleep", "1000" }
    guest:eventually("sleep", function()
      return vm:frozen(function()
        return k:task(program.pid).comm == "sleep"
      end)
    end)
    local told = {}
    for first, last in guest:sh("cat /proc/" .. program.pid .. "/maps"):gmatch "(%x+)%-(%x+) [^\n]*\n" do
      if not first:match "^f" then -- the vsyscall page is no mapping of its own
        told[#told + 1] = first .. "-" .. last
      end
    end
    local seen = vm:frozen(function()
      local found = {}
      for first, last, vma in k:maple(k:task(program.pid).mm:member_ "mm_mt", "struct vm_area_struct") do
        assert.same({ first, last + 1 }, { vma.vm_start, vma.vm_end })
        found[#found + 1] = ("%08x-%08x"):format(first, last + 1)
      end
      return found
    end)
    assert.same(told, seen)
    assert.is_true(#seen > 5)
  end)
end)

describe("an XArray", function()
  it("has a file's pages, and an IDR the pids", function()
    guest:sh "head -c 300000 /dev/zero >/tmp/pages"
    local program = guest:spawn { "sh", "-c", "exec 3</tmp/pages; echo ready; exec sleep 1000" }
    guest:eventually("an open file", function()
      return program:stdout() == "ready\n"
    end)
    vm:frozen(function()
      local file = k:task(program.pid).files.fdt.fd[3]
      local pages = 0
      for index, page in k:xarray(file.f_mapping:member_ "i_pages") do
        assert.is_true(index < 74)
        assert.is_true(page ~= k.null)
        pages = pages + 1
      end
      assert.equals(file.f_mapping.nrpages, pages)
      assert.equals(74, pages)

      local numbers = {}
      for number, pid in k:idr(k:var("init_pid_ns", "struct pid_namespace"):member_ "idr", "struct pid") do
        assert.equals(number, pid.numbers[0].nr)
        numbers[number] = true
      end
      for task in k:tasks() do
        assert.is_true(numbers[task.pid])
      end
    end)
  end)
end)
