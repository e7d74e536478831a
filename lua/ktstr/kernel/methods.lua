-- Which module has which method of vm.k: each is loaded when it is first called.
local methods = {}

-- For editors; each function says more where it is.
---@class ktstr.Kernel
---@field list fun(self, head, type: string, member: string): fun(): ktstr.Object|nil
---@field hlist fun(self, head, type: string, member: string): fun(): ktstr.Object|nil
---@field llist fun(self, head, type: string, member: string): fun(): ktstr.Object|nil
---@field rbtree fun(self, root, type: string, member: string): fun(): ktstr.Object|nil
---@field rhashtable fun(self, table, type: string, member: string): fun(): ktstr.Object|nil
---@field xarray fun(self, array, type: string|nil): fun(): integer|nil, any
---@field xarray_find fun(self, array, index: integer, type: string|nil): any
---@field idr fun(self, idr, type: string|nil): fun(): integer|nil, any
---@field idr_find fun(self, idr, id: integer, type: string|nil): any
---@field maple fun(self, tree, type: string|nil): fun(): integer|nil, integer, any
---@field task fun(self, pid: integer): ktstr.Object|nil
---@field tasks fun(self): fun(): ktstr.Object|nil
---@field processes fun(self): fun(): ktstr.Object|nil
---@field threads fun(self, task: ktstr.Object): fun(): ktstr.Object|nil
---@field children fun(self, task: ktstr.Object): fun(): ktstr.Object|nil
---@field task_state fun(self, task: ktstr.Object): string, string
---@field task_policy fun(self, task: ktstr.Object): string
---@field task_nice fun(self, task: ktstr.Object): integer
---@field task_cpu fun(self, task: ktstr.Object): integer
---@field task_affinity fun(self, task: ktstr.Object): ktstr.Cpus
---@field runqueues fun(self): fun(): ktstr.Object|nil, integer|nil
---@field cfs_entities fun(self, queue: ktstr.Object): fun(): ktstr.Object|nil, ktstr.Object|nil
---@field cfs_tasks fun(self, rq: ktstr.Object): fun(): ktstr.Object|nil
---@field rt_entities fun(self, queue: ktstr.Object): fun(): ktstr.Object|nil, ktstr.Object|nil, integer|nil
---@field dl_entities fun(self, queue: ktstr.Object): fun(): ktstr.Object|nil, ktstr.Object|nil
---@field sched_domains fun(self, cpu: integer): fun(): ktstr.Object|nil
---@field domain_span fun(self, domain: ktstr.Object): ktstr.Cpus
---@field sched_groups fun(self, domain: ktstr.Object): fun(): ktstr.Object|nil
---@field group_span fun(self, group: ktstr.Object): ktstr.Cpus
---@field cgroups fun(self): fun(): ktstr.Object|nil, string|nil
---@field cgroup_path fun(self, cgroup: ktstr.Object): string
---@field task_cgroup fun(self, task: ktstr.Object): ktstr.Object
---@field jiffies fun(self): integer
---@field clocks fun(self): { monotonic: integer, boottime: integer, realtime: integer }
---@field percpu_counter fun(self, counter: ktstr.Object): integer
---@field cpumask fun(self, mask): ktstr.Cpus
---@field cpus fun(self, which: string|nil): ktstr.Cpus
---@field dmesg fun(self): string
---@field printk_records fun(self): fun(): ktstr.PrintkRecord|nil
---@field modules fun(self): fun(): ktstr.Object|nil
---@field line fun(self, where): ktstr.SourceLine|nil, string|nil
---@field bpf_maps fun(self): fun(): ktstr.BpfMap|nil
---@field bpf_map fun(self, name: string|integer): ktstr.BpfMap
---@field bpf_progs fun(self): fun(): ktstr.BpfProg|nil
---@field scx_state fun(self): string
---@field scx_schedulers fun(self): fun(): ktstr.Object|nil
---@field scx_events fun(self, sch: ktstr.Object, cpu: integer|nil): table<string, integer>
---@field dsqs fun(self, sch: ktstr.Object|nil): fun(): ktstr.Object|nil, ktstr.DsqInfo|nil
---@field dsq_tasks fun(self, dsq: ktstr.Object): fun(): ktstr.Object|nil
---@field scx_task_state fun(self, task: ktstr.Object): string

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
  lines = { "line" },
  bpf = { "bpf_maps", "bpf_map", "bpf_progs" },
  scx = { "scx_state", "scx_schedulers", "scx_events", "dsqs", "dsq_tasks", "scx_task_state" },
}

for module, names in pairs(modules) do
  for _, name in ipairs(names) do
    methods[name] = "ktstr.kernel." .. module
  end
end

return methods
