// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/relocate.h"

static struct error *inconsistent(const char *why)
{
	return error_with_hint(
		error_create(ERROR_FORMAT, "its relocation tables are damaged (%s)", why),
		"fetch or build it again");
}

/* The list that ends before entries[*end], which is moved to the zero in front of it. */
static bool take_list(const relocation_word32 *entries, size_t *end, struct relocation_list *ret)
{
	size_t first = *end;

	while (first > 0 && entries[first - 1])
		first--;
	if (!first)
		return false;
	*ret = (struct relocation_list){ .entries = entries + first, .count = *end - first };
	*end = first - 1;
	return true;
}

/*
 * Where an entry lies in the image. Below it wraps round to a large number: no span reaches that
 * far, since link addresses are in the top 2 GiB.
 */
static inline u32 image_offset(const struct relocation_tables *t, u32 entry)
{
	return entry - (u32)t->link_virt;
}

static bool list_is_inside(const struct relocation_tables *t, const struct relocation_list *l,
			   u32 width)
{
	bool inside = true;

	for (size_t i = 0; i < l->count; i++)
		inside &= image_offset(t, l->entries[i]) <= t->span - width;
	return inside;
}

struct error *relocation_tables_parse(const void *data, size_t size, u64 link_virt, u64 span,
				      struct relocation_tables *ret)
{
	struct relocation_tables t = { .link_virt = link_virt, .span = span };
	struct relocation_list lists[3];
	size_t end = size / sizeof(u32), n = 0;

	if (size % sizeof(u32))
		return inconsistent("not whole words");
	if (span < sizeof(u64))
		return inconsistent("there is nothing to relocate");

	do {
		if (!take_list(data, &end, &lists[n]))
			return inconsistent("a list has no end");
	} while (++n < ARRAY_SIZE(lists) && end);
	if (end || n < 2)
		return inconsistent("not two or three lists");

	t.add32 = lists[0];
	if (n == 3)
		t.sub32 = lists[1];
	t.add64 = lists[n - 1];
	if (!list_is_inside(&t, &t.add32, sizeof(u32)) ||
	    !list_is_inside(&t, &t.sub32, sizeof(u32)) ||
	    !list_is_inside(&t, &t.add64, sizeof(u64)))
		return inconsistent("an entry points outside the image");
	*ret = t;
	return NULL;
}

static void mark_pages(const struct relocation_tables *t, const struct relocation_list *l,
		       u32 width, u64 *map)
{
	u32 done = UINT32_MAX;

	for (size_t i = 0; i < l->count; i++) {
		u32 offset = image_offset(t, l->entries[i]);
		u32 first = offset >> 12, last = (offset + width - 1) >> 12;

		// Builds sort the lists, so most entries share their page with the one before.
		if (first == done && last == done)
			continue;
		map[first / 64] |= 1ULL << first % 64;
		map[last / 64] |= 1ULL << last % 64;
		done = last;
	}
}

void relocation_tables_pages(const struct relocation_tables *t, u64 *map)
{
	mark_pages(t, &t->add32, sizeof(u32), map);
	mark_pages(t, &t->sub32, sizeof(u32), map);
	mark_pages(t, &t->add64, sizeof(u64), map);
}

void relocation_tables_apply(const struct relocation_tables *t, u8 *image, u64 slide)
{
	for (size_t i = 0; i < t->add32.count; i++)
		*(relocation_word32 *)(image + image_offset(t, t->add32.entries[i])) += slide;
	for (size_t i = 0; i < t->sub32.count; i++)
		*(relocation_word32 *)(image + image_offset(t, t->sub32.entries[i])) -= slide;
	for (size_t i = 0; i < t->add64.count; i++)
		*(relocation_word64 *)(image + image_offset(t, t->add64.entries[i])) += slide;
}
