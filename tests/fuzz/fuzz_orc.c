// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unwind tables of any bytes, in a layout of any numbers or in a good one, looked up all over. The input: a byte that
 * picks the layout, that layout, the table's address, offsets, entries.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/orc_builder.h"
#include "base/buf.h"

static void take_field(struct reader *r, struct orc_field *f)
{
	f->offset = reader_get_u8(r);
	f->bits = reader_get_u8(r);
}

static struct orc_layout take_layout(struct reader *r)
{
	struct orc_layout l = { .size = reader_get_u8(r) };

	take_field(r, &l.sp_offset);
	take_field(r, &l.bp_offset);
	take_field(r, &l.sp_reg);
	take_field(r, &l.bp_reg);
	take_field(r, &l.type);
	take_field(r, &l.signal);
	take_field(r, &l.end);
	return l;
}

static void look_up(const struct orc *orc)
{
	u64 start, end;

	orc_range(orc, &start, &end);

	const u64 length = end - start;
	const u64 addresses[] = { 0, start - 1, start, start + length / 3, start + length / 2,
				  end - 1, end, UINT64_MAX };

	if (end < start && length >= 1ULL << 30)
		abort();
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		struct orc_entry e = { 0 };

		if (!orc_find(orc, addresses[i], &e))
			continue;
		if (addresses[i] - start >= length || e.type == ORC_NONE || e.type > ORC_REGS_PARTIAL ||
		    e.sp_reg >= ORC_REGISTERS || e.bp_reg >= ORC_REGISTERS)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct reader r = reader_init(data, size);
	u8 how = reader_get_u8(&r);
	struct orc_layout layout = how == 0 ? take_layout(&r) : how & 1 ? orc_new_layout :
									  orc_old_layout;
	u64 address = reader_get_u64(&r);
	struct error *err = orc_check_layout(&layout);

	if (r.failed || err) {
		error_destroy(err);
		return 0;
	}

	u32 count = (u32)(reader_left(&r) / (4 + layout.size));
	const void *ips = reader_take(&r, 4ULL * count);
	const void *entries = reader_take(&r, (size_t)layout.size * count);
	struct orc *orc = NULL;

	err = orc_create(ips, address, entries, count, &layout, &orc);
	if (!err)
		look_up(orc);
	error_destroy(err);
	orc_destroy(orc);
	return 0;
}
