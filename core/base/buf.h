/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growing byte buffer, and a bounds-checked reader over bytes somebody else wrote.
 * Depends on libc. Integers are little-endian.
 * Both remember their first failure, so a sequence of calls is checked once, at its end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/error.h"
#include "base/types.h"

struct buf {
	u8 *data;
	size_t size; /* bytes in use */
	size_t capacity;
	bool failed; /* an allocation failed; everything put since is dropped */
};

#define BUF_INIT ((struct buf){ 0 })

void buf_deinit(struct buf *b);
void buf_put(struct buf *b, const void *data, size_t n);
void buf_put_zero(struct buf *b, size_t n);
void buf_put_u8(struct buf *b, u8 v);
void buf_put_u16(struct buf *b, u16 v);
void buf_put_u32(struct buf *b, u32 v);
void buf_put_u64(struct buf *b, u64 v);
/* Pads with zeros to a multiple of align, a power of two. */
void buf_align(struct buf *b, size_t align);
/* Error when any put failed. */
MUST_CHECK struct error *buf_check(const struct buf *b);

struct reader {
	const u8 *data;
	size_t size;
	size_t pos;
	bool failed; /* something was read past the end; reads since give zeros */
};

struct reader reader_init(const void *data, size_t size);
size_t reader_left(const struct reader *r);
void reader_get(struct reader *r, void *out, size_t n);
/* A pointer to the next n bytes, or NULL when there are not that many. */
const void *reader_take(struct reader *r, size_t n);
u8 reader_get_u8(struct reader *r);
u16 reader_get_u16(struct reader *r);
u32 reader_get_u32(struct reader *r);
u64 reader_get_u64(struct reader *r);
/* Error "WHAT is cut short" (ERROR_FORMAT) when anything was read past the end. */
MUST_CHECK struct error *reader_check(const struct reader *r, const char *what);

#endif
