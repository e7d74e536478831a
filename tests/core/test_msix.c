// SPDX-License-Identifier: GPL-2.0-or-later
#include "device_fixture.h"

#include <linux/pci_regs.h>

#include "device/msix.h"

enum { COUNT = 9 };

static void write_dword(struct msix *msix, u32 vector, u32 field, u32 value)
{
	msix_table_write(msix, vector * MSIX_ENTRY_SIZE + 4 * field, &value, 4);
}

static u32 read_dword(struct msix *msix, u32 vector, u32 field)
{
	u32 value = 0xdead;

	msix_table_read(msix, vector * MSIX_ENTRY_SIZE + 4 * field, &value, 4);
	return value;
}

static u64 pending(struct msix *msix)
{
	u64 value = ~0ULL;

	msix_pending_read(msix, 0, &value, 8);
	return value;
}

static void program(struct msix *msix, u32 vector, u32 address, u32 data)
{
	write_dword(msix, vector, 0, address);
	write_dword(msix, vector, 1, 0);
	write_dword(msix, vector, 2, data);
	write_dword(msix, vector, 3, 0);
}

static void a_vector_is_announced_complete_when_it_is_unmasked(void **state)
{
	struct irq_record irq = { 0 };
	struct msix msix;

	assert_fine(msix_init(&msix, COUNT, record_sink(&irq)));
	assert_int_equal(read_dword(&msix, 3, 3), 1);
	msix_set_control(&msix, PCI_MSIX_FLAGS_ENABLE);
	program(&msix, 3, 0xfee01000, 0x4123);
	assert_int_equal(irq.vectors[3].updates, 1);
	assert_true(irq.vectors[3].address == 0xfee01000);
	assert_int_equal(irq.vectors[3].data, 0x4123);
	assert_false(irq.vectors[3].masked);
	msix_raise(&msix, 3);
	assert_int_equal(irq.vectors[3].raised, 1);
	// Changed without a mask, as an affinity change may be.
	write_dword(&msix, 3, 0, 0xfee02000);
	assert_true(irq.vectors[3].address == 0xfee02000);
	assert_int_equal(irq.vectors[2].updates + irq.vectors[4].updates, 0);
	msix_deinit(&msix);
}

static void raised_while_masked_it_is_pending_and_raised_once_later(void **state)
{
	struct irq_record irq = { 0 };
	struct msix msix;

	assert_fine(msix_init(&msix, COUNT, record_sink(&irq)));
	msix_set_control(&msix, PCI_MSIX_FLAGS_ENABLE);
	program(&msix, 2, 0xfee00000, 0x22);
	write_dword(&msix, 2, 3, 1);
	assert_true(irq.vectors[2].masked);
	msix_raise(&msix, 2);
	msix_raise(&msix, 2);
	assert_int_equal(irq.vectors[2].raised, 0);
	assert_true(pending(&msix) == 1 << 2);
	write_dword(&msix, 2, 3, 0);
	assert_int_equal(irq.vectors[2].raised, 1);
	assert_true(pending(&msix) == 0);
	write_dword(&msix, 2, 3, 1);
	write_dword(&msix, 2, 3, 0);
	assert_int_equal(irq.vectors[2].raised, 1);
	msix_deinit(&msix);
}

static void the_function_mask_holds_all_vectors_back(void **state)
{
	struct irq_record irq = { 0 };
	struct msix msix;

	assert_fine(msix_init(&msix, COUNT, record_sink(&irq)));
	msix_set_control(&msix, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	program(&msix, 0, 0xfee00000, 0x20);
	program(&msix, 1, 0xfee00000, 0x21);
	assert_int_equal(irq.vectors[0].updates, 0);
	msix_raise(&msix, 0);
	msix_raise(&msix, 5); // masked by itself too
	msix_set_control(&msix, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(irq.vectors[0].updates, 1);
	assert_int_equal(irq.vectors[0].raised, 1);
	assert_int_equal(irq.vectors[1].raised, 0);
	assert_true(pending(&msix) == 1 << 5);
	msix_set_control(&msix, 0);
	assert_true(irq.vectors[1].masked);
	msix_deinit(&msix);
}

static void nothing_is_raised_while_disabled_or_beyond_the_table(void **state)
{
	struct irq_record irq = { 0 };
	struct msix msix;

	assert_fine(msix_init(&msix, COUNT, record_sink(&irq)));
	program(&msix, 1, 0xfee00000, 0x21);
	msix_raise(&msix, 1);
	msix_set_control(&msix, PCI_MSIX_FLAGS_ENABLE);
	msix_raise(&msix, COUNT);
	msix_raise(&msix, 0xffff);
	for (u32 i = 0; i < RECORD_VECTORS; i++)
		assert_int_equal(irq.vectors[i].raised, 0);
	assert_true(pending(&msix) == 0);
	msix_deinit(&msix);
}

static void odd_accesses_are_harmless(void **state)
{
	struct irq_record irq = { 0 };
	struct msix msix;
	u8 ones[8];

	memset(ones, 0xff, sizeof(ones));
	assert_fine(msix_init(&msix, COUNT, record_sink(&irq)));
	msix_set_control(&msix, PCI_MSIX_FLAGS_ENABLE);
	for (u32 size = 1; size <= 8; size++)
		for (u64 offset = COUNT * MSIX_ENTRY_SIZE - 8; offset < 4096; offset++) {
			u64 value = 0;

			msix_table_write(&msix, offset, ones, size);
			msix_table_read(&msix, offset, &value, size);
			if (offset >= COUNT * MSIX_ENTRY_SIZE)
				assert_true(value == 0);
			msix_pending_read(&msix, offset, &value, size);
		}
	msix_table_write(&msix, 2, ones, 4); // misaligned
	msix_table_write(&msix, 0, ones, 2); // too narrow
	assert_int_equal(read_dword(&msix, 0, 0), 0);
	assert_int_equal(read_dword(&msix, 0, 1), 0);
	write_dword(&msix, 0, 3, 0xfffffffe);
	assert_int_equal(read_dword(&msix, 0, 3), 0); // reserved bits do not stick
	msix_deinit(&msix);
}

static void a_table_has_1_to_64_vectors(void **state)
{
	struct irq_record irq = { 0 };
	struct msix msix;

	assert_error(msix_init(&msix, 0, record_sink(&irq)), ERROR_INVALID);
	assert_error(msix_init(&msix, MSIX_MAX_VECTORS + 1, record_sink(&irq)), ERROR_INVALID);
	assert_fine(msix_init(&msix, MSIX_MAX_VECTORS, record_sink(&irq)));
	msix_set_control(&msix, PCI_MSIX_FLAGS_ENABLE);
	msix_raise(&msix, MSIX_MAX_VECTORS - 1);
	assert_true(pending(&msix) == 1ULL << 63);
	msix_deinit(&msix);
}

static void its_state_survives(void **state)
{
	struct irq_record a_irq = { 0 }, b_irq = { 0 };
	struct msix a, b;
	struct msix_state s;
	struct buf saved = BUF_INIT;

	assert_fine(msix_init(&a, COUNT, record_sink(&a_irq)));
	assert_fine(msix_init(&b, COUNT, record_sink(&b_irq)));
	msix_set_control(&a, PCI_MSIX_FLAGS_ENABLE);
	program(&a, 1, 0xfee00000, 0x21);
	msix_raise(&a, 4);
	msix_save(&a, &saved);

	struct reader in = reader_init(saved.data, saved.size);

	msix_set_control(&b, PCI_MSIX_FLAGS_ENABLE); // configuration space is loaded first
	assert_fine(msix_parse(&b, &in, &s));
	assert_int_equal(reader_left(&in), 0);
	msix_apply(&b, &s);
	assert_int_equal(b_irq.vectors[1].data, 0x21);
	assert_int_equal(b_irq.vectors[1].updates, 1);
	write_dword(&b, 4, 3, 0);
	assert_int_equal(b_irq.vectors[4].raised, 1);

	saved.data[1] = 0xff; // pending bits of vectors that are not there
	in = reader_init(saved.data, saved.size);
	assert_error(msix_parse(&b, &in, &s), ERROR_FORMAT);
	buf_deinit(&saved);
	msix_deinit(&a);
	msix_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vector_is_announced_complete_when_it_is_unmasked),
		cmocka_unit_test(raised_while_masked_it_is_pending_and_raised_once_later),
		cmocka_unit_test(the_function_mask_holds_all_vectors_back),
		cmocka_unit_test(nothing_is_raised_while_disabled_or_beyond_the_table),
		cmocka_unit_test(odd_accesses_are_harmless),
		cmocka_unit_test(a_table_has_1_to_64_vectors),
		cmocka_unit_test(its_state_survives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
