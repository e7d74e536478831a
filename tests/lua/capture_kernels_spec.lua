-- The default plan for each kernel in the cache: that it can be compiled, and what it has there.
local ffi = require "ffi"
local declarations = require "ktstr.declarations"
local errors = require "ktstr.errors"
local image = require "ktstr.kernel.image"
local kernels = require "ktstr.kernels"
local log = require "ktstr.capture.log"
local ktstr = require "ktstr"
local native = require "ktstr.capture.native"
local plan = require "ktstr.capture.plan"
local recorded = require "ktstr.capture.kernel"
local status = require "ktstr.status"
local test = require "ktstr.test"
local topology = require "ktstr.topology"

local cached = kernels.list()

-- What no kernel may be without, whatever it calls it.
local ESSENTIAL = {
  "runqueues[].nr_running", "runqueues[].nr_switches", "runqueues[].clock", "runqueues[].curr",
  "runqueues[].curr.pid", "runqueues[].idle.comm", "runqueues[].cfs.load", "runqueues[].rt.rt_nr_running",
  "runqueues[].dl.dl_nr_running", "runqueues[].ttwu_count", "tasks[].pid", "tasks[].tgid", "tasks[].comm",
  "tasks[].flags", "tasks[].prio", "tasks[].policy", "tasks[].se.vruntime", "tasks[].se.sum_exec_runtime",
  "tasks[].cpus_mask", "tasks[].nvcsw", "jiffies_64",
}
local EITHER = {
  { "runqueues[].cfs.nr_running", "runqueues[].cfs.nr_queued" },
  { "runqueues[].cfs.h_nr_running", "runqueues[].cfs.h_nr_queued" },
  { "tasks[].cpu", "tasks[].thread_info.cpu" },
  { "tasks[].__state", "tasks[].state" },
  { "tasks[].stats.wait_sum", "tasks[].se.statistics.wait_sum" },
}
local SCX = { "runqueues[].scx", "tasks[].scx", "scx_root.ops.name", "scx_root.exit_kind" }

-- Each kind of walk, and pointers in between.
local WALKS = {
  "modules[struct module.list].name", "init_pid_ns.idr[struct pid].level",
  "runqueues[].cfs.tasks_timeline[struct sched_entity.run_node].vruntime",
  "tasks[].nsproxy.uts_ns.name.nodename", "runqueues[0].cfs_tasks[struct task_struct.se.group_node].pid",
}

local function compiled_for(kernel, own)
  local k = recorded.empty(image.open(kernel.vmlinux or kernel.path), topology.parse "2n2l4c1t")
  return plan.compile(own, k), k
end

describe("the default plan", function()
  if #cached == 0 then
    pending "needs a kernel in the cache: ktstr kernel get"
  end
  for _, kernel in ipairs(cached) do
    it("has for " .. kernel.release .. " what every kernel has", function()
      local compiled, k = compiled_for(kernel)
      local has = {}
      for _, parsed in ipairs(compiled.paths) do
        has[parsed.text] = true
      end
      for _, text in ipairs(ESSENTIAL) do
        assert.is_true(has[text], text)
      end
      for _, texts in ipairs(EITHER) do
        assert.is_true(has[texts[1]] or has[texts[2]], texts[1])
      end
      if k:_types():find "struct scx_sched" then
        for _, text in ipairs(SCX) do
          assert.is_true(has[text], text)
        end
        assert.is_true(has["scx_root.pcpu[].event_stats"] or has["scx_root.event_stats_cpu[]"])
        assert.is_true(has["scx_root.pnode[1].global_dsq"] or has["scx_root.global_dsqs[1].list"])
      end
      assert.is_true(compiled.has_maps)
    end)

    it("knows where the log of " .. kernel.release .. " is", function()
      local _, k = compiled_for(kernel)
      local bytes = log.layout(k)
      assert.equals(16 * 8, #bytes)
      local words = ffi.new "uint64_t[16]"
      ffi.copy(words, bytes, #bytes)
      assert.is_true(words[0] == k:_place(k:_symbol "prb"))
      -- A record's number, its text's length and who said it lie in this order, and within it.
      assert.is_true(words[13] < words[14] and words[14] < words[15] and words[15] < words[12])
      -- Of a descriptor: its state, where its text begins, where it ends.
      assert.same({ 0, 8, 16, 24 },
        { tonumber(words[9]), tonumber(words[10]), tonumber(words[11]), tonumber(words[8]) })
    end)

    it("has lists, trees and tables of ids beside it, for " .. kernel.release, function()
      local compiled = compiled_for(kernel, plan.new(WALKS))
      for i, text in ipairs(WALKS) do
        assert.equals(text, compiled.paths[#compiled.paths - #WALKS + i].text)
      end
      native.plan(compiled.bytes)
      local ok, e = pcall(compiled_for, kernel, plan.new { "modules[struct module.lsit].name" })
      assert.is_false(ok)
      assert.is_truthy(e.message:find("struct module has no member 'lsit'", 1, true), tostring(e))
    end)

    it("is a program that C takes, and of no memory records nothing, for " .. kernel.release, function()
      local compiled, k = compiled_for(kernel)
      local record = native.run(k, native.plan(compiled.bytes))
      assert.equals(0, record.segment_count)
      assert.equals(compiled.id, record.plan_id)
    end)
  end
end)

describe("a plan that a kernel does not fit", function()
  local core, real = require "ktstr.core", nil

  before_each(function()
    real = core.machine
    core.machine = function()
      error("there is a machine")
    end
  end)

  after_each(function()
    core.machine = real
  end)

  local function refused(f, ...)
    local ok, e = pcall(f, ...)
    assert.is_false(ok)
    assert(errors.is(e), tostring(e))
    assert.is_true(e.cannot_run)
    return e
  end

  for _, kernel in ipairs(cached) do
    it("is refused before there is a machine of " .. kernel.release, function()
      local function boot(...)
        return refused(ktstr.boot, { kernel = kernel.release, capture = { ... }, warm = false })
      end
      local e = boot "runqueues[].cfs.no_such_field"
      assert.equals("not-found", e.code)
      assert.is_truthy(tostring(e):find(
        "'runqueues[].cfs.no_such_field': struct cfs_rq has no member 'no_such_field'", 1, true), tostring(e))
      assert.is_truthy(e.hint:find("struct cfs_rq has: ", 1, true))
      assert.is_truthy(e.hint:find("tasks_timeline", 1, true))
      e = boot "no_such_symbol.x"
      assert.equals("not-found", e.code)
      assert.is_truthy(tostring(e):find("the kernel has no symbol 'no_such_symbol'", 1, true), tostring(e))
      e = boot("tasks[].comm", "runqueues[].nr_runing|runqueues[].nr_rnning")
      assert.is_truthy(tostring(e):find("no member 'nr_rnning'", 1, true), tostring(e))
    end)

    it("makes a test one that cannot run, of " .. kernel.release, function()
      local declared
      declarations.set_sink(function(one)
        declared = one
      end)
      ktstr.test("plan", { kernel = kernel.release, capture = ktstr.plan { "jiffies_64.x" } }, function() end)
      local result = test.run(declared)
      assert.equals("not-found", result.error.code)
      assert.is_truthy(tostring(result.error):find("'jiffies_64.x'", 1, true), tostring(result.error))
      assert.equals(status.CANNOT_RUN, status.of_test(result))
    end)
  end
end)
