/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a struct symbols is made of: one block of memory that is also its file, and a builder of such blocks.
 * Depends on base and symbols.h; for the files that implement symbols.h.
 * The block: header, u64 addresses[count], u32 names[count], u32 places[count], u8 kinds[count], the names' pool.
 */
#ifndef KERNEL_SYMBOL_SET_H
#define KERNEL_SYMBOL_SET_H

#include "kernel/symbols.h"

#define SYMBOL_MAGIC "ktstrsy\n"

enum {
	SYMBOL_VERSION = 1, /* of the file; whoever changes the block counts it up */
	SYMBOL_MOVES = 0x80, /* in a kind */
	SYMBOL_MAX_COUNT = 1 << 24,
};

struct symbol_header {
	u8 magic[8];
	u64 checksum; /* hash64() of all that is behind it; in memory alone 0 */
	u32 version;
	u32 count;
	u64 size; /* of the block */
	u64 pool_size;
	u64 image_start, image_end; /* the addresses of the image, as linked; end is behind the last */
	u64 reserved; /* 0 */
};

/* The parts of a block. */
struct symbol_arrays {
	u64 *addresses; /* ascending */
	u32 *names; /* each symbol's in the pool */
	u32 *places; /* symbols by name, those of one name by index */
	u8 *kinds;
	char *pool;
};

struct symbols {
	struct symbol_header *header; /* the block */
	struct symbol_arrays a;
	bool mapped; /* else from malloc */
};

struct symbol_builder {
	u8 *block;
	size_t capacity;
	size_t pool_used;
	struct symbol_arrays a; /* change when the pool grows */
	u32 count;
};

MUST_CHECK struct error *symbol_builder_init(struct symbol_builder *b, u32 count);
void symbol_builder_deinit(struct symbol_builder *b);
/* At least n bytes of room at the pool's end, or NULL. What is used of them is added to pool_used by the caller. */
char *symbol_builder_room(struct symbol_builder *b, size_t n);
/* Fills in the places, by all else. */
MUST_CHECK struct error *symbol_builder_sort(struct symbol_builder *b);
/* Takes the block out of the builder. Addresses and places have to be sorted. */
MUST_CHECK struct error *symbol_builder_finish(struct symbol_builder *b, u64 image_start, u64 image_end,
					       struct symbols **ret);

/* Where the pool begins in a block, which is also all that is in front of it. */
static inline size_t symbol_pool_at(u32 count)
{
	return sizeof(struct symbol_header) + (size_t)count * (sizeof(u64) + 2 * sizeof(u32) + sizeof(u8));
}

struct symbol_arrays symbol_arrays_at(u8 *block, u32 count);

#endif
