// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/view_rig.h"

/* --- setting up --- */

static void the_image_is_there_from_the_start(void **state)
{
	struct rig *r = *state;
	u64 value;

	memcpy(at(r, IMAGE_PHYS + 0x1238), "abcdefgh", 8);
	assert_no_error(view_read_scalar(&r->view, IMAGE + 0x1238, 8, &value));
	assert_memory_equal(&value, "abcdefgh", 8);
	assert_int_equal(r->view.slide, SLIDE);
	assert_error(view_read_scalar(&r->view, IMAGE - 8, 8, &value), ERROR_UNMAPPED,
		     "page tables are not known yet");
	assert_error(view_read_scalar(&r->view, IMAGE + IMAGE_SPAN, 8, &value), ERROR_UNMAPPED,
		     "0xffffffff9f200000 is not mapped");
}

static void a_kernel_that_is_not_in_the_memory_is_refused(void **state)
{
	struct rig *r = *state;
	struct placed_kernel kernel = { .place = { .phys = HOLE_START - 0x1000 }, .span = 0x2000, .levels = 4 };
	struct view v;

	assert_error(view_init(&v, &r->memory, &kernel), ERROR_INVALID, "not in the memory");
	kernel.place.phys = 0;
	kernel.link_virt = UINT64_MAX - 0x1000;
	assert_error(view_init(&v, &r->memory, &kernel), ERROR_INVALID, "not in the memory");
	kernel.link_virt = LINK_VIRT;
	assert_no_error(view_init(&v, &r->memory, &kernel));
}

static void the_top_table_is_checked(void **state)
{
	struct rig *r = *state;
	struct view *v = &r->view;
	const u64 wrong[] = { IMAGE - 4096, IMAGE + IMAGE_SPAN, IMAGE + 8, 0, UINT64_MAX & ~4095ULL };

	for (u32 i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_error(view_set_root(v, wrong[i]), ERROR_INVALID, "not a page of its image");
	// A page of the image that is no table, as before the kernel has filled it.
	assert_error(view_set_root(v, IMAGE + 0x1000), ERROR_UNMAPPED, "level 4 (PGD), entry 0x0");
	// Tables of another kernel, or of this one elsewhere.
	map_page(&r->tables, IMAGE, IMAGE_PHYS - 2 * MIB, 2);
	assert_error(view_set_root(v, IMAGE + TOP_TABLE), ERROR_UNMAPPED,
		     "map 0xffffffff9f000000 to 0x200000, not to 0x400000");
	assert_int_equal(v->root, 0);
	map_page(&r->tables, IMAGE, IMAGE_PHYS, 2);
	assert_no_error(view_set_root(v, IMAGE + TOP_TABLE));
	assert_int_equal(v->root, IMAGE_PHYS + TOP_TABLE);
	// One that was found is kept.
	assert_error(view_set_root(v, IMAGE + 0x1000), ERROR_UNMAPPED, "level 4");
	assert_int_equal(v->root, IMAGE_PHYS + TOP_TABLE);
}

static void the_direct_map_is_checked(void **state)
{
	struct rig *r = *state;
	struct view *v = &r->view;
	const u64 senseless[] = { 0, 0x7fff00000000, DIRECT_MAP + 8, UINT64_MAX & ~4095ULL };

	assert_error(view_set_direct_map(v, DIRECT_MAP), ERROR_INVALID, "before the kernel's page table");
	assert_no_error(view_set_root(v, IMAGE + TOP_TABLE));
	for (u32 i = 0; i < ARRAY_SIZE(senseless); i++)
		assert_error(view_set_direct_map(v, senseless[i]), ERROR_INVALID, "cannot start at");
	assert_error(view_set_direct_map(v, DIRECT_MAP - 64 * GIB), ERROR_UNMAPPED, "nothing of it is mapped");
	assert_error(view_set_direct_map(v, DIRECT_MAP + 2 * MIB), ERROR_UNMAPPED, "not to 0x0");
	assert_int_equal(v->ranges[1].size, 0);

	// One page that is another's, in the second region.
	map_page(&r->tables, DIRECT_MAP + HOLE_END + 4 * MIB, HOLE_END, 2);
	assert_error(view_set_direct_map(v, DIRECT_MAP), ERROR_UNMAPPED, "to 0x100000000, not to 0x100400000");
	assert_int_equal(v->ranges[1].size, 0);
	// One that the kernel keeps from itself.
	*entry_at(&r->tables, DIRECT_MAP + HOLE_END + 4 * MIB, 2) = 0;
	assert_no_error(view_set_direct_map(v, DIRECT_MAP));
	assert_int_equal(v->ranges[1].start, DIRECT_MAP);
	assert_int_equal(v->ranges[1].size, HOLE_START);
	assert_ptr_equal(v->ranges[1].hva, at(r, 0));
	assert_int_equal(v->ranges[2].start, DIRECT_MAP + HOLE_END);
	assert_int_equal(v->ranges[2].gpa, HOLE_END);
	assert_int_equal(v->ranges[2].size, MEMORY - HOLE_START);
	assert_ptr_equal(v->ranges[2].hva, at(r, HOLE_END));
}

static void memory_that_the_kernel_was_told_to_leave_has_no_range(void **state)
{
	struct rig *r = *state;

	for (u64 gpa = HOLE_END; gpa < HOLE_END + MEMORY - HOLE_START; gpa += 2 * MIB)
		*entry_at(&r->tables, DIRECT_MAP + gpa, 2) = 0;
	assert_no_error(view_set_root(&r->view, IMAGE + TOP_TABLE));
	assert_no_error(view_set_direct_map(&r->view, DIRECT_MAP));
	assert_int_equal(r->view.ranges[1].size, HOLE_START);
	assert_int_equal(r->view.ranges[2].size, 0);
}

/* --- translation --- */

static void a_place_says_how_far_it_reaches(void **state)
{
	struct rig *r = *state;
	struct view *v = &r->view;
	struct view_place p;

	assert_no_error(view_translate(v, 0, IMAGE + 0x1234, false, &p));
	assert_int_equal(p.gpa, IMAGE_PHYS + 0x1234);
	assert_ptr_equal(p.hva, at(r, IMAGE_PHYS + 0x1234));
	assert_int_equal(p.left, IMAGE_SPAN - 0x1234);
	assert_int_equal(p.page_shift, 0);

	assert_no_error(view_translate(v, 0, IMAGE + 0x1234, true, &p));
	assert_int_equal(p.gpa, IMAGE_PHYS + 0x1234);
	assert_int_equal(p.left, 2 * MIB - 0x1234);
	assert_int_equal(p.page_shift, 21);

	assert_no_error(view_translate(v, 0, DIRECT_MAP + HOLE_END + 5, false, &p));
	assert_int_equal(p.gpa, HOLE_END + 5);
	assert_ptr_equal(p.hva, at(r, HOLE_END + 5));

	map_torn_pages(r);
	assert_no_error(view_translate(v, 0, VMALLOC + 0xff0, false, &p));
	assert_int_equal(p.gpa, HOLE_START - 0x10);
	assert_int_equal(p.left, 0x10);
	assert_int_equal(p.page_shift, 12);

	// A page of 1 GiB, of which the guest has 8 MiB.
	map_page(&r->tables, VMALLOC + GIB, HOLE_END, 3);
	assert_no_error(view_translate(v, 0, VMALLOC + GIB + MIB, false, &p));
	assert_int_equal(p.left, 7 * MIB);
	assert_int_equal(p.page_shift, 30);
}

static void what_is_not_mapped_says_where_the_walk_ended(void **state)
{
	struct rig *r = *state;
	struct view *v = &r->view;
	u64 *entry = entry_at(&r->tables, VMALLOC, 1);
	u64 value;

	assert_error(view_read_scalar(v, VMALLOC + 0x1008, 8, &value), ERROR_UNMAPPED,
		     "0xffffa1c000001008 is not mapped: the walk ended at level 1 (PTE), entry 0x0");
	assert_error(view_read_scalar(v, 0x10, 8, &value), ERROR_UNMAPPED,
		     "0x10 is not mapped: the walk ended at level 4 (PGD), entry 0x0");
	assert_error(view_read_scalar(v, 1ULL << 63, 8, &value), ERROR_UNMAPPED,
		     "0x8000000000000000 is not mapped: with 4 levels of paging it is no address");
	*entry = 0xfee00000 | PTE_PRESENT;
	assert_error(view_read_scalar(v, VMALLOC + 0x20, 4, &value), ERROR_UNMAPPED,
		     "0xffffa1c000000020 is mapped to 0xfee00020, where the guest has no memory");
	*entry_at(&r->tables, VMALLOC, 2) = HOLE_START | PTE_TABLE;
	assert_error(view_read_scalar(v, VMALLOC, 8, &value), ERROR_UNMAPPED,
		     "ended at level 1 (PTE), whose table at 0x800000 is not memory");
	*entry_at(&r->tables, VMALLOC, 2) = 0x2000 | PTE_PRESENT | PTE_PAGE;
	assert_error(view_read_scalar(v, VMALLOC, 8, &value), ERROR_UNMAPPED,
		     "ended at level 2 (PMD), entry 0x2081 has reserved bits");
}

static void another_root_is_another_address_space(void **state)
{
	struct rig *r = *state;
	struct page_tables task = make_page_tables(&r->memory, 4, HOLE_END + 0x100000);
	char text[8];
	size_t length;

	map_page(&task, 0x7fff12345000, DATA, 1);
	strcpy((char *)at(r, DATA + 0x678), "FOO=bar");
	assert_no_error(view_read(&r->view, task.root, 0x7fff12345678, text, 8));
	assert_string_equal(text, "FOO=bar");
	assert_no_error(view_read_string(&r->view, task.root, 0x7fff12345678, text, 8, &length));
	assert_int_equal(length, 7);
	assert_no_error(view_write(&r->view, task.root, 0x7fff1234567c, "BAZ", 3));
	assert_string_equal((char *)at(r, DATA + 0x678), "FOO=BAZ");
	assert_error(view_read(&r->view, 0, 0x7fff12345678, text, 8), ERROR_UNMAPPED, "level 4 (PGD)");
	// The kernel's addresses are those of its tables, too, and these have none.
	assert_error(view_read(&r->view, task.root, IMAGE, text, 8), ERROR_UNMAPPED, "level 4 (PGD)");
	assert_error(view_read(&r->view, HOLE_START, IMAGE, text, 8), ERROR_UNMAPPED, "is not memory");
}

/* --- its life --- */

static void generations_tell_what_is_stale(void **state)
{
	struct rig *r = *state;
	struct view *v = &r->view;
	u32 first = v->generation;

	assert_int_not_equal(first, 0);
	view_thaw(v);
	assert_int_equal(v->generation, first);
	view_freeze(v, 0);
	assert_int_equal(v->frozen, 1);
	assert_int_equal(v->generation, first);
	view_thaw(v);
	assert_int_equal(v->frozen, 0);
	assert_int_equal(v->generation, first + 1);
	view_freeze(v, 0);
	view_rewind(v);
	assert_int_equal(v->frozen, 1);
	assert_int_equal(v->generation, first + 2);
	v->generation = UINT32_MAX;
	view_thaw(v);
	assert_int_equal(v->generation, 1);
}

static void a_freeze_that_its_limit_has_ended_is_seen(void **state)
{
	struct rig *r = *state;
	struct view *v = &r->view;
	u32 expirations = 7;
	struct view_place p;
	size_t length;
	u64 value = 0;

	v->expirations_now = &expirations;
	view_freeze(v, 7);
	assert_no_error(view_read_scalar(v, IMAGE, 8, &value));
	expirations++;
	assert_true(view_is_expired(v));
	assert_error(view_read_scalar(v, IMAGE, 8, &value), ERROR_FREEZE_LIMIT, "thawed");
	assert_error(view_write_scalar(v, IMAGE, 8, 1), ERROR_FREEZE_LIMIT, "thawed");
	assert_error(view_read(v, 0, IMAGE, &value, 8), ERROR_FREEZE_LIMIT, "thawed");
	assert_error(view_write(v, 0, IMAGE, &value, 8), ERROR_FREEZE_LIMIT, "thawed");
	assert_error(view_read_string(v, 0, IMAGE, (char *)&value, 8, &length), ERROR_FREEZE_LIMIT, "thawed");
	assert_error(view_translate(v, 0, IMAGE, false, &p), ERROR_FREEZE_LIMIT, "thawed");
	view_thaw(v);
	assert_false(view_is_expired(v));
	assert_no_error(view_read_scalar(v, IMAGE, 8, &value));
	assert_int_equal(value, 0);
	view_freeze(v, 8);
	assert_no_error(view_read_scalar(v, IMAGE, 8, &value));
}

static void nothing_is_read_after_the_end(void **state)
{
	struct rig *r = *state;
	struct view *v = &r->view;
	u32 generation = v->generation;
	struct view_place p;
	size_t length;
	u64 value = 0;

	view_freeze(v, 0);
	view_end(v);
	assert_int_not_equal(v->generation, generation);
	assert_int_equal(v->frozen, 0);
	for (u32 i = 0; i < VIEW_RANGES; i++)
		assert_int_equal(v->ranges[i].size, 0);
	assert_error(view_read_scalar(v, IMAGE, 8, &value), ERROR_ENDED, "has ended");
	assert_error(view_read_scalar(v, IMAGE + 1, 8, &value), ERROR_ENDED, "has ended");
	assert_error(view_write_scalar(v, IMAGE, 8, 1), ERROR_ENDED, "has ended");
	assert_error(view_read(v, 0, IMAGE, &value, 8), ERROR_ENDED, "has ended");
	assert_error(view_write(v, 0, IMAGE, &value, 8), ERROR_ENDED, "has ended");
	assert_error(view_read_string(v, 0, IMAGE, (char *)&value, 8, &length), ERROR_ENDED, "has ended");
	assert_error(view_translate(v, 0, IMAGE, true, &p), ERROR_ENDED, "has ended");
	assert_error(view_set_root(v, IMAGE), ERROR_ENDED, "has ended");
	assert_error(view_set_direct_map(v, DIRECT_MAP), ERROR_ENDED, "has ended");
	view_end(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NEW_TEST(the_image_is_there_from_the_start),
		NEW_TEST(a_kernel_that_is_not_in_the_memory_is_refused),
		NEW_TEST(the_top_table_is_checked),
		NEW_TEST(the_direct_map_is_checked),
		NEW_TEST(memory_that_the_kernel_was_told_to_leave_has_no_range),
		KNOWN_TEST(a_place_says_how_far_it_reaches),
		KNOWN_TEST(what_is_not_mapped_says_where_the_walk_ended),
		KNOWN_TEST(another_root_is_another_address_space),
		NEW_TEST(generations_tell_what_is_stale),
		KNOWN_TEST(a_freeze_that_its_limit_has_ended_is_seen),
		KNOWN_TEST(nothing_is_read_after_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
