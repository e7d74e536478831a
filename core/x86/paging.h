/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walk of a guest's page tables, as the processor would do it: 4 and 5 levels, pages of 4 KiB, 2 MiB, 1 GiB.
 * Depends on base and kvm/memory.h.
 * Tables may say anything, and change meanwhile: each entry is read once, and a walk takes `levels` steps at most.
 */
#ifndef X86_PAGING_H
#define X86_PAGING_H

#include "base/types.h"
#include "kvm/memory.h"

enum paging_end {
	PAGING_MAPPED,
	PAGING_ABSENT, /* an entry without the present bit */
	PAGING_RESERVED, /* bits that the processor faults on */
	PAGING_OUTSIDE, /* a table that is not in the guest's memory */
	PAGING_NON_CANONICAL, /* no such address with so many levels: nothing was walked */
};

struct paging_walk {
	enum paging_end end;
	u32 level; /* where it ended: 1 (PTE) to 5; of a page its size: 1, 2, 3. 0: nothing was walked */
	u64 table; /* guest-physical address of the table it ended in */
	u64 entry; /* what stood there; 0 where the table is outside */
	u64 gpa; /* PAGING_MAPPED: of the address itself, which need not be memory */
	u32 page_shift; /* likewise: 12, 21, 30 */
};

/* root: of the top table; flags in it, as CR3 has them, are ignored. levels: 4 or 5. */
struct paging_walk paging_walk(const struct guest_memory *m, u64 root, u32 levels, u64 address);

/*
 * Bytes from an address on that are not mapped, as far as the table says that the walk ends in; 0: it is mapped. What
 * is no address at all has none behind it: UINT64_MAX.
 */
u64 paging_gap(const struct guest_memory *m, u64 root, u32 levels, u64 address);

/* As Linux calls the entries of a table: "PTE", "PMD", "PUD", "P4D", "PGD". */
const char *paging_level_name(u32 level, u32 levels);

#endif
