/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's own end that nobody asked for: last words on COM2, then the machine ends.
 * Depends on libc.
 * The one static object of the agent: a signal handler has nothing else to go by.
 */
#ifndef AGENT_CRASH_H
#define AGENT_CRASH_H

#include "base/types.h"

/* From here on a crash is reported to fd (-1: nowhere). machine: then it ends the machine, else the process. */
void crash_init(int fd, bool machine);

/* The agent cannot go on, and says why: "ktstr-agent: <reason>" and a sentinel with a code that is not 0. */
_Noreturn void crash_give_up(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
