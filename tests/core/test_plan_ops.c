// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Capture plans: strings, pages, and what is calculated on the way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/page_tables.h"
#include "core/plan_rig.h"

enum { PAGE = 4096 };

#define VMALLOC 0xffffc90000000000ULL

/* --- strings --- */

static void a_string_is_copied_up_to_its_end(void **state)
{
	struct rig *r = *state;
	char text[32];
	size_t length;

	memcpy(r->memory.base + 0x101, "a name\0and more", 15);
	RUN(r, AT(1), { .kind = PLAN_STRING, .a = 0x101, .limit = 32 });
	assert_null(view_read_string(&r->recorded, 0, BASE + 0x101, text, sizeof(text), &length));
	assert_int_equal(length, 6);
	assert_memory_equal(text, "a name", 6);
	assert_missing(r, 0x108);
	assert_notes(r, "");

	RUN(r, AT(1), { .kind = PLAN_STRING, .a = SIZE - 8, .limit = 8 }); // 0xee, and no end
	assert_int_equal(r->record->segments[0].size, 8);
	assert_notes(r, "large\t1\t0xffff88800000fff8\there\n");
}

static void a_string_that_leaves_memory_is_noted(void **state)
{
	struct rig *r = *state;

	memset(r->memory.base, 'x', SIZE);
	RUN(r, AT(1), { .kind = PLAN_STRING, .a = SIZE - 8, .limit = 64 });
	assert_int_equal(r->record->segment_count, 0);
	assert_notes(r, "unmapped\t1\t0xffff88800000fff8\there\n");
}

/* --- calculation --- */

#define SET_(r, value)                                 \
	{                                              \
		.kind = PLAN_SET, .reg = r, .a = value \
	}
#define CALC_(how, x, y)                                         \
	{                                                        \
		.kind = PLAN_CALC, .reg = x, .reg2 = y, .a = how \
	}

/* What comes out shows in where a byte is copied. */
static void assert_calculated(struct rig *r, enum plan_calc how, u64 x, u64 y, u64 expected)
{
	RUN(r, SET_(1, x), SET_(2, y), CALC_(how, 1, 2), AT(2), { .kind = PLAN_MOVE, .reg = 1, .below = 1 },
	    COPY(0, 1));
	assert_int_equal(r->record->segment_count, 1);
	assert_int_equal(r->record->segments[0].address - BASE, expected);
}

static void registers_are_calculated_with(void **state)
{
	struct rig *r = *state;

	assert_calculated(r, CALC_ADD, 5, 7, 12);
	assert_calculated(r, CALC_SUBTRACT, 9, 7, 2);
	assert_calculated(r, CALC_SUBTRACT, 7, 9, 0);
	assert_calculated(r, CALC_AND, 0x1234, 0xff, 0x34);
	assert_calculated(r, CALC_MAX, 3, 8, 8);
	assert_calculated(r, CALC_MAX, 8, 3, 8);
	assert_calculated(r, CALC_SHIFT, 1, 10, 1024);
	assert_calculated(r, CALC_SHIFT, 1, 64, 0);
	assert_calculated(r, CALC_SHIFT, 1, UINT64_MAX, 0);
}

static void a_null_that_may_be_one_is_not_noted(void **state)
{
	struct rig *r = *state;

	put(r, 0, 0);
	put(r, 8, BASE + 0x100);
	RUN(r, AT(4), { .kind = PLAN_FOLLOW, .flags = PLAN_MAY_BE_NULL, .below = 1 }, COPY(0, 8),
	    { .kind = PLAN_FOLLOW, .flags = PLAN_MAY_BE_NULL, .a = 8, .below = 1 }, COPY(0, 8));
	assert_int_equal(r->record->segment_count, 1);
	assert_notes(r, "");
}

/* --- pages --- */

/* Page tables for VMALLOC behind the memory that tests put things into; page i of it lies at page i of BASE. */
static struct page_tables map_some(struct rig *r, const u64 *indices, u32 count)
{
	struct page_tables t = make_page_tables(&r->memory, 4, 1 << 20);

	for (u32 i = 0; i < count; i++)
		map_page(&t, VMALLOC + indices[i] * PAGE, (u64)(i + 1) * PAGE, 1);
	r->view.root = t.root;
	return t;
}

static void run_pages(struct rig *r, u64 count, u32 limit, u64 look)
{
	const struct plan_op ops[] = {
		SET_(3, count),
		{ .kind = PLAN_AT, .a = VMALLOC, .below = 1 },
		{ .kind = PLAN_PAGES, .reg = 3, .limit = limit, .c = look },
	};

	run_with(r, (struct plan_header){ 0 }, ops, ARRAY_SIZE(ops));
}

static void assert_page(struct rig *r, u64 index, u64 expected)
{
	u64 value;

	assert_null(view_read_scalar(&r->recorded, VMALLOC + index * PAGE + 0x10, 8, &value));
	assert_int_equal(value, expected);
}

static void pages_that_are_there_are_copied(void **state)
{
	// Next to each other, in another table, and a GiB away.
	const u64 indices[] = { 0, 1, 700, 300000 };
	struct rig *r = *state;

	map_some(r, indices, ARRAY_SIZE(indices));
	for (u32 i = 0; i < ARRAY_SIZE(indices); i++)
		put(r, (u64)(i + 1) * PAGE + 0x10, 100 + i);
	run_pages(r, 1 << 20, 1 << 20, 1 << 20);
	assert_int_equal(r->record->segment_count, ARRAY_SIZE(indices));
	for (u32 i = 0; i < ARRAY_SIZE(indices); i++)
		assert_page(r, indices[i], 100 + i);
	assert_notes(r, "");
	// Looking for them takes a step a table, not a step a page.
	assert_in_range(r->record->steps, 4, 50);
	// What is not there is found in the record, too.
	assert_int_equal(view_gap(&r->recorded, VMALLOC + PAGE), 0);
	assert_int_equal(view_gap(&r->recorded, VMALLOC + 2 * PAGE), 698 * PAGE);
	assert_int_equal(view_gap(&r->recorded, VMALLOC - 8), 8);
	assert_int_equal(view_gap(&r->recorded, VMALLOC + 300001ULL * PAGE), UINT64_MAX);
}

static void pages_beyond_a_limit_are_noted(void **state)
{
	const u64 indices[] = { 0, 1, 2, 9 };
	struct rig *r = *state;

	map_some(r, indices, ARRAY_SIZE(indices));
	run_pages(r, 10, 2 * PAGE, 100);
	assert_int_equal(r->record->segment_count, 2);
	assert_notes(r, "large\t1\t0xffffc90000002000\there\n");

	map_some(r, indices, ARRAY_SIZE(indices));
	run_pages(r, 10, 1 << 20, 9);
	assert_int_equal(r->record->segment_count, 3);
	assert_notes(r, "many\t1\t0xffffc90000000000\there\n");

	map_some(r, indices, ARRAY_SIZE(indices));
	run_pages(r, 2, 1 << 20, 9);
	assert_int_equal(r->record->segment_count, 2);
	assert_notes(r, "");
}

static void of_no_page_tables_there_are_no_pages(void **state)
{
	struct rig *r = *state;

	run_pages(r, 1 << 20, 1 << 20, 1 << 20);
	assert_int_equal(r->record->segment_count, 0);
	view_end(&r->view);
	assert_int_equal(view_gap(&r->view, BASE), UINT64_MAX);
}

/* --- records --- */

static void assert_hint(struct rig *r, const char *expected)
{
	u64 value;
	struct error *err = view_read_scalar(&r->recorded, BASE + 0x8000, 8, &value);

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_UNMAPPED);
	assert_non_null(strstr(error_hint(err), expected));
	error_destroy(err);
}

static void a_record_that_was_cut_short_says_so(void **state)
{
	struct rig *r = *state;
	const struct plan_op ops[] = { AT(2), COPY(0, 0x1000), COPY(0x8000, 8) };

	run_with(r, (struct plan_header){ .max_bytes = 0x1000 }, ops, ARRAY_SIZE(ops));
	assert_true(r->record->is_cut);
	assert_hint(r, "cut short");
	RUN(r, AT(1), COPY(0, 8));
	assert_false(r->record->is_cut);
	assert_hint(r, "what its plan names");
}

static void refuses_what_makes_no_sense(void **state)
{
	const struct plan_op bad[] = {
		{ .kind = PLAN_STRING },
		{ .kind = PLAN_STRING, .limit = PLAN_STRING_MAX + 1 },
		{ .kind = PLAN_PAGES, .limit = PLAN_COPY_MAX + 1 },
		{ .kind = PLAN_PAGES, .c = PLAN_PAGES_MAX + 1 },
		{ .kind = PLAN_CALC, .a = CALC_KINDS },
		{ .kind = PLAN_CALC, .reg2 = PLAN_REGISTERS },
	};

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		struct buf bytes = build_plan_bytes((struct plan_header){ 0 }, &bad[i], 1);
		struct plan *p;

		assert_code(plan_create(bytes.data, bytes.size, &p), ERROR_FORMAT);
		buf_deinit(&bytes);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_string_is_copied_up_to_its_end),
		TEST(a_string_that_leaves_memory_is_noted),
		TEST(registers_are_calculated_with),
		TEST(a_null_that_may_be_one_is_not_noted),
		TEST(pages_that_are_there_are_copied),
		TEST(pages_beyond_a_limit_are_noted),
		TEST(of_no_page_tables_there_are_no_pages),
		TEST(a_record_that_was_cut_short_says_so),
		cmocka_unit_test(refuses_what_makes_no_sense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
