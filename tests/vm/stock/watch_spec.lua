-- Watches of a stock kernel's variables: one fire for each write, its values, the function that wrote.
local kernel_guest = require "tests.vm.kernel_guest"
local core = require "ktstr.core"

local WRITES = 25 -- of each of four writers

-- Sysctls that are plain variables, by their files below /proc/sys; kernels have most of them.
local SYSCTLS = {
  panic_timeout = "kernel/panic", panic_on_oops = "kernel/panic_on_oops",
  print_fatal_signals = "kernel/print-fatal-signals", panic_on_warn = "kernel/panic_on_warn",
  sysctl_panic_on_rcu_stall = "kernel/panic_on_rcu_stall", page_cluster = "vm/page-cluster",
  sysctl_max_map_count = "vm/max_map_count", sysctl_vfs_cache_pressure = "vm/vfs_cache_pressure",
  sysctl_oom_dump_tasks = "vm/oom_dump_tasks", sysctl_panic_on_oom = "vm/panic_on_oom",
  sysctl_oom_kill_allocating_task = "vm/oom_kill_allocating_task", lease_break_time = "fs/lease-break-time",
  leases_enable = "fs/leases-enable", dir_notify_enable = "fs/dir-notify-enable",
  sysctl_protected_symlinks = "fs/protected_symlinks", sysctl_protected_hardlinks = "fs/protected_hardlinks",
  sysctl_protected_fifos = "fs/protected_fifos", sysctl_protected_regular = "fs/protected_regular",
  suid_dumpable = "fs/suid_dumpable", netdev_max_backlog = "net/core/netdev_max_backlog",
  netdev_budget = "net/core/netdev_budget", dev_weight_rx_bias = "net/core/dev_weight_rx_bias",
  dev_weight_tx_bias = "net/core/dev_weight_tx_bias", netdev_budget_usecs = "net/core/netdev_budget_usecs",
  sysctl_hung_task_warnings = "kernel/hung_task_warnings", pipe_max_size = "fs/pipe-max-size",
  console_suspend_enabled = "none", ignore_rlimit_data = "none", weight_p = "net/core/dev_weight",
  sysctl_tcp_max_orphans = "net/ipv4/tcp_max_orphans", inet_peer_threshold = "net/ipv4/inet_peer_threshold",
  inet_peer_minttl = "net/ipv4/inet_peer_minttl", inet_peer_maxttl = "net/ipv4/inet_peer_maxttl",
}
local MANY = 20

describe("a watch on a stock kernel", function()
  local guest, vm, k
  local is_fast = false

  setup(function()
    guest = kernel_guest.boot { kernel = os.getenv "KTSTR_KERNEL" or "7.3", topology = "1n1l2c2t" }
    vm, k = guest.vm, guest.k
  end)

  teardown(function()
    if vm then
      vm:kill()
    end
  end)

  -- Watches while f runs; the fires, in order.
  local function fires_of(what, options, f)
    local fires = {}
    local w = vm:watch(what, options, function(snap)
      assert.equals("watch", snap.source)
      fires[#fires + 1] = snap.fire
    end)
    if options.backend then
      assert.equals(options.backend, w.backend)
    end
    f()
    vm:ping() -- what has been fired until then has been handed over
    assert.equals(#fires, w:hits())
    w:cancel()
    return fires
  end

  local function write(path, values)
    guest:sh(("for v in %s; do echo $v > %s; done"):format(table.concat(values, " "), path))
  end

  local function changes(fires)
    local list = {}
    for i, fire in ipairs(fires) do
      list[i] = ("%s -> %s"):format(tostring(fire.old), tostring(fire.new))
    end
    return list
  end

  local backends = core.doctor().data_watchpoint and { "register", "page" } or { "page" }
  for _, backend in ipairs(backends) do
    describe("by " .. backend, function()
      it("sees each write of a sysctl, and that its handler wrote it", function()
        local options = { backend = backend, len = 4, signed = true }
        write("/proc/sys/kernel/panic", { 0 })
        local fires = fires_of("panic_timeout", options, function()
          write("/proc/sys/kernel/panic", { 5, 6, 6, -1, 0 })
        end)
        assert.same({ "0 -> 5", "5 -> 6", "6 -> 6", "6 -> -1", "-1 -> 0" }, changes(fires))
        for _, fire in ipairs(fires) do
          assert.matches("^do_proc_%w*_conv%+", fire.symbol)
          assert.equals("sh", fire.task.comm)
          assert.equals(0, fire.cpu)
          assert.is_false(fire.raced)
          assert.matches("vfs_write", tostring(fire.backtrace), 1, true)
        end
      end)

      it("sees a counter count", function()
        local first, last
        local fires = fires_of("total_forks", { backend = backend, len = 8 }, function()
          first = tonumber(vm:read("/proc/stat"):match "processes (%d+)")
          guest:sh "for i in 1 2 3; do /bin/true; done"
          last = tonumber(vm:read("/proc/stat"):match "processes (%d+)")
        end)
        assert.is_true(last - first >= 4)
        local seen = {}
        for i, fire in ipairs(fires) do
          assert.matches("^copy_process%+", fire.symbol)
          assert.equals(fire.old + 1, fire.new)
          assert.equals(i > 1 and fires[i - 1].new or fire.old, fire.old)
          seen[fire.new] = true
        end
        for count = first + 1, last do
          assert.is_true(seen[count])
        end
      end)

      it("sees a pointer being exchanged", function()
        local place = k:var("init_net", "struct net"):member_ "ipv4.tcp_congestion_control"
        local file = "/proc/sys/net/ipv4/tcp_congestion_control"
        write(file, { "cubic" })
        local fires = fires_of(place, { backend = backend }, function()
          write(file, { "reno", "cubic" })
        end)
        assert.equals(2, #fires)
        assert.equals("tcp_reno", k:name(fires[1].new))
        assert.equals(fires[1].old, fires[2].new)
        for _, fire in ipairs(fires) do
          assert.matches("^tcp_set_default_congestion_control%+", fire.symbol)
        end
      end)

      it("loses none of four CPUs' writes", function()
        local w = vm:watch("panic_timeout", { len = 4, backend = backend })
        local fires = {}
        local recording = vm:watch("panic_timeout", { len = 4, backend = backend }, function(snap)
          fires[#fires + 1] = snap.fire
        end)
        local script = "i=0; while [ $i -lt %d ]; do echo %d > /proc/sys/kernel/panic; i=$((i+1)); done"
        local writers = {}
        for cpu = 0, 3 do
          writers[cpu + 1] = vm:spawn { "sh", "-c", script:format(WRITES, cpu + 1), cpus = tostring(cpu) }
        end
        for _, writer in ipairs(writers) do
          assert.equals(0, writer:wait(120).status)
        end
        vm:ping()
        assert.same({ 4 * WRITES, 4 * WRITES, 4 * WRITES }, { w:hits(), recording:hits(), #fires })
        -- CPU n writes n + 1. What raced, with registers alone, has no values to rely upon.
        local by_cpu = { [0] = 0, 0, 0, 0 }
        for i, fire in ipairs(fires) do
          by_cpu[fire.cpu] = by_cpu[fire.cpu] + 1
          assert.equals(i, fire.number)
          if not fire.raced then
            assert.equals(fire.cpu + 1, fire.new)
            assert.equals(i > 1 and fires[i - 1].new or 0, fire.old)
          end
        end
        assert.same({ [0] = WRITES, WRITES, WRITES, WRITES }, by_cpu)
        assert.is_true(backend == "register" or recording:raced() == 0)
        w:cancel()
        recording:cancel()
        write("/proc/sys/kernel/panic", { 0 })
      end)

      it("counts as many context switches as the kernel does", function()
        for cpu = 0, 1 do
          local rq = k:per_cpu("runqueues", cpu)
          vm:freeze()
          local w = vm:watch(rq:member_ "nr_switches", { backend = backend })
          local before = rq.nr_switches
          vm:thaw()
          vm:exec { "sh", "-c", "for i in 1 2 3 4 5; do /bin/true; done", cpus = tostring(cpu),
            timeout = 120 }
          vm:freeze()
          local switches, hits = rq.nr_switches - before, w:hits()
          vm:thaw()
          w:cancel()
          assert.is_true(switches > 0)
          assert.equals(switches, hits)
        end
      end)

      it("knows what the host has written between", function()
        write("/proc/sys/kernel/panic", { 1 })
        local fires = fires_of("panic_timeout", { backend = backend, len = 4 }, function()
          write("/proc/sys/kernel/panic", { 2 })
          vm:frozen(function()
            k:write(k:symbol "panic_timeout", "\7\0\0\0")
          end)
          write("/proc/sys/kernel/panic", { 0 })
        end)
        assert.same({ "1 -> 2", "7 -> 0" }, changes(fires))
      end)
    end)
  end

  if #backends == 2 then
    it("tells the same by either backend", function()
      -- A sysctl, a counter and a pointer, written by one script: what writes found and left, where, by whom.
      local function told_by(backend)
        local told, list = {}, {}
        local function watch(name, what, len)
          list[#list + 1] = vm:watch(what, { backend = backend, len = len }, function(snap)
            local fire = snap.fire
            local old, new = tostring(fire.old), tostring(fire.new)
            if name == "forks" then -- another number each time
              old, new = "n", ("n + %s"):format(fire.new - fire.old)
            end
            told[#told + 1] = ("%s: %s -> %s by CPU %d at %s (%s), from %s"):format(name, old, new,
              fire.cpu, fire.symbol, fire.task.comm, fire.backtrace[2].symbol)
          end)
          assert.equals(backend, list[#list].backend)
        end
        write("/proc/sys/kernel/panic", { 0 })
        write("/proc/sys/net/ipv4/tcp_congestion_control", { "cubic" })
        vm:ping()
        watch("panic", "panic_timeout", 4)
        watch("congestion", k:var("init_net", "struct net"):member_ "ipv4.tcp_congestion_control")
        watch("forks", "total_forks", 8)
        guest:sh [[
          cd /proc/sys
          for i in 3 3 0; do echo $i > kernel/panic; done
          /bin/true
          echo reno > net/ipv4/tcp_congestion_control; echo cubic > net/ipv4/tcp_congestion_control
          for i in 7 0; do echo $i > kernel/panic; done]]
        vm:ping()
        for _, w in ipairs(list) do
          w:cancel()
        end
        return told
      end
      local page, register = told_by "page", told_by "register"
      -- The kernel's own threads fork when they like.
      local function ours(told)
        local kept = {}
        for _, line in ipairs(told) do
          if not line:match "^forks" or line:match "%(sh%)" then
            kept[#kept + 1] = line
          end
        end
        return kept
      end
      assert.is_true(#ours(page) >= 5 + 2 + 1)
      assert.same(ours(page), ours(register))
    end)
  end

  it("tells of a function's calls, with their arguments, and of their returns", function()
    local seen = {}
    local w = vm:on_call("proc_dointvec", { returns = true }, function(snap)
      local fire = snap.fire
      if fire.kind == "call" then
        assert.equals("proc_dointvec", fire.symbol)
        assert.equals(fire.rip, snap:cpu(fire.cpu).regs.rip)
        assert.equals("proc_sys_call_handler", fire.backtrace[2].symbol)
        assert.equals(fire.task.pid, fire.backtrace.pid)
        seen[#seen + 1] = "call " .. tonumber(snap:cpu(fire.cpu).regs.rsi) -- write
      else
        assert.matches("^proc_sys_call_handler%+", fire.symbol)
        seen[#seen + 1] = "return " .. tostring(fire.value)
      end
    end)
    write("/proc/sys/kernel/panic", { 5, 0 })
    guest:sh "cat /proc/sys/kernel/panic" -- until there is no more to read
    w:cancel()
    assert.equals("call 1 return 0 call 1 return 0 call 0 return 0 call 0 return 0",
      table.concat(seen, " "))
  end)

  it("tells of calls that come all the time", function()
    local w = vm:on_call "__schedule"
    guest:sh "for i in 1 2 3; do /bin/true; done"
    assert.is_true(w:hits() > 10)
    w:cancel()
    vm:ping()
  end)

  it("is one of twenty by page", function()
    local list = {}
    for name, file in pairs(SYSCTLS) do
      local path = "/proc/sys/" .. file
      if #list < MANY and #k:symbols(name) == 1 and vm:exec { "test", "-w", path }.status == 0 then
        list[#list + 1] = { name = name, file = path }
      end
    end
    assert.equals(MANY, #list)
    for _, one in ipairs(list) do
      one.watch = vm:watch(one.name, { len = 4, backend = "page" })
    end
    for i, one in ipairs(list) do
      local value = vm:read(one.file):match "%S+"
      guest:sh(("for i in $(seq %d); do echo %s > %s; done"):format(i % 3 + 1, value, one.file))
    end
    for i, one in ipairs(list) do
      assert.same({ one.name, i % 3 + 1 }, { one.name, one.watch:hits() })
      one.watch:cancel()
    end
  end)

  it("that is frozen keeps the guest waiting for its function", function()
    local seen = {}
    local w = vm:watch("panic_timeout", { len = 4, frozen = true, when = { "~=", 0 } }, function(snap)
      assert.is_true(vm:is_frozen())
      local value = k:u64(k:symbol "panic_timeout") % 2 ^ 32
      seen[#seen + 1] = { snap.fire.new, value, vm:regs(0).rip == snap.fire.rip }
    end)
    write("/proc/sys/kernel/panic", { 3, 0, 4 })
    assert.is_false(vm:is_frozen())
    assert.same({ { 3, 3, true }, { 4, 4, true } }, seen)
    w:cancel()
    write("/proc/sys/kernel/panic", { 0 })
  end)

  it("raises what its function raises from the call that was waited in", function()
    local w = vm:watch("panic_timeout", { len = 4, frozen = true }, function()
      error({ "mine" }, 0)
    end)
    local ok, e = pcall(write, "/proc/sys/kernel/panic", { 0 })
    w:cancel()
    assert.same({ false, { "mine" } }, { ok, e })
    assert.is_false(vm:is_frozen())
    vm:ping()
  end)

  it("is cancelled also when a function raises meanwhile", function()
    local w = vm:watch("panic_timeout", { len = 4 }, function()
      error({ "mine" }, 0)
    end)
    local program = vm:spawn { "sh", "-c", "echo 0 > /proc/sys/kernel/panic", cpus = "0" }
    while w:hits() == 0 do
      pcall(vm.ping, vm)
    end
    pcall(program.wait, program, 60)
    pcall(w.cancel, w)
    local hits = w:hits()
    write("/proc/sys/kernel/panic", { 0 })
    w:cancel()
    assert.equals(hits, w:hits())
  end)

  it("says which of them writes faster than is recorded", function()
    local recorded = 0
    local w = vm:watch("panic_timeout", { len = 4, rate = 1 }, function()
      recorded = recorded + 1
    end)
    write("/proc/sys/kernel/panic", { 1, 2, 3, 4, 5, 6, 7, 0 })
    vm:ping()
    assert.equals(8, w:hits())
    assert.equals(8, recorded + w:dropped())
    w:cancel()
    is_fast = w:dropped() > 0 -- a slow guest need not be
  end)

  it("of a fourth function has no debug register: an INT3 does it, or the error says what to do", function()
    local list = {}
    for _, name in ipairs { "proc_dointvec", "proc_dointvec_minmax", "proc_dostring" } do
      list[#list + 1] = vm:on_call(name)
    end
    local ok, e = pcall(vm.on_call, vm, "vfs_write")
    list[1]:cancel()
    if ok then
      assert.equals("int3", e.backend)
      list[1] = e
    else
      assert.equals("unsupported", e.code)
      assert.matches("vm:on_call 'vfs_write': all 3 debug registers are in use", e.message, 1, true)
      assert.matches("does not stop at INT3", e.message, 1, true)
      assert.matches("cancel a watch that has one", e.hint, 1, true)
      list[1] = vm:on_call "vfs_write"
    end
    write("/proc/sys/kernel/panic", { 0 })
    assert.is_true(list[1]:hits() > 0)
    for _, w in ipairs(list) do
      w:cancel()
      w:cancel()
    end
  end)

  it("is refused with what is wrong, and the machine goes on", function()
    local function refused(code, text, ...)
      local ok, e = pcall(vm.watch, vm, ...)
      assert.is_false(ok)
      assert.equals(code, e.code)
      assert.matches(text, tostring(e), 1, true)
    end
    refused("not-found", "no symbol 'no_such_symbol'", "no_such_symbol")
    refused("invalid", "3 bytes cannot be watched", "panic_timeout", { len = 3 })
    refused("invalid", "16 bytes cannot be watched", "panic_timeout", { len = 16 })
    refused("invalid", "not aligned", k:symbol "panic_timeout" + 1, { len = 4 })
    refused("invalid", "bytes cannot be watched", "init_task")
    refused("per-cpu", "'runqueues' is a per-CPU variable", "runqueues")
    refused("unmapped", "is not mapped", 12345678901, { len = 4 })
    refused("invalid", "there is no condition '=>'", "panic_timeout", { len = 4, when = { "=>", 1 } })
    refused("invalid", "300 does not fit into 1 bytes", "panic_timeout", { len = 1, when = { "==", 300 } })
    refused("invalid", "-129 does not fit into 1 bytes", "panic_timeout", { len = 1, when = { "==", -129 } })
    refused("invalid", "there has to be a function", "panic_timeout", { len = 4, frozen = true })
    refused("invalid", "'backend'", "panic_timeout", { len = 4, backend = "magic" })
    refused("invalid", "unknown option 'wen'", "panic_timeout", { len = 4, wen = "changed" })
    refused("invalid", "compared with a whole number", "panic_timeout", { len = 4, when = { "==", "x" } })
    local rq = k:per_cpu("runqueues", 0)
    local ok, e = pcall(vm.watch, vm, rq)
    assert.is_false(ok)
    assert.matches("^vm:watch 'struct rq at 0x%x+': %d+ bytes cannot", e.message) -- and not all that it has
    ok, e = pcall(vm.on_call, vm, "panic_timeout")
    assert.is_false(ok)
    assert.equals("invalid", e.code)
    assert.matches("is no function, but data (", e.message, 1, true)
    ok, e = pcall(vm.capture, vm)
    assert.is_false(ok)
    assert.matches("vm:capture wants a name", e.message, 1, true)
    ok, e = vm:frozen(function()
      return pcall(vm.capture, vm, "x")
    end)
    assert.is_false(ok)
    assert.equals("frozen", e.code)
    assert.matches("vm:thaw() first", tostring(e), 1, true)
    vm:ping()
  end)

  it("knows what it has counted after the machine's end", function()
    local w = vm:watch("panic_timeout", { len = 4 })
    write("/proc/sys/kernel/panic", { 1, 2, 0 })
    local result = vm:shutdown()
    assert.equals(3, w:hits())
    if is_fast then
      assert.matches("the watch of panic_timeout fires more than 1 times a second",
        table.concat(result.warnings, "\n"), 1, true)
    end
    w:cancel()
    local ok, e = pcall(vm.watch, vm, "panic_timeout", { len = 4 })
    assert.same({ false, "ended" }, { ok, e.code })
  end)
end)
