// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/sentinel.h"

/* A copy of the exact size, so that a read past its end is seen. */
static bool find(const char *text, size_t size, s32 *code)
{
	char *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	memcpy(copy, text, size);

	bool found = sentinel_find(copy, size, code);

	free(copy);
	return found;
}

static void assert_code(const char *text, s32 expected)
{
	s32 code = 12345;

	assert_true(find(text, strlen(text), &code));
	assert_int_equal(code, expected);
}

static void assert_none(const char *text, size_t size)
{
	s32 code = 12345;

	assert_false(find(text, size, &code));
	assert_int_equal(code, 12345);
}

static void a_whole_sentinel_is_found_whatever_is_around_it(void **state)
{
	assert_code("KTSTR_EXIT:7\n", 7);
	assert_code("KTSTR_EXIT:-17\r\n", -17);
	assert_code("noise KTSTR_EXIT:0\nmore", 0);
	assert_code("KTSTR_KTSTR_EXIT:KTSTR_EXIT:3\n", 3);
	assert_code("KTSTR_EXIT:2147483647\n", INT32_MAX);
	assert_code("KTSTR_EXIT:-2147483648\n", INT32_MIN);

	static const char nul[] = "a\0KTSTR_EXIT:4\n\0b";
	s32 code;

	assert_true(find(nul, sizeof(nul), &code));
	assert_int_equal(code, 4);
}

static void the_last_whole_one_counts(void **state)
{
	assert_code("KTSTR_EXIT:1\nKTSTR_EXIT:2\n", 2);
	assert_code("KTSTR_EXIT:1\nKTSTR_EXIT:garbage\n", 1);
	assert_code("KTSTR_EXIT:1\nKTSTR_EXIT:", 1);
}

static void one_cut_short_is_none(void **state)
{
	static const char whole[] = "KTSTR_EXIT:-139\n";

	for (size_t n = 0; n < sizeof(whole) - 1; n++)
		assert_none(whole, n);
}

static void what_is_not_a_number_alone_is_none(void **state)
{
	static const char *const texts[] = {
		"KTSTR_EXIT:\n0\n",
		"KTSTR_EXIT: 0\n",
		"KTSTR_EXIT:0x10\n",
		"KTSTR_EXIT:0garbage\n",
		"KTSTR_EXIT:+0\n",
		"KTSTR_EXIT:--1\n",
		"KTSTR_EXIT:-\n",
		"KTSTR_EXIT:2147483648\n",
		"KTSTR_EXIT:-2147483649\n",
		"KTSTR_EXIT:99999999999999999999999999\n",
		"ktstr_exit:0\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_none(texts[i], strlen(texts[i]));
	assert_none("KTSTR_EXIT:0\0\n", sizeof("KTSTR_EXIT:0\0\n") - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_sentinel_is_found_whatever_is_around_it),
		cmocka_unit_test(the_last_whole_one_counts),
		cmocka_unit_test(one_cut_short_is_none),
		cmocka_unit_test(what_is_not_a_number_alone_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
