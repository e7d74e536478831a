// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Distributions' kernels as they are packaged: every bzImage in ktstr's cache, and those named in
 * KTSTR_TEST_KERNELS (separated by colons). Skipped, and said so, where there is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <elf.h>
#include <glob.h>
#include <sys/mman.h>

#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"

#define MIB (1ULL << 20)

enum { MAX_KERNELS = 16 };

struct kernels {
	char *paths[MAX_KERNELS];
	size_t count;
};

static void find_kernels(struct kernels *k)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	const char *more = getenv("KTSTR_TEST_KERNELS");
	char pattern[512];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s%s/ktstr/kernels/*/bzImage",
		 cache ? cache :
		 home  ? home :
			 "",
		 cache ? "" : "/.cache");
	if (!glob(pattern, 0, NULL, &found)) {
		for (size_t i = 0; i < found.gl_pathc && k->count < MAX_KERNELS; i++)
			k->paths[k->count++] = strdup(found.gl_pathv[i]);
		globfree(&found);
	}
	while (more && *more && k->count < MAX_KERNELS) {
		size_t n = strcspn(more, ":");

		if (n)
			k->paths[k->count++] = strndup(more, n);
		more += n + (more[n] == ':');
	}
}

static int setup(void **state)
{
	struct kernels *k = calloc(1, sizeof(*k));

	find_kernels(k);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	struct kernels *k = *state;

	for (size_t i = 0; i < k->count; i++)
		free(k->paths[i]);
	free(k);
	return 0;
}

static void skip_without(const struct kernels *k)
{
	if (!k->count) {
		print_message("skipped: no kernel in the cache and no KTSTR_TEST_KERNELS\n");
		skip();
	}
}

/* A file in memory, private and writable. */
struct bytes {
	u8 *data;
	size_t size;
};

static struct bytes map_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);

	struct bytes b = { .size = st.st_size };

	b.data = mmap(NULL, b.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(b.data, MAP_FAILED);
	close(fd);
	return b;
}

/* Adds slide at one place of the image, in width bytes. */
static void move_word(u8 *image, u32 at, u32 width, s64 slide)
{
	u64 word = 0;

	memcpy(&word, image + at, width);
	word += slide;
	memcpy(image + at, &word, width);
}

/*
 * The image that must lie in memory, from the ELF file in b. Unlike the loader this reads the
 * tables from their beginning: behind the section headers a zero, the 64-bit entries, a zero, in
 * some kernels the inverse ones and a zero, the 32-bit ones up to the end.
 */
static u8 *compute(const struct bytes *b, const struct kernel_info *info, u64 slide)
{
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)b->data;
	const Elf64_Phdr *ph = (const Elf64_Phdr *)(b->data + e->e_phoff);
	const u32 *at = (const u32 *)(b->data + e->e_shoff + e->e_shnum * sizeof(Elf64_Shdr));
	const u32 *end = (const u32 *)(b->data + b->size);
	u8 *image = calloc(1, info->span);
	u32 zeros = 0, zero = 0;

	for (u32 i = 0; i < e->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD)
			memcpy(image + ph[i].p_paddr - info->link_phys, b->data + ph[i].p_offset,
			       ph[i].p_filesz);
	for (const u32 *p = at; p < end; p++)
		zeros += !*p;
	assert_in_range(zeros, 2, 3);
	for (const u32 *p = at; p < end; p++) {
		u32 offset = *p - (u32)info->link_virt;

		if (!*p)
			zero++;
		else if (zero == 1)
			move_word(image, offset, 8, slide);
		else
			move_word(image, offset, 4, zero == zeros ? (s64)slide : -(s64)slide);
	}
	return image;
}

static void load_and_compare(const char *vmlinux, const struct bytes *file, u64 entropy)
{
	const struct kernel_room room = { .low_ram = 512 * MIB, .initrd_size = 8 * MIB };
	struct kernel_image *image;
	struct kernel_place place;
	struct guest_memory m;

	assert_no_error(kernel_image_open(vmlinux, &image));

	const struct kernel_info *info = kernel_image_info(image);

	assert_no_error(kernel_image_place(image, &room, entropy ? &entropy : NULL, &place));
	assert_no_error(guest_memory_init(&m, room.low_ram, 3072 * MIB, 4096 * MIB));
	assert_no_error(kernel_image_load(image, &m, &place));

	u8 *expected = compute(file, info, place.virt_slide);

	assert_int_equal(memcmp(m.base + place.phys, expected, info->span), 0);
	assert_non_null(
		memmem(m.base + place.phys, info->span, info->release, strlen(info->release)));
	free(expected);
	guest_memory_deinit(&m);
	kernel_image_close(image);
}

static void a_stock_kernel_is_extracted_and_relocated_exactly(void **state)
{
	const struct kernels *k = *state;

	skip_without(k);
	for (size_t i = 0; i < k->count; i++) {
		struct kernel_image *image;
		void *d = NULL;

		print_message("%s\n", k->paths[i]);
		assert_no_error(kernel_image_open(k->paths[i], &image));
		assert_true(kernel_image_info(image)->verified);
		assert_true(kernel_image_info(image)->relocatable);
		assert_int_equal(test_dir_setup(&d), 0);

		const char *vmlinux = test_dir_file(d, "vmlinux");

		assert_no_error(kernel_image_extract(k->paths[i], vmlinux));

		struct bytes file = map_file(vmlinux);

		assert_int_equal(file.size, kernel_image_size(image));
		load_and_compare(vmlinux, &file, 0);
		load_and_compare(vmlinux, &file, 0x9e3779b97f4a7c15);
		load_and_compare(vmlinux, &file, UINT64_MAX);
		munmap(file.data, file.size);
		test_dir_remove(d, "vmlinux");
		assert_int_equal(test_dir_teardown(&d), 0);
		kernel_image_close(image);
	}
}

static void the_release_in_the_header_is_the_one_in_the_kernel(void **state)
{
	const struct kernels *k = *state;

	skip_without(k);
	for (size_t i = 0; i < k->count; i++) {
		struct kernel_image *bz, *vmlinux;
		char path[64];

		assert_no_error(kernel_image_open(k->paths[i], &bz));
		snprintf(path, sizeof(path), "/proc/self/fd/%d", kernel_image_fd(bz));
		assert_no_error(kernel_image_open(path, &vmlinux));
		assert_string_equal(kernel_image_info(bz)->release,
				    kernel_image_info(vmlinux)->release);
		assert_true(strlen(kernel_image_info(bz)->release) > 3);
		kernel_image_close(vmlinux);
		kernel_image_close(bz);
	}
}

static void a_flipped_bit_in_a_stock_kernels_payload_is_noticed(void **state)
{
	const struct kernels *k = *state;

	skip_without(k);
	for (size_t i = 0; i < k->count; i++) {
		struct bytes b = map_file(k->paths[i]);
		u32 offset, length;
		void *d = NULL;

		memcpy(&offset, b.data + 0x248, 4);
		memcpy(&length, b.data + 0x24c, 4);
		offset += (b.data[0x1f1] + 1) * 512;
		assert_int_equal(test_dir_setup(&d), 0);
		for (u32 part = 0; part < 4; part++) {
			u8 *at = b.data + offset + 1000 + (u64)(length - 2000) * part / 3;
			struct kernel_image *image;

			*at ^= 1 << part;

			const char *path = test_dir_write(d, "bz", b.data, b.size);

			assert_error(kernel_image_open(path, &image), ERROR_FORMAT, "damaged");
			*at ^= 1 << part;
		}
		test_dir_remove(d, "bz");
		assert_int_equal(test_dir_teardown(&d), 0);
		munmap(b.data, b.size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stock_kernel_is_extracted_and_relocated_exactly),
		cmocka_unit_test(the_release_in_the_header_is_the_one_in_the_kernel),
		cmocka_unit_test(a_flipped_bit_in_a_stock_kernels_payload_is_noticed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
