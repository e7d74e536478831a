// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/periodic.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

bool periodic_init(struct periodic *p, const struct periodic_plan *plan)
{
	u64 last = 0;

	if (!plan->count || plan->count > PERIODIC_MAX)
		return false;
	for (u32 i = 0; i < plan->count; i++) {
		if (plan->at[i].due_ns < last || !memchr(plan->at[i].tag, 0, PERIODIC_TAG_SIZE))
			return false;
		last = plan->at[i].due_ns;
	}
	if (plan->end_ns < last)
		return false;
	*p = (struct periodic){ .plan = *plan };
	return true;
}

static u64 tick(struct periodic *p, u64 now_ns)
{
	if (now_ns > p->now_ns)
		p->now_ns = now_ns;
	return p->now_ns;
}

bool periodic_is_over(const struct periodic *p)
{
	return p->state == PERIODIC_OVER || p->state == PERIODIC_GIVEN_UP;
}

bool periodic_elapsed(struct periodic *p, u64 now_ns, u64 *ret)
{
	u64 until = tick(p, now_ns);

	if (!p->has_started)
		return false;
	if (periodic_is_over(p))
		until = p->ended_ns;
	else if (p->state == PERIODIC_PAUSED)
		until = p->paused_at_ns;
	*ret = until - p->started_ns - p->paused_ns;
	return true;
}

void periodic_start(struct periodic *p, u64 now_ns)
{
	if (p->state != PERIODIC_WAITING)
		return;
	p->started_ns = tick(p, now_ns);
	p->has_started = true;
	p->state = PERIODIC_RUNNING;
}

void periodic_pause(struct periodic *p, u64 now_ns)
{
	if (p->state != PERIODIC_RUNNING)
		return;
	p->paused_at_ns = tick(p, now_ns);
	p->state = PERIODIC_PAUSED;
}

void periodic_resume(struct periodic *p, u64 now_ns)
{
	if (p->state != PERIODIC_PAUSED)
		return;
	p->paused_ns += tick(p, now_ns) - p->paused_at_ns;
	p->state = PERIODIC_RUNNING;
}

static void close_as(struct periodic *p, enum periodic_state state, u64 now_ns)
{
	tick(p, now_ns);
	p->ended_ns = p->state == PERIODIC_PAUSED ? p->paused_at_ns : p->now_ns;
	p->state = state;
}

void periodic_finish(struct periodic *p, u64 now_ns, const char *reason)
{
	u64 elapsed;

	if (periodic_is_over(p))
		return;
	if (reason)
		snprintf(p->reason, sizeof(p->reason), "%s", reason);
	else if (periodic_elapsed(p, now_ns, &elapsed))
		snprintf(p->reason, sizeof(p->reason), "the workload ended after %.3f s",
			 (double)elapsed / NSEC_PER_SEC);
	else
		snprintf(p->reason, sizeof(p->reason), "the workload did not start");
	close_as(p, PERIODIC_OVER, now_ns);
}

/* When it is too late for one. */
static u64 latest(const struct periodic *p, u32 i)
{
	return i + 1 < p->plan.count ? p->plan.at[i + 1].due_ns : p->plan.end_ns;
}

enum periodic_turn periodic_next(struct periodic *p, u64 now_ns, const struct periodic_moment **ret, char *reason)
{
	u64 elapsed = 0;
	bool has_started = periodic_elapsed(p, now_ns, &elapsed);
	const struct periodic_moment *one = &p->plan.at[p->next];

	if (p->is_taking || p->next == p->plan.count)
		return PERIODIC_NOTHING;
	if (!periodic_is_over(p)) {
		if (!has_started || p->state != PERIODIC_RUNNING || elapsed < one->due_ns)
			return PERIODIC_NOTHING;
		*ret = one;
		if (elapsed < latest(p, p->next)) {
			p->is_taking = true;
			return PERIODIC_TAKE;
		}
		snprintf(reason, PERIODIC_REASON_SIZE,
			 "it is too late by %llu ms: the machine was being frozen, or the host was busy",
			 (unsigned long long)((elapsed - one->due_ns) / NSEC_PER_MSEC));
	} else {
		*ret = one;
		memcpy(reason, p->reason, sizeof(p->reason));
	}
	p->missed++;
	if (++p->next == p->plan.count && !periodic_is_over(p))
		close_as(p, PERIODIC_OVER, now_ns);
	return PERIODIC_MISSED;
}

void periodic_settle(struct periodic *p, u64 now_ns, enum periodic_outcome outcome)
{
	if (!p->is_taking)
		return;
	p->is_taking = false;
	p->timeouts = outcome == PERIODIC_TIMED_OUT ? p->timeouts + 1 : 0;
	if (outcome == PERIODIC_TAKEN)
		p->taken++;
	else
		p->missed++;
	p->next++;
	// It may have ended meanwhile.
	if (periodic_is_over(p))
		return;
	if (p->timeouts == PERIODIC_TIMEOUTS) {
		snprintf(p->reason, sizeof(p->reason), "given up after %d rendezvous timeouts in a row",
			 PERIODIC_TIMEOUTS);
		close_as(p, PERIODIC_GIVEN_UP, now_ns);
	} else if (p->next == p->plan.count) {
		close_as(p, PERIODIC_OVER, now_ns);
	}
}

bool periodic_next_at(const struct periodic *p, u64 *ret)
{
	if (p->state != PERIODIC_RUNNING || p->is_taking || p->next == p->plan.count)
		return false;
	*ret = p->started_ns + p->paused_ns + p->plan.at[p->next].due_ns;
	return true;
}

const char *periodic_state_name(enum periodic_state state)
{
	static const char *const names[] = {
		[PERIODIC_WAITING] = "waiting",
		[PERIODIC_RUNNING] = "running",
		[PERIODIC_PAUSED] = "paused",
		[PERIODIC_OVER] = "over",
		[PERIODIC_GIVEN_UP] = "given up",
	};

	return names[state];
}
