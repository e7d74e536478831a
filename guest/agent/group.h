/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One group of workers: its memory, its processes, its reports.
 * Depends on agent/agent.h, agent/sched.h and work/work.h.
 * The agent believes of a worker's memory no more than fits.
 */
#ifndef AGENT_GROUP_H
#define AGENT_GROUP_H

#include "agent/agent.h"
#include "agent/sched.h"
#include "work/work.h"

/* What WORKERS_CREATE asks for. */
struct group_plan {
	enum work_type_index type;
	u32 count;
	u64 params[WORK_PARAMS_MAX];
	struct placement placement;
};

struct worker_process {
	pid_t pid;
	bool ended;
	bool killed; /* by the agent, because it did not end */
	int status; /* waitpid's */
};

struct group {
	struct group *next;
	u32 id;
	u32 create_id; /* the request to answer when all stand at the line; 0: answered */
	bool failed; /* answered with an error: goes when the last worker has been reaped */
	u32 type, count, alive;
	u64 params[WORK_PARAMS_MAX];
	struct worker_process *processes;
	u32 reported; /* WORKER_REPORTs sent */

	/* Shared with the workers. */
	void *memory;
	size_t memory_size;
	struct work_group *shared;
	u8 *cells; /* WORK_CELL_BYTES each */
	struct worker_slot *slots;
};

int group_plan_parse(const struct request *q, struct group_plan *ret, struct fail *f);

/* Forks all of them; they come to the line by themselves, told by line_fd. NULL and f when it cannot. */
struct group *group_create(struct agent *agent, const struct group_plan *plan, u32 id,
			   const struct work_line *line, int line_fd, struct fail *f);
/* What still runs is not waited for. */
void group_destroy(struct group *g);

void group_signal(const struct group *g, int number);

/* Why the group cannot come to the line: true, and f, when one of it failed or ended. */
bool group_has_failed(const struct group *g, struct fail *f);
bool group_is_at_line(const struct group *g);

enum { GROUP_REPORT_MAX = 16 << 10 }; /* a report's payload */

/* The i-th worker's report; returns the payload's size. */
size_t group_report(const struct group *g, u32 i, u8 *payload);

#endif
