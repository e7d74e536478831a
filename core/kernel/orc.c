// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/orc.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum {
	MAX_ENTRY_SIZE = 8,
	MAX_ENTRIES = 1 << 26,
};

#define MAX_SPREAD (1ULL << 30)

/* What a number stands for: before 7.x, and since. */
enum { NUMBERINGS = 2,
       NUMBERS = 11 };

static const enum orc_register registers[NUMBERINGS][NUMBERS] = {
	{ ORC_UNDEFINED, ORC_PREV_SP, ORC_DX, ORC_DI, ORC_BP, ORC_SP, ORC_R10, ORC_R13, ORC_BP_INDIRECT,
	  ORC_SP_INDIRECT, ORC_REGISTERS },
	{ ORC_UNDEFINED, ORC_AX, ORC_DX, ORC_SP, ORC_BP, ORC_DI, ORC_R10, ORC_R13, ORC_PREV_SP, ORC_SP_INDIRECT,
	  ORC_BP_INDIRECT },
};

/* Both tables lie behind the struct: count offsets from base, then count entries. */
struct orc {
	struct orc_layout layout;
	u64 base; /* the first address */
	u32 count;
	u32 *offsets; /* ascending */
	u8 *entries;
	const enum orc_register *registers; /* by number */
};

static struct error *damaged(const char *why)
{
	return error_create(ERROR_FORMAT, "the kernel's unwind tables are damaged (%s)", why);
}

static bool field_fits(const struct orc_field *f, u32 min_bits, u32 max_bits, u32 entry_size)
{
	return f->bits >= min_bits && f->bits <= max_bits && f->offset <= entry_size * 8 &&
	       f->bits <= entry_size * 8 - f->offset;
}

struct error *orc_check_layout(const struct orc_layout *l)
{
	bool fits = l->size > 0 && l->size <= MAX_ENTRY_SIZE && field_fits(&l->sp_offset, 8, 32, l->size) &&
		    field_fits(&l->bp_offset, 8, 32, l->size) && field_fits(&l->sp_reg, 4, 8, l->size) &&
		    field_fits(&l->bp_reg, 4, 8, l->size) && field_fits(&l->type, 2, 8, l->size) &&
		    field_fits(&l->signal, 0, 1, l->size) && field_fits(&l->end, 0, 1, l->size);

	if (!fits || (!l->end.bits && l->type.bits < 3))
		return error_create(ERROR_INVALID, "struct orc_entry of %u bytes has a layout that is not known",
				    l->size);
	return NULL;
}

void orc_destroy(struct orc *orc)
{
	free(orc);
}

static void orc_cleanup(struct orc **orc)
{
	orc_destroy(*orc);
}

/* From offsets that are each relative to its own place, as in the image, to ones from the first address. */
static struct error *orc_resolve(struct orc *orc, u64 ips_address)
{
	u64 before = 0;

	for (u32 i = 0; i < orc->count; i++) {
		u64 address = ips_address + 4ULL * i + (u64)(s64)(s32)orc->offsets[i];

		if (!i)
			orc->base = before = address;
		if (address < before)
			return damaged("not sorted");
		if (address - orc->base >= MAX_SPREAD)
			return damaged("spread over too much memory");
		orc->offsets[i] = (u32)(address - orc->base);
		before = address;
	}
	return NULL;
}

static u64 get_bits(u64 entry, const struct orc_field *f)
{
	return entry >> f->offset & ((1ULL << f->bits) - 1);
}

static u64 get_entry(const struct orc *orc, u32 index)
{
	u64 entry = 0;

	memcpy(&entry, orc->entries + (size_t)index * orc->layout.size, orc->layout.size);
	return entry;
}

/* ORC_REGISTERS: it is none. */
static enum orc_register get_register(const enum orc_register *numbering, u64 entry, const struct orc_field *f)
{
	u64 number = get_bits(entry, f);

	return number < NUMBERS ? numbering[number] : ORC_REGISTERS;
}

/* How many entries have, by these numbers, what nearly all have. */
static u32 count_usual(const struct orc *orc, const enum orc_register *numbering)
{
	u32 count = 0;

	for (u32 i = 0; i < orc->count; i++) {
		u64 entry = get_entry(orc, i);

		count += get_register(numbering, entry, &orc->layout.sp_reg) == ORC_SP;
		count += get_register(numbering, entry, &orc->layout.bp_reg) == ORC_PREV_SP;
	}
	return count;
}

static struct error *orc_find_numbering(struct orc *orc)
{
	u32 before = count_usual(orc, registers[0]), since = count_usual(orc, registers[1]);

	if (before == since)
		return damaged("registers that make no sense");
	orc->registers = registers[since > before];
	return NULL;
}

struct error *orc_create(const void *ips, u64 ips_address, const void *entries, u32 count,
			 const struct orc_layout *layout, struct orc **ret)
{
	struct error *err = orc_check_layout(layout);

	if (err)
		return err;
	if (!count || count > MAX_ENTRIES)
		return damaged("a senseless number of entries");

	size_t offsets = (size_t)count * sizeof(u32), size = (size_t)count * layout->size;
	CLEANUP(orc_cleanup)
	struct orc *orc = malloc(sizeof(*orc) + offsets + size);

	if (!orc)
		return error_no_memory();
	*orc = (struct orc){ .layout = *layout, .count = count };
	orc->offsets = (u32 *)(orc + 1);
	orc->entries = (u8 *)(orc->offsets + count);
	memcpy(orc->offsets, ips, offsets);
	memcpy(orc->entries, entries, size);
	err = orc_resolve(orc, ips_address);
	if (!err)
		err = orc_find_numbering(orc);
	if (err)
		return err;
	*ret = no_free(orc);
	return NULL;
}

u32 orc_count(const struct orc *orc)
{
	return orc->count;
}

static s32 get_signed(u64 entry, const struct orc_field *f)
{
	u64 sign = 1ULL << (f->bits - 1);

	return (s32)(s64)((get_bits(entry, f) ^ sign) - sign);
}

/* Before 6.4 an entry without a register for the stack pointer was either the end or nothing. */
static enum orc_type old_type(u64 type, enum orc_register sp_reg, bool end)
{
	static const enum orc_type types[] = { ORC_CALL, ORC_REGS, ORC_REGS_PARTIAL };

	if (sp_reg == ORC_UNDEFINED)
		return end ? ORC_END : ORC_NONE;
	return type < ARRAY_SIZE(types) ? types[type] : ORC_NONE;
}

static bool entry_decode(const struct orc *orc, u32 index, struct orc_entry *ret)
{
	const struct orc_layout *l = &orc->layout;
	u64 entry = get_entry(orc, index), type = get_bits(entry, &l->type);

	ret->sp_reg = get_register(orc->registers, entry, &l->sp_reg);
	ret->bp_reg = get_register(orc->registers, entry, &l->bp_reg);
	if (ret->sp_reg == ORC_REGISTERS || ret->bp_reg == ORC_REGISTERS)
		return false;
	ret->sp_offset = get_signed(entry, &l->sp_offset);
	ret->bp_offset = get_signed(entry, &l->bp_offset);
	if (l->end.bits)
		ret->type = old_type(type, ret->sp_reg, get_bits(entry, &l->end));
	else
		ret->type = type <= ORC_REGS_PARTIAL ? (enum orc_type)type : ORC_NONE;
	ret->signal = l->signal.bits ? get_bits(entry, &l->signal) :
				       ret->type == ORC_REGS || ret->type == ORC_REGS_PARTIAL;
	return ret->type != ORC_NONE;
}

/* The last one is where the code ends: what ends nothing has no code of its own. */
void orc_range(const struct orc *orc, u64 *start, u64 *end)
{
	*start = orc->base;
	*end = orc->base + orc->offsets[orc->count - 1];
}

bool orc_find(const struct orc *orc, u64 address, struct orc_entry *ret)
{
	u64 start, end;

	orc_range(orc, &start, &end);
	if (address < start || address >= end)
		return false;

	/* The last of those at or below it: [low] is one, [high] is not. */
	u32 offset = (u32)(address - start), low = 0, high = orc->count;

	while (high - low > 1) {
		u32 middle = low + (high - low) / 2;

		if (orc->offsets[middle] <= offset)
			low = middle;
		else
			high = middle;
	}
	return entry_decode(orc, low, ret);
}
