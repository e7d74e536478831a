// SPDX-License-Identifier: GPL-2.0-or-later
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/view_rig.h"

static void reads_and_writes_cross_pages(void **state)
{
	struct rig *r = *state;
	u8 data[64], back[64];

	map_torn_pages(r);
	for (u32 i = 0; i < sizeof(data); i++)
		data[i] = (u8)(i + 1);
	for (u32 size = 1; size <= sizeof(data); size++) {
		for (u32 before = 0; before <= size; before++) {
			memset(back, 0, sizeof(back));
			memset(at(r, HOLE_START - 64), 0, 64);
			memset(at(r, HOLE_END), 0, 64);
			assert_no_error(view_write(&r->view, 0, VMALLOC + 0x1000 - before, data, size));
			assert_memory_equal(at(r, HOLE_START - before - 1) + 1, data, before);
			assert_memory_equal(at(r, HOLE_END), data + before, size - before);
			assert_int_equal(*at(r, HOLE_START - before - 1), 0);
			assert_int_equal(*at(r, HOLE_END + size - before), 0);
			assert_no_error(view_read(&r->view, 0, VMALLOC + 0x1000 - before, back, size));
			assert_memory_equal(back, data, size);
		}
	}
	assert_no_error(view_read(&r->view, 0, 0x1234, NULL, 0));
	assert_no_error(view_write(&r->view, 0, 0x1234, NULL, 0));
}

static void a_write_with_an_unmapped_page_writes_nothing(void **state)
{
	struct rig *r = *state;
	u8 data[0x1010];

	map_torn_pages(r);
	memset(data, 0xff, sizeof(data));
	assert_error(view_write(&r->view, 0, VMALLOC + 0xff8, data, sizeof(data)), ERROR_UNMAPPED,
		     "0xffffa1c000002000 is not mapped");
	assert_int_equal(*at(r, HOLE_START - 8), 0);
	assert_int_equal(*at(r, HOLE_END), 0);
	assert_error(view_read(&r->view, 0, VMALLOC + 0xff8, data, sizeof(data)), ERROR_UNMAPPED,
		     "0xffffa1c000002000 is not mapped");
}

static void an_access_does_not_wrap_round_the_last_address(void **state)
{
	struct rig *r = *state;
	const u64 last = UINT64_MAX - 4095;
	char data[16];
	size_t length;
	u64 value;

	map_page(&r->tables, last, DATA, 1);
	map_page(&r->tables, 0, DATA + 0x1000, 1);
	memset(at(r, DATA), 'x', 0x2000);
	assert_no_error(view_read(&r->view, 0, last + 4080, data, 16));
	assert_error(view_read(&r->view, 0, last + 4081, data, 16), ERROR_UNMAPPED, "leave the address space");
	assert_error(view_write(&r->view, 0, last + 4081, data, 16), ERROR_UNMAPPED, "leave the address space");
	assert_error(view_read_scalar(&r->view, last + 4095, 2, &value), ERROR_UNMAPPED, "leave the address space");
	assert_error(view_write(&r->view, 0, 2, data, SIZE_MAX), ERROR_UNMAPPED, "leave the address space");
	assert_no_error(view_read_string(&r->view, 0, last + 4090, data, 16, &length));
	assert_int_equal(length, 6);
}

static void scalars_have_every_size_and_place(void **state)
{
	struct rig *r = *state;
	u8 bytes[0x20];

	map_torn_pages(r);
	for (u32 size = 1; size <= 8; size *= 2) {
		for (u32 offset = 0; offset < 24; offset++) {
			u64 address = VMALLOC + 0x1000 - 12 + offset, value = 0, expected = 0;

			for (u32 i = 0; i < sizeof(bytes); i++)
				bytes[i] = (u8)(0x81 + i);
			assert_no_error(view_write(&r->view, 0, VMALLOC + 0x1000 - 12, bytes, sizeof(bytes)));
			memcpy(&expected, bytes + offset, size);
			value = UINT64_MAX;
			assert_no_error(view_read_scalar(&r->view, address, size, &value));
			assert_int_equal(value, expected);
			// What is above its size is left out.
			assert_no_error(view_write_scalar(&r->view, address, size, ~expected));
			value = ~expected;
			memcpy(bytes + offset, &value, size);

			u8 now[sizeof(bytes)];

			assert_no_error(view_read(&r->view, 0, VMALLOC + 0x1000 - 12, now, sizeof(now)));
			assert_memory_equal(now, bytes, sizeof(bytes));
		}
	}
}

static void scalars_of_other_sizes_are_refused(void **state)
{
	struct rig *r = *state;
	const u32 sizes[] = { 0, 3, 5, 16, UINT32_MAX };
	u64 value;

	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_error(view_read_scalar(&r->view, IMAGE, sizes[i], &value), ERROR_INVALID, "a scalar of");
		assert_error(view_write_scalar(&r->view, IMAGE, sizes[i], 0), ERROR_INVALID, "a scalar of");
	}
}

static void strings_end_with_their_nul_or_where_they_may(void **state)
{
	struct rig *r = *state;
	char text[300];
	size_t length;

	map_torn_pages(r);
	memset(at(r, HOLE_START - 256), 'a', 256);
	memset(at(r, HOLE_END), 'b', 4096);
	for (u32 n = 0; n < 200; n++) {
		*at(r, HOLE_END + n) = 0;
		assert_no_error(view_read_string(&r->view, 0, VMALLOC + 0x1000 - 70, text, sizeof(text), &length));
		assert_int_equal(length, 70 + n);
		assert_memory_equal(text + 68, "aabbbbb", n < 5 ? 2 + n : 7);
		assert_no_error(view_read_string(&r->view, 0, VMALLOC + 0x1000 - 70, text, 70 + n, &length));
		assert_int_equal(length, 70 + n);
		*at(r, HOLE_END + n) = 'b';
	}
	assert_no_error(view_read_string(&r->view, 0, 0x1234, text, 0, &length));
	assert_int_equal(length, 0);
	// The end of what is mapped is no end of a string; but who asks for no more is not told.
	assert_error(view_read_string(&r->view, 0, VMALLOC + 0x2000 - 10, text, 11, &length), ERROR_UNMAPPED,
		     "0xffffa1c000002000");
	assert_no_error(view_read_string(&r->view, 0, VMALLOC + 0x2000 - 10, text, 10, &length));
	assert_int_equal(length, 10);
}

static void *write_words(void *arg)
{
	u64 *word = arg;

	for (u64 i = 0; __atomic_load_n(word + 1, __ATOMIC_RELAXED) == 0; i++)
		__atomic_store_n(word, (i & 0xffff) * 0x0001000100010001ULL, __ATOMIC_RELAXED);
	return NULL;
}

static void words_are_never_torn(void **state)
{
	enum { READS = 20000 };
	struct rig *r = *state;
	u64 *word = (u64 *)at(r, DATA + 0x40);
	pthread_t writer;
	u64 seen[4];

	map_page(&r->tables, VMALLOC, DATA, 1);
	assert_int_equal(pthread_create(&writer, NULL, write_words, word), 0);
	for (u32 i = 0; i < READS; i++) {
		u64 value;

		assert_no_error(view_read_scalar(&r->view, VMALLOC + 0x40, 8, &value));
		assert_int_equal(value, (value & 0xffff) * 0x0001000100010001ULL);
		// Also amid bytes that do not start or end with it.
		assert_no_error(view_read(&r->view, 0, VMALLOC + 0x3d, (u8 *)seen + 5, 13));
		assert_int_equal(seen[1], (seen[1] & 0xffff) * 0x0001000100010001ULL);
	}
	assert_no_error(view_write_scalar(&r->view, VMALLOC + 0x48, 8, 1));
	pthread_join(writer, NULL);
}

/* One byte of the guest's has something over it. */
struct covered {
	const u8 *at;
	u8 original;
	bool is_on;
	u8 *changed; /* what came between a read and begin() */
	u32 begun, ended;
};

static bool begin(void *ctx)
{
	struct covered *c = ctx;

	c->begun += c->is_on;
	if (c->changed)
		*c->changed = 0x22;
	return c->is_on;
}

static void end(void *ctx, const u8 *from, u8 *bytes, size_t size)
{
	struct covered *c = ctx;

	c->ended++;
	if (c->at >= from && c->at < from + size)
		bytes[c->at - from] = c->original;
}

static void what_lies_over_the_guests_bytes_is_not_seen(void **state)
{
	struct rig *r = *state;
	struct covered c = { .at = at(r, DATA + 0xfff), .original = 0x55, .is_on = true };
	const struct view_cover cover = { .begin = begin, .end = end, .ctx = &c };
	u8 bytes[4];
	u64 value;

	map_page(&r->tables, VMALLOC, DATA, 1);
	map_page(&r->tables, VMALLOC + 0x1000, DATA + 0x3000, 1);
	memset(at(r, DATA + 0xff0), 0xcc, 16);
	memset(at(r, DATA + 0x3000), 0x11, 16);
	r->view.cover = &cover;
	assert_no_error(view_read(&r->view, 0, VMALLOC + 0xffe, bytes, sizeof(bytes)));
	assert_memory_equal(bytes, "\xcc\x55\x11\x11", 4);
	assert_no_error(view_read_scalar(&r->view, VMALLOC + 0xffc, 4, &value));
	assert_int_equal(value, 0x55cccccc);
	assert_no_error(view_read_scalar(&r->view, VMALLOC + 0xffd, 4, &value));
	assert_int_equal(value, 0x1155cccc);
	assert_int_equal(c.begun, c.ended);
	assert_true(c.begun >= 3);
	c.changed = at(r, DATA + 0xffe);
	assert_no_error(view_read_scalar(&r->view, VMALLOC + 0xffc, 4, &value));
	assert_int_equal(value, 0x5522cccc);
	*c.changed = 0xcc;
	assert_no_error(view_read(&r->view, 0, VMALLOC + 0xffe, bytes, 2));
	assert_memory_equal(bytes, "\x22\x55", 2);
	c.changed = NULL;
	*at(r, DATA + 0xffe) = 0xcc;
	c.is_on = false;
	assert_no_error(view_read_scalar(&r->view, VMALLOC + 0xffc, 4, &value));
	assert_int_equal(value, 0xcccccccc);
	assert_int_equal(c.begun, c.ended);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KNOWN_TEST(reads_and_writes_cross_pages),
		KNOWN_TEST(a_write_with_an_unmapped_page_writes_nothing),
		KNOWN_TEST(an_access_does_not_wrap_round_the_last_address),
		KNOWN_TEST(scalars_have_every_size_and_place),
		KNOWN_TEST(scalars_of_other_sizes_are_refused),
		KNOWN_TEST(strings_end_with_their_nul_or_where_they_may),
		KNOWN_TEST(words_are_never_torn),
		KNOWN_TEST(what_lies_over_the_guests_bytes_is_not_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
