// SPDX-License-Identifier: GPL-2.0-or-later
/* The closure against ldd on real programs, and rule by rule on ones made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/dynamic_builder.h"
#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "image/ldcache.h"
#include "image/needed.h"

static void put(struct test_dir *d, const char *name, const struct dynamic_options *o)
{
	struct buf b = BUF_INIT;

	build_dynamic(&b, o);
	test_dir_write(d, name, b.data, b.size);
	buf_deinit(&b);
}

static bool has(const struct needed *n, const char *path)
{
	for (size_t i = 0; i < n->count; i++)
		if (!strcmp(n->paths[i], path))
			return true;
	return false;
}

/* The closure of name is these files of the directory, in this order. */
static void expect_closure(struct test_dir *d, const char *name, const char *const *names)
{
	struct needed n;
	size_t i;

	assert_no_error(needed_find(test_dir_file(d, name), &n));
	for (i = 0; names[i]; i++) {
		assert_true(i < n.count);
		assert_string_equal(n.paths[i], test_dir_file(d, names[i]));
	}
	assert_int_equal(n.count, i);
	needed_deinit(&n);
}

#define CLOSURE(d, name, ...) expect_closure(d, name, (const char *const[]){ __VA_ARGS__ })

static void compare_with_ldd(const char *program)
{
	char command[256], line[512];
	struct needed n;
	size_t count = 0;

	if (access(program, R_OK) != 0 || system("ldd --version >/dev/null 2>&1")) {
		print_message("skipped: no %s or no ldd\n", program);
		skip();
	}
	assert_no_error(needed_find(program, &n));
	// The path of each line; not the vDSO, which has none.
	snprintf(command, sizeof(command), "ldd %s | sed -nE 's,^.*[[:space:]](/[^ ]+) .*,\\1,p'",
		 program);

	FILE *f = popen(command, "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		assert_true(has(&n, line));
		count++;
	}
	assert_int_equal(pclose(f), 0);
	assert_true(count > 0);
	assert_int_equal(n.count, count);
	needed_deinit(&n);
}

static void bash_needs_what_ldd_says(void **state)
{
	compare_with_ldd("/bin/bash");
}

static void luajit_needs_what_ldd_says(void **state)
{
	compare_with_ldd("/usr/bin/luajit");
}

static void this_test_needs_what_ldd_says(void **state)
{
	char path[256] = "";

	assert_true(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
	compare_with_ldd(path);
}

static void what_is_not_dynamic_needs_nothing(void **state)
{
	struct test_dir *d = *state;

	test_dir_write(d, "script", "#!/bin/sh\n", 10);
	CLOSURE(d, "script", NULL);
	test_dir_write(d, "empty", "", 0);
	CLOSURE(d, "empty", NULL);
	put(d, "static", &(struct dynamic_options){ 0 });
	CLOSURE(d, "static", NULL);
	test_dir_remove(d, "script");
	test_dir_remove(d, "empty");
	test_dir_remove(d, "static");
}

static void libraries_of_libraries_come_once_each_breadth_first(void **state)
{
	static const char *const files[] = { "prog", "ld.so", "liba.so", "libb.so", "libc.so" };
	struct test_dir *d = *state;
	char interpreter[96];

	strcpy(interpreter, test_dir_file(d, "ld.so"));
	put(d, "prog",
	    &(struct dynamic_options){ .interpreter = interpreter,
				       .runpath = "$ORIGIN",
				       .needed = { "liba.so", "libb.so" } });
	put(d, "ld.so", &(struct dynamic_options){ .soname = "ld-1" });
	// A circle, the loader by the name it has inside, and a name that was found before.
	put(d, "liba.so",
	    &(struct dynamic_options){ .runpath = "${ORIGIN}",
				       .needed = { "libc.so", "liba.so", "ld-1" } });
	put(d, "libb.so",
	    &(struct dynamic_options){ .soname = "libb.so.7", .needed = { "liba.so" } });
	put(d, "libc.so",
	    &(struct dynamic_options){ .runpath = "$ORIGIN",
				       .needed = { "libb.so.7", "libb.so" } });
	CLOSURE(d, "prog", "ld.so", "liba.so", "libb.so", "libc.so", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		test_dir_remove(d, files[i]);
}

static void rpath_is_inherited_and_runpath_is_not(void **state)
{
	struct test_dir *d = *state;

	put(d, "libb.so", &(struct dynamic_options){ 0 });
	put(d, "liba.so", &(struct dynamic_options){ .needed = { "libb.so" } });
	put(d, "prog",
	    &(struct dynamic_options){ .rpath = "/nowhere::$ORIGIN", .needed = { "liba.so" } });
	CLOSURE(d, "prog", "liba.so", "libb.so", NULL);

	put(d, "prog",
	    &(struct dynamic_options){ .runpath = "/nowhere:$ORIGIN", .needed = { "liba.so" } });

	struct needed n;

	assert_error(needed_find(test_dir_file(d, "prog"), &n), ERROR_NOT_FOUND,
		     "'libb.so', the library");

	// A library with a RUNPATH of its own does not look where others say.
	put(d, "prog", &(struct dynamic_options){ .rpath = "$ORIGIN", .needed = { "liba.so" } });
	put(d, "liba.so",
	    &(struct dynamic_options){ .runpath = "/nowhere", .needed = { "libb.so" } });
	assert_error(needed_find(test_dir_file(d, "prog"), &n), ERROR_NOT_FOUND, "libb.so");
	test_dir_remove(d, "prog");
	test_dir_remove(d, "liba.so");
	test_dir_remove(d, "libb.so");
}

static void lib_and_origin_stand_for_directories(void **state)
{
	struct test_dir *d = *state;

	assert_int_equal(mkdir(test_dir_file(d, "lib64"), 0755), 0);
	assert_int_equal(mkdir(test_dir_file(d, "x86_64"), 0755), 0);
	put(d, "lib64/liba.so", &(struct dynamic_options){ 0 });
	put(d, "x86_64/libb.so", &(struct dynamic_options){ 0 });
	put(d, "prog",
	    &(struct dynamic_options){ .runpath = "$ORIGIN/$LIB:$ORIGIN/${PLATFORM}",
				       .needed = { "liba.so", "libb.so" } });
	// Through a symbolic link from elsewhere, too: the file's own place counts.
	assert_int_equal(symlink("../prog", test_dir_file(d, "lib64/link")), 0);
	CLOSURE(d, "prog", "lib64/liba.so", "x86_64/libb.so", NULL);
	CLOSURE(d, "lib64/link", "lib64/liba.so", "x86_64/libb.so", NULL);
	test_dir_remove(d, "lib64/link");
	test_dir_remove(d, "lib64/liba.so");
	test_dir_remove(d, "x86_64/libb.so");
	test_dir_remove(d, "prog");
	assert_int_equal(rmdir(test_dir_file(d, "lib64")), 0);
	assert_int_equal(rmdir(test_dir_file(d, "x86_64")), 0);
}

static void a_name_with_a_slash_is_a_path(void **state)
{
	struct test_dir *d = *state;

	put(d, "liba.so", &(struct dynamic_options){ 0 });
	put(d, "prog", &(struct dynamic_options){ .needed = { "$ORIGIN/liba.so" } });
	CLOSURE(d, "prog", "liba.so", NULL);
	test_dir_remove(d, "prog");
	test_dir_remove(d, "liba.so");
}

static void a_library_of_another_machine_is_passed_over(void **state)
{
	struct test_dir *d = *state;
	struct needed n;

	assert_int_equal(mkdir(test_dir_file(d, "other"), 0755), 0);
	put(d, "other/liba.so", &(struct dynamic_options){ .machine = EM_AARCH64 });
	put(d, "liba.so", &(struct dynamic_options){ 0 });
	put(d, "prog",
	    &(struct dynamic_options){ .runpath = "$ORIGIN/other:$ORIGIN",
				       .needed = { "liba.so" } });
	CLOSURE(d, "prog", "liba.so", NULL);
	test_dir_remove(d, "liba.so");
	assert_error(needed_find(test_dir_file(d, "prog"), &n), ERROR_UNSUPPORTED,
		     "another machine only");
	test_dir_remove(d, "other/liba.so");
	assert_int_equal(rmdir(test_dir_file(d, "other")), 0);
	test_dir_remove(d, "prog");
}

static void nodeflib_turns_the_systems_directories_off(void **state)
{
	struct test_dir *d = *state;
	struct dynamic_options o = { .needed = { "libc.so.6" } };
	struct needed n;

	put(d, "prog", &o);
	assert_no_error(needed_find(test_dir_file(d, "prog"), &n));
	assert_true(n.count >= 1 && strstr(n.paths[0], "/libc.so.6"));
	needed_deinit(&n);
	o.no_default_dirs = true;
	put(d, "prog", &o);
	assert_error(needed_find(test_dir_file(d, "prog"), &n), ERROR_NOT_FOUND, "libc.so.6");
	test_dir_remove(d, "prog");
}

static void musls_loader_is_its_c_library(void **state)
{
	struct test_dir *d = *state;
	char interpreter[96];

	strcpy(interpreter, test_dir_file(d, "ld-musl-x86_64.so.1"));
	put(d, "ld-musl-x86_64.so.1", &(struct dynamic_options){ 0 });
	put(d, "prog",
	    &(struct dynamic_options){ .interpreter = interpreter,
				       .needed = { "libc.so", "libm.so.6", "libpthread.so.0" } });
	CLOSURE(d, "prog", "ld-musl-x86_64.so.1", NULL);
	test_dir_remove(d, "prog");
	test_dir_remove(d, "ld-musl-x86_64.so.1");
}

static void an_object_file_needs_nothing_whatever_it_is_for(void **state)
{
	static const u16 machines[] = { EM_BPF, EM_X86_64, EM_AARCH64 };
	struct test_dir *d = *state;
	struct needed n;

	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
		put(d, "scx.bpf.o",
		    &(struct dynamic_options){ .machine = machines[i], .type = ET_REL, .needed = { "libc.so.6" } });
		assert_no_error(needed_find(test_dir_file(d, "scx.bpf.o"), &n));
		assert_int_equal(n.count, 0);
		needed_deinit(&n);
	}
	test_dir_remove(d, "scx.bpf.o");
}

static void what_is_missing_or_wrong_is_named(void **state)
{
	struct test_dir *d = *state;
	struct needed n;

	assert_error(needed_find("/nonexistent", &n), ERROR_NOT_FOUND, "'/nonexistent'");
	assert_error(needed_find("/etc", &n), ERROR_INVALID, "'/etc' is a directory");
	put(d, "prog", &(struct dynamic_options){ .needed = { "libnothing.so.1" } });
	assert_error(needed_find(test_dir_file(d, "prog"), &n), ERROR_NOT_FOUND,
		     "'libnothing.so.1', the library that '/tmp/");
	put(d, "prog", &(struct dynamic_options){ .interpreter = "/nonexistent/ld.so" });
	assert_error(needed_find(test_dir_file(d, "prog"), &n), ERROR_NOT_FOUND,
		     "'/nonexistent/ld.so', the interpreter that '/tmp/");
	put(d, "prog", &(struct dynamic_options){ .machine = EM_AARCH64 });
	assert_error(needed_find(test_dir_file(d, "prog"), &n), ERROR_UNSUPPORTED, d->file);
	put(d, "libbad.so", &(struct dynamic_options){ 0 });
	assert_int_equal(truncate(d->file, 100), 0);
	put(d, "prog",
	    &(struct dynamic_options){ .runpath = "$ORIGIN", .needed = { "libbad.so" } });
	assert_error(needed_find(test_dir_file(d, "prog"), &n), ERROR_FORMAT, "libbad.so");
	test_dir_remove(d, "libbad.so");
	test_dir_remove(d, "prog");
}

/* Each byte of a program set to values that mean something, and each length: never a crash. */
static void any_byte_may_be_wrong(void **state)
{
	static const u8 values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
	struct test_dir *d = *state;
	struct buf b = BUF_INIT;
	u32 refused = 0;

	build_dynamic(&b, &(struct dynamic_options){ .interpreter = "/lib64/ld-linux-x86-64.so.2",
						     .runpath = "$ORIGIN/x:/lib",
						     .soname = "me",
						     .needed = { "libc.so.6" } });

	const char *path = test_dir_write(d, "prog", b.data, b.size);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	for (size_t at = 0; at < b.size; at++) {
		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			struct needed n;

			assert_int_equal(pwrite(fd, &values[i], 1, at), 1);

			struct error *err = needed_find(path, &n);

			refused += err != NULL;
			if (!err)
				needed_deinit(&n);
			error_destroy(err);
		}
		assert_int_equal(pwrite(fd, b.data + at, 1, at), 1);
	}
	for (size_t size = b.size; size-- > 0;) {
		struct needed n;

		assert_int_equal(ftruncate(fd, size), 0);

		struct error *err = needed_find(path, &n);

		refused += err != NULL;
		if (!err)
			needed_deinit(&n);
		error_destroy(err);
	}
	assert_true(refused > 500);
	close(fd);
	test_dir_remove(d, "prog");
	buf_deinit(&b);
}

/* A cache of three entries in glibc's format; the name is at the same offset in each. */
static void build_cache(struct buf *b, bool old_in_front)
{
	const u32 flags[] = { 0x0303, 0x0003, 0x0303 };
	const u64 hwcap[] = { 1ULL << 62 | 1, 0, 0 };

	if (old_in_front) {
		buf_put(b, "ld.so-1.7.0\0\1\0\0\0", 16);
		buf_put_zero(b, 12);
		buf_align(b, 8);
	}

	size_t start = b->size;

	buf_put(b, "glibc-ld.so.cache1.1", 20);
	buf_put_u32(b, 3);
	buf_put_u32(b, 0);
	buf_put_zero(b, 20);
	for (u32 i = 0; i < 3; i++) {
		u32 strings = 48 + 3 * 24;

		buf_put_u32(b, flags[i]);
		buf_put_u32(b, strings);
		buf_put_u32(b, strings + 8 + i * 3);
		buf_put_u32(b, 0);
		buf_put_u64(b, hwcap[i]);
	}
	assert_int_equal(b->size - start, 48 + 72);
	buf_put(b, "libx.so\0/0\0/1\0/2", 17);
	assert_no_error(buf_check(b));
}

static void the_cache_gives_the_library_for_every_processor(void **state)
{
	for (u32 old = 0; old < 2; old++) {
		struct buf b = BUF_INIT;

		build_cache(&b, old);
		assert_string_equal(ldcache_find(b.data, b.size, "libx.so"), "/2");
		assert_null(ldcache_find(b.data, b.size, "liby.so"));
		assert_null(ldcache_find(b.data, b.size, "libx"));
		// Cut anywhere, there is less in it, and nothing is read behind its end.
		for (size_t size = 0; size < b.size; size++) {
			u8 *copy = malloc(size ? size : 1);

			memcpy(copy, b.data, size);
			assert_null(ldcache_find(copy, size, "libx.so"));
			free(copy);
		}
		buf_deinit(&b);
	}
	assert_null(ldcache_find(NULL, 0, "libx.so"));
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bash_needs_what_ldd_says),
		cmocka_unit_test(luajit_needs_what_ldd_says),
		cmocka_unit_test(this_test_needs_what_ldd_says),
		IN_DIR(what_is_not_dynamic_needs_nothing),
		IN_DIR(libraries_of_libraries_come_once_each_breadth_first),
		IN_DIR(rpath_is_inherited_and_runpath_is_not),
		IN_DIR(lib_and_origin_stand_for_directories),
		IN_DIR(a_name_with_a_slash_is_a_path),
		IN_DIR(a_library_of_another_machine_is_passed_over),
		IN_DIR(nodeflib_turns_the_systems_directories_off),
		IN_DIR(musls_loader_is_its_c_library),
		IN_DIR(an_object_file_needs_nothing_whatever_it_is_for),
		IN_DIR(what_is_missing_or_wrong_is_named),
		IN_DIR(any_byte_may_be_wrong),
		cmocka_unit_test(the_cache_gives_the_library_for_every_processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
