// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "warm/internal.h"
#include "warm/memory_file.h"

/* A directory that is being filled. Its lock says that somebody is at it; who finds it free may remove it. */
struct draft {
	char path[PATH_MAX];
	int fd;
};

enum { TRIES = 100 };

static void draft_discard(struct draft *d)
{
	if (d->fd >= 0) {
		unlinkat(d->fd, IMAGE_CHECKED, 0);
		unlinkat(d->fd, IMAGE_STATE, 0);
		unlinkat(d->fd, IMAGE_MEMORY, 0);
		rmdir(d->path);
	}
}

static void draft_deinit(struct draft *d)
{
	if (d->fd >= 0)
		close(d->fd);
}

static bool is_at(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/*
 * False: somebody who cleans up was faster than the lock. Where directories cannot be locked nobody finds a lock free,
 * so nobody cleans up.
 */
static bool draft_lock(const struct draft *d)
{
	return (flock(d->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) && is_at(d->fd, d->path);
}

/* Its path ends in XXXXXX, which are replaced. Its fd stays -1 when it has gone at once. */
static struct error *draft_try(struct draft *d)
{
	if (!mkdtemp(d->path))
		return error_create_errno("cannot make a directory '%s'", d->path);
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (d->fd < 0 && errno != ENOENT) {
		struct error *err = error_create_errno("cannot open the new directory '%s'", d->path);

		rmdir(d->path);
		return err;
	}
	if (d->fd >= 0 && !draft_lock(d)) {
		close(d->fd);
		d->fd = -1;
	}
	return NULL;
}

static struct error *draft_create(struct draft *d, const char *path)
{
	for (u32 i = 0; i < TRIES; i++) {
		int n = snprintf(d->path, sizeof(d->path), "%s.tmp-XXXXXX", path);

		if (n < 0 || (size_t)n >= sizeof(d->path))
			return error_create(ERROR_INVALID, "a name of %zu bytes is too long", strlen(path));

		struct error *err = draft_try(d);

		if (err || d->fd >= 0)
			return err;
	}
	return error_create(ERROR_OS, "every directory made beside '%s' was removed at once", path);
}

static struct error *copy_memory(const struct image *image, const struct draft *d, int *ret)
{
	CLEANUP_CLOSE int to = openat(d->fd, IMAGE_MEMORY, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0400);

	if (to < 0)
		return error_create_errno("cannot make '%s/" IMAGE_MEMORY "'", d->path);

	struct error *err = memory_file_copy(image->memory_fd, &image->parsed, to, d->path);

	if (!err)
		*ret = no_close(to);
	return err;
}

/* The same file under another name. In memory, or of another file system: a copy. */
static struct error *put_memory(const struct image *image, const struct draft *d, int *ret)
{
	char self[64];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", image->memory_fd);
	if (linkat(AT_FDCWD, self, d->fd, IMAGE_MEMORY, AT_SYMLINK_FOLLOW) != 0)
		return copy_memory(image, d, ret);
	*ret = fcntl(image->memory_fd, F_DUPFD_CLOEXEC, 0);
	return *ret < 0 ? error_create_errno("cannot open '%s/" IMAGE_MEMORY "'", d->path) : NULL;
}

static struct error *put_state(const struct image *image, const struct draft *d)
{
	CLEANUP_CLOSE int fd = openat(d->fd, IMAGE_STATE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);

	for (size_t at = 0; fd >= 0 && at < image->bytes.size;) {
		ssize_t n = write(fd, image->bytes.data + at, image->bytes.size - at);

		if (n < 0 && errno != EINTR)
			return error_create_errno("cannot write '%s/" IMAGE_STATE "'", d->path);
		if (n > 0)
			at += (size_t)n;
	}
	return fd < 0 ? error_create_errno("cannot make '%s/" IMAGE_STATE "'", d->path) : NULL;
}

// The memory's name is among what makes its ctime, so the hint comes last.
static struct error *draft_fill(const struct image *image, const struct draft *d)
{
	CLEANUP_CLOSE int memory = -1;
	char line[CHECKED_MAX];
	struct error *err = put_memory(image, d, &memory);

	if (!err)
		err = put_state(image, d);
	if (!err && checked_line(image, memory, line))
		checked_write(d->fd, line);
	return err;
}

static struct error *draft_name(const struct draft *d, const char *path)
{
	int failed = renameat2(AT_FDCWD, d->path, AT_FDCWD, path, RENAME_NOREPLACE);

	// A file system without that flag. Of a directory's name, rename() replaces empty directories only.
	if (failed && errno == EINVAL)
		failed = rename(d->path, path);
	if (!failed)
		return NULL;
	if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR)
		return error_create(ERROR_BUSY, "there is a '%s' already", path);
	return error_create_errno("cannot rename '%s' to '%s'", d->path, path);
}

struct error *image_publish(struct image *image, const char *path)
{
	CLEANUP(draft_deinit)
	struct draft draft = { .fd = -1 };

	if (!*path || path[strlen(path) - 1] == '/')
		return error_create(ERROR_INVALID, "'%s' is no name for a saved machine", path);

	struct error *err = draft_create(&draft, path);

	if (!err)
		err = draft_fill(image, &draft);
	if (!err)
		err = draft_name(&draft, path);
	if (err)
		draft_discard(&draft);
	return err;
}
