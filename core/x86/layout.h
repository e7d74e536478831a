/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where everything lies in the guest: physical addresses, ports, interrupt numbers.
 * Depends on base/types.h alone, so any layer above may include it.
 * One place for every number: no two of the ranges here overlap (tests/core/test_layout.c).
 */
#ifndef X86_LAYOUT_H
#define X86_LAYOUT_H

#include "base/types.h"

#define KIB(n) ((u64)(n) << 10)
#define MIB(n) ((u64)(n) << 20)
#define GIB(n) ((u64)(n) << 30)

/*
 * Low memory. The kernel copies what it needs out of these early, then reuses them; page 0 stays out
 * of it (the kernel reserves it) and so does the EBDA's last KiB below 640 KiB.
 */
#define LAYOUT_GDT_GPA 0x1000ULL
#define LAYOUT_ZERO_PAGE_GPA 0x2000ULL /* struct boot_params */
#define LAYOUT_SETUP_DATA_GPA 0x3000ULL /* the random seed */
#define LAYOUT_PAGE_TABLES_GPA 0x4000ULL
#define LAYOUT_PAGE_TABLES_SIZE 0x7000ULL /* PML5, PML4, PDPT, four page directories */
#define LAYOUT_CMDLINE_GPA 0x20000ULL
#define LAYOUT_CMDLINE_MAX 0x10000ULL /* with its NUL; the kernel's own limit is lower */
#define LAYOUT_LOW_RAM_END 0x9fc00ULL
#define LAYOUT_BIOS_START LAYOUT_LOW_RAM_END /* EBDA, VGA, option ROMs: reserved up to the tables */
/* RSDP first (the kernel scans 0xe0000..0xfffff for it on 16-byte steps), then the tables. */
#define LAYOUT_ACPI_GPA 0xe0000ULL
#define LAYOUT_ACPI_SIZE 0x20000ULL
#define LAYOUT_HIGH_RAM_START MIB(1) /* a kernel's lowest load address */

/* The 32-bit hole: guest memory goes on at its end. */
#define LAYOUT_HOLE_START 0xc0000000ULL
#define LAYOUT_HOLE_END GIB(4)

#define LAYOUT_PCI32_GPA 0xc0000000ULL /* BARs below 4 GiB */
#define LAYOUT_PCI32_SIZE 0x20000000ULL
#define LAYOUT_ECAM_GPA 0xe0000000ULL /* PCI configuration space, 1 MiB a bus */
#define LAYOUT_ECAM_SIZE (LAYOUT_PCI_BUSES * MIB(1))
#define LAYOUT_IOAPIC_GPA 0xfec00000ULL
#define LAYOUT_IOAPIC_SIZE 0x1000ULL
#define LAYOUT_LAPIC_GPA 0xfee00000ULL
#define LAYOUT_LAPIC_SIZE 0x1000ULL
#define LAYOUT_KVM_GPA 0xfffbc000ULL /* KVM's own: identity map (a page) and TSS (three); VM_PRIVATE_START */
#define LAYOUT_KVM_SIZE 0x4000ULL

#define LAYOUT_PCI64_SIZE GIB(4)

/* The window for 64-bit BARs: above memory (memory_size bytes, split round the hole) and 4 GiB. */
static inline u64 layout_pci64_gpa(u64 memory_size)
{
	u64 above = memory_size > LAYOUT_HOLE_START ? memory_size - LAYOUT_HOLE_START : 0;

	return ALIGN_UP(LAYOUT_HOLE_END + above, GIB(1));
}

enum {
	LAYOUT_PCI_BUSES = 1,
	LAYOUT_PCI_SLOTS = 32, /* a bus */
	LAYOUT_PCI_PINS = 4, /* INTA to INTD */

	/* Ports. */
	LAYOUT_I8042_PORT = 0x60, /* to 0x64: writing 0xfe there resets */
	LAYOUT_COM2_PORT = 0x2f8,
	LAYOUT_COM1_PORT = 0x3f8,
	LAYOUT_COM_PORTS = 8,
	LAYOUT_PM_PORT = 0x600, /* the ACPI fixed hardware: */
	LAYOUT_PM_PORTS = 0x10,
	LAYOUT_PM_EVENT_PORT = LAYOUT_PM_PORT, /* PM1a: status (u16), enable (u16) */
	LAYOUT_PM_CONTROL_PORT = LAYOUT_PM_PORT + 4, /* PM1a control (u16): SCI_EN reads 1 */
	LAYOUT_PM_RESET_PORT = LAYOUT_PM_PORT + 8, /* u8: writing LAYOUT_PM_RESET_VALUE resets */
	LAYOUT_PCI_ADDRESS_PORT = 0xcf8,
	LAYOUT_PCI_DATA_PORT = 0xcfc, /* to 0xcff */
	LAYOUT_PCI_IO_START = 0x1000, /* BARs in port space: to 0xffff */
	LAYOUT_PCI_IO_END = 0x10000,

	/* Values of the PM ports. */
	LAYOUT_PM_RESET_VALUE = 0x06,
	LAYOUT_PM_SLP_TYP_S5 = 5, /* PM1a control: bits 10 to 12; with SLP_EN it powers off */
	LAYOUT_PM_SCI_EN = 1 << 0,
	LAYOUT_PM_SLP_TYP_SHIFT = 10,
	LAYOUT_PM_SLP_EN = 1 << 13,

	/* Interrupts, by GSI: the IOAPIC's pin. The PIT's IRQ 0 would be on pin 2. */
	LAYOUT_TIMER_GSI = 2,
	LAYOUT_COM2_GSI = 3,
	LAYOUT_COM1_GSI = 4,
	LAYOUT_SCI_GSI = 9, /* level, active high */
	LAYOUT_PCI_GSI = 16, /* to 19, level, active low */
	LAYOUT_PCI_GSIS = 4,
	LAYOUT_IOAPIC_PINS = 24,
	LAYOUT_MSI_GSI = 24, /* the first number free for MSI routes */
};

/* GSI of a PCI function's interrupt pin: device 0 to 31, pin 0 (INTA) to 3. */
static inline u32 layout_pci_gsi(u32 device, u32 pin)
{
	return LAYOUT_PCI_GSI + (device + pin) % LAYOUT_PCI_GSIS;
}

#endif
