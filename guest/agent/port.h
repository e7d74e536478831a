/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's end of port 1: frames in, frames out, both through buffers of a fixed size.
 * Depends on tlv/codec.h and agent/source.h.
 * A frame is written only when there is room for it: whoever has one to send asks first, and comes again.
 */
#ifndef AGENT_PORT_H
#define AGENT_PORT_H

#include "agent/source.h"
#include "tlv/codec.h"

enum {
	PORT_OUT_SIZE = 768 << 10,
	/* The output of programs and worker reports wait while more than this is queued, so that a reply is
	 * never behind more than this. */
	PORT_BULK_MARK = 64 << 10,
	PORT_WRITE_MAX = 32 << 10, /* the driver cuts longer writes */
};

struct port {
	struct source source;
	int fd;
	bool stream; /* a socket, whose end of file is the host's end; a virtio port's is a host not there yet */
	bool readable, writable; /* until EAGAIN says otherwise */
	bool ended; /* the host is gone for good */
	struct frame_reader in;
	u8 *out;
	size_t out_start, out_end;
};

/* Takes the descriptor, which must be non-blocking, and allocates the buffers; false when memory is short. */
bool port_init(struct port *port, int fd, bool stream);

/* Reads once; false when nothing came. */
bool port_fill(struct port *port);

/* Where the payload of the next frame (at most max bytes) goes; NULL when there is no room. */
u8 *port_frame(struct port *port, size_t max);
/* The frame begun with port_frame() has a payload of length bytes. */
void port_frame_done(struct port *port, u32 type, size_t length);
bool port_has_room(const struct port *port, size_t payload);

/* Bytes queued. */
size_t port_queued(const struct port *port);
/* Writes what the port takes; true when it took anything. */
bool port_flush(struct port *port);
/* Waits for all that is queued to leave, as long as the driver makes one wait for it. */
void port_flush_blocking(struct port *port);

#endif
