/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unwind tables made by hand, in the layouts of 6.1 and of 6.4 and later.
 * Depends on core/kernel/orc.h.
 * Entries are given as orc_find() returns them; what an old layout cannot say is left out.
 */
#ifndef TESTS_CORE_ORC_BUILDER_H
#define TESTS_CORE_ORC_BUILDER_H

#include <string.h>

#include "kernel/orc.h"

enum { ORC_BUILDER_MAX = 64 };

static const struct orc_layout orc_old_layout = {
	.size = 6,
	.sp_offset = { 0, 16 },
	.bp_offset = { 16, 16 },
	.sp_reg = { 32, 4 },
	.bp_reg = { 36, 4 },
	.type = { 40, 2 },
	.end = { 42, 1 },
};

static const struct orc_layout orc_new_layout = {
	.size = 6,
	.sp_offset = { 0, 16 },
	.bp_offset = { 16, 16 },
	.sp_reg = { 32, 4 },
	.bp_reg = { 36, 4 },
	.type = { 40, 3 },
	.signal = { 43, 1 },
};

struct orc_code {
	u64 address;
	struct orc_entry entry;
};

static inline u64 orc_builder_bits(u64 value, const struct orc_field *f)
{
	return (value & ((1ULL << f->bits) - 1)) << f->offset;
}

static inline u64 orc_builder_encode(const struct orc_layout *l, const struct orc_entry *e)
{
	u64 type = e->type;

	if (l->end.bits)
		type = e->type >= ORC_CALL ? e->type - ORC_CALL : 0;
	return orc_builder_bits((u64)(s64)e->sp_offset, &l->sp_offset) |
	       orc_builder_bits((u64)(s64)e->bp_offset, &l->bp_offset) | orc_builder_bits(e->sp_reg, &l->sp_reg) |
	       orc_builder_bits(e->bp_reg, &l->bp_reg) | orc_builder_bits(type, &l->type) |
	       orc_builder_bits(e->signal, &l->signal) | orc_builder_bits(e->type == ORC_END, &l->end);
}

/* ips_address: where the table of offsets is, as far as its addresses know. */
static inline struct error *build_orc(const struct orc_code *code, u32 count, u64 ips_address,
				      const struct orc_layout *layout, struct orc **ret)
{
	s32 ips[ORC_BUILDER_MAX];
	u8 entries[ORC_BUILDER_MAX * 8];

	for (u32 i = 0; i < count; i++) {
		u64 entry = orc_builder_encode(layout, &code[i].entry);

		ips[i] = (s32)(code[i].address - (ips_address + 4ULL * i));
		memcpy(entries + (size_t)i * layout->size, &entry, layout->size);
	}
	return orc_create(ips, ips_address, entries, count, layout, ret);
}

#endif
