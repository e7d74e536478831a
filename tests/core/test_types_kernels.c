// SPDX-License-Identifier: GPL-2.0-or-later
/* The types of stock kernels: all of them read, and their layouts as others read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sys/mman.h>

#define CHECK(condition) assert_true(condition)

#include "core/btf_walk.h"
#include "core/cached_kernels.h"
#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"
#include "kernel/types_internal.h"

static struct types *open_types(const char *path)
{
	struct kernel_image *image;
	struct types *t;

	assert_no_error(kernel_image_open(path, &image));
	assert_no_error(types_create_image(image, &t));
	kernel_image_close(image);
	return t;
}

/* For each kernel that is cached: its types. */
static void each_kernel(void **state, void (*check)(struct test_dir *d, const struct types *t))
{
	glob_t found = cached_kernels_find();

	for (size_t i = 0; i < found.gl_pathc; i++) {
		struct types *t = open_types(found.gl_pathv[i]);

		check(*state, t);
		types_destroy(t);
	}
	globfree(&found);
}

/* --- what every kernel has --- */

struct tally {
	u32 names, ambiguous;
	u32 same; /* of the name before */
	char last[BTF_MAX_NAME + 8];
};

static bool count_name(const char *name, u32 id, void *arg)
{
	struct tally *tally = arg;

	assert_true(strcmp(tally->last, name) <= 0);
	tally->same = strcmp(tally->last, name) ? 1 : tally->same + 1;
	tally->names += tally->same == 1;
	tally->ambiguous += tally->same == 2;
	strcpy(tally->last, name);
	return true;
}

static void check_numbers(struct test_dir *d, const struct types *t)
{
	struct tally tally = { 0 };
	u32 id;
	s64 value;

	types_each_from(t, "", count_name, &tally);
	print_message("%u types, %u names of them, %u ambiguous\n", types_end(t) - 1, tally.names, tally.ambiguous);
	assert_in_range(types_end(t), 50000, BTF_MAX_TYPE);
	assert_in_range(tally.ambiguous, 1, 50);
	assert_int_not_equal(types_find_variable(t, "runqueues"), 0);
	assert_int_not_equal(types_find_function(t, "schedule"), 0);
	assert_no_error(types_find_value(t, "BPF_MAP_TYPE_HASH", &id, &value));
	assert_int_equal(value, 1);
	assert_no_error(types_parse(t, "struct task_struct *", &id));
}

static void every_kernel_has_its_types(void **state)
{
	each_kernel(state, check_numbers);
}

static void check_all_types(struct test_dir *d, const struct types *t)
{
	for (u32 id = 0; id < types_end(t); id++)
		walk_type(t, id, id % 16 == 0);
}

static void every_type_of_every_kernel_can_be_read(void **state)
{
	each_kernel(state, check_all_types);
}

static void check_file(struct test_dir *d, const struct types *t)
{
	int fd = memfd_create("types", MFD_CLOEXEC);
	struct types *opened;

	assert_no_error(types_write(t, fd));
	assert_no_error(types_open(fd, &opened));
	close(fd);
	assert_int_equal(types_end(opened), types_end(t));
	assert_int_equal(opened->bytes.size, t->bytes.size);
	assert_memory_equal(opened->bytes.data, t->bytes.data, t->bytes.size);
	for (u32 id = 1; id < types_end(t); id++)
		assert_int_equal((const u8 *)types_at(t, id) - t->bytes.types,
				 (const u8 *)types_at(opened, id) - opened->bytes.types);
	assert_int_equal(types_find_function(opened, "schedule"), types_find_function(t, "schedule"));
	types_destroy(opened);
}

static void what_is_kept_in_a_file_is_the_same(void **state)
{
	each_kernel(state, check_file);
}

/* --- damage --- */

static u32 next_random(u64 *seed)
{
	*seed = *seed * 6364136223846793005 + 1442695040888963407;
	return *seed >> 32;
}

/* The last type that begins at or before that place of the blob; 0 outside the types. */
static u32 type_at_place(const struct types *t, u32 place)
{
	u32 begin = t->bytes.types - (const u8 *)t->bytes.data;
	u32 from = 0, to = t->bytes.end - t->bytes.first;

	if (place < begin || place >= begin + t->bytes.types_size)
		return 0;
	while (to - from > 1) {
		u32 middle = from + (to - from) / 2;

		if (t->bytes.offsets[middle] <= place - begin)
			from = middle;
		else
			to = middle;
	}
	return t->bytes.first + from;
}

/* What is near the change is read; the rest has not changed. */
static bool try_flipped(u8 *blob, u32 size, u32 near)
{
	struct types *t;
	struct error *err = types_create(blob, size, NULL, &t);

	if (err) {
		assert_true(error_code(err) == ERROR_FORMAT || error_code(err) == ERROR_UNSUPPORTED);
		error_destroy(err);
		return false;
	}
	for (u32 id = near; id < near + 3 && id < types_end(t); id++)
		walk_type(t, id, true);
	types_destroy(t);
	return true;
}

static void a_thousand_flipped_bits_are_errors_or_harmless(void **state)
{
	enum { FLIPS = 1000 };
	glob_t found = cached_kernels_find();
	struct types *t = open_types(found.gl_pathv[found.gl_pathc - 1]);
	u32 size = t->bytes.size, refused = 0;
	u8 *blob = malloc(size);
	u64 seed = 0x5eed;

	memcpy(blob, t->bytes.data, size);
	for (u32 i = 0; i < FLIPS; i++) {
		u32 place = next_random(&seed) % size;
		u8 bit = 1 << next_random(&seed) % 8;

		blob[place] ^= bit;
		refused += !try_flipped(blob, size, type_at_place(t, place));
		blob[place] ^= bit;
	}
	print_message("%u of %u refused\n", refused, FLIPS);
	assert_in_range(refused, FLIPS / 10, FLIPS - 1);
	free(blob);
	types_destroy(t);
	globfree(&found);
}

/* --- what others read in it --- */

static const char *const compared[] = { "task_struct", "rq", "cfs_rq", "sched_entity", "mm_struct" };

static void put_text(void *out, const char *fmt, va_list args)
{
	vfprintf(out, fmt, args);
}

/* The C that libbpf makes of those structs and of all that they need. */
static void put_definitions(const struct types *t, FILE *out)
{
	struct btf_dump *dump = btf_dump__new(t->btf, put_text, out, NULL);

	assert_non_null(dump);
	fprintf(out, "#include <stddef.h>\n#include <stdio.h>\n#include <string.h>\n");
	for (u32 i = 0; i < ARRAY_SIZE(compared); i++) {
		s32 id = btf__find_by_name_kind(t->btf, compared[i], BTF_KIND_STRUCT);

		assert_true(id > 0);
		assert_int_equal(btf_dump__dump_type(dump, id), 0);
	}
	btf_dump__free(dump);
}

/* One line a member: the compiler's offset and size, and ours. */
static u32 put_questions(const struct types *t, const char *name, u32 id, u64 base, FILE *out)
{
	struct type_info info, of;
	u32 count = 0;

	assert_no_error(types_info(t, id, &info));
	for (u32 i = 0; i < info.count; i++) {
		struct type_member m;

		assert_no_error(types_get_member(t, info.id, i, &m));
		assert_no_error(types_info(t, m.type, &of));
		m.offset += base;
		if (!*m.name)
			count += put_questions(t, name, of.id, m.offset, out);
		else if (m.bits)
			fprintf(out, "BITS(struct %s, %s, %llu, %u);\n", name, m.name, (unsigned long long)m.offset,
				m.bits);
		else if (of.size)
			fprintf(out, "MEMBER(struct %s, %s, %llu, %llu);\n", name, m.name,
				(unsigned long long)m.offset / 8, (unsigned long long)of.size);
		else
			fprintf(out, "PLACE(struct %s, %s, %llu);\n", name, m.name,
				(unsigned long long)m.offset / 8);
		count += *m.name != 0;
	}
	return count;
}

static const char macros[] =
	"static int bad;\n"
	"static void same(const char *what, size_t theirs, size_t ours)\n"
	"{ if (theirs != ours) { printf(\"%s: %zu, here %zu\\n\", what, theirs, ours); bad = 1; } }\n"
	"#define PLACE(s, m, at) same(#s \".\" #m, offsetof(s, m), at)\n"
	"#define MEMBER(s, m, at, size) (PLACE(s, m, at), same(\"size of \" #s \".\" #m, sizeof(((s *)0)->m), "
	"size))\n"
	"#define BITS(s, m, at, n) do { static union { s x; unsigned char bytes[sizeof(s)]; } u;"
	" size_t first = 0, c = 0;"
	" memset(&u, 0, sizeof(u)); u.x.m = -1;"
	" for (size_t i = 0; i < sizeof(s) * 8; i++) if (u.bytes[i / 8] >> i % 8 & 1) { if (!c++) first = i; }"
	" same(#s \".\" #m, first, at); same(\"bits of \" #s \".\" #m, c, n); } while (0)\n"
	"int main(void)\n{\n";

static void check_against_compiler(struct test_dir *d, const struct types *t)
{
	char source[128], program[128], command[512];
	u32 count = 0;

	strcpy(source, test_dir_file(d, "layouts.c"));
	strcpy(program, test_dir_file(d, "layouts"));

	FILE *out = fopen(source, "we");

	assert_non_null(out);
	put_definitions(t, out);
	fputs(macros, out);
	for (u32 i = 0; i < ARRAY_SIZE(compared); i++) {
		char name[64];
		struct type_info info;
		u32 id;

		snprintf(name, sizeof(name), "struct %s", compared[i]);
		assert_no_error(types_parse(t, name, &id));
		assert_no_error(types_info(t, id, &info));
		fprintf(out, "same(\"%s\", sizeof(%s), %llu);\n", name, name, (unsigned long long)info.size);
		count += put_questions(t, compared[i], id, 0, out);
	}
	fputs("return bad;\n}\n", out);
	assert_int_equal(fclose(out), 0);
	snprintf(command, sizeof(command), "gcc -w -std=gnu11 -o %s %s && %s", program, source, program);
	assert_int_equal(system(command), 0);
	assert_in_range(count, 300, 2000);
	print_message("%u members compared\n", count);
	test_dir_remove(d, "layouts.c");
	test_dir_remove(d, "layouts");
}

static void layouts_are_those_of_the_c_that_libbpf_makes_of_them(void **state)
{
	each_kernel(state, check_against_compiler);
}

/* A member's line of pahole: where it is. False for its other lines. */
static bool read_place(const char *line, u64 *offset, u64 *size)
{
	const char *comment = NULL;
	unsigned long long a, b, c;

	for (const char *s = line; (s = strstr(s, "/*")); s++)
		comment = s;
	/* Members of members are further in. */
	if (!comment || line[0] != '\t' || line[1] == '\t' || line[1] == '/')
		return false;
	if (sscanf(comment, "/* %llu:%llu %llu */", &a, &b, &c) == 3) {
		*offset = a * 8 + b;
		*size = c;
		return true;
	}
	if (sscanf(comment, "/* %llu %llu */", &a, &b) != 2)
		return false;
	*offset = a * 8;
	*size = b;
	return true;
}

struct comparison {
	const struct types *t;
	u32 id, index; /* of the struct that is being read, and of its next member; id 0: none */
	u32 structs, members;
};

static void compare_line(struct comparison *c, const char *line)
{
	char name[256];
	u32 ids[2];
	u64 offset, size;
	struct type_info info, of;
	struct type_member m;

	if (sscanf(line, "struct %255s {", name) == 1 || sscanf(line, "union %255s {", name) == 1) {
		char full[300];

		snprintf(full, sizeof(full), "%s %s", line[0] == 's' ? "struct" : "union", name);
		/* Of an ambiguous name one is printed, and nobody knows which. */
		c->id = types_find(c->t, full, ids, 2) == 1 ? ids[0] : 0;
		c->index = 0;
	} else if (c->id && line[0] == '}') {
		assert_no_error(types_info(c->t, c->id, &info));
		assert_int_equal(c->index, info.count);
		c->structs++;
		c->id = 0;
	} else if (c->id && read_place(line, &offset, &size)) {
		assert_no_error(types_get_member(c->t, c->id, c->index++, &m));
		assert_no_error(types_info(c->t, m.type, &of));
		if (!strstr(line, m.name) || m.offset != offset || of.size != size)
			fail_msg("type %u: %s is at bit %llu, with %llu bytes; pahole: %s", c->id, m.name,
				 (unsigned long long)m.offset, (unsigned long long)of.size, line);
		c->members++;
	}
}

static void check_against_pahole(struct test_dir *d, const struct types *t)
{
	struct comparison c = { .t = t };
	char command[256], line[4096];

	snprintf(command, sizeof(command), "pahole -F btf %s 2>/dev/null",
		 test_dir_write(d, "kernel.btf", t->bytes.data, t->bytes.size));

	FILE *pahole = popen(command, "re");

	assert_non_null(pahole);
	while (fgets(line, sizeof(line), pahole))
		compare_line(&c, line);
	assert_int_equal(pclose(pahole), 0);
	assert_in_range(c.structs, 5000, 50000);
	print_message("%u structs with %u members compared\n", c.structs, c.members);
	test_dir_remove(d, "kernel.btf");
}

static void layouts_are_those_that_pahole_prints(void **state)
{
	if (system("pahole --version >/dev/null 2>&1") != 0) {
		print_message("skipped: no pahole (package dwarves)\n");
		skip();
	}
	each_kernel(state, check_against_pahole);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_kernel_has_its_types),
		TEST(every_type_of_every_kernel_can_be_read),
		TEST(what_is_kept_in_a_file_is_the_same),
		TEST(a_thousand_flipped_bits_are_errors_or_harmless),
		TEST(layouts_are_those_of_the_c_that_libbpf_makes_of_them),
		TEST(layouts_are_those_that_pahole_prints),
	};

	return cmocka_run_group_tests_name("types_kernels", tests, NULL, NULL);
}
