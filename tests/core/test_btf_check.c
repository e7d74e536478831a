// SPDX-License-Identifier: GPL-2.0-or-later
/* BTF that is damaged or made to hurt: refused by name, or read without harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CHECK(condition) assert_true(condition)

#include "core/btf_builder.h"
#include "core/btf_walk.h"
#include "core/kvm_fixture.h"
#include "kernel/btf_check.h"
#include "kernel/types.h"

/* Of a blob as it is, and with its strings behind: what btf_check() says. */
static struct error *check_blob(const struct buf *blob)
{
	struct btf_bytes bytes;
	u32 *offsets = NULL;
	struct error *err = btf_check(blob->data, blob->size, NULL, &bytes, &offsets);

	if (!err)
		free(offsets);
	return err;
}

/* Takes the builder's blob. */
static void refuses(struct btf_builder *b, enum error_code code, const char *text)
{
	struct buf blob = btf_finish(b);

	assert_error(check_blob(&blob), code, text);
	buf_deinit(&blob);
}

static void accepts(struct btf_builder *b)
{
	struct buf blob = btf_finish(b);

	assert_no_error(check_blob(&blob));
	buf_deinit(&blob);
}

static void start(struct btf_builder *b)
{
	btf_start(b, 1, 0);
	btf_int(b, "int", 4, BTF_INT_SIGNED);
}

static void a_blob_with_every_kind_is_accepted_and_read(void **state)
{
	struct every e;
	struct split s;
	struct buf blob = build_every_kind(&e), split_blob = build_split(&e, &s);
	struct types *t, *split;

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	assert_int_equal(types_first(t), 1);
	assert_int_equal(types_end(t), e.end);
	walk_types(t);
	assert_no_error(types_create(split_blob.data, split_blob.size, t, &split));
	assert_int_equal(types_first(split), e.end);
	assert_int_equal(types_end(split), s.end);
	walk_types(split);
	types_destroy(split);
	types_destroy(t);
	buf_deinit(&split_blob);
	buf_deinit(&blob);
}

/* Refused as damaged or unknown, or consistent. */
static bool try_blob(const void *data, size_t size, const struct types *base)
{
	struct types *t;
	struct error *err = types_create(data, size, base, &t);

	if (err) {
		assert_true(error_code(err) == ERROR_FORMAT || error_code(err) == ERROR_UNSUPPORTED);
		error_destroy(err);
		return false;
	}
	walk_types(t);
	types_destroy(t);
	return true;
}

/* Each byte with each of its bits flipped, and all of them. Returns how many were refused. */
static u32 flip_each_byte(struct buf *blob, const struct types *base)
{
	u32 refused = 0;

	for (size_t i = 0; i < blob->size; i++) {
		for (u32 bit = 0; bit <= 8; bit++) {
			u8 mask = bit == 8 ? 0xff : 1 << bit;

			blob->data[i] ^= mask;
			refused += !try_blob(blob->data, blob->size, base);
			blob->data[i] ^= mask;
		}
	}
	return refused;
}

static void with_any_byte_changed_it_is_refused_or_consistent(void **state)
{
	struct every e;
	struct buf blob = build_every_kind(&e);
	u32 refused = flip_each_byte(&blob, NULL);

	/* Most of a blob is references, sizes and offsets: most changes are seen. */
	assert_in_range(refused, blob.size * 9 / 3, blob.size * 9);
	buf_deinit(&blob);
}

static void a_split_with_any_byte_changed_is_refused_or_consistent(void **state)
{
	struct every e;
	struct split s;
	struct buf blob = build_every_kind(&e), split_blob = build_split(&e, &s);
	struct types *t;

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));

	u32 refused = flip_each_byte(&split_blob, t);

	assert_in_range(refused, split_blob.size * 9 / 3, split_blob.size * 9);
	types_destroy(t);
	buf_deinit(&split_blob);
	buf_deinit(&blob);
}

/* In memory of its own, so that a byte read behind it is noticed. */
static void assert_cut_refused(const struct buf *blob, size_t size, const struct types *base)
{
	u8 *cut = malloc(size);

	if (size)
		memcpy(cut, blob->data, size);
	assert_false(try_blob(cut, size, base));
	free(cut);
}

static void cut_anywhere_it_is_refused(void **state)
{
	struct every e;
	struct split s;
	struct buf blob = build_every_kind(&e), split_blob = build_split(&e, &s);
	struct types *t;

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	for (size_t i = 0; i < blob.size; i++)
		assert_cut_refused(&blob, i, NULL);
	for (size_t i = 0; i < split_blob.size; i++)
		assert_cut_refused(&split_blob, i, t);
	types_destroy(t);
	buf_deinit(&split_blob);
	buf_deinit(&blob);
}

static void a_split_upon_another_base_is_refused_or_consistent(void **state)
{
	struct every e;
	struct split s;
	struct buf blob = build_every_kind(&e), split_blob = build_split(&e, &s), small;
	struct btf_builder b;
	struct types *t, *split;

	start(&b);
	small = btf_finish(&b);
	assert_no_error(types_create(small.data, small.size, NULL, &t));
	assert_false(try_blob(split_blob.data, split_blob.size, t));
	assert_false(try_blob(split_blob.data, split_blob.size, NULL));
	types_destroy(t);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	assert_no_error(types_create(split_blob.data, split_blob.size, t, &split));
	assert_error(types_create(split_blob.data, split_blob.size, split, &(struct types *){ 0 }), ERROR_INVALID,
		     "not with another split");
	types_destroy(split);
	types_destroy(t);
	buf_deinit(&small);
	buf_deinit(&split_blob);
	buf_deinit(&blob);
}

/* --- headers --- */

static void refuses_header(size_t at, u32 size, u32 value, enum error_code code, const char *text)
{
	struct btf_builder b;

	start(&b);

	struct buf blob = btf_finish(&b);

	memcpy(blob.data + at, &value, size);
	assert_error(check_blob(&blob), code, text);
	buf_deinit(&blob);
}

static void headers_that_are_wrong_are_refused(void **state)
{
	refuses_header(offsetof(struct btf_header, magic), 2, 0x9feb, ERROR_UNSUPPORTED, "the other byte order");
	refuses_header(offsetof(struct btf_header, magic), 2, 0x457f, ERROR_FORMAT, "it begins with 0x457f");
	refuses_header(offsetof(struct btf_header, version), 1, 2, ERROR_UNSUPPORTED, "version 2");
	refuses_header(offsetof(struct btf_header, flags), 1, 1, ERROR_UNSUPPORTED, "flags 0x1");
	refuses_header(offsetof(struct btf_header, hdr_len), 4, 20, ERROR_FORMAT, "header of 20 bytes");
	refuses_header(offsetof(struct btf_header, hdr_len), 4, 0xfffffffc, ERROR_FORMAT,
		       "header of 4294967292 bytes");
	refuses_header(offsetof(struct btf_header, hdr_len), 4, 28, ERROR_FORMAT, "cut short");
	refuses_header(offsetof(struct btf_header, type_off), 4, 2, ERROR_FORMAT, "not aligned");
	refuses_header(offsetof(struct btf_header, type_len), 4, 15, ERROR_FORMAT, "not aligned");
	refuses_header(offsetof(struct btf_header, type_off), 4, 4, ERROR_FORMAT, "overlap");
	refuses_header(offsetof(struct btf_header, str_off), 4, 12, ERROR_FORMAT, "overlap");
	refuses_header(offsetof(struct btf_header, type_len), 4, 0xfffffffc, ERROR_FORMAT, "overlap");
	refuses_header(offsetof(struct btf_header, str_len), 4, 0xffffffff, ERROR_FORMAT, "cut short");
	refuses_header(offsetof(struct btf_header, str_len), 4, 3, ERROR_FORMAT, "do not end with a NUL");
	refuses_header(offsetof(struct btf_header, str_len), 4, 0, ERROR_FORMAT, "without strings");
	refuses_header(offsetof(struct btf_header, str_off), 4, 17, ERROR_FORMAT, "cut short");
}

static void strings_that_do_not_begin_with_an_empty_one_are_refused(void **state)
{
	struct btf_builder b;

	start(&b);
	b.strings.data[0] = 'x';
	refuses(&b, ERROR_FORMAT, "do not begin with an empty one");
}

/* --- one type that is wrong --- */

/* An int is type 1; the wrong one is type 2. */
static void refuses_type(u32 kind, const char *name, u32 count, bool flag, u32 size_or_type, const u32 *extra,
			 u32 n, const char *text)
{
	struct btf_builder b;

	start(&b);
	btf_type(&b, name, kind, count, flag, size_or_type);
	for (u32 i = 0; i < n; i++)
		buf_put_u32(&b.types, extra[i]);
	refuses(&b, ERROR_FORMAT, text);
}

#define EXTRA(...) (const u32[]){ __VA_ARGS__ }, ARRAY_SIZE(((const u32[]){ __VA_ARGS__ }))
#define NO_EXTRA NULL, 0

static void types_of_a_wrong_shape_are_refused_by_number(void **state)
{
	refuses_type(BTF_KIND_UNKN, "", 0, false, 0, NO_EXTRA, "type 2 has kind 0");
	refuses_type(BTF_KIND_INT, "x", 0, false, 4, NO_EXTRA, "type 2 (int) is cut short");
	refuses_type(BTF_KIND_INT, "x", 0, false, 3, EXTRA(24), "type 2 (int) has 3 bytes");
	refuses_type(BTF_KIND_INT, "x", 0, false, 4, EXTRA(33), "has bits 0 to 33 in 4 bytes");
	refuses_type(BTF_KIND_INT, "x", 0, false, 4, EXTRA(1 << 16 | 32), "has bits 1 to 33");
	refuses_type(BTF_KIND_INT, "x", 0, false, 4, EXTRA(3 << 24 | 32), "has encoding 0x3");
	refuses_type(BTF_KIND_INT, "", 0, false, 4, EXTRA(32), "has a name that is empty");
	refuses_type(BTF_KIND_INT, "x", 1, false, 4, EXTRA(32), "has a count of 1");
	refuses_type(BTF_KIND_INT, "x", 0, true, 4, EXTRA(32), "has a kind flag");
	refuses_type(BTF_KIND_PTR, "x", 0, false, 1, NO_EXTRA, "type 2 (pointer) has a name");
	refuses_type(BTF_KIND_PTR, "", 0, false, 3, NO_EXTRA, "refers to type 3 of 3");
	refuses_type(BTF_KIND_TYPEDEF, "", 0, false, 1, NO_EXTRA, "(typedef) has a name that is empty");
	refuses_type(BTF_KIND_ARRAY, "", 0, false, 0, EXTRA(3, 1, 1), "refers to type 3");
	refuses_type(BTF_KIND_ARRAY, "", 0, false, 0, EXTRA(1, 3, 1), "refers to type 3");
	refuses_type(BTF_KIND_ARRAY, "", 0, false, 0, EXTRA(0, 1, 1), "has type 0 (void) for its elements");
	refuses_type(BTF_KIND_ARRAY, "", 0, false, 8, EXTRA(1, 1, 1), "has a size field of 8");
	refuses_type(BTF_KIND_ARRAY, "", 0, false, 0, EXTRA(1, 1, 0x40000000),
		     "has 1073741824 elements of 4 bytes");
	refuses_type(BTF_KIND_ENUM, "x", 0, false, 3, NO_EXTRA, "has 3 bytes");
	refuses_type(BTF_KIND_ENUM, "x", 1, false, 4, EXTRA(0, 1), "has a value's name that is empty");
	refuses_type(BTF_KIND_FWD, "x", 0, false, 1, NO_EXTRA, "(forward) refers to type 1");
	refuses_type(BTF_KIND_FUNC, "x", 0, false, 1, NO_EXTRA, "has type 1 (int) for its target");
	refuses_type(BTF_KIND_FUNC_PROTO, "", 2, false, 1, EXTRA(0, 0, 0, 1), "has type 0 (void) for a parameter");
	refuses_type(BTF_KIND_VAR, "x", 0, false, 1, EXTRA(3), "has an unknown linkage");
	refuses_type(BTF_KIND_DATASEC, "x", 1, false, 8, EXTRA(1, 0, 4), "has type 1 (int) for a variable");
	refuses_type(BTF_KIND_FLOAT, "x", 0, false, 7, NO_EXTRA, "has 7 bytes");
	refuses_type(BTF_KIND_DECL_TAG, "x", 0, false, 1, EXTRA(0), "has type 1 (int) for its target");
	refuses_type(BTF_KIND_ENUM64, "x", 2, true, 8, EXTRA(1, 0, 0), "is cut short: 24 bytes of 36");
}

static void members_that_do_not_fit_are_refused(void **state)
{
	const u32 s = BTF_KIND_STRUCT, u = BTF_KIND_UNION;

	refuses_type(s, "x", 1, false, 4, EXTRA(0, 0, 0), "has type 0 (void) for a member");
	refuses_type(s, "x", 1, false, 4, EXTRA(0, 9, 0), "refers to type 9");
	refuses_type(s, "x", 1, false, 4, EXTRA(9999, 1, 0), "has a member's name outside the strings");
	refuses_type(s, "x", 1, false, 4, EXTRA(0, 1, 8), "ends before its member 0: 4 bytes at 1, of 4");
	refuses_type(s, "x", 1, false, 8, EXTRA(0, 1, 3), "has a member at bit 3: 0");
	refuses_type(s, "x", 1, false, 4, EXTRA(0, 1, 0xfffffff8), "ends before its member 0");
	refuses_type(s, "x", 1, true, 4, EXTRA(0, 1, 33 << 24), "bit-field of 33 bits in 4 bytes");
	refuses_type(s, "x", 1, true, 4, EXTRA(0, 1, 3 << 24 | 30), "ends before its member 0: 3 bits at bit 30");
	refuses_type(s, "x", 1, true, 8, EXTRA(0, 1, 3), "has a member at bit 3");
	refuses_type(u, "x", 1, false, 8, EXTRA(0, 1, 32), "(union) has a member at bit 32");
	refuses_type(s, "x", 1, false, 8, EXTRA(0, 2, 0), "contains itself");
}

static void what_newer_kernels_may_have_is_unsupported(void **state)
{
	struct btf_builder b;

	start(&b);
	btf_type(&b, "x", BTF_KIND_MAX + 1, 0, false, 0);
	refuses(&b, ERROR_UNSUPPORTED, "type 2 has kind 20");
	start(&b);
	btf_type(&b, "x", BTF_KIND_STRUCT, 1 << 16, false, 0);
	refuses(&b, ERROR_UNSUPPORTED, "info 0x04010000");
}

static void a_section_has_room_for_its_variables(void **state)
{
	for (u32 room = 3; room <= 4; room++) {
		struct btf_builder b;

		start(&b);

		u32 variable = btf_type(&b, "x", BTF_KIND_VAR, 0, false, 1);

		buf_put_u32(&b.types, 0);
		btf_type(&b, ".bss", BTF_KIND_DATASEC, 1, false, 8);
		btf_three(&b, variable, 4, room);
		if (room == 4)
			accepts(&b);
		else
			refuses(&b, ERROR_FORMAT, "has 3 bytes for its variable 0 of 4");
	}

	struct btf_builder b;

	start(&b);
	btf_type(&b, "x", BTF_KIND_VAR, 0, false, 1);
	buf_put_u32(&b.types, 0);
	btf_type(&b, ".bss", BTF_KIND_DATASEC, 1, false, 8);
	btf_three(&b, 2, 5, 4);
	refuses(&b, ERROR_FORMAT, "ends before its variable 0: 4 bytes at 5, of 8");
}

static void a_tag_names_a_part_that_there_is(void **state)
{
	for (u32 part = 1; part <= 2; part++) {
		struct btf_builder b;

		start(&b);
		btf_struct(&b, BTF_KIND_STRUCT, "x", 8, 2, false);
		btf_member(&b, "a", 1, 0);
		btf_member(&b, "b", 1, 32);
		btf_type(&b, "tag", BTF_KIND_DECL_TAG, 0, false, 2);
		buf_put_u32(&b.types, part);
		if (part == 1)
			accepts(&b);
		else
			refuses(&b, ERROR_FORMAT, "tags part 2 of 2");
	}
}

static void a_bit_field_is_of_an_integer(void **state)
{
	struct btf_builder b;

	start(&b);
	btf_struct(&b, BTF_KIND_STRUCT, "x", 8, 1, true);
	btf_bits(&b, "a", 3, 0, 3);
	btf_pointer(&b, 1);
	refuses(&b, ERROR_FORMAT, "has a bit-field of a pointer: member 0");
}

/* --- names --- */

static void names_are_short_and_may_be_printed(void **state)
{
	static const char *const odd[] = { "esc\033[2J", "new\nline", "del\177" };
	char name[BTF_MAX_NAME + 2];
	struct btf_builder b;

	for (u32 i = 0; i < ARRAY_SIZE(odd); i++) {
		start(&b);
		btf_to(&b, BTF_KIND_TYPEDEF, odd[i], 1);
		refuses(&b, ERROR_FORMAT, "control characters");
	}
	memset(name, 'n', sizeof(name));
	name[BTF_MAX_NAME + 1] = 0;
	start(&b);
	btf_to(&b, BTF_KIND_TYPEDEF, name, 1);
	refuses(&b, ERROR_FORMAT, "of more than 1023");
	start(&b);
	btf_to(&b, BTF_KIND_TYPEDEF, name + 1, 1);
	accepts(&b);
}

static void a_name_begins_inside_the_strings(void **state)
{
	for (u32 behind = 0; behind <= 1; behind++) {
		struct btf_builder b;

		start(&b);
		btf_text(&b, "last");
		/* The last is found from its end too. */
		btf_three(&b, b.strings.size - 2 + 2 * behind, BTF_KIND_TYPEDEF << 24, 1);
		if (behind)
			refuses(&b, ERROR_FORMAT, "outside the strings: 10 of 10");
		else
			accepts(&b);
	}
}

/* The strings of a BPF program hold lines of its source. */
static void odd_strings_that_are_no_names_do_no_harm(void **state)
{
	struct btf_builder b;

	start(&b);
	btf_text(&b, "\tif (x)\n\t\treturn 1;");
	btf_to(&b, BTF_KIND_TYPEDEF, "fine", 1);
	accepts(&b);
}

/* --- what has no end --- */

static void cycles_are_refused(void **state)
{
	static const u32 kinds[] = { BTF_KIND_CONST, BTF_KIND_VOLATILE, BTF_KIND_RESTRICT, BTF_KIND_PTR };
	struct btf_builder b;

	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		start(&b);
		btf_to(&b, kinds[i], "", 2);
		refuses(&b, ERROR_FORMAT, "itself");
		start(&b);
		btf_to(&b, kinds[i], "", 3);
		btf_to(&b, BTF_KIND_CONST, "", 2);
		refuses(&b, ERROR_FORMAT, "itself");
	}
	start(&b);
	btf_to(&b, BTF_KIND_TYPEDEF, "x", 2);
	refuses(&b, ERROR_FORMAT, "type 2 (typedef) contains itself");
	start(&b);
	btf_array(&b, 2, 1, 1);
	refuses(&b, ERROR_FORMAT, "type 2 (array) contains itself");
	start(&b);
	btf_struct(&b, BTF_KIND_STRUCT, "x", 8, 1, false);
	btf_member(&b, "", 3, 0);
	btf_array(&b, 2, 1, 0);
	refuses(&b, ERROR_FORMAT, "contains itself");
	/* Only a name ends it: this prototype has none. */
	start(&b);
	btf_type(&b, "", BTF_KIND_FUNC_PROTO, 1, false, 0);
	btf_value(&b, "self", 3);
	btf_pointer(&b, 2);
	refuses(&b, ERROR_FORMAT, "is made of itself");
}

static void a_struct_that_points_to_itself_is_fine(void **state)
{
	struct btf_builder b;

	start(&b);
	btf_struct(&b, BTF_KIND_STRUCT, "node", 16, 2, false);
	btf_member(&b, "next", 3, 0);
	btf_member(&b, "key", 4, 64);
	btf_pointer(&b, 2);
	btf_to(&b, BTF_KIND_TYPEDEF, "node_t", 3);
	accepts(&b);
}

/* count typedefs or pointers in a row. */
static void build_chain(struct btf_builder *b, u32 kind, u32 count)
{
	start(b);
	for (u32 i = 0; i < count; i++)
		btf_to(b, kind, kind == BTF_KIND_TYPEDEF ? "t" : "", i + 1);
}

/* The same, with the last first. */
static void build_chain_backwards(struct btf_builder *b, u32 kind, u32 count)
{
	start(b);
	for (u32 i = 0; i < count; i++)
		btf_to(b, kind, kind == BTF_KIND_TYPEDEF ? "t" : "", i + 1 < count ? i + 3 : 1);
}

static void types_are_nested_to_a_depth_that_is_the_same_from_either_end(void **state)
{
	static const u32 kinds[] = { BTF_KIND_TYPEDEF, BTF_KIND_PTR };
	void (*const builders[])(struct btf_builder *, u32, u32) = { build_chain, build_chain_backwards };
	struct btf_builder b;

	for (u32 i = 0; i < 4; i++) {
		builders[i / 2](&b, kinds[i % 2], BTF_MAX_DEPTH - 1);
		accepts(&b);
		builders[i / 2](&b, kinds[i % 2], BTF_MAX_DEPTH);
		refuses(&b, ERROR_FORMAT, "64");
		builders[i / 2](&b, kinds[i % 2], 100000);
		refuses(&b, ERROR_FORMAT, "64");
	}
}

/* Struct n has struct n - 1 twice, nameless: forty of them have 2^40 members. */
static void what_is_too_much_to_print_or_to_search_is_refused_in_time(void **state)
{
	enum { LEVELS = 40 };
	struct btf_builder b;
	struct types *t;
	struct type_member m;
	struct buf text = BUF_INIT;

	start(&b);
	btf_struct(&b, BTF_KIND_UNION, "", 4, 1, false);
	btf_member(&b, "x", 1, 0);
	for (u32 i = 0; i < LEVELS; i++) {
		btf_struct(&b, BTF_KIND_UNION, "", 4, 2, false);
		btf_member(&b, "", 2 + i, 0);
		btf_member(&b, "", 2 + i, 0);
	}

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	assert_no_error(types_find_member(t, 2 + LEVELS, "x", &m));
	assert_error(types_find_member(t, 2 + LEVELS, "y", &m), ERROR_UNSUPPORTED, "more than 1048576 members");
	assert_error(types_define(t, 2 + LEVELS, &text), ERROR_UNSUPPORTED, "longer than 100000 lines");
	assert_int_equal(text.size, 0);
	types_destroy(t);
	buf_deinit(&text);
	buf_deinit(&blob);
}

/* Prototype n takes two pointers to prototype n - 1. */
static void a_name_that_would_not_end_is_refused_in_time(void **state)
{
	enum { LEVELS = 28 };
	struct btf_builder b;
	struct types *t;
	struct buf text = BUF_INIT;
	u32 pointer = 1;

	start(&b);
	for (u32 i = 0; i < LEVELS; i++) {
		u32 prototype = btf_type(&b, "", BTF_KIND_FUNC_PROTO, 2, false, 0);

		btf_value(&b, "", pointer);
		btf_value(&b, "", pointer);
		pointer = btf_pointer(&b, prototype);
	}

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	assert_no_error(types_name(t, 5, &text));
	assert_error(types_name(t, pointer, &text), ERROR_UNSUPPORTED, "too long to be written");
	types_destroy(t);
	buf_deinit(&text);
	buf_deinit(&blob);
}

/* All the same name: nothing may take the square of their number. */
static void a_hundred_thousand_types_of_one_name_are_indexed_in_time(void **state)
{
	enum { COUNT = 100000 };
	struct btf_builder b;
	struct types *t;
	u32 ids[3];

	start(&b);

	u32 name = btf_text(&b, "the_same_in_all_of_them");

	for (u32 i = 0; i < COUNT; i++)
		btf_three(&b, name, BTF_KIND_TYPEDEF << 24, 1);

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	assert_int_equal(types_find(t, "the_same_in_all_of_them", ids, 3), COUNT);
	assert_int_equal(ids[0], 2);
	assert_int_equal(ids[2], 4);
	types_destroy(t);
	buf_deinit(&blob);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blob_with_every_kind_is_accepted_and_read),
		cmocka_unit_test(with_any_byte_changed_it_is_refused_or_consistent),
		cmocka_unit_test(a_split_with_any_byte_changed_is_refused_or_consistent),
		cmocka_unit_test(cut_anywhere_it_is_refused),
		cmocka_unit_test(a_split_upon_another_base_is_refused_or_consistent),
		cmocka_unit_test(headers_that_are_wrong_are_refused),
		cmocka_unit_test(strings_that_do_not_begin_with_an_empty_one_are_refused),
		cmocka_unit_test(types_of_a_wrong_shape_are_refused_by_number),
		cmocka_unit_test(members_that_do_not_fit_are_refused),
		cmocka_unit_test(what_newer_kernels_may_have_is_unsupported),
		cmocka_unit_test(a_section_has_room_for_its_variables),
		cmocka_unit_test(a_tag_names_a_part_that_there_is),
		cmocka_unit_test(a_bit_field_is_of_an_integer),
		cmocka_unit_test(names_are_short_and_may_be_printed),
		cmocka_unit_test(a_name_begins_inside_the_strings),
		cmocka_unit_test(odd_strings_that_are_no_names_do_no_harm),
		cmocka_unit_test(cycles_are_refused),
		cmocka_unit_test(a_struct_that_points_to_itself_is_fine),
		cmocka_unit_test(types_are_nested_to_a_depth_that_is_the_same_from_either_end),
		cmocka_unit_test(what_is_too_much_to_print_or_to_search_is_refused_in_time),
		cmocka_unit_test(a_name_that_would_not_end_is_refused_in_time),
		cmocka_unit_test(a_hundred_thousand_types_of_one_name_are_indexed_in_time),
	};

	return cmocka_run_group_tests_name("btf_check", tests, NULL, NULL);
}
