// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/i8042.h"
#include "device/ioapic.h"
#include "device/pci.h"
#include "device/pm.h"
#include "kvm/vm.h"
#include "x86/layout.h"

struct range {
	const char *name;
	u64 start, size;
};

static void check_apart(const struct range *r, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		assert_true(r[i].size && r[i].start + r[i].size > r[i].start);
		for (u32 j = 0; j < i; j++) {
			bool apart = r[i].start >= r[j].start + r[j].size || r[j].start >= r[i].start + r[i].size;

			if (!apart)
				fail_msg("%s overlaps %s", r[i].name, r[j].name);
		}
	}
}

static void nothing_in_low_memory_overlaps(void **state)
{
	static const struct range ranges[] = {
		{ "page 0", 0, 0x1000 },
		{ "GDT", LAYOUT_GDT_GPA, 0x1000 },
		{ "zero page", LAYOUT_ZERO_PAGE_GPA, 0x1000 },
		{ "setup data", LAYOUT_SETUP_DATA_GPA, 0x1000 },
		{ "page tables", LAYOUT_PAGE_TABLES_GPA, LAYOUT_PAGE_TABLES_SIZE },
		{ "command line", LAYOUT_CMDLINE_GPA, LAYOUT_CMDLINE_MAX },
		{ "BIOS", LAYOUT_BIOS_START, LAYOUT_ACPI_GPA - LAYOUT_BIOS_START },
		{ "ACPI", LAYOUT_ACPI_GPA, LAYOUT_ACPI_SIZE },
		{ "kernel", LAYOUT_HIGH_RAM_START, MIB(1) },
	};

	check_apart(ranges, ARRAY_SIZE(ranges));
	// Where the kernel looks for the RSDP.
	assert_true(LAYOUT_ACPI_GPA >= 0xe0000 && LAYOUT_ACPI_GPA + LAYOUT_ACPI_SIZE <= MIB(1));
}

static void nothing_in_the_hole_overlaps(void **state)
{
	static const struct range ranges[] = {
		{ "32-bit window", LAYOUT_PCI32_GPA, LAYOUT_PCI32_SIZE },
		{ "ECAM", LAYOUT_ECAM_GPA, LAYOUT_ECAM_SIZE },
		{ "IOAPIC", LAYOUT_IOAPIC_GPA, LAYOUT_IOAPIC_SIZE },
		{ "LAPIC and MSIs", LAYOUT_LAPIC_GPA, MIB(1) },
		{ "KVM", LAYOUT_KVM_GPA, LAYOUT_KVM_SIZE },
	};

	check_apart(ranges, ARRAY_SIZE(ranges));
	for (u32 i = 0; i < ARRAY_SIZE(ranges); i++) {
		assert_true(ranges[i].start >= LAYOUT_HOLE_START);
		assert_true(ranges[i].start + ranges[i].size <= LAYOUT_HOLE_END);
	}
}

static void no_ports_overlap(void **state)
{
	static const struct range ranges[] = {
		{ "PIC", 0x20, 2 },
		{ "i8042", LAYOUT_I8042_PORT, I8042_PORTS },
		{ "second PIC", 0xa0, 2 },
		{ "COM2", LAYOUT_COM2_PORT, LAYOUT_COM_PORTS },
		{ "COM1", LAYOUT_COM1_PORT, LAYOUT_COM_PORTS },
		{ "ELCR", 0x4d0, 2 },
		{ "PM", LAYOUT_PM_PORT, LAYOUT_PM_PORTS },
		{ "PCI configuration", LAYOUT_PCI_ADDRESS_PORT, PCI_PORTS },
		{ "PCI window", LAYOUT_PCI_IO_START, LAYOUT_PCI_IO_END - LAYOUT_PCI_IO_START },
	};

	check_apart(ranges, ARRAY_SIZE(ranges));
}

static void the_devices_have_the_same_numbers(void **state)
{
	assert_int_equal(LAYOUT_I8042_PORT, I8042_PORT);
	assert_int_equal(LAYOUT_PM_PORTS, PM_PORTS);
	assert_int_equal(LAYOUT_PM_EVENT_PORT - LAYOUT_PM_PORT, PM_EVENT_OFFSET);
	assert_int_equal(LAYOUT_PM_CONTROL_PORT - LAYOUT_PM_PORT, PM_CONTROL_OFFSET);
	assert_int_equal(LAYOUT_PM_RESET_PORT - LAYOUT_PM_PORT, PM_RESET_OFFSET);
	assert_int_equal(LAYOUT_PM_RESET_VALUE, PM_RESET_VALUE);
	assert_int_equal(LAYOUT_PCI_ADDRESS_PORT, PCI_PORT);
	assert_int_equal(LAYOUT_PCI_DATA_PORT, PCI_PORT + 4);
	assert_int_equal(LAYOUT_PCI_SLOTS, PCI_SLOTS);
	assert_int_equal(LAYOUT_ECAM_SIZE, PCI_ECAM_SIZE * LAYOUT_PCI_BUSES);
	assert_int_equal(LAYOUT_IOAPIC_SIZE, IOAPIC_SIZE);
	assert_int_equal(LAYOUT_IOAPIC_PINS, IOAPIC_PINS);
	assert_int_equal(LAYOUT_MSI_GSI, VM_LAST_PIN + 1);
	assert_int_equal(LAYOUT_KVM_GPA, VM_PRIVATE_START);
	assert_int_equal(LAYOUT_KVM_SIZE, VM_PRIVATE_SIZE);
}

static void the_window_above_4_gib_is_clear_of_memory(void **state)
{
	static const u64 sizes[] = { MIB(2), LAYOUT_HOLE_START, LAYOUT_HOLE_START + MIB(2), GIB(5), GIB(500) };

	assert_int_equal(layout_pci64_gpa(MIB(256)), GIB(4));
	assert_int_equal(layout_pci64_gpa(LAYOUT_HOLE_START + MIB(2)), GIB(5));
	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		u64 above = sizes[i] > LAYOUT_HOLE_START ? sizes[i] - LAYOUT_HOLE_START : 0;

		assert_true(layout_pci64_gpa(sizes[i]) >= GIB(4) + above);
	}
}

static void interrupt_pins_rotate_over_their_gsis(void **state)
{
	for (u32 slot = 0; slot < LAYOUT_PCI_SLOTS; slot++)
		for (u32 pin = 0; pin < LAYOUT_PCI_PINS; pin++)
			assert_int_equal(layout_pci_gsi(slot, pin), 16 + (slot + pin) % 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_in_low_memory_overlaps),
		cmocka_unit_test(nothing_in_the_hole_overlaps),
		cmocka_unit_test(no_ports_overlap),
		cmocka_unit_test(the_devices_have_the_same_numbers),
		cmocka_unit_test(the_window_above_4_gib_is_clear_of_memory),
		cmocka_unit_test(interrupt_pins_rotate_over_their_gsis),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
