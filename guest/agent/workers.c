// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/workers.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/group.h"

#define STOP_SIGNAL_NS (5 * 1000000ull) /* between two, for a worker that was just about to block */
#define KILL_GRACE_NS 1000000000ull /* for a killed worker to be reaped */

enum { STOP_TIMEOUT_MS = 10000 };

struct work_set {
	struct work_line *line; /* shared with every worker */
	struct source line_source;
	int line_fd; /* told by each worker that comes to the line */
	struct group *groups;
	u32 last_id;
	struct {
		u32 request_id; /* 0: not stopping */
		u64 kill_at; /* those that still run are killed */
		u64 forget_at; /* those that cannot even be killed are reported and forgotten */
		u64 signal_at;
		u32 reports;
	} stop;
};

/* Nothing to note: workers_step looks at the line in every turn. */
static void line_ready(struct agent *agent, struct source *source, u32 events)
{
	struct work_set *set = container_of(source, struct work_set, line_source);
	u64 count;

	if (read(set->line_fd, &count, sizeof(count)) < 0)
		return;
}

int workers_init(struct agent *agent)
{
	struct work_set *set = calloc(1, sizeof(*set));

	if (!set)
		return ENOMEM;
	agent->work = set;
	set->line = mmap(NULL, sizeof(*set->line), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (set->line == MAP_FAILED)
		return errno;
	set->line_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (set->line_fd < 0)
		return errno;
	set->line_source.ready = line_ready;
	return source_add(agent, &set->line_source, set->line_fd, EPOLLIN);
}

static bool is_setting_up(const struct work_set *set)
{
	for (const struct group *g = set->groups; g; g = g->next)
		if (g->create_id)
			return true;
	return false;
}

int op_workers_create(struct agent *agent, const struct request *q, struct fail *f)
{
	struct work_set *set = agent->work;
	struct group_plan plan;
	struct group *g, **at;

	if (set->stop.request_id)
		return fail_with(f, EBUSY, "the workers are being stopped");
	if (group_plan_parse(q, &plan, f))
		return f->error;
	g = group_create(agent, &plan, set->last_id + 1, set->line, set->line_fd, f);
	if (!g)
		return f->error;
	set->last_id++;
	g->create_id = q->id;
	for (at = &set->groups; *at; at = &(*at)->next)
		;
	*at = g;
	return 0;
}

int op_workers_start(struct agent *agent, const struct request *q, struct fail *f)
{
	struct work_set *set = agent->work;

	if (is_setting_up(set) || set->stop.request_id)
		return fail_with(f, EBUSY, "the workers are not all at the line");
	set->line->start_ns = agent_clock(CLOCK_MONOTONIC);
	__atomic_store_n(&set->line->epoch, set->line->epoch + 1, __ATOMIC_RELEASE);
	work_futex_wake(&set->line->epoch, INT_MAX);
	reply_empty(agent, q->id);
	return 0;
}

int op_workers_stop(struct agent *agent, const struct request *q, struct fail *f)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct work_set *set = agent->work;
	u32 timeout_ms = STOP_TIMEOUT_MS;
	struct attr a;

	while (attr_next(&r, &a))
		if (a.info->type == ATTR_TIMEOUT_MS)
			timeout_ms = attr_u32(&a);
	if (r.malformed)
		return fail_malformed(f);
	if (is_setting_up(set) || set->stop.request_id)
		return fail_with(f, EBUSY, "the workers are being set up, or stopped already");
	for (struct group *g = set->groups; g; g = g->next)
		__atomic_store_n(&g->shared->stop, 1, __ATOMIC_RELEASE);
	set->stop.request_id = q->id;
	set->stop.signal_at = agent->now;
	set->stop.kill_at = agent->now + timeout_ms * 1000000ull;
	set->stop.forget_at = set->stop.kill_at + KILL_GRACE_NS;
	set->stop.reports = 0;
	return 0;
}

bool workers_reap(struct agent *agent, pid_t pid, int status)
{
	for (struct group *g = agent->work->groups; g; g = g->next) {
		for (u32 i = 0; i < g->count; i++) {
			struct worker_process *p = &g->processes[i];

			if (p->pid != pid || p->ended)
				continue;
			p->ended = true;
			p->status = status;
			g->alive--;
			return true;
		}
	}
	return false;
}

/* Answers WORKERS_CREATE. */
static void step_create(struct agent *agent, struct group *g)
{
	struct attr_writer w;
	struct fail f;

	if (!g->create_id)
		return;
	if (!reply_has_room(agent)) {
		agent->again = true;
		return;
	}
	if (group_has_failed(g, &f)) {
		reply_fail(agent, g->create_id, &f);
		group_signal(g, SIGKILL);
		g->failed = true;
		g->create_id = 0;
	} else if (group_is_at_line(g)) {
		w = reply_begin(agent, g->create_id);
		attr_put_u32(&w, ATTR_GROUP, g->id);
		reply_end(agent, &w);
		g->create_id = 0;
	}
}

static void mark_killed(struct group *g, bool ended)
{
	for (u32 i = 0; i < g->count; i++) {
		if (g->processes[i].ended)
			continue;
		g->processes[i].killed = true;
		if (ended) {
			g->processes[i].ended = true;
			g->alive--;
		}
	}
}

/* True when none of the group runs any more. */
static bool step_stop(struct agent *agent, struct group *g)
{
	struct work_set *set = agent->work;

	if (!g->alive)
		return true;
	if (agent->now >= set->stop.forget_at) {
		agent_log(agent, "%u workers of group %u cannot be killed", g->alive, g->id);
		mark_killed(g, true);
		return true;
	}
	if (agent->now >= set->stop.kill_at) {
		mark_killed(g, false);
		group_signal(g, SIGKILL);
		agent_wake_at(agent, set->stop.forget_at);
		return false;
	}
	if (agent->now >= set->stop.signal_at)
		group_signal(g, WORK_STOP_SIGNAL);
	agent_wake_at(agent, set->stop.kill_at);
	return false;
}

/* Sends what there is room for; true when all of the group's reports are on their way. */
static bool send_reports(struct agent *agent, struct group *g)
{
	for (; g->reported < g->count; g->reported++) {
		u8 *payload = port_queued(&agent->port) < PORT_BULK_MARK ?
				      port_frame(&agent->port, GROUP_REPORT_MAX) :
				      NULL;

		if (!payload) {
			agent->again = true;
			return false;
		}
		port_frame_done(&agent->port, MSG_WORKER_REPORT, group_report(g, g->reported, payload));
		agent->work->stop.reports++;
	}
	return true;
}

static void finish_stop(struct agent *agent)
{
	struct work_set *set = agent->work;
	struct attr_writer w = reply_begin(agent, set->stop.request_id);

	attr_put_u32(&w, ATTR_COUNT, set->stop.reports);
	reply_end(agent, &w);
	set->stop.request_id = 0;
	for (struct group *g; (g = set->groups);) {
		set->groups = g->next;
		group_destroy(g);
	}
}

void workers_step(struct agent *agent)
{
	struct work_set *set = agent->work;
	bool over = true;

	for (struct group **at = &set->groups, *g; (g = *at);) {
		step_create(agent, g);
		if (g->failed && !g->alive) {
			*at = g->next;
			group_destroy(g);
			continue;
		}
		at = &g->next;
	}
	if (!set->stop.request_id)
		return;
	for (struct group *g = set->groups; g; g = g->next)
		over &= step_stop(agent, g);
	for (struct group *g = set->groups; g && over; g = g->next)
		over = g->failed || send_reports(agent, g);
	if (agent->now >= set->stop.signal_at)
		set->stop.signal_at = agent->now + STOP_SIGNAL_NS;
	if (!over) {
		agent_wake_at(agent, set->stop.signal_at);
	} else if (!reply_has_room(agent)) {
		agent->again = true;
	} else {
		finish_stop(agent);
	}
}

void workers_kill(struct agent *agent)
{
	for (struct group *g = agent->work->groups; g; g = g->next)
		group_signal(g, SIGKILL);
}

bool workers_are_quiet(const struct agent *agent)
{
	const struct work_set *set = agent->work;

	for (const struct group *g = set->groups; g; g = g->next)
		if (g->alive)
			return false;
	return !set->stop.request_id && !is_setting_up(set);
}
