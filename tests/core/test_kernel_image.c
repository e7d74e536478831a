// SPDX-License-Identifier: GPL-2.0-or-later
/* Opening kernel images: what is found out about good ones, what is said about bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/image_builder.h"
#include "core/image_files.h"
#include "core/kernel_files.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"

static void check_addresses(const struct kernel_info *info)
{
	assert_true(info->relocatable);
	assert_int_equal(info->link_phys, BUILT_LINK_PHYS);
	assert_int_equal(info->link_virt, BUILT_LINK_VIRT);
	assert_int_equal(info->span, BUILT_SPAN);
	assert_int_equal(info->align, 0x200000);
	assert_int_equal(info->entry, BUILT_LINK_PHYS + BUILT_ENTRY_AT);
	assert_string_equal(info->release, BUILT_RELEASE);
}

static void a_bzimage_of_every_compression_holds_its_vmlinux(void **state)
{
	struct buf vmlinux = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	for (size_t i = 0; i < ARRAY_SIZE(compressions); i++) {
		struct bzimage_options o = { .compression = compressions[i], .crc = true };
		struct buf bz = BUF_INIT;
		struct kernel_image *image;

		build_bzimage(&bz, &vmlinux, &o);
		assert_no_error(
			kernel_image_open(test_dir_write(*state, "bz", bz.data, bz.size), &image));

		const struct kernel_info *info = kernel_image_info(image);

		check_addresses(info);
		assert_int_equal(info->format, KERNEL_FORMAT_BZIMAGE);
		assert_int_equal(info->compression, compressions[i]);
		assert_true(info->verified);
		assert_int_equal(info->setup_header_size, 0x26c - 0x1f1);
		assert_memory_equal(info->setup_header, bz.data + 0x1f1, 0x26c - 0x1f1);
		assert_true(same_vmlinux(image, &vmlinux));
		kernel_image_close(image);
		buf_deinit(&bz);
		test_dir_remove(*state, "bz");
	}
	buf_deinit(&vmlinux);
}

static void what_a_bzimage_unpacks_to_cannot_be_written(void **state)
{
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
	struct kernel_image *image;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_GZIP });
	assert_no_error(kernel_image_open(test_dir_write(*state, "bz", bz.data, bz.size), &image));
	assert_int_equal(pwrite(kernel_image_fd(image), "x", 1, 0), -1);
	assert_int_equal(ftruncate(kernel_image_fd(image), 0), -1);
	kernel_image_close(image);
	test_dir_remove(*state, "bz");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

static void a_vmlinux_is_described(void **state)
{
	struct buf vmlinux = BUF_INIT;
	struct kernel_image *image;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ .no_inverse = true });
	assert_no_error(
		kernel_image_open(test_dir_write(*state, "v", vmlinux.data, vmlinux.size), &image));
	check_addresses(kernel_image_info(image));
	assert_int_equal(kernel_image_info(image)->format, KERNEL_FORMAT_VMLINUX);
	assert_int_equal(kernel_image_info(image)->compression, KERNEL_COMPRESSION_NONE);
	assert_int_equal(kernel_image_info(image)->setup_header_size, 0);
	assert_true(same_vmlinux(image, &vmlinux));
	kernel_image_close(image);
	test_dir_remove(*state, "v");
	buf_deinit(&vmlinux);
}

static void a_vmlinux_without_tables_is_not_relocatable(void **state)
{
	struct buf vmlinux = BUF_INIT;
	struct kernel_image *image;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ .no_tables = true });
	assert_no_error(
		kernel_image_open(test_dir_write(*state, "v", vmlinux.data, vmlinux.size), &image));
	assert_false(kernel_image_info(image)->relocatable);
	assert_string_equal(kernel_image_info(image)->release, BUILT_RELEASE);
	kernel_image_close(image);
	test_dir_remove(*state, "v");
	buf_deinit(&vmlinux);
}

static void a_virtual_entry_point_is_made_physical(void **state)
{
	struct buf vmlinux = BUF_INIT;
	struct kernel_image *image;
	u64 entry = BUILT_LINK_VIRT + 0x123;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	built_put_at(&vmlinux, offsetof(Elf64_Ehdr, e_entry), &entry, sizeof(entry));
	assert_no_error(
		kernel_image_open(test_dir_write(*state, "v", vmlinux.data, vmlinux.size), &image));
	assert_int_equal(kernel_image_info(image)->entry, BUILT_LINK_PHYS + 0x123);
	kernel_image_close(image);
	test_dir_remove(*state, "v");
	buf_deinit(&vmlinux);
}

static void a_build_tree_gives_its_bzimage_else_its_vmlinux(void **state)
{
	static const char *const dirs[] = { "t", "t/arch", "t/arch/x86", "t/arch/x86/boot" };
	struct test_dir *d = *state;
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
	struct kernel_image *image;
	char tree[96];

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_XZ });
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		assert_int_equal(mkdir(test_dir_file(d, dirs[i]), 0755), 0);
	strcpy(tree, test_dir_file(d, "t"));
	assert_error(kernel_image_open(tree, &image), ERROR_NOT_FOUND,
		     "is not a kernel build tree");

	test_dir_write(d, "t/vmlinux", vmlinux.data, vmlinux.size);
	assert_no_error(kernel_image_open(tree, &image));
	assert_int_equal(kernel_image_info(image)->format, KERNEL_FORMAT_VMLINUX);
	kernel_image_close(image);

	test_dir_write(d, "t/arch/x86/boot/bzImage", bz.data, bz.size);
	assert_no_error(kernel_image_open(tree, &image));
	assert_int_equal(kernel_image_info(image)->format, KERNEL_FORMAT_BZIMAGE);
	kernel_image_close(image);

	test_dir_remove(d, "t/arch/x86/boot/bzImage");
	test_dir_remove(d, "t/vmlinux");
	for (size_t i = ARRAY_SIZE(dirs); i-- > 0;)
		assert_int_equal(rmdir(test_dir_file(d, dirs[i])), 0);
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

static void what_is_no_kernel_is_refused(void **state)
{
	u8 text[5000];

	memset(text, 'x', sizeof(text));
	expect_refused(*state, "", 0, ERROR_FORMAT, "it is empty");
	expect_refused(*state, "x", 1, ERROR_FORMAT, "neither a bzImage nor an ELF file");
	expect_refused(*state, text, sizeof(text), ERROR_FORMAT,
		       "neither a bzImage nor an ELF file");
	expect_refused(*state, "\177ELF", 4, ERROR_FORMAT, "cut short");
	memcpy(text + 0x38, "ARM\x64", 4);
	expect_refused(*state, text, sizeof(text), ERROR_UNSUPPORTED, "arm64");
	memcpy(text + 0x38, "RSC\x05", 4);
	expect_refused(*state, text, sizeof(text), ERROR_UNSUPPORTED, "RISC-V");
	memcpy(text, "MZ\0\0zimg", 8);
	memset(text + 0x38, 0, 4);
	expect_refused(*state, text, sizeof(text), ERROR_UNSUPPORTED, "zboot");
}

static void a_missing_file_is_told_from_a_bad_one(void **state)
{
	struct kernel_image *image;

	assert_error(kernel_image_open(test_dir_file(*state, "nothing"), &image), ERROR_NOT_FOUND,
		     "nothing");
	assert_error(kernel_image_open("/dev/null", &image), ERROR_FORMAT, "/dev/null");
	assert_error(kernel_image_open("/proc/self/exe/x", &image), ERROR_NOT_FOUND, "x");
}

static void kernels_of_other_machines_are_refused(void **state)
{
	static const struct {
		u16 machine;
		const char *name;
	} others[] = { { EM_AARCH64, "arm64" }, { EM_386, "32-bit x86" }, { 9999, "another" } };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
		struct vmlinux_options o = { .machine = others[i].machine };

		build_vmlinux(&vmlinux, &o);
		expect_refused(*state, vmlinux.data, vmlinux.size, ERROR_UNSUPPORTED,
			       others[i].name);
		build_bzimage(&bz, &vmlinux,
			      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_ZSTD });
		expect_refused(*state, bz.data, bz.size, ERROR_UNSUPPORTED, others[i].name);
		buf_deinit(&bz);
		buf_deinit(&vmlinux);
	}
}

static void elf_files_that_are_no_kernel_are_refused(void **state)
{
	struct kernel_image *image;
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;

	assert_error(kernel_image_open("/proc/self/exe", &image), ERROR_FORMAT, "user space");
	build_vmlinux(&vmlinux, &(struct vmlinux_options){ .type = ET_REL });
	expect_refused(*state, vmlinux.data, vmlinux.size, ERROR_FORMAT, "object file or module");
	memset(vmlinux.data, 0, 4);
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_ZSTD });
	expect_refused(*state, bz.data, bz.size, ERROR_FORMAT, "not an ELF file");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

static void compressions_that_are_not_ours_are_named(void **state)
{
	struct buf payload = BUF_INIT, bz = BUF_INIT;

	buf_put(&payload, "BZh91AY", 7);
	buf_put_zero(&payload, 100);
	build_bzimage(&bz, NULL, &(struct bzimage_options){ .payload = &payload });
	expect_refused(*state, bz.data, bz.size, ERROR_UNSUPPORTED, "bzip2");
	memcpy(bz.data + BUILT_PAYLOAD_AT, "what", 4);
	expect_refused(*state, bz.data, bz.size, ERROR_FORMAT, "no known compression format");
	buf_deinit(&bz);
	buf_deinit(&payload);
}

static void an_old_boot_protocol_is_refused(void **state)
{
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_ZSTD });
	built_put_at(&bz, 0x206, "\x07\x02", 2);
	expect_refused(*state, bz.data, bz.size, ERROR_UNSUPPORTED, "2.07");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(a_bzimage_of_every_compression_holds_its_vmlinux),
		IN_DIR(what_a_bzimage_unpacks_to_cannot_be_written),
		IN_DIR(a_vmlinux_is_described),
		IN_DIR(a_vmlinux_without_tables_is_not_relocatable),
		IN_DIR(a_virtual_entry_point_is_made_physical),
		IN_DIR(a_build_tree_gives_its_bzimage_else_its_vmlinux),
		IN_DIR(what_is_no_kernel_is_refused),
		IN_DIR(a_missing_file_is_told_from_a_bad_one),
		IN_DIR(kernels_of_other_machines_are_refused),
		IN_DIR(elf_files_that_are_no_kernel_are_refused),
		IN_DIR(compressions_that_are_not_ours_are_named),
		IN_DIR(an_old_boot_protocol_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
