/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel's image, direct map and page tables, made by hand in memory on both sides of a hole; and a view of it.
 * Depends on kvm_fixture.h, page_tables.h, kernel/view.h; included after cmocka.h.
 * No guest runs in it: what a guest would do, tests do.
 */
#ifndef TESTS_CORE_VIEW_RIG_H
#define TESTS_CORE_VIEW_RIG_H

#include "core/kvm_fixture.h"
#include "core/page_tables.h"
#include "kernel/view.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

enum {
	MEMORY = 16 << 20,
	HOLE_START = 8 << 20, /* half of it lies behind the hole */
	IMAGE_PHYS = 4 << 20,
	IMAGE_SPAN = 2 << 20,
	TOP_TABLE = IMAGE_SPAN - 0x4000, /* from the image's start */
	TABLES = 0x100000,
	DATA = 0x200000, /* pages that tests map as they like */
};

#define HOLE_END (4 * GIB)
#define LINK_VIRT 0xffffffff81000000ULL
#define SLIDE 0x1e000000ULL
#define IMAGE (LINK_VIRT + SLIDE)
#define DIRECT_MAP 0xffff98e640000000ULL
#define VMALLOC 0xffffa1c000000000ULL

struct rig {
	struct guest_memory memory;
	struct page_tables tables;
	struct view view;
};

static inline void map_direct(struct page_tables *t, u64 start)
{
	for (u64 gpa = 0; gpa < HOLE_START; gpa += 2 * MIB)
		map_page(t, start + gpa, gpa, 2);
	for (u64 gpa = HOLE_END; gpa < HOLE_END + MEMORY - HOLE_START; gpa += 2 * MIB)
		map_page(t, start + gpa, gpa, 2);
}

/* A kernel that has set up its tables, and nobody has told the view yet. */
static inline int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	const struct placed_kernel kernel = {
		.place = { .phys = IMAGE_PHYS, .virt_slide = SLIDE },
		.link_virt = LINK_VIRT,
		.span = IMAGE_SPAN,
		.levels = 4,
	};

	*state = r;
	assert_no_error(guest_memory_init(&r->memory, MEMORY, HOLE_START, HOLE_END));
	r->tables = make_page_tables(&r->memory, 4, IMAGE_PHYS + TOP_TABLE);
	r->tables.next = TABLES;
	map_page(&r->tables, IMAGE, IMAGE_PHYS, 2);
	map_direct(&r->tables, DIRECT_MAP);
	assert_no_error(view_init(&r->view, &r->memory, &kernel));
	return 0;
}

static inline int setup_known(void **state)
{
	setup(state);

	struct rig *r = *state;

	assert_no_error(view_set_root(&r->view, IMAGE + TOP_TABLE));
	assert_no_error(view_set_direct_map(&r->view, DIRECT_MAP));
	return 0;
}

static inline int teardown(void **state)
{
	struct rig *r = *state;

	guest_memory_deinit(&r->memory);
	free(r);
	return 0;
}

static inline u8 *at(struct rig *r, u64 gpa)
{
	return guest_memory_at(&r->memory, gpa, 1);
}

/* Two pages that follow one another, whose memory is on either side of the hole; and nothing behind them. */
static inline void map_torn_pages(struct rig *r)
{
	map_page(&r->tables, VMALLOC, HOLE_START - 0x1000, 1);
	map_page(&r->tables, VMALLOC + 0x1000, HOLE_END, 1);
}

#define NEW_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define KNOWN_TEST(f) cmocka_unit_test_setup_teardown(f, setup_known, teardown)

#endif
