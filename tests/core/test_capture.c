// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The store of captures: order, names used twice, its bound, copies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "capture/capture.h"

static u32 put(struct capture_store *store, const char *tag, u64 elapsed_ns)
{
	struct capture *c;
	u32 times = 0;

	assert_null(capture_create(tag, FREEZE_GUEST, 2, &c));
	c->elapsed_ns = elapsed_ns;
	c->cpu[1].regs.rip = elapsed_ns;
	assert_null(capture_store_put(store, c, &times));
	return times;
}

static u32 count(struct capture_store *store)
{
	struct capture_store copies;
	u32 copied;

	capture_store_init(&copies);
	assert_null(capture_store_copy(store, &copies));
	copied = copies.count;
	capture_store_deinit(&copies);
	return copied;
}

static void assert_holds(struct capture_store *store, u32 index, const char *tag, u64 elapsed_ns)
{
	struct capture_store copies;
	const struct capture *c;

	capture_store_init(&copies);
	assert_null(capture_store_copy(store, &copies));
	for (c = copies.first; c && index; c = c->next)
		index--;
	assert_non_null(c);
	assert_string_equal(c->tag, tag);
	assert_int_equal(c->elapsed_ns, elapsed_ns);
	assert_int_equal(c->cpu[1].regs.rip, elapsed_ns);
	assert_int_equal(c->source, FREEZE_GUEST);
	capture_store_deinit(&copies);
}

static void keeps_captures_in_order(void **state)
{
	struct capture_store store;

	capture_store_init(&store);
	assert_int_equal(count(&store), 0);
	assert_int_equal(put(&store, "a", 1), 1);
	assert_int_equal(put(&store, "b", 2), 1);
	assert_int_equal(count(&store), 2);
	assert_holds(&store, 0, "a", 1);
	assert_holds(&store, 1, "b", 2);
	capture_store_deinit(&store);
}

static void a_name_used_twice_keeps_the_later_one(void **state)
{
	struct capture_store store;

	capture_store_init(&store);
	put(&store, "a", 1);
	put(&store, "b", 2);
	assert_int_equal(put(&store, "a", 3), 2);
	assert_int_equal(count(&store), 2);
	assert_holds(&store, 0, "b", 2);
	assert_holds(&store, 1, "a", 3);
	// The last one was replaced: what comes next still goes behind it.
	assert_int_equal(put(&store, "a", 4), 3);
	put(&store, "c", 5);
	assert_holds(&store, 1, "a", 4);
	assert_holds(&store, 2, "c", 5);
	capture_store_deinit(&store);
}

static void a_full_store_refuses_and_loses_nothing(void **state)
{
	struct capture_store store;
	struct capture *c;
	char tag[16];
	u32 times;

	capture_store_init(&store);
	for (u32 i = 0; i < CAPTURES_MAX; i++) {
		snprintf(tag, sizeof(tag), "t%u", i);
		put(&store, tag, i);
	}
	assert_null(capture_create("one more", FREEZE_MAIN, 1, &c));

	struct error *err = capture_store_put(&store, c, &times);

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_UNSUPPORTED);
	error_destroy(err);
	capture_destroy(c);
	assert_int_equal(count(&store), CAPTURES_MAX);
	assert_holds(&store, 0, "t0", 0);
	// One that takes another's place still fits.
	assert_int_equal(put(&store, "t7", 77), 2);
	assert_holds(&store, CAPTURES_MAX - 1, "t7", 77);
	capture_store_deinit(&store);
}

static void moves_all_to_another_store(void **state)
{
	struct capture_store from, to;

	capture_store_init(&from);
	capture_store_init(&to);
	capture_store_move(&from, &to);
	assert_int_equal(count(&to), 0);
	put(&from, "a", 1);
	put(&from, "b", 2);
	capture_store_move(&from, &to);
	assert_int_equal(count(&from), 0);
	assert_holds(&to, 1, "b", 2);
	// Both go on working.
	put(&to, "c", 3);
	put(&from, "d", 4);
	assert_holds(&to, 2, "c", 3);
	assert_holds(&from, 0, "d", 4);
	capture_store_deinit(&from);
	capture_store_deinit(&to);
}

static void a_long_name_is_cut(void **state)
{
	char tag[200];
	struct capture *c;

	memset(tag, 'x', sizeof(tag) - 1);
	tag[sizeof(tag) - 1] = '\0';
	assert_null(capture_create(tag, FREEZE_MAIN, 0, &c));
	assert_int_equal(strlen(c->tag), WIRE_TAG_SIZE);
	capture_destroy(c);
}

static void a_record_lives_as_long_as_a_capture_or_a_copy_of_it(void **state)
{
	struct capture_store store, copies;
	struct record *record;
	struct capture *c;
	u32 times;

	capture_store_init(&store);
	capture_store_init(&copies);
	assert_null(record_create_empty(100, 0, &record));
	assert_null(capture_create("a", FREEZE_GUEST, 2, &c));
	c->record = record;
	assert_null(capture_store_put(&store, c, &times));
	assert_null(capture_store_copy(&store, &copies));
	assert_int_equal(record->users, 2);
	assert_ptr_equal(copies.first->record, record);
	put(&store, "a", 2); // takes its place
	assert_int_equal(record->users, 1);
	record->data[99] = 7;
	record_get(record);
	capture_store_deinit(&copies);
	capture_store_deinit(&store);
	assert_int_equal(record->data[99], 7);
	record_put(record);
}

static void a_store_refuses_records_that_take_too_much(void **state)
{
	struct capture_store store;
	struct error *err = NULL;
	u32 times, i;

	capture_store_init(&store);
	for (i = 0; !err; i++) {
		struct capture *c;
		char tag[16];

		snprintf(tag, sizeof(tag), "t%u", i);
		assert_null(capture_create(tag, FREEZE_GUEST, 2, &c));
		assert_null(record_create_empty(1, 0, &c->record));
		c->record->size = 512 << 20; // as it says
		err = capture_store_put(&store, c, &times);
		if (err)
			capture_destroy(c);
	}
	assert_int_equal(i, CAPTURES_MIB_MAX / 512 + 1);
	assert_int_equal(error_code(err), ERROR_UNSUPPORTED);
	error_destroy(err);
	assert_int_equal(count(&store), CAPTURES_MIB_MAX / 512);
	put(&store, "t1", 1); // gives its room back, and has no record
	put(&store, "without a record", 2);
	assert_int_equal(store.bytes >> 20, CAPTURES_MIB_MAX - 512);
	capture_store_deinit(&store);
}

static void every_capture_has_a_number_of_its_own(void **state)
{
	struct capture_store store;

	capture_store_init(&store);
	put(&store, "a", 1);
	put(&store, "b", 2);
	put(&store, "a", 3);
	assert_int_equal(store.first->number, 2);
	assert_int_equal(store.first->next->number, 3);
	capture_store_clear(&store);
	put(&store, "a", 4);
	assert_int_equal(store.first->number, 4);
	capture_store_deinit(&store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_captures_in_order),
		cmocka_unit_test(a_name_used_twice_keeps_the_later_one),
		cmocka_unit_test(a_full_store_refuses_and_loses_nothing),
		cmocka_unit_test(moves_all_to_another_store),
		cmocka_unit_test(a_long_name_is_cut),
		cmocka_unit_test(a_record_lives_as_long_as_a_capture_or_a_copy_of_it),
		cmocka_unit_test(a_store_refuses_records_that_take_too_much),
		cmocka_unit_test(every_capture_has_a_number_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
