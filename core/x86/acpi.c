// SPDX-License-Identifier: GPL-2.0-or-later
#include "x86/acpi.h"

#include <string.h>

#include "x86/acpi_tables.h"
#include "x86/apicid.h"
#include "x86/layout.h"

enum {
	HEADER_LENGTH = 4, /* offsets in a table's header */
	HEADER_CHECKSUM = 9,

	RSDP_SIZE = 36,
	RSDP_OLD_SIZE = 20, /* what its first checksum covers */
	RSDP_CHECKSUM = 8,
	RSDP_EXTENDED_CHECKSUM = 32,
	FACS_SIZE = 64,
	FACS_ALIGN = 64,

	ENABLED = 1 << 0,
	GAS_PORT = 1,
};

static const char oem_id[6] = "KTSTR ", oem_table_id[8] = "KTSTRVM ", creator_id[4] = "KTST";

static void fix_checksum(struct buf *out, size_t start, size_t size, size_t at)
{
	u8 sum = 0;

	if (out->failed)
		return;
	out->data[start + at] = 0;
	for (size_t i = 0; i < size; i++)
		sum += out->data[start + i];
	out->data[start + at] = (u8)-sum;
}

size_t table_begin(struct buf *out, const char signature[4], u8 revision)
{
	buf_align(out, 16);

	size_t start = out->size;

	buf_put(out, signature, 4);
	buf_put_u32(out, 0); // length
	buf_put_u8(out, revision);
	buf_put_u8(out, 0); // checksum
	buf_put(out, oem_id, sizeof(oem_id));
	buf_put(out, oem_table_id, sizeof(oem_table_id));
	buf_put_u32(out, 1);
	buf_put(out, creator_id, sizeof(creator_id));
	buf_put_u32(out, 1);
	return start;
}

void table_end(struct buf *out, size_t start)
{
	u32 length = (u32)(out->size - start);

	if (out->failed)
		return;
	memcpy(out->data + start + HEADER_LENGTH, &length, sizeof(length));
	fix_checksum(out, start, length, HEADER_CHECKSUM);
}

static size_t facs_put(struct buf *out)
{
	buf_align(out, FACS_ALIGN);

	size_t start = out->size;

	buf_put(out, "FACS", 4);
	buf_put_u32(out, FACS_SIZE);
	buf_put_zero(out, 24); // hardware signature, waking vector, global lock, flags, 64-bit vector
	buf_put_u8(out, 2); // version
	buf_put_zero(out, FACS_SIZE - 33);
	return start;
}

static void put_port(struct buf *out, u64 port, u8 bits)
{
	buf_put_u8(out, GAS_PORT);
	buf_put_u8(out, bits);
	buf_put_u8(out, 0);
	buf_put_u8(out, 0); // access size: undefined, the kernel's choice
	buf_put_u64(out, port);
}

static u32 fadt_flags(const struct topology *t)
{
	enum {
		WBINVD = 1 << 0,
		C1 = 1 << 2,
		// Set: not among the fixed registers.
		POWER_BUTTON = 1 << 4,
		SLEEP_BUTTON = 1 << 5,
		RTC = 1 << 6,
		RESET_REGISTER = 1 << 10,
		APIC_PHYSICAL = 1 << 19,
	};

	return WBINVD | C1 | POWER_BUTTON | SLEEP_BUTTON | RTC | RESET_REGISTER |
	       (apic_id_needs_x2apic(t) ? APIC_PHYSICAL : 0);
}

/*
 * Not hardware-reduced: that would take the PIC away, and COM1's interrupt with it. SMI_CMD is 0, so the
 * kernel finds ACPI mode on (SCI_EN) and does not try to turn it on.
 */
static size_t fadt_put(struct buf *out, const struct topology *t, u64 facs, u64 dsdt)
{
	// The 8042 flag is not set: a kernel would spend seconds in probing for one. There is a port 0x64.
	enum {
		LEGACY_DEVICES = 1 << 0,
		NO_VGA = 1 << 2,
		NO_RTC = 1 << 5,
	};
	enum {
		EVENT_LENGTH = 4,
		CONTROL_LENGTH = 2,
		NO_C2 = 101,
		NO_C3 = 1001,
		MINOR = 3,
	};
	size_t start = table_begin(out, "FACP", 6);

	buf_put_u32(out, (u32)facs);
	buf_put_u32(out, (u32)dsdt);
	buf_put_zero(out, 2); // reserved, power profile: unspecified
	buf_put_u16(out, LAYOUT_SCI_GSI);
	buf_put_zero(out, 8); // SMI_CMD and the values to write to it
	buf_put_u32(out, LAYOUT_PM_EVENT_PORT);
	buf_put_u32(out, 0);
	buf_put_u32(out, LAYOUT_PM_CONTROL_PORT);
	buf_put_zero(out, 20); // PM1b control, PM2 control, PM timer, both GPE blocks
	buf_put_u8(out, EVENT_LENGTH);
	buf_put_u8(out, CONTROL_LENGTH);
	buf_put_zero(out, 6); // lengths of the others, _CST
	buf_put_u16(out, NO_C2);
	buf_put_u16(out, NO_C3);
	buf_put_zero(out, 9); // cache flush, duty cycle, RTC
	buf_put_u16(out, LEGACY_DEVICES | NO_VGA | NO_RTC);
	buf_put_u8(out, 0);
	buf_put_u32(out, fadt_flags(t));
	put_port(out, LAYOUT_PM_RESET_PORT, 8);
	buf_put_u8(out, LAYOUT_PM_RESET_VALUE);
	buf_put_u16(out, 0);
	buf_put_u8(out, MINOR);
	buf_put_u64(out, 0); // FACS, only above 4 GiB
	buf_put_u64(out, dsdt);
	put_port(out, LAYOUT_PM_EVENT_PORT, EVENT_LENGTH * 8);
	buf_put_zero(out, 12);
	put_port(out, LAYOUT_PM_CONTROL_PORT, CONTROL_LENGTH * 8);
	buf_put_zero(out, 7 * 12 + 8); // PM1b control to sleep status; hypervisor
	table_end(out, start);
	return start;
}

enum {
	MADT_APIC = 0,
	MADT_IOAPIC = 1,
	MADT_OVERRIDE = 2,
	MADT_NMI = 4,
	MADT_X2APIC = 9,
	MADT_X2APIC_NMI = 10,
};

/* The kernel numbers CPUs in this order. Ids that fit are said in the old form, others in the new one. */
static void put_processor(struct buf *out, u32 cpu, u32 id)
{
	if (id < 255) {
		buf_put_u8(out, MADT_APIC);
		buf_put_u8(out, 8);
		buf_put_u8(out, (u8)cpu);
		buf_put_u8(out, (u8)id);
		buf_put_u32(out, ENABLED);
		return;
	}
	buf_put_u8(out, MADT_X2APIC);
	buf_put_u8(out, 16);
	buf_put_u16(out, 0);
	buf_put_u32(out, id);
	buf_put_u32(out, ENABLED);
	buf_put_u32(out, cpu);
}

static void put_override(struct buf *out, u8 irq, u32 gsi, u16 flags)
{
	buf_put_u8(out, MADT_OVERRIDE);
	buf_put_u8(out, 10);
	buf_put_u8(out, 0); // ISA
	buf_put_u8(out, irq);
	buf_put_u32(out, gsi);
	buf_put_u16(out, flags);
}

/* NMI on LINT1 of every CPU. */
static void put_nmi(struct buf *out, const struct topology *t)
{
	buf_put_u8(out, MADT_NMI);
	buf_put_u8(out, 6);
	buf_put_u8(out, 0xff);
	buf_put_u16(out, 0);
	buf_put_u8(out, 1);
	if (!apic_id_needs_x2apic(t))
		return;
	buf_put_u8(out, MADT_X2APIC_NMI);
	buf_put_u8(out, 12);
	buf_put_u16(out, 0);
	buf_put_u32(out, UINT32_MAX);
	buf_put_u8(out, 1);
	buf_put_zero(out, 3);
}

static size_t madt_put(struct buf *out, const struct topology *t)
{
	enum {
		PC_COMPATIBLE = 1 << 0,
		ACTIVE_HIGH = 1,
		LEVEL = 3 << 2,
	};
	size_t start = table_begin(out, "APIC", 5);

	buf_put_u32(out, (u32)LAYOUT_LAPIC_GPA);
	buf_put_u32(out, PC_COMPATIBLE);
	for (u32 cpu = 0; cpu < topology_cpus(t); cpu++)
		put_processor(out, cpu, apic_id(t, cpu));
	buf_put_u8(out, MADT_IOAPIC);
	buf_put_u8(out, 12);
	buf_put_u16(out, 0); // id, reserved
	buf_put_u32(out, (u32)LAYOUT_IOAPIC_GPA);
	buf_put_u32(out, 0); // its first GSI
	put_override(out, 0, LAYOUT_TIMER_GSI, 0);
	put_override(out, LAYOUT_SCI_GSI, LAYOUT_SCI_GSI, ACTIVE_HIGH | LEVEL);
	put_nmi(out, t);
	table_end(out, start);
	return start;
}

static size_t mcfg_put(struct buf *out)
{
	size_t start = table_begin(out, "MCFG", 1);

	buf_put_u64(out, 0);
	buf_put_u64(out, LAYOUT_ECAM_GPA);
	buf_put_u16(out, 0); // segment
	buf_put_u8(out, 0);
	buf_put_u8(out, LAYOUT_PCI_BUSES - 1);
	buf_put_u32(out, 0);
	table_end(out, start);
	return start;
}

static size_t xsdt_put(struct buf *out, u64 gpa, const size_t *tables, u32 count)
{
	size_t start = table_begin(out, "XSDT", 1);

	for (u32 i = 0; i < count; i++)
		buf_put_u64(out, gpa + tables[i]);
	table_end(out, start);
	return start;
}

static void fill_rsdp(struct buf *out, u64 xsdt)
{
	static const char signature[8] = "RSD PTR ";
	enum {
		OEM = 9,
		REVISION = 15,
		LENGTH = 20,
		XSDT = 24,
	};
	const u32 size = RSDP_SIZE;

	if (out->failed)
		return;
	memcpy(out->data, signature, sizeof(signature));
	memcpy(out->data + OEM, oem_id, sizeof(oem_id));
	out->data[REVISION] = 2;
	memcpy(out->data + LENGTH, &size, sizeof(size));
	memcpy(out->data + XSDT, &xsdt, sizeof(xsdt));
	fix_checksum(out, 0, RSDP_OLD_SIZE, RSDP_CHECKSUM);
	fix_checksum(out, 0, RSDP_SIZE, RSDP_EXTENDED_CHECKSUM);
}

struct error *acpi_build(const struct topology *t, u64 gpa, struct buf *out)
{
	size_t tables[6];
	u32 count = 0;

	if (gpa % FACS_ALIGN || gpa + LAYOUT_ACPI_SIZE > GIB(4))
		return error_create(ERROR_INVALID, "ACPI tables cannot lie at 0x%llx", (unsigned long long)gpa);
	if (out->size)
		return error_create(ERROR_INVALID, "ACPI tables start in an empty buffer, not after %zu bytes",
				    out->size);
	buf_put_zero(out, RSDP_SIZE);

	size_t facs = facs_put(out);
	size_t dsdt = dsdt_put(out, t);

	tables[count++] = fadt_put(out, t, gpa + facs, gpa + dsdt);
	tables[count++] = madt_put(out, t);
	tables[count++] = mcfg_put(out);
	tables[count++] = srat_put(out, t);
	if (t->nodes > 1) {
		tables[count++] = slit_put(out, t);
		tables[count++] = hmat_put(out, t);
	}
	fill_rsdp(out, gpa + xsdt_put(out, gpa, tables, count));
	return buf_check(out);
}
