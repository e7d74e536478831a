// SPDX-License-Identifier: GPL-2.0-or-later
/* Unwind tables: lookups, both layouts, damage, and those of the kernels in ktstr's cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>

#include "core/cached_kernels.h"
#include "core/kvm_fixture.h"
#include "core/orc_builder.h"

#define TEXT 0xffffffff81000000ULL
#define TABLE (TEXT + 0x800000)

/* A word pushed, bp saved, bp as the frame; a gap; an interrupt's entry; the end. */
static const struct orc_code code[] = {
	{ TEXT, { .type = ORC_CALL, .sp_reg = ORC_SP, .sp_offset = 8 } },
	{ TEXT + 1, { .type = ORC_CALL, .sp_reg = ORC_SP, .sp_offset = 16, .bp_reg = ORC_PREV_SP, .bp_offset = -16 } },
	{ TEXT + 4, { .type = ORC_CALL, .sp_reg = ORC_BP, .sp_offset = 16, .bp_reg = ORC_PREV_SP, .bp_offset = -16 } },
	{ TEXT + 0x40, { .type = ORC_NONE } },
	{ TEXT + 0x40, { .type = ORC_REGS, .sp_reg = ORC_SP, .sp_offset = 0, .signal = true } },
	{ TEXT + 0x80, { .type = ORC_REGS_PARTIAL, .sp_reg = ORC_SP, .sp_offset = 8, .signal = true } },
	{ TEXT + 0x90, { .type = ORC_CALL, .sp_reg = ORC_SP_INDIRECT, .sp_offset = 8 } },
	{ TEXT + 0xa0, { .type = ORC_END } },
	{ TEXT + 0xb0, { .type = ORC_NONE } },
	{ TEXT + 0x100, { .type = ORC_CALL, .sp_reg = ORC_R10 } },
	{ TEXT + 0x110, { .type = ORC_NONE } },
};

static void assert_same_entry(const struct orc_entry *a, const struct orc_entry *b)
{
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->sp_reg, b->sp_reg);
	assert_int_equal(a->sp_offset, b->sp_offset);
	assert_int_equal(a->bp_reg, b->bp_reg);
	assert_int_equal(a->bp_offset, b->bp_offset);
	assert_int_equal(a->signal, b->signal);
}

static void check_lookups(const struct orc_dialect *dialect)
{
	struct orc *orc;
	struct orc_entry entry;
	u64 start, end;

	assert_no_error(build_orc(code, ARRAY_SIZE(code), TABLE, dialect, &orc));
	assert_int_equal(orc_count(orc), ARRAY_SIZE(code));
	orc_range(orc, &start, &end);
	assert_int_equal(start, TEXT);
	assert_int_equal(end, TEXT + 0x110);
	for (u64 address = TEXT; address < TEXT + 0x110; address++) {
		const struct orc_code *expected = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(code); i++)
			if (code[i].address <= address)
				expected = &code[i];

		bool found = orc_find(orc, address, &entry);

		assert_int_equal(found, expected->entry.type != ORC_NONE);
		if (found)
			assert_same_entry(&entry, &expected->entry);
	}
	assert_false(orc_find(orc, TEXT - 1, &entry));
	assert_false(orc_find(orc, TEXT + 0x110, &entry));
	assert_false(orc_find(orc, 0, &entry));
	assert_false(orc_find(orc, UINT64_MAX, &entry));
	orc_destroy(orc);
}

static void an_address_has_the_last_entry_at_or_below_it(void **state)
{
	check_lookups(&orc_dialects[ORC_MIDDLE]);
}

static void the_layout_before_6_4_says_the_same(void **state)
{
	check_lookups(&orc_dialects[ORC_OLDEST]);
}

static void registers_are_known_by_their_new_numbers(void **state)
{
	check_lookups(&orc_dialects[ORC_NEWEST]);
}

enum { OLD_SP = 5,
       SPARE = 10 }; /* no register, before 7.x */

static u64 raw_entry(u64 sp_reg, u64 bp_reg, u64 type)
{
	return 8 | sp_reg << 32 | bp_reg << 36 | type << 40;
}

/* An entry, two good ones, of which the last is the end. */
static struct error *create_raw(u64 first, u64 others, struct orc **ret)
{
	const s32 ips[] = { 0x1000, 0x1000, 0x1000 };
	const u64 entries[] = { first, others, others };
	u8 bytes[ARRAY_SIZE(entries) * 6 + 2] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		memcpy(bytes + 6 * i, &entries[i], 6);
	return orc_create(ips, TEXT, bytes, ARRAY_SIZE(ips), &orc_new_layout, ret);
}

static void numbers_that_mean_nothing_are_no_entry(void **state)
{
	const struct {
		u64 entry;
		bool known;
	} cases[] = {
		{ raw_entry(OLD_SP, 0, ORC_CALL), true },
		{ raw_entry(SPARE, 0, ORC_CALL), false },
		{ raw_entry(15, 0, ORC_CALL), false },
		{ raw_entry(OLD_SP, SPARE, ORC_CALL), false },
		{ raw_entry(OLD_SP, 15, ORC_CALL), false },
		{ raw_entry(OLD_SP, 0, ORC_REGS_PARTIAL), true },
		{ raw_entry(OLD_SP, 0, ORC_REGS_PARTIAL + 1), false },
		{ raw_entry(OLD_SP, 0, 7), false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct orc_entry entry;
		struct orc *orc;

		assert_no_error(create_raw(cases[i].entry, raw_entry(OLD_SP, 0, ORC_CALL), &orc));
		assert_int_equal(orc_find(orc, TEXT + 0x1000, &entry), cases[i].known);
		assert_true(orc_find(orc, TEXT + 0x1004, &entry));
		assert_int_equal(entry.sp_reg, ORC_SP);
		orc_destroy(orc);
	}
}

static void registers_that_make_no_sense_are_refused(void **state)
{
	const u64 entries[] = { 0, raw_entry(15, 15, 7), raw_entry(SPARE, 0, ORC_CALL) };
	struct orc *orc;

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		assert_error(create_raw(entries[i], entries[i], &orc), ERROR_FORMAT, "registers");
}

static void offsets_are_signed(void **state)
{
	const struct orc_code far[] = {
		{ TEXT,
		  { .type = ORC_CALL,
		    .sp_reg = ORC_SP,
		    .sp_offset = 32767,
		    .bp_reg = ORC_BP,
		    .bp_offset = -32768 } },
		{ TEXT + 1, { .type = ORC_NONE } },
	};
	struct orc_entry entry;
	struct orc *orc;

	/* The table below its code, and above it. */
	for (u32 i = 0; i < 2; i++) {
		assert_no_error(build_orc(far, 2, i ? TABLE : TEXT - 0x10000, &orc_dialects[ORC_MIDDLE], &orc));
		assert_true(orc_find(orc, TEXT, &entry));
		assert_same_entry(&entry, &far[0].entry);
		orc_destroy(orc);
	}
}

static void a_table_out_of_order_is_refused(void **state)
{
	struct orc_code bad[ARRAY_SIZE(code)];
	struct orc *orc;

	for (size_t i = 1; i < ARRAY_SIZE(code); i++) {
		memcpy(bad, code, sizeof(code));
		bad[i].address = TEXT - 1;
		assert_error(build_orc(bad, ARRAY_SIZE(bad), TABLE, &orc_dialects[ORC_MIDDLE], &orc), ERROR_FORMAT,
			     "not sorted");
	}
	memcpy(bad, code, sizeof(code));
	bad[ARRAY_SIZE(bad) - 1].address = TEXT + (1ULL << 30);
	assert_error(build_orc(bad, ARRAY_SIZE(bad), TABLE, &orc_dialects[ORC_MIDDLE], &orc), ERROR_FORMAT, "spread");
	assert_error(build_orc(bad, 0, TABLE, &orc_dialects[ORC_MIDDLE], &orc), ERROR_FORMAT, "number of entries");
}

static void a_layout_that_cannot_be_is_refused(void **state)
{
	struct orc_layout good = orc_new_layout, bad;
	struct orc_field *fields[] = { &bad.sp_offset, &bad.bp_offset, &bad.sp_reg, &bad.bp_reg, &bad.type };

	assert_no_error(orc_check_layout(&good));
	assert_no_error(orc_check_layout(&orc_old_layout));
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct orc_field wrong[] = { { 48, 16 }, { 40, 16 }, { 0, 0 }, { 0, 64 }, { UINT32_MAX, 4 } };

		for (size_t j = 0; j < ARRAY_SIZE(wrong); j++) {
			bad = good;
			*fields[i] = wrong[j];
			assert_error(orc_check_layout(&bad), ERROR_INVALID, "struct orc_entry");
		}
	}
	bad = good;
	bad.size = 9;
	assert_error(orc_check_layout(&bad), ERROR_INVALID, "9 bytes");
	bad.size = 0;
	assert_error(orc_check_layout(&bad), ERROR_INVALID, "struct orc_entry");
	bad = good;
	bad.type.bits = 2; /* the old numbers, but no `end` */
	assert_error(orc_check_layout(&bad), ERROR_INVALID, "struct orc_entry");
}

/* --- real ones --- */

struct elf_sections {
	int fd;
	Elf *elf;
	Elf_Data *ips, *entries;
	u64 ips_address;
};

static void open_sections(struct elf_sections *s, const char *path)
{
	size_t names;
	Elf_Scn *section = NULL;

	*s = (struct elf_sections){ .fd = open(path, O_RDONLY | O_CLOEXEC) };
	assert_true(s->fd >= 0);
	elf_version(EV_CURRENT);
	s->elf = elf_begin(s->fd, ELF_C_READ_MMAP, NULL);
	assert_non_null(s->elf);
	assert_int_equal(elf_getshdrstrndx(s->elf, &names), 0);
	while ((section = elf_nextscn(s->elf, section))) {
		GElf_Shdr header;

		gelf_getshdr(section, &header);

		const char *name = elf_strptr(s->elf, names, header.sh_name);

		if (!strcmp(name, ".orc_unwind_ip")) {
			s->ips = elf_rawdata(section, NULL);
			s->ips_address = header.sh_addr;
		} else if (!strcmp(name, ".orc_unwind")) {
			s->entries = elf_rawdata(section, NULL);
		}
	}
	assert_non_null(s->ips);
	assert_non_null(s->entries);
}

static void close_sections(struct elf_sections *s)
{
	elf_end(s->elf);
	close(s->fd);
}

static u64 raw_address(const struct elf_sections *s, u32 i)
{
	s32 offset;

	memcpy(&offset, (u8 *)s->ips->d_buf + 4ULL * i, sizeof(offset));
	return s->ips_address + 4ULL * i + (u64)(s64)offset;
}

static const struct orc_dialect *dialect_of(const char *path)
{
	if (strstr(path, "/6.1."))
		return &orc_dialects[ORC_OLDEST];
	return &orc_dialects[strstr(path, "/6.") ? ORC_MIDDLE : ORC_NEWEST];
}

/* Each entry by the address that it begins at, against the bytes of the file. */
static void check_image(const char *path)
{
	const struct orc_dialect *dialect = dialect_of(path);
	struct elf_sections raw;
	struct orc *orc;
	u32 count, unknown = 0, usual = 0, regs = 0, ends = 0;

	open_sections(&raw, path);
	count = (u32)(raw.ips->d_size / 4);
	assert_int_equal(raw.entries->d_size, (u64)count * dialect->layout->size);
	assert_no_error(orc_create(raw.ips->d_buf, raw.ips_address, raw.entries->d_buf, count, dialect->layout, &orc));
	assert_int_equal(orc_count(orc), count);
	for (u32 i = 0; i + 1 < count; i++) {
		u64 address = raw_address(&raw, i), expected = 0;
		struct orc_entry entry;

		if (raw_address(&raw, i + 1) == address)
			continue;
		if (!orc_find(orc, address, &entry)) {
			unknown++;
			continue;
		}
		memcpy(&expected, (u8 *)raw.entries->d_buf + 6ULL * i, 6);
		assert_int_equal(orc_builder_encode(dialect, &entry), expected);
		usual += entry.type == ORC_CALL && entry.sp_reg == ORC_SP;
		regs += entry.type == ORC_REGS || entry.type == ORC_REGS_PARTIAL;
		ends += entry.type == ORC_END;
	}
	print_message("%s\n  %u entries: %u calls by the stack pointer, %u registers, %u ends, %u of nothing\n", path,
		      count, usual, regs, ends, unknown);
	assert_true(usual > count * 4 / 5);
	assert_true(unknown < count / 5);
	assert_in_range(regs, 100, count / 100);
	assert_in_range(ends, 1, 1000);
	orc_destroy(orc);
	close_sections(&raw);
}

static void the_tables_of_real_kernels_are_read(void **state)
{
	glob_t kernels = cached_kernels_find();

	for (size_t i = 0; i < kernels.gl_pathc; i++)
		check_image(kernels.gl_pathv[i]);
	globfree(&kernels);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_has_the_last_entry_at_or_below_it),
		cmocka_unit_test(the_layout_before_6_4_says_the_same),
		cmocka_unit_test(registers_are_known_by_their_new_numbers),
		cmocka_unit_test(registers_that_make_no_sense_are_refused),
		cmocka_unit_test(numbers_that_mean_nothing_are_no_entry),
		cmocka_unit_test(offsets_are_signed),
		cmocka_unit_test(a_table_out_of_order_is_refused),
		cmocka_unit_test(a_layout_that_cannot_be_is_refused),
		cmocka_unit_test(the_tables_of_real_kernels_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
