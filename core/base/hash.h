/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checksums of bytes and of files: XXH3, which finds every accident and no attack.
 * Depends on libxxhash.
 * The same bytes give the same sum on every host and in every version.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/error.h"
#include "base/types.h"

enum { HASH128_SIZE = 16,
       HASH128_HEX = 2 * HASH128_SIZE + 1 };

/* In the order in which it is written. */
struct hash128 {
	u8 bytes[HASH128_SIZE];
};

u64 hash64(const void *data, size_t size);
struct hash128 hash128(const void *data, size_t size);

/* 32 lower-case digits and a NUL. */
void hash128_hex(const struct hash128 *h, char out[HASH128_HEX]);

/*
 * Of a regular file's contents. ERROR_NOT_FOUND: no such file; ERROR_INVALID: not a regular one; ERROR_OS: it cannot
 * be read.
 */
MUST_CHECK struct error *hash_file(const char *path, struct hash128 *ret);

/* hash64() of bytes that come in pieces. */
struct hash_stream;

/* NULL when memory is short. */
struct hash_stream *hash_stream_create(void);
void hash_stream_add(struct hash_stream *s, const void *data, size_t size);
/* The sum of what was added; what is added next is another sum's. */
u64 hash_stream_end(struct hash_stream *s);
/* NULL is allowed. */
void hash_stream_destroy(struct hash_stream *s);

static inline void hash_stream_cleanup(struct hash_stream **s)
{
	hash_stream_destroy(*s);
}

#endif
