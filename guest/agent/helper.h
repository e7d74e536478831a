/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations that may take the kernel long are done by a forked child, which reports by a pipe.
 * Depends on agent/agent.h.
 * The agent goes on answering meanwhile.
 */
#ifndef AGENT_HELPER_H
#define AGENT_HELPER_H

#include "agent/agent.h"

int op_load_modules(struct agent *agent, const struct request *q, struct fail *f);
/* Answers what has been done. */
void helpers_step(struct agent *agent);

#endif
