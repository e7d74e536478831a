// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/cpio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
	PATH_BYTES_MAX = 4096, /* with the NUL: Linux skips longer ones without a word */
	PERMISSION_BITS = 07777,
	IMPLICIT_DIR_MODE = 0755,
	FIRST_CAPACITY = 64,
	FIELD_ALIGN = 4,
	BLOCK_ALIGN = 512, /* what cpio programs read at a time */
	READ_CHUNK = 64 << 10,
};

/* The name of the member that ends an archive. */
#define TRAILER "TRAILER!!!"

struct cpio_entry {
	char *path; /* without a slash in front; NULL: a free place in the table */
	bool is_dir;
};

/* What the header of one member says beside its name. */
struct member {
	u32 mode, size;
	u32 rdev_major, rdev_minor;
};

void cpio_init(struct cpio *c)
{
	*c = (struct cpio){ .archive = BUF_INIT, .next_ino = 1 };
}

void cpio_deinit(struct cpio *c)
{
	for (size_t i = 0; i < c->entry_capacity; i++)
		free(c->entries[i].path);
	free(c->entries);
	buf_deinit(&c->archive);
	*c = (struct cpio){ 0 };
}

static u64 hash_path(const char *path)
{
	u64 h = 0xcbf29ce484222325;

	for (; *path; path++)
		h = (h ^ (u8)*path) * 0x100000001b3;
	return h;
}

/* The path's place in the table, or the free one where it would go. The table is never full. */
static struct cpio_entry *find_place(struct cpio_entry *entries, size_t capacity, const char *path)
{
	size_t i = hash_path(path) & (capacity - 1);

	while (entries[i].path && strcmp(entries[i].path, path) != 0)
		i = (i + 1) & (capacity - 1);
	return &entries[i];
}

static const struct cpio_entry *find(const struct cpio *c, const char *path)
{
	if (!c->entry_capacity)
		return NULL;

	const struct cpio_entry *e = find_place(c->entries, c->entry_capacity, path);

	return e->path ? e : NULL;
}

static struct error *grow(struct cpio *c)
{
	size_t capacity = c->entry_capacity ? c->entry_capacity * 2 : FIRST_CAPACITY;
	struct cpio_entry *entries = calloc(capacity, sizeof(*entries));

	if (!entries)
		return error_no_memory();
	for (size_t i = 0; i < c->entry_capacity; i++)
		if (c->entries[i].path)
			*find_place(entries, capacity, c->entries[i].path) = c->entries[i];
	free(c->entries);
	c->entries = entries;
	c->entry_capacity = capacity;
	return NULL;
}

static struct error *remember(struct cpio *c, const char *path, bool is_dir)
{
	if (c->entry_count * 2 >= c->entry_capacity) {
		struct error *err = grow(c);

		if (err)
			return err;
	}

	char *copy = strdup(path);

	if (!copy)
		return error_no_memory();
	*find_place(c->entries, c->entry_capacity, path) =
		(struct cpio_entry){ .path = copy, .is_dir = is_dir };
	c->entry_count++;
	return NULL;
}

/* path as it stands in the archive: single slashes, none at the ends. The root becomes "". */
static struct error *normalise(const char *path, char out[static PATH_BYTES_MAX])
{
	size_t n = 0;

	out[0] = '\0';
	if (!*path)
		return error_create(ERROR_INVALID, "an empty path cannot go into an initramfs");
	for (const char *p = path; *p;) {
		size_t len = strcspn(p, "/");

		if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			return error_create(
				ERROR_INVALID,
				"'%s' cannot go into an initramfs: it has '.' or '..' in it", path);
		if (n + 1 + len >= PATH_BYTES_MAX)
			return error_create(ERROR_INVALID,
					    "'%.64s...' is too long a path (%zu bytes)", path,
					    strlen(path));
		if (len) {
			if (n)
				out[n++] = '/';
			memcpy(out + n, p, len);
			n += len;
		}
		p += len + (p[len] == '/');
	}
	out[n] = '\0';
	return NULL;
}

static void put_field(struct buf *b, u32 value)
{
	char text[9];

	snprintf(text, sizeof(text), "%08x", value);
	buf_put(b, text, 8);
}

static void put_member(struct buf *b, u32 ino, const char *name, const struct member *m)
{
	size_t name_size = strlen(name) + 1;
	const u32 fields[] = {
		ino,
		m->mode,
		0, /* uid */
		0, /* gid */
		S_ISDIR(m->mode) ? 2 : 1, /* links: more than one would make it a hard link */
		0, /* time */
		m->size,
		0, /* device it is on: major, minor */
		0,
		m->rdev_major,
		m->rdev_minor,
		name_size,
		0, /* checksum: of another variant of the format */
	};

	buf_put(b, "070701", 6);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		put_field(b, fields[i]);
	buf_put(b, name, name_size);
	buf_align(b, FIELD_ALIGN);
}

/* Directories above path that are not there yet. */
static struct error *add_parents(struct cpio *c, char *path)
{
	for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		const struct member dir = { .mode = S_IFDIR | IMPLICIT_DIR_MODE };
		struct error *err = NULL;

		*slash = '\0';
		if (!find(c, path)) {
			err = remember(c, path, true);
			if (!err)
				put_member(&c->archive, c->next_ino++, path, &dir);
		}
		*slash = '/';
		if (err)
			return err;
	}
	return NULL;
}

static struct error *check_parents(const struct cpio *c, char *path)
{
	for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		struct error *err = NULL;

		*slash = '\0';

		const struct cpio_entry *e = find(c, path);

		if (e && !e->is_dir)
			err = error_create(ERROR_INVALID,
					   "'/%s' in the initramfs is not a directory", path);
		*slash = '/';
		if (err)
			return err;
	}
	return NULL;
}

/* All that can be wrong with adding path. *name: as it is to be stored. */
static struct error *check(const struct cpio *c, const char *path, u32 mode, char *name)
{
	struct error *err;

	*name = '\0';
	if (c->finished)
		return error_create(ERROR_INVALID, "'%s' comes too late: the initramfs is complete",
				    path);
	if (mode & ~(u32)PERMISSION_BITS)
		return error_create(ERROR_INVALID, "mode 0%o of '%s' is more than permission bits",
				    mode, path);
	err = normalise(path, name);
	if (err)
		return err;
	err = check_parents(c, name);
	if (err)
		return err;
	if (!*name || find(c, name))
		return error_create(ERROR_INVALID, "'/%s' is in the initramfs already", name);
	if (!strcmp(name, TRAILER))
		return error_create(ERROR_INVALID, "'%s' would end the initramfs", path);
	return NULL;
}

/* Adds a member that check() found right; data may be NULL when size is 0. */
static struct error *add(struct cpio *c, char *name, const struct member *m, const void *data)
{
	struct error *err = add_parents(c, name);

	if (err)
		return err;
	err = remember(c, name, S_ISDIR(m->mode));
	if (err)
		return err;
	put_member(&c->archive, c->next_ino++, name, m);
	buf_put(&c->archive, data, m->size);
	buf_align(&c->archive, FIELD_ALIGN);
	return buf_check(&c->archive);
}

struct error *cpio_add_file(struct cpio *c, const char *path, u32 mode, const void *data,
			    size_t size)
{
	char name[PATH_BYTES_MAX];
	struct error *err = check(c, path, mode, name);

	if (err)
		return err;
	if (size > UINT32_MAX)
		return error_create(ERROR_INVALID,
				    "'%s' is too large for an initramfs (4 GiB or more)", path);
	return add(c, name, &(struct member){ .mode = S_IFREG | mode, .size = size }, data);
}

struct error *cpio_add_dir(struct cpio *c, const char *path, u32 mode)
{
	char name[PATH_BYTES_MAX];
	struct error *err = normalise(path, name);

	if (err)
		return err;

	const struct cpio_entry *e = find(c, name);

	if (!c->finished && (!*name || (e && e->is_dir)))
		return NULL;
	err = check(c, path, mode, name);
	if (err)
		return err;
	return add(c, name, &(struct member){ .mode = S_IFDIR | mode }, NULL);
}

struct error *cpio_add_symlink(struct cpio *c, const char *path, const char *target)
{
	char name[PATH_BYTES_MAX];
	size_t size = strlen(target);
	struct error *err = check(c, path, 0777, name);

	if (err)
		return err;
	if (!size || size >= PATH_BYTES_MAX)
		return error_create(ERROR_INVALID, "the target of symbolic link '%s' is %s", path,
				    size ? "too long" : "empty");
	return add(c, name, &(struct member){ .mode = S_IFLNK | 0777, .size = size }, target);
}

struct error *cpio_add_char_device(struct cpio *c, const char *path, u32 mode, u32 major, u32 minor)
{
	char name[PATH_BYTES_MAX];
	struct error *err = check(c, path, mode, name);

	if (err)
		return err;
	return add(c, name,
		   &(struct member){
			   .mode = S_IFCHR | mode, .rdev_major = major, .rdev_minor = minor },
		   NULL);
}

/* Everything in the file, appended to ret. */
static struct error *read_to_end(int fd, const char *host, struct buf *ret)
{
	u8 CLEANUP_FREE *chunk = malloc(READ_CHUNK);

	if (!chunk)
		return error_no_memory();
	for (;;) {
		ssize_t n = read(fd, chunk, READ_CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_create_errno("cannot read '%s'", host);
		if (!n)
			return buf_check(ret);
		buf_put(ret, chunk, n);
		if (ret->size > UINT32_MAX)
			return error_create(ERROR_INVALID,
					    "'%s' is too large for an initramfs (4 GiB or more)",
					    host);
	}
}

static struct error *open_host_file(const char *host, int *ret, struct stat *st)
{
	// Not blocking: opening a FIFO must not wait for its other end.
	int CLEANUP_CLOSE fd = open(host, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return error_create(ERROR_NOT_FOUND, "there is no file '%s'", host);
	if (fd < 0 && (errno == ENXIO || errno == ENODEV))
		return error_create(ERROR_INVALID, "'%s' is not a regular file", host);
	if (fd < 0)
		return error_create_errno("cannot open '%s'", host);
	if (fstat(fd, st) < 0)
		return error_create_errno("cannot examine '%s'", host);
	if (S_ISDIR(st->st_mode))
		return error_create(ERROR_INVALID, "'%s' is a directory, not a file", host);
	if (!S_ISREG(st->st_mode))
		return error_create(ERROR_INVALID, "'%s' is not a regular file", host);
	if (st->st_size > UINT32_MAX)
		return error_create(ERROR_INVALID,
				    "'%s' is too large for an initramfs (4 GiB or more)", host);
	*ret = no_close(fd);
	return NULL;
}

static void release_buf(struct buf *b)
{
	buf_deinit(b);
}

struct error *cpio_add_host_file(struct cpio *c, const char *path, const u32 *mode,
				 const char *host)
{
	struct buf CLEANUP(release_buf) data = BUF_INIT;
	char name[PATH_BYTES_MAX];
	int CLEANUP_CLOSE fd = -1;
	struct stat before = { 0 }, after = { 0 };
	struct error *err;

	err = check(c, path, mode ? *mode : 0, name);
	if (err)
		return err;
	err = open_host_file(host, &fd, &before);
	if (err)
		return err;
	err = read_to_end(fd, host, &data);
	if (err)
		return err;
	if (fstat(fd, &after) < 0)
		return error_create_errno("cannot examine '%s'", host);
	// Files of /proc say 0 whatever is in them.
	if (after.st_mtim.tv_sec != before.st_mtim.tv_sec ||
	    after.st_mtim.tv_nsec != before.st_mtim.tv_nsec ||
	    (before.st_size && (u64)before.st_size != data.size))
		return error_create(ERROR_OS, "'%s' changed while it was read", host);

	const struct member m = {
		.mode = S_IFREG | (mode ? *mode : before.st_mode & PERMISSION_BITS),
		.size = data.size,
	};

	return add(c, name, &m, data.data);
}

struct error *cpio_finish(struct cpio *c)
{
	if (c->finished)
		return error_create(ERROR_INVALID, "the initramfs is complete already");
	put_member(&c->archive, 0, TRAILER, &(struct member){ 0 });
	buf_align(&c->archive, BLOCK_ALIGN);
	c->finished = true;
	return buf_check(&c->archive);
}
