/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Something that epoll watches, embedded in the object it belongs to.
 * Depends on libc.
 * Edge-triggered: ready() only notes that something may be done now. Objects are freed after all events of
 * a turn have been noted, never from ready().
 */
#ifndef AGENT_SOURCE_H
#define AGENT_SOURCE_H

#include "base/types.h"

struct agent;

struct source {
	void (*ready)(struct agent *agent, struct source *source, u32 events);
};

/* events: EPOLLIN, EPOLLOUT. Returns 0 or an errno. */
int source_add(struct agent *agent, struct source *source, int fd, u32 events);

/* Takes the descriptor out, closes it and sets it to -1; one that is -1 already stays so. Taking out first
 * matters: a child that has not reached exec yet keeps a closed descriptor's events coming. */
void source_close(struct agent *agent, int *fd);

#endif
