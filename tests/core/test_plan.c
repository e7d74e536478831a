// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Capture plans: what each operation copies, what is noted, and that nothing goes on for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/plan_rig.h"

/* --- operations --- */

static void copies_what_is_named_and_nothing_else(void **state)
{
	struct rig *r = *state;

	put(r, 0x10, 111);
	put(r, 0x100, 222);
	RUN(r, AT(2), COPY(0x10, 8), COPY(0x100, 8));
	assert_int_equal(word(r, 0x10), 111);
	assert_int_equal(word(r, 0x100), 222);
	assert_missing(r, 0xf);
	assert_missing(r, 0x18);
	assert_missing(r, 0xff);
	assert_missing(r, 0x8000);
	assert_notes(r, "");
	assert_int_equal(r->record->slide, 0x1000);
}

static void pieces_that_overlap_are_one_memory(void **state)
{
	struct rig *r = *state;
	u8 bytes[32];

	for (u32 i = 0; i < 64; i++)
		r->memory.base[i] = (u8)i;
	RUN(r, AT(5), COPY(3, 10), COPY(1, 4), COPY(11, 12), COPY(4, 2), COPY(23, 10));
	for (u32 i = 1; i + 1 < r->record->segment_count; i++)
		assert_true(r->record->segments[i].address > r->record->segments[i - 1].address);
	assert_null(view_read(&r->recorded, 0, BASE + 1, bytes, 32));
	for (u32 i = 0; i < 32; i++)
		assert_int_equal(bytes[i], i + 1);
	// A word that two pieces share.
	assert_int_equal(word(r, 8), 0x0f0e0d0c0b0a0908);
	assert_missing(r, 33);
}

static void follows_a_pointer(void **state)
{
	struct rig *r = *state;

	put(r, 0x20, (BASE + 0x1010) | 3);
	put(r, 0x1008, 7);
	RUN(r, AT(2), { .kind = PLAN_FOLLOW, .below = 1, .a = 0x20, .b = 3, .c = 8 }, COPY(0, 8));
	assert_int_equal(word(r, 0x1008), 7);
}

static void notes_pointers_that_lead_nowhere(void **state)
{
	struct rig *r = *state;

	put(r, 0, 0);
	put(r, 8, (u64)-12);
	put(r, 16, 0x4000);
	put(r, 24, 0);
	RUN(r, AT(8), { .kind = PLAN_FOLLOW, .below = 1, .a = 0 }, COPY(0, 8),
	    { .kind = PLAN_FOLLOW, .below = 1, .a = 8, .path = 5 }, COPY(0, 8),
	    { .kind = PLAN_FOLLOW, .below = 1, .a = 16 },
	    { .kind = PLAN_COPY, .b = 8, .path = 5 }, { .kind = PLAN_ARRAY, .below = 1, .a = 24, .b = 0, .c = 2 },
	    { .kind = PLAN_FOLLOW });
	assert_notes(r, "null\t1\t0xffff888000000000\there\n"
			"error-pointer\t1\t0xffff888000000008\tthere\n"
			"unmapped\t1\t0x4000\tthere\n"
			"null\t2\t0xffff888000000018\there\n");
}

static void an_address_is_gone_to_once_where_that_is_asked(void **state)
{
	struct rig *r = *state;

	put(r, 0, BASE + 0x100);
	put(r, 8, BASE + 0x100);
	put(r, 16, BASE + 0x200);
	put(r, 0x100, BASE + 0x800);
	put(r, 0x200, BASE + 0x800);
	RUN(r, AT(4), { .kind = PLAN_ARRAY, .below = 3, .b = 8, .c = 3 },
	    { .kind = PLAN_FOLLOW, .flags = PLAN_ONCE, .below = 2 },
	    { .kind = PLAN_FOLLOW, .flags = PLAN_ONCE, .below = 1 },
	    COPY(0, 8));
	assert_int_equal(r->record->segment_count, 1);
	assert_int_equal(r->record->size, 8); // not two that overlap
}

static void goes_to_each_cpu(void **state)
{
	struct rig *r = *state;
	const struct plan_op ops[] = { { .kind = PLAN_AT, .below = 4, .a = 0x100 },
				       { .kind = PLAN_PER_CPU, .below = 1 },
				       COPY(0, 8),
				       { .kind = PLAN_PER_CPU, .flags = PLAN_ONE, .below = 1, .a = 2 },
				       COPY(8, 8) };

	put(r, 0, BASE + 0x1000);
	put(r, 8, 99);
	put(r, 16, BASE + 0x2000);
	put(r, 0x1100, 1);
	put(r, 0x2100, 2);
	put(r, 0x2108, 3);
	run_with(r, (struct plan_header){ .cpus = 3, .percpu_offsets = BASE, .percpu_unset = 99 }, ops,
		 ARRAY_SIZE(ops));
	assert_int_equal(word(r, 0x1100), 1);
	assert_int_equal(word(r, 0x2100), 2);
	assert_int_equal(word(r, 0x2108), 3);
	assert_missing(r, 0x1108);
	assert_notes(r, "no-cpu\t1\t0x1\there\n");
}

static void arrays_and_sizes_by_what_memory_says(void **state)
{
	struct rig *r = *state;

	put(r, 0, 3);
	put(r, 8, 8);
	RUN(r, AT(6), { .kind = PLAN_LOAD, .reg = 0, .a = 0, .b = 4 }, { .kind = PLAN_LOAD, .reg = 1, .a = 8, .b = 4 },
	    { .kind = PLAN_ARRAY_SIZED, .below = 1, .reg = 0, .limit = 10, .a = 0x100, .b = 0x10 }, COPY(0, 4),
	    { .kind = PLAN_COPY_SIZED, .reg = 0, .reg2 = 1, .limit = 24, .a = 0x200 },
	    { .kind = PLAN_COPY_SIZED, .reg = 0, .reg2 = 1, .limit = 23, .a = 0x300 });
	assert_int_equal(r->record->segment_count, 4);
	assert_int_equal(r->record->segments[2].address, BASE + 0x120);
	assert_int_equal(r->record->segments[3].size, 24);
	assert_missing(r, 0x300);
	assert_notes(r, "large\t1\t0xffff888000000000\there\n");
}

static void conditions(void **state)
{
	struct rig *r = *state;

	put(r, 0, 0xf2);
	memcpy(r->memory.base + 0x10, "simp.bss", 9);
	RUN(r, AT(11), { .kind = PLAN_LOAD, .b = 1 }, { .kind = PLAN_IF, .below = 1, .a = 0xf, .b = 2 }, COPY(0x100, 1),
	    { .kind = PLAN_IF, .below = 1, .a = 0xff, .b = 2 }, COPY(0x200, 1),
	    { .kind = PLAN_IF_TEXT, .flags = PLAN_SUFFIX, .below = 1, .a = 0x13, .b = 5 }, COPY(0x300, 1),
	    { .kind = PLAN_IF_TEXT, .below = 1, .a = 0x10, .b = 16, .c = 0 }, COPY(0x400, 1),
	    { .kind = PLAN_LOAD, .a = 0x9000000, .b = 8 }, COPY(0x500, 1));
	assert_missing(r, 0x200);
	assert_missing(r, 0x300);
	assert_missing(r, 0x400);
	assert_int_equal(r->record->segment_count, 2);
	assert_notes(r, "unmapped\t1\t0xffff888009000000\there\n");

	memcpy(r->memory.base + 0x10, "xxthere", 8);
	memcpy(r->memory.base + 0x20, "there", 6);
	RUN(r, AT(6), { .kind = PLAN_IF_TEXT, .flags = PLAN_SUFFIX, .below = 1, .a = 0x10, .b = 16, .c = 5 },
	    COPY(0x300, 1), { .kind = PLAN_IF_TEXT, .below = 1, .a = 0x10, .b = 16, .c = 5 }, COPY(0x400, 1),
	    { .kind = PLAN_IF_TEXT, .below = 1, .a = 0x20, .b = 5, .c = 5 }, COPY(0x500, 1));
	assert_int_equal(r->record->segment_count, 2);
	assert_missing(r, 0x400);
}

/* --- walks --- */

#define ELEMENT(i) (0x1000 + 0x100 * (u64)(i))

static void make_list(struct rig *r, u32 count)
{
	u64 at = 0x10;

	for (u32 i = 0; i < count; i++) {
		put(r, at, BASE + ELEMENT(i) + 0x20);
		put(r, ELEMENT(i), 1000 + i);
		at = ELEMENT(i) + 0x20;
	}
	put(r, at, BASE + 0x10);
}

#define LIST(most)                                                                 \
	{                                                                          \
		.kind = PLAN_LIST, .below = 1, .a = 0x10, .b = 0x20, .limit = most \
	}

static void walks_a_list(void **state)
{
	struct rig *r = *state;

	make_list(r, 5);
	RUN(r, AT(2), LIST(100), COPY(0, 8));
	for (u32 i = 0; i < 5; i++)
		assert_int_equal(word(r, ELEMENT(i)), 1000 + i);
	assert_int_equal(r->record->segment_count, 5);
	assert_notes(r, "");
	make_list(r, 0);
	RUN(r, AT(2), LIST(100), COPY(0, 8));
	assert_int_equal(r->record->segment_count, 0);
}

static void a_list_that_is_too_long_ends_at_its_limit(void **state)
{
	struct rig *r = *state;

	make_list(r, 5);
	RUN(r, AT(2), LIST(3), COPY(0, 8));
	assert_int_equal(r->record->segment_count, 3);
	assert_notes(r, "many\t1\t0xffff888000001320\there\n");
}

static void a_circle_in_a_list_ends(void **state)
{
	struct rig *r = *state;

	make_list(r, 20);
	put(r, ELEMENT(19) + 0x20, BASE + ELEMENT(7) + 0x20);
	RUN(r, AT(2), LIST(UINT32_MAX), COPY(0, 8));
	assert_int_equal(r->record->segment_count, 20);
	assert_non_null(strstr((const char *)r->record->notes.data, "circle\t1\t"));
	assert_in_range(r->record->steps, 20, 200);
}

static void a_list_that_ends_in_null_or_nowhere_is_noted(void **state)
{
	struct rig *r = *state;

	make_list(r, 3);
	put(r, ELEMENT(2) + 0x20, 0);
	RUN(r, AT(2), LIST(100), COPY(0, 8));
	assert_int_equal(r->record->segment_count, 3);
	assert_notes(r, "null\t1\t0xffff888000000010\there\n");

	make_list(r, 3);
	put(r, ELEMENT(2) + 0x20, 0x1234567890);
	RUN(r, AT(2), LIST(100), COPY(0, 8));
	assert_non_null(strstr((const char *)r->record->notes.data, "unmapped\t1\t0x1234567870\there\n"));
}

static void walks_a_chain(void **state)
{
	struct rig *r = *state;

	for (u32 nulls = 0; nulls < 2; nulls++) {
		make_list(r, 4);
		put(r, 0x10, (BASE + ELEMENT(0) + 0x20) | nulls);
		put(r, ELEMENT(3) + 0x20, nulls ? 0x77 : 0);
		RUN(r, AT(2), { .kind = PLAN_CHAIN, .below = 1, .a = 0x10, .b = 0x20, .c = nulls, .limit = 9 },
		    COPY(0, 8));
		assert_int_equal(r->record->segment_count, 4);
		assert_notes(r, "");
	}
}

#define NODE_CHILDREN (8 | 16 << 16)

static void walks_a_tree(void **state)
{
	struct rig *r = *state;

	put(r, 0, BASE + ELEMENT(0));
	for (u32 i = 0; i < 7; i++)
		for (u32 side = 0; side < 2; side++)
			put(r, ELEMENT(i) + 8 + 8 * side, i < 3 ? BASE + ELEMENT(2 * i + 1 + side) : 0);
	RUN(r, AT(2), { .kind = PLAN_RBTREE, .below = 1, .c = NODE_CHILDREN, .limit = 7 }, COPY(0, 24));
	assert_int_equal(r->record->segment_count, 7);
	assert_notes(r, "");
}

static void a_tree_that_is_a_circle_ends(void **state)
{
	struct rig *r = *state;

	put(r, 0, BASE + ELEMENT(0));
	put(r, ELEMENT(0) + 8, BASE + ELEMENT(0));
	put(r, ELEMENT(0) + 16, BASE + ELEMENT(0));
	RUN(r, AT(2), { .kind = PLAN_RBTREE, .below = 1, .c = NODE_CHILDREN, .limit = 1000 }, COPY(0, 24));
	assert_int_equal(r->record->segment_count, 1);
	assert_notes(r, "damaged\t1\t0xffff888000001000\there\n");
}

enum { XA_SLOTS = 0x28,
       XA_SIZE = XA_SLOTS + 4 * 8 };
#define XA_LAYOUT (XA_SIZE | XA_SLOTS << 16 | 4ULL << 32)

static void walks_an_xarray(void **state)
{
	struct rig *r = *state;

	memset(r->memory.base, 0, SIZE);
	put(r, 8, BASE + 0x2000 + 2);
	put(r, 0x2000 + XA_SLOTS, BASE + 0x3000 + 2); // another node
	put(r, 0x2000 + XA_SLOTS + 8, BASE + ELEMENT(1));
	put(r, 0x2000 + XA_SLOTS + 16, 0x55); // a number
	put(r, 0x2000 + XA_SLOTS + 24, 6); // a sibling of an entry
	put(r, 0x3000 + XA_SLOTS + 24, BASE + ELEMENT(2));
	put(r, ELEMENT(2), 22);
	RUN(r, AT(2), { .kind = PLAN_XARRAY, .below = 1, .a = 8, .c = XA_LAYOUT, .limit = 100 }, COPY(0, 8));
	assert_int_equal(r->record->segment_count, 4);
	assert_int_equal(word(r, ELEMENT(2)), 22);
	assert_int_equal(word(r, 0x2000 + XA_SLOTS + 16), 0x55);
	assert_notes(r, "");

	put(r, 8, BASE + ELEMENT(1)); // one entry alone
	RUN(r, AT(2), { .kind = PLAN_XARRAY, .below = 1, .a = 8, .c = XA_LAYOUT, .limit = 100 }, COPY(0, 8));
	assert_int_equal(r->record->segment_count, 1);
}

static void an_xarray_in_itself_ends(void **state)
{
	struct rig *r = *state;

	put(r, 8, BASE + 0x2000 + 2);
	for (u32 i = 0; i < 4; i++)
		put(r, 0x2000 + XA_SLOTS + 8 * i, BASE + 0x2000 + 2);

	const struct plan_op ops[] = { AT(2),
				       { .kind = PLAN_XARRAY, .below = 1, .a = 8, .c = XA_LAYOUT, .limit = 100 },
				       COPY(0, 8) };

	run_with(r, (struct plan_header){ .max_steps = 5000 }, ops, ARRAY_SIZE(ops));
	assert_non_null(strstr((const char *)r->record->notes.data, "steps\t1\t"));
	assert_in_range(r->record->steps, 5000, 5100);
}

/* --- limits --- */

static void a_record_has_no_more_than_its_bytes(void **state)
{
	struct rig *r = *state;
	const struct plan_op ops[] = { AT(2),
				       { .kind = PLAN_ARRAY, .below = 1, .b = 0x100, .c = 200 },
				       COPY(0, 0x100) };

	run_with(r, (struct plan_header){ .max_bytes = 4096 }, ops, ARRAY_SIZE(ops));
	assert_int_equal(r->record->segment_count, 16);
	assert_notes(r, "full\t1\t0xffff888000001000\there\n");
}

static void a_run_has_no_more_than_its_time(void **state)
{
	struct rig *r = *state;
	const struct plan_op ops[] = { AT(2), { .kind = PLAN_ARRAY, .below = 1, .c = UINT64_MAX }, COPY(0, 8) };

	run_with(r, (struct plan_header){ .max_ns = 1 }, ops, ARRAY_SIZE(ops));
	assert_non_null(strstr((const char *)r->record->notes.data, "time\t1\t"));
	assert_in_range(r->record->steps, 256, 260);
}

/* --- records --- */

static void a_record_does_not_change(void **state)
{
	struct rig *r = *state;
	struct view_place place;
	char text[8];
	size_t length;

	memcpy(r->memory.base, "abc", 4);
	RUN(r, AT(1), COPY(0, 8));
	assert_code(view_write_scalar(&r->recorded, BASE, 8, 1), ERROR_UNSUPPORTED);
	assert_code(view_write(&r->recorded, 0, BASE, "xyz", 3), ERROR_UNSUPPORTED);
	assert_code(view_translate(&r->recorded, 0, BASE, false, &place), ERROR_UNSUPPORTED);
	assert_code(view_read(&r->recorded, 0x1000, BASE, text, 1), ERROR_UNSUPPORTED); // a task's own memory
	assert_null(view_read_string(&r->recorded, 0, BASE, text, sizeof(text), &length));
	assert_int_equal(length, 3);
	assert_memory_equal(text, "abc", 3);
	view_end(&r->recorded);
	assert_code(view_read(&r->recorded, 0, BASE, text, 1), ERROR_ENDED);
}

/* --- programs that are none --- */

static void assert_refused(struct plan_header header, const struct plan_op *ops, u32 count, const char *why)
{
	struct buf bytes = build_plan_bytes(header, ops, count);
	struct plan *p;
	struct error *err = plan_create(bytes.data, bytes.size, &p);

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_FORMAT);
	assert_non_null(strstr(error_message(err), why));
	error_destroy(err);
	buf_deinit(&bytes);
}

static void refuses_what_makes_no_sense(void **state)
{
	const struct plan_op bad[] = {
		{ .kind = PLAN_KINDS },
		{ .kind = PLAN_COPY },
		{ .kind = PLAN_COPY, .b = PLAN_COPY_MAX + 1 },
		{ .kind = PLAN_LOAD, .b = 3 },
		{ .kind = PLAN_LOAD, .b = 8, .reg = PLAN_REGISTERS },
		{ .kind = PLAN_FOLLOW, .path = 1000 },
		{ .kind = PLAN_PER_CPU, .flags = PLAN_ONE, .a = 1 },
		{ .kind = PLAN_IF_TEXT, .b = 16, .c = 1000 },
		{ .kind = PLAN_IF_TEXT, .b = PLAN_NAME_MAX + 1 },
		{ .kind = PLAN_XARRAY, .c = XA_SIZE | XA_SLOTS << 16 | 5ULL << 32 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_refused((struct plan_header){ 0 }, &bad[i], 1, "makes no sense");
}

static void refuses_trees_that_do_not_nest(void **state)
{
	const struct plan_op beyond[] = { AT(2), COPY(0, 8) };
	const struct plan_op across[] = { AT(1), { .kind = PLAN_FOLLOW, .below = 1 }, COPY(0, 8) };
	struct plan_op deep[PLAN_DEPTH + 2];

	assert_refused((struct plan_header){ 0 }, beyond, 2, "has a tree of 2 of the 1 left");
	assert_refused((struct plan_header){ 0 }, across, 3, "has a tree of 1 of the 0 left");
	for (u32 i = 0; i < ARRAY_SIZE(deep); i++)
		deep[i] = (struct plan_op){ .kind = PLAN_FOLLOW, .below = (u32)ARRAY_SIZE(deep) - i - 1 };
	assert_refused((struct plan_header){ 0 }, deep, ARRAY_SIZE(deep), "nested");
}

/* --- stacks --- */

static void record_stack(struct rig *r, u64 sp)
{
	const struct plan_op ops[] = { AT(1), COPY(0, 8) };
	struct plan *p = make_plan((struct plan_header){ 0 }, ops, 2);
	struct plan_run *run;

	assert_null(plan_run_create(p, 0, &run));
	plan_run_execute(run, &r->view);
	plan_run_add_stack(run, sp);
	assert_null(plan_run_finish(run, &r->record));
	plan_put(p);
	record_open_view(r->record, &r->recorded);
}

static void has_the_rest_of_a_stack(void **state)
{
	struct rig *r = *state;

	put(r, 0x7ff8, 5); // no kernel address: a task's stack
	record_stack(r, BASE + 0x5008);
	assert_missing(r, 0x5007);
	assert_int_equal(word(r, 0x7ff8), 5);
	assert_missing(r, 0x8000);
}

/* Its stack is aligned to pages alone, and the last word says where the task's was left. */
static void has_the_stack_that_an_interrupt_came_upon(void **state)
{
	struct rig *r = *state;

	r->view.ranges[0].size = 0xa000; // behind the interrupt's stack there is nothing
	put(r, 0x7008, 1);
	put(r, 0x9ff8, BASE + 0x1100);
	put(r, 0x1100, 2);
	put(r, 0x3ff8, 3);
	record_stack(r, BASE + 0x7008);
	assert_int_equal(word(r, 0x7008), 1);
	assert_int_equal(word(r, 0x9ff8), BASE + 0x1100);
	assert_int_equal(word(r, 0x1100), 2);
	assert_int_equal(word(r, 0x3ff8), 3);
	assert_missing(r, 0x10ff);
	assert_missing(r, 0x4000);
}

static void refuses_bytes_that_are_cut_short(void **state)
{
	const struct plan_op ops[] = { AT(1), COPY(0, 8) };
	struct buf bytes = build_plan_bytes((struct plan_header){ 0 }, ops, 2);
	struct plan *p;

	for (size_t size = 0; size < bytes.size; size++) {
		struct error *err = plan_create(bytes.data, size, &p);

		assert_non_null(err);
		error_destroy(err);
	}
	bytes.data[bytes.size - 1] = 'x';

	struct error *err = plan_create(bytes.data, bytes.size, &p);

	assert_non_null(err);
	error_destroy(err);
	buf_deinit(&bytes);
	assert_refused((struct plan_header){ .max_bytes = PLAN_BYTES_MAX + 1ULL }, ops, 2, "limits");
	assert_refused((struct plan_header){ .cpus = PLAN_CPUS_MAX + 1 }, ops, 2, "CPUs");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(copies_what_is_named_and_nothing_else),
		TEST(pieces_that_overlap_are_one_memory),
		TEST(follows_a_pointer),
		TEST(notes_pointers_that_lead_nowhere),
		TEST(an_address_is_gone_to_once_where_that_is_asked),
		TEST(goes_to_each_cpu),
		TEST(arrays_and_sizes_by_what_memory_says),
		TEST(conditions),
		TEST(walks_a_list),
		TEST(a_list_that_is_too_long_ends_at_its_limit),
		TEST(a_circle_in_a_list_ends),
		TEST(a_list_that_ends_in_null_or_nowhere_is_noted),
		TEST(walks_a_chain),
		TEST(walks_a_tree),
		TEST(a_tree_that_is_a_circle_ends),
		TEST(walks_an_xarray),
		TEST(an_xarray_in_itself_ends),
		TEST(a_record_has_no_more_than_its_bytes),
		TEST(a_run_has_no_more_than_its_time),
		TEST(a_record_does_not_change),
		TEST(has_the_rest_of_a_stack),
		TEST(has_the_stack_that_an_interrupt_came_upon),
		cmocka_unit_test(refuses_what_makes_no_sense),
		cmocka_unit_test(refuses_trees_that_do_not_nest),
		cmocka_unit_test(refuses_bytes_that_are_cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
