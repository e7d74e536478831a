/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest kernel's memory by its own virtual addresses: translation, bounded reads and writes.
 * Depends on base, kvm/memory.h, x86/paging.h. The guest may run: each aligned scalar is read and written at once,
 * and nothing that is found in memory is believed without a check.
 * One thread at a time. An unmapped address is ERROR_UNMAPPED with the address and the level where the walk ended.
 */
#ifndef KERNEL_VIEW_H
#define KERNEL_VIEW_H

#include "base/error.h"
#include "base/types.h"
#include "kvm/memory.h"

/* A range of kernel addresses that lies in guest memory as it is: no walk is needed. size 0: there is none. */
struct view_range {
	u64 start, size;
	u8 *hva;
};

enum { VIEW_RANGES = 3 };

/* LuaJIT reads this struct, too (lua/ktstr/kernel/c.lua): an object's plain loads go by frozen, generation, ranges. */
struct view {
	const struct guest_memory *memory; /* NULL: the machine is gone, and the ranges are empty */
	u32 generation; /* counts what makes the objects of a freeze stale: thaw, rewind, the end */
	u32 frozen; /* 1 while main holds the machine frozen */
	u64 root; /* guest-physical address of the kernel's top page table */
	u32 levels; /* 4 or 5 */
	u64 slide; /* KASLR's, of the image's virtual addresses */
	/* The image, the direct map below the hole, the one above it. Checked against the page tables when set. */
	struct view_range ranges[VIEW_RANGES];
};

/* Where a byte lies. */
struct view_place {
	u64 gpa;
	u8 *hva;
	u64 left; /* bytes from here to the end of its page (of any size) or range */
	u32 page_shift; /* 12, 21, 30; 0: by a range */
};

/* root 0: the kernel's own; another: that of a task's mm. Walks the tables, whatever the ranges say, when `walk`. */
MUST_CHECK struct error *view_translate(const struct view *v, u64 root, u64 address, bool walk,
					struct view_place *ret);

/* Across pages. On an error nothing is promised about data. */
MUST_CHECK struct error *view_read(const struct view *v, u64 root, u64 address, void *data, size_t size);
/* What lies within one page is written, or all of it: nothing is written before every page was found. */
MUST_CHECK struct error *view_write(const struct view *v, u64 root, u64 address, const void *data, size_t size);
/* 1, 2, 4 or 8 bytes; aligned ones by one access, so never torn; others only where they are within a page. */
MUST_CHECK struct error *view_read_scalar(const struct view *v, u64 address, u32 size, u64 *ret);
MUST_CHECK struct error *view_write_scalar(const struct view *v, u64 address, u32 size, u64 value);
/* Up to max bytes or the NUL, which is not counted. Returns through *length; not terminated. */
MUST_CHECK struct error *view_read_string(const struct view *v, u64 root, u64 address, char *data, size_t max,
					  size_t *length);

#endif
