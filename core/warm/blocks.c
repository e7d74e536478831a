// SPDX-License-Identifier: GPL-2.0-or-later
#include "warm/blocks.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

static const u8 zeros[MEMORY_PAGE];

bool page_run_take(u64 *pages, struct page_run *ret)
{
	if (!*pages)
		return false;
	ret->first = (u32)__builtin_ctzll(*pages);

	u64 behind = ~(*pages >> ret->first);

	ret->count = behind ? (u32)__builtin_ctzll(behind) : BLOCK_PAGES;
	if (ret->count == BLOCK_PAGES)
		*pages = 0;
	else
		*pages &= ~(((1ULL << ret->count) - 1) << ret->first);
	return true;
}

u64 block_pages_used(const u8 *block, u64 pages)
{
	u64 used = 0;

	for (u64 left = pages; left; left &= left - 1) {
		u32 page = (u32)__builtin_ctzll(left);

		if (memcmp(block + (size_t)page * MEMORY_PAGE, zeros, MEMORY_PAGE) != 0)
			used |= 1ULL << page;
	}
	return used;
}

u64 block_hash(const u8 *block, u64 used, struct hash_stream *scratch)
{
	u64 le = htole64(used);
	struct page_run run;

	hash_stream_add(scratch, &le, sizeof(le));
	while (page_run_take(&used, &run))
		hash_stream_add(scratch, block + (size_t)run.first * MEMORY_PAGE, (size_t)run.count * MEMORY_PAGE);
	return hash_stream_end(scratch);
}

bool block_write(int fd, u64 offset, const u8 *block, u64 pages)
{
	struct page_run run;

	while (page_run_take(&pages, &run)) {
		size_t at = (size_t)run.first * MEMORY_PAGE, end = at + (size_t)run.count * MEMORY_PAGE;

		while (at < end) {
			ssize_t n = pwrite(fd, block + at, end - at, (off_t)(offset + at));

			if (n < 0 && errno != EINTR)
				return false;
			if (n > 0)
				at += (size_t)n;
		}
	}
	return true;
}

bool block_read(int fd, u64 offset, u8 *block, u64 pages)
{
	struct page_run run;

	while (page_run_take(&pages, &run)) {
		size_t at = (size_t)run.first * MEMORY_PAGE, end = at + (size_t)run.count * MEMORY_PAGE;

		while (at < end) {
			ssize_t n = pread(fd, block + at, end - at, (off_t)(offset + at));

			if (n < 0 && errno != EINTR)
				return false;
			if (n == 0) {
				errno = 0;
				return false;
			}
			if (n > 0)
				at += (size_t)n;
		}
	}
	return true;
}

void block_sum_put(struct buf *sums, struct block_sum sum)
{
	buf_put_u32(sums, sum.index);
	buf_put_u64(sums, sum.hash);
}

bool block_sum_get(struct reader *sums, struct block_sum *ret)
{
	if (reader_left(sums) < BLOCK_SUM_SIZE)
		return false;
	ret->index = reader_get_u32(sums);
	ret->hash = reader_get_u64(sums);
	return true;
}
