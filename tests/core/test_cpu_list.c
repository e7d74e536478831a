// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The agent's own, which no library holds. */
#include "agent/cpu_list.c"

static void check(const char *text, const char *expected)
{
	struct cpu_list list;
	char out[256];

	assert_true(cpu_list_parse(text, &list));
	assert_int_equal(cpu_list_format(list.bits, out, sizeof(out)), strlen(expected));
	assert_string_equal(out, expected);
}

static void lists_are_read_and_written_in_the_kernels_way(void **state)
{
	check("", "");
	check("\n", "");
	check("0", "0");
	check("0-3,8\n", "0-3,8");
	check("3,2,1,0", "0-3");
	check("5-5", "5");
	check("0-7,4-9,64,63", "0-9,63-64");
	check("1023", "1023");
	check("0-1023", "0-1023");
}

static void what_is_no_list_is_refused(void **state)
{
	static const char *const wrong[] = { " ", ",", "0,", ",0", "0-", "-1", "3-1", "0-1-2", "a", "0x1", "1024",
					     "0-1024", "99999999999999999999", "0 1", "0\n1", "0:1" };
	struct cpu_list list;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		if (cpu_list_parse(wrong[i], &list))
			fail_msg("'%s' was taken", wrong[i]);
}

static void a_list_that_does_not_fit_is_cut(void **state)
{
	struct cpu_list list;
	char out[8];

	assert_true(cpu_list_parse("100,200,300,400", &list));
	assert_int_equal(cpu_list_format(list.bits, out, sizeof(out)), 7);
	assert_string_equal(out, "100,200");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_are_read_and_written_in_the_kernels_way),
		cmocka_unit_test(what_is_no_list_is_refused),
		cmocka_unit_test(a_list_that_does_not_fit_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
