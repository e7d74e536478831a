// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "core/kvm_fixture.h"
#include "kvm/memory.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define HOLE_START (3 * GIB)
#define HOLE_END (4 * GIB)

static void small_memory_is_one_region(void **state)
{
	struct guest_memory m;

	assert_no_error(guest_memory_init(&m, 16 * MIB, HOLE_START, HOLE_END));
	assert_int_equal(m.region_count, 1);
	assert_int_equal(m.regions[0].gpa, 0);
	assert_int_equal(m.regions[0].size, 16 * MIB);
	assert_ptr_equal(m.regions[0].hva, m.base);
	// A huge page of the host must not straddle two of the guest.
	assert_int_equal((uintptr_t)m.base % (2 * MIB), 0);
	guest_memory_deinit(&m);
	assert_null(m.base);
}

static void large_memory_goes_on_behind_the_hole(void **state)
{
	struct guest_memory m;

	assert_no_error(guest_memory_init(&m, HOLE_START + 4 * MIB, HOLE_START, HOLE_END));
	assert_int_equal(m.region_count, 2);
	assert_int_equal(m.regions[0].size, HOLE_START);
	assert_int_equal(m.regions[1].gpa, HOLE_END);
	assert_int_equal(m.regions[1].size, 4 * MIB);
	assert_ptr_equal(m.regions[1].hva, m.base + HOLE_START);
	guest_memory_deinit(&m);
}

static void memory_that_just_fits_below_the_hole_has_no_second_region(void **state)
{
	struct guest_memory m;

	assert_no_error(guest_memory_init(&m, 4 * MIB, 4 * MIB, HOLE_END));
	assert_int_equal(m.region_count, 1);
	guest_memory_deinit(&m);
}

static void every_byte_is_writable_and_zero_at_first(void **state)
{
	struct guest_memory m;

	assert_no_error(guest_memory_init(&m, 6 * MIB, 4 * MIB, HOLE_END));
	for (u64 i = 0; i < m.size; i += 4095)
		assert_int_equal(m.base[i], 0);
	memset(m.base, 0xa5, m.size);
	assert_int_equal(m.base[m.size - 1], 0xa5);
	guest_memory_deinit(&m);
}

static void access_is_bounded(void **state)
{
	struct guest_memory m;

	assert_no_error(guest_memory_init(&m, 6 * MIB, 4 * MIB, HOLE_END));
	assert_ptr_equal(guest_memory_at(&m, 0, 1), m.base);
	assert_ptr_equal(guest_memory_at(&m, 0, 4 * MIB), m.base);
	assert_ptr_equal(guest_memory_at(&m, 4 * MIB - 1, 1), m.base + 4 * MIB - 1);
	assert_ptr_equal(guest_memory_at(&m, HOLE_END, 2 * MIB), m.base + 4 * MIB);

	assert_null(guest_memory_at(&m, 0, 0));
	assert_null(guest_memory_at(&m, 0, 4 * MIB + 1)); // into the hole, though the host's memory goes on
	assert_null(guest_memory_at(&m, 4 * MIB - 1, 2));
	assert_null(guest_memory_at(&m, 4 * MIB, 1));
	assert_null(guest_memory_at(&m, HOLE_END - 1, 1));
	assert_null(guest_memory_at(&m, HOLE_END - 1, 2));
	assert_null(guest_memory_at(&m, HOLE_END + 2 * MIB, 1));
	assert_null(guest_memory_at(&m, HOLE_END + 2 * MIB - 8, 9));
	// Sums that wrap.
	assert_null(guest_memory_at(&m, UINT64_MAX, 1));
	assert_null(guest_memory_at(&m, UINT64_MAX, UINT64_MAX));
	assert_null(guest_memory_at(&m, 1, UINT64_MAX));
	assert_null(guest_memory_at(&m, HOLE_END + MIB, UINT64_MAX - HOLE_END));
	guest_memory_deinit(&m);
}

static void sizes_that_make_no_sense_are_refused(void **state)
{
	struct guest_memory m;

	assert_error(guest_memory_init(&m, 0, HOLE_START, HOLE_END), ERROR_INVALID, "2 MiB");
	assert_error(guest_memory_init(&m, MIB, HOLE_START, HOLE_END), ERROR_INVALID, "2 MiB");
	assert_error(guest_memory_init(&m, 4 * MIB, HOLE_END, HOLE_START), ERROR_INVALID, "hole");
	assert_error(guest_memory_init(&m, 4 * MIB, 0, HOLE_END), ERROR_INVALID, "hole");
	assert_error(guest_memory_init(&m, ALIGN_DOWN(UINT64_MAX, 2 * MIB), HOLE_START, HOLE_END), ERROR_INVALID,
		     "beyond");
	assert_null(m.base);
	guest_memory_deinit(&m);
}

static void a_host_that_has_not_so_much_says_so(void **state)
{
	struct rlimit before, tight;
	struct guest_memory m;

	getrlimit(RLIMIT_AS, &before);
	tight = before;
	tight.rlim_cur = 8 * GIB;
	setrlimit(RLIMIT_AS, &tight);

	struct error *err = guest_memory_init(&m, 16 * GIB, HOLE_START, HOLE_END);

	setrlimit(RLIMIT_AS, &before);
	assert_error(err, ERROR_NO_MEMORY, "16384 MiB");
	assert_null(m.base);
}

static bool mapping_has_huge_pages_advised(const struct guest_memory *m)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	bool inside = false, advised = false;
	unsigned long start, end;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (uintptr_t)m->base && (uintptr_t)m->base < end;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			advised = strstr(line, " hg");
	}
	fclose(f);
	return advised;
}

static void huge_pages_are_asked_for_when_the_caller_says_so(void **state)
{
	struct guest_memory m;

	assert_no_error(guest_memory_init(&m, 4 * MIB, HOLE_START, HOLE_END));
	assert_false(mapping_has_huge_pages_advised(&m));
	guest_memory_advise_huge(&m);
	if (access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) == 0)
		assert_true(mapping_has_huge_pages_advised(&m));
	guest_memory_deinit(&m);
}

static void two_hundred_times_leave_no_mapping(void **state)
{
	struct footprint before = footprint_now();

	for (int i = 0; i < 200; i++) {
		struct guest_memory m;

		assert_no_error(guest_memory_init(&m, (u64)(2 + i % 7 * 2) * MIB, 6 * MIB, HOLE_END));
		m.base[i] = 1;
		m.base[m.size - 1] = 1;
		guest_memory_deinit(&m);
	}
	assert_footprint(&before, 200);
}

/* --- mapped from a file --- */

/* A file whose 8-byte words say where they are; tag tells files apart. */
static u64 word(u64 offset, u64 tag)
{
	return offset * 0x9e3779b97f4a7c15 + tag;
}

static int file_create(u64 size, u64 tag)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);
	u64 block[512];

	assert_true(fd >= 0);
	for (u64 at = 0; at < size; at += sizeof(block)) {
		for (u32 i = 0; i < ARRAY_SIZE(block); i++)
			block[i] = word(at + i * 8, tag);
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	}
	return fd;
}

static bool is_file(const struct guest_memory *m, u64 tag)
{
	for (u64 at = 0; at < m->size; at += 8)
		if (*(u64 *)(m->base + at) != word(at, tag))
			return false;
	return true;
}

static bool file_is_unchanged(int fd, u64 size, u64 tag)
{
	for (u64 at = 0; at < size; at += 8) {
		u64 found;

		if (pread(fd, &found, sizeof(found), (off_t)at) != sizeof(found) || found != word(at, tag))
			return false;
	}
	return true;
}

static void memory_of_a_file_has_its_contents_on_both_sides_of_the_hole(void **state)
{
	int fd = file_create(6 * MIB, 1);
	struct guest_memory m;

	assert_no_error(guest_memory_init_file(&m, 6 * MIB, 4 * MIB, HOLE_END, fd));
	close(fd);
	assert_int_equal(m.region_count, 2);
	assert_int_equal((uintptr_t)m.base % (2 * MIB), 0);
	assert_int_equal(*(u64 *)guest_memory_at(&m, 0, 8), word(0, 1));
	assert_int_equal(*(u64 *)guest_memory_at(&m, 4 * MIB - 8, 8), word(4 * MIB - 8, 1));
	assert_int_equal(*(u64 *)guest_memory_at(&m, HOLE_END, 8), word(4 * MIB, 1));
	assert_int_equal(*(u64 *)guest_memory_at(&m, HOLE_END + 2 * MIB - 8, 8), word(6 * MIB - 8, 1));
	assert_true(is_file(&m, 1));
	// Whose holes there are to be looked for, after the caller's descriptor has gone.
	assert_true(m.file > 0);
	assert_true(file_is_unchanged(m.file, 6 * MIB, 1));
	guest_memory_deinit(&m);
	assert_int_equal(m.file, 0);
}

static void what_is_written_stays_with_the_one_who_wrote(void **state)
{
	int fd = file_create(4 * MIB, 2);
	struct guest_memory a, b;

	assert_no_error(guest_memory_init_file(&a, 4 * MIB, HOLE_START, HOLE_END, fd));
	assert_no_error(guest_memory_init_file(&b, 4 * MIB, HOLE_START, HOLE_END, fd));
	memset(a.base, 0x5a, MIB);
	memset(b.base + 3 * MIB, 0xa5, MIB);
	assert_true(file_is_unchanged(fd, 4 * MIB, 2));
	assert_int_equal(*(u64 *)(b.base + 8), word(8, 2));
	assert_int_equal(*(u64 *)(a.base + 3 * MIB), word(3 * MIB, 2));
	assert_int_equal(a.base[MIB - 1], 0x5a);
	assert_int_equal(b.base[4 * MIB - 1], 0xa5);
	guest_memory_deinit(&a);
	assert_int_equal(b.base[3 * MIB], 0xa5);
	guest_memory_deinit(&b);
	close(fd);
}

static void refilling_brings_the_file_back(void **state)
{
	int fd = file_create(4 * MIB, 3), other = file_create(4 * MIB, 4);
	struct guest_memory m;

	assert_no_error(guest_memory_init_file(&m, 4 * MIB, 2 * MIB, HOLE_END, fd));

	struct guest_memory before = m;

	for (int round = 0; round < 3; round++) {
		memset(m.base + round * MIB, 0xee, 2 * MIB);
		assert_no_error(guest_memory_refill(&m, fd));
		assert_true(is_file(&m, 3));
	}
	// Everybody's addresses into it stay right.
	assert_ptr_equal(m.base, before.base);
	assert_memory_equal(m.regions, before.regions, sizeof(m.regions));
	assert_no_error(guest_memory_refill(&m, other));
	assert_true(is_file(&m, 4));
	assert_true(file_is_unchanged(m.file, 4 * MIB, 4));
	assert_true(file_is_unchanged(fd, 4 * MIB, 3));
	guest_memory_deinit(&m);
	close(fd);
	close(other);
}

/* A machine that was booted, not restored, can be put back as well. */
static void memory_of_no_file_is_refilled_from_one(void **state)
{
	int fd = file_create(4 * MIB, 5);
	struct guest_memory m;

	assert_no_error(guest_memory_init(&m, 4 * MIB, HOLE_START, HOLE_END));
	assert_int_equal(m.file, 0);
	memset(m.base, 0xee, m.size);
	assert_no_error(guest_memory_refill(&m, fd));
	assert_true(is_file(&m, 5));
	guest_memory_deinit(&m);
	close(fd);
}

static void holes_of_the_file_are_zeros(void **state)
{
	int fd = file_create(2 * MIB, 6);
	struct guest_memory m;

	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	assert_no_error(guest_memory_init_file(&m, 4 * MIB, HOLE_START, HOLE_END, fd));
	assert_int_equal(*(u64 *)(m.base + 2 * MIB - 8), word(2 * MIB - 8, 6));
	for (u64 at = 2 * MIB; at < 4 * MIB; at++)
		assert_int_equal(m.base[at], 0);
	guest_memory_deinit(&m);
	close(fd);
}

static void a_file_that_is_too_short_is_refused_and_changes_nothing(void **state)
{
	int fd = file_create(2 * MIB, 7);
	u32 descriptors = count_descriptors();
	struct guest_memory m;

	assert_error(guest_memory_init_file(&m, 4 * MIB, HOLE_START, HOLE_END, fd), ERROR_FORMAT,
		     "2097152 bytes, it should be 4194304");
	assert_null(m.base);
	assert_int_equal(ftruncate(fd, 4 * MIB - 1), 0);
	assert_error(guest_memory_init_file(&m, 4 * MIB, HOLE_START, HOLE_END, fd), ERROR_FORMAT, "4194303 bytes");
	assert_no_error(guest_memory_init(&m, 4 * MIB, HOLE_START, HOLE_END));
	m.base[0] = m.base[m.size - 1] = 9;
	assert_error(guest_memory_refill(&m, fd), ERROR_FORMAT, "4194303 bytes");
	assert_int_equal(m.base[0], 9);
	assert_int_equal(m.base[m.size - 1], 9);
	assert_error(guest_memory_refill(&m, -1), ERROR_OS, "fstat");
	assert_int_equal(m.base[0], 9);
	guest_memory_deinit(&m);
	assert_int_equal(count_descriptors(), descriptors);
	close(fd);
}

static void what_cannot_be_mapped_is_refused_and_leaves_memory_there(void **state)
{
	int fd = file_create(4 * MIB, 8), write_only;
	u32 descriptors = count_descriptors();
	struct guest_memory m;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	write_only = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(write_only >= 0);
	assert_error(guest_memory_init_file(&m, 4 * MIB, HOLE_START, HOLE_END, write_only), ERROR_OS, "mmap");
	assert_null(m.base);
	assert_no_error(guest_memory_init_file(&m, 4 * MIB, HOLE_START, HOLE_END, fd));
	assert_error(guest_memory_refill(&m, write_only), ERROR_OS, "mmap");
	memset(m.base, 1, m.size);
	guest_memory_deinit(&m);
	close(write_only);
	assert_int_equal(count_descriptors(), descriptors);
	close(fd);
}

static void two_hundred_files_leave_no_mapping(void **state)
{
	int fd = file_create(4 * MIB, 9);
	struct footprint before = footprint_now();

	for (int i = 0; i < 200; i++) {
		struct guest_memory m;

		assert_no_error(guest_memory_init_file(&m, 4 * MIB, 2 * MIB, HOLE_END, fd));
		m.base[i] = 1;
		assert_no_error(guest_memory_refill(&m, fd));
		guest_memory_deinit(&m);
	}
	assert_footprint(&before, 200);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_memory_is_one_region),
		cmocka_unit_test(large_memory_goes_on_behind_the_hole),
		cmocka_unit_test(memory_that_just_fits_below_the_hole_has_no_second_region),
		cmocka_unit_test(every_byte_is_writable_and_zero_at_first),
		cmocka_unit_test(access_is_bounded),
		cmocka_unit_test(sizes_that_make_no_sense_are_refused),
		cmocka_unit_test(a_host_that_has_not_so_much_says_so),
		cmocka_unit_test(huge_pages_are_asked_for_when_the_caller_says_so),
		cmocka_unit_test(two_hundred_times_leave_no_mapping),
		cmocka_unit_test(memory_of_a_file_has_its_contents_on_both_sides_of_the_hole),
		cmocka_unit_test(what_is_written_stays_with_the_one_who_wrote),
		cmocka_unit_test(refilling_brings_the_file_back),
		cmocka_unit_test(memory_of_no_file_is_refilled_from_one),
		cmocka_unit_test(holes_of_the_file_are_zeros),
		cmocka_unit_test(a_file_that_is_too_short_is_refused_and_changes_nothing),
		cmocka_unit_test(what_cannot_be_mapped_is_refused_and_leaves_memory_there),
		cmocka_unit_test(two_hundred_files_leave_no_mapping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
