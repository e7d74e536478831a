// SPDX-License-Identifier: GPL-2.0-or-later
/* Types written as C, and found by what C calls them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/types_rig.h"
#include "kernel/types.h"

/* --- types by their text --- */

static u32 parse(const struct types *t, const char *text)
{
	u32 id;

	assert_no_error(types_parse(t, text, &id));
	return id;
}

static void expect_name(const struct types *t, u32 id, const char *name)
{
	struct buf text = BUF_INIT;

	assert_no_error(types_name(t, id, &text));
	buf_put_u8(&text, 0);
	assert_string_equal((char *)text.data, name);
	buf_deinit(&text);
}

static void pointers_and_arrays_are_made_as_they_are_asked_for(void **state)
{
	const struct rig *r = *state;
	u32 pointer = parse(r->t, "struct thing *"), array = parse(r->t, "char[16]"),
	    deep = parse(r->t, "u64**[ 2 ][8]");
	struct type_info info = info_of(r->t, pointer);

	assert_int_equal(info.kind, TYPE_POINTER);
	assert_int_equal(info.target, r->e.thing);
	assert_int_equal(info.id, pointer);
	info = info_of(r->t, array);
	assert_int_equal(info.kind, TYPE_ARRAY);
	assert_int_equal(info.count, 16);
	assert_int_equal(info.size, 16);
	assert_int_equal(info.target, r->e.character);
	info = info_of(r->t, deep);
	assert_int_equal(info.count, 2);
	assert_int_equal(info.size, 128);
	assert_int_equal(info_of(r->t, info.target).count, 8);
	expect_name(r->t, deep, "u64 **[2][8]");
	expect_name(r->t, parse(r->t, "void *"), "void *");
	assert_int_equal(parse(r->t, "struct thing  * "), pointer);
	assert_int_equal(parse(r->t, "char [16]"), array);
	assert_int_equal(parse(r->t, "struct thing"), r->e.thing);
	/* They are the set's own. */
	assert_error(types_info(r->split, pointer, &info), ERROR_INVALID, "there is no type");
	expect_name(r->split, parse(r->split, "struct part *"), "struct part *");
}

static void what_is_no_type_is_refused(void **state)
{
	static const char *const texts[] = { "",
					     " ",
					     "*",
					     "[4]",
					     "char[",
					     "char]",
					     "char[]",
					     "char[x]",
					     "char[-1]",
					     "char[99999999999]",
					     "char[4]*",
					     "int (*)(void)",
					     "u64*********",
					     "u64[1][1][1][1][1][1][1][1][1]" };
	const struct rig *r = *state;
	u32 id;

	for (u32 i = 0; i < ARRAY_SIZE(texts); i++) {
		struct error *err = types_parse(r->t, texts[i], &id);

		if (!err || error_code(err) == ERROR_UNSUPPORTED)
			fail_msg("'%s' was taken", texts[i]);
		error_destroy(err);
	}
	assert_error(types_parse(r->t, "void[4]", &id), ERROR_INVALID, "no array");
	assert_error(types_parse(r->t, "struct other[4]", &id), ERROR_INVALID, "no array");
	assert_error(types_parse(r->t, "struct thing[0xffffffff]", &id), ERROR_INVALID, "no array");

	struct error *err = types_parse(r->split, "struct prt *", &id);

	assert_int_equal(error_code(err), ERROR_NOT_FOUND);
	assert_string_equal(error_hint(err), "did you mean 'struct part'?");
	error_destroy(err);
}

static void there_is_a_bound_to_what_is_made(void **state)
{
	const struct rig *r = *state;
	struct error *err = NULL;
	u32 count = 0, id;

	for (; count < 10000 && !err; count++) {
		char text[32];

		snprintf(text, sizeof(text), "char[%u]", count);
		err = types_parse(r->t, text, &id);
	}
	assert_error(err, ERROR_UNSUPPORTED, "more than 4096");
	assert_int_equal(info_of(r->t, parse(r->t, "char[4000]")).size, 4000);
}

/* --- as C writes them --- */

static void names_are_c(void **state)
{
	const struct rig *r = *state;
	const struct every *e = &r->e;

	expect_name(r->t, 0, "void");
	expect_name(r->t, e->u64_type, "u64");
	expect_name(r->t, e->thing_pointer, "struct thing *");
	expect_name(r->t, e->name_array, "char [16]");
	expect_name(r->t, e->const_string, "const char *");
	expect_name(r->t, e->const_pointer, "const char *const");
	expect_name(r->t, e->restrict_pointer, "void *restrict");
	expect_name(r->t, e->callback, "int (void *arg, const char *, ...)");
	expect_name(r->t, e->callback_pointer, "int (*)(void *arg, const char *, ...)");
	expect_name(r->t, e->percpu_pointer, "struct thing *");
	expect_name(r->t, e->inner, "struct {...}");
	expect_name(r->t, e->wide, "enum wide");
	expect_name(r->t, e->other_pointer, "struct other *");
	expect_name(r->t, e->work, "void work(struct thing *thing)");
	expect_name(r->t, e->counter, "u64 counter");
	expect_name(r->t, e->section, "section .data");
	assert_error(types_name(r->t, e->decl_tag, &(struct buf){ 0 }), ERROR_INVALID, "is a tag");
	assert_error(types_name(r->t, e->end, &(struct buf){ 0 }), ERROR_INVALID, "there is no type");
}

/* Names that are read inside out. */
static void declarators_nest(void **state)
{
	struct btf_builder b;
	struct types *t;

	btf_start(&b, 1, 0);
	btf_int(&b, "int", 4, 0);

	u32 array = btf_array(&b, 1, 1, 4), rows = btf_array(&b, array, 1, 3);
	u32 to_rows = btf_pointer(&b, rows), constant = btf_to(&b, BTF_KIND_CONST, "", to_rows);
	u32 prototype = btf_type(&b, "", BTF_KIND_FUNC_PROTO, 1, false, to_rows);

	btf_value(&b, "n", 1);

	u32 function = btf_pointer(&b, prototype), table = btf_array(&b, function, 1, 2);
	u32 constants = btf_array(&b, btf_to(&b, BTF_KIND_CONST, "", btf_to(&b, BTF_KIND_VOLATILE, "", 1)), 1, 5);
	struct buf blob = btf_finish(&b);

	assert_no_error(types_create(blob.data, blob.size, NULL, &t));
	expect_name(t, rows, "int [3][4]");
	expect_name(t, to_rows, "int (*)[3][4]");
	expect_name(t, constant, "int (*const)[3][4]");
	expect_name(t, function, "int (*(*)(int n))[3][4]");
	expect_name(t, table, "int (*(*[2])(int n))[3][4]");
	expect_name(t, constants, "const volatile int [5]");
	types_destroy(t);
	buf_deinit(&blob);
}

static void expect_definition(const struct types *t, u32 id, const char *definition)
{
	struct buf text = BUF_INIT;

	assert_no_error(types_define(t, id, &text));
	buf_put_u8(&text, 0);
	assert_string_equal((char *)text.data, definition);
	buf_deinit(&text);
}

static void a_struct_is_defined_with_its_places_and_holes(void **state)
{
	const struct rig *r = *state;

	expect_definition(r->t, r->e.thing,
			  "struct thing {\n"
			  "\tint a;                                          /*     0        4 */\n"
			  "\t/* XXX 4 bytes hole */\n"
			  "\tu64 b;                                          /*     8        8 */\n"
			  "\tint ready:3;                                    /*    16: 0     4 */\n"
			  "\tenum colour hue:5;                              /*    16: 3     4 */\n"
			  "\t/* XXX 3 bytes hole */\n"
			  "\tunion {\n"
			  "\t\tint whole;                              /*    20        4 */\n"
			  "\t\tstruct {\n"
			  "\t\t\tchar low;                       /*    20        1 */\n"
			  "\t\t\tchar high;                      /*    21        1 */\n"
			  "\t\t\t/* XXX 2 bytes hole */\n"
			  "\t\t};                                      /*    20        4 */\n"
			  "\t};                                              /*    20        4 */\n"
			  "\tstruct other *next;                             /*    24        8 */\n"
			  "\tint (*call)(void *arg, const char *, ...);      /*    32        8 */\n"
			  "\tchar name[16];                                  /*    40       16 */\n"
			  "\tstruct list links;                              /*    56        8 */\n"
			  "\t/* --- cacheline 1 boundary (64 bytes) --- */\n"
			  "\t_Bool truth;                                    /*    64        1 */\n"
			  "\t/* XXX 7 bytes hole */\n"
			  "\tu64 tail[0];                                    /*    72        0 */\n"
			  "\n"
			  "\t/* size: 72, cachelines: 2, members: 11 */\n"
			  "\t/* holes: 3, sum holes: 14 bytes 0 bits */\n"
			  "};\n");
	expect_definition(r->t, r->e.old,
			  "struct old {\n"
			  "\tunsigned int first:5;                           /*     0: 0     4 */\n"
			  "\tunsigned int second:5;                          /*     0: 5     4 */\n"
			  "\n"
			  "\t/* size: 4, cachelines: 1, members: 2 */\n"
			  "\t/* padding: 2 bytes 6 bits */\n"
			  "};\n");
}

static void what_is_not_a_struct_is_defined_too(void **state)
{
	const struct rig *r = *state;

	expect_definition(
		r->t, r->e.colour,
		"enum colour {\n\tRED = 0,\n\tGREEN = 5,\n\tNO_COLOUR = -1,\n\n\t/* size: 4, values: 3 */\n};\n");
	expect_definition(r->t, r->e.wide,
			  "enum wide {\n\tWIDE_LOW = 7,\n\tWIDE_HIGH = 18364758544493064720,\n\n"
			  "\t/* size: 8, values: 2 */\n};\n");
	expect_definition(r->t, r->e.u64_type, "typedef long unsigned int u64;\n\n/* size: 8 */\n");
	expect_definition(r->t, r->e.name_array, "char [16];\n\n/* size: 16 */\n");
	expect_definition(r->t, 0, "void;\n\n/* size: 0 */\n");
	assert_error(types_define(r->t, r->e.end, &(struct buf){ 0 }), ERROR_INVALID, "there is no type");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pointers_and_arrays_are_made_as_they_are_asked_for),
		TEST(what_is_no_type_is_refused),
		TEST(there_is_a_bound_to_what_is_made),
		TEST(names_are_c),
		TEST(declarators_nest),
		TEST(a_struct_is_defined_with_its_places_and_holes),
		TEST(what_is_not_a_struct_is_defined_too),
	};

	return cmocka_run_group_tests_name("types_text", tests, NULL, NULL);
}
