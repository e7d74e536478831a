// SPDX-License-Identifier: GPL-2.0-or-later
/* What BTF says of types, by number and by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/types_rig.h"
#include "kernel/types.h"

/* --- what a type is --- */

static void expect_info(const struct types *t, u32 id, enum type_kind kind, u32 flags, u64 size, const char *name)
{
	struct type_info info = info_of(t, id);

	assert_int_equal(info.kind, kind);
	assert_int_equal(info.flags, flags);
	assert_int_equal(info.size, size);
	assert_string_equal(info.name, name);
}

static void every_kind_says_what_it_is(void **state)
{
	const struct rig *r = *state;
	const struct every *e = &r->e;
	const struct types *t = r->t;

	expect_info(t, 0, TYPE_VOID, 0, 0, "void");
	expect_info(t, e->integer, TYPE_INT, TYPE_SIGNED, 4, "int");
	expect_info(t, e->character, TYPE_INT, TYPE_SIGNED | TYPE_CHAR, 1, "char");
	expect_info(t, e->boolean, TYPE_INT, TYPE_BOOL, 1, "_Bool");
	expect_info(t, e->real, TYPE_FLOAT, 0, 8, "double");
	expect_info(t, e->void_pointer, TYPE_POINTER, 0, 8, "");
	expect_info(t, e->percpu_pointer, TYPE_POINTER, TYPE_PERCPU, 8, "");
	expect_info(t, e->user_pointer, TYPE_POINTER, TYPE_USER, 8, "");
	expect_info(t, e->name_array, TYPE_ARRAY, 0, 16, "");
	expect_info(t, e->table, TYPE_ARRAY, 0, 0, "");
	expect_info(t, e->thing, TYPE_STRUCT, 0, 72, "thing");
	expect_info(t, e->choice, TYPE_UNION, 0, 4, "");
	expect_info(t, e->colour, TYPE_ENUM, TYPE_SIGNED, 4, "colour");
	expect_info(t, e->wide, TYPE_ENUM, 0, 8, "wide");
	expect_info(t, e->other, TYPE_FORWARD, 0, 0, "other");
	expect_info(t, e->callback, TYPE_FUNCTION, 0, 0, "");
	expect_info(t, e->work, TYPE_FUNCTION, 0, 0, "work");
	expect_info(t, e->counter, TYPE_VARIABLE, 0, 8, "counter");
	expect_info(t, e->section, TYPE_STRUCT, 0, 32, ".data");
	assert_error(types_info(t, e->decl_tag, &(struct type_info){ 0 }), ERROR_INVALID, "is a tag");
	assert_error(types_info(t, e->end, &(struct type_info){ 0 }), ERROR_INVALID, "there is no type");
	assert_error(types_info(t, UINT32_MAX, &(struct type_info){ 0 }), ERROR_INVALID, "there is no type");
}

static void targets_and_counts_are_told(void **state)
{
	const struct rig *r = *state;
	const struct every *e = &r->e;

	assert_int_equal(info_of(r->t, e->const_string).target, e->const_char);
	assert_int_equal(info_of(r->t, e->name_array).target, e->character);
	assert_int_equal(info_of(r->t, e->name_array).count, 16);
	assert_int_equal(info_of(r->t, e->thing).count, 11);
	assert_int_equal(info_of(r->t, e->colour).count, 3);
	assert_int_equal(info_of(r->t, e->callback).target, e->integer);
	assert_int_equal(info_of(r->t, e->callback).count, 3);
	assert_int_equal(info_of(r->t, e->work).count, 1);
	assert_int_equal(info_of(r->t, e->counter).target, e->u64_type);
}

static void typedefs_and_qualifiers_are_followed(void **state)
{
	const struct rig *r = *state;

	assert_int_equal(info_of(r->t, r->e.u64_type).id, r->e.unsigned_long);
	assert_int_equal(info_of(r->t, r->e.const_pointer).id, r->e.const_string);
	assert_int_equal(info_of(r->t, r->e.volatile_int).id, r->e.integer);
	assert_int_equal(info_of(r->t, r->e.percpu_tag).id, r->e.thing);
}

/* --- members, values, parameters --- */

static void expect_member(const struct type_member *m, const char *name, u32 type, u64 offset, u32 bits)
{
	assert_string_equal(m->name, name);
	assert_int_equal(m->type, type);
	assert_int_equal(m->offset, offset);
	assert_int_equal(m->bits, bits);
}

static struct type_member member_of(const struct types *t, u32 id, u32 index)
{
	struct type_member m;

	assert_no_error(types_get_member(t, id, index, &m));
	return m;
}

static struct type_member find_member(const struct types *t, u32 id, const char *name)
{
	struct type_member m;

	assert_no_error(types_find_member(t, id, name, &m));
	return m;
}

static void members_come_by_index(void **state)
{
	const struct rig *r = *state;
	const struct every *e = &r->e;
	struct type_member m;

	m = member_of(r->t, e->thing, 0);
	expect_member(&m, "a", e->integer, 0, 0);
	m = member_of(r->t, e->thing, 3);
	expect_member(&m, "hue", e->colour, 131, 5);
	m = member_of(r->t, e->thing, 4);
	expect_member(&m, "", e->choice, 160, 0);
	m = member_of(r->t, e->percpu_tag, 10);
	expect_member(&m, "tail", e->table, 576, 0);
	assert_error(types_get_member(r->t, e->thing, 11, &m), ERROR_INVALID, "no member 11, it has 11");
	assert_error(types_get_member(r->t, e->integer, 0, &m), ERROR_INVALID, "is a int and has no members");
}

static void bit_fields_of_old_compilers_are_understood(void **state)
{
	const struct rig *r = *state;
	struct type_member m = member_of(r->t, r->e.old, 1);

	expect_member(&m, "second", r->e.old_bits, 5, 5);
}

static void a_section_is_a_struct_of_its_variables(void **state)
{
	const struct rig *r = *state;
	struct type_member m = member_of(r->t, r->e.section, 0);

	expect_member(&m, "counter", r->e.u64_type, 128, 0);
	m = find_member(r->t, r->e.section, "counter");
	expect_member(&m, "counter", r->e.u64_type, 128, 0);
}

static void members_are_found_inside_nameless_ones(void **state)
{
	const struct rig *r = *state;
	struct type_member m = find_member(r->t, r->e.thing, "high");

	expect_member(&m, "high", r->e.character, 168, 0);
	m = find_member(r->split, r->s.part, "mode");
	expect_member(&m, "mode", r->s.mode, 576, 0);
	m = find_member(r->split, r->e.thing, "whole");
	expect_member(&m, "whole", r->e.integer, 160, 0);
}

static void a_missing_member_lists_the_nearest(void **state)
{
	const struct rig *r = *state;
	struct type_member m;
	struct error *err = types_find_member(r->t, r->e.thing, "nmae", &m);

	assert_int_equal(error_code(err), ERROR_NOT_FOUND);
	assert_string_equal(error_message(err), "struct thing has no member 'nmae'; it has name, a, hue, next, b, "
						"ready, whole, low, high, call, tail, links, truth");
	assert_string_equal(error_hint(err), "did you mean 'name'?");
	error_destroy(err);
	assert_error(types_find_member(r->t, r->e.thing, "", &m), ERROR_NOT_FOUND, "no member ''");
	assert_error(types_find_member(r->t, r->e.u64_type, "x", &m), ERROR_INVALID, "has no members");
}

static void no_more_than_twenty_members_are_listed(void **state)
{
	enum { COUNT = 50 };
	struct btf_builder b;
	struct types *t;
	struct type_member m;

	btf_start(&b, 1, 0);
	btf_int(&b, "int", 4, 0);
	btf_struct(&b, BTF_KIND_STRUCT, "many", COUNT * 4, COUNT, false);
	for (u32 i = 0; i < COUNT; i++) {
		char name[16];

		snprintf(name, sizeof(name), "member_%02u", COUNT - 1 - i);
		btf_member(&b, name, 1, i * 32);
	}

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));

	struct error *err = types_find_member(t, 2, "member_1", &m);
	u32 listed = 0;

	for (const char *s = error_message(err); (s = strstr(s, "member_")); s++)
		listed++;
	assert_int_equal(listed, 1 + 20);
	assert_non_null(strstr(error_message(err), "and 30 more"));
	error_destroy(err);
	types_destroy(t);
	buf_deinit(&blob);
}

static void value_is(const struct types *t, u32 id, u32 index, const char *name, s64 value)
{
	const char *found_name;
	s64 found;

	assert_no_error(types_get_value(t, id, index, &found_name, &found));
	assert_string_equal(found_name, name);
	assert_true(found == value);
}

static void values_have_their_sign_and_their_width(void **state)
{
	const struct rig *r = *state;
	const char *name;
	s64 value;

	value_is(r->t, r->e.colour, 1, "GREEN", 5);
	value_is(r->t, r->e.colour, 2, "NO_COLOUR", -1);
	value_is(r->t, r->e.wide, 1, "WIDE_HIGH", (s64)0xfedcba9876543210);
	assert_error(types_get_value(r->t, r->e.wide, 2, &name, &value), ERROR_INVALID, "no value 2, it has 2");
	/* The base's have the flag of signed ones, this one has not: its value is one from 2^31 on. */
	value_is(r->split, r->s.mode, 1, "MODE_ON", 0xffffffff);
	assert_int_equal(info_of(r->split, r->s.mode).flags, 0);
}

static void an_enum_from_before_the_flag_has_its_sign_by_its_values(void **state)
{
	struct btf_builder b;
	struct types *t;

	(void)state;
	btf_start(&b, 1, 0);
	btf_type(&b, "old", BTF_KIND_ENUM, 2, false, 4);
	btf_value(&b, "BELOW", (u32)-1);
	btf_value(&b, "ABOVE", 5);
	btf_type(&b, "plain", BTF_KIND_ENUM, 1, false, 4);
	btf_value(&b, "ONLY", 5);

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	value_is(t, 1, 0, "BELOW", -1);
	assert_int_equal(info_of(t, 1).flags, TYPE_SIGNED);
	assert_int_equal(info_of(t, 2).flags, 0);
	types_destroy(t);
	buf_deinit(&blob);
}

static void parameters_are_told(void **state)
{
	const struct rig *r = *state;
	const char *name;
	u32 type;

	assert_no_error(types_get_parameter(r->t, r->e.work, 0, &name, &type));
	assert_string_equal(name, "thing");
	assert_int_equal(type, r->e.thing_pointer);
	assert_no_error(types_get_parameter(r->t, r->e.callback, 2, &name, &type));
	assert_int_equal(type, 0);
	assert_error(types_get_parameter(r->t, r->e.callback, 3, &name, &type), ERROR_INVALID,
		     "no parameter 3, it has 3");
}

/* --- by name --- */

static void types_are_found_by_the_name_that_c_has_for_them(void **state)
{
	const struct rig *r = *state;
	const struct every *e = &r->e;
	u32 ids[1];

	expect_found(r->t, "struct thing", e->thing);
	expect_found(r->t, "  struct   thing ", e->thing);
	expect_found(r->t, "enum colour", e->colour);
	expect_found(r->t, "u64", e->u64_type);
	expect_found(r->t, "double", e->real);
	expect_found(r->t, ".data", e->section);
	expect_found(r->t, "void", 0);
	assert_int_equal(types_find(r->t, "thing", ids, 1), 0);
	assert_int_equal(types_find(r->t, "union thing", ids, 1), 0);
	assert_int_equal(types_find(r->t, "struct thin", ids, 1), 0);
	assert_int_equal(types_find(r->t, "struct things", ids, 1), 0);
	assert_int_equal(types_find(r->t, "struct ", ids, 1), 0);
	assert_int_equal(types_find(r->t, "", ids, 1), 0);
}

static void basic_types_are_found_however_they_are_spelled(void **state)
{
	static const char *const longs[] = { "unsigned long", "long unsigned", "unsigned long int",
					     "long unsigned int", "int  long unsigned" };
	const struct rig *r = *state;
	u32 ids[1];

	for (u32 i = 0; i < ARRAY_SIZE(longs); i++)
		expect_found(r->t, longs[i], r->e.unsigned_long);
	expect_found(r->t, "signed", r->e.integer);
	expect_found(r->t, "unsigned", r->e.old_bits);
	assert_int_equal(types_find(r->t, "long", ids, 1), 0);
	assert_int_equal(types_find(r->t, "unsigned signed", ids, 1), 0);
	assert_int_equal(types_find(r->t, "long long long", ids, 1), 0);
}

static void basic_types_are_found_as_clang_names_them(void **state)
{
	static const char *const names[][3] = {
		{ "unsigned long", "long unsigned int", "unsigned long int" },
		{ "long", "long int", "signed long" },
		{ "unsigned long long", "long long unsigned int", "long long unsigned" },
		{ "long long", "long long int", "long int long" },
		{ "unsigned short", "short unsigned int", "unsigned short int" },
		{ "short", "short int", "signed short" },
		{ "unsigned int", "unsigned", "int unsigned" },
		{ "unsigned char", "char unsigned", "unsigned char" },
	};
	struct btf_builder b;
	struct types *t;
	u32 id;

	(void)state;
	btf_start(&b, 1, 0);
	for (u32 i = 0; i < ARRAY_SIZE(names); i++)
		btf_int(&b, names[i][0], 8, 0);

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	for (u32 i = 0; i < ARRAY_SIZE(names); i++)
		for (u32 j = 0; j < ARRAY_SIZE(names[i]); j++)
			expect_found(t, names[i][j], i + 1);
	assert_no_error(types_parse(t, "unsigned long *", &id));
	assert_int_equal(types_find(t, "int", &id, 1), 0);
	types_destroy(t);
	buf_deinit(&blob);
}

static void what_another_compiler_built_on_top_does_not_make_basic_types_ambiguous(void **state)
{
	const struct rig *r = *state;
	struct btf_builder b;
	struct types *t;
	u32 ids[2];

	btf_start(&b, r->e.end, r->e.strings_size);
	btf_int(&b, "unsigned long", 8, 0);

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, r->t, &t));
	assert_int_equal(types_find(t, "unsigned long", ids, 2), 1);
	assert_int_equal(ids[0], r->e.unsigned_long);
	types_destroy(t);
	buf_deinit(&blob);
}

static void a_split_finds_the_types_of_its_base(void **state)
{
	const struct rig *r = *state;
	u32 ids[1];

	expect_found(r->split, "struct part", r->s.part);
	expect_found(r->split, "struct thing", r->e.thing);
	assert_int_equal(types_find(r->t, "struct part", ids, 1), 0);
	assert_int_equal(types_find_function(r->split, "start"), r->s.start_type);
	assert_int_equal(types_find_function(r->split, "work"), r->e.work_type);
	assert_int_equal(types_find_function(r->t, "start"), 0);
}

static void build_ambiguous(struct btf_builder *b)
{
	btf_start(b, 1, 0);
	btf_int(b, "int", 4, 0);
	for (u32 i = 1; i <= 3; i++) {
		btf_struct(b, BTF_KIND_STRUCT, "twin", i * 4, 1, false);
		btf_member(b, i == 2 ? "b" : "a", 1, 0);
	}
	btf_type(b, "one", BTF_KIND_ENUM, 2, false, 4);
	btf_value(b, "SAME", 3);
	btf_value(b, "DIFFERENT", 1);
	btf_type(b, "two", BTF_KIND_ENUM, 2, false, 4);
	btf_value(b, "SAME", 3);
	btf_value(b, "DIFFERENT", 2);
}

static void names_that_begin_alike_are_listed_once_each(void **state)
{
	struct buf out = BUF_INIT;
	struct btf_builder b;
	struct types *t;

	(void)state;
	build_ambiguous(&b);

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	assert_no_error(types_list_from(t, "struct t", 8, &out));
	assert_int_equal(out.size, sizeof("struct twin"));
	assert_string_equal((char *)out.data, "struct twin");
	assert_no_error(types_list_from(t, "enum ", 1, &out));
	assert_int_equal(out.size, sizeof("struct twin") + sizeof("enum one"));
	assert_string_equal((char *)out.data + sizeof("struct twin"), "enum one");
	assert_no_error(types_list_from(t, "nonsense", 8, &out));
	assert_no_error(types_list_from(t, "", 0, &out));
	assert_int_equal(out.size, sizeof("struct twin") + sizeof("enum one"));
	buf_deinit(&out);
	types_destroy(t);
	buf_deinit(&blob);
}

static void a_declaration_counts_where_there_is_no_definition(void **state)
{
	const struct rig *r = *state;

	expect_found(r->t, "struct other", r->e.other);
	expect_found(r->split, "struct other", r->s.end - 1);
	assert_int_equal(info_of(r->split, r->s.end - 1).kind, TYPE_STRUCT);
}

static void an_ambiguous_name_gives_all_ids(void **state)
{
	struct btf_builder b;
	struct types *t;
	u32 ids[3] = { 0 }, id;
	s64 value;

	build_ambiguous(&b);

	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	assert_int_equal(types_find(t, "struct twin", ids, 2), 3);
	assert_int_equal(ids[0], 2);
	assert_int_equal(ids[1], 3);
	assert_int_equal(ids[2], 0);
	assert_error(types_parse(t, "struct twin *", &id), ERROR_INVALID,
		     "'struct twin' is ambiguous, there are 3: type 2 (4 bytes, 1 members), type 3 (8 bytes");
	assert_no_error(types_find_value(t, "SAME", &id, &value));
	assert_int_equal(id, 5);
	assert_int_equal(value, 3);
	assert_error(types_find_value(t, "DIFFERENT", &id, &value), ERROR_INVALID,
		     "'DIFFERENT' is 1 in enum 'one' (type 5) and 2 in enum 'two' (type 6)");
	types_destroy(t);
	buf_deinit(&blob);
}

static void values_are_found_in_whatever_enum_they_are(void **state)
{
	const struct rig *r = *state;
	u32 id;
	s64 value;

	assert_no_error(types_find_value(r->split, "WIDE_LOW", &id, &value));
	assert_int_equal(id, r->e.wide);
	assert_int_equal(value, 7);
	assert_no_error(types_find_value(r->split, "MODE_ON", &id, &value));
	assert_int_equal(id, r->s.mode);
	assert_error(types_find_value(r->t, "MODE_ON", &id, &value), ERROR_NOT_FOUND,
		     "no enum has a value 'MODE_ON'");
}

static void variables_and_functions_give_their_type(void **state)
{
	const struct rig *r = *state;

	assert_int_equal(types_find_variable(r->t, "counter"), r->e.u64_type);
	assert_int_equal(types_find_variable(r->split, "counter"), r->e.u64_type);
	assert_int_equal(types_find_variable(r->t, "work"), 0);
	assert_int_equal(types_find_function(r->t, "work"), r->e.work_type);
	assert_int_equal(types_find_function(r->t, "wor"), 0);
}

static void names_come_in_order_from_a_prefix_on(void **state)
{
	const struct rig *r = *state;

	expect_names(r->t, "", 100,
		     ".data,_Bool,char,double,enum colour,enum wide,int,long unsigned int,struct list,struct old,"
		     "struct thing,u64,unsigned int,");
	expect_names(r->split, "e", 8,
		     "enum colour,enum mode,enum wide,int,long unsigned int,struct list,struct old,struct other,");
	expect_names(r->split, "struct p", 2, "struct part,struct thing,");
	expect_names(r->t, "enum d", 2, "enum wide,int,");
	expect_names(r->t, "stru", 1, "struct list,");
	expect_names(r->t, "struct thing", 2, "struct thing,u64,");
	expect_names(r->t, "structure", 1, "u64,");
	expect_names(r->t, "z", 1, "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_kind_says_what_it_is),
		TEST(targets_and_counts_are_told),
		TEST(typedefs_and_qualifiers_are_followed),
		TEST(members_come_by_index),
		TEST(bit_fields_of_old_compilers_are_understood),
		TEST(a_section_is_a_struct_of_its_variables),
		TEST(members_are_found_inside_nameless_ones),
		TEST(a_missing_member_lists_the_nearest),
		TEST(no_more_than_twenty_members_are_listed),
		TEST(values_have_their_sign_and_their_width),
		TEST(an_enum_from_before_the_flag_has_its_sign_by_its_values),
		TEST(parameters_are_told),
		TEST(types_are_found_by_the_name_that_c_has_for_them),
		TEST(basic_types_are_found_however_they_are_spelled),
		TEST(basic_types_are_found_as_clang_names_them),
		TEST(what_another_compiler_built_on_top_does_not_make_basic_types_ambiguous),
		TEST(a_split_finds_the_types_of_its_base),
		TEST(a_declaration_counts_where_there_is_no_definition),
		TEST(an_ambiguous_name_gives_all_ids),
		TEST(values_are_found_in_whatever_enum_they_are),
		TEST(names_that_begin_alike_are_listed_once_each),
		TEST(variables_and_functions_give_their_type),
		TEST(names_come_in_order_from_a_prefix_on),
	};

	return cmocka_run_group_tests_name("types", tests, NULL, NULL);
}
