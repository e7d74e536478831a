// SPDX-License-Identifier: GPL-2.0-or-later
#include "x86/acpi_tables.h"
#include "x86/aml.h"
#include "x86/layout.h"

static void put_s5(struct aml *a)
{
	aml_name(a, "_S5");
	aml_package(a, 4);
	aml_integer(a, LAYOUT_PM_SLP_TYP_S5); // PM1a
	aml_integer(a, LAYOUT_PM_SLP_TYP_S5); // PM1b
	aml_integer(a, 0);
	aml_integer(a, 0);
	aml_close(a);
}

/* Hard-wired: a pin's GSI is said outright, there is no link device to be set up. */
static void put_prt(struct aml *a)
{
	aml_name(a, "_PRT");
	aml_package(a, LAYOUT_PCI_SLOTS * LAYOUT_PCI_PINS);
	for (u32 slot = 0; slot < LAYOUT_PCI_SLOTS; slot++) {
		for (u32 pin = 0; pin < LAYOUT_PCI_PINS; pin++) {
			aml_package(a, 4);
			aml_integer(a, slot << 16 | 0xffff); // any function
			aml_integer(a, pin);
			aml_integer(a, 0);
			aml_integer(a, layout_pci_gsi(slot, pin));
			aml_close(a);
		}
	}
	aml_close(a);
}

/*
 * Grants all control that is asked for: there is no firmware that would want to keep any. Without it the
 * kernel reports that the platform retains control.
 */
static void put_osc(struct aml *a)
{
	// 33db4d5b-1ff7-401c-9657-7441c03dd766, in the byte order of ACPI.
	static const char pci_uuid[] = "\x5b\x4d\xdb\x33\xf7\x1f\x1c\x40\x96\x57\x74\x41\xc0\x3d\xd7\x66";
	enum {
		UNKNOWN_UUID = 1 << 2,
		UNKNOWN_REVISION = 1 << 3,
	};
	enum {
		ARG_UUID,
		ARG_REVISION,
		ARG_COUNT,
		ARG_CAPABILITIES,
	};

	aml_method(a, "_OSC", 4);
	aml_create_dword_field(a, ARG_CAPABILITIES, 0, "CDW1");
	aml_if(a);
	aml_equal(a);
	aml_arg(a, ARG_UUID);
	aml_bytes(a, pci_uuid, sizeof(pci_uuid) - 1);
	aml_if(a);
	aml_not_equal(a);
	aml_arg(a, ARG_REVISION);
	aml_integer(a, 1);
	aml_or(a);
	aml_reference(a, "CDW1");
	aml_integer(a, UNKNOWN_REVISION);
	aml_reference(a, "CDW1");
	aml_close(a);
	aml_close(a);
	aml_else(a);
	aml_or(a);
	aml_reference(a, "CDW1");
	aml_integer(a, UNKNOWN_UUID);
	aml_reference(a, "CDW1");
	aml_close(a);
	aml_return(a);
	aml_arg(a, ARG_CAPABILITIES);
	aml_close(a);
}

static void put_pci(struct aml *a, const struct topology *t)
{
	aml_device(a, "PCI0");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisa_id(a, "PNP0A03");
	aml_name(a, "_UID");
	aml_integer(a, 0);
	aml_name(a, "_SEG");
	aml_integer(a, 0);
	aml_name(a, "_BBN");
	aml_integer(a, 0);
	// Every device hangs off the first CPU's node. A kernel with several warns when nobody says so.
	if (t->nodes > 1) {
		aml_name(a, "_PXM");
		aml_integer(a, topology_cpu(t, 0).node);
	}
	aml_name(a, "_CRS");
	aml_resources(a);
	aml_bus_window(a, 0, LAYOUT_PCI_BUSES - 1);
	aml_io(a, LAYOUT_PCI_ADDRESS_PORT, 8); // its own, not passed on
	aml_io_window(a, LAYOUT_PCI_IO_START, LAYOUT_PCI_IO_END - 1);
	aml_memory_window(a, LAYOUT_PCI32_GPA, LAYOUT_PCI32_SIZE);
	aml_memory_window(a, layout_pci64_gpa(topology_memory(t)), LAYOUT_PCI64_SIZE);
	aml_close(a);
	put_prt(a);
	put_osc(a);
	aml_close(a);
}

static void put_com(struct aml *a, const char *name, u32 uid, u16 port, u32 irq)
{
	aml_device(a, name);
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0501");
	aml_name(a, "_UID");
	aml_integer(a, uid);
	aml_name(a, "_CRS");
	aml_resources(a);
	aml_io(a, port, LAYOUT_COM_PORTS);
	aml_irq_edge(a, irq);
	aml_close(a);
	aml_close(a);
}

/* What no device may be given: the kernel uses ECAM only where a PNP0C02 claims it. */
static void put_motherboard(struct aml *a)
{
	aml_device(a, "MBRD");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C02");
	aml_name(a, "_UID");
	aml_integer(a, 0);
	aml_name(a, "_CRS");
	aml_resources(a);
	aml_memory32(a, (u32)LAYOUT_ECAM_GPA, (u32)LAYOUT_ECAM_SIZE);
	aml_io(a, LAYOUT_PM_PORT, LAYOUT_PM_PORTS);
	aml_close(a);
	aml_close(a);
}

size_t dsdt_put(struct buf *out, const struct topology *t)
{
	size_t start = table_begin(out, "DSDT", 2);
	struct aml a = aml_init(out);

	put_s5(&a);
	aml_scope(&a, "_SB");
	put_pci(&a, t);
	put_motherboard(&a);
	put_com(&a, "COM1", 1, LAYOUT_COM1_PORT, LAYOUT_COM1_GSI);
	put_com(&a, "COM2", 2, LAYOUT_COM2_PORT, LAYOUT_COM2_GSI);
	aml_close(&a);
	table_end(out, start);
	return start;
}
