// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

void buf_deinit(struct buf *b)
{
	free(b->data);
	*b = BUF_INIT;
}

/* Room for n more bytes, or NULL with b->failed set. */
static u8 *extend(struct buf *b, size_t n)
{
	if (b->failed || n > SIZE_MAX / 2 - b->size) {
		b->failed = true;
		return NULL;
	}
	if (b->size + n > b->capacity) {
		size_t capacity = b->capacity ? b->capacity : 64;

		while (capacity < b->size + n)
			capacity *= 2;

		u8 *data = realloc(b->data, capacity);

		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->capacity = capacity;
	}
	b->size += n;
	return b->data + b->size - n;
}

void buf_put(struct buf *b, const void *data, size_t n)
{
	if (!n)
		return;

	u8 *p = extend(b, n);

	if (p)
		memcpy(p, data, n);
}

void buf_put_zero(struct buf *b, size_t n)
{
	if (!n)
		return;

	u8 *p = extend(b, n);

	if (p)
		memset(p, 0, n);
}

static void put_le(struct buf *b, u64 v, size_t n)
{
	u8 *p = extend(b, n);

	if (!p)
		return;
	for (size_t i = 0; i < n; i++)
		p[i] = v >> (8 * i);
}

void buf_put_u8(struct buf *b, u8 v)
{
	put_le(b, v, 1);
}

void buf_put_u16(struct buf *b, u16 v)
{
	put_le(b, v, 2);
}

void buf_put_u32(struct buf *b, u32 v)
{
	put_le(b, v, 4);
}

void buf_put_u64(struct buf *b, u64 v)
{
	put_le(b, v, 8);
}

void buf_align(struct buf *b, size_t align)
{
	buf_put_zero(b, ALIGN_UP(b->size, align) - b->size);
}

struct error *buf_check(const struct buf *b)
{
	return b->failed ? error_no_memory() : NULL;
}

struct reader reader_init(const void *data, size_t size)
{
	return (struct reader){ .data = data, .size = size };
}

size_t reader_left(const struct reader *r)
{
	return r->failed ? 0 : r->size - r->pos;
}

const void *reader_take(struct reader *r, size_t n)
{
	if (n > reader_left(r)) {
		r->failed = true;
		return NULL;
	}

	// Nothing at all may have no address to add to.
	const u8 *p = r->data ? r->data + r->pos : (const u8 *)"";

	r->pos += n;
	return p;
}

void reader_get(struct reader *r, void *out, size_t n)
{
	const void *p = reader_take(r, n);

	if (p)
		memcpy(out, p, n);
	else
		memset(out, 0, n);
}

static u64 get_le(struct reader *r, size_t n)
{
	const u8 *p = reader_take(r, n);
	u64 v = 0;

	if (p)
		for (size_t i = 0; i < n; i++)
			v |= (u64)p[i] << (8 * i);
	return v;
}

u8 reader_get_u8(struct reader *r)
{
	return get_le(r, 1);
}

u16 reader_get_u16(struct reader *r)
{
	return get_le(r, 2);
}

u32 reader_get_u32(struct reader *r)
{
	return get_le(r, 4);
}

u64 reader_get_u64(struct reader *r)
{
	return get_le(r, 8);
}

struct error *reader_check(const struct reader *r, const char *what)
{
	if (!r->failed)
		return NULL;
	return error_create(ERROR_FORMAT, "%s is cut short at %zu bytes", what, r->size);
}
