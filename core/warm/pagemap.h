/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of a mapping of this process exist, and what they are: /proc/self/pagemap.
 * Depends on base.
 * Nothing is touched by asking. Only what stands still is told right.
 */
#ifndef WARM_PAGEMAP_H
#define WARM_PAGEMAP_H

#include "base/error.h"
#include "base/types.h"

#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_SWAPPED (1ULL << 62)
/* It is the file's own page, not a copy. Of what is present only. */
#define PAGEMAP_FILE (1ULL << 61)

enum { PAGEMAP_PIECE = 8192 };

struct pagemap {
	int fd;
	const u8 *base;
	u64 pages;
	u64 first, count; /* the pages that entries holds */
	u64 *entries;
};

#define PAGEMAP_INIT ((struct pagemap){ .fd = -1 })

/* Of [base, base + size), whole pages of 4 KiB. Without a /proc there is an error. */
MUST_CHECK struct error *pagemap_open(struct pagemap *p, const void *base, u64 size);
/* page: counted from base. */
MUST_CHECK struct error *pagemap_get(struct pagemap *p, u64 page, u64 *ret);
/* Of what was opened, or is PAGEMAP_INIT. */
void pagemap_close(struct pagemap *p);

#endif
