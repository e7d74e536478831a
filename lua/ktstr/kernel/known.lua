-- What a kernel's own tables do not say: the types of its globals (BTF has those of per-CPU variables alone),
-- which pointers are per-CPU, and the values of macros.
local percpu_members = require "ktstr.kernel.known_percpu"

local known = {}

--- Types of globals. More than one: what has come after what, the first that the kernel has.
---@type table<string, string|string[]>
known.globals = {
  -- tasks
  init_task = "struct task_struct",
  init_mm = "struct mm_struct",
  init_pid_ns = "struct pid_namespace",
  init_nsproxy = "struct nsproxy",
  init_uts_ns = "struct uts_namespace",
  init_user_ns = "struct user_namespace",
  init_cgroup_ns = "struct cgroup_namespace",
  init_signals = "struct signal_struct",
  init_css_set = "struct css_set",
  nr_threads = "int",
  total_forks = "unsigned long",

  -- scheduling
  root_task_group = "struct task_group",
  task_groups = "struct list_head",
  def_root_domain = "struct root_domain",
  fair_sched_class = "struct sched_class",
  idle_sched_class = "struct sched_class",
  rt_sched_class = "struct sched_class",
  dl_sched_class = "struct sched_class",
  stop_sched_class = "struct sched_class",
  ext_sched_class = "struct sched_class",
  scheduler_running = "int",
  sched_schedstats = "struct static_key_false",
  sched_smt_present = "struct static_key_false",
  sysctl_sched_base_slice = "unsigned int",
  sysctl_sched_features = "unsigned int",
  sysctl_sched_rt_period = { "unsigned int", "int" },
  sysctl_sched_rt_runtime = "int",
  calc_load_tasks = "atomic_long_t",
  avenrun = "unsigned long [3]",

  -- sched_ext
  scx_root = "struct scx_sched *",
  scx_sched_all = "struct list_head",
  scx_tasks = "struct list_head",
  scx_watchdog_timeout = "unsigned long",
  scx_watchdog_interval = "unsigned long",
  scx_watchdog_timestamp = "unsigned long",
  scx_enable_state_var = "atomic_t",
  scx_ops_enable_state_var = "atomic_t",
  scx_ops = "struct sched_ext_ops",
  scx_exit_kind = "atomic_t",
  scx_exit_info = "struct scx_exit_info *",
  __scx_enabled = "struct static_key_false",
  __scx_ops_enabled = "struct static_key_false",
  __scx_switched_all = "struct static_key_false",

  -- time
  jiffies = "unsigned long",
  jiffies_64 = "u64",
  tsc_khz = "unsigned int",
  cpu_khz = "unsigned int",
  curr_clocksource = "struct clocksource *",

  -- CPUs and per-CPU memory
  nr_cpu_ids = "unsigned int",
  nr_node_ids = "unsigned int",
  __cpu_possible_mask = "struct cpumask",
  __cpu_present_mask = "struct cpumask",
  __cpu_online_mask = "struct cpumask",
  __cpu_active_mask = "struct cpumask",
  __num_online_cpus = "atomic_t",
  __per_cpu_offset = "unsigned long [0]",
  pcpu_first_chunk = "struct pcpu_chunk *",
  pcpu_unit_size = "int",
  pcpu_base_addr = "void *",
  boot_cpu_data = "struct cpuinfo_x86",

  -- cgroups
  cgrp_dfl_root = "struct cgroup_root",
  cgroup_roots = "struct list_head",
  cgroup_hierarchy_idr = "struct idr",

  -- BPF
  map_idr = "struct idr",
  prog_idr = "struct idr",
  link_idr = "struct idr",
  btf_idr = "struct idr",
  bpf_kallsyms = "struct list_head",

  -- the rest
  prb = "struct printk_ringbuffer *",
  modules = "struct list_head",
  slab_caches = "struct list_head",
  super_blocks = "struct list_head",
  workqueues = "struct list_head",
  rcu_state = "struct rcu_state",
  system_state = "enum system_states",
  oops_in_progress = "int",
  panic_timeout = "int",
  page_offset_base = "unsigned long",
  vmalloc_base = "unsigned long",
  vmemmap_base = "unsigned long",
  phys_base = "unsigned long",
  saved_command_line = "char *",
}

--- The type that a global is known to have in a kernel; nil where nobody knows.
---@param set ktstr.TypeSet
---@param name string
---@return ktstr.Type|nil
function known.type_of(set, name)
  local names = known.globals[name]
  for _, one in ipairs(type(names) == "table" and names or { names }) do
    local found = set:find(one)
    if found then
      return found
    end
  end
end

-- Of one that is per-CPU in some kernels and a plain pointer in others: what it points to where it is.
local only_where = {
  ["struct task_group.cfs_rq"] = "struct cfs_rq",
}

local split = {}

-- The per-CPU members of a struct, as a set.
local function members_of(struct)
  local set = split[struct]
  if not set then
    set = {}
    for name in (percpu_members[struct] or ""):gmatch "%S+" do
      set[name] = true
    end
    split[struct] = set
  end
  return set
end

--- Whether a member is a per-CPU pointer.
---@param struct string "struct scx_sched", also a const one
---@param member string
---@param target string what it points to: "struct scx_sched_pcpu"
---@return boolean
function known.is_percpu(struct, member, target)
  struct = struct:gsub("%f[%w]const ", ""):gsub("%f[%w]volatile ", "")
  if not members_of(struct)[member] then
    return false
  end
  local only = only_where[struct .. "." .. member]
  return only == nil or only == target
end

--- Macros of the kernel's sources, which are in no table of its own. Only such as have had one value from 6.1
--- on; k:enum knows them, and the names of the kernel's enums.
---@type table<string, number>
known.macros = {
  TASK_RUNNING = 0x0,
  TASK_INTERRUPTIBLE = 0x1,
  TASK_UNINTERRUPTIBLE = 0x2,
  __TASK_STOPPED = 0x4,
  __TASK_TRACED = 0x8,
  EXIT_DEAD = 0x10,
  EXIT_ZOMBIE = 0x20,
  EXIT_TRACE = 0x30,
  TASK_PARKED = 0x40,
  TASK_DEAD = 0x80,
  TASK_WAKEKILL = 0x100,
  TASK_WAKING = 0x200,
  TASK_NOLOAD = 0x400,
  TASK_NEW = 0x800,
  TASK_RTLOCK_WAIT = 0x1000,
  TASK_FREEZABLE = 0x2000,
  TASK_FROZEN = 0x8000,
  TASK_STATE_MAX = 0x10000,
  TASK_KILLABLE = 0x102,
  TASK_STOPPED = 0x104,
  TASK_TRACED = 0x8,
  TASK_IDLE = 0x402,
  TASK_NORMAL = 0x3,
  TASK_REPORT = 0x7f,
  TASK_COMM_LEN = 16,
  TASK_ON_RQ_QUEUED = 1,
  TASK_ON_RQ_MIGRATING = 2,

  PF_VCPU = 0x1,
  PF_IDLE = 0x2,
  PF_EXITING = 0x4,
  PF_POSTCOREDUMP = 0x8,
  PF_IO_WORKER = 0x10,
  PF_WQ_WORKER = 0x20,
  PF_FORKNOEXEC = 0x40,
  PF_MCE_PROCESS = 0x80,
  PF_SUPERPRIV = 0x100,
  PF_DUMPCORE = 0x200,
  PF_SIGNALED = 0x400,
  PF_MEMALLOC = 0x800,
  PF_NPROC_EXCEEDED = 0x1000,
  PF_USED_MATH = 0x2000,
  PF_NOFREEZE = 0x8000,
  PF_KSWAPD = 0x20000,
  PF_MEMALLOC_NOFS = 0x40000,
  PF_MEMALLOC_NOIO = 0x80000,
  PF_LOCAL_THROTTLE = 0x100000,
  PF_KTHREAD = 0x200000,
  PF_RANDOMIZE = 0x400000,
  PF_NO_SETAFFINITY = 0x4000000,
  PF_MCE_EARLY = 0x8000000,
  PF_MEMALLOC_PIN = 0x10000000,
  PF_SUSPEND_TASK = 0x80000000,

  SCHED_NORMAL = 0,
  SCHED_OTHER = 0,
  SCHED_FIFO = 1,
  SCHED_RR = 2,
  SCHED_BATCH = 3,
  SCHED_IDLE = 5,
  SCHED_DEADLINE = 6,
  SCHED_EXT = 7,
  SCHED_RESET_ON_FORK = 0x40000000,
  SCHED_FLAG_RESET_ON_FORK = 0x1,
  SCHED_FLAG_RECLAIM = 0x2,
  SCHED_FLAG_DL_OVERRUN = 0x4,
  SCHED_FLAG_KEEP_POLICY = 0x8,
  SCHED_FLAG_KEEP_PARAMS = 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN = 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX = 0x40,
  MAX_RT_PRIO = 100,
  MAX_PRIO = 140,
  DEFAULT_PRIO = 120,
}

return known
