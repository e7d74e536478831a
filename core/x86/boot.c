// SPDX-License-Identifier: GPL-2.0-or-later
#include "x86/boot.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "x86/layout.h"

enum {
	PAGE = 4096,

	HEADER_BOOT_FLAG = 0xaa55,
	HEADER_MAGIC = 0x53726448, /* "HdrS" */
	HEADER_VERSION = 0x20f, /* of the protocol, for a header that is made up */
	LOADER_UNDEFINED = 0xff,
	CMDLINE_DEFAULT_MAX = 2047,
	CMDLINE_SIZE_SINCE = 0x206, /* version of the protocol with cmdline_size */

	E820_RAM = 1,
	E820_RESERVED = 2,
	E820_ACPI = 3,

	SEED_SIZE = 64,
};

static u64 mib(u64 bytes)
{
	return (bytes + MIB(1) - 1) >> 20;
}

static bool overlap(u64 a, u64 a_size, u64 b, u64 b_size)
{
	return a < b + b_size && b < a + a_size;
}

/* Memory above the low area, so that no overlap with anything placed there has to be thought of. */
static bool is_free_memory(const struct guest_memory *m, u64 gpa, u64 size)
{
	return gpa >= LAYOUT_HIGH_RAM_START && guest_memory_at(m, gpa, size);
}

static struct error *check_kernel(const struct guest_memory *m, const struct boot_kernel *kernel)
{
	if (!is_free_memory(m, kernel->load_gpa, kernel->span))
		return error_with_hint(error_create(ERROR_INVALID,
						    "the kernel needs %llu MiB at 0x%llx: that is not all memory of "
						    "the guest, which has %llu MiB",
						    (unsigned long long)mib(kernel->span),
						    (unsigned long long)kernel->load_gpa,
						    (unsigned long long)mib(m->size)),
				       "give the guest more with memory=");
	if (kernel->entry_gpa < kernel->load_gpa || kernel->entry_gpa - kernel->load_gpa >= kernel->span)
		return error_create(ERROR_INVALID, "the kernel's entry 0x%llx is outside the kernel",
				    (unsigned long long)kernel->entry_gpa);
	if (kernel->entry_gpa >= GIB(4))
		return error_create(ERROR_INVALID, "the kernel's entry 0x%llx is above 4 GiB",
				    (unsigned long long)kernel->entry_gpa);
	return NULL;
}

/* The highest page-aligned place for size bytes in [start, end); 0 when there is none. */
static u64 place_high(u64 start, u64 end, u64 size)
{
	if (start < LAYOUT_HIGH_RAM_START)
		start = LAYOUT_HIGH_RAM_START;
	if (end < start || end - start < size)
		return 0;

	u64 gpa = ALIGN_DOWN(end - size, (u64)PAGE);

	return gpa >= start ? gpa : 0;
}

struct error *boot_place_initrd(const struct guest_memory *m, const struct boot_kernel *kernel, u64 size, u64 *ret)
{
	struct error *err = check_kernel(m, kernel);

	if (err)
		return err;
	if (!size)
		return error_create(ERROR_INVALID, "an empty initrd needs no place");
	for (u32 i = 0; i < m->region_count; i++) {
		u64 start = m->regions[i].gpa, end = start + m->regions[i].size;
		u64 gpa;

		if (kernel->load_gpa >= start && kernel->load_gpa < end) {
			gpa = place_high(kernel->load_gpa + kernel->span, end, size);
			if (!gpa)
				gpa = place_high(start, kernel->load_gpa, size);
		} else {
			gpa = place_high(start, end, size);
		}
		if (gpa) {
			*ret = gpa;
			return NULL;
		}
	}
	return error_with_hint(error_create(ERROR_INVALID,
					    "the kernel (%llu MiB at 0x%llx) and an initrd of %llu MiB do not fit into "
					    "%llu MiB of memory",
					    (unsigned long long)mib(kernel->span),
					    (unsigned long long)kernel->load_gpa, (unsigned long long)mib(size),
					    (unsigned long long)mib(m->size)),
			       "give the guest more with memory=");
}

static struct error *check_initrd(const struct guest_memory *m, const struct boot_options *options)
{
	const struct boot_kernel *kernel = &options->kernel;

	if (!options->initrd_size)
		return NULL;
	if (!is_free_memory(m, options->initrd_gpa, options->initrd_size))
		return error_create(ERROR_INVALID, "an initrd of %llu MiB at 0x%llx is not all in the guest's memory",
				    (unsigned long long)mib(options->initrd_size),
				    (unsigned long long)options->initrd_gpa);
	if (overlap(options->initrd_gpa, options->initrd_size, kernel->load_gpa, kernel->span))
		return error_create(ERROR_INVALID, "the initrd at 0x%llx overlaps the kernel at 0x%llx",
				    (unsigned long long)options->initrd_gpa, (unsigned long long)kernel->load_gpa);
	return NULL;
}

static struct error *init_header(struct setup_header *hdr, const struct boot_kernel *kernel)
{
	if (!kernel->setup_header) {
		hdr->boot_flag = HEADER_BOOT_FLAG;
		hdr->header = HEADER_MAGIC;
		hdr->version = HEADER_VERSION;
		hdr->cmdline_size = CMDLINE_DEFAULT_MAX;
		hdr->init_size = (u32)kernel->span;
		return NULL;
	}

	size_t size = kernel->setup_header_size;

	memcpy(hdr, kernel->setup_header, size < sizeof(*hdr) ? size : sizeof(*hdr));
	if (hdr->boot_flag != HEADER_BOOT_FLAG || hdr->header != HEADER_MAGIC)
		return error_create(ERROR_FORMAT, "the kernel's setup header has no boot signature");
	if (hdr->version < CMDLINE_SIZE_SINCE || !hdr->cmdline_size)
		hdr->cmdline_size = CMDLINE_DEFAULT_MAX;
	hdr->loadflags = 0;
	hdr->setup_data = 0;
	return NULL;
}

static struct error *write_cmdline(const struct guest_memory *m, struct boot_params *params, const char *cmdline)
{
	u32 max = params->hdr.cmdline_size;
	size_t length = strlen(cmdline);

	if (max > LAYOUT_CMDLINE_MAX - 1)
		max = LAYOUT_CMDLINE_MAX - 1;
	if (length > max)
		return error_create(ERROR_INVALID,
				    "the kernel's command line has %zu characters: this kernel takes %u", length, max);

	char *to = guest_memory_at(m, LAYOUT_CMDLINE_GPA, length + 1);

	if (!to)
		return error_create(ERROR_INVALID, "the guest has no memory for its command line");
	memcpy(to, cmdline, length + 1);
	params->hdr.cmd_line_ptr = (u32)LAYOUT_CMDLINE_GPA;
	return NULL;
}

/* The kernel's random pool is ready from the start: nothing in the guest waits for entropy. */
static struct error *write_seed(const struct guest_memory *m, struct boot_params *params)
{
	u64 size = sizeof(struct setup_data) + SEED_SIZE;
	struct setup_data *data = guest_memory_at(m, LAYOUT_SETUP_DATA_GPA, size);
	ssize_t n;

	if (!data)
		return error_create(ERROR_INVALID, "the guest has no memory for its random seed");
	*data = (struct setup_data){ .type = SETUP_RNG_SEED, .len = SEED_SIZE };
	do
		n = getrandom(data->data, SEED_SIZE, 0);
	while (n < 0 && errno == EINTR);
	if (n != SEED_SIZE)
		return error_create_errno("getrandom for the guest's seed");
	params->hdr.setup_data = LAYOUT_SETUP_DATA_GPA;
	return NULL;
}

static void add_e820(struct boot_params *params, u64 start, u64 end, u32 type)
{
	if (start < end)
		params->e820_table[params->e820_entries++] =
			(struct boot_e820_entry){ .addr = start, .size = end - start, .type = type };
}

static void fill_e820(const struct guest_memory *m, struct boot_params *params)
{
	u64 low_end = m->regions[0].gpa + m->regions[0].size;

	add_e820(params, 0, LAYOUT_LOW_RAM_END, E820_RAM);
	add_e820(params, LAYOUT_BIOS_START, LAYOUT_ACPI_GPA, E820_RESERVED);
	add_e820(params, LAYOUT_ACPI_GPA, LAYOUT_ACPI_GPA + LAYOUT_ACPI_SIZE, E820_ACPI);
	add_e820(params, LAYOUT_HIGH_RAM_START, low_end, E820_RAM);
	// Linux uses ECAM only where this or a PNP0C02 device reserves it.
	add_e820(params, LAYOUT_ECAM_GPA, LAYOUT_ECAM_GPA + LAYOUT_ECAM_SIZE, E820_RESERVED);
	add_e820(params, LAYOUT_KVM_GPA, LAYOUT_KVM_GPA + LAYOUT_KVM_SIZE, E820_RESERVED);
	for (u32 i = 1; i < m->region_count; i++)
		add_e820(params, m->regions[i].gpa, m->regions[i].gpa + m->regions[i].size, E820_RAM);
}

static struct error *write_page_tables(const struct guest_memory *m)
{
	enum {
		PML5,
		PML4,
		PDPT,
		PD,
		TABLES = PD + 4,
		ENTRIES = 512,
	};
	const u64 present = 1 << 0, writable = 1 << 1, large = 1 << 7;
	const u64 base = LAYOUT_PAGE_TABLES_GPA;
	u64 *tables = guest_memory_at(m, base, LAYOUT_PAGE_TABLES_SIZE);

	_Static_assert(TABLES * PAGE == LAYOUT_PAGE_TABLES_SIZE, "one page a table");
	if (!tables)
		return error_create(ERROR_INVALID, "the guest has no memory for its first page tables");
	memset(tables, 0, LAYOUT_PAGE_TABLES_SIZE);
	tables[PML5 * ENTRIES] = (base + PML4 * PAGE) | present | writable;
	tables[PML4 * ENTRIES] = (base + PDPT * PAGE) | present | writable;
	for (u32 i = 0; i < TABLES - PD; i++)
		tables[PDPT * ENTRIES + i] = (base + (PD + i) * PAGE) | present | writable;
	for (u64 i = 0; i < (TABLES - PD) * ENTRIES; i++)
		tables[PD * ENTRIES + i] = i * MIB(2) | present | writable | large;
	return NULL;
}

enum {
	SELECTOR_CODE = 0x10,
	SELECTOR_DATA = 0x18,
	GDT_ENTRIES = 4,
};

static struct error *write_gdt(const struct guest_memory *m)
{
	// Flat, ring 0: 64-bit code, data.
	static const u64 gdt[GDT_ENTRIES] = {
		[SELECTOR_CODE / 8] = 0x00af9b000000ffff,
		[SELECTOR_DATA / 8] = 0x00cf93000000ffff,
	};
	void *to = guest_memory_at(m, LAYOUT_GDT_GPA, sizeof(gdt));

	if (!to)
		return error_create(ERROR_INVALID, "the guest has no memory for its GDT");
	memcpy(to, gdt, sizeof(gdt));
	return NULL;
}

struct error *boot_write(const struct guest_memory *m, const struct boot_options *options)
{
	struct boot_params *params = guest_memory_at(m, LAYOUT_ZERO_PAGE_GPA, sizeof(*params));
	struct error *err;

	if (!params)
		return error_create(ERROR_INVALID, "the guest has no memory for the kernel's boot parameters");
	if ((err = check_kernel(m, &options->kernel)) || (err = check_initrd(m, options)))
		return err;
	memset(params, 0, sizeof(*params));
	if ((err = init_header(&params->hdr, &options->kernel)))
		return err;
	params->hdr.type_of_loader = LOADER_UNDEFINED;
	params->hdr.loadflags |= LOADED_HIGH;
	if (options->kaslr)
		params->hdr.loadflags |= KASLR_FLAG;
	params->hdr.ramdisk_image = (u32)options->initrd_gpa;
	params->hdr.ramdisk_size = (u32)options->initrd_size;
	params->ext_ramdisk_image = (u32)(options->initrd_gpa >> 32);
	params->ext_ramdisk_size = (u32)(options->initrd_size >> 32);
	params->acpi_rsdp_addr = options->rsdp_gpa;
	fill_e820(m, params);
	if ((err = write_cmdline(m, params, options->cmdline)) || (err = write_seed(m, params)) ||
	    (err = write_page_tables(m)))
		return err;
	return write_gdt(m);
}

void boot_fill_sregs(struct kvm_sregs *sregs, bool la57, bool x2apic)
{
	enum {
		CR0_PE = 1 << 0,
		CR0_ET = 1 << 4,
		CR0_NE = 1 << 5,
		CR4_PAE = 1 << 5,
		CR4_LA57 = 1 << 12,
	};
	enum {
		EFER_LME = 1 << 8,
		EFER_LMA = 1 << 10,
		APIC_BASE_X2APIC = 1 << 10,
	};
	const u64 cr0_pg = 1ULL << 31;
	const struct kvm_segment code = {
		.limit = UINT32_MAX,
		.selector = SELECTOR_CODE,
		.type = 0xb,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1,
	};
	const struct kvm_segment data = {
		.limit = UINT32_MAX,
		.selector = SELECTOR_DATA,
		.type = 0x3,
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1,
	};

	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->gdt = (struct kvm_dtable){ .base = LAYOUT_GDT_GPA, .limit = GDT_ENTRIES * 8 - 1 };
	sregs->idt = (struct kvm_dtable){ 0 };
	sregs->cr0 = cr0_pg | CR0_NE | CR0_ET | CR0_PE;
	sregs->cr3 = la57 ? LAYOUT_PAGE_TABLES_GPA : LAYOUT_PAGE_TABLES_GPA + PAGE;
	sregs->cr4 = CR4_PAE | (la57 ? CR4_LA57 : 0);
	sregs->efer = EFER_LME | EFER_LMA;
	if (x2apic)
		sregs->apic_base |= APIC_BASE_X2APIC;
}

void boot_fill_regs(struct kvm_regs *regs, u64 entry_gpa)
{
	*regs = (struct kvm_regs){
		.rip = entry_gpa,
		.rsi = LAYOUT_ZERO_PAGE_GPA,
		.rflags = 1 << 1, // the bit that is always set
	};
}

u32 boot_msrs(struct kvm_msr_entry *entries, u32 max)
{
	enum {
		MSR_MISC_ENABLE = 0x1a0,
		MSR_MTRR_DEF_TYPE = 0x2ff,
	};
	enum {
		FAST_STRINGS = 1 << 0,
		BTS_UNAVAILABLE = 1 << 11,
		PEBS_UNAVAILABLE = 1 << 12,
	};
	enum {
		MTRR_ENABLE = 1 << 11,
		WRITE_BACK = 6,
	};
	const struct kvm_msr_entry msrs[BOOT_MSRS] = {
		{ .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | WRITE_BACK },
		{ .index = MSR_MISC_ENABLE, .data = FAST_STRINGS | BTS_UNAVAILABLE | PEBS_UNAVAILABLE },
	};
	u32 n = max < BOOT_MSRS ? max : BOOT_MSRS;

	memcpy(entries, msrs, n * sizeof(msrs[0]));
	return n;
}
