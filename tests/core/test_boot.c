// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <asm/bootparam.h>

#include "base/cleanup.h"
#include "x86/boot.h"
#include "x86/layout.h"

static struct guest_memory memory_at(u8 *hva, u64 size)
{
	u64 low = size < LAYOUT_HOLE_START ? size : LAYOUT_HOLE_START;

	return (struct guest_memory){
		.base = hva,
		.size = size,
		.region_count = size > low ? 2 : 1,
		.regions = { { 0, low, hva }, { LAYOUT_HOLE_END, size - low, hva + low } },
	};
}

/* Never touched: for what only asks whether an address is memory. */
static struct guest_memory memory_of(u64 size)
{
	return memory_at((u8 *)GIB(64), size);
}

/* More than the test's host may have, since next to nothing of it is touched. */
static struct guest_memory create_memory(u64 size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return memory_at(p, size);
}

static struct boot_options some_options(void)
{
	return (struct boot_options){
		.kernel = { .load_gpa = MIB(16), .span = MIB(8), .entry_gpa = MIB(16) },
		.cmdline = "console=ttyS0 quiet",
		.rsdp_gpa = LAYOUT_ACPI_GPA,
	};
}

static const struct boot_params *params_of(const struct guest_memory *m)
{
	return guest_memory_at(m, LAYOUT_ZERO_PAGE_GPA, sizeof(struct boot_params));
}

static void expect(struct error *err, enum error_code code, const char *text)
{
	assert_non_null(err);
	assert_int_equal(error_code(err), code);
	assert_non_null(strstr(error_message(err), text));
	error_destroy(err);
}

static void the_zero_page_says_what_was_placed(void **state)
{
	CLEANUP(guest_memory_deinit)
	struct guest_memory m = create_memory(MIB(64));
	struct boot_options o = some_options();

	o.initrd_gpa = MIB(40);
	o.initrd_size = 12345;
	assert_null(boot_write(&m, &o));

	const struct boot_params *p = params_of(&m);

	assert_int_equal(p->hdr.boot_flag, 0xaa55);
	assert_int_equal(p->hdr.header, 0x53726448);
	assert_int_equal(p->hdr.type_of_loader, 0xff);
	assert_int_equal(p->hdr.loadflags, LOADED_HIGH);
	assert_int_equal(p->hdr.ramdisk_image, MIB(40));
	assert_int_equal(p->hdr.ramdisk_size, 12345);
	assert_int_equal(p->ext_ramdisk_image, 0);
	assert_int_equal(p->acpi_rsdp_addr, LAYOUT_ACPI_GPA);
	assert_int_equal(p->sentinel, 0);
	assert_string_equal(guest_memory_at(&m, p->hdr.cmd_line_ptr, 64), "console=ttyS0 quiet");
	o.kaslr = true;
	assert_null(boot_write(&m, &o));
	assert_int_equal(p->hdr.loadflags, LOADED_HIGH | KASLR_FLAG);
}

static void the_kernels_own_header_is_kept(void **state)
{
	CLEANUP(guest_memory_deinit)
	struct guest_memory m = create_memory(MIB(64));
	struct setup_header hdr = {
		.boot_flag = 0xaa55,
		.header = 0x53726448,
		.version = 0x20f,
		.cmdline_size = 4095,
		.init_size = 77,
		.xloadflags = 0x7f,
		.setup_data = 0xdeadbeef,
		.loadflags = 0xff,
	};
	struct boot_options o = some_options();

	o.kernel.setup_header = &hdr;
	o.kernel.setup_header_size = sizeof(hdr);
	assert_null(boot_write(&m, &o));
	assert_int_equal(params_of(&m)->hdr.init_size, 77);
	assert_int_equal(params_of(&m)->hdr.xloadflags, 0x7f);
	assert_int_equal(params_of(&m)->hdr.loadflags, LOADED_HIGH);
	assert_int_equal(params_of(&m)->hdr.setup_data, LAYOUT_SETUP_DATA_GPA);
	// More than the header has: what follows it is not the header's to set.
	u8 more[0x290 - 0x1f1];

	memset(more, 0xee, sizeof(more));
	memcpy(more, &hdr, sizeof(hdr));
	o.kernel.setup_header = more;
	o.kernel.setup_header_size = sizeof(more);
	assert_null(boot_write(&m, &o));
	assert_int_equal(params_of(&m)->_pad7[0], 0);
	hdr.header = 0;
	o.kernel.setup_header = &hdr;
	o.kernel.setup_header_size = sizeof(hdr);
	expect(boot_write(&m, &o), ERROR_FORMAT, "setup header");
	o.kernel.setup_header_size = 0;
	expect(boot_write(&m, &o), ERROR_FORMAT, "setup header");
}

/* Sorted, apart, and RAM is exactly the guest's memory without the BIOS area. */
static void check_e820(const struct boot_params *p, u64 memory)
{
	u64 last_end = 0, ram = 0;

	for (u32 i = 0; i < p->e820_entries; i++) {
		struct boot_e820_entry e = p->e820_table[i];

		assert_true(e.size && e.addr >= last_end);
		last_end = e.addr + e.size;
		if (e.type != 1)
			continue;
		ram += e.size;
		assert_true(last_end <= LAYOUT_HOLE_START || e.addr >= LAYOUT_HOLE_END);
	}
	assert_int_equal(ram, memory - (MIB(1) - LAYOUT_LOW_RAM_END));
}

static u32 e820_type(const struct boot_params *p, u64 gpa)
{
	for (u32 i = 0; i < p->e820_entries; i++)
		if (gpa >= p->e820_table[i].addr && gpa - p->e820_table[i].addr < p->e820_table[i].size)
			return p->e820_table[i].type;
	return 0;
}

static void the_memory_map_is_the_layouts(void **state)
{
	static const u64 sizes[] = { MIB(64), LAYOUT_HOLE_START, LAYOUT_HOLE_START + MIB(2), GIB(5) };

	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		CLEANUP(guest_memory_deinit)
		struct guest_memory m = create_memory(sizes[i]);
		struct boot_options o = some_options();

		assert_null(boot_write(&m, &o));

		const struct boot_params *p = params_of(&m);

		check_e820(p, sizes[i]);
		assert_int_equal(e820_type(p, 0), 1);
		assert_int_equal(e820_type(p, LAYOUT_BIOS_START), 2);
		assert_int_equal(e820_type(p, 0xa0000), 2);
		assert_int_equal(e820_type(p, LAYOUT_ACPI_GPA), 3);
		assert_int_equal(e820_type(p, MIB(1) - 1), 3);
		assert_int_equal(e820_type(p, MIB(1)), 1);
		assert_int_equal(e820_type(p, LAYOUT_ECAM_GPA + LAYOUT_ECAM_SIZE - 1), 2);
		assert_int_equal(e820_type(p, LAYOUT_KVM_GPA), 2);
		assert_int_equal(e820_type(p, LAYOUT_PCI32_GPA), 0);
		assert_int_equal(e820_type(p, GIB(4)), sizes[i] > LAYOUT_HOLE_START);
	}
}

static void every_guest_gets_a_seed_of_its_own(void **state)
{
	u8 seeds[2][32];

	for (u32 i = 0; i < 2; i++) {
		CLEANUP(guest_memory_deinit)
		struct guest_memory m = create_memory(MIB(64));
		struct boot_options o = some_options();

		assert_null(boot_write(&m, &o));

		const struct setup_data *d = guest_memory_at(&m, params_of(&m)->hdr.setup_data, 64);

		assert_int_equal(d->type, SETUP_RNG_SEED);
		assert_int_equal(d->next, 0);
		assert_true(d->len >= sizeof(seeds[i]));
		memcpy(seeds[i], d->data, sizeof(seeds[i]));
	}
	assert_memory_not_equal(seeds[0], seeds[1], sizeof(seeds[0]));
}

/* What the processor does, for large pages and from any root. */
static bool translate(const struct guest_memory *m, u64 root, u32 levels, u64 address, u64 *ret)
{
	u64 table = root;

	for (u32 level = levels; level > 0; level--) {
		u32 shift = 12 + 9 * (level - 1);
		const u64 *entries = guest_memory_at(m, table, 4096);

		assert_non_null(entries);

		u64 entry = entries[address >> shift & 511];

		if ((entry & 3) != 3)
			return false;
		table = entry & 0x000ffffffffff000;
		if (entry & 0x80) {
			assert_int_equal(table & ((1ULL << shift) - 1), 0);
			*ret = table | (address & ((1ULL << shift) - 1));
			return true;
		}
	}
	*ret = table | (address & 0xfff);
	return true;
}

static void the_boot_cpu_starts_in_long_mode_on_identity_maps(void **state)
{
	static const u64 mapped[] = { 0, 0x1fffff, LAYOUT_ZERO_PAGE_GPA, MIB(16) + 5, GIB(1), GIB(3), GIB(4) - 1 };
	CLEANUP(guest_memory_deinit)
	struct guest_memory m = create_memory(MIB(64));
	struct boot_options o = some_options();

	assert_null(boot_write(&m, &o));
	for (u32 la57 = 0; la57 < 2; la57++) {
		struct kvm_sregs s = { .apic_base = 0xfee00900 };
		u64 to;

		boot_fill_sregs(&s, la57, false);
		assert_int_equal(s.cr0 & 0x80000001, 0x80000001);
		assert_int_equal(s.cr4, la57 ? 0x1020 : 0x20);
		assert_int_equal(s.efer, 0x500);
		assert_int_equal(s.apic_base, 0xfee00900);
		for (u32 i = 0; i < ARRAY_SIZE(mapped); i++) {
			assert_true(translate(&m, s.cr3, la57 ? 5 : 4, mapped[i], &to));
			assert_int_equal(to, mapped[i]);
		}
		assert_false(translate(&m, s.cr3, la57 ? 5 : 4, GIB(4), &to));
	}
}

static void x2apic_is_on_where_it_is_asked_for(void **state)
{
	struct kvm_sregs s = { .apic_base = 0xfee00900 };

	boot_fill_sregs(&s, false, true);
	assert_int_equal(s.apic_base, 0xfee00d00);
}

/* The cached half of a segment register is what loading it from the GDT would give. */
static void check_segment(const struct guest_memory *m, const struct kvm_sregs *s, const struct kvm_segment *seg)
{
	u64 d;

	assert_true(seg->selector + 7 <= s->gdt.limit);
	memcpy(&d, guest_memory_at(m, s->gdt.base + seg->selector, 8), 8);

	u64 limit = (d & 0xffff) | (d >> 32 & 0xf0000);

	assert_int_equal(seg->g, d >> 55 & 1);
	assert_int_equal(seg->limit, seg->g ? limit << 12 | 0xfff : limit);
	assert_int_equal(seg->base, (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000));
	assert_int_equal(seg->type, d >> 40 & 0xf);
	assert_int_equal(seg->s, d >> 44 & 1);
	assert_int_equal(seg->dpl, d >> 45 & 3);
	assert_int_equal(seg->present, d >> 47 & 1);
	assert_int_equal(seg->l, d >> 53 & 1);
	assert_int_equal(seg->db, d >> 54 & 1);
}

static void segments_are_those_of_the_gdt(void **state)
{
	CLEANUP(guest_memory_deinit)
	struct guest_memory m = create_memory(MIB(64));
	struct boot_options o = some_options();
	struct kvm_sregs s = { 0 };

	assert_null(boot_write(&m, &o));
	boot_fill_sregs(&s, false, false);
	assert_int_equal(s.cs.selector, 0x10);
	assert_int_equal(s.ds.selector, 0x18);
	assert_int_equal(s.cs.l, 1);
	check_segment(&m, &s, &s.cs);
	check_segment(&m, &s, &s.ds);
	check_segment(&m, &s, &s.ss);
	check_segment(&m, &s, &s.es);
}

static void registers_are_the_boot_protocols(void **state)
{
	struct kvm_regs r;
	struct kvm_msr_entry msrs[BOOT_MSRS];

	memset(&r, 0xff, sizeof(r));
	boot_fill_regs(&r, MIB(16) + 0x200);
	assert_int_equal(r.rip, MIB(16) + 0x200);
	assert_int_equal(r.rsi, LAYOUT_ZERO_PAGE_GPA);
	assert_int_equal(r.rflags, 2); // interrupts off
	assert_int_equal(r.rbx | r.rdi | r.rbp, 0);
	assert_int_equal(boot_msrs(msrs, BOOT_MSRS), BOOT_MSRS);
	assert_int_equal(boot_msrs(msrs, 1), 1);
	assert_int_equal(msrs[0].index, 0x2ff);
	assert_int_equal(msrs[0].data, 0x806);
	assert_int_equal(msrs[1].data & 1, 1);
}

static u64 place(u64 memory, u64 kernel, u64 span, u64 size)
{
	struct guest_memory m = memory_of(memory);
	struct boot_kernel k = { .load_gpa = kernel, .span = span, .entry_gpa = kernel };
	u64 gpa;

	assert_null(boot_place_initrd(&m, &k, size, &gpa));
	assert_int_equal(gpa % 4096, 0);
	assert_true(gpa + size <= kernel || gpa >= kernel + span);
	assert_non_null(guest_memory_at(&m, gpa, size));
	return gpa;
}

static void the_initrd_goes_as_high_as_it_can(void **state)
{
	assert_int_equal(place(MIB(256), MIB(16), MIB(64), MIB(10)), MIB(246));
	assert_int_equal(place(MIB(256), MIB(16), MIB(64), MIB(10) - 1), MIB(246));
	assert_int_equal(place(MIB(256), MIB(16), MIB(64), MIB(176)), MIB(80));
	assert_int_equal(place(MIB(256), MIB(192), MIB(64), MIB(10)), MIB(182)); // below a kernel at the top
	assert_int_equal(place(MIB(256), MIB(192), MIB(64), MIB(191)), MIB(1));
	assert_int_equal(place(GIB(5), MIB(16), MIB(64), MIB(10)), LAYOUT_HOLE_START - MIB(10));
	assert_int_equal(place(GIB(9), MIB(16), MIB(64), GIB(3)), GIB(7)); // above 4 GiB
}

static void an_initrd_above_4_gib_uses_the_extended_fields(void **state)
{
	CLEANUP(guest_memory_deinit)
	struct guest_memory m = create_memory(GIB(4));
	struct boot_options o = some_options();

	o.initrd_gpa = GIB(4) + MIB(512);
	o.initrd_size = MIB(2);
	assert_null(boot_write(&m, &o));
	assert_int_equal(params_of(&m)->hdr.ramdisk_image, MIB(512));
	assert_int_equal(params_of(&m)->ext_ramdisk_image, 1);
	assert_int_equal(params_of(&m)->ext_ramdisk_size, 0);
}

static void too_little_memory_names_sizes_and_remedy(void **state)
{
	struct guest_memory m = memory_of(MIB(64));
	struct boot_kernel k = { .load_gpa = MIB(16), .span = MIB(40), .entry_gpa = MIB(16) };
	u64 gpa;
	struct error *err = boot_place_initrd(&m, &k, MIB(20), &gpa);

	assert_non_null(strstr(error_hint(err), "memory="));
	expect(err, ERROR_INVALID, "initrd of 20 MiB do not fit into 64 MiB");
	k.span = MIB(50);
	err = boot_place_initrd(&m, &k, MIB(1), &gpa);
	assert_non_null(strstr(error_hint(err), "memory="));
	expect(err, ERROR_INVALID, "64 MiB");
	expect(boot_place_initrd(&m, &k, UINT64_MAX, &gpa), ERROR_INVALID, "kernel");
	k.span = MIB(8);
	expect(boot_place_initrd(&m, &k, UINT64_MAX, &gpa), ERROR_INVALID, "do not fit");
	expect(boot_place_initrd(&m, &k, 0, &gpa), ERROR_INVALID, "empty");
}

static void what_overlaps_is_an_error(void **state)
{
	CLEANUP(guest_memory_deinit)
	struct guest_memory m = create_memory(MIB(64));
	struct boot_options o = some_options();

	o.initrd_gpa = MIB(24) - 4096;
	o.initrd_size = 4096;
	expect(boot_write(&m, &o), ERROR_INVALID, "overlaps");
	o.initrd_gpa = MIB(24);
	assert_null(boot_write(&m, &o));
	o.initrd_gpa = MIB(64) - 4096;
	o.initrd_size = 4097;
	expect(boot_write(&m, &o), ERROR_INVALID, "not all in");
	o.initrd_gpa = LAYOUT_CMDLINE_GPA;
	expect(boot_write(&m, &o), ERROR_INVALID, "not all in");
	o.initrd_size = 0;
	o.kernel.load_gpa = LAYOUT_ZERO_PAGE_GPA;
	expect(boot_write(&m, &o), ERROR_INVALID, "0x2000");
	o.kernel = some_options().kernel;
	o.kernel.entry_gpa = MIB(24);
	expect(boot_write(&m, &o), ERROR_INVALID, "entry");
}

static void a_command_line_has_the_kernels_limit(void **state)
{
	CLEANUP(guest_memory_deinit)
	struct guest_memory m = create_memory(MIB(64));
	struct setup_header hdr = {
		.boot_flag = 0xaa55,
		.header = 0x53726448,
		.version = 0x20f,
		.cmdline_size = 100000,
	};
	struct boot_options o = some_options();
	CLEANUP_FREE char *line = calloc(1, LAYOUT_CMDLINE_MAX + 1);

	memset(line, 'x', 2047);
	o.cmdline = line;
	assert_null(boot_write(&m, &o));
	line[2047] = 'x';
	expect(boot_write(&m, &o), ERROR_INVALID, "2048 characters: this kernel takes 2047");
	// A kernel that takes more than there is room for.
	o.kernel.setup_header = &hdr;
	o.kernel.setup_header_size = sizeof(hdr);
	memset(line, 'x', LAYOUT_CMDLINE_MAX - 1);
	assert_null(boot_write(&m, &o));
	line[LAYOUT_CMDLINE_MAX - 1] = 'x';
	expect(boot_write(&m, &o), ERROR_INVALID, "65536 characters");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_zero_page_says_what_was_placed),
		cmocka_unit_test(the_kernels_own_header_is_kept),
		cmocka_unit_test(the_memory_map_is_the_layouts),
		cmocka_unit_test(every_guest_gets_a_seed_of_its_own),
		cmocka_unit_test(the_boot_cpu_starts_in_long_mode_on_identity_maps),
		cmocka_unit_test(x2apic_is_on_where_it_is_asked_for),
		cmocka_unit_test(segments_are_those_of_the_gdt),
		cmocka_unit_test(registers_are_the_boot_protocols),
		cmocka_unit_test(the_initrd_goes_as_high_as_it_can),
		cmocka_unit_test(an_initrd_above_4_gib_uses_the_extended_fields),
		cmocka_unit_test(too_little_memory_names_sizes_and_remedy),
		cmocka_unit_test(what_overlaps_is_an_error),
		cmocka_unit_test(a_command_line_has_the_kernels_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
