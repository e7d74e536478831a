// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/textlog.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 16 << 10 };

struct error *textlog_init(struct textlog *log, size_t limit)
{
	size_t capacity = limit < FIRST_CAPACITY ? limit : FIRST_CAPACITY;

	*log = (struct textlog){ .capacity = capacity, .limit = limit, .data = malloc(capacity) };
	if (!log->data)
		return error_no_memory();
	pthread_mutex_init(&log->lock, NULL);
	return NULL;
}

void textlog_deinit(struct textlog *log)
{
	if (!log->data)
		return;
	free(log->data);
	log->data = NULL;
	pthread_mutex_destroy(&log->lock);
}

/* Lays the ring out again in a larger one; offset o lives at o % capacity in both. */
static void grow(struct textlog *log, size_t need)
{
	size_t capacity = log->capacity;

	while (capacity < need && capacity < log->limit)
		capacity *= 2;
	if (capacity > log->limit)
		capacity = log->limit;
	if (capacity == log->capacity)
		return;

	u8 *data = malloc(capacity);

	if (!data)
		return;
	for (u64 o = log->start; o < log->end; o++)
		data[o % capacity] = log->data[o % log->capacity];
	free(log->data);
	log->data = data;
	log->capacity = capacity;
}

void textlog_append(struct textlog *log, const void *data, size_t n)
{
	const u8 *bytes = data;

	pthread_mutex_lock(&log->lock);
	if (log->end - log->start + n > log->capacity)
		grow(log, log->end - log->start + n);
	for (size_t i = 0; i < n; i++)
		log->data[log->end++ % log->capacity] = bytes[i];
	if (log->end - log->start > log->capacity)
		log->start = log->end - log->capacity;
	pthread_mutex_unlock(&log->lock);
}

void textlog_restore(struct textlog *log, u64 start, const void *data, size_t n)
{
	pthread_mutex_lock(&log->lock);
	log->start = log->end = start;
	pthread_mutex_unlock(&log->lock);
	textlog_append(log, data, n);
}

u64 textlog_read(struct textlog *log, u64 from, struct buf *out)
{
	pthread_mutex_lock(&log->lock);
	if (from < log->start)
		from = log->start;
	while (from < log->end) {
		size_t at = from % log->capacity;
		size_t n = log->capacity - at;

		if (n > log->end - from)
			n = log->end - from;
		buf_put(out, log->data + at, n);
		from += n;
	}

	u64 end = log->end;

	pthread_mutex_unlock(&log->lock);
	return end;
}
