// SPDX-License-Identifier: GPL-2.0-or-later
#include "x86/paging.h"

enum {
	PAGE_SHIFT = 12,
	INDEX_BITS = 9,
	ENTRY_SIZE = 8,
	LEVEL_PUD = 3, /* the highest that may map a page */

	ENTRY_PRESENT = 1 << 0,
	ENTRY_PAGE = 1 << 7, /* above level 1 */
	ENTRY_PAGE_PAT = 1 << 12, /* of a large page: the one low bit of its address that is none */
};

/* Bits of an entry that are an address; what lies above a processor's own width is not memory either. */
#define ADDRESS_MASK 0x000ffffffffff000ULL

static bool is_canonical(u64 address, u32 levels)
{
	u32 bits = PAGE_SHIFT + INDEX_BITS * levels;
	u64 top = address >> (bits - 1);

	return !top || top == UINT64_MAX >> (bits - 1);
}

static u32 shift_of(u32 level)
{
	return PAGE_SHIFT + INDEX_BITS * (level - 1);
}

static bool maps_page(u64 entry, u32 level)
{
	return level == 1 || (level <= LEVEL_PUD && entry & ENTRY_PAGE);
}

static bool has_reserved_bits(u64 entry, u32 level)
{
	if (level > LEVEL_PUD)
		return entry & ENTRY_PAGE;
	if (level == 1 || !(entry & ENTRY_PAGE))
		return false;
	return entry & ADDRESS_MASK & ((1ULL << shift_of(level)) - 1) & ~(u64)ENTRY_PAGE_PAT;
}

/* False: the walk has ended. */
static bool walk_step(struct paging_walk *w, const struct guest_memory *m, u64 address)
{
	u64 index = (address >> shift_of(w->level)) & ((1 << INDEX_BITS) - 1);
	const u64 *entry = guest_memory_at(m, w->table + index * ENTRY_SIZE, ENTRY_SIZE);

	w->entry = entry ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;
	if (!entry)
		w->end = PAGING_OUTSIDE;
	else if (!(w->entry & ENTRY_PRESENT))
		w->end = PAGING_ABSENT;
	else if (has_reserved_bits(w->entry, w->level))
		w->end = PAGING_RESERVED;
	else if (maps_page(w->entry, w->level))
		w->end = PAGING_MAPPED;
	else
		return true;
	return false;
}

struct paging_walk paging_walk(const struct guest_memory *m, u64 root, u32 levels, u64 address)
{
	struct paging_walk w = { .end = PAGING_NON_CANONICAL };

	if (!is_canonical(address, levels))
		return w;
	w.level = levels;
	w.table = root & ADDRESS_MASK;
	while (walk_step(&w, m, address)) {
		w.table = w.entry & ADDRESS_MASK;
		w.level--;
	}
	if (w.end == PAGING_MAPPED) {
		u64 offset = (1ULL << shift_of(w.level)) - 1;

		w.page_shift = shift_of(w.level);
		w.gpa = (w.entry & ADDRESS_MASK & ~offset) | (address & offset);
	}
	return w;
}

u64 paging_gap(const struct guest_memory *m, u64 root, u32 levels, u64 address)
{
	struct paging_walk w = paging_walk(m, root, levels, address);
	u64 page, gap;

	if (w.end == PAGING_MAPPED)
		return 0;
	if (w.end == PAGING_NON_CANONICAL)
		return UINT64_MAX;
	// Of a walk that came to no entry nothing is known but its page.
	page = 1ULL << (w.level >= 1 && w.level <= 5 ? shift_of(w.level) : PAGE_SHIFT);
	gap = page - (address & (page - 1));

	const u64 *table = guest_memory_at(m, w.table, ENTRY_SIZE << INDEX_BITS);

	// The entries behind it lie together: that is a fraction of what a walk to each of them costs.
	u64 index = address / page & ((1 << INDEX_BITS) - 1);

	for (u64 i = index + 1; table && i < 1 << INDEX_BITS; i++) {
		if (__atomic_load_n(&table[i], __ATOMIC_RELAXED) & ENTRY_PRESENT)
			break;
		gap += page;
	}
	return gap;
}

const char *paging_level_name(u32 level, u32 levels)
{
	static const char *const names[] = { "none", "PTE", "PMD", "PUD", "P4D", "PGD" };

	return level == levels ? "PGD" : level < ARRAY_SIZE(names) ? names[level] :
								     "none";
}
