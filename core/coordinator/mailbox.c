// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/mailbox.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct error *mailbox_init(struct mailbox *box, size_t limit)
{
	*box = (struct mailbox){ .limit = limit, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (box->fd < 0)
		return error_create_errno("eventfd for the mailbox");
	box->tail = &box->head;
	pthread_mutex_init(&box->lock, NULL);
	return NULL;
}

void mailbox_deinit(struct mailbox *box)
{
	while (box->head) {
		struct mail *next = box->head->next;

		free(box->head);
		box->head = next;
	}
	close(box->fd);
	pthread_mutex_destroy(&box->lock);
}

static size_t mail_cost(const struct mail *m)
{
	return sizeof(*m) + m->size;
}

bool mailbox_has_room(struct mailbox *box)
{
	pthread_mutex_lock(&box->lock);

	bool room = box->bytes < box->limit;

	pthread_mutex_unlock(&box->lock);
	return room;
}

void mailbox_nudge(struct mailbox *box)
{
	u64 one = 1;
	// Only a full counter could refuse, and that is readable already.
	ssize_t ignored = write(box->fd, &one, sizeof(one));

	(void)ignored;
}

bool mailbox_put(struct mailbox *box, u32 type, const void *payload, u32 size)
{
	struct mail *m = malloc(sizeof(*m) + size);

	if (!m)
		return false;
	*m = (struct mail){ .type = type, .size = size };
	if (size)
		memcpy(m->payload, payload, size);
	pthread_mutex_lock(&box->lock);
	*box->tail = m;
	box->tail = &m->next;
	box->bytes += mail_cost(m);
	pthread_mutex_unlock(&box->lock);
	mailbox_nudge(box);
	return true;
}

void mailbox_close(struct mailbox *box)
{
	pthread_mutex_lock(&box->lock);
	box->closed = true;
	pthread_mutex_unlock(&box->lock);
	mailbox_nudge(box);
}

struct mail *mailbox_take(struct mailbox *box, bool *closed)
{
	pthread_mutex_lock(&box->lock);

	struct mail *m = box->head;

	if (m) {
		box->head = m->next;
		if (!box->head)
			box->tail = &box->head;
		box->bytes -= mail_cost(m);
	}
	*closed = box->closed;
	pthread_mutex_unlock(&box->lock);
	return m;
}

void mailbox_empty(struct mailbox *box)
{
	bool closed;

	for (struct mail *m = mailbox_take(box, &closed); m; m = mailbox_take(box, &closed))
		free(m);
}

void mailbox_clear_event(struct mailbox *box)
{
	u64 count;
	ssize_t ignored = read(box->fd, &count, sizeof(count));

	(void)ignored;
}
