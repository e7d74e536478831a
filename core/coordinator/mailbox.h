/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bounded queue of frames from the coordinator to main, with a descriptor that main can wait on.
 * Depends on base. One producer, one consumer; full means that the producer stops reading (back-pressure).
 */
#ifndef COORDINATOR_MAILBOX_H
#define COORDINATOR_MAILBOX_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"

struct mail {
	struct mail *next;
	u32 type;
	u32 size;
	u8 payload[];
};

struct mailbox {
	pthread_mutex_t lock;
	struct mail *head, **tail;
	size_t bytes, limit; /* payload bytes and a fixed cost a frame */
	int fd; /* eventfd: readable when something changed */
	bool closed; /* nothing more will come */
};

MUST_CHECK struct error *mailbox_init(struct mailbox *box, size_t limit);
void mailbox_deinit(struct mailbox *box);

/* Whether another frame may be put. Only the producer's puts can make it untrue. */
bool mailbox_has_room(struct mailbox *box);
/* False when there is no memory for it. */
bool mailbox_put(struct mailbox *box, u32 type, const void *payload, u32 size);
void mailbox_close(struct mailbox *box);
/* Makes the consumer's wait return although there is no frame. */
void mailbox_nudge(struct mailbox *box);

/* The oldest frame, to be freed with free(); NULL when empty. *closed says whether more can come. */
struct mail *mailbox_take(struct mailbox *box, bool *closed);
/* Makes fd unreadable until the next change. */
void mailbox_clear_event(struct mailbox *box);
/* Drops what is in it. */
void mailbox_empty(struct mailbox *box);

#endif
