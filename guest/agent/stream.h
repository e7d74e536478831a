/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program's stdout or stderr on its way to the host.
 * Depends on agent/agent.h.
 * Streams with something to read take turns, one frame each, and only while little is queued for the host: a
 * program that floods blocks in its own pipe, and holds up nobody else.
 */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include "agent/agent.h"

#define STREAM_NO_LIMIT UINT64_MAX

struct stream {
	struct source source;
	int fd; /* -1 once it has ended */
	u32 type; /* MSG_STDOUT or MSG_STDERR */
	u32 program;
	u64 sent;
	u64 limit; /* bytes still to be taken before it is let go */
	bool queued;
	struct stream *next;
};

/* Takes the descriptor. Returns 0 or an errno. */
int stream_init(struct agent *agent, struct stream *s, int fd, u32 type, u32 program);

/* Nothing more will come that belongs to the program: takes what is in the pipe now, then closes it. */
void stream_finish(struct agent *agent, struct stream *s);

/* Closed, and in no queue: its memory may go. */
static inline bool stream_is_over(const struct stream *s)
{
	return s->fd < 0 && !s->queued;
}

/* Gives every stream that is ready its turns. */
void streams_step(struct agent *agent);

#endif
