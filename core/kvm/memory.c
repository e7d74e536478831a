// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
	HUGE_PAGE = 2 << 20,
	MAP_UNIT = 256 << 10, /* of a file; smaller ones would make too many mappings */
};

static struct error *sizes_check(u64 size, u64 hole_start, u64 hole_end)
{
	if (!size || size % HUGE_PAGE)
		return error_create(ERROR_INVALID, "guest memory of %llu bytes is not a multiple of 2 MiB",
				    (unsigned long long)size);
	if (!hole_start || hole_start % HUGE_PAGE || hole_end % HUGE_PAGE || hole_start >= hole_end)
		return error_create(ERROR_INVALID, "memory hole 0x%llx to 0x%llx makes no sense",
				    (unsigned long long)hole_start, (unsigned long long)hole_end);
	// The alignment below adds a huge page, the guest's addresses the hole.
	if (size > (1ULL << 52) || hole_end > (1ULL << 52))
		return error_create(ERROR_INVALID, "guest memory of %llu MiB is beyond what x86 can address",
				    (unsigned long long)(size >> 20));
	return NULL;
}

/* Reserves size bytes that start on a huge page's boundary. */
static u8 *reserve(u64 size)
{
	u8 *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;

	u8 *base = (u8 *)ALIGN_UP((uintptr_t)p, (uintptr_t)HUGE_PAGE);
	size_t before = (size_t)(base - p);

	if (before)
		munmap(p, before);
	munmap(base + size, HUGE_PAGE - before);
	return base;
}

/*
 * A crash of ours would otherwise dump the whole guest, and a program that we start would share its pages until it is
 * executed: every one that the guest writes meanwhile would be copied.
 */
static void keep_to_ourselves(u8 *base, u64 size)
{
	madvise(base, size, MADV_DONTDUMP);
	madvise(base, size, MADV_DONTFORK);
}

struct error *guest_memory_init(struct guest_memory *m, u64 size, u64 hole_start, u64 hole_end)
{
	*m = (struct guest_memory){ 0 };

	struct error *err = sizes_check(size, hole_start, hole_end);

	if (err)
		return err;

	u8 *base = reserve(size);

	if (!base)
		return error_with_hint(
			error_create(ERROR_NO_MEMORY, "the host has no %llu MiB for the guest's memory",
				     (unsigned long long)(size >> 20)),
			"ask for less memory or fewer vCPUs, or see `ulimit -v` and /proc/meminfo");

	keep_to_ourselves(base, size);

	u64 low = size < hole_start ? size : hole_start;

	m->base = base;
	m->size = size;
	m->regions[m->region_count++] = (struct guest_region){ .gpa = 0, .size = low, .hva = base };
	if (size > low)
		m->regions[m->region_count++] =
			(struct guest_region){ .gpa = hole_end, .size = size - low, .hva = base + low };
	return NULL;
}

static struct error *file_check(const struct guest_memory *m, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return error_create_errno("fstat of the file with the guest's memory");
	if (st.st_size < 0 || (u64)st.st_size < m->size)
		return error_create(ERROR_FORMAT, "the file with the guest's memory has %lld bytes, it should be %llu",
				    (long long)st.st_size, (unsigned long long)m->size);
	return NULL;
}

/*
 * The next piece of the file at or behind `from` that is not all holes, in whole units. What has no more is empty, at
 * the end.
 */
struct piece {
	u64 start, end;
};

static u64 next_data(int fd, u64 from, u64 size)
{
	off_t found = from < size ? lseek(fd, (off_t)from, SEEK_DATA) : -1;

	if (found >= 0)
		return (u64)found < size ? (u64)found : size;
	// Nothing but holes; or a file system that knows of none.
	return from >= size || errno == ENXIO ? size : from;
}

static struct piece next_piece(int fd, u64 from, u64 size)
{
	struct piece p = { .start = next_data(fd, from, size) / MAP_UNIT * MAP_UNIT };
	u64 data = p.start;

	if (p.start < from)
		p.start = from;
	p.end = p.start;
	while (p.end < size && data < p.end + MAP_UNIT) {
		p.end = p.end + MAP_UNIT < size ? p.end + MAP_UNIT : size;
		data = next_data(fd, p.end, size);
	}
	return p;
}

/*
 * Holes stay anonymous memory: they take no room in the file's page cache (a tmpfs would fill them for good), and are
 * cleared rather than copied. Each page is taken by itself, since a guest's next one is anywhere.
 */
static struct error *map_pieces(const struct guest_memory *m, int fd)
{
	for (struct piece p = next_piece(fd, 0, m->size); p.start < m->size; p = next_piece(fd, p.end, m->size)) {
		void *at = mmap(m->base + p.start, p.end - p.start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
				(off_t)p.start);

		if (at == MAP_FAILED)
			return error_create_errno("mmap of the file with the guest's memory");
		madvise(at, p.end - p.start, MADV_RANDOM);
	}
	return NULL;
}

/* What was there is given back, not overwritten. */
static struct error *map_zeros(const struct guest_memory *m)
{
	void *at = mmap(m->base, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? error_create_errno("mmap of the guest's memory") : NULL;
}

/* Failing, what was there may be gone as well: then it is zeros, in part. */
static struct error *map_file(struct guest_memory *m, int fd)
{
	CLEANUP_CLOSE int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (own < 0)
		return error_create_errno("another descriptor of the file with the guest's memory");

	struct error *err = map_zeros(m);

	if (!err)
		err = map_pieces(m, own);
	keep_to_ourselves(m->base, m->size);
	if (err)
		return err;
	if (m->file)
		close(m->file);
	m->file = no_close(own);
	m->foreign_start = m->foreign_end = 0;
	return NULL;
}

struct error *guest_memory_init_file(struct guest_memory *m, u64 size, u64 hole_start, u64 hole_end, int fd)
{
	struct error *err = guest_memory_init(m, size, hole_start, hole_end);

	if (!err)
		err = guest_memory_refill(m, fd);
	if (err)
		guest_memory_deinit(m);
	return err;
}

struct error *guest_memory_refill(struct guest_memory *m, int fd)
{
	struct error *err = file_check(m, fd);

	return err ? err : map_file(m, fd);
}

void guest_memory_note_foreign(struct guest_memory *m, const u8 *start, u64 size)
{
	m->foreign_start = (u64)(start - m->base);
	m->foreign_end = m->foreign_start + size;
	// Mappings of their own, which know nothing of that yet.
	keep_to_ourselves(m->base + m->foreign_start, size);
}

void guest_memory_deinit(struct guest_memory *m)
{
	if (m->base)
		munmap(m->base, m->size);
	if (m->file)
		close(m->file);
	*m = (struct guest_memory){ 0 };
}

void guest_memory_advise_huge(const struct guest_memory *m)
{
	// Only advice: a host without transparent huge pages works all the same.
	madvise(m->base, m->size, MADV_HUGEPAGE);
}

void *guest_memory_at(const struct guest_memory *m, u64 gpa, u64 len)
{
	if (!len)
		return NULL;
	for (u32 i = 0; i < m->region_count; i++) {
		const struct guest_region *r = &m->regions[i];

		// Subtractions that cannot wrap, whatever gpa and len a guest came up with.
		if (gpa >= r->gpa && gpa - r->gpa < r->size && len <= r->size - (gpa - r->gpa))
			return r->hva + (gpa - r->gpa);
	}
	return NULL;
}
