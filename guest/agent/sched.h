/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where and how a program or worker is to run: cgroup, CPUs, policy, priority, nice.
 * Depends on agent/fail.h and tlv/codec.h.
 * What is asked for is what is got: a CPU that cannot be had is an error, not left out.
 */
#ifndef AGENT_SCHED_H
#define AGENT_SCHED_H

#include <limits.h>

#include "agent/cpu_list.h"
#include "agent/fail.h"
#include "tlv/codec.h"

/* The numbers are sched.h's; musl has only the first three. */
enum { POLICY_NORMAL = 0,
       POLICY_FIFO = 1,
       POLICY_RR = 2,
       POLICY_DEADLINE = 6,
       POLICY_LAST = 7 };

struct placement {
	char cgroup[PATH_MAX]; /* "": not asked for */
	bool has_cpus, has_policy, has_priority, has_nice, has_deadline;
	struct cpu_list cpus;
	u32 policy, priority;
	s32 nice;
	u64 runtime_ns, deadline_ns, period_ns;
};

/* Takes the attribute if it is one of these; false when it is not. f->error is set when it makes no sense. */
bool placement_take(struct placement *p, const struct attr *a, struct fail *f);
/* When all have been taken: do they go together? */
int placement_check(const struct placement *p, struct fail *f);
/* In the child, on itself. */
int placement_apply(const struct placement *p, const char *cgroup_root, struct fail *f);

#endif
