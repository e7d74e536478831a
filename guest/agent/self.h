/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the agent itself costs: descriptors, children, memory, time on a CPU.
 * Depends on agent/agent.h.
 * Counted by the kernel, so that a leak cannot hide.
 */
#ifndef AGENT_SELF_H
#define AGENT_SELF_H

#include "agent/agent.h"

int op_self(struct agent *agent, const struct request *q, struct fail *f);

#endif
