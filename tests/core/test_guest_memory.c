// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
