/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the attributes of SPAWN and EXEC to a program that runs, or the exact reason why it does not.
 * Depends on agent/sched.h and agent/agent.h.
 * The child reports by a pipe that exec closes: no bytes, it runs; a struct fail, it does not.
 */
#ifndef AGENT_LAUNCH_H
#define AGENT_LAUNCH_H

#include "agent/agent.h"
#include "agent/sched.h"

enum { LAUNCH_STRINGS_MAX = 1024 }; /* arguments, and variables */

struct launch {
	char *strings; /* all text below lies here */
	char *argv[LAUNCH_STRINGS_MAX + 1];
	char *env[LAUNCH_STRINGS_MAX]; /* "NAME=value", beside the agent's own */
	u32 argc, env_count;
	const char *cwd; /* NULL: the agent's */
	bool has_stdin;
	struct placement placement;
};

/* The caller owns the result, also after an error: launch_destroy(). */
struct launch *launch_parse(const struct request *q, struct fail *f);
void launch_destroy(struct launch *l);

/* The agent's ends, all non-blocking. */
struct launched {
	pid_t pid;
	int status_fd; /* struct fail, or its end */
	int stdin_fd; /* to write; -1 when it has none */
	int stdout_fd, stderr_fd;
};

int launch_run(const struct agent *agent, const struct launch *l, struct launched *ret, struct fail *f);

#endif
