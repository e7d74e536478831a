// SPDX-License-Identifier: GPL-2.0-or-later
/* Core files opened again: memory, registers, the kernel's place; and files that somebody has damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <elf.h>

#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "core/vmcore_rig.h"
#include "kernel/vmcore_file.h"

enum { PAGE = 4096,
       HEAD = 2 * PAGE };

struct rig {
	struct test_dir *dir;
	struct vmcore_rig r;
	char path[96];
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	if (test_dir_setup((void **)&r->dir))
		return -1;
	assert_no_error(vmcore_rig_init(&r->r));
	strcpy(r->path, test_dir_file(r->dir, "core"));
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	unlink(r->path);

	int failed = test_dir_teardown((void **)&r->dir);

	vmcore_rig_deinit(&r->r);
	free(r);
	return failed;
}

static struct vmcore_file *save_and_open(struct rig *r)
{
	struct vmcore_file *f;

	assert_no_error(vmcore_save(&r->r.core, r->path));
	assert_no_error(vmcore_open(r->path, &f));
	return f;
}

static void change(struct rig *r, off_t offset, const void *bytes, size_t size)
{
	int fd = open(r->path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, size, offset), size);
	close(fd);
}

/* The program header of that number, as it is in the file. */
static Elf64_Phdr get_header(struct rig *r, int index)
{
	Elf64_Phdr p;
	int fd = open(r->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, &p, sizeof(p), (off_t)(sizeof(Elf64_Ehdr) + index * sizeof(p))), sizeof(p));
	close(fd);
	return p;
}

static void put_header(struct rig *r, int index, const Elf64_Phdr *p)
{
	change(r, (off_t)(sizeof(Elf64_Ehdr) + index * sizeof(*p)), p, sizeof(*p));
}

static void refused(struct rig *r, enum error_code code, const char *text)
{
	struct vmcore_file *f = NULL;

	assert_error(vmcore_open(r->path, &f), code, text);
	assert_null(f);
}

static void the_kernels_memory_is_as_it_was(void **state)
{
	struct rig *r = *state;
	struct vmcore_file *f = save_and_open(r);
	struct view *v = vmcore_view(f);
	u64 value;

	assert_int_equal(v->memory->region_count, 2);
	for (int i = 0; i < 2; i++) {
		const struct guest_region *was = &r->r.memory.regions[i], *is = &v->memory->regions[i];

		assert_int_equal(is->gpa, was->gpa);
		assert_int_equal(is->size, was->size);
		assert_memory_equal(is->hva, was->hva, was->size);
	}
	assert_int_equal(v->frozen, 1);
	assert_int_equal(v->levels, 4);
	assert_int_equal(v->slide, RIG_SLIDE);
	/* By the image's own addresses, without a page table. */
	assert_no_error(view_read_scalar(v, RIG_IMAGE + 0x10000, 8, &value));
	assert_int_equal(value, RIG_IMAGE_GPA + 0x10000);
	assert_error(view_read_scalar(v, RIG_IMAGE + RIG_IMAGE_SIZE, 8, &value), ERROR_UNMAPPED, "not known yet");
	assert_string_equal(vmcore_info(f), rig_info);
	vmcore_close(f);
}

static void every_cpu_has_its_registers(void **state)
{
	struct rig *r = *state;
	struct vmcore_file *f = save_and_open(r);

	assert_int_equal(vmcore_cpu_count(f), RIG_CPUS);
	for (u32 i = 0; i < RIG_CPUS; i++) {
		assert_memory_equal(vmcore_regs(f, i), &r->r.cpus[i].regs, sizeof(struct kvm_regs));
		assert_memory_equal(vmcore_sregs(f, i), &r->r.cpus[i].sregs, sizeof(struct kvm_sregs));
	}
	assert_null(vmcore_regs(f, RIG_CPUS));
	assert_null(vmcore_sregs(f, UINT32_MAX));
	vmcore_close(f);
}

static void what_is_written_stays_here(void **state)
{
	struct rig *r = *state;
	struct vmcore_file *f = save_and_open(r), *again;
	u64 value;

	assert_no_error(view_write_scalar(vmcore_view(f), RIG_IMAGE, 8, 0x1234));
	assert_no_error(view_read_scalar(vmcore_view(f), RIG_IMAGE, 8, &value));
	assert_int_equal(value, 0x1234);
	assert_no_error(vmcore_open(r->path, &again));
	assert_no_error(view_read_scalar(vmcore_view(again), RIG_IMAGE, 8, &value));
	assert_int_equal(value, RIG_IMAGE_GPA);
	vmcore_close(again);
	vmcore_close(f);
}

static void after_its_end_nothing_is_read(void **state)
{
	struct rig *r = *state;
	struct vmcore_file *f = save_and_open(r);
	u64 value;

	vmcore_end(f);
	vmcore_end(f);
	assert_error(view_read_scalar(vmcore_view(f), RIG_IMAGE, 8, &value), ERROR_ENDED, "ended");
	assert_int_equal(vmcore_view(f)->ranges[0].size, 0);
	assert_string_equal(vmcore_info(f), rig_info);
	vmcore_close(f);
	vmcore_close(NULL);
}

static void five_levels_are_told(void **state)
{
	struct rig *r = *state;
	char info[sizeof(rig_info)];

	strcpy(info, rig_info);
	strstr(info, "l5_enabled)=")[strlen("l5_enabled)=")] = '1';
	r->r.core.info = info;

	struct vmcore_file *f = save_and_open(r);

	assert_int_equal(vmcore_view(f)->levels, 5);
	vmcore_close(f);
}

static void what_is_no_core_file_is_refused(void **state)
{
	struct rig *r = *state;
	struct vmcore_file *f;
	const u16 type = ET_EXEC, machine = EM_AARCH64;

	refused(r, ERROR_NOT_FOUND, r->path);
	assert_error(vmcore_open("/tmp", &f), ERROR_FORMAT, "/tmp");
	assert_error(vmcore_open("/dev/null", &f), ERROR_FORMAT, "no file");
	test_dir_write(r->dir, "core", "text", 4);
	refused(r, ERROR_FORMAT, "no core file");
	assert_no_error(vmcore_save(&r->r.core, r->path));
	change(r, offsetof(Elf64_Ehdr, e_machine), &machine, sizeof(machine));
	refused(r, ERROR_UNSUPPORTED, "another architecture");
	change(r, offsetof(Elf64_Ehdr, e_type), &type, sizeof(type));
	refused(r, ERROR_FORMAT, "no core file");
}

static void one_that_is_cut_short_is_refused(void **state)
{
	struct rig *r = *state;

	assert_no_error(vmcore_save(&r->r.core, r->path));

	struct stat st;

	assert_int_equal(stat(r->path, &st), 0);
	for (off_t size = st.st_size - 1; size > HEAD; size -= RIG_MIB / 2 + 3) {
		assert_int_equal(truncate(r->path, size), 0);
		refused(r, ERROR_FORMAT, "cut short");
	}
	for (off_t size = HEAD; size >= 0; size -= 13) {
		assert_int_equal(truncate(r->path, size), 0);
		refused(r, ERROR_FORMAT, r->path);
	}
}

static void memory_has_to_make_sense(void **state)
{
	struct rig *r = *state;

	assert_no_error(vmcore_save(&r->r.core, r->path));

	const Elf64_Phdr image = get_header(r, 1), low = get_header(r, 2), high = get_header(r, 3);
	Elf64_Phdr p = high;

	p.p_paddr = RIG_LOW - PAGE;
	put_header(r, 3, &p);
	refused(r, ERROR_FORMAT, "overlap");
	p.p_paddr = UINT64_MAX - PAGE + 1;
	put_header(r, 3, &p);
	refused(r, ERROR_FORMAT, "beyond physical memory");
	p = high, p.p_offset += 8;
	put_header(r, 3, &p);
	refused(r, ERROR_FORMAT, "whole pages");
	p = high, p.p_memsz += PAGE;
	put_header(r, 3, &p);
	refused(r, ERROR_UNSUPPORTED, "not all of the memory");
	p = high, p.p_type = PT_NULL;
	put_header(r, 3, &p);
	put_header(r, 2, &p);
	refused(r, ERROR_FORMAT, "without memory");
	/* The image is no longer said to be the image. */
	put_header(r, 2, &low);
	put_header(r, 3, &high);
	p = image, p.p_vaddr = 0, p.p_paddr = 1ULL << 40;
	put_header(r, 1, &p);
	refused(r, ERROR_UNSUPPORTED, "image by its own addresses");
	p = image, p.p_paddr = RIG_LOW;
	put_header(r, 1, &p);
	refused(r, ERROR_FORMAT, "not where its VMCOREINFO says");
}

/* Room for one more header: the notes behind them go to the file's end. */
static void add_header(struct rig *r, const Elf64_Phdr *added)
{
	Elf64_Phdr notes = get_header(r, 0);
	const u16 count = 5;
	struct stat st;
	u8 data[HEAD];

	assert_true(notes.p_filesz <= sizeof(data));
	assert_int_equal(stat(r->path, &st), 0);

	int fd = open(r->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, data, notes.p_filesz, (off_t)notes.p_offset), notes.p_filesz);
	close(fd);
	change(r, st.st_size, data, notes.p_filesz);
	notes.p_offset = (u64)st.st_size;
	put_header(r, 0, &notes);
	put_header(r, 4, added);
	change(r, offsetof(Elf64_Ehdr, e_phnum), &count, sizeof(count));
}

static void memory_in_three_pieces_is_too_much(void **state)
{
	struct rig *r = *state;
	struct vmcore_file *f;

	assert_no_error(vmcore_save(&r->r.core, r->path));

	Elf64_Phdr p = get_header(r, 3);

	p.p_paddr += p.p_filesz; // goes on from there
	add_header(r, &p);
	assert_no_error(vmcore_open(r->path, &f));
	assert_int_equal(vmcore_view(f)->memory->region_count, 2);
	assert_int_equal(vmcore_view(f)->memory->regions[1].size, 2 * p.p_filesz);
	vmcore_close(f);
	p.p_paddr += PAGE;
	put_header(r, 4, &p);
	refused(r, ERROR_UNSUPPORTED, "more than 2 pieces");
}

static void segments_in_any_order_are_one_memory(void **state)
{
	struct rig *r = *state;
	struct vmcore_file *f;

	assert_no_error(vmcore_save(&r->r.core, r->path));

	const Elf64_Phdr low = get_header(r, 2), high = get_header(r, 3);

	put_header(r, 2, &high);
	put_header(r, 3, &low);
	assert_no_error(vmcore_open(r->path, &f));
	for (int i = 0; i < 2; i++) {
		const struct guest_region *was = &r->r.memory.regions[i];

		assert_memory_equal(vmcore_view(f)->memory->regions[i].hva, was->hva, was->size);
	}
	vmcore_close(f);
}

static void its_notes_have_to_say_where_the_kernel_is(void **state)
{
	struct rig *r = *state;
	static const struct {
		const char *info, *text;
		enum error_code code;
	} cases[] = {
		{ "NUMBER(phys_base)=-190840832\n", "KERNELOFFSET", ERROR_UNSUPPORTED },
		{ "KERNELOFFSET=a800000\n", "phys_base", ERROR_UNSUPPORTED },
		{ "KERNELOFFSET=\na800000\nNUMBER(phys_base)=-190840832\n", "KERNELOFFSET", ERROR_UNSUPPORTED },
		{ "KERNELOFFSET=a800000z\nNUMBER(phys_base)=-190840832\n", "KERNELOFFSET", ERROR_UNSUPPORTED },
		{ "KERNELOFFSET=10000000000000000\nNUMBER(phys_base)=0\n", "KERNELOFFSET", ERROR_UNSUPPORTED },
		{ "XKERNELOFFSET=a800000\nNUMBER(phys_base)=-190840832", "KERNELOFFSET", ERROR_UNSUPPORTED },
		{ "KERNELOFFSET=a800000\nNUMBER(phys_base)=-190836736\n", "not where", ERROR_FORMAT },
		{ "KERNELOFFSET=fffffffffffff000\nNUMBER(phys_base)=-190840832", "not where", ERROR_FORMAT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		r->r.core.info = cases[i].info;
		r->r.core.info_size = strlen(cases[i].info);
		assert_no_error(vmcore_save(&r->r.core, r->path));
		refused(r, cases[i].code, cases[i].text);
	}
	r->r.core.info = "KERNELOFFSET=a800000\nNUMBER(phys_base)=-190840832";
	r->r.core.info_size = strlen(r->r.core.info);
	vmcore_close(save_and_open(r));
}

/* Whatever it says then: no crash, and nothing outside of it is read. */
static void each_byte_of_its_head_changed_is_an_error_or_a_file(void **state)
{
	struct rig *r = *state;
	u8 head[HEAD];
	u32 opened = 0, errors = 0;

	assert_no_error(vmcore_save(&r->r.core, r->path));

	int fd = open(r->path, O_RDWR | O_CLOEXEC);

	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	for (off_t i = 0; i < HEAD; i++) {
		const u8 flipped = head[i] ^ 0xff;
		struct vmcore_file *f;

		assert_int_equal(pwrite(fd, &flipped, 1, i), 1);

		struct error *err = vmcore_open(r->path, &f);

		if (err) {
			errors++;
			error_destroy(err);
		} else {
			u64 value;

			opened++;
			assert_no_error(view_read_scalar(vmcore_view(f), vmcore_view(f)->ranges[0].start, 8, &value));
			vmcore_close(f);
		}
		assert_int_equal(pwrite(fd, &head[i], 1, i), 1);
	}
	close(fd);
	assert_true(opened > 0 && errors > 100);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_kernels_memory_is_as_it_was),
		TEST(every_cpu_has_its_registers),
		TEST(what_is_written_stays_here),
		TEST(after_its_end_nothing_is_read),
		TEST(five_levels_are_told),
		TEST(what_is_no_core_file_is_refused),
		TEST(one_that_is_cut_short_is_refused),
		TEST(memory_has_to_make_sense),
		TEST(memory_in_three_pieces_is_too_much),
		TEST(segments_in_any_order_are_one_memory),
		TEST(its_notes_have_to_say_where_the_kernel_is),
		TEST(each_byte_of_its_head_changed_is_an_error_or_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
