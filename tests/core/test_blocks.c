// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "warm/blocks.h"

/* The runs of the pages as text: "3+2 63+1". */
static const char *runs_of(u64 pages)
{
	static char text[1024];
	struct page_run run;
	size_t n = 0;

	text[0] = '\0';
	while (page_run_take(&pages, &run))
		n += (size_t)sprintf(text + n, "%s%u+%u", n ? " " : "", run.first, run.count);
	assert_int_equal(pages, 0);
	return text;
}

static void neighbours_are_one_run(void **state)
{
	assert_string_equal(runs_of(0), "");
	assert_string_equal(runs_of(1), "0+1");
	assert_string_equal(runs_of(UINT64_MAX), "0+64");
	assert_string_equal(runs_of(1ULL << 63), "63+1");
	assert_string_equal(runs_of(UINT64_MAX << 1), "1+63");
	assert_string_equal(runs_of(UINT64_MAX >> 1), "0+63");
	assert_string_equal(runs_of(0xc000000000000319), "0+1 3+2 8+2 62+2");
}

static u8 *make_block(void)
{
	u8 *block = calloc(1, MEMORY_BLOCK);

	block[5 * MEMORY_PAGE] = 1;
	block[6 * MEMORY_PAGE + 4095] = 1;
	block[63 * MEMORY_PAGE + 17] = 0x80;
	return block;
}

static void a_page_is_used_by_any_byte_of_it(void **state)
{
	u8 *block = calloc(1, MEMORY_BLOCK);

	assert_int_equal(block_pages_used(block, UINT64_MAX), 0);
	for (u32 at = 0; at < MEMORY_BLOCK; at += 509) {
		block[at] = 1;
		assert_int_equal(block_pages_used(block, UINT64_MAX), 1ULL << at / MEMORY_PAGE);
		block[at] = 0;
	}
	free(block);
}

static void pages_that_nobody_asked_about_are_zeros(void **state)
{
	u8 *block = make_block();

	assert_int_equal(block_pages_used(block, 1ULL << 5 | 1ULL << 7), 1ULL << 5);
	free(block);
}

static void a_sum_tells_every_byte_of_the_pages_and_where_they_are(void **state)
{
	struct hash_stream *scratch = hash_stream_create();
	u8 *block = make_block();
	u64 used = block_pages_used(block, UINT64_MAX), sum = block_hash(block, used, scratch);

	assert_int_equal(block_hash(block, used, scratch), sum);
	for (u64 left = used; left; left &= left - 1) {
		u8 *page = block + (size_t)__builtin_ctzll(left) * MEMORY_PAGE;

		for (u32 i = 0; i < MEMORY_PAGE; i++) {
			page[i] ^= 0x80;
			assert_true(block_hash(block, used, scratch) != sum);
			page[i] ^= 0x80;
		}
	}
	// The same bytes one page further.
	memmove(block + MEMORY_PAGE, block, MEMORY_BLOCK - 2 * MEMORY_PAGE);
	memset(block, 0, MEMORY_PAGE);
	assert_true(block_hash(block, block_pages_used(block, UINT64_MAX), scratch) != sum);
	hash_stream_destroy(scratch);
	free(block);
}

static void pages_are_written_to_their_places_and_nothing_else_is(void **state)
{
	u8 *block = make_block(), *back = malloc(MEMORY_BLOCK);
	int fd = memfd_create("test", MFD_CLOEXEC);

	memset(back, 0xee, MEMORY_BLOCK);
	assert_true(block_write(fd, MEMORY_BLOCK, block, 1ULL << 5 | 1ULL << 6));
	assert_int_equal(lseek(fd, 0, SEEK_END), MEMORY_BLOCK + 7 * MEMORY_PAGE);
	assert_true(block_read(fd, MEMORY_BLOCK, back, 1ULL << 6));
	assert_memory_equal(back + 6 * MEMORY_PAGE, block + 6 * MEMORY_PAGE, MEMORY_PAGE);
	assert_int_equal(back[5 * MEMORY_PAGE], 0xee);
	assert_int_equal(back[7 * MEMORY_PAGE], 0xee);

	// Behind the end there is nothing to read, and that is not an error of the system's.
	assert_false(block_read(fd, MEMORY_BLOCK, back, 1ULL << 7));
	assert_int_equal(errno, 0);
	close(fd);
	assert_false(block_write(fd, 0, block, 1));
	assert_int_equal(errno, EBADF);
	free(block);
	free(back);
}

static void sums_come_back_in_order(void **state)
{
	struct buf sums = BUF_INIT;
	struct block_sum sum;

	block_sum_put(&sums, (struct block_sum){ 3, 0x1122334455667788 });
	block_sum_put(&sums, (struct block_sum){ UINT32_MAX, 1 });
	assert_int_equal(sums.size, 2 * BLOCK_SUM_SIZE);

	struct reader r = reader_init(sums.data, sums.size);

	assert_true(block_sum_get(&r, &sum));
	assert_int_equal(sum.index, 3);
	assert_int_equal(sum.hash, 0x1122334455667788);
	assert_true(block_sum_get(&r, &sum));
	assert_int_equal(sum.index, UINT32_MAX);
	assert_false(block_sum_get(&r, &sum));
	buf_deinit(&sums);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_are_one_run),
		cmocka_unit_test(a_page_is_used_by_any_byte_of_it),
		cmocka_unit_test(pages_that_nobody_asked_about_are_zeros),
		cmocka_unit_test(a_sum_tells_every_byte_of_the_pages_and_where_they_are),
		cmocka_unit_test(pages_are_written_to_their_places_and_nothing_else_is),
		cmocka_unit_test(sums_come_back_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
