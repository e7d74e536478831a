/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The orderly end: everything killed, everything told, EXIT sent.
 * Depends on agent/agent.h.
 * EXIT is the last frame; what cannot be killed or sent is waited for within bounds.
 */
#ifndef AGENT_SHUTDOWN_H
#define AGENT_SHUTDOWN_H

#include "agent/agent.h"

int op_shutdown(struct agent *agent, const struct request *q, struct fail *f);
/* True when the end has come: EXIT has left, or cannot. */
bool shutdown_step(struct agent *agent);
/* Kills all programs and workers; as PID 1, all processes. */
void kill_everything(struct agent *agent);

#endif
