// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "tlv/crc32.h"

static void known_values(void **state)
{
	assert_int_equal(crc32_ieee(0, "123456789", 9), 0xcbf43926);
	assert_int_equal(crc32_ieee(0, "", 0), 0);
	assert_int_equal(crc32_ieee(0, "\0\0\0\0", 4), 0x2144df1c);
}

/* Every byte value at every alignment, against an implementation that is not ours. */
static void agrees_with_zlib(void **state)
{
	u8 data[1024];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (u8)(i * 167 + (i >> 8));
	for (size_t start = 0; start < 16; start++)
		for (size_t len = 0; start + len <= sizeof(data); len += 61)
			assert_int_equal(crc32_ieee(0, data + start, len), crc32(0, data + start, (uInt)len));
	assert_int_equal(crc32_ieee(0, data, sizeof(data)), crc32(0, data, sizeof(data)));
}

static void pieces_chain(void **state)
{
	const char text[] = "the header's twelve bytes, then the payload";

	for (size_t cut = 0; cut <= sizeof(text); cut++)
		assert_int_equal(crc32_ieee(crc32_ieee(0, text, cut), text + cut, sizeof(text) - cut),
				 crc32_ieee(0, text, sizeof(text)));
}

static void a_flipped_bit_shows(void **state)
{
	u8 data[64] = { 0 };
	u32 clean = crc32_ieee(0, data, sizeof(data));

	for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
		data[bit / 8] ^= (u8)(1 << bit % 8);
		assert_int_not_equal(crc32_ieee(0, data, sizeof(data)), clean);
		data[bit / 8] ^= (u8)(1 << bit % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_values),
		cmocka_unit_test(agrees_with_zlib),
		cmocka_unit_test(pieces_chain),
		cmocka_unit_test(a_flipped_bit_shows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
