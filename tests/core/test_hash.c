// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "core/image_files.h"
#include "core/kvm_fixture.h"

static void sums_are_those_that_the_algorithm_is_known_by(void **state)
{
	struct hash128 nothing = hash128("", 0);
	char hex[HASH128_HEX];

	assert_int_equal(hash64("", 0), 0x2d06800538d394c2);
	hash128_hex(&nothing, hex);
	assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
}

static void one_bit_makes_another_sum(void **state)
{
	u8 bytes[1000] = { 0 };
	struct hash128 long_sum = hash128(bytes, sizeof(bytes));
	u64 sum = hash64(bytes, sizeof(bytes));

	for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
		bytes[bit / 8] ^= 1 << bit % 8;

		struct hash128 other = hash128(bytes, sizeof(bytes));

		assert_true(hash64(bytes, sizeof(bytes)) != sum);
		assert_memory_not_equal(&other, &long_sum, sizeof(other));
		bytes[bit / 8] ^= 1 << bit % 8;
	}
}

static void pieces_sum_up_to_the_whole(void **state)
{
	static const size_t cuts[] = { 0, 1, 63, 64, 255, 256, 257, 4096, 99999, 100000 };
	struct hash_stream *s = hash_stream_create();
	u8 *bytes = malloc(100000);

	for (size_t i = 0; i < 100000; i++)
		bytes[i] = (u8)(i * i + i / 256);
	assert_non_null(s);
	// One after the other: an ended sum has no part in the next.
	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		hash_stream_add(s, bytes, cuts[i]);
		hash_stream_add(s, bytes + cuts[i], 100000 - cuts[i]);
		assert_int_equal(hash_stream_end(s), hash64(bytes, 100000));
	}
	assert_int_equal(hash_stream_end(s), hash64("", 0));
	hash_stream_destroy(s);
	hash_stream_destroy(NULL);
	free(bytes);
}

static void a_file_has_the_sum_of_its_bytes(void **state)
{
	static const size_t sizes[] = { 0, 1, 4096, (256 << 10) - 1, 256 << 10, (1 << 20) + 7 };
	struct test_dir *d = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		u8 *bytes = malloc(sizes[i] + 1);
		struct hash128 sum, wanted;

		for (size_t k = 0; k < sizes[i]; k++)
			bytes[k] = (u8)(k ^ k >> 9);
		wanted = hash128(bytes, sizes[i]);
		assert_no_error(hash_file(test_dir_write(d, "f", bytes, sizes[i]), &sum));
		assert_memory_equal(&sum, &wanted, sizeof(sum));
		free(bytes);
		unlink(d->file);
	}
}

static void what_is_no_file_is_refused_and_named(void **state)
{
	struct test_dir *d = *state;
	struct hash128 sum;

	assert_error(hash_file(test_dir_file(d, "missing"), &sum), ERROR_NOT_FOUND, d->file);
	assert_error(hash_file(d->path, &sum), ERROR_INVALID, d->path);
	assert_error(hash_file("/dev/zero", &sum), ERROR_INVALID, "/dev/zero");
	// Nobody writes to it: to wait would be for good.
	assert_int_equal(mkfifo(test_dir_file(d, "pipe"), 0600), 0);
	assert_error(hash_file(d->file, &sum), ERROR_INVALID, d->file);
	unlink(d->file);
	assert_error(hash_file("/proc/self/mem", &sum), ERROR_OS, "/proc/self/mem"); // it opens, and has no byte 0
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_are_those_that_the_algorithm_is_known_by),
		cmocka_unit_test(one_bit_makes_another_sum),
		cmocka_unit_test(pieces_sum_up_to_the_whole),
		WITH_DIR(a_file_has_the_sum_of_its_bytes),
		WITH_DIR(what_is_no_file_is_refused_and_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
