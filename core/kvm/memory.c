// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { HUGE_PAGE = 2 << 20 };

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

	// A crash of ours would otherwise dump the whole guest.
	madvise(base, size, MADV_DONTDUMP);

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

/* What was there is given back, not overwritten. Failing, it may be gone as well: then it is zeros. */
static struct error *map_file(struct guest_memory *m, int fd)
{
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_FIXED;
	CLEANUP_CLOSE int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (own < 0)
		return error_create_errno("another descriptor of the file with the guest's memory");
	if (mmap(m->base, m->size, prot, flags, fd, 0) == MAP_FAILED) {
		struct error *err = error_create_errno("mmap of the file with the guest's memory");

		(void)mmap(m->base, m->size, prot, flags | MAP_ANONYMOUS, -1, 0);
		return err;
	}
	madvise(m->base, m->size, MADV_DONTDUMP);
	if (m->file)
		close(m->file);
	m->file = no_close(own);
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
