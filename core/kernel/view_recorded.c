// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/view_recorded.h"

typedef unsigned long long ull;

void view_init_recorded(struct view *v, const struct view_segment *segments, u32 count, u64 slide)
{
	static const struct guest_memory none = { 0 };

	*v = (struct view){
		.memory = &none,
		.generation = 1,
		.frozen = 1,
		.slide = slide,
		.segments = segments,
		.segment_count = count,
		.recorded = VIEW_RECORD,
	};
}

/* The last segment that begins at or before an address; NULL: there is none. */
static const struct view_segment *find_segment(const struct view *v, u64 address)
{
	u32 first = 0, end = v->segment_count;

	while (first < end) {
		u32 middle = first + (end - first) / 2;

		if (v->segments[middle].address <= address)
			first = middle + 1;
		else
			end = middle;
	}
	return first ? &v->segments[first - 1] : NULL;
}

struct error *view_find_recorded(const struct view *v, u64 root, u64 address, struct view_place *ret)
{
	const struct view_segment *s = find_segment(v, address);
	u64 offset = s ? address - s->address : 0;

	if (root)
		return error_create(ERROR_UNSUPPORTED, "the memory of a task's user space is not recorded");
	if (!s || offset >= s->size)
		return error_with_hint(error_create(ERROR_UNMAPPED, "0x%llx was not recorded", (ull)address),
				       v->recorded == VIEW_RECORD_CUT ?
					       "the record was cut short, maybe there: its capture's notes say more" :
					       "a capture has what its plan names: ktstr.plan { ... } adds to it");
	// Nobody writes through it: what writes has been refused before.
	*ret = (struct view_place){ .hva = (u8 *)s->data + offset, .left = s->size - offset };
	return NULL;
}

u64 view_gap_recorded(const struct view *v, u64 address)
{
	const struct view_segment *s = find_segment(v, address);
	u32 next = s ? (u32)(s - v->segments) + 1 : 0;

	if (s && address - s->address < s->size)
		return 0;
	return next < v->segment_count ? v->segments[next].address - address : UINT64_MAX;
}
