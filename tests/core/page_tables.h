/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page tables made by hand in a guest's memory, for tests.
 * Depends on kvm/memory.h; included after cmocka.h.
 * Tables are taken one page after another from where they were told to start.
 */
#ifndef TESTS_CORE_PAGE_TABLES_H
#define TESTS_CORE_PAGE_TABLES_H

#include <string.h>

#include "base/types.h"
#include "kvm/memory.h"

#define PTE_PRESENT (1ULL << 0)
#define PTE_WRITABLE (1ULL << 1)
#define PTE_USER (1ULL << 2)
#define PTE_PAGE (1ULL << 7)
#define PTE_PAT_LARGE (1ULL << 12)
#define PTE_NX (1ULL << 63)
#define PTE_TABLE (PTE_PRESENT | PTE_WRITABLE | PTE_USER)
#define PTE_ADDRESS 0x000ffffffffff000ULL

struct page_tables {
	const struct guest_memory *memory;
	u32 levels;
	u64 root, next; /* guest-physical */
};

static inline u64 new_table(struct page_tables *t)
{
	u64 gpa = t->next;

	t->next += 4096;
	memset(guest_memory_at(t->memory, gpa, 4096), 0, 4096);
	return gpa;
}

static inline struct page_tables make_page_tables(const struct guest_memory *m, u32 levels, u64 at)
{
	struct page_tables t = { .memory = m, .levels = levels, .next = at };

	t.root = new_table(&t);
	return t;
}

/* The entry for an address in its table of that level; tables above it are made where there are none. */
static inline u64 *entry_at(struct page_tables *t, u64 address, u32 level)
{
	u64 table = t->root;

	for (u32 l = t->levels;; l--) {
		u64 index = (address >> (12 + 9 * (l - 1))) & 511;
		u64 *entry = guest_memory_at(t->memory, table + 8 * index, 8);

		if (l == level)
			return entry;
		if (!*entry)
			*entry = new_table(t) | PTE_TABLE;
		table = *entry & PTE_ADDRESS;
	}
}

/* level: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB. */
static inline void map_page(struct page_tables *t, u64 address, u64 gpa, u32 level)
{
	*entry_at(t, address, level) = gpa | PTE_PRESENT | PTE_WRITABLE | (level > 1 ? PTE_PAGE : 0);
}

#endif
