/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unwind tables made by hand: as in 6.1, as from 6.4 on, and with the registers' numbers of 7.x.
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

/* A layout, and whether the registers have their new numbers. */
struct orc_dialect {
	const struct orc_layout *layout;
	bool new_numbers;
};

static const struct orc_dialect orc_dialects[] = {
	{ &orc_old_layout, false },
	{ &orc_new_layout, false },
	{ &orc_new_layout, true },
};

enum { ORC_OLDEST,
       ORC_MIDDLE,
       ORC_NEWEST,
       ORC_DIALECTS };

struct orc_code {
	u64 address;
	struct orc_entry entry;
};

static inline u64 orc_builder_bits(u64 value, const struct orc_field *f)
{
	return (value & ((1ULL << f->bits) - 1)) << f->offset;
}

static inline u64 orc_builder_number(const struct orc_dialect *d, enum orc_register reg)
{
	static const u8 numbers[2][ORC_REGISTERS] = {
		{ [ORC_PREV_SP] = 1,
		  [ORC_AX] = 15, // there is none
		  [ORC_DX] = 2,
		  [ORC_DI] = 3,
		  [ORC_BP] = 4,
		  [ORC_SP] = 5,
		  [ORC_R10] = 6,
		  [ORC_R13] = 7,
		  [ORC_BP_INDIRECT] = 8,
		  [ORC_SP_INDIRECT] = 9 },
		{ [ORC_PREV_SP] = 8,
		  [ORC_AX] = 1,
		  [ORC_DX] = 2,
		  [ORC_DI] = 5,
		  [ORC_BP] = 4,
		  [ORC_SP] = 3,
		  [ORC_R10] = 6,
		  [ORC_R13] = 7,
		  [ORC_BP_INDIRECT] = 10,
		  [ORC_SP_INDIRECT] = 9 },
	};

	return numbers[d->new_numbers][reg];
}

static inline u64 orc_builder_encode(const struct orc_dialect *d, const struct orc_entry *e)
{
	const struct orc_layout *l = d->layout;
	u64 type = e->type;

	if (l->end.bits)
		type = e->type >= ORC_CALL ? e->type - ORC_CALL : 0;
	return orc_builder_bits((u64)(s64)e->sp_offset, &l->sp_offset) |
	       orc_builder_bits((u64)(s64)e->bp_offset, &l->bp_offset) |
	       orc_builder_bits(orc_builder_number(d, e->sp_reg), &l->sp_reg) |
	       orc_builder_bits(orc_builder_number(d, e->bp_reg), &l->bp_reg) | orc_builder_bits(type, &l->type) |
	       orc_builder_bits(e->signal, &l->signal) | orc_builder_bits(e->type == ORC_END, &l->end);
}

/* ips_address: where the table of offsets is, as far as its addresses know. */
static inline struct error *build_orc(const struct orc_code *code, u32 count, u64 ips_address,
				      const struct orc_dialect *dialect, struct orc **ret)
{
	const struct orc_layout *layout = dialect->layout;
	s32 ips[ORC_BUILDER_MAX];
	u8 entries[ORC_BUILDER_MAX * 8];

	for (u32 i = 0; i < count; i++) {
		u64 entry = orc_builder_encode(dialect, &code[i].entry);

		ips[i] = (s32)(code[i].address - (ips_address + 4ULL * i));
		memcpy(entries + (size_t)i * layout->size, &entry, layout->size);
	}
	return orc_create(ips, ips_address, entries, count, layout, ret);
}

#endif
