// SPDX-License-Identifier: GPL-2.0-or-later
//
// What iasl reads is in test_acpi.c; here is what a DSDT of today does not reach.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "x86/aml.h"

static void deinit(struct buf *b)
{
	buf_deinit(b);
}

/* A length as the specification reads it; moves *at past it. */
static size_t read_length(const struct buf *b, size_t *at)
{
	u8 lead = b->data[(*at)++];
	size_t length = lead >> 6 ? lead & 0xf : lead & 0x3f;

	for (u32 i = 0; i < lead >> 6; i++)
		length |= (size_t)b->data[(*at)++] << (4 + 8 * i);
	return length;
}

static void lengths_are_right_at_every_size(void **state)
{
	static const size_t sizes[] = { 1, 57, 58, 59, 60, 100, 4086,
					4087, 4088, 4089, 4090, 70000, 1048560, 1048570, 1048571 };

	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		CLEANUP(deinit)
		struct buf b = BUF_INIT;
		struct aml a = aml_init(&b);
		size_t at = 1;

		aml_scope(&a, "_SB");
		for (size_t n = 0; n < sizes[i]; n++)
			buf_put_u8(&b, (u8)n);
		aml_close(&a);
		assert_null(buf_check(&b));
		assert_int_equal(b.data[0], 0x10);
		assert_int_equal(read_length(&b, &at), b.size - 1);
		assert_memory_equal(b.data + at, "_SB_", 4);
		assert_int_equal(b.size - at, sizes[i] + 4);
		for (size_t n = 0; n < sizes[i]; n++)
			assert_int_equal(b.data[at + 4 + n], (u8)n);
	}
}

static void bodies_nest(void **state)
{
	static const char expected[] = "\x10\x0f"
				       "A___"
				       "\x5b\x82\x08"
				       "B___"
				       "\x12\x02\x00";
	CLEANUP(deinit)
	struct buf b = BUF_INIT;
	struct aml a = aml_init(&b);

	aml_scope(&a, "A");
	aml_device(&a, "B");
	aml_package(&a, 0);
	aml_close(&a);
	aml_close(&a);
	aml_close(&a);
	assert_int_equal(b.size, sizeof(expected) - 1);
	assert_memory_equal(b.data, expected, b.size);
}

static void integers_take_their_shortest_form(void **state)
{
	static const char expected[] = "\x00"
				       "\x01"
				       "\x0a\x02"
				       "\x0a\xff"
				       "\x0b\x00\x01"
				       "\x0b\xff\xff"
				       "\x0c\x00\x00\x01\x00"
				       "\x0e\x00\x00\x00\x00\x01\x00\x00\x00";
	CLEANUP(deinit)
	struct buf b = BUF_INIT;
	struct aml a = aml_init(&b);

	aml_integer(&a, 0);
	aml_integer(&a, 1);
	aml_integer(&a, 2);
	aml_integer(&a, 0xff);
	aml_integer(&a, 0x100);
	aml_integer(&a, 0xffff);
	aml_integer(&a, 0x10000);
	aml_integer(&a, 0x100000000);
	assert_int_equal(b.size, sizeof(expected) - 1);
	assert_memory_equal(b.data, expected, b.size);
}

static void an_eisa_id_is_packed(void **state)
{
	static const u8 expected[] = { 0x0c, 0x41, 0xd0, 0x0a, 0x08 }; // PNP0A08 in the specification's example
	CLEANUP(deinit)
	struct buf b = BUF_INIT;
	struct aml a = aml_init(&b);

	aml_eisa_id(&a, "PNP0A08");
	assert_memory_equal(b.data, expected, sizeof(expected));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths_are_right_at_every_size),
		cmocka_unit_test(bodies_nest),
		cmocka_unit_test(integers_take_their_shortest_form),
		cmocka_unit_test(an_eisa_id_is_packed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
