-- What a capture records unless a plan says otherwise. Kernels differ: of the alternatives of a path the
-- first that a kernel has counts, and an empty one at the end means that it need not have any.
local default = {}

-- What reading a record needs, whatever else is in it.
default.BASE = {
  "nr_cpu_ids|", "__cpu_possible_mask|", "__cpu_present_mask|", "__cpu_online_mask|", "__cpu_active_mask|",
  "pcpu_first_chunk.base_addr|", "pcpu_first_chunk.nr_pages|", "pcpu_base_addr|", "jiffies_64|",
}

local GLOBALS = {
  "jiffies_64|", "nr_threads|", "total_forks|",
  "scheduler_running|", "system_state|", "calc_load_tasks|", "avenrun|",
  "nr_node_ids|", "init_task.pid", "init_task.comm",
  "sysctl_sched_base_slice|sysctl_sched_min_granularity|",
}

-- Of each CPU's runqueue.
local RUNQUEUE = {
  "nr_running", "nr_switches", "nr_uninterruptible|", "nr_iowait|", "clock", "clock_task|", "clock_pelt|",
  "__lock|lock|", "cpu|", "cpu_capacity|", "curr", "donor|", "idle", "stop|", "online|", "calc_load_active|",
  "prev_irq_time|", "nr_pinned|", "misfit_task_load|", "push_cpu|", "active_balance|", "next_balance|",
  "avg_idle|", "cfs_tasks|", "rd|",
  -- counters
  "rq_sched_info|", "rq_cpu_time|", "yld_count|", "sched_count|", "sched_goidle|", "ttwu_count|",
  "ttwu_local|",
  -- the fair class
  "cfs.load", "cfs.nr_running|cfs.nr_queued|", "cfs.h_nr_running|", "cfs.h_nr_queued|",
  "cfs.h_nr_runnable|", "cfs.h_nr_idle|cfs.idle_h_nr_running|", "cfs.min_vruntime|cfs.zero_vruntime|",
  "cfs.avg_vruntime|", "cfs.sum_w_vruntime|", "cfs.avg_load|cfs.sum_weight|", "cfs.curr|", "cfs.next|",
  "cfs.tasks_timeline", "cfs.avg|", "cfs.throttled|", "cfs.throttle_count|", "cfs.runtime_remaining|",
  -- real time, deadline
  "rt.rt_nr_running|", "rt.rr_nr_running|", "rt.overloaded|", "rt.rt_throttled|", "rt.rt_time|",
  "rt.highest_prio.curr|", "dl.dl_nr_running", "dl.this_bw|", "dl.running_bw|", "dl.overloaded|",
  "dl.earliest_dl|", "dl.root|",
  -- sched_ext
  "scx|",
}

-- Of each task.
local TASK = {
  "pid", "tgid", "comm", "__state|state", "exit_state", "exit_code|", "flags", "on_cpu|", "on_rq",
  "cpu|thread_info.cpu|", "wake_cpu|", "recent_used_cpu|", "prio", "static_prio", "normal_prio",
  "rt_priority", "policy", "sched_class", "nr_cpus_allowed", "cpus_ptr|", "cpus_mask",
  "migration_disabled|", "real_parent", "parent", "group_leader", "mm", "utime", "stime", "nvcsw", "nivcsw",
  "start_time", "sched_info|", "wakee_flips|", "last_wakee|", "sched_task_group|", "cgroups|", "min_flt|",
  "maj_flt|", "in_iowait|", "sched_reset_on_fork|", "se.load", "se.run_node", "se.group_node", "se.on_rq",
  "se.exec_start", "se.sum_exec_runtime", "se.prev_sum_exec_runtime", "se.vruntime", "se.vlag|",
  "se.deadline|", "se.min_vruntime|", "se.slice|", "se.rel_deadline|", "se.sched_delayed|",
  "se.nr_migrations", "se.depth|", "se.parent|", "se.cfs_rq|", "se.my_q|", "stats.wait_start|",
  "stats.wait_max|", "stats.wait_count|", "stats.wait_sum|se.statistics.wait_sum|", "stats.iowait_sum|",
  "stats.sum_sleep_runtime|", "stats.sum_block_runtime|", "stats.nr_wakeups|", "stats.nr_wakeups_migrate|",
  "stats.nr_forced_migrations|", "rt.time_slice|", "rt.on_rq|", "dl.dl_runtime|", "dl.dl_deadline|",
  "dl.dl_period|", "dl.runtime|", "dl.deadline|", "scx|",
}

-- Of a struct scx_sched.
local SCHEDULER = {
  "ops.name", "ops.flags|", "ops.timeout_ms|", "ops.dispatch_max_batch|", "ops.exit_dump_len|",
  "exit_kind|", "exit_info.kind|", "exit_info.exit_code|", "exit_info.reason|", "exit_info.msg|",
  "warned_zero_slice|",
  "watchdog_timeout|", "aborting|", "level|", "bypass_depth|", "dsq_hash",
  "pcpu[].event_stats|event_stats_cpu[]|", "pcpu[].bypass_dsq|",
}

local SCX = {
  "scx_enable_state_var|scx_ops_enable_state_var|", "scx_root|", "scx_ops.name|", "scx_exit_kind|",
  "scx_watchdog_timestamp|", "scx_watchdog_timeout|", "__scx_switched_all|",
  "__scx_enabled|__scx_ops_enabled|", "event_stats_cpu[]|",
}

local function prefixed(list, prefix, names)
  for _, name in ipairs(names) do
    list[#list + 1] = name:gsub("[^|]+", function(one)
      return prefix .. one
    end)
  end
end

--- The paths.
---@param nodes integer NUMA nodes of the machine
---@return string[]
function default.paths(nodes)
  local list = {}
  -- A run that comes to its limit has what comes first: what there is most of is last.
  for _, prefix in ipairs { "runqueues[].", "runqueues[].curr.", "runqueues[].idle." } do
    prefixed(list, prefix, prefix == "runqueues[]." and RUNQUEUE or TASK)
  end
  prefixed(list, "", SCX)
  for _, root in ipairs { "scx_root", "scx_sched_all[struct scx_sched.all]" } do
    for _, name in ipairs(SCHEDULER) do
      list[#list + 1] = name:gsub("[^|]+", root .. ".%0") .. (name:sub(-1) == "|" and "" or "|")
    end
    for node = 0, nodes - 1 do
      list[#list + 1] = ("%s.pnode[%d].global_dsq|%s.global_dsqs[%d].list|"):format(root, node, root, node)
    end
  end
  prefixed(list, "", GLOBALS)
  prefixed(list, "tasks[].", TASK)
  return list
end

return default
