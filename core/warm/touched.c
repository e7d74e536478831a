// SPDX-License-Identifier: GPL-2.0-or-later
#include "warm/touched.h"

#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "warm/blocks.h"
#include "warm/pagemap.h"

/*
 * Bytes: magic, the memory's size, then runs by increasing page, 8 bytes each: the first page, then the number of
 * pages with the highest bit set when they were written.
 */
enum {
	RUN_SIZE = 8,
	RUNS_MAX = 16384, /* a machine that touched more is past its first moments */
};

#define RUN_WRITTEN (1U << 31)

static const char magic[8] = "ktstrtp\n";

enum page_kind {
	PAGE_UNTOUCHED,
	PAGE_READ,
	PAGE_WRITTEN,
};

struct touched_run {
	u32 first, count;
	enum page_kind kind;
};

/* --- recording --- */

// A copy that was swapped out has been written, too.
static enum page_kind page_kind(u64 entry)
{
	if (!(entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
		return PAGE_UNTOUCHED;
	return entry & PAGEMAP_PRESENT && entry & PAGEMAP_FILE ? PAGE_READ : PAGE_WRITTEN;
}

static void put_run(struct buf *out, const struct touched_run *run)
{
	if (run->kind == PAGE_UNTOUCHED || out->size >= sizeof(magic) + sizeof(u64) + (size_t)RUNS_MAX * RUN_SIZE)
		return;
	buf_put_u32(out, run->first);
	buf_put_u32(out, run->count | (run->kind == PAGE_WRITTEN ? RUN_WRITTEN : 0));
}

struct error *touched_record(const struct guest_memory *memory, struct buf *out)
{
	CLEANUP(pagemap_close)
	struct pagemap pagemap = PAGEMAP_INIT;
	struct error *err = pagemap_open(&pagemap, memory->base, memory->size);
	CLEANUP(buf_deinit)
	struct buf runs = BUF_INIT;
	struct touched_run run = { 0 };
	u64 pages = memory->size / MEMORY_PAGE;

	// A run cannot say more.
	if (pages >= RUN_WRITTEN)
		pages = RUN_WRITTEN - 1;
	buf_put(&runs, magic, sizeof(magic));
	buf_put_u64(&runs, memory->size);
	for (u64 page = 0; !err && page < pages; page++) {
		u64 entry = 0;

		err = pagemap_get(&pagemap, page, &entry);

		enum page_kind kind = page_kind(entry);

		if (kind != run.kind) {
			put_run(&runs, &run);
			run = (struct touched_run){ .first = (u32)page, .kind = kind };
		}
		run.count++;
	}
	put_run(&runs, &run);
	if (!err)
		err = buf_check(&runs);
	if (!err)
		buf_put(out, runs.data, runs.size);
	return err ? err : buf_check(out);
}

/* --- fetching --- */

static bool get_run(struct reader *r, struct touched_run *ret)
{
	if (reader_left(r) < RUN_SIZE)
		return false;
	ret->first = reader_get_u32(r);
	ret->count = reader_get_u32(r);
	ret->kind = ret->count & RUN_WRITTEN ? PAGE_WRITTEN : PAGE_READ;
	ret->count &= ~RUN_WRITTEN;
	return true;
}

/* Whether they are runs of that memory's pages, in order, each page in one of them at most. */
static bool runs_make_sense(struct reader runs, u64 pages)
{
	struct touched_run run;
	u64 next = 0;

	if (reader_left(&runs) % RUN_SIZE || reader_left(&runs) > (size_t)RUNS_MAX * RUN_SIZE)
		return false;
	while (get_run(&runs, &run)) {
		if (!run.count || run.first < next || (u64)run.first + run.count > pages)
			return false;
		next = (u64)run.first + run.count;
	}
	return true;
}

static bool get_runs(const struct guest_memory *memory, const void *data, size_t size, struct reader *ret)
{
	char found[sizeof(magic)];

	*ret = reader_init(data, size);
	reader_get(ret, found, sizeof(found));

	u64 memory_size = reader_get_u64(ret);

	return !ret->failed && memcmp(found, magic, sizeof(magic)) == 0 && memory_size == memory->size &&
	       runs_make_sense(*ret, memory->size / MEMORY_PAGE);
}

u64 touched_fetch(const struct guest_memory *memory, const void *data, size_t size)
{
	struct touched_run run;
	struct reader runs;
	bool populates = true;
	u64 fetched = 0;

	if (!get_runs(memory, data, size, &runs))
		return 0;
	while (get_run(&runs, &run)) {
		u8 *start = memory->base + (u64)run.first * MEMORY_PAGE;
		size_t length = (size_t)run.count * MEMORY_PAGE;

		if (populates)
			populates = !madvise(start, length,
					     run.kind == PAGE_WRITTEN ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
		// Before Linux 5.14 the host can at least be asked to read the file ahead.
		if (!populates)
			madvise(start, length, MADV_WILLNEED);
		else
			fetched += length;
	}
	return fetched;
}
