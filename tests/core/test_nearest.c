// SPDX-License-Identifier: GPL-2.0-or-later
/* The names that somebody probably meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/nearest.h"

static void the_distance_counts_edits(void **state)
{
	assert_int_equal(nearest_distance("", ""), 0);
	assert_int_equal(nearest_distance("", "abc"), 3);
	assert_int_equal(nearest_distance("abc", ""), 3);
	assert_int_equal(nearest_distance("nr_running", "nr_running"), 0);
	assert_int_equal(nearest_distance("nr_runing", "nr_running"), 1);
	assert_int_equal(nearest_distance("nr_runnign", "nr_running"), 1);
	assert_int_equal(nearest_distance("NR_running", "nr_RUNNING"), 0);
	assert_int_equal(nearest_distance("kitten", "sitting"), 3);
}

static void long_names_are_cut(void **state)
{
	char a[300], b[300];

	memset(a, 'a', sizeof(a) - 1);
	memset(b, 'a', sizeof(b) - 1);
	a[299] = b[299] = 0;
	b[NEAREST_MAX] = 'b';
	assert_int_equal(nearest_distance(a, b), 0);
	b[0] = 'b';
	assert_int_equal(nearest_distance(a, b), 1);
}

static void the_nearest_come_first_and_those_offered_earlier_before_others(void **state)
{
	static const char *const names[] = { "cpu_capacity", "cpus", "curr", "cpu", "idle", "cup" };
	struct nearest n;

	nearest_init(&n, "cpu");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		nearest_offer(&n, names[i]);
	assert_int_equal(n.offered, 6);
	assert_int_equal(n.count, 6);
	assert_string_equal(n.names[0], "cpu");
	assert_string_equal(n.names[1], "cpus");
	assert_string_equal(n.names[2], "cup");
	assert_string_equal(n.names[3], "curr");
	assert_string_equal(n.names[4], "idle");
	assert_string_equal(n.names[5], "cpu_capacity");
}

static void of_many_the_twenty_nearest_stay(void **state)
{
	struct nearest n;
	char name[32];

	nearest_init(&n, "xxxx");
	for (u32 i = 0; i < 100; i++) {
		/* Ever nearer, in four steps. */
		snprintf(name, sizeof(name), "%.*s%.*s", i / 25, "xxxx", 4 - i / 25, "yyyy");
		nearest_offer(&n, name);
	}
	assert_int_equal(n.offered, 100);
	assert_int_equal(n.count, NEAREST_NAMES);
	for (u32 i = 0; i < NEAREST_NAMES; i++)
		assert_int_equal(n.distances[i], 1);
}

static void only_what_is_near_is_a_guess(void **state)
{
	struct nearest n;

	nearest_init(&n, "flags");
	assert_false(nearest_is_guess(&n));
	nearest_offer(&n, "completely_else");
	assert_false(nearest_is_guess(&n));
	nearest_offer(&n, "flag");
	assert_true(nearest_is_guess(&n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_distance_counts_edits),
		cmocka_unit_test(long_names_are_cut),
		cmocka_unit_test(the_nearest_come_first_and_those_offered_earlier_before_others),
		cmocka_unit_test(of_many_the_twenty_nearest_stay),
		cmocka_unit_test(only_what_is_near_is_a_guess),
	};

	return cmocka_run_group_tests_name("nearest", tests, NULL, NULL);
}
