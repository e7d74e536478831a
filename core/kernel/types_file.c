// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "kernel/types_internal.h"

/*
 * A set in a file: what of it takes time to make, as it lies in memory. Behind the header the blob, then the places of
 * its types, then the names in their order; each begins at a multiple of 8.
 */
struct types_file {
	char magic[8];
	u32 version;
	u32 blob_size;
	u32 type_count; /* offsets */
	u32 start[NAME_LISTS + 1];
	u64 size; /* of the file */
	u64 checksum; /* hash64() of all that is behind the header, and of the header with 0 here */
};

enum { FILE_VERSION = 1 };

static const char file_magic[8] = "ktstrBTF";

/* Where the parts are. */
struct parts {
	u64 blob, offsets, entries, end;
};

static struct parts parts_of(const struct types_file *h)
{
	struct parts p = { .blob = ALIGN_UP(sizeof(*h), 8UL) };

	p.offsets = ALIGN_UP(p.blob + h->blob_size, 8UL);
	p.entries = ALIGN_UP(p.offsets + (u64)h->type_count * sizeof(u32), 8UL);
	p.end = p.entries + (u64)h->start[NAME_LISTS] * sizeof(struct name_entry);
	return p;
}

static u64 checksum(const struct types_file *header, const void *rest, size_t size)
{
	struct types_file h = *header;
	u64 sums[2];

	h.checksum = 0;
	sums[0] = hash64(&h, sizeof(h));
	sums[1] = hash64(rest, size);
	return hash64(sums, sizeof(sums));
}

static struct error *write_all(int fd, const u8 *data, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pwrite(fd, data + done, size - done, done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_create_errno("cannot write the types");
		done += n;
	}
	return NULL;
}

struct error *types_write(const struct types *t, int fd)
{
	const struct btf_bytes *b = &t->bytes;
	struct types_file h = { .version = FILE_VERSION, .blob_size = b->size, .type_count = b->end - b->first };

	if (t->base)
		return error_create(ERROR_INVALID,
				    "a split's types are not written: they are nothing without their base");
	memcpy(h.magic, file_magic, sizeof(h.magic));
	memcpy(h.start, t->index.start, sizeof(h.start));

	struct parts p = parts_of(&h);
	CLEANUP_FREE u8 *file = calloc(1, p.end);

	if (!file)
		return error_no_memory();
	h.size = p.end;
	memcpy(file + p.blob, b->data, h.blob_size);
	memcpy(file + p.offsets, b->offsets, h.type_count * sizeof(u32));
	memcpy(file + p.entries, t->index.entries, h.start[NAME_LISTS] * sizeof(struct name_entry));
	h.checksum = checksum(&h, file + sizeof(h), p.end - sizeof(h));
	memcpy(file, &h, sizeof(h));
	return write_all(fd, file, p.end);
}

static struct error *check_file(const struct types_file *h, u64 size)
{
	if (size < sizeof(*h) || memcmp(h->magic, file_magic, sizeof(h->magic)) != 0)
		return error_create(ERROR_FORMAT, "not a file of types");
	if (h->version != FILE_VERSION)
		return error_create(ERROR_FORMAT, "a file of types of version %u, not %u", h->version,
				    FILE_VERSION);
	if (h->size != size || parts_of(h).end != size)
		return error_create(ERROR_FORMAT, "a file of types of %llu bytes that has %llu",
				    (unsigned long long)h->size, (unsigned long long)size);
	for (u32 l = 0; l < NAME_LISTS; l++)
		if (h->start[0] || h->start[l] > h->start[l + 1])
			return error_create(ERROR_FORMAT, "a file of types with lists out of order");
	if (h->checksum != checksum(h, h + 1, size - sizeof(*h)))
		return error_create(ERROR_FORMAT, "a file of types that is damaged: its checksum is wrong");
	return NULL;
}

/* Points into the mapping, whose contents were checked when they were written. */
static struct error *use_file(struct types *t)
{
	const struct types_file *h = t->mapping;
	struct parts p = parts_of(h);
	const u8 *file = t->mapping;
	struct error *err = check_file(h, t->mapping_size);

	if (!err)
		err = btf_check_header(file + p.blob, h->blob_size, NULL, &t->bytes);
	if (err)
		return err;
	t->bytes.first = 1;
	t->bytes.end = 1 + h->type_count;
	t->bytes.offsets = (const void *)(file + p.offsets);
	t->tell_signs = types_tell_signs(&t->bytes);
	t->index.entries = (const void *)(file + p.entries);
	memcpy(t->index.start, h->start, sizeof(h->start));
	return NULL;
}

/* A checksum does not say who made a file; another user's could be wrong where nobody looks again. */
static struct error *check_owner(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return error_create(ERROR_FORMAT, "not a file of types, not even a regular file");
	if (st->st_uid && st->st_uid != geteuid())
		return error_create(ERROR_FORMAT, "a file of types of user %u", st->st_uid);
	return NULL;
}

static void cleanup_types(struct types **t)
{
	types_destroy(*t);
}

struct error *types_open(int fd, struct types **ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_create_errno("cannot look at the file of types");

	struct error *err = check_owner(&st);

	if (err)
		return err;
	if ((u64)st.st_size < sizeof(struct types_file))
		return error_create(ERROR_FORMAT, "not a file of types: %llu bytes",
				    (unsigned long long)st.st_size);

	CLEANUP(cleanup_types)
	struct types *t = calloc(1, sizeof(*t));

	if (!t)
		return error_no_memory();
	pthread_mutex_init(&t->lock, NULL);

	void *mapping = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);

	if (mapping == MAP_FAILED)
		return error_create_errno("cannot map the file of types");
	t->mapping = mapping;
	t->mapping_size = st.st_size;
	err = use_file(t);
	if (!err)
		*ret = no_free(t);
	return err;
}
