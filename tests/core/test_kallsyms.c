// SPDX-License-Identifier: GPL-2.0-or-later
/* kallsyms found in what surrounds them, in every layout, and every damage to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/kallsyms_builder.h"
#include "core/symbol_checks.h"
#include "kernel/kallsyms.h"
#include "kernel/symbols.h"

#define VIRT (BUILT_SYMBOLS_START + 0x200000)

static const struct kallsyms_image image = {
	.start = BUILT_SYMBOLS_START,
	.end = BUILT_SYMBOLS_END,
	.percpu_size = BUILT_SYMBOLS_PERCPU,
};

/* Those of 6.1 before and with seqs, 6.12, 6.15 and 7.x. */
static const struct kallsyms_options kinds[] = {
	{ .layout = KALLSYMS_BEFORE, .align = 8, .absolute = true, .no_seqs = true, .virt = VIRT },
	{ .layout = KALLSYMS_BEFORE, .align = 8, .absolute = true, .virt = VIRT },
	{ .layout = KALLSYMS_BEHIND, .align = 8, .absolute = true, .virt = VIRT },
	{ .layout = KALLSYMS_BEHIND, .align = 8, .virt = VIRT },
	{ .layout = KALLSYMS_SELF, .align = 4, .virt = VIRT },
	{ .layout = KALLSYMS_SELF, .align = 8, .virt = VIRT },
};

/* Exactly these bytes, so that a sanitizer sees a look beyond them. */
static struct symbol_window window_of(const u8 *data, size_t size, u64 virt)
{
	struct symbol_window w = { .fd = -1, .virt = virt, .size = size, .data = malloc(size ? size : 1) };

	for (size_t i = 0; i < size; i++)
		w.data[i] = data[i];
	return w;
}

/* NULL, and the error's code, or the symbols. */
static struct symbols *symbols_in(const u8 *data, size_t size, u64 virt, enum error_code *code, struct kallsyms *k)
{
	struct symbol_window w = window_of(data, size, virt);
	struct symbols *s = NULL;
	struct error *err = kallsyms_find(&w, &image, k);

	if (!err)
		err = kallsyms_build(k, &image, &s);
	if (err)
		*code = error_code(err);
	assert_true(!err == !!s);
	error_destroy(err);
	symbol_window_deinit(&w);
	return s;
}

static void expect_list(const struct symbols *s, const struct built_list *list)
{
	assert_int_equal(symbols_count(s), list->count);
	for (u32 i = 0; i < list->count; i++) {
		struct symbol y = symbols_get(s, i);

		assert_int_equal(y.address, list->symbols[i].address);
		assert_string_equal(y.name, list->symbols[i].name);
		assert_int_equal(y.kind, list->symbols[i].kind);
		assert_int_equal(y.moves, y.address >= BUILT_SYMBOLS_START);
	}
	assert_true(symbols_agree(s, image.start, image.end, image.percpu_size));
}

static struct buf tables_of(const struct built_list *list, const struct kallsyms_options *o, size_t before,
			    size_t behind)
{
	struct buf b = BUF_INIT;

	built_put_other(&b, before);
	build_kallsyms(&b, list->symbols, list->count, o);
	built_put_other(&b, behind);
	assert_false(b.failed);
	return b;
}

static void expect_found(const struct kallsyms_options *o, u32 count, size_t before, size_t behind)
{
	struct built_list list = build_symbol_list(count, o->absolute);
	struct buf b = tables_of(&list, o, before, behind);
	enum error_code code;
	struct kallsyms k;
	struct symbols *s = symbols_in(b.data, b.size, o->virt, &code, &k);

	assert_non_null(s);
	assert_int_equal(k.layout, o->layout);
	assert_int_equal(k.absolute, o->absolute);
	expect_list(s, &list);
	symbols_destroy(s);
	buf_deinit(&b);
	built_list_deinit(&list);
}

static void each_layout_is_found_in_what_surrounds_it(void **state)
{
	static const u32 counts[] = { 9, 10, 255, 256, 257, 513, 3000 };

	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++)
		for (u32 j = 0; j < ARRAY_SIZE(counts); j++)
			for (u32 shift = 0; shift < (counts[j] > 300 ? 4 : 24); shift += 4)
				expect_found(&kinds[i], counts[j], 1000 + shift, 3000);
}

static void tables_may_begin_and_end_with_the_segment(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++)
		expect_found(&kinds[i], 600, 0, 0);
}

static void names_of_every_length_come_out(void **state)
{
	const struct kallsyms_options *o = &kinds[4];
	struct built_symbol symbols[700];
	struct built_list list = { symbols, ARRAY_SIZE(symbols) };

	for (u32 i = 0; i < list.count; i++) {
		char *name = calloc(1, i + 2);

		memset(name, 'x', i + 1);
		symbols[i] = (struct built_symbol){ BUILT_SYMBOLS_START + i, 'T', name };
	}

	struct buf b = tables_of(&list, o, 100, 100);
	enum error_code code;
	struct kallsyms k;
	struct symbols *s = symbols_in(b.data, b.size, o->virt, &code, &k);

	assert_non_null(s);
	expect_list(s, &list);
	symbols_destroy(s);
	buf_deinit(&b);
	for (u32 i = 0; i < list.count; i++)
		free((char *)symbols[i].name);
}

static void an_index_by_name_that_is_none_is_made_anew(void **state)
{
	struct built_list list = build_symbol_list(600, false);

	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct kallsyms_options o = kinds[i];

		o.shuffled_seqs = true;

		struct buf b = tables_of(&list, &o, 64, 64);
		enum error_code code;
		struct kallsyms k;
		struct symbols *s = symbols_in(b.data, b.size, o.virt, &code, &k);

		assert_non_null(s);
		assert_true(o.no_seqs || k.seqs);
		expect_list(s, &list);
		symbols_destroy(s);
		buf_deinit(&b);
	}
	built_list_deinit(&list);
}

static void expect_nothing(const struct buf *b, u64 virt, enum error_code expected)
{
	enum error_code code = ERROR_OS;
	struct kallsyms k;

	assert_null(symbols_in(b->data, b->size, virt, &code, &k));
	assert_int_equal(code, expected);
}

static void data_without_tables_has_none(void **state)
{
	struct buf b = BUF_INIT;

	expect_nothing(&b, VIRT, ERROR_NOT_FOUND);
	built_put_other(&b, 10000);
	expect_nothing(&b, VIRT, ERROR_NOT_FOUND);
	b.size = 7;
	expect_nothing(&b, VIRT, ERROR_NOT_FOUND);
	buf_deinit(&b);
}

static void addresses_outside_of_the_image_are_refused(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct built_list list = build_symbol_list(300, kinds[i].absolute);
		u64 *last = &list.symbols[list.count - 1].address;

		*last = BUILT_SYMBOLS_END + 1;

		struct buf b = tables_of(&list, &kinds[i], 64, 64);

		expect_nothing(&b, kinds[i].virt, ERROR_FORMAT);
		buf_deinit(&b);
		*last = BUILT_SYMBOLS_START - 1;
		b = tables_of(&list, &kinds[i], 64, 64);
		expect_nothing(&b, kinds[i].virt, ERROR_FORMAT);
		buf_deinit(&b);
		built_list_deinit(&list);
	}
}

static void a_percpu_offset_beyond_the_percpu_data_is_refused(void **state)
{
	struct built_list list = build_symbol_list(300, true);

	list.symbols[300 / 8 - 1].address = BUILT_SYMBOLS_PERCPU + 1;

	struct kallsyms_options o = kinds[2];
	struct buf b = BUF_INIT;

	build_kallsyms(&b, list.symbols, list.count, &o);
	expect_nothing(&b, o.virt, ERROR_FORMAT);
	buf_deinit(&b);
	built_list_deinit(&list);
}

static void unsorted_addresses_are_refused(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct built_list list = build_symbol_list(300, kinds[i].absolute);

		list.symbols[200].address += 0x1000;

		struct buf b = tables_of(&list, &kinds[i], 64, 64);

		expect_nothing(&b, kinds[i].virt, ERROR_FORMAT);
		buf_deinit(&b);
		built_list_deinit(&list);
	}
}

/* An error, or symbols that agree with themselves and the image. */
static void expect_sound(const u8 *data, size_t size, u64 virt)
{
	enum error_code code = ERROR_FORMAT;
	struct kallsyms k;
	struct symbols *s = symbols_in(data, size, virt, &code, &k);

	assert_true(code == ERROR_FORMAT || code == ERROR_NOT_FOUND);
	if (s)
		assert_true(symbols_agree(s, image.start, image.end, image.percpu_size));
	symbols_destroy(s);
}

static void tables_cut_short_at_any_byte_are_refused_or_sound(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct built_list list = build_symbol_list(40, kinds[i].absolute);
		struct buf b = tables_of(&list, &kinds[i], 0, 0);

		for (size_t size = 0; size < b.size; size++) {
			expect_sound(b.data, size, kinds[i].virt);
			// Without their beginning, too.
			if (size % 8 == 0)
				expect_sound(b.data + size, b.size - size, kinds[i].virt + size);
		}
		buf_deinit(&b);
		built_list_deinit(&list);
	}
}

static void tables_with_any_byte_changed_are_refused_or_sound(void **state)
{
	static const u8 changes[] = { 0xff, 0x01, 0x80 };

	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct built_list list = build_symbol_list(40, kinds[i].absolute);
		struct buf b = tables_of(&list, &kinds[i], 0, 0);

		for (size_t at = 0; at < b.size; at++) {
			for (u32 j = 0; j < ARRAY_SIZE(changes); j++) {
				b.data[at] ^= changes[j];
				expect_sound(b.data, b.size, kinds[i].virt);
				b.data[at] ^= changes[j];
			}
		}
		buf_deinit(&b);
		built_list_deinit(&list);
	}
}

static void a_length_that_is_wrong_is_noticed(void **state)
{
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct built_list list = build_symbol_list(600, kinds[i].absolute);
		struct buf b = tables_of(&list, &kinds[i], 64, 64);
		enum error_code code;
		struct kallsyms k;
		struct symbol_window w = window_of(b.data, b.size, kinds[i].virt);

		assert_null(kallsyms_find(&w, &image, &k));
		b.data[k.names - w.data] ^= 1;
		symbol_window_deinit(&w);
		assert_null(symbols_in(b.data, b.size, kinds[i].virt, &code, &k));
		assert_int_equal(code, ERROR_FORMAT);
		buf_deinit(&b);
		built_list_deinit(&list);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_layout_is_found_in_what_surrounds_it),
		cmocka_unit_test(tables_may_begin_and_end_with_the_segment),
		cmocka_unit_test(names_of_every_length_come_out),
		cmocka_unit_test(an_index_by_name_that_is_none_is_made_anew),
		cmocka_unit_test(data_without_tables_has_none),
		cmocka_unit_test(addresses_outside_of_the_image_are_refused),
		cmocka_unit_test(a_percpu_offset_beyond_the_percpu_data_is_refused),
		cmocka_unit_test(unsorted_addresses_are_refused),
		cmocka_unit_test(tables_cut_short_at_any_byte_are_refused_or_sound),
		cmocka_unit_test(tables_with_any_byte_changed_are_refused_or_sound),
		cmocka_unit_test(a_length_that_is_wrong_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
