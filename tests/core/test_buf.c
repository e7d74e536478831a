// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

static void what_was_put_is_read_back_little_endian(void **state)
{
	struct buf b = BUF_INIT;

	buf_put_u8(&b, 0x12);
	buf_put_u16(&b, 0x3456);
	buf_put_u32(&b, 0x789abcde);
	buf_put_u64(&b, 0x0123456789abcdefULL);
	buf_put(&b, "xyz", 3);
	buf_align(&b, 8);
	assert_int_equal(b.size, 24);
	assert_int_equal(b.data[1], 0x56);
	assert_null(buf_check(&b));

	struct reader r = reader_init(b.data, b.size);
	char text[3];

	assert_int_equal(reader_get_u8(&r), 0x12);
	assert_int_equal(reader_get_u16(&r), 0x3456);
	assert_int_equal(reader_get_u32(&r), 0x789abcde);
	assert_true(reader_get_u64(&r) == 0x0123456789abcdefULL);
	reader_get(&r, text, sizeof(text));
	assert_memory_equal(text, "xyz", 3);
	assert_int_equal(reader_left(&r), 6);
	assert_null(reader_check(&r, "the buffer"));
	buf_deinit(&b);
}

static void reading_past_the_end_gives_zeros_and_one_error(void **state)
{
	struct reader r = reader_init("\x01\x02\x03", 3);

	assert_int_equal(reader_get_u16(&r), 0x0201);
	assert_int_equal(reader_get_u32(&r), 0);
	// The failure is remembered, also for reads that would fit.
	assert_int_equal(reader_get_u8(&r), 0);
	assert_int_equal(reader_left(&r), 0);

	struct error *err = reader_check(&r, "the state of a uart");

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_FORMAT);
	assert_string_equal(error_message(err), "the state of a uart is cut short at 3 bytes");
	error_destroy(err);
}

static void an_error_carries_errno_context_and_hint(void **state)
{
	errno = ENOENT;

	struct error *err = error_create_errno("cannot open %s", "x");

	err = error_with_context(err, "kernel");
	err = error_with_hint(err, "try %d", 7);
	assert_int_equal(error_code(err), ERROR_OS);
	assert_string_equal(error_message(err), "kernel: cannot open x: No such file or directory");
	assert_string_equal(error_hint(err), "try 7");
	error_destroy(err);
	assert_null(error_with_context(NULL, "nothing"));
}

static void running_out_of_memory_is_an_error_that_needs_none(void **state)
{
	struct buf b = BUF_INIT;

	buf_put_u8(&b, 1);
	buf_put_zero(&b, SIZE_MAX / 2); // more than can be counted with
	buf_put_u8(&b, 2);
	assert_int_equal(b.size, 1);

	struct error *err = buf_check(&b);

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_NO_MEMORY);
	err = error_with_hint(error_with_context(err, "x"), "y");
	assert_string_equal(error_message(err), "out of memory");
	error_destroy(err);
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_read_back_little_endian),
		cmocka_unit_test(reading_past_the_end_gives_zeros_and_one_error),
		cmocka_unit_test(an_error_carries_errno_context_and_hint),
		cmocka_unit_test(running_out_of_memory_is_an_error_that_needs_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
