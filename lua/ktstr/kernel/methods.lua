-- Which module has which method of vm.k: each is loaded when it is first called.
local methods = {}

local modules = {
  containers = { "list", "hlist", "llist" },
  rbtree = { "rbtree" },
  xarray = { "xarray", "xarray_find" },
  idr = { "idr", "idr_find" },
  rhashtable = { "rhashtable" },
  maple = { "maple" },
  tasks = { "task", "tasks", "processes", "threads", "children", "task_state", "task_policy", "task_nice",
    "task_cpu", "task_affinity" },
  runqueues = { "runqueues", "cfs_entities", "cfs_tasks", "rt_entities", "dl_entities" },
  domains = { "sched_domains", "domain_span", "sched_groups", "group_span" },
  cgroups = { "cgroups", "cgroup_path", "task_cgroup" },
  clocks = { "jiffies", "clocks", "percpu_counter" },
  cpumask = { "cpumask", "cpus" },
  dmesg = { "dmesg", "printk_records" },
  modules = { "modules" },
  backtrace = { "backtrace" },
  disasm = { "disassemble" },
  bpf = { "bpf_maps", "bpf_map", "bpf_progs" },
  scx = { "scx_state", "scx_schedulers", "scx_events", "dsqs", "dsq_tasks", "scx_task_state" },
}

for module, names in pairs(modules) do
  for _, name in ipairs(names) do
    methods[name] = "ktstr.kernel." .. module
  end
end

return methods
