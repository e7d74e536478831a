// SPDX-License-Identifier: GPL-2.0-or-later
/* Source lines: what the compiler says of a file that the test has it compile, and files that are no good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "core/kvm_fixture.h"
#include "core/lines_files.h"
#include "kernel/lines.h"

static struct lines *opened(const char *path)
{
	struct lines *l = NULL;

	assert_no_error(lines_open(path, NULL, 0, &l));
	return l;
}

static void refused(const char *path, const void *id, size_t id_size, enum error_code code, const char *text)
{
	struct lines *l;
	struct error *err = lines_open(path, id, id_size, &l);

	assert_non_null(err);
	assert_non_null(strstr(error_message(err), path));
	assert_error(err, code, text);
}

static void assert_place(const struct line_place *p, const char *function, const char *file, u32 line)
{
	assert_string_equal(p->function, function);
	assert_string_equal(p->file, file);
	assert_int_equal(p->line, line);
	assert_true(p->column > 0);
}

/* The address of every instruction that a label is before, and where it is from. */
static void check_all(const char *path)
{
	struct line_place places[LINE_PLACES];
	struct lines *l = opened(path);
	u32 count;

	assert_no_error(lines_find(l, label(path, "in_plain"), places, &count));
	assert_int_equal(count, 1);
	assert_place(&places[0], "plain", "kernel/sched/made.c", LINE_PLAIN);

	assert_no_error(lines_find(l, label(path, "in_inner"), places, &count));
	assert_int_equal(count, 3);
	assert_place(&places[0], "inner", "include/made.h", LINE_INNER);
	assert_place(&places[1], "middle", "kernel/sched/made.c", LINE_MIDDLE);
	assert_place(&places[2], "outer", "kernel/sched/made.c", LINE_OUTER);

	assert_no_error(lines_find(l, label(path, "in_init"), places, &count));
	assert_int_equal(count, 1);
	assert_place(&places[0], "start_kernel", "init/main.c", LINE_INIT);
	lines_close(l);
}

static void lines_and_inlined_calls_are_found(void **state)
{
	static const char *const kinds[] = {
		"-gdwarf-4",
		"-gdwarf-5",
		"-gdwarf-5 -Wl,--compress-debug-sections=zlib",
		"-gdwarf-4 -Wl,--compress-debug-sections=zlib-gnu",
		"-gdwarf-5 -fdebug-types-section",
		"-gdwarf-5 -gdwarf64",
	};

	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		print_message("%s\n", kinds[i]);
		check_all(compile(*state, kinds[i]));
	}
}

static void what_has_no_column_says_0(void **state)
{
	const char *path = compile(*state, "-gdwarf-5 -gno-column-info");
	struct line_place places[LINE_PLACES];
	struct lines *l = opened(path);
	u32 count;

	assert_no_error(lines_find(l, label(path, "in_plain"), places, &count));
	assert_int_equal(count, 1);
	assert_int_equal(places[0].line, LINE_PLAIN);
	assert_int_equal(places[0].column, 0);
	lines_close(l);
}

static void a_tree_elsewhere_is_found_by_its_init(void **state)
{
	// Compiled from another directory, as of a kernel with O=: names lead out of it, and back.
	check_all(compile_from(*state, "build/deep", "../../", "-gdwarf-5"));
	check_all(compile_from(*state, "build/deep", "../.././", "-gdwarf-4"));
	check_all(compile_from(*state, ".", "kernel/../", "-gdwarf-5"));
}

/* As Debian's 6.1 is: what the compiler leaves out of names the assembler does not. */
static void a_tree_whose_place_is_left_out_is_the_assemblers_too(void **state)
{
	const char *path = compile_mapped(*state);
	struct line_place places[LINE_PLACES];
	u32 count;

	check_all(path);

	struct lines *l = opened(path);

	assert_no_error(lines_find(l, label(path, "in_assembler"), places, &count));
	assert_int_equal(count, 1);
	assert_string_equal(places[0].file, "lib/bare.S");
	assert_int_equal(places[0].line, LINE_ASSEMBLER);
	lines_close(l);
}

static void an_address_of_no_line_has_none(void **state)
{
	const char *path = compile(*state, "-gdwarf-5");
	struct line_place places[LINE_PLACES];
	struct lines *l = opened(path);
	const u64 addresses[] = { 0, 1, label(path, "in_assembler"), label(path, "_end") + 0x100000, UINT64_MAX };

	for (u32 i = 0; i < ARRAY_SIZE(addresses); i++) {
		u32 count = 9;

		assert_no_error(lines_find(l, addresses[i], places, &count));
		assert_int_equal(count, 0);
	}
	lines_close(l);
}

/* As functions are that gcc has made of others with the same code, and weak ones of top-level assembly. */
static void code_of_no_known_function_has_its_line_but_a_gap_has_none(void **state)
{
	static const char *const kinds[] = { "-gdwarf-4", "-gdwarf-5" };

	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct line_place places[LINE_PLACES];
		char flags[64];
		u32 count;

		snprintf(flags, sizeof(flags), "%s -fno-toplevel-reorder kernel/bare.c", kinds[i]);

		const char *path = compile(*state, flags);
		struct lines *l = opened(path);

		for (u64 at = 0; at < 2; at++) {
			assert_no_error(lines_find(l, label(path, "in_bare") + at, places, &count));
			assert_int_equal(count, 1);
			assert_place(&places[0], "", "kernel/bare.c", LINE_BARE);
		}
		assert_no_error(lines_find(l, label(path, "in_gap"), places, &count));
		assert_int_equal(count, 0);
		lines_close(l);
	}
}

/* More source files than are kept at a time, asked for round and round: each answer is the right one. */
static void many_files_are_read_again(void **state)
{
	const char *path = compile_many(*state, MANY);
	struct line_place places[LINE_PLACES];
	struct lines *l = opened(path);
	char name[32], file[32];
	u32 count;

	for (u32 i = 0; i < 3 * MANY; i++) {
		u32 n = i * 7 % MANY;

		snprintf(name, sizeof(name), "many_%u", n);
		snprintf(file, sizeof(file), "many_%u.c", n);
		assert_no_error(lines_find(l, label(path, name), places, &count));
		assert_int_equal(count, 1);
		assert_string_equal(places[0].function, name);
		assert_string_equal(strrchr(places[0].file, '/') + 1, file);
		assert_int_equal(places[0].line, n + 1);
	}
	lines_close(l);
}

static void another_build_is_refused(void **state)
{
	static const u8 other[20] = { 0xab, 0xcd };
	const char *path = compile(*state, "-gdwarf-5 -Wl,--build-id=0x0123456789abcdef0123456789abcdef01234567");
	static const u8 own[20] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23,
				    0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67 };
	struct lines *l;

	assert_no_error(lines_open(path, own, sizeof(own), &l));
	lines_close(l);
	refused(path, other, sizeof(other), ERROR_UNSUPPORTED, "its build ID is 0123456789abcdef");
	refused(path, other, sizeof(other), ERROR_UNSUPPORTED, "the kernel's is abcd00");
	refused(path, own, sizeof(own) - 1, ERROR_UNSUPPORTED, "of another build");
	refused(compile(*state, "-gdwarf-5 -Wl,--build-id=none"), own, sizeof(own), ERROR_UNSUPPORTED, "no build ID");
}

static void what_is_no_vmlinux_with_dwarf_is_refused(void **state)
{
	char text[PATH_MAX];

	refused("/no/such/vmlinux", NULL, 0, ERROR_NOT_FOUND, "no such file");
	refused("/dev/null", NULL, 0, ERROR_FORMAT, "no regular file");
	refused("/", NULL, 0, ERROR_FORMAT, "no regular file");
	snprintf(text, sizeof(text), "%s/include/made.h", ((struct tree *)*state)->path);
	refused(text, NULL, 0, ERROR_FORMAT, "no ELF file");
	refused(compile(*state, "-s"), NULL, 0, ERROR_UNSUPPORTED, "no debugging information");
	refused(compile(*state, "-g0"), NULL, 0, ERROR_UNSUPPORTED, "no debugging information");
	refused(compile_object(*state), NULL, 0, ERROR_UNSUPPORTED, "not linked");
}

/* What is asked of a file that has been cut or changed: it is refused, or everything has an answer. */
static bool survives(const char *path)
{
	struct line_place places[LINE_PLACES];
	struct lines *l;
	struct error *err = lines_open(path, NULL, 0, &l);
	u32 count, length = 0;

	if (err) {
		assert_true(error_code(err) == ERROR_FORMAT || error_code(err) == ERROR_UNSUPPORTED);
		error_destroy(err);
		return false;
	}
	for (u64 at = CODE_START; at < CODE_START + 0x1000; at += 4) {
		err = lines_find(l, at, places, &count);
		if (err) {
			assert_error(err, ERROR_FORMAT, "damaged");
			continue;
		}
		assert_true(count <= LINE_PLACES);
		for (u32 i = 0; i < count; i++)
			length += strlen(places[i].function) + strlen(places[i].file);
	}
	lines_close(l);
	return length > 0;
}

static void a_file_cut_short_is_refused(void **state)
{
	struct buf file = read_all(compile(*state, "-gdwarf-5"));
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/cut", ((struct tree *)*state)->path);
	for (size_t size = 0; size < file.size; size += 1 + file.size / 97) {
		write_all(path, file.data, size);
		refused(path, NULL, 0, ERROR_FORMAT, "");
	}
	buf_deinit(&file);
}

static void a_damaged_file_is_refused_or_answers(void **state)
{
	struct buf file = read_all(compile(*state, "-gdwarf-5"));
	char path[PATH_MAX];
	u32 answered = 0, seed = 1;

	snprintf(path, sizeof(path), "%s/damaged", ((struct tree *)*state)->path);
	for (u32 i = 0; i < DAMAGES; i++) {
		seed = seed * 1103515245 + 12345;

		size_t at = (seed >> 4) % file.size;
		u8 old = file.data[at];

		file.data[at] ^= (u8)(1 + i % 255);
		write_all(path, file.data, file.size);
		answered += survives(path);
		file.data[at] = old;
	}
	assert_true(answered > 0);
	buf_deinit(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_and_inlined_calls_are_found),
		cmocka_unit_test(what_has_no_column_says_0),
		cmocka_unit_test(a_tree_elsewhere_is_found_by_its_init),
		cmocka_unit_test(a_tree_whose_place_is_left_out_is_the_assemblers_too),
		cmocka_unit_test(an_address_of_no_line_has_none),
		cmocka_unit_test(code_of_no_known_function_has_its_line_but_a_gap_has_none),
		cmocka_unit_test(many_files_are_read_again),
		cmocka_unit_test(another_build_is_refused),
		cmocka_unit_test(what_is_no_vmlinux_with_dwarf_is_refused),
		cmocka_unit_test(a_file_cut_short_is_refused),
		cmocka_unit_test(a_damaged_file_is_refused_or_answers),
	};

	return cmocka_run_group_tests(tests, tree_setup, tree_teardown);
}
