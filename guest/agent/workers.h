/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Groups of workers: forked, placed, lined up, started together, stopped, reported.
 * Depends on agent/agent.h and work/work.h.
 * Workers write into memory that they share with the agent, and nothing is sent while they run.
 */
#ifndef AGENT_WORKERS_H
#define AGENT_WORKERS_H

#include "agent/agent.h"

/* Makes agent->work. Returns 0 or an errno. */
int workers_init(struct agent *agent);

int op_workers_create(struct agent *agent, const struct request *q, struct fail *f);
int op_workers_start(struct agent *agent, const struct request *q, struct fail *f);
int op_workers_stop(struct agent *agent, const struct request *q, struct fail *f);

/* That child has ended; true when it was a worker. */
bool workers_reap(struct agent *agent, pid_t pid, int status);
void workers_step(struct agent *agent);
void workers_kill(struct agent *agent);
/* Nothing runs, and nothing is owed. */
bool workers_are_quiet(const struct agent *agent);

#endif
