// SPDX-License-Identifier: GPL-2.0-or-later
#include "warm/image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "warm/internal.h"
#include "warm/memory_file.h"
#include "warm/touched.h"

static struct image *create_empty(void)
{
	struct image *image = calloc(1, sizeof(*image));

	if (image)
		image->memory_fd = image->directory = -1;
	return image;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	if (image->memory_fd >= 0)
		close(image->memory_fd);
	if (image->directory >= 0)
		close(image->directory);
	buf_deinit(&image->touched);
	buf_deinit(&image->bytes);
	free(image);
}

static void image_cleanup(struct image **image)
{
	image_close(*image);
}

/* --- of a machine --- */

struct error *image_create(const char *dir, const struct buf parts[IMAGE_SECTIONS],
			   const struct guest_memory *memory, struct image **ret)
{
	CLEANUP(image_cleanup)
	struct image *image = create_empty();
	CLEANUP(buf_deinit)
	struct buf sums = BUF_INIT;

	if (!image)
		return error_no_memory();

	struct error *err = memory_file_create(dir, memory->size, &image->memory_fd);

	if (!err)
		err = memory_file_store(image->memory_fd, dir, memory, &sums);
	if (!err)
		err = state_file_build(parts, memory->size, &sums, &image->bytes);
	if (!err)
		err = state_file_parse(image->bytes.data, image->bytes.size, &image->parsed);
	if (err)
		return err;
	*ret = no_free(image);
	return NULL;
}

/* --- of a directory --- */

/* Neither a link nor a FIFO that would be waited for. */
static struct error *open_file(int directory, const char *name, int *ret, struct stat *st)
{
	CLEANUP_CLOSE int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return error_create(ERROR_NOT_FOUND, "it has no file '%s'", name);
	if (fd < 0 && errno != ELOOP && errno != ENXIO)
		return error_create_errno("cannot open '%s'", name);
	if (fd < 0 || fstat(fd, st) < 0 || !S_ISREG(st->st_mode))
		return error_create(ERROR_FORMAT, "'%s' is not a regular file", name);
	*ret = no_close(fd);
	return NULL;
}

static struct error *read_all(int fd, size_t size, struct buf *out)
{
	buf_put_zero(out, size);

	struct error *err = buf_check(out);

	for (size_t at = 0; !err && at < size;) {
		ssize_t n = read(fd, out->data + at, size - at);

		if (n < 0 && errno != EINTR)
			err = error_create_errno("cannot read '" IMAGE_STATE "'");
		if (n == 0)
			err = error_create(ERROR_FORMAT, "'" IMAGE_STATE "' is cut short");
		if (n > 0)
			at += (size_t)n;
	}
	return err;
}

static struct error *read_state(int directory, struct image *image)
{
	CLEANUP_CLOSE int fd = -1;
	struct stat st = { 0 };
	struct error *err = open_file(directory, IMAGE_STATE, &fd, &st);

	if (err)
		return err;
	if (st.st_size > STATE_MAX)
		return error_create(ERROR_FORMAT, "'" IMAGE_STATE "' has %lld bytes, which no machine's has",
				    (long long)st.st_size);
	err = read_all(fd, (size_t)st.st_size, &image->bytes);
	if (err)
		return err;
	return error_with_context(state_file_parse(image->bytes.data, image->bytes.size, &image->parsed),
				  "'" IMAGE_STATE "' is damaged");
}

static struct error *check_memory(int directory, const struct image *image)
{
	char line[CHECKED_MAX];
	// From before the look: what is changed meanwhile makes another line. Its size is in it, too.
	bool told = checked_line(image, image->memory_fd, line);

	if (told && checked_is(directory, line))
		return NULL;

	struct error *err = image_verify(image);

	if (!err && told)
		checked_write(directory, line);
	return err;
}

/* A longer one is none that we have written. */
static void read_touched(int directory, struct buf *out)
{
	buf_put_zero(out, TOUCHED_MAX + 1);
	out->size = out->failed ? 0 : hint_read(directory, IMAGE_TOUCHED, out->data, TOUCHED_MAX + 1);
}

struct error *image_open(const char *path, struct image **ret)
{
	// What somebody removes from now on is either still there or missing, but never another image's.
	CLEANUP_CLOSE int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0 && (errno == ENOENT || errno == ENOTDIR))
		return error_create(ERROR_NOT_FOUND, "there is no saved machine '%s'", path);
	if (directory < 0)
		return error_create_errno("cannot open the saved machine '%s'", path);

	CLEANUP(image_cleanup)
	struct image *image = create_empty();

	if (!image)
		return error_no_memory();

	struct stat st;
	struct error *err = read_state(directory, image);

	if (!err)
		err = open_file(directory, IMAGE_MEMORY, &image->memory_fd, &st);
	if (!err)
		err = check_memory(directory, image);
	if (err)
		return error_with_context(err, "saved machine '%s'", path);
	read_touched(directory, &image->touched);
	image->directory = no_close(directory);
	*ret = no_free(image);
	return NULL;
}

/* --- what it is --- */

struct error *image_verify(const struct image *image)
{
	struct stat st;

	if (fstat(image->memory_fd, &st) < 0)
		return error_create_errno("cannot look at its memory");
	if ((u64)st.st_size != image->parsed.memory_size)
		return error_create(ERROR_FORMAT, "its memory has %lld bytes and should have %llu",
				    (long long)st.st_size, (unsigned long long)image->parsed.memory_size);
	return memory_file_verify(image->memory_fd, &image->parsed);
}

const void *image_section(const struct image *image, enum image_section section, size_t *size)
{
	*size = image->parsed.parts[section].size;
	return image->parsed.parts[section].data;
}

const void *image_touched(const struct image *image, size_t *size)
{
	*size = image->touched.size;
	return image->touched.data;
}

int image_touched_directory(const struct image *image)
{
	if (image->touched.size || image->directory < 0)
		return -1;
	return fcntl(image->directory, F_DUPFD_CLOEXEC, 0);
}

void image_write_touched(int directory, const void *data, size_t size)
{
	hint_write(directory, IMAGE_TOUCHED, data, size);
}

int image_memory_fd(const struct image *image)
{
	return image->memory_fd;
}

u64 image_memory_size(const struct image *image)
{
	return image->parsed.memory_size;
}

u64 image_disk_size(const struct image *image)
{
	// The state's own blocks: what it is named by may have gone, or be of another file system.
	u64 state = ALIGN_UP((u64)image->bytes.size, 4096);
	struct stat st;

	return fstat(image->memory_fd, &st) < 0 ? state : state + (u64)st.st_blocks * 512;
}
