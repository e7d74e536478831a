/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every forked child does first.
 * Depends on agent/agent.h.
 * A child has nothing of the agent's: not its signals, its priority (reset by the kernel at fork), its limits.
 */
#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include "agent/agent.h"

/* Default signals, none blocked, a session of its own, the limit of files as the agent found it. */
void child_reset(const struct agent *agent);

/* Closes all descriptors from 3 on, but those; for a child that does not exec. Sorts keep. */
void child_keep_fds(int *keep, u32 count);

#endif
