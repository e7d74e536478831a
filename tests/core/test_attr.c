// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tlv/codec.h"

static void the_table_has_no_holes(void **state)
{
	for (u32 i = 0; i < attr_info_count; i++) {
		assert_int_equal(attr_infos[i].type, i + 1);
		assert_ptr_equal(attr_info_by_name(attr_infos[i].name), &attr_infos[i]);
	}
	assert_int_equal(attr_info_count, ATTR_WRITTEN);
	assert_null(attr_info_by_type(0));
	assert_null(attr_info_by_type(attr_info_count + 1));
	assert_null(attr_info_by_name("NO_SUCH"));
}

static struct attr_writer write_one_of_each(u8 *data, size_t capacity)
{
	static const u64 samples[] = { 1, UINT64_MAX, 3 };
	struct attr_writer w = attr_writer_init(data, capacity);

	attr_put_string(&w, ATTR_ARG, "hello");
	attr_put_string(&w, ATTR_ARG, "");
	attr_put_bytes(&w, ATTR_PATH, "/dev/null", 4);
	attr_put_u32(&w, ATTR_PID, 0xdeadbeef);
	attr_put_u64(&w, ATTR_OFFSET, 0x123456789abcdef0);
	attr_put_s32(&w, ATTR_CODE, -7);
	attr_put_flag(&w, ATTR_HAS_STDIN);
	attr_put_param(&w, ATTR_PARAM, 2, 99);
	attr_put_u64_array(&w, ATTR_WAKE_SAMPLES, samples, ARRAY_SIZE(samples));
	attr_put_data(&w, ATTR_DATA, "a\0b", 3);
	return w;
}

static void every_kind_comes_back_as_it_went(void **state)
{
	u8 data[256];
	struct attr_writer w = write_one_of_each(data, sizeof(data));
	struct attr_reader r = attr_reader_init(data, w.size);
	struct attr a;
	char text[8];

	assert_false(w.failed);
	assert_int_equal(w.size % 4, 0);
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_ARG && attr_string(&a, text, sizeof(text)));
	assert_string_equal(text, "hello");
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_ARG && attr_string(&a, text, sizeof(text)));
	assert_string_equal(text, "");
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_PATH && attr_string(&a, text, sizeof(text)));
	assert_string_equal(text, "/dev");
	assert_false(attr_string(&a, text, 4));
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_PID);
	assert_int_equal(attr_u32(&a), 0xdeadbeef);
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_OFFSET);
	assert_int_equal(attr_u64(&a), 0x123456789abcdef0);
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_CODE);
	assert_int_equal(attr_s32(&a), -7);
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_HAS_STDIN);
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_PARAM);
	assert_int_equal(attr_param(&a).index, 2);
	assert_int_equal(attr_param(&a).value, 99);
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_WAKE_SAMPLES);
	assert_int_equal(attr_array_count(&a), 3);
	assert_int_equal(attr_array_get(&a, 1), UINT64_MAX);
	assert_int_equal(attr_array_get(&a, 2), 3);
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_DATA);
	assert_int_equal(a.length, 3);
	assert_memory_equal(a.value, "a\0b", 3);
	assert_false(attr_next(&r, &a));
	assert_false(r.malformed);
}

/* Cut anywhere, the reader ends with malformed or at an attribute's edge, and never reads beyond. */
static void a_cut_is_noticed_unless_it_is_between_two(void **state)
{
	u8 data[256];
	struct attr_writer w = write_one_of_each(data, sizeof(data));
	size_t edges = 0;

	for (size_t size = 0; size <= w.size; size++) {
		u8 *exact = malloc(size ? size : 1);
		struct attr_reader r = attr_reader_init(memcpy(exact, data, size), size);
		struct attr a;

		while (attr_next(&r, &a))
			assert_true((const u8 *)a.value + a.length <= exact + size);
		edges += !r.malformed;
		free(exact);
	}
	assert_int_equal(edges, 11);
}

static void an_unknown_attribute_is_skipped(void **state)
{
	u8 data[64] = { 7, 0, 0xff, 0xff, 1, 2, 3, 0 };
	struct attr_writer w = attr_writer_init(data + 8, sizeof(data) - 8);
	struct attr_reader r;
	struct attr a;

	attr_put_u32(&w, ATTR_PID, 5);
	r = attr_reader_init(data, 8 + w.size);
	assert_true(attr_next(&r, &a));
	assert_int_equal(a.info->type, ATTR_PID);
	assert_false(attr_next(&r, &a));
	assert_false(r.malformed);
}

static void a_value_of_the_wrong_size_is_malformed(void **state)
{
	static const struct {
		u16 type, length;
	} wrong[] = {
		{ ATTR_PID, 3 },
		{ ATTR_PID, 8 },
		{ ATTR_OFFSET, 4 },
		{ ATTR_CODE, 2 },
		{ ATTR_HAS_STDIN, 1 },
		{ ATTR_PARAM, 8 },
		{ ATTR_WAKE_SAMPLES, 12 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		u8 data[32] = { 0 };
		u16 header[2] = { 4 + wrong[i].length, wrong[i].type };
		struct attr_reader r = attr_reader_init(data, sizeof(data));
		struct attr a;

		memcpy(data, header, sizeof(header));
		assert_false(attr_next(&r, &a));
		assert_true(r.malformed);
		assert_false(attr_next(&r, &a));
	}
}

static void a_string_with_a_nul_is_malformed(void **state)
{
	u8 data[] = { 7, 0, ATTR_PATH, 0, 'a', 0, 'b', 0 };
	struct attr_reader r = attr_reader_init(data, sizeof(data));
	struct attr a;

	assert_false(attr_next(&r, &a));
	assert_true(r.malformed);
}

static void lengths_that_lie_are_malformed(void **state)
{
	static const u16 lengths[] = { 0, 1, 3, 9, 0x8000, 0xfffd, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		u8 data[8] = { (u8)lengths[i], (u8)(lengths[i] >> 8), ATTR_PATH };
		struct attr_reader r = attr_reader_init(data, sizeof(data));
		struct attr a;

		assert_false(attr_next(&r, &a));
		assert_true(r.malformed);
	}
}

static void a_writer_fails_and_stays_failed(void **state)
{
	static const char big[WIRE_ATTR_VALUE_MAX + 1] = { 0 };
	u8 data[16] = { 0 };
	struct attr_writer w = attr_writer_init(data, 12);

	attr_put_u32(&w, ATTR_PID, 1);
	attr_put_u32(&w, ATTR_PROGRAM, 2); /* 16 bytes would be needed */
	assert_true(w.failed);
	attr_put_flag(&w, ATTR_HAS_STDIN);
	assert_int_equal(w.size, 8);

	w = attr_writer_init(data, sizeof(data));
	attr_put_u64(&w, ATTR_PID, 1); /* PID is a u32 */
	assert_true(w.failed);
	w = attr_writer_init(data, sizeof(data));
	attr_put_u32(&w, 999, 1);
	assert_true(w.failed);
	w = attr_writer_init(data, SIZE_MAX);
	attr_put_u64_array(&w, ATTR_WAKE_SAMPLES, (const u64 *)(const void *)big, SIZE_MAX / 8 + 2);
	assert_true(w.failed);
	w = attr_writer_init(data, sizeof(data));
	attr_put_bytes(&w, ATTR_ARG, "a\0b", 3);
	assert_true(w.failed);
}

static void the_largest_value_passes(void **state)
{
	u8 *data = malloc(0x10000), *value = malloc(WIRE_ATTR_VALUE_MAX + 1);
	struct attr_writer w = attr_writer_init(data, 0x10000);
	struct attr_reader r;
	struct attr a;

	memset(value, 'x', WIRE_ATTR_VALUE_MAX + 1);
	attr_put_bytes(&w, ATTR_ARG, value, WIRE_ATTR_VALUE_MAX + 1);
	assert_true(w.failed);
	w = attr_writer_init(data, 0x10000);
	attr_put_bytes(&w, ATTR_ARG, value, WIRE_ATTR_VALUE_MAX);
	assert_false(w.failed);
	r = attr_reader_init(data, w.size);
	assert_true(attr_next(&r, &a));
	assert_int_equal(a.length, WIRE_ATTR_VALUE_MAX);
	assert_false(attr_next(&r, &a));
	assert_false(r.malformed);
	free(data);
	free(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_has_no_holes),
		cmocka_unit_test(every_kind_comes_back_as_it_went),
		cmocka_unit_test(a_cut_is_noticed_unless_it_is_between_two),
		cmocka_unit_test(an_unknown_attribute_is_skipped),
		cmocka_unit_test(a_value_of_the_wrong_size_is_malformed),
		cmocka_unit_test(a_string_with_a_nul_is_malformed),
		cmocka_unit_test(lengths_that_lie_are_malformed),
		cmocka_unit_test(a_writer_fails_and_stays_failed),
		cmocka_unit_test(the_largest_value_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
