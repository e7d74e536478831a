// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/sched.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/cgroup.h"

/* musl stubs out the wrappers of these calls. */
struct sched_attributes {
	u32 size, policy;
	u64 flags;
	s32 nice;
	u32 priority;
	u64 runtime_ns, deadline_ns, period_ns;
};

static const char *policy_name(u32 policy)
{
	static const char *const names[] = { "normal", "fifo", "rr", "batch", "?", "idle", "deadline", "ext" };

	return policy < ARRAY_SIZE(names) ? names[policy] : "?";
}

bool placement_take(struct placement *p, const struct attr *a, struct fail *f)
{
	char text[4 * CPUS_MAX];

	switch (a->info->type) {
	case ATTR_CGROUP:
		take_string(a, p->cgroup, sizeof(p->cgroup), f);
		return true;
	case ATTR_CPUS:
		p->has_cpus = true;
		if (!take_string(a, text, sizeof(text), f) && (!*text || !cpu_list_parse(text, &p->cpus)))
			fail_with(f, EINVAL, "'%.100s' is no list of CPUs such as 0-3,8", text);
		return true;
	case ATTR_POLICY:
		p->has_policy = true;
		p->policy = attr_u32(a);
		return true;
	case ATTR_PRIORITY:
		p->has_priority = true;
		p->priority = attr_u32(a);
		return true;
	case ATTR_NICE:
		p->has_nice = true;
		p->nice = attr_s32(a);
		return true;
	case ATTR_RUNTIME_NS:
		p->has_deadline = true;
		p->runtime_ns = attr_u64(a);
		return true;
	case ATTR_DEADLINE_NS:
		p->has_deadline = true;
		p->deadline_ns = attr_u64(a);
		return true;
	case ATTR_PERIOD_NS:
		p->has_deadline = true;
		p->period_ns = attr_u64(a);
		return true;
	}
	return false;
}

int placement_check(const struct placement *p, struct fail *f)
{
	bool real_time = p->policy == POLICY_FIFO || p->policy == POLICY_RR;

	if (p->policy > POLICY_LAST)
		return fail_with(f, EINVAL, "there is no scheduling policy %u", p->policy);
	if (real_time && (!p->has_priority || p->priority < 1 || p->priority >= AGENT_PRIORITY))
		return fail_with(f, EINVAL, "policy %s needs a priority from 1 to %d (%d is the agent's)",
				 policy_name(p->policy), AGENT_PRIORITY - 1, AGENT_PRIORITY);
	if (!real_time && p->has_priority && p->priority)
		return fail_with(f, EINVAL, "policy %s has no priority (asked: %u)", policy_name(p->policy),
				 p->priority);
	if (p->has_nice && (p->nice < -20 || p->nice > 19))
		return fail_with(f, EINVAL, "nice %d is not from -20 to 19", p->nice);
	if (p->has_deadline != (p->policy == POLICY_DEADLINE))
		return fail_with(f, EINVAL, "policy deadline and runtime, deadline and period go together");
	return cgroup_check_name(p->cgroup, f);
}

static int apply_cpus(const struct placement *p, struct fail *f)
{
	char asked[256], got[256];
	struct cpu_list now = { 0 };

	cpu_list_format(p->cpus.bits, asked, sizeof(asked));
	if (syscall(SYS_sched_setaffinity, 0, sizeof(p->cpus), &p->cpus))
		return fail_errno(f, "cannot run on CPUs %s", asked);
	if (syscall(SYS_sched_getaffinity, 0, sizeof(now), &now) < 0)
		return fail_errno(f, "cannot read the CPUs back");
	if (!memcmp(&now, &p->cpus, sizeof(now)))
		return 0;
	cpu_list_format(now.bits, got, sizeof(got));
	return fail_with(f, EINVAL, "cannot run on CPUs %s: only %s of them are there", asked, got);
}

static int apply_policy(const struct placement *p, struct fail *f)
{
	struct sched_attributes attributes = {
		.size = sizeof(attributes),
		.policy = p->policy,
		.nice = p->nice,
		.priority = p->priority,
		.runtime_ns = p->runtime_ns,
		.deadline_ns = p->deadline_ns,
		.period_ns = p->period_ns,
	};

	if (syscall(SYS_sched_setattr, 0, &attributes, 0))
		return fail_errno(f, "cannot set policy %s, priority %u, nice %d", policy_name(p->policy),
				  p->priority, p->nice);
	return 0;
}

int placement_apply(const struct placement *p, const char *cgroup_root, struct fail *f)
{
	int error = 0;

	/* The cgroup first: its cpuset bounds the CPUs. The policy last: the rest runs as a normal task. */
	if (*p->cgroup)
		error = cgroup_enter(cgroup_root, p->cgroup, f);
	if (!error && p->has_cpus)
		error = apply_cpus(p, f);
	if (!error && (p->has_policy || p->has_nice))
		error = apply_policy(p, f);
	return error;
}
