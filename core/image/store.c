// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
	BLOCK_SIZE = 4096,
	HOLE_MIN = 256 << 10, /* each hole costs whoever maps the file two system calls */
	NAME_TRIES = 100,
	FILE_MODE = 0444, /* says that nobody is going to change it: it is mapped, not copied */
	PRIVATE_MODE = 0400, /* until it is complete */
};

static struct error *write_all(int fd, const u8 *data, size_t size, off_t offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(fd, data + done, size - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_create_errno("cannot write %zu bytes", size);
		done += n;
	}
	return NULL;
}

/* Bytes from pos on that are zero, in whole blocks. */
static size_t zero_run(const u8 *data, size_t size, size_t pos)
{
	static const u8 zero[BLOCK_SIZE];
	size_t start = pos;

	while (size - pos >= BLOCK_SIZE && !memcmp(data + pos, zero, BLOCK_SIZE))
		pos += BLOCK_SIZE;
	return pos - start;
}

/* Into an empty file: what is between long runs of zeros. */
static struct error *write_sparse(int fd, const u8 *data, size_t size)
{
	if (ftruncate(fd, size) < 0)
		return error_create_errno("cannot make it %zu bytes long", size);

	for (size_t start = 0, pos = 0; start < size;) {
		size_t run = pos < size ? zero_run(data, size, pos) : 0;

		if (run < HOLE_MIN && pos < size) {
			pos += run ? run : BLOCK_SIZE;
			if (pos > size)
				pos = size;
			continue;
		}

		struct error *err = write_all(fd, data + start, pos - start, start);

		if (err)
			return err;
		pos += run;
		start = pos;
	}
	return NULL;
}

struct error *store_memory(const u8 *data, size_t size, int *ret)
{
	int CLEANUP_CLOSE fd = memfd_create("vmlinux", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return error_create_errno("cannot create a memory file");

	struct error *err = write_sparse(fd, data, size);

	if (err)
		return err;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_create_errno("cannot seal a memory file");
	*ret = no_close(fd);
	return NULL;
}

static void unlink_name(char **name)
{
	if (!*name)
		return;
	unlink(*name);
	free(*name);
}

/* A name beside path for an attempt, the caller's to free; NULL when memory is short. */
static char *temporary_name(const char *path, u32 attempt)
{
	char *name;

	if (asprintf(&name, "%s.%d.%u.tmp", path, (int)getpid(), attempt) < 0)
		return NULL;
	return name;
}

/*
 * An open file without a name yet, where the file system can do that (*name stays NULL: it vanishes
 * even when the process is killed), else with a temporary one.
 */
static struct error *create_file(const char *dir, const char *path, char **name, int *ret)
{
	int fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, PRIVATE_MODE);

	for (u32 i = 0; fd < 0 && i < NAME_TRIES; i++) {
		char CLEANUP_FREE *candidate = temporary_name(path, i);

		if (!candidate)
			return error_no_memory();
		fd = open(candidate, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, PRIVATE_MODE);
		if (fd >= 0)
			*name = no_free(candidate);
		else if (errno != EEXIST)
			break;
	}
	if (fd < 0)
		return error_create_errno("cannot create '%s'", path);
	*ret = fd;
	return NULL;
}

/* Gives the nameless file a temporary name: linking does not replace, renaming does. */
static struct error *give_name(int fd, const char *path, char **name)
{
	char from[64];

	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	for (u32 i = 0; i < NAME_TRIES; i++) {
		char CLEANUP_FREE *candidate = temporary_name(path, i);

		if (!candidate)
			return error_no_memory();
		if (!linkat(AT_FDCWD, from, AT_FDCWD, candidate, AT_SYMLINK_FOLLOW)) {
			*name = no_free(candidate);
			return NULL;
		}
		if (errno != EEXIST)
			break;
	}
	return error_create_errno("cannot create '%s'", path);
}

static struct error *sync_dir(const char *dir)
{
	int CLEANUP_CLOSE fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	// Some file systems cannot sync a directory: the file is there all the same.
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		return error_create_errno("cannot write '%s' to disk", dir);
	return NULL;
}

struct error *store_written(const char *path, u32 mode, struct error *(*fill)(int fd, const void *arg), const void *arg)
{
	char CLEANUP(unlink_name) *name = NULL;
	const char *slash = strrchr(path, '/');
	char CLEANUP_FREE *dir = slash ? strndup(path, slash == path ? 1 : slash - path) :
					 strdup(".");
	int CLEANUP_CLOSE fd = -1;
	struct error *err;

	if (!dir)
		return error_no_memory();
	err = create_file(dir, path, &name, &fd);
	if (err)
		return err;
	err = fill(fd, arg);
	if (err)
		return error_with_context(err, "'%s'", path);
	// Not by the mode at creation: that goes through the umask.
	if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
		return error_create_errno("cannot write '%s' to disk", path);
	if (!name) {
		err = give_name(fd, path, &name);
		if (err)
			return err;
	}
	if (rename(name, path) < 0)
		return error_create_errno("cannot create '%s'", path);
	free(no_free(name));
	return sync_dir(dir);
}

struct bytes {
	const u8 *data;
	size_t size;
};

static struct error *fill_with_bytes(int fd, const void *arg)
{
	const struct bytes *b = arg;

	return write_sparse(fd, b->data, b->size);
}

struct error *store_file(const char *path, const u8 *data, size_t size)
{
	const struct bytes bytes = { data, size };

	return store_written(path, FILE_MODE, fill_with_bytes, &bytes);
}
