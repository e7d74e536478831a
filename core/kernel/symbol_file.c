// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "kernel/symbol_set.h"

enum { CHECKED_FROM = offsetof(struct symbol_header, checksum) + sizeof(u64) };

_Static_assert(sizeof(struct symbol_header) == 64, "it is in files");

static struct error *damaged(const char *why)
{
	return error_with_hint(error_create(ERROR_FORMAT, "the file of symbols is damaged (%s)", why), "remove it");
}

static struct error *check_header(const struct symbol_header *h, size_t size)
{
	if (size < sizeof(*h))
		return damaged("cut short");
	if (memcmp(h->magic, SYMBOL_MAGIC, sizeof(h->magic)) != 0)
		return error_create(ERROR_FORMAT, "it is no file of symbols");
	if (h->version != SYMBOL_VERSION)
		return error_create(ERROR_FORMAT, "the file of symbols is of version %u, this ktstr's is %u",
				    h->version, SYMBOL_VERSION);
	if (h->size != size)
		return damaged("its size is another");
	if (hash64((const u8 *)h + CHECKED_FROM, size - CHECKED_FROM) != h->checksum)
		return damaged("its checksum is wrong");
	return NULL;
}

/* Whatever a right checksum says of the bytes: a look at them never leaves the block. */
static struct error *check_arrays(const struct symbol_header *h, const struct symbol_arrays *a)
{
	bool names = true, places = true, sorted = true;

	for (u32 i = 0; i < h->count; i++) {
		names &= a->names[i] < h->pool_size;
		places &= a->places[i] < h->count;
		sorted &= !i || a->addresses[i - 1] <= a->addresses[i];
	}
	if (!names || (h->pool_size && a->pool[h->pool_size - 1]))
		return damaged("names outside of it");
	if (!places)
		return damaged("an index outside of it");
	if (!sorted || h->image_start > h->image_end)
		return damaged("addresses not in order");
	return NULL;
}

static struct error *check_block(u8 *block, size_t size, struct symbols *ret)
{
	struct symbol_header *h = (struct symbol_header *)block;
	struct error *err = check_header(h, size);

	if (err)
		return err;
	if (h->count > SYMBOL_MAX_COUNT || h->pool_size > size || symbol_pool_at(h->count) + h->pool_size != size)
		return damaged("sizes that do not fit");
	ret->header = h;
	ret->a = symbol_arrays_at(block, h->count);
	return check_arrays(h, &ret->a);
}

struct error *symbols_open(int fd, struct symbols **ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_create_errno("cannot examine the file of symbols");
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct symbol_header))
		return damaged("cut short");

	struct symbols *s = calloc(1, sizeof(*s));

	if (!s)
		return error_no_memory();

	void *p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);

	if (p == MAP_FAILED) {
		free(s);
		return error_create_errno("cannot map the file of symbols");
	}

	struct error *err = check_block(p, st.st_size, s);

	if (err) {
		munmap(p, st.st_size);
		free(s);
		return err;
	}
	s->mapped = true;
	*ret = s;
	return NULL;
}

static struct error *write_all(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, (const u8 *)data + done, size - done);

		if (n < 0 && errno != EINTR)
			return error_create_errno("cannot write the file of symbols");
		if (n > 0)
			done += n;
	}
	return NULL;
}

struct error *symbols_write(const struct symbols *s, int fd)
{
	struct symbol_header h = *s->header;
	struct hash_stream CLEANUP(hash_stream_cleanup) *sum = hash_stream_create();

	if (!sum)
		return error_no_memory();
	hash_stream_add(sum, (u8 *)&h + CHECKED_FROM, sizeof(h) - CHECKED_FROM);
	hash_stream_add(sum, s->header + 1, h.size - sizeof(h));
	h.checksum = hash_stream_end(sum);

	struct error *err = write_all(fd, &h, sizeof(h));

	return err ? err : write_all(fd, s->header + 1, h.size - sizeof(h));
}
