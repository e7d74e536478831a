/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Readiness, told to the host: at the start, and again by a machine that goes on from a saved one.
 * Depends on agent/agent.h; reseeding the random pool and setting the clock need a privileged agent.
 * A restored agent says that it is ready only once its random bytes and its clock are its own.
 */
#ifndef AGENT_RESTORED_H
#define AGENT_RESTORED_H

#include "agent/agent.h"

/* SYS_RDY; run_id is NULL in a machine that was booted. There must be room for REPLY_SMALL. */
void send_ready(struct agent *agent, const char *run_id);

/*
 * OP_RESTORED. EINVAL when an attribute is missing or not as it should be, else the errno of what could not be
 * done: then there is no SYS_RDY, though the random pool may have got its bytes. As a process under test the agent
 * leaves the clock alone, which belongs to others, and logs by how much it is off.
 */
int op_restored(struct agent *agent, const struct request *q, struct fail *f);

#endif
