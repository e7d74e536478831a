// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/record.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

struct record *record_get(struct record *r)
{
	if (r)
		__atomic_fetch_add(&r->users, 1, __ATOMIC_RELAXED);
	return r;
}

void record_put(struct record *r)
{
	if (!r || __atomic_sub_fetch(&r->users, 1, __ATOMIC_ACQ_REL))
		return;
	if (r->data)
		munmap(r->data, r->capacity);
	buf_deinit(&r->notes);
	free(r->segments);
	free(r);
}

struct error *record_create_empty(u64 capacity, u64 expected, struct record **ret)
{
	struct record *r = calloc(1, sizeof(*r));

	if (!r)
		return error_no_memory();
	r->users = 1;
	r->capacity = ALIGN_UP(capacity ? capacity : 1, (u64)PAGE);

	// Only what is written takes memory; and that is best taken before the machine stands still.
	void *data = mmap(NULL, r->capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			  0);

	if (data == MAP_FAILED) {
		r->data = NULL;
		record_put(r);
		return error_create_errno("%llu bytes for a record", (unsigned long long)capacity);
	}
	r->data = data;
	for (u64 at = 0; at < expected && at < r->capacity; at += PAGE)
		*(volatile u8 *)(r->data + at) = 0;
	*ret = r;
	return NULL;
}

void record_shrink(struct record *r)
{
	u64 used = ALIGN_UP(r->size ? r->size : 1, (u64)PAGE);

	if (used < r->capacity && munmap(r->data + used, r->capacity - used) == 0)
		r->capacity = used;
}

static int compare(const void *a, const void *b)
{
	const struct view_segment *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	// The longer one first: it makes the other one superfluous.
	return x->size == y->size ? 0 : x->size > y->size ? -1 :
							    1;
}

void record_sort(struct record *r)
{
	u32 kept = 0;
	u64 last = 0; /* the last address that is there, once one is */

	if (r->segment_count)
		qsort(r->segments, r->segment_count, sizeof(*r->segments), compare);
	for (u32 i = 0; i < r->segment_count; i++) {
		struct view_segment s = r->segments[i];
		u64 end = s.address + (s.size - 1);

		if (kept && end <= last)
			continue;
		if (kept && s.address <= last) {
			u64 twice = last - s.address + 1;

			s.address += twice;
			s.data += twice;
			s.size -= twice;
		}
		last = end;
		r->segments[kept++] = s;
	}
	r->segment_count = kept;
}

void record_open_view(const struct record *r, struct view *ret)
{
	view_init_recorded(ret, r->segments, r->segment_count, r->slide);
	ret->recorded = r->is_cut ? VIEW_RECORD_CUT : VIEW_RECORD;
}
