// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "machine/textlog.h"

static void expect_text(struct textlog *log, u64 from, const char *text)
{
	struct buf out = BUF_INIT;

	textlog_read(log, from, &out);
	assert_int_equal(out.size, strlen(text));
	if (out.size)
		assert_memory_equal(out.data, text, out.size);
	buf_deinit(&out);
}

static void text_is_read_from_any_offset(void **state)
{
	struct textlog log;
	struct buf out = BUF_INIT;

	assert_null(textlog_init(&log, 64));
	textlog_append(&log, "hello ", 6);
	textlog_append(&log, "world", 5);
	expect_text(&log, 0, "hello world");
	expect_text(&log, 6, "world");
	expect_text(&log, 11, "");
	expect_text(&log, 1000, "");
	assert_int_equal(textlog_read(&log, 0, &out), 11);
	buf_deinit(&out);
	textlog_deinit(&log);
}

static void the_oldest_bytes_are_dropped_beyond_the_limit(void **state)
{
	struct textlog log;

	assert_null(textlog_init(&log, 8));
	textlog_append(&log, "abcdefgh", 8);
	textlog_append(&log, "ijk", 3);
	expect_text(&log, 0, "defghijk");
	expect_text(&log, 9, "jk");
	textlog_append(&log, "0123456789abcdef", 16);
	expect_text(&log, 0, "89abcdef");
	textlog_deinit(&log);
}

static void growing_keeps_what_was_written(void **state)
{
	enum { LIMIT = 100000 };
	struct textlog log;
	struct buf out = BUF_INIT;

	assert_null(textlog_init(&log, LIMIT));
	for (int i = 0; i < 40000; i++)
		textlog_append(&log, (char[]){ (char)(i % 251), (char)(i % 241) }, 2);
	assert_int_equal(textlog_read(&log, 0, &out), 80000);
	assert_int_equal(out.size, 80000);
	for (int i = 0; i < 40000; i++) {
		assert_int_equal(out.data[2 * i], i % 251);
		assert_int_equal(out.data[2 * i + 1], i % 241);
	}
	buf_deinit(&out);
	textlog_deinit(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_read_from_any_offset),
		cmocka_unit_test(the_oldest_bytes_are_dropped_beyond_the_limit),
		cmocka_unit_test(growing_keeps_what_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
