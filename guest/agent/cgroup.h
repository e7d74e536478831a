/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cgroup v2 groups, named by their path below the root: made with their controls, entered, removed.
 * Depends on agent/agent.h.
 * A control that does not read back as it was written is an error.
 */
#ifndef AGENT_CGROUP_H
#define AGENT_CGROUP_H

#include "agent/agent.h"

/* A relative path without "..", not beginning with '/'; "" is fine, and means none. */
int cgroup_check_name(const char *name, struct fail *f);

/* Moves the calling process there. */
int cgroup_enter(const char *root, const char *name, struct fail *f);

/* Enables every controller that the group has for its children; those that refuse are left out. */
void cgroup_enable_controllers(const char *directory);

int op_cgroup_create(struct agent *agent, const struct request *q, struct fail *f);
int op_cgroup_remove(struct agent *agent, const struct request *q, struct fail *f);
/* Goes on with removals: a group can go when the last of its processes has been reaped. */
void cgroup_step(struct agent *agent);

#endif
