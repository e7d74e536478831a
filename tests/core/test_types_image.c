// SPDX-License-Identifier: GPL-2.0-or-later
/* BTF in a kernel image: by its section, without sections, and where there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/btf_builder.h"
#include "core/image_builder.h"
#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"
#include "kernel/types.h"

enum {
	BLOB_AT = BUILT_DATA_OFFSET + 0x2004, /* in the file, where the builder has zeros */
	OTHER_AT = BUILT_DATA_OFFSET + 0x10000,
};

/* The section that the builder calls .rodata becomes .BTF, at that place. */
static void put_section(struct buf *image, u64 offset, u64 size, u32 type)
{
	const Elf64_Ehdr *e = (void *)image->data;
	Elf64_Shdr *sections = (void *)(image->data + e->e_shoff);
	char *name = (char *)image->data + sections[e->e_shstrndx].sh_offset + sections[2].sh_name;

	strcpy(name, ".BTF");
	sections[2].sh_type = type;
	sections[2].sh_offset = offset;
	sections[2].sh_size = size;
}

/* The file ends where its data does. */
static void strip_sections(struct buf *image)
{
	Elf64_Ehdr *e = (void *)image->data;

	e->e_shoff = e->e_shnum = e->e_shstrndx = 0;
	image->size = BUILT_DATA_OFFSET + BUILT_DATA_SIZE;
}

static struct buf image_with(const struct buf *blob)
{
	struct buf image = BUF_INIT;

	build_vmlinux(&image, &(struct vmlinux_options){ 0 });
	if (blob)
		memcpy(image.data + BLOB_AT, blob->data, blob->size);
	return image;
}

static struct error *open_types(struct test_dir *d, const struct buf *file, struct types **ret)
{
	struct kernel_image *image;

	assert_no_error(kernel_image_open(test_dir_write(d, "kernel", file->data, file->size), &image));

	struct error *err = types_create_image(image, ret);

	kernel_image_close(image);
	test_dir_remove(d, "kernel");
	return err;
}

static void expect_types(struct test_dir *d, const struct buf *file, const struct every *e)
{
	struct types *t;
	u32 id;

	assert_no_error(open_types(d, file, &t));
	assert_int_equal(types_end(t), e->end);
	assert_int_equal(types_find(t, "struct thing", &id, 1), 1);
	assert_int_equal(id, e->thing);
	types_destroy(t);
}

static void types_are_found_by_their_section(void **state)
{
	struct every e;
	struct buf blob = build_every_kind(&e), image = image_with(&blob);

	put_section(&image, BLOB_AT, blob.size, SHT_PROGBITS);
	expect_types(*state, &image, &e);
	buf_deinit(&image);
	buf_deinit(&blob);
}

static void types_are_found_in_a_bzimage(void **state)
{
	struct every e;
	struct buf blob = build_every_kind(&e), image = image_with(&blob), bz = BUF_INIT;

	put_section(&image, BLOB_AT, blob.size, SHT_PROGBITS);
	build_bzimage(&bz, &image,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_ZSTD, .crc = true });
	expect_types(*state, &bz, &e);
	buf_deinit(&bz);
	buf_deinit(&image);
	buf_deinit(&blob);
}

/* A smaller blob, as programs inside a kernel have, does not mislead. */
static void without_sections_the_largest_blob_is_taken(void **state)
{
	struct every e;
	struct btf_builder b;
	struct buf blob = build_every_kind(&e), small, image = image_with(&blob);

	btf_start(&b, 1, 0);
	btf_int(&b, "int", 4, 0);
	small = btf_finish(&b);
	memcpy(image.data + BUILT_DATA_OFFSET + 0x1008, small.data, small.size);
	memcpy(image.data + OTHER_AT, small.data, small.size);
	strip_sections(&image);
	expect_types(*state, &image, &e);
	buf_deinit(&small);
	buf_deinit(&image);
	buf_deinit(&blob);
}

static void an_image_without_btf_says_so(void **state)
{
	struct buf image = image_with(NULL);
	struct types *t;
	struct error *err = open_types(*state, &image, &t);

	assert_int_equal(error_code(err), ERROR_NOT_FOUND);
	assert_string_equal(error_message(err), "types of the kernel image: there is no BTF in it");
	assert_non_null(error_hint(err));
	error_destroy(err);
	strip_sections(&image);
	assert_error(open_types(*state, &image, &t), ERROR_NOT_FOUND, "no BTF");
	buf_deinit(&image);
}

static void a_section_without_bytes_is_none(void **state)
{
	struct every e;
	struct buf blob = build_every_kind(&e), image = image_with(NULL);
	struct types *t;

	put_section(&image, BLOB_AT, blob.size, SHT_NOBITS);
	assert_error(open_types(*state, &image, &t), ERROR_NOT_FOUND, "no BTF");
	put_section(&image, BLOB_AT, 0, SHT_PROGBITS);
	assert_error(open_types(*state, &image, &t), ERROR_NOT_FOUND, "no BTF");
	buf_deinit(&image);
	buf_deinit(&blob);
}

static void damaged_btf_in_an_image_is_an_error(void **state)
{
	struct every e;
	struct buf blob = build_every_kind(&e), image = image_with(&blob);
	struct types *t;

	put_section(&image, BLOB_AT, blob.size - 1, SHT_PROGBITS);
	assert_error(open_types(*state, &image, &t), ERROR_FORMAT, "types of the kernel image: BTF is cut short");
	image.data[BLOB_AT + sizeof(struct btf_header) + 7] = 0x7f;
	put_section(&image, BLOB_AT, blob.size, SHT_PROGBITS);
	assert_error(open_types(*state, &image, &t), ERROR_UNSUPPORTED, "BTF type 1 has kind 31");
	buf_deinit(&image);
	buf_deinit(&blob);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(types_are_found_by_their_section),
		TEST(types_are_found_in_a_bzimage),
		TEST(without_sections_the_largest_blob_is_taken),
		TEST(an_image_without_btf_says_so),
		TEST(a_section_without_bytes_is_none),
		TEST(damaged_btf_in_an_image_is_an_error),
	};

	return cmocka_run_group_tests_name("types_image", tests, NULL, NULL);
}
