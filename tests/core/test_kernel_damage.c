// SPDX-License-Identifier: GPL-2.0-or-later
/* Kernel images that are cut short, damaged or made up: refused, or the right kernel after all. */
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

/* A bzImage whose payload says that it is this long. */
static void a_payload_of_another_size_than_it_says_is_refused(void **state)
{
	static const s32 by[] = { -1, 1, 100000, -100000, INT32_MAX };
	struct buf vmlinux = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	for (size_t i = 0; i < ARRAY_SIZE(compressions); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(by); k++) {
			struct bzimage_options o = { .compression = compressions[i] };
			struct buf bz = BUF_INIT;
			u32 length;

			build_bzimage(&bz, &vmlinux, &o);
			memcpy(&length, bz.data + 0x24c, 4);
			built_put_u32_at(&bz, BUILT_PAYLOAD_AT + length - 4, vmlinux.size + by[k]);
			expect_refused(*state, bz.data, bz.size, ERROR_FORMAT, "payload");
			buf_deinit(&bz);
		}
	}
	buf_deinit(&vmlinux);
}

static void a_cut_bzimage_is_refused_wherever_it_is_cut(void **state)
{
	struct buf vmlinux = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	for (size_t i = 0; i < ARRAY_SIZE(compressions); i++) {
		struct bzimage_options o = { .compression = compressions[i], .crc = true };
		struct buf bz = BUF_INIT;

		build_bzimage(&bz, &vmlinux, &o);
		for (size_t n = 0; n < bz.size; n += n < 700 ? 1 : 97)
			expect_refused(*state, bz.data, n, ERROR_FORMAT, "");
		expect_refused(*state, bz.data, bz.size - 1, ERROR_FORMAT, "cut short");
		buf_deinit(&bz);
	}
	buf_deinit(&vmlinux);
}

static void the_reason_of_a_wrong_checksum_is_given(void **state)
{
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(
		&bz, &vmlinux,
		&(struct bzimage_options){ .compression = KERNEL_COMPRESSION_LZ4, .crc = true });
	// In the middle of the literals: LZ4 itself unpacks that without a word.
	bz.data[BUILT_PAYLOAD_AT + 0x800] ^= 1;
	expect_refused(*state, bz.data, bz.size, ERROR_FORMAT, "its checksum is wrong");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

/* Opens what is in the file; when it opens, it must be the right kernel. */
static bool opens_right(const char *path, const struct buf *vmlinux)
{
	struct kernel_image *image;
	struct error *err = kernel_image_open(path, &image);

	if (err) {
		error_destroy(err);
		return false;
	}
	assert_true(same_vmlinux(image, vmlinux));
	kernel_image_close(image);
	return true;
}

static void flip(const char *path, size_t at, u8 mask)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	u8 byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= mask;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/* Flips bits all over the file, one at a time; what opens anyway is the right kernel. */
static u32 count_accepted(const char *path, size_t from, size_t to, size_t step,
			  const struct buf *vmlinux)
{
	u32 accepted = 0;

	for (size_t at = from; at < to; at += step) {
		u8 mask = 1 << at % 8;

		flip(path, at, mask);
		accepted += opens_right(path, vmlinux);
		flip(path, at, mask);
	}
	return accepted;
}

static void a_flipped_bit_never_gives_another_kernel(void **state)
{
	struct buf vmlinux = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	for (size_t i = 0; i < ARRAY_SIZE(compressions); i++) {
		struct bzimage_options o = { .compression = compressions[i],
					     .crc = true,
					     .is_signed = i % 2 };
		struct buf bz = BUF_INIT;
		u32 length;

		build_bzimage(&bz, &vmlinux, &o);
		memcpy(&length, bz.data + 0x24c, 4);

		const char *path = test_dir_write(*state, "bz", bz.data, bz.size);
		size_t end = BUILT_PAYLOAD_AT + length;

		assert_true(opens_right(path, &vmlinux));
		count_accepted(path, 0, BUILT_PAYLOAD_AT + 16, 3, &vmlinux);
		// A few flips change nothing: a copy is taken from another place with the same
		// bytes.
		assert_true(count_accepted(path, BUILT_PAYLOAD_AT + 16, end, 41, &vmlinux) < 10);
		assert_int_equal(count_accepted(path, end - 8, end, 1, &vmlinux), 0);
		test_dir_remove(*state, "bz");
		buf_deinit(&bz);
	}
	buf_deinit(&vmlinux);
}

static void lz4_is_guarded_by_the_crc_or_the_signature(void **state)
{
	struct buf vmlinux = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	for (u32 kind = 0; kind < 4; kind++) {
		struct bzimage_options o = {
			.compression = KERNEL_COMPRESSION_LZ4,
			.crc = kind & 1,
			.is_signed = kind & 2,
		};
		struct kernel_image *image;
		struct buf bz = BUF_INIT;

		build_bzimage(&bz, &vmlinux, &o);

		const char *path = test_dir_write(*state, "bz", bz.data, bz.size);

		assert_no_error(kernel_image_open(path, &image));
		assert_int_equal(kernel_image_info(image)->verified, kind != 0);
		kernel_image_close(image);
		if (kind)
			assert_int_equal(count_accepted(path, BUILT_SETUP_END, bz.size - 0x5d0, 61,
							&vmlinux),
					 0);
		test_dir_remove(*state, "bz");
		buf_deinit(&bz);
	}
	buf_deinit(&vmlinux);
}

static void a_signature_taken_off_again_does_not_matter(void **state)
{
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
	struct kernel_image *image;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_LZ4,
						 .crc = true,
						 .is_signed = true });
	test_dir_write(*state, "bz", bz.data, bz.size - BUILT_SIGNATURE_SIZE);
	assert_no_error(kernel_image_open(test_dir_file(*state, "bz"), &image));
	assert_true(kernel_image_info(image)->verified);
	kernel_image_close(image);
	test_dir_remove(*state, "bz");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

static void a_cut_vmlinux_is_refused(void **state)
{
	struct buf vmlinux = BUF_INIT, plain = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_vmlinux(&plain, &(struct vmlinux_options){ .no_tables = true });
	for (size_t n = 4; n < plain.size; n += n < 300 ? 1 : 4099)
		expect_refused(*state, vmlinux.data, n, ERROR_FORMAT, "");
	expect_refused(*state, plain.data, plain.size - 1, ERROR_FORMAT, "cut short");
	// In the tables, inside a word or before the last list begins.
	expect_refused(*state, vmlinux.data, vmlinux.size - 1, ERROR_FORMAT, "relocation tables");
	expect_refused(*state, vmlinux.data, plain.size + 4, ERROR_FORMAT, "relocation tables");
	expect_refused(*state, vmlinux.data, plain.size + 40, ERROR_FORMAT, "relocation tables");
	buf_deinit(&plain);
	buf_deinit(&vmlinux);
}

static void relocations_outside_the_image_are_refused(void **state)
{
	static const u32 offsets[] = { (u32)-4, BUILT_SPAN - 3, BUILT_SPAN,
				       0x40000000, 0x7e000000, (u32)-1 };
	struct buf vmlinux = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		built_put_u32_at(&vmlinux, vmlinux.size - 8, (u32)BUILT_LINK_VIRT + offsets[i]);
		expect_refused(*state, vmlinux.data, vmlinux.size, ERROR_FORMAT,
			       "outside the image");
	}
	buf_deinit(&vmlinux);
}

static void damaged_elf_headers_are_refused(void **state)
{
	const u64 huge = 1ULL << 60, low = 0x1000, minus = -8;
	const size_t ph = sizeof(Elf64_Ehdr);
	const struct {
		size_t at;
		u64 value;
		size_t width;
		const char *text;
	} cases[] = {
		{ offsetof(Elf64_Ehdr, e_phoff), huge, 8, "outside the file" },
		{ offsetof(Elf64_Ehdr, e_phoff), minus, 8, "outside the file" },
		{ offsetof(Elf64_Ehdr, e_shoff), huge, 8, "outside the file" },
		{ offsetof(Elf64_Ehdr, e_phnum), 0, 2, "sizes of headers" },
		{ offsetof(Elf64_Ehdr, e_phnum), 65535, 2, "too many" },
		{ offsetof(Elf64_Ehdr, e_phentsize), 8, 2, "sizes of headers" },
		{ offsetof(Elf64_Ehdr, e_shnum), 65535, 2, "cut short" },
		{ offsetof(Elf64_Ehdr, e_entry), low, 8, "entry point" },
		{ offsetof(Elf64_Ehdr, e_ident) + EI_DATA, ELFDATA2MSB, 1, "big-endian" },
		{ offsetof(Elf64_Ehdr, e_ident) + EI_CLASS, ELFCLASS32, 1, "32-bit" },
		{ ph + offsetof(Elf64_Phdr, p_offset), huge, 8, "cut short" },
		{ ph + offsetof(Elf64_Phdr, p_offset), minus, 8, "cut short" },
		{ ph + offsetof(Elf64_Phdr, p_filesz), huge, 8, "larger in the file" },
		{ ph + offsetof(Elf64_Phdr, p_memsz), huge, 8, "outside the first 4 GiB" },
		{ ph + offsetof(Elf64_Phdr, p_memsz), 0x300000, 8, "overlap" },
		{ ph + offsetof(Elf64_Phdr, p_paddr), huge, 8, "outside the first 4 GiB" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf vmlinux = BUF_INIT;
		bool other = strstr(cases[i].text, "endian") || strstr(cases[i].text, "32-bit");

		build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
		built_put_at(&vmlinux, cases[i].at, &cases[i].value, cases[i].width);
		expect_refused(*state, vmlinux.data, vmlinux.size,
			       other ? ERROR_UNSUPPORTED : ERROR_FORMAT, cases[i].text);
		buf_deinit(&vmlinux);
	}
}

/* Each byte of the headers set to values that mean something: refused or opened, never a crash. */
static void any_byte_of_the_headers_may_be_wrong(void **state)
{
	static const u8 values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
	struct buf vmlinux = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });

	const char *path = test_dir_write(*state, "v", vmlinux.data, vmlinux.size);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	u32 refused = 0;

	for (size_t at = 0; at < sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr); at++) {
		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			struct kernel_image *image;

			assert_int_equal(pwrite(fd, &values[i], 1, at), 1);

			struct error *err = kernel_image_open(path, &image);

			refused += err != NULL;
			if (!err)
				kernel_image_close(image);
			error_destroy(err);
		}
		assert_int_equal(pwrite(fd, vmlinux.data + at, 1, at), 1);
	}
	assert_true(refused > 100);
	close(fd);
	test_dir_remove(*state, "v");
	buf_deinit(&vmlinux);
}

static void nothing_stays_open(void **state)
{
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_ZSTD });

	const char *path = test_dir_write(*state, "bz", bz.data, bz.size);
	u32 descriptors = 0, mappings = 0;

	for (u32 i = 0; i < 50; i++) {
		assert_true(opens_right(path, &vmlinux));
		flip(path, BUILT_PAYLOAD_AT + 100, 1);
		assert_false(opens_right(path, &vmlinux));
		flip(path, BUILT_PAYLOAD_AT + 100, 1);
		if (i == 25) {
			descriptors = count_descriptors();
			mappings = count_mappings();
		}
	}
	assert_int_equal(count_descriptors(), descriptors);
	assert_int_equal(count_mappings(), mappings);
	test_dir_remove(*state, "bz");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(a_payload_of_another_size_than_it_says_is_refused),
		IN_DIR(a_cut_bzimage_is_refused_wherever_it_is_cut),
		IN_DIR(the_reason_of_a_wrong_checksum_is_given),
		IN_DIR(a_flipped_bit_never_gives_another_kernel),
		IN_DIR(lz4_is_guarded_by_the_crc_or_the_signature),
		IN_DIR(a_signature_taken_off_again_does_not_matter),
		IN_DIR(a_cut_vmlinux_is_refused),
		IN_DIR(relocations_outside_the_image_are_refused),
		IN_DIR(damaged_elf_headers_are_refused),
		IN_DIR(any_byte_of_the_headers_may_be_wrong),
		IN_DIR(nothing_stays_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
