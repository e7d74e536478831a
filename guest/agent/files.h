/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of the guest, read and written for the host in pieces.
 * Depends on agent/agent.h.
 * Nothing here waits: a file that would block gives EAGAIN.
 */
#ifndef AGENT_FILES_H
#define AGENT_FILES_H

#include "agent/agent.h"

int op_read(struct agent *agent, const struct request *q, struct fail *f);
int op_write(struct agent *agent, const struct request *q, struct fail *f);

/* Makes the directories above path. Returns 0 or an errno. */
int make_parents(const char *path, u32 mode);

#endif
