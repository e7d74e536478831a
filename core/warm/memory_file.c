// SPDX-License-Identifier: GPL-2.0-or-later
#include "warm/memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "warm/blocks.h"
#include "warm/pagemap.h"

/* --- where a file has data --- */

struct extents {
	int fd; /* -1: no file, so no data */
	u64 size;
	u64 start, end; /* the data at or behind what was asked last */
};

/* The file's size stands for "none". A file system that knows of no holes has one extent. */
static struct error *next_extent(struct extents *e, u64 from)
{
	off_t start = lseek(e->fd, (off_t)from, SEEK_DATA);
	off_t end = start < 0 ? start : lseek(e->fd, start, SEEK_HOLE);

	if (end < 0 && errno == ENXIO)
		start = end = (off_t)e->size;
	else if (end < 0)
		return error_create_errno("cannot find the holes in a memory file");
	e->start = (u64)start;
	e->end = (u64)end < e->size ? (u64)end : e->size;
	return NULL;
}

/* The pages of the block at offset that are not in a hole. To be asked for one block after another. */
static struct error *pages_of_file(struct extents *e, u64 offset, u64 *ret)
{
	u64 pages = 0, end = offset + MEMORY_BLOCK;

	for (u64 at = offset; e->fd >= 0 && at < end;) {
		if (at >= e->end && at < e->size) {
			struct error *err = next_extent(e, at);

			if (err)
				return err;
		}

		u64 from = e->start > at ? e->start : at;
		u64 to = e->end < end ? e->end : end;

		if (from >= to)
			break;
		// Holes are of whole blocks of the file system, which may be smaller than a page.
		for (u64 p = (from - offset) / MEMORY_PAGE; p * MEMORY_PAGE < to - offset; p++)
			pages |= 1ULL << p;
		at = to;
	}
	*ret = pages;
	return NULL;
}

/* --- where a guest's memory may be other than zero --- */

struct memory_pages {
	struct pagemap pagemap;
	struct extents extents;
	u64 foreign_start, foreign_end; /* in between a page that is not mapped is another file's */
	bool blind; /* nobody tells: every page has to be looked at */
};

static void memory_pages_init(struct memory_pages *m, const struct guest_memory *memory)
{
	struct error *err = pagemap_open(&m->pagemap, memory->base, memory->size);

	m->blind = err;
	m->extents = (struct extents){ .fd = memory->file ? memory->file : -1, .size = memory->size };
	m->foreign_start = memory->foreign_start;
	m->foreign_end = memory->foreign_end;
	error_destroy(err);
}

/*
 * The pages of the block at offset that are other than the file's (copies, also those swapped out), and those that
 * are its data, mapped or not; where it has a hole, a page of its own is zero. Without a file, all that exist are
 * copies.
 */
static struct error *pages_of_memory(struct memory_pages *m, u64 offset, u64 *copies, u64 *mapped, u64 *data)
{
	struct error *err = pages_of_file(&m->extents, offset, data);
	bool all = m->blind || (offset < m->foreign_end && offset + MEMORY_BLOCK > m->foreign_start);

	*copies = *mapped = all ? UINT64_MAX : 0;
	for (u64 i = 0; !err && !all && i < BLOCK_PAGES; i++) {
		u64 entry;

		err = pagemap_get(&m->pagemap, offset / MEMORY_PAGE + i, &entry);
		if (!err && entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) {
			*mapped |= 1ULL << i;
			if (entry & PAGEMAP_SWAPPED || !(entry & PAGEMAP_FILE))
				*copies |= 1ULL << i;
		}
	}
	return err;
}

/* --- writing --- */

static struct error *write_failed(const char *dir)
{
	if (!dir)
		return error_create_errno("cannot write the guest's memory to a file in memory");
	return error_create_errno("cannot write the guest's memory to a file in %s", dir);
}

static struct error *open_unnamed(const char *dir, int *ret)
{
	int fd = -1;

	// Nobody writes to it again, not even its owner by mistake.
	if (dir)
		fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
	// EISDIR: from a kernel, or a file system, that knows no O_TMPFILE.
	if (!dir || (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)))
		fd = memfd_create("ktstr-memory", MFD_CLOEXEC);
	if (fd < 0)
		return error_create_errno("cannot make a file in %s", dir ? dir : "memory");
	*ret = fd;
	return NULL;
}

struct error *memory_file_create(const char *dir, u64 size, int *ret)
{
	CLEANUP_CLOSE int fd = -1;
	struct error *err = open_unnamed(dir, &fd);

	if (err)
		return err;
	if (ftruncate(fd, (off_t)size) < 0)
		return write_failed(dir);
	*ret = no_close(fd);
	return NULL;
}

struct store {
	const struct guest_memory *memory;
	struct memory_pages where;
	struct hash_stream *scratch;
	u8 *block;
};

static void store_deinit(struct store *s)
{
	pagemap_close(&s->where.pagemap);
	hash_stream_destroy(s->scratch);
	free(s->block);
}

static struct error *store_init(struct store *s, const struct guest_memory *memory)
{
	s->memory = memory;
	memory_pages_init(&s->where, memory);
	s->scratch = hash_stream_create();
	s->block = malloc(MEMORY_BLOCK);
	return s->scratch && s->block ? NULL : error_no_memory();
}

/*
 * A block's bytes, as far as they are in pages. What only the file has is read from it: to touch it would map it, and
 * have the host read ahead into the holes.
 */
static struct error *get_block(struct store *s, u64 offset, const u8 **ret, u64 *pages)
{
	u64 copies, mapped, data;
	struct error *err = pages_of_memory(&s->where, offset, &copies, &mapped, &data);

	*ret = s->memory->base + offset;
	*pages = copies | data;
	if (err || !(data & ~mapped))
		return err;
	if (!block_read(s->memory->file, offset, s->block, data & ~mapped))
		return error_create_errno("cannot read the file that the guest's memory is mapped from");

	u64 here = *pages & mapped;
	struct page_run run;

	while (page_run_take(&here, &run))
		memcpy(s->block + (size_t)run.first * MEMORY_PAGE, *ret + (size_t)run.first * MEMORY_PAGE,
		       (size_t)run.count * MEMORY_PAGE);
	*ret = s->block;
	return NULL;
}

struct error *memory_file_store(int fd, const char *dir, const struct guest_memory *memory, struct buf *sums)
{
	CLEANUP(store_deinit)
	struct store s;
	struct error *err = store_init(&s, memory);

	for (u64 at = 0; !err && at < memory->size; at += MEMORY_BLOCK) {
		const u8 *block;
		u64 pages;

		err = get_block(&s, at, &block, &pages);
		if (!err)
			pages = block_pages_used(block, pages);
		if (err || !pages)
			continue;
		block_sum_put(sums, (struct block_sum){ at / MEMORY_BLOCK, block_hash(block, pages, s.scratch) });
		if (!block_write(fd, at, block, pages))
			err = write_failed(dir);
	}
	return err ? err : buf_check(sums);
}

/* --- looking at a file, and copying it --- */

struct look {
	int fd, to; /* to is -1: no copy is made */
	const char *dir;
	struct hash_stream *scratch;
	u8 *block;
};

static struct error *damaged(u64 offset)
{
	return error_create(ERROR_FORMAT, "its memory is not what was saved, in the block at 0x%llx",
			    (unsigned long long)offset);
}

/* sum: what it has to be; NULL: zeros. */
static struct error *look_at_block(const struct look *l, u64 offset, u64 pages, const u64 *sum)
{
	// Read, not mapped: a file that shrinks or a disk that fails is an error then, not a SIGBUS.
	if (!block_read(l->fd, offset, l->block, pages))
		return errno ? error_create_errno("cannot read its memory at 0x%llx", (unsigned long long)offset) :
			       damaged(offset);

	u64 used = block_pages_used(l->block, pages);

	if (sum ? block_hash(l->block, used, l->scratch) != *sum : used != 0)
		return damaged(offset);
	if (l->to >= 0 && !block_write(l->to, offset, l->block, used))
		return write_failed(l->dir);
	return NULL;
}

static struct error *look_at_all(const struct look *l, const struct state_file *state)
{
	struct extents extents = { .fd = l->fd, .size = state->memory_size };
	struct reader sums = reader_init(state->sums.data, state->sums.size);
	struct block_sum next;
	bool more = block_sum_get(&sums, &next);

	for (u64 at = 0; at < state->memory_size; at += MEMORY_BLOCK) {
		bool listed = more && next.index == at / MEMORY_BLOCK;
		u64 pages;
		struct error *err = pages_of_file(&extents, at, &pages);

		if (!err && (pages || listed))
			err = look_at_block(l, at, pages, listed ? &next.hash : NULL);
		if (err)
			return err;
		if (listed)
			more = block_sum_get(&sums, &next);
	}
	return NULL;
}

struct error *memory_file_copy(int fd, const struct state_file *state, int to, const char *dir)
{
	CLEANUP(hash_stream_cleanup)
	struct hash_stream *scratch = hash_stream_create();
	CLEANUP_FREE u8 *block = malloc(MEMORY_BLOCK);

	if (!scratch || !block)
		return error_no_memory();
	if (to >= 0 && ftruncate(to, (off_t)state->memory_size) < 0)
		return write_failed(dir);
	return look_at_all(&(struct look){ fd, to, dir, scratch, block }, state);
}

struct error *memory_file_verify(int fd, const struct state_file *state)
{
	return memory_file_copy(fd, state, -1, NULL);
}
