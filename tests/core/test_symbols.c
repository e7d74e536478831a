// SPDX-License-Identifier: GPL-2.0-or-later
/* Symbols of whole kernel images: from .symtab, from kallsyms, from a file, and those of the kernels in the cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sys/mman.h>

#include "core/cached_kernels.h"
#include "core/image_builder.h"
#include "core/image_files.h"
#include "core/kallsyms_builder.h"
#include "core/kvm_fixture.h"
#include "core/symbol_checks.h"
#include "kernel/symbols.h"

enum {
	TABLES_AT = 0x2000, /* in the built image's data */
};

static const u64 data_virt = BUILT_LINK_VIRT + BUILT_DATA_AT;

/* Files in memory. */
static int open_memory(const struct buf *b)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, b->data, b->size, 0), b->size);
	return fd;
}

/* mode: 0444 says that nobody is going to write to it. */
static struct error *create_by_mode(const struct buf *vmlinux, mode_t mode, struct symbols **ret)
{
	int fd = open_memory(vmlinux);
	struct kernel_image *image;
	char path[64];

	assert_int_equal(fchmod(fd, mode), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_no_error(kernel_image_open(path, &image));
	*ret = NULL;

	struct error *err = symbols_create(image, ret);

	kernel_image_close(image);
	close(fd);
	return err;
}

static struct error *create_from(const struct buf *vmlinux, struct symbols **ret)
{
	return create_by_mode(vmlinux, 0644, ret);
}

static struct buf vmlinux_with_kallsyms(const struct built_list *list, enum kallsyms_layout layout)
{
	const struct kallsyms_options o = {
		.layout = layout,
		.align = layout == KALLSYMS_SELF ? 4 : 8,
		.absolute = layout != KALLSYMS_SELF,
		.virt = data_virt + TABLES_AT,
	};
	struct buf vmlinux = BUF_INIT, tables = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ .no_tables = true });
	build_kallsyms(&tables, list->symbols, list->count, &o);
	assert_true(TABLES_AT + tables.size < BUILT_DATA_SIZE);
	memcpy(vmlinux.data + BUILT_DATA_OFFSET + TABLES_AT, tables.data, tables.size);
	buf_deinit(&tables);
	return vmlinux;
}

static struct symbols *built_symbols(u32 count, enum kallsyms_layout layout)
{
	struct built_list list = build_symbol_list(count, layout != KALLSYMS_SELF);
	struct buf vmlinux = vmlinux_with_kallsyms(&list, layout);
	struct symbols *s;

	assert_no_error(create_from(&vmlinux, &s));
	assert_int_equal(symbols_count(s), count);
	buf_deinit(&vmlinux);
	built_list_deinit(&list);
	return s;
}

static void kallsyms_of_an_image_are_found(void **state)
{
	for (u32 layout = KALLSYMS_BEFORE; layout <= KALLSYMS_SELF; layout++) {
		struct symbols *s = built_symbols(700, layout);

		assert_true(symbols_agree(s, BUILT_LINK_VIRT, BUILT_LINK_VIRT + BUILT_SPAN, BUILT_PERCPU_SIZE));
		assert_int_equal(symbols_get(s, 0).moves, layout == KALLSYMS_SELF);
		symbols_destroy(s);
	}
}

static void expect_equal(const struct symbols *a, const struct symbols *b)
{
	assert_int_equal(symbols_count(a), symbols_count(b));
	for (u32 i = 0; i < symbols_count(a); i++) {
		struct symbol x = symbols_get(a, i), y = symbols_get(b, i);

		assert_string_equal(x.name, y.name);
		assert_int_equal(x.address, y.address);
		assert_int_equal(x.kind, y.kind);
		assert_int_equal(x.moves, y.moves);
		x = symbols_named(a, i);
		y = symbols_named(b, i);
		assert_string_equal(x.name, y.name);
		assert_int_equal(x.address, y.address);
	}
}

static void an_image_that_is_mapped_reads_as_one_that_is_copied(void **state)
{
	struct built_list list = build_symbol_list(700, false);
	struct buf vmlinux = vmlinux_with_kallsyms(&list, KALLSYMS_SELF);
	struct symbols *copied, *mapped;

	assert_no_error(create_by_mode(&vmlinux, 0644, &copied));
	assert_no_error(create_by_mode(&vmlinux, 0444, &mapped));
	expect_equal(copied, mapped);
	symbols_destroy(mapped);
	symbols_destroy(copied);
	buf_deinit(&vmlinux);
	built_list_deinit(&list);
}

static void a_kernel_with_neither_is_refused_with_what_to_do(void **state)
{
	struct buf vmlinux = BUF_INIT;
	struct symbols *s;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ .no_tables = true });

	struct error *err = create_from(&vmlinux, &s);

	assert_non_null(err);
	assert_non_null(strstr(error_hint(err), "CONFIG_KALLSYMS"));
	assert_error(err, ERROR_FORMAT, "neither a symbol table nor kallsyms");
	buf_deinit(&vmlinux);
}

static void damaged_kallsyms_are_told_from_none(void **state)
{
	struct built_list list = build_symbol_list(300, false);

	list.symbols[10].address = BUILT_LINK_VIRT - 1;

	struct buf vmlinux = vmlinux_with_kallsyms(&list, KALLSYMS_SELF);
	struct symbols *s;

	assert_error(create_from(&vmlinux, &s), ERROR_FORMAT, "kallsyms are damaged");
	buf_deinit(&vmlinux);
	built_list_deinit(&list);
}

// --- lookups ---

static void all_symbols_of_a_name_are_found_by_address(void **state)
{
	struct symbols *s = built_symbols(700, KALLSYMS_SELF);
	u32 first;

	u32 found = symbols_find(s, "0_same", &first), place = first;

	// Every fifteenth one, but for those that were made longer.
	for (u32 i = 0; i < 700; i += 15) {
		struct symbol y = symbols_named(s, place);

		if (i % 32 == 31)
			continue;
		assert_string_equal(y.name, "0_same");
		assert_int_equal(y.address, BUILT_SYMBOLS_START + i / 2 * 0x40);
		place++;
	}
	assert_int_equal(found, place - first);
	assert_int_equal(found, 46);
	assert_int_equal(symbols_find(s, "0_sam", &first), 0);
	assert_int_equal(symbols_find(s, "0_same_", &first), 0);
	assert_int_equal(symbols_find(s, "", &first), 0);
	assert_int_equal(symbols_find(s, "\xff", &first), 0);
	symbols_destroy(s);
}

static void names_with_a_prefix_follow_on_each_other(void **state)
{
	struct symbols *s = built_symbols(700, KALLSYMS_BEFORE);
	u32 found = 0, expected = 0;

	for (u32 i = 0; i < symbols_count(s); i++)
		expected += !strncmp(symbols_get(s, i).name, "sched_task_77", 13);
	for (u32 place = symbols_from(s, "sched_task_77"); place < symbols_count(s); place++, found++)
		if (strncmp(symbols_named(s, place).name, "sched_task_77", 13) != 0)
			break;
	assert_true(expected > 1);
	assert_int_equal(found, expected);
	assert_int_equal(symbols_from(s, ""), 0);
	assert_int_equal(symbols_from(s, "zzz"), symbols_count(s));
	symbols_destroy(s);
}

static void an_address_belongs_to_the_symbol_below_it(void **state)
{
	struct symbols *s = built_symbols(700, KALLSYMS_BEHIND);
	const u64 last = BUILT_SYMBOLS_START + (700 - 700 / 8 - 1) / 2 * 0x40;
	struct symbol y;
	u64 end;

	assert_true(symbols_at(s, BUILT_SYMBOLS_START, &y, &end));
	assert_int_equal(y.address, BUILT_SYMBOLS_START);
	assert_ptr_equal(y.name, symbols_get(s, 700 / 8).name); // the first of two
	assert_int_equal(end, BUILT_SYMBOLS_START + 0x40);
	assert_true(symbols_at(s, BUILT_SYMBOLS_START + 0x7f, &y, &end));
	assert_int_equal(y.address, BUILT_SYMBOLS_START + 0x40);
	assert_int_equal(end, BUILT_SYMBOLS_START + 0x80);
	// The last one goes on to the image's end, and nothing is behind it.
	assert_true(symbols_at(s, BUILT_LINK_VIRT + BUILT_SPAN - 1, &y, &end));
	assert_int_equal(y.address, last);
	assert_int_equal(end, BUILT_LINK_VIRT + BUILT_SPAN);
	assert_false(symbols_at(s, BUILT_LINK_VIRT + BUILT_SPAN, &y, &end));
	assert_false(symbols_at(s, UINT64_MAX, &y, &end));
	// Per-CPU offsets are no addresses of the image.
	assert_false(symbols_at(s, symbols_get(s, 3).address, &y, &end));
	assert_false(symbols_at(s, BUILT_SYMBOLS_START - 1, &y, &end));
	symbols_destroy(s);
}

// --- .symtab ---

struct table_symbol {
	const char *name;
	u64 value;
	u16 section; /* 1 text, 2 rodata, 4 data, 5 BSS, 6 not loaded */
	u8 info;
};

/* Sections of every kind, the table and its strings behind the file; the headers anew. */
static struct buf vmlinux_with_symtab(const struct table_symbol *symbols, u32 count, const struct buf *base)
{
	struct buf b = BUF_INIT, strings = BUF_INIT;
	Elf64_Shdr sh[9] = { { 0 } };
	Elf64_Ehdr e;

	buf_put(&b, base->data, base->size);
	memcpy(&e, b.data, sizeof(e));
	assert_int_equal(e.e_shnum, 4);
	memcpy(sh, b.data + e.e_shoff, 4 * sizeof(*sh));
	sh[4] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_WRITE };
	sh[5] = (Elf64_Shdr){ .sh_type = SHT_NOBITS, .sh_flags = SHF_ALLOC | SHF_WRITE };
	sh[6] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS };
	buf_align(&b, 8);
	sh[7] = (Elf64_Shdr){
		.sh_type = SHT_SYMTAB,
		.sh_offset = b.size,
		.sh_link = 8,
		.sh_size = (count + 1) * sizeof(Elf64_Sym),
		.sh_entsize = sizeof(Elf64_Sym),
		.sh_addralign = 8,
	};
	buf_put_u8(&strings, 0);
	buf_put_zero(&b, sizeof(Elf64_Sym));
	for (u32 i = 0; i < count; i++) {
		Elf64_Sym sym = {
			.st_name = strings.size,
			.st_info = symbols[i].info,
			.st_shndx = symbols[i].section,
			.st_value = symbols[i].value,
		};

		buf_put(&b, &sym, sizeof(sym));
		buf_put(&strings, symbols[i].name, strlen(symbols[i].name) + 1);
	}
	sh[8] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = b.size, .sh_size = strings.size };
	buf_put(&b, strings.data, strings.size);
	buf_align(&b, 8);
	e.e_shoff = b.size;
	e.e_shnum = ARRAY_SIZE(sh);
	buf_put(&b, sh, sizeof(sh));
	memcpy(b.data, &e, sizeof(e));
	buf_deinit(&strings);
	return b;
}

#define LOCAL(type) ELF64_ST_INFO(STB_LOCAL, type)
#define GLOBAL(type) ELF64_ST_INFO(STB_GLOBAL, type)
#define WEAK(type) ELF64_ST_INFO(STB_WEAK, type)

static const struct table_symbol table[] = {
	{ "end_of_it", BUILT_LINK_VIRT + BUILT_SPAN, 5, GLOBAL(STT_NOTYPE) },
	{ "global_text", BUILT_LINK_VIRT + 0x100, 1, GLOBAL(STT_FUNC) },
	{ "file.c", 0, SHN_ABS, LOCAL(STT_FILE) },
	{ "same", BUILT_LINK_VIRT + 0x300, 1, LOCAL(STT_FUNC) },
	{ "alias", BUILT_LINK_VIRT + 0x100, 1, LOCAL(STT_FUNC) },
	{ "same", BUILT_LINK_VIRT + 0x200, 1, LOCAL(STT_FUNC) },
	{ "same_as_none", BUILT_LINK_VIRT + 0x280, 1, LOCAL(STT_FUNC) },
	{ "weak_text", BUILT_LINK_VIRT + 0x400, 1, WEAK(STT_FUNC) },
	{ "weak_data", data_virt + 0x10, 4, WEAK(STT_OBJECT) },
	{ "read_only", BUILT_LINK_VIRT + 0x2000, 2, GLOBAL(STT_OBJECT) },
	{ "data", data_virt, 4, GLOBAL(STT_OBJECT) },
	{ "bss", data_virt + BUILT_DATA_SIZE, 5, LOCAL(STT_OBJECT) },
	{ "percpu", 0x40, 4, LOCAL(STT_OBJECT) },
	{ "absolute", 0x12345, SHN_ABS, GLOBAL(STT_NOTYPE) },
	{ "undefined", 0, SHN_UNDEF, GLOBAL(STT_NOTYPE) },
	{ ".Llabel", BUILT_LINK_VIRT + 0x110, 1, LOCAL(STT_NOTYPE) },
	{ "", BUILT_LINK_VIRT, 1, LOCAL(STT_SECTION) },
	{ "debug", 4, 6, LOCAL(STT_OBJECT) },
};

static void a_symbol_table_is_used_where_there_is_one(void **state)
{
	static const struct built_symbol expected[] = {
		{ 0x40, 'd', "percpu" },
		{ 0x12345, 'A', "absolute" },
		{ BUILT_LINK_VIRT + 0x100, 'T', "global_text" }, // as the table has them
		{ BUILT_LINK_VIRT + 0x100, 't', "alias" },
		{ BUILT_LINK_VIRT + 0x200, 't', "same" },
		{ BUILT_LINK_VIRT + 0x280, 't', "same_as_none" },
		{ BUILT_LINK_VIRT + 0x300, 't', "same" },
		{ BUILT_LINK_VIRT + 0x400, 'W', "weak_text" },
		{ BUILT_LINK_VIRT + 0x2000, 'R', "read_only" },
		{ data_virt, 'D', "data" },
		{ data_virt + 0x10, 'V', "weak_data" },
		{ data_virt + BUILT_DATA_SIZE, 'b', "bss" },
		{ BUILT_LINK_VIRT + BUILT_SPAN, 'B', "end_of_it" },
	};
	struct built_list list = build_symbol_list(300, false);
	struct buf base = vmlinux_with_kallsyms(&list, KALLSYMS_SELF);
	struct buf vmlinux = vmlinux_with_symtab(table, ARRAY_SIZE(table), &base);
	struct symbols *s;
	u32 first;

	assert_no_error(create_from(&vmlinux, &s));
	assert_int_equal(symbols_count(s), ARRAY_SIZE(expected));
	for (u32 i = 0; i < ARRAY_SIZE(expected); i++) {
		struct symbol y = symbols_get(s, i);

		assert_string_equal(y.name, expected[i].name);
		assert_int_equal(y.address, expected[i].address);
		assert_int_equal(y.kind, expected[i].kind);
		assert_int_equal(y.moves, expected[i].address >= BUILT_LINK_VIRT);
	}
	assert_true(symbols_agree(s, BUILT_LINK_VIRT, BUILT_LINK_VIRT + BUILT_SPAN, 0x12345));
	assert_int_equal(symbols_find(s, "same", &first), 2);
	assert_int_equal(symbols_named(s, first).address, BUILT_LINK_VIRT + 0x200);
	symbols_destroy(s);
	buf_deinit(&vmlinux);
	buf_deinit(&base);
	built_list_deinit(&list);
}

static void a_symbol_table_without_a_symbol_is_no_table(void **state)
{
	struct built_list list = build_symbol_list(300, false);
	struct buf base = vmlinux_with_kallsyms(&list, KALLSYMS_SELF);
	struct buf vmlinux = vmlinux_with_symtab(table, 0, &base);
	struct symbols *s;

	assert_no_error(create_from(&vmlinux, &s));
	assert_int_equal(symbols_count(s), 300);
	symbols_destroy(s);
	buf_deinit(&vmlinux);
	buf_deinit(&base);
	built_list_deinit(&list);
}

/* Each byte behind the sections' contents: table, strings, headers. */
static void a_symbol_table_with_any_byte_changed_is_refused_or_sound(void **state)
{
	struct buf base = BUF_INIT;

	build_vmlinux(&base, &(struct vmlinux_options){ .no_tables = true });

	struct buf vmlinux = vmlinux_with_symtab(table, ARRAY_SIZE(table), &base);

	for (size_t at = base.size; at < vmlinux.size; at++) {
		struct kernel_image *image;
		struct symbols *s = NULL;
		char path[64];

		vmlinux.data[at] ^= 0xff;

		int fd = open_memory(&vmlinux);

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

		struct error *err = kernel_image_open(path, &image);

		if (!err) {
			err = symbols_create(image, &s);
			kernel_image_close(image);
		}
		assert_true(!err == !!s);
		if (err)
			assert_int_equal(error_code(err) == ERROR_FORMAT || error_code(err) == ERROR_UNSUPPORTED, 1);
		error_destroy(err);
		for (u32 i = 0; s && i < symbols_count(s); i++)
			assert_true(symbol_is_found(s, i, symbols_get(s, i)));
		symbols_destroy(s);
		close(fd);
		vmlinux.data[at] ^= 0xff;
	}
	buf_deinit(&vmlinux);
	buf_deinit(&base);
}

// --- the file ---

static struct buf file_of(const struct symbols *s)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	struct buf b = BUF_INIT;

	assert_no_error(symbols_write(s, fd));
	buf_put_zero(&b, lseek(fd, 0, SEEK_END));
	assert_int_equal(pread(fd, b.data, b.size, 0), b.size);
	close(fd);
	return b;
}

static struct error *open_file(const struct buf *b, struct symbols **ret)
{
	int fd = open_memory(b);
	struct error *err = symbols_open(fd, ret);

	close(fd); // a set does without
	return err;
}

static void a_file_holds_what_was_written_to_it(void **state)
{
	struct symbols *s = built_symbols(700, KALLSYMS_BEFORE), *opened;
	struct buf b = file_of(s);

	assert_no_error(open_file(&b, &opened));
	expect_equal(s, opened);
	assert_true(symbols_agree(opened, BUILT_LINK_VIRT, BUILT_LINK_VIRT + BUILT_SPAN, BUILT_PERCPU_SIZE));

	struct buf again = file_of(opened);

	assert_int_equal(again.size, b.size);
	assert_memory_equal(again.data, b.data, b.size);
	buf_deinit(&again);
	buf_deinit(&b);
	symbols_destroy(opened);
	symbols_destroy(s);
}

static void a_file_with_any_byte_changed_or_cut_off_is_refused(void **state)
{
	struct symbols *s = built_symbols(60, KALLSYMS_SELF), *opened;
	struct buf b = file_of(s);
	size_t size = b.size;

	symbols_destroy(s);
	for (size_t at = 0; at < size; at++) {
		b.data[at] ^= 0x10;
		assert_error(open_file(&b, &opened), ERROR_FORMAT, "file of symbols");
		b.data[at] ^= 0x10;
		b.size = at;
		assert_error(open_file(&b, &opened), ERROR_FORMAT, "file of symbols");
		b.size = size;
	}
	buf_put_zero(&b, 1);
	assert_error(open_file(&b, &opened), ERROR_FORMAT, "size");
	buf_deinit(&b);
}

static void a_file_of_another_version_is_refused_by_its_version(void **state)
{
	struct symbols *s = built_symbols(60, KALLSYMS_SELF), *opened;
	struct buf b = file_of(s);

	b.data[16]++; // the version, behind magic and checksum
	assert_error(open_file(&b, &opened), ERROR_FORMAT, "version 2");
	b.data[0] = 'x';
	assert_error(open_file(&b, &opened), ERROR_FORMAT, "no file of symbols");
	buf_deinit(&b);
	symbols_destroy(s);
}

// --- kernels as they are shipped ---

static void read_at(struct kernel_image *image, u64 address, char *data, size_t size)
{
	int fd = kernel_image_fd(image);
	Elf64_Phdr ph;
	Elf64_Ehdr e;

	assert_int_equal(pread(fd, &e, sizeof(e), 0), sizeof(e));
	for (u32 i = 0; i < e.e_phnum; i++) {
		assert_int_equal(pread(fd, &ph, sizeof(ph), e.e_phoff + i * sizeof(ph)), sizeof(ph));
		if (ph.p_type != PT_LOAD || address - ph.p_vaddr >= ph.p_filesz)
			continue;
		assert_int_equal(pread(fd, data, size, ph.p_offset + (address - ph.p_vaddr)), size);
		return;
	}
	fail_msg("%llx is in no segment", (unsigned long long)address);
}

static struct symbol the_only(const struct symbols *s, const char *name)
{
	u32 first;

	assert_int_equal(symbols_find(s, name, &first), 1);
	return symbols_named(s, first);
}

static void expect_known_symbols(struct kernel_image *image, const struct symbols *s)
{
	char expected[128], found[128] = "";
	struct symbol banner = the_only(s, "linux_banner"), runqueues = the_only(s, "runqueues");
	u64 end;

	snprintf(expected, sizeof(expected), "Linux version %s ", kernel_image_info(image)->release);
	read_at(image, banner.address, found, sizeof(found) - 1);
	assert_memory_equal(found, expected, strlen(expected));
	assert_int_equal(the_only(s, "_text").address, kernel_image_info(image)->link_virt);
	assert_true(the_only(s, "init_task").moves);
	assert_int_equal(the_only(s, "schedule").kind, 'T');
	// It is in the per-CPU data, wherever that is linked.
	assert_true(runqueues.address >= the_only(s, "__per_cpu_start").address);
	assert_true(runqueues.address < the_only(s, "__per_cpu_end").address);
	assert_int_equal(runqueues.moves, the_only(s, "__per_cpu_start").address != 0);
	assert_true(symbols_at(s, the_only(s, "schedule").address + 1, &banner, &end));
	assert_string_equal(banner.name, "schedule");
}

static void symbols_of_shipped_kernels_agree_with_the_image(void **state)
{
	glob_t kernels = cached_kernels_find();

	for (size_t i = 0; i < kernels.gl_pathc; i++) {
		struct kernel_image *image;
		struct symbols *s, *opened;

		print_message("%s\n", kernels.gl_pathv[i]);
		assert_no_error(kernel_image_open(kernels.gl_pathv[i], &image));
		assert_no_error(symbols_create(image, &s));

		const struct kernel_info *info = kernel_image_info(image);
		struct buf file = file_of(s);

		assert_true(symbols_count(s) > 50000);
		expect_known_symbols(image, s);
		assert_true(symbols_agree(s, info->link_virt, info->link_virt + info->span, 1 << 20));
		assert_no_error(open_file(&file, &opened));
		expect_equal(s, opened);
		symbols_destroy(opened);
		symbols_destroy(s);
		buf_deinit(&file);
		kernel_image_close(image);
	}
	globfree(&kernels);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kallsyms_of_an_image_are_found),
		cmocka_unit_test(an_image_that_is_mapped_reads_as_one_that_is_copied),
		cmocka_unit_test(a_kernel_with_neither_is_refused_with_what_to_do),
		cmocka_unit_test(damaged_kallsyms_are_told_from_none),
		cmocka_unit_test(all_symbols_of_a_name_are_found_by_address),
		cmocka_unit_test(names_with_a_prefix_follow_on_each_other),
		cmocka_unit_test(an_address_belongs_to_the_symbol_below_it),
		cmocka_unit_test(a_symbol_table_is_used_where_there_is_one),
		cmocka_unit_test(a_symbol_table_without_a_symbol_is_no_table),
		cmocka_unit_test(a_symbol_table_with_any_byte_changed_is_refused_or_sound),
		cmocka_unit_test(a_file_holds_what_was_written_to_it),
		cmocka_unit_test(a_file_with_any_byte_changed_or_cut_off_is_refused),
		cmocka_unit_test(a_file_of_another_version_is_refused_by_its_version),
		cmocka_unit_test(symbols_of_shipped_kernels_agree_with_the_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
