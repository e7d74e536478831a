// SPDX-License-Identifier: GPL-2.0-or-later
/* Types kept in a file, and used by several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/mman.h>

#define CHECK(condition) assert_true(condition)

#include "core/btf_walk.h"
#include "core/types_rig.h"
#include "kernel/types.h"

/* --- the file --- */

static int written(const struct types *t)
{
	int fd = memfd_create("types", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_no_error(types_write(t, fd));
	return fd;
}

static void what_was_written_is_the_same_when_it_is_opened(void **state)
{
	const struct rig *r = *state;
	struct types *opened, *split;
	struct split s;
	struct every e = r->e;
	struct buf split_blob = build_split(&e, &s);
	int fd = written(r->t);

	assert_no_error(types_open(fd, &opened));
	close(fd);
	assert_int_equal(types_end(opened), r->e.end);
	walk_types(opened);
	for (u32 id = 0; id < r->e.end; id++) {
		struct buf before = BUF_INIT, after = BUF_INIT;

		if (id == r->e.decl_tag)
			continue;
		assert_no_error(types_define(r->t, id, &before));
		assert_no_error(types_define(opened, id, &after));
		assert_int_equal(before.size, after.size);
		assert_memory_equal(before.data, after.data, after.size);
		buf_deinit(&before);
		buf_deinit(&after);
	}
	expect_names(opened, "struct t", 2, "struct thing,u64,");
	expect_found(opened, "u64", r->e.u64_type);
	assert_int_equal(types_find_variable(opened, "counter"), r->e.u64_type);
	/* It may be a base. */
	assert_no_error(types_create(split_blob.data, split_blob.size, opened, &split));
	assert_int_equal(info_of(split, s.mode).flags, 0);
	expect_found(split, "struct part", s.part);
	walk_types(split);
	types_destroy(split);
	types_destroy(opened);
	buf_deinit(&split_blob);
}

static void a_split_is_not_written(void **state)
{
	const struct rig *r = *state;

	assert_error(types_write(r->split, -1), ERROR_INVALID, "without their base");
	assert_error(types_write(r->t, -1), ERROR_OS, "cannot write the types");
}

static void a_file_with_any_byte_changed_is_refused(void **state)
{
	const struct rig *r = *state;
	int fd = written(r->t);
	off_t size = lseek(fd, 0, SEEK_END);
	struct types *t;

	for (off_t i = 0; i < size; i++) {
		u8 byte, changed;

		assert_int_equal(pread(fd, &byte, 1, i), 1);
		changed = byte ^ 0x10;
		assert_int_equal(pwrite(fd, &changed, 1, i), 1);
		assert_error(types_open(fd, &t), ERROR_FORMAT, "a file of types");
		assert_int_equal(pwrite(fd, &byte, 1, i), 1);
	}
	assert_no_error(types_open(fd, &t));
	types_destroy(t);
	close(fd);
}

static void a_file_cut_anywhere_is_refused(void **state)
{
	const struct rig *r = *state;
	int fd = written(r->t);
	struct types *t;

	for (off_t size = lseek(fd, 0, SEEK_END); size-- > 0;) {
		assert_int_equal(ftruncate(fd, size), 0);
		assert_error(types_open(fd, &t), ERROR_FORMAT, "a file of types");
	}
	close(fd);
	assert_error(types_open(-1, &t), ERROR_OS, "cannot look at");
}

static void another_users_file_is_refused(void **state)
{
	const struct rig *r = *state;
	struct types *t;
	int fd = written(r->t);

	if (fchown(fd, 12345, 12345) < 0) {
		close(fd);
		print_message("skipped: only root can give a file away\n");
		skip();
	}
	assert_error(types_open(fd, &t), ERROR_FORMAT, "of user 12345");
	close(fd);
}

/* --- several at once --- */

struct job {
	const struct rig *r;
	const struct types *base;
	const struct buf *split_blob;
};

static void *use_types(void *arg)
{
	const struct job *job = arg;

	for (u32 i = 0; i < 20; i++) {
		struct types *split;
		char text[32];
		u32 id;

		snprintf(text, sizeof(text), "struct thing *[%u]", i + 1);
		assert_no_error(types_parse(job->base, text, &id));
		assert_int_equal(info_of(job->base, id).size, (i + 1) * 8);
		assert_no_error(types_create(job->split_blob->data, job->split_blob->size, job->base, &split));
		expect_found(split, "struct thing", job->r->e.thing);
		types_destroy(split);
	}
	return NULL;
}

static void threads_share_a_set(void **state)
{
	const struct rig *r = *state;
	struct every e = r->e;
	struct split s;
	struct buf split_blob = build_split(&e, &s);
	int fd = written(r->t);
	struct types *opened;
	pthread_t threads[4];

	assert_no_error(types_open(fd, &opened));
	close(fd);

	struct job job = { r, opened, &split_blob };

	for (u32 i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_types, &job), 0);
	for (u32 i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	types_destroy(opened);
	buf_deinit(&split_blob);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_written_is_the_same_when_it_is_opened),
		TEST(a_split_is_not_written),
		TEST(a_file_with_any_byte_changed_is_refused),
		TEST(a_file_cut_anywhere_is_refused),
		TEST(another_users_file_is_refused),
		TEST(threads_share_a_set),
	};

	return cmocka_run_group_tests_name("types_file", tests, NULL, NULL);
}
