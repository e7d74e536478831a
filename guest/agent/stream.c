// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { STREAM_CHUNK = 16 << 10 };

static void enqueue(struct agent *agent, struct stream *s)
{
	if (s->queued)
		return;
	s->queued = true;
	s->next = NULL;
	*agent->ready_last = s;
	agent->ready_last = &s->next;
}

static void stream_ready(struct agent *agent, struct source *source, u32 events)
{
	enqueue(agent, container_of(source, struct stream, source));
}

int stream_init(struct agent *agent, struct stream *s, int fd, u32 type, u32 program)
{
	*s = (struct stream){
		.source.ready = stream_ready,
		.fd = fd,
		.type = type,
		.program = program,
		.limit = STREAM_NO_LIMIT,
	};
	return source_add(agent, &s->source, fd, EPOLLIN);
}

void stream_finish(struct agent *agent, struct stream *s)
{
	int left = 0;

	if (s->fd < 0 || s->limit != STREAM_NO_LIMIT)
		return;
	if (ioctl(s->fd, FIONREAD, &left))
		left = 0;
	s->limit = (u64)left;
	enqueue(agent, s);
}

/* Its program may be over with it: that is looked at in the next turn. */
static bool end_stream(struct agent *agent, struct stream *s)
{
	source_close(agent, &s->fd);
	agent->again = true;
	return false;
}

/* One frame. False when there is no more for now. */
static bool take_turn(struct agent *agent, struct stream *s)
{
	struct wire_output head = { .program = s->program };
	size_t max = s->limit < STREAM_CHUNK ? s->limit : STREAM_CHUNK;
	u8 *payload = port_frame(&agent->port, sizeof(head) + STREAM_CHUNK);
	ssize_t n;

	if (!max)
		return end_stream(agent, s);
	n = read(s->fd, payload + sizeof(head), max);
	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN && s->limit == STREAM_NO_LIMIT)
		return false;
	if (n <= 0)
		return end_stream(agent, s);
	memcpy(payload, &head, sizeof(head));
	port_frame_done(&agent->port, s->type, sizeof(head) + (size_t)n);
	s->sent += (u64)n;
	if (s->limit != STREAM_NO_LIMIT)
		s->limit -= (u64)n;
	return true;
}

void streams_step(struct agent *agent)
{
	while (agent->ready_first && port_queued(&agent->port) < PORT_BULK_MARK) {
		struct stream *s = agent->ready_first;

		agent->ready_first = s->next;
		if (!agent->ready_first)
			agent->ready_last = &agent->ready_first;
		s->queued = false;
		if (s->fd >= 0 && take_turn(agent, s))
			enqueue(agent, s);
	}
	agent->again |= agent->ready_first != NULL;
}
