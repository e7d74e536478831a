// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static void port_ready(struct agent *agent, struct source *source, u32 events)
{
	struct port *port = container_of(source, struct port, source);

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		port->readable = true;
	if (events & EPOLLOUT)
		port->writable = true;
}

bool port_init(struct port *port, int fd, bool stream)
{
	void *in = malloc(FRAME_BUFFER_MAX);

	*port = (struct port){
		.source.ready = port_ready,
		.fd = fd,
		.stream = stream,
		.readable = true,
		.writable = true,
		.out = malloc(PORT_OUT_SIZE),
	};
	if (!in || !port->out)
		return false;
	frame_reader_init(&port->in, in, FRAME_BUFFER_MAX);
	return true;
}

bool port_fill(struct port *port)
{
	u8 *at;
	size_t space;
	ssize_t n;

	if (!port->readable)
		return false;
	space = frame_reader_space(&port->in, &at);
	n = read(port->fd, at, space);
	if (n > 0) {
		frame_reader_advance(&port->in, (size_t)n);
		return true;
	}
	if (n < 0 && errno == EINTR)
		return false;
	if (port->stream && (n == 0 || errno != EAGAIN))
		port->ended = true;
	port->readable = false;
	return false;
}

size_t port_queued(const struct port *port)
{
	return port->out_end - port->out_start;
}

bool port_has_room(const struct port *port, size_t payload)
{
	return WIRE_HEADER_SIZE + payload <= PORT_OUT_SIZE - port_queued(port);
}

u8 *port_frame(struct port *port, size_t max)
{
	if (!port_has_room(port, max))
		return NULL;
	if (port->out_end + WIRE_HEADER_SIZE + max > PORT_OUT_SIZE) {
		memmove(port->out, port->out + port->out_start, port_queued(port));
		port->out_end -= port->out_start;
		port->out_start = 0;
	}
	return port->out + port->out_end + WIRE_HEADER_SIZE;
}

void port_frame_done(struct port *port, u32 type, size_t length)
{
	port->out_end += frame_seal(port->out + port->out_end, type, (u32)length);
}

static ssize_t write_some(struct port *port)
{
	size_t n = port_queued(port);
	ssize_t done = write(port->fd, port->out + port->out_start, n < PORT_WRITE_MAX ? n : PORT_WRITE_MAX);

	if (done > 0)
		port->out_start += (size_t)done;
	if (port->out_start == port->out_end)
		port->out_start = port->out_end = 0;
	return done;
}

bool port_flush(struct port *port)
{
	bool progress = false;

	while (port->writable && port_queued(port)) {
		ssize_t n = write_some(port);

		if (n > 0) {
			progress = true;
		} else if (n == 0 || errno == EAGAIN) {
			port->writable = false;
		} else if (errno == EINTR || errno == ENOMEM) {
			/* Short of memory the driver may be; the next turn tries again. */
			break;
		} else {
			port->ended = port->stream;
			port->writable = false;
		}
	}
	return progress;
}

void port_flush_blocking(struct port *port)
{
	fcntl(port->fd, F_SETFL, fcntl(port->fd, F_GETFL) & ~O_NONBLOCK);
	while (port_queued(port) && (write_some(port) > 0 || errno == EINTR))
		;
}
