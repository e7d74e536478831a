/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A memory in blocks of 256 KiB, each with a checksum, and their pages of 4 KiB as one bit each.
 * Depends on base.
 * A page whose bit is clear counts as zeros and is never touched.
 */
#ifndef WARM_BLOCKS_H
#define WARM_BLOCKS_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/types.h"

enum {
	MEMORY_PAGE = 4096,
	BLOCK_PAGES = 64,
	MEMORY_BLOCK = BLOCK_PAGES * MEMORY_PAGE,
};

struct page_run {
	u32 first, count;
};

/* Takes the first run of neighbours out of the pages. False: there is none. */
bool page_run_take(u64 *pages, struct page_run *ret);

/* Those of the pages that hold anything but zeros. */
u64 block_pages_used(const u8 *block, u64 pages);

/*
 * The checksum of a block of which those pages are used: of which ones, and of their bytes. Zeros, which are most of
 * what there is, cost nothing.
 */
u64 block_hash(const u8 *block, u64 used, struct hash_stream *scratch);

/* Writes the pages to their places in the file, where the block starts at offset. False: errno says why. */
bool block_write(int fd, u64 offset, const u8 *block, u64 pages);

/* Reads them. False: errno says why; 0: the file ends before them. */
bool block_read(int fd, u64 offset, u8 *block, u64 pages);

/* The checksums of the blocks that are not zero, by increasing index: 4 bytes of index, 8 of sum, each. */
enum { BLOCK_SUM_SIZE = 12 };

struct block_sum {
	u32 index;
	u64 hash;
};

void block_sum_put(struct buf *sums, struct block_sum sum);
/* False at the end. */
bool block_sum_get(struct reader *sums, struct block_sum *ret);

#endif
