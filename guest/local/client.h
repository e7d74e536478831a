/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's programs share that ask the agent for something.
 * Depends on agent/local.h.
 * Whatever becomes of the agent, a program that asks ends, with a reason.
 */
#ifndef LOCAL_CLIENT_H
#define LOCAL_CLIENT_H

#include <sys/types.h>

#include "agent/local.h"

enum exit_status {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_BUSY = 3,
	EXIT_TIMEOUT = 4,
};

struct text {
	char text[LOCAL_REASON_MAX + 1];
};

/* Seconds to go on asking for; negative: it is no such number. */
double client_parse_seconds(const char *text);

/*
 * One request, and its answer: how many bytes of it there are (at most max), or -1: why there is none. An agent that
 * answers before it has read the request (it may have too many) may have closed already: its answer counts.
 */
ssize_t client_exchange(const char *socket, const void *request, size_t size, void *answer, size_t max,
			struct text *why);

/* Calls ask(arg), again for so many seconds while it is EXIT_BUSY. */
enum exit_status client_retry(double seconds, enum exit_status (*ask)(void *arg), void *arg);

#endif
