/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programs that the host started: from the fork to the answer that says how they ended.
 * Depends on agent/launch.h and agent/stream.h.
 * A program's end is told after its output; what keeps its pipes open after it is waited for a second.
 */
#ifndef AGENT_PROGRAM_H
#define AGENT_PROGRAM_H

#include "agent/agent.h"

enum { PROGRAMS_MAX = 1024 }; /* running, or ended and not waited for */

/* OP_SPAWN and OP_EXEC. */
int op_start(struct agent *agent, const struct request *q, struct fail *f);
int op_wait(struct agent *agent, const struct request *q, struct fail *f);
int op_kill(struct agent *agent, const struct request *q, struct fail *f);
int op_stdin(struct agent *agent, const struct request *q, struct fail *f);

/* That child has ended; true when it was a program's. */
bool programs_reap(struct agent *agent, pid_t pid, int status);
void programs_step(struct agent *agent);
void programs_kill(struct agent *agent);
/* Every program has ended, its output is queued and who waited for it is answered. */
bool programs_are_quiet(const struct agent *agent);

#endif
