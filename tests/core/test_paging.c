// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/kvm_fixture.h"
#include "core/page_tables.h"
#include "x86/paging.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define KERNEL 0xffff888000000000ULL /* an address with either number of levels */

enum {
	MEMORY = 4 << 20,
	HOLE_START = 2 << 20, /* half of it lies behind the hole */
	TABLES = 0x10000,
};

#define HOLE_END (4 * GIB)

struct rig {
	struct guest_memory memory;
	struct page_tables tables[2]; /* 4 and 5 levels */
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	*state = r;
	assert_no_error(guest_memory_init(&r->memory, MEMORY, HOLE_START, HOLE_END));
	r->tables[0] = make_page_tables(&r->memory, 4, TABLES);
	r->tables[1] = make_page_tables(&r->memory, 5, TABLES + 0x10000);
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	guest_memory_deinit(&r->memory);
	free(r);
	return 0;
}

static struct paging_walk walk(const struct page_tables *t, u64 address)
{
	return paging_walk(t->memory, t->root, t->levels, address);
}

static void assert_mapped(const struct page_tables *t, u64 address, u64 gpa, u32 shift)
{
	struct paging_walk w = walk(t, address);

	assert_int_equal(w.end, PAGING_MAPPED);
	assert_int_equal(w.gpa, gpa);
	assert_int_equal(w.page_shift, shift);
	assert_int_equal(w.level, (shift - 12) / 9 + 1);
}

static struct paging_walk assert_ends(const struct page_tables *t, u64 address, enum paging_end end, u32 level)
{
	struct paging_walk w = walk(t, address);

	assert_int_equal(w.end, end);
	assert_int_equal(w.level, level);
	return w;
}

static void pages_of_every_size_are_found(void **state)
{
	struct rig *r = *state;

	for (struct page_tables *t = r->tables; t < r->tables + 2; t++) {
		map_page(t, KERNEL, 0x3000, 1);
		map_page(t, KERNEL + 4 * MIB, HOLE_END, 2);
		map_page(t, KERNEL + 3 * GIB, 5 * GIB, 3);
		assert_mapped(t, KERNEL, 0x3000, 12);
		assert_mapped(t, KERNEL + 0xfff, 0x3fff, 12);
		assert_mapped(t, KERNEL + 4 * MIB + 0x123456, HOLE_END + 0x123456, 21);
		assert_mapped(t, KERNEL + 6 * MIB - 1, HOLE_END + 2 * MIB - 1, 21);
		// That it is no memory is for others to see.
		assert_mapped(t, KERNEL + 3 * GIB + 0x3fffffff, 5 * GIB + 0x3fffffff, 30);
	}
}

static void an_absent_entry_ends_the_walk_at_its_level(void **state)
{
	struct rig *r = *state;

	for (struct page_tables *t = r->tables; t < r->tables + 2; t++) {
		assert_ends(t, KERNEL, PAGING_ABSENT, t->levels);
		assert_ends(t, 0, PAGING_ABSENT, t->levels);
		for (u32 level = t->levels; level; level--) {
			u64 *entry = entry_at(t, KERNEL, level);
			struct paging_walk w = assert_ends(t, KERNEL, PAGING_ABSENT, level);

			assert_int_equal(w.entry, 0);
			assert_ptr_equal(guest_memory_at(t->memory, w.table + (uintptr_t)entry % 4096, 8),
					 entry);
			// What a kernel notes about a page that is swapped out or poisoned.
			*entry = ~PTE_PRESENT;
			assert_int_equal(assert_ends(t, KERNEL, PAGING_ABSENT, level).entry, ~PTE_PRESENT);
			*entry = 0;
		}
	}
}

static void flags_are_no_part_of_an_address(void **state)
{
	const u64 ignored = PTE_NX | 0x7ff0000000000000ULL | 0xf7e; // NX, keys, software's own; without PS
	struct rig *r = *state;

	for (struct page_tables *t = r->tables; t < r->tables + 2; t++) {
		map_page(t, KERNEL, 0x3000, 1);
		for (u32 level = 1; level <= t->levels; level++)
			*entry_at(t, KERNEL, level) |= ignored;
		assert_mapped(t, KERNEL + 8, 0x3008, 12);
		// In the last level it is the page's memory type; in a large page that is another bit.
		*entry_at(t, KERNEL, 1) |= PTE_PAGE;
		assert_mapped(t, KERNEL + 8, 0x3008, 12);
		map_page(t, KERNEL + 2 * MIB, 2 * MIB | PTE_PAT_LARGE | PTE_NX, 2);
		assert_mapped(t, KERNEL + 2 * MIB + 5, 2 * MIB + 5, 21);
		map_page(t, KERNEL + GIB, GIB | PTE_PAT_LARGE, 3);
		assert_mapped(t, KERNEL + GIB + 5, GIB + 5, 30);
		// CR3 has a process's number in its low bits, and keys in its high ones.
		t->root |= 0xfff | PTE_NX;
		assert_mapped(t, KERNEL + 8, 0x3008, 12);
	}
}

static void reserved_bits_are_not_mapped(void **state)
{
	struct rig *r = *state;

	for (struct page_tables *t = r->tables; t < r->tables + 2; t++) {
		for (u32 bit = 13; bit < 21; bit++) {
			map_page(t, KERNEL, 2 * MIB | 1ULL << bit, 2);
			assert_ends(t, KERNEL, PAGING_RESERVED, 2);
		}
		for (u32 bit = 13; bit < 30; bit++) {
			map_page(t, KERNEL + GIB, GIB | 1ULL << bit, 3);
			assert_ends(t, KERNEL + GIB, PAGING_RESERVED, 3);
		}
		for (u32 level = 4; level <= t->levels; level++) {
			u64 *entry = entry_at(t, KERNEL, level);

			*entry |= PTE_PAGE;
			assert_ends(t, KERNEL, PAGING_RESERVED, level);
			*entry &= ~PTE_PAGE;
		}
	}
}

static void a_table_outside_of_memory_ends_the_walk(void **state)
{
	// Between the regions, at the end of the last, at the end of everything.
	const u64 outside[] = { HOLE_START, HOLE_END - 4096, HOLE_END + 2 * MIB, PTE_ADDRESS };
	struct rig *r = *state;

	for (struct page_tables *t = r->tables; t < r->tables + 2; t++) {
		for (u32 i = 0; i < ARRAY_SIZE(outside); i++) {
			for (u32 level = t->levels; level > 1; level--) {
				u64 *entry = entry_at(t, KERNEL, level), before = *entry;

				*entry = outside[i] | PTE_TABLE;

				struct paging_walk w = assert_ends(t, KERNEL, PAGING_OUTSIDE, level - 1);

				assert_int_equal(w.table, outside[i]);
				assert_int_equal(w.entry, 0);
				*entry = before;
			}
			assert_int_equal(paging_walk(t->memory, outside[i], t->levels, KERNEL).end, PAGING_OUTSIDE);
		}
	}
}

static void tables_on_both_sides_of_the_hole_are_walked(void **state)
{
	struct rig *r = *state;

	for (struct page_tables *t = r->tables; t < r->tables + 2; t++) {
		t->next = HOLE_END + 0x10000;
		map_page(t, KERNEL, HOLE_END + 0x1000, 1);
		t->next = TABLES + 0x20000;
		map_page(t, KERNEL + GIB, 0x1000, 1);
		assert_mapped(t, KERNEL + 1, HOLE_END + 0x1001, 12);
		assert_mapped(t, KERNEL + GIB + 1, 0x1001, 12);
	}
}

static void a_table_that_is_its_own_entry_is_walked_once_a_level(void **state)
{
	struct rig *r = *state;

	for (struct page_tables *t = r->tables; t < r->tables + 2; t++) {
		u64 *root = guest_memory_at(t->memory, t->root, 4096);

		for (u32 i = 0; i < 512; i++)
			root[i] = t->root | PTE_TABLE;
		assert_mapped(t, KERNEL + 0x123, t->root + 0x123, 12);
		assert_mapped(t, 0x7654321, t->root + 0x321, 12);
	}
}

static void an_address_that_is_none_is_not_walked(void **state)
{
	struct rig *r = *state;
	const u64 none[2][4] = {
		{ 1ULL << 47, 0xffff7fffffffffff, 1ULL << 63, 0x8000ffffffffffff },
		{ 1ULL << 56, 0xfeffffffffffffff, 1ULL << 63, 0x80ffffffffffffff },
	};
	const u64 some[2][3] = {
		{ (1ULL << 47) - 1, 0xffff800000000000, UINT64_MAX },
		{ (1ULL << 56) - 1, 0xff00000000000000, UINT64_MAX },
	};

	for (u32 i = 0; i < 2; i++) {
		for (u32 j = 0; j < ARRAY_SIZE(none[i]); j++)
			assert_ends(&r->tables[i], none[i][j], PAGING_NON_CANONICAL, 0);
		for (u32 j = 0; j < ARRAY_SIZE(some[i]); j++)
			assert_ends(&r->tables[i], some[i][j], PAGING_ABSENT, r->tables[i].levels);
	}
}

static void a_gap_is_as_long_as_the_table_says(void **state)
{
	struct rig *r = *state;
	struct page_tables *t = &r->tables[0];

	assert_int_equal(paging_gap(t->memory, t->root, 4, KERNEL + 1), (512 - 273) * 512 * GIB - 1);
	map_page(t, KERNEL + 5 * 4096, 0, 1);
	map_page(t, KERNEL + 3 * 2 * MIB, 0, 2);
	assert_int_equal(paging_gap(t->memory, t->root, 4, KERNEL), 5 * 4096);
	assert_int_equal(paging_gap(t->memory, t->root, 4, KERNEL + 4096 + 8), 4 * 4096 - 8);
	assert_int_equal(paging_gap(t->memory, t->root, 4, KERNEL + 5 * 4096 + 8), 0);
	assert_int_equal(paging_gap(t->memory, t->root, 4, KERNEL + 6 * 4096), 2 * MIB - 6 * 4096);
	assert_int_equal(paging_gap(t->memory, t->root, 4, KERNEL + 2 * MIB), 4 * MIB);
	assert_int_equal(paging_gap(t->memory, t->root, 4, KERNEL + 7 * MIB), 0);
	assert_int_equal(paging_gap(t->memory, t->root, 4, KERNEL + 8 * MIB), GIB - 8 * MIB);
	assert_int_equal(paging_gap(t->memory, t->root, 4, 1ULL << 50), UINT64_MAX);
	// A table that is no memory: one step, and on.
	assert_int_equal(paging_gap(t->memory, 1ULL << 40, 4, KERNEL), 512 * GIB);
}

static void levels_have_the_kernels_names(void **state)
{
	assert_string_equal(paging_level_name(1, 4), "PTE");
	assert_string_equal(paging_level_name(2, 4), "PMD");
	assert_string_equal(paging_level_name(3, 5), "PUD");
	assert_string_equal(paging_level_name(4, 4), "PGD");
	assert_string_equal(paging_level_name(4, 5), "P4D");
	assert_string_equal(paging_level_name(5, 5), "PGD");
}

#define PAGING_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAGING_TEST(pages_of_every_size_are_found),
		PAGING_TEST(an_absent_entry_ends_the_walk_at_its_level),
		PAGING_TEST(flags_are_no_part_of_an_address),
		PAGING_TEST(reserved_bits_are_not_mapped),
		PAGING_TEST(a_table_outside_of_memory_ends_the_walk),
		PAGING_TEST(tables_on_both_sides_of_the_hole_are_walked),
		PAGING_TEST(a_table_that_is_its_own_entry_is_walked_once_a_level),
		PAGING_TEST(an_address_that_is_none_is_not_walked),
		PAGING_TEST(a_gap_is_as_long_as_the_table_says),
		cmocka_unit_test(levels_have_the_kernels_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
