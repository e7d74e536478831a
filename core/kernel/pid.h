/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A task by its pid, through the kernel's tree of pids.
 * Depends on kernel/view.h. The caller knows where this kernel's structs keep what is needed.
 * It ends whatever the memory holds: a tree's levels get smaller by one with each node, and there is no list.
 */
#ifndef KERNEL_PID_H
#define KERNEL_PID_H

#include "base/error.h"
#include "base/types.h"
#include "kernel/view.h"

/* LuaJIT writes this struct, too (lua/ktstr/kernel/c.lua). Offsets are bytes in their struct. */
struct pid_layout {
	u64 head; /* address of init_pid_ns.idr.idr_rt.xa_head; 0: pids cannot be looked up */
	u64 base; /* address of init_pid_ns.idr.idr_base (u32) */
	u32 node_shift, node_slots; /* in struct xa_node */
	u32 slot_bits; /* log2 of a node's slots: 6, or 4 */
	u32 pid_tasks; /* in struct pid: tasks[PIDTYPE_PID].first */
	u32 task_links; /* in struct task_struct: pid_links[PIDTYPE_PID] */
	u32 task_pid; /* likewise: pid */
};

/*
 * The task with a pid as the machine's first pid namespace counts. ERROR_NOT_FOUND: nobody has it (or the guest, which
 * may run, took it away meanwhile); ERROR_FORMAT: the tree is damaged, or changed while it was walked;
 * ERROR_UNMAPPED: likewise.
 */
MUST_CHECK struct error *pid_find_task(const struct view *v, const struct pid_layout *layout, u32 pid, u64 *ret);

#endif
