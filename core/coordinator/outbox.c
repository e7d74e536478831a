// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/outbox.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tlv/codec.h"
#include "tlv/crc32.h"

/* Room for a few of the largest frames, so that a sender of many need not wait for each. */
enum { OUTBOX_CAPACITY = 4 * FRAME_BUFFER_MAX };

struct error *outbox_init(struct outbox *box)
{
	*box = (struct outbox){
		.capacity = OUTBOX_CAPACITY,
		.data = malloc(OUTBOX_CAPACITY),
	};
	if (!box->data)
		return error_no_memory();
	box->space_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->space_fd < 0) {
		struct error *err = error_create_errno("eventfd for frames to the guest");

		free(box->data);
		return err;
	}
	pthread_mutex_init(&box->lock, NULL);
	return NULL;
}

void outbox_deinit(struct outbox *box)
{
	free(box->data);
	close(box->space_fd);
	pthread_mutex_destroy(&box->lock);
}

static void append(struct outbox *box, const void *data, size_t n)
{
	size_t at = box->put % box->capacity;
	size_t first = n < box->capacity - at ? n : box->capacity - at;

	memcpy(box->data + at, data, first);
	memcpy(box->data, (const u8 *)data + first, n - first);
	box->put += n;
}

bool outbox_put(struct outbox *box, u32 type, const void *payload, size_t size)
{
	struct wire_header header = {
		.type = type,
		.length = (u32)size,
		.payload_crc = crc32_ieee(0, payload, size),
	};
	bool fits;

	header.header_crc = crc32_ieee(0, &header, offsetof(struct wire_header, header_crc));
	pthread_mutex_lock(&box->lock);
	fits = box->put - box->taken + sizeof(header) + size <= box->capacity;
	if (fits) {
		append(box, &header, sizeof(header));
		if (size)
			append(box, payload, size);
	}
	pthread_mutex_unlock(&box->lock);
	return fits;
}

void outbox_clear_space(struct outbox *box)
{
	u64 count;
	ssize_t ignored = read(box->space_fd, &count, sizeof(count));

	(void)ignored;
}

size_t outbox_peek(struct outbox *box, const u8 **ret)
{
	pthread_mutex_lock(&box->lock);

	size_t at = box->taken % box->capacity;
	size_t n = box->put - box->taken;

	if (n > box->capacity - at)
		n = box->capacity - at;
	*ret = box->data + at;
	pthread_mutex_unlock(&box->lock);
	return n;
}

void outbox_take(struct outbox *box, size_t n)
{
	u64 one = 1;

	pthread_mutex_lock(&box->lock);
	box->taken += n;
	pthread_mutex_unlock(&box->lock);

	ssize_t ignored = write(box->space_fd, &one, sizeof(one));

	(void)ignored;
}

void outbox_save(struct outbox *box, struct buf *out)
{
	pthread_mutex_lock(&box->lock);
	buf_put_u32(out, (u32)(box->put - box->taken));
	for (u64 o = box->taken; o < box->put;) {
		size_t at = o % box->capacity;
		size_t n = box->put - o < box->capacity - at ? box->put - o : box->capacity - at;

		buf_put(out, box->data + at, n);
		o += n;
	}
	pthread_mutex_unlock(&box->lock);
}

bool outbox_restore(struct outbox *box, const void *data, size_t n)
{
	if (n > box->capacity)
		return false;
	pthread_mutex_lock(&box->lock);
	box->taken = box->put;
	append(box, data, n);
	pthread_mutex_unlock(&box->lock);
	outbox_take(box, 0); // a sender that waits for room looks again
	return true;
}
