/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A temporary directory for tests that open files, as cmocka's setup and teardown.
 * Depends on cmocka and base/buf.h; included after cmocka.h.
 * The teardown fails when a test left a file behind that it does not know of.
 */
#ifndef TESTS_CORE_IMAGE_FILES_H
#define TESTS_CORE_IMAGE_FILES_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

struct test_dir {
	char path[64];
	char file[96]; /* a name in it */
};

static inline int test_dir_setup(void **state)
{
	struct test_dir *d = calloc(1, sizeof(*d));

	strcpy(d->path, "/tmp/ktstr-image-XXXXXX");
	if (!mkdtemp(d->path))
		return -1;
	*state = d;
	return 0;
}

static inline int test_dir_teardown(void **state)
{
	struct test_dir *d = *state;
	int failed = rmdir(d->path);

	if (failed)
		print_error("%s is not empty\n", d->path);
	free(d);
	return failed;
}

static inline const char *test_dir_file(struct test_dir *d, const char *name)
{
	snprintf(d->file, sizeof(d->file), "%s/%s", d->path, name);
	return d->file;
}

/* A file of that name with the first size bytes, mode 0644. The path is d->file. */
static inline const char *test_dir_write(struct test_dir *d, const char *name, const void *data,
					 size_t size)
{
	int fd = open(test_dir_file(d, name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
	return d->file;
}

static inline void test_dir_remove(struct test_dir *d, const char *name)
{
	assert_int_equal(unlink(test_dir_file(d, name)), 0);
}

#endif
