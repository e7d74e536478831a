/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames on their way to the guest: a bounded byte queue from main to the coordinator's thread.
 * Depends on base and tlv. A frame is put whole or not at all; its bytes are taken as the guest has room.
 */
#ifndef COORDINATOR_OUTBOX_H
#define COORDINATOR_OUTBOX_H

#include <pthread.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"

struct outbox {
	pthread_mutex_t lock;
	u8 *data; /* a ring */
	size_t capacity;
	u64 put, taken; /* bytes ever put and taken */
	int space_fd; /* eventfd: readable when bytes were taken since it was last cleared */
};

MUST_CHECK struct error *outbox_init(struct outbox *box);
void outbox_deinit(struct outbox *box);

/* Main: false when there is no room for the frame now; size is at most WIRE_PAYLOAD_MAX. */
bool outbox_put(struct outbox *box, u32 type, const void *payload, size_t size);
void outbox_clear_space(struct outbox *box);

/* Coordinator: the bytes that can be sent next, in one piece; 0 when there are none. */
size_t outbox_peek(struct outbox *box, const u8 **ret);
void outbox_take(struct outbox *box, size_t n);

/* What waits to be sent, for another machine. */
void outbox_save(struct outbox *box, struct buf *out);
/* Makes these bytes all that waits; false when they are too many. */
bool outbox_restore(struct outbox *box, const void *data, size_t n);

#endif
