// SPDX-License-Identifier: GPL-2.0-or-later
/* Placing and loading kernel images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/mman.h>

#include "core/image_builder.h"
#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"

#define MIB (1ULL << 20)
#define RAM (64 * MIB)
#define HOLE_START (3ULL << 30)
#define HOLE_END (4ULL << 30)

static struct kernel_image *open_built(struct test_dir *d, const struct buf *data)
{
	struct kernel_image *image;

	assert_no_error(kernel_image_open(test_dir_write(d, "k", data->data, data->size), &image));
	return image;
}

/* Loads at place and compares every byte of memory with what a simpler loader makes of the file. */
static void check_loaded(const struct kernel_image *image, const struct buf *vmlinux,
			 bool no_inverse, struct kernel_place place)
{
	struct guest_memory m;
	u8 *expected = malloc(RAM);

	memset(expected, 0, RAM);
	built_expect(vmlinux, place.virt_slide, no_inverse, expected + place.phys);
	assert_no_error(guest_memory_init(&m, RAM, HOLE_START, HOLE_END));
	assert_no_error(kernel_image_load(image, &m, &place));
	assert_int_equal(memcmp(m.base, expected, RAM), 0);
	guest_memory_deinit(&m);
	free(expected);
}

static const struct kernel_place places[] = {
	{ .phys = BUILT_LINK_PHYS },
	{ .phys = BUILT_LINK_PHYS, .virt_slide = 0x200000 },
	{ .phys = 0x2a00000 },
	{ .phys = 0x2200000, .virt_slide = 0x1bc00000 },
	/* As high as it goes: the image ends in the last 2 MiB of the kernel's part. */
	{ .phys = 0x1200000, .virt_slide = 0x3ea00000 },
};

static void a_writable_vmlinux_is_copied_and_relocated(void **state)
{
	for (u32 no_inverse = 0; no_inverse < 2; no_inverse++) {
		struct buf vmlinux = BUF_INIT;

		build_vmlinux(&vmlinux, &(struct vmlinux_options){ .no_inverse = no_inverse });

		struct kernel_image *image = open_built(*state, &vmlinux);

		for (size_t i = 0; i < ARRAY_SIZE(places); i++)
			check_loaded(image, &vmlinux, no_inverse, places[i]);
		kernel_image_close(image);
		test_dir_remove(*state, "k");
		buf_deinit(&vmlinux);
	}
}

static void a_bzimage_is_mapped_and_relocated(void **state)
{
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_LZ4 });

	struct kernel_image *image = open_built(*state, &bz);

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		check_loaded(image, &vmlinux, false, places[i]);
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

static void segments_that_are_not_page_aligned_in_the_file_are_copied(void **state)
{
	struct buf vmlinux = BUF_INIT, shifted = BUF_INIT;
	u64 offset = BUILT_TEXT_OFFSET + 8, from;

	// The text segment eight bytes on: what it holds is then what lies there.
	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	built_put_at(&vmlinux, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_offset), &offset, 8);

	struct kernel_image *image = open_built(*state, &vmlinux);
	struct kernel_place place = places[0];
	struct guest_memory m;

	assert_int_equal(chmod(test_dir_file(*state, "k"), 0444), 0);
	kernel_image_close(image);
	assert_no_error(kernel_image_open(test_dir_file(*state, "k"), &image));
	assert_no_error(guest_memory_init(&m, RAM, HOLE_START, HOLE_END));
	assert_no_error(kernel_image_load(image, &m, &place));
	assert_memory_equal(m.base + place.phys, vmlinux.data + offset, BUILT_TEXT_SIZE);
	memcpy(&from, m.base + place.phys + BUILT_TEXT_SIZE, 8);
	assert_int_equal(from, 0);
	guest_memory_deinit(&m);
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&shifted);
	buf_deinit(&vmlinux);
}

static void machines_share_an_image_without_seeing_each_other(void **state)
{
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
	struct guest_memory a, b;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_GZIP });

	struct kernel_image *image = open_built(*state, &bz);

	assert_no_error(guest_memory_init(&a, RAM, HOLE_START, HOLE_END));
	assert_no_error(guest_memory_init(&b, RAM, HOLE_START, HOLE_END));
	assert_no_error(kernel_image_load(image, &a, &places[0]));
	memset(a.base + places[0].phys, 0xee, BUILT_SPAN);
	assert_no_error(kernel_image_load(image, &b, &places[0]));
	// The guests outlive the image.
	kernel_image_close(image);
	assert_memory_equal(b.base + places[0].phys, vmlinux.data + BUILT_TEXT_OFFSET,
			    BUILT_TEXT_SIZE);
	assert_int_equal(a.base[places[0].phys], 0xee);
	guest_memory_deinit(&a);
	guest_memory_deinit(&b);
	test_dir_remove(*state, "k");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

struct loader {
	const struct kernel_image *image;
	const struct buf *vmlinux;
	struct kernel_place place;
	u32 wrong;
};

/* Without assertions: cmocka's are for the thread that runs the test. */
static void *load_often(void *arg)
{
	struct loader *l = arg;
	u8 *expected = malloc(BUILT_SPAN);

	built_expect(l->vmlinux, l->place.virt_slide, false, expected);
	for (u32 i = 0; i < 30; i++) {
		struct guest_memory m;
		struct error *err = guest_memory_init(&m, RAM, HOLE_START, HOLE_END);

		if (!err)
			err = kernel_image_load(l->image, &m, &l->place);
		l->wrong += err || memcmp(m.base + l->place.phys, expected, BUILT_SPAN) != 0;
		error_destroy(err);
		guest_memory_deinit(&m);
	}
	free(expected);
	return NULL;
}

static void threads_load_the_same_image_at_once(void **state)
{
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
	pthread_t threads[4];
	struct loader loaders[4];

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_XZ });

	struct kernel_image *image = open_built(*state, &bz);

	for (u32 i = 0; i < 4; i++) {
		loaders[i] = (struct loader){ image, &vmlinux, places[i + 1], 0 };
		assert_int_equal(pthread_create(&threads[i], NULL, load_often, &loaders[i]), 0);
	}
	for (u32 i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(loaders[i].wrong, 0);
	}
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

static void pages_that_are_not_written_stay_the_files(void **state)
{
	struct test_dir *d = *state;
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
	struct kernel_image *image;
	struct guest_memory m;
	char line[256], wanted[96];
	bool mapped = false;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_ZSTD });
	test_dir_write(d, "bz", bz.data, bz.size);
	strcpy(wanted, test_dir_file(d, "v"));
	assert_no_error(kernel_image_extract(test_dir_file(d, "bz"), wanted));
	strcpy(wanted, test_dir_file(d, "v"));
	assert_no_error(kernel_image_open(wanted, &image));
	assert_no_error(guest_memory_init(&m, RAM, HOLE_START, HOLE_END));
	assert_no_error(kernel_image_load(image, &m, &places[3]));

	FILE *maps = fopen("/proc/self/maps", "re");

	while (fgets(line, sizeof(line), maps)) {
		u64 start = strtoull(line, NULL, 16);

		mapped |= start == (uintptr_t)m.base + places[3].phys && strstr(line, "rw-p") &&
			  strstr(line, wanted);
	}
	fclose(maps);
	assert_true(mapped);
	guest_memory_deinit(&m);
	kernel_image_close(image);
	test_dir_remove(d, "v");
	test_dir_remove(d, "bz");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

static void an_image_without_tables_loads_at_its_link_address_only(void **state)
{
	struct buf vmlinux = BUF_INIT;
	struct guest_memory m;
	const struct kernel_room room = { .low_ram = RAM };
	const u64 entropy = 0x123456789abcdef0;
	struct kernel_place place;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ .no_tables = true });

	struct kernel_image *image = open_built(*state, &vmlinux);

	assert_no_error(kernel_image_place(image, &room, &entropy, &place));
	assert_int_equal(place.phys, BUILT_LINK_PHYS);
	assert_int_equal(place.virt_slide, 0);
	assert_no_error(guest_memory_init(&m, RAM, HOLE_START, HOLE_END));
	assert_error(kernel_image_load(image, &m, &places[1]), ERROR_INVALID,
		     "without relocation tables");
	assert_error(kernel_image_load(image, &m, &places[2]), ERROR_INVALID,
		     "without relocation tables");
	assert_no_error(kernel_image_load(image, &m, &places[0]));
	guest_memory_deinit(&m);
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&vmlinux);
}

static void places_that_do_not_suit_are_refused(void **state)
{
	static const struct kernel_place bad[] = {
		{ .phys = BUILT_LINK_PHYS + 0x1000 },
		{ .phys = BUILT_LINK_PHYS, .virt_slide = 0x1000 },
		{ .phys = BUILT_LINK_PHYS, .virt_slide = 0x3ec00000 },
		{ .phys = BUILT_LINK_PHYS, .virt_slide = 0xffffffffffe00000 },
		{ .phys = RAM - 2 * MIB },
		{ .phys = RAM },
		{ .phys = 0xffffffffffe00000 },
	};
	struct buf vmlinux = BUF_INIT;
	struct guest_memory m;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });

	struct kernel_image *image = open_built(*state, &vmlinux);

	assert_no_error(guest_memory_init(&m, RAM, HOLE_START, HOLE_END));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_error(kernel_image_load(image, &m, &bad[i]), ERROR_INVALID, "kernel");
	guest_memory_deinit(&m);
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&vmlinux);
}

static void a_vmlinux_that_was_rebuilt_meanwhile_is_not_loaded(void **state)
{
	struct buf vmlinux = BUF_INIT;
	const struct timespec then[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct guest_memory m;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });

	struct kernel_image *image = open_built(*state, &vmlinux);

	assert_int_equal(utimensat(AT_FDCWD, test_dir_file(*state, "k"), then, 0), 0);
	assert_no_error(guest_memory_init(&m, RAM, HOLE_START, HOLE_END));
	assert_error(kernel_image_load(image, &m, &places[0]), ERROR_FORMAT, "changed");
	assert_int_equal(truncate(test_dir_file(*state, "k"), 5000), 0);
	assert_error(kernel_image_load(image, &m, &places[0]), ERROR_FORMAT, "");
	guest_memory_deinit(&m);
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&vmlinux);
}

static void random_places_are_aligned_and_inside_and_cover_all(void **state)
{
	const struct kernel_room room = { .low_ram = RAM, .initrd_size = 5 * MIB + 1 };
	const u64 top = RAM - 5 * MIB - 4096;
	struct buf vmlinux = BUF_INIT;
	u64 lowest = UINT64_MAX, highest = 0, lowest_slide = UINT64_MAX, highest_slide = 0;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });

	struct kernel_image *image = open_built(*state, &vmlinux);

	for (u64 i = 0; i < 5000; i++) {
		u64 entropy = i * 0x9e3779b97f4a7c15;
		struct kernel_place p, again;

		assert_no_error(kernel_image_place(image, &room, &entropy, &p));
		assert_no_error(kernel_image_place(image, &room, &entropy, &again));
		assert_memory_equal(&p, &again, sizeof(p));
		assert_int_equal(p.phys % (2 * MIB), 0);
		assert_int_equal(p.virt_slide % (2 * MIB), 0);
		assert_true(p.phys >= KERNEL_LOWEST_PHYS && p.phys + BUILT_SPAN <= top);
		assert_true(BUILT_LINK_PHYS + p.virt_slide + BUILT_SPAN <= 1024 * MIB);
		assert_int_equal(kernel_image_entry(image, &p), p.phys + BUILT_ENTRY_AT);
		lowest = p.phys < lowest ? p.phys : lowest;
		highest = p.phys > highest ? p.phys : highest;
		lowest_slide = p.virt_slide < lowest_slide ? p.virt_slide : lowest_slide;
		highest_slide = p.virt_slide > highest_slide ? p.virt_slide : highest_slide;
	}
	// Every slot is used: the first, and the last that fits.
	assert_int_equal(lowest, KERNEL_LOWEST_PHYS);
	assert_true(highest + 2 * MIB + BUILT_SPAN > top);
	assert_int_equal(lowest_slide, 0);
	assert_true(BUILT_LINK_PHYS + highest_slide + 2 * MIB + BUILT_SPAN > 1024 * MIB);
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&vmlinux);
}

static void without_entropy_the_kernel_stays_where_it_was_linked(void **state)
{
	const struct kernel_room room = { .low_ram = RAM };
	struct buf vmlinux = BUF_INIT;
	struct kernel_place p;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });

	struct kernel_image *image = open_built(*state, &vmlinux);

	assert_no_error(kernel_image_place(image, &room, NULL, &p));
	assert_int_equal(p.phys, BUILT_LINK_PHYS);
	assert_int_equal(p.virt_slide, 0);
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&vmlinux);
}

static void too_little_memory_is_an_error_with_the_sizes(void **state)
{
	const u64 entropy = 1;
	struct buf vmlinux = BUF_INIT;
	struct kernel_place p;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });

	struct kernel_image *image = open_built(*state, &vmlinux);
	struct kernel_room room = { .low_ram = BUILT_LINK_PHYS + BUILT_SPAN };

	room.low_ram = ALIGN_UP(room.low_ram, 4096);
	assert_no_error(kernel_image_place(image, &room, &entropy, &p));
	assert_int_equal(p.phys, BUILT_LINK_PHYS);
	room.initrd_size = 4096;
	assert_error(
		kernel_image_place(image, &room, &entropy, &p), ERROR_INVALID,
		"the kernel takes 5 MiB from 16 MiB on, the initramfs 1 MiB; there are 20 MiB");
	assert_error(kernel_image_place(image, &room, NULL, &p), ERROR_INVALID,
		     "too little memory");
	room.initrd_size = UINT64_MAX;
	assert_error(kernel_image_place(image, &room, NULL, &p), ERROR_INVALID,
		     "too little memory");
	room.initrd_size = 0;
	room.low_ram = 0;
	assert_error(kernel_image_place(image, &room, NULL, &p), ERROR_INVALID,
		     "too little memory");
	kernel_image_close(image);
	test_dir_remove(*state, "k");
	buf_deinit(&vmlinux);
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(a_writable_vmlinux_is_copied_and_relocated),
		IN_DIR(a_bzimage_is_mapped_and_relocated),
		IN_DIR(segments_that_are_not_page_aligned_in_the_file_are_copied),
		IN_DIR(machines_share_an_image_without_seeing_each_other),
		IN_DIR(threads_load_the_same_image_at_once),
		IN_DIR(pages_that_are_not_written_stay_the_files),
		IN_DIR(an_image_without_tables_loads_at_its_link_address_only),
		IN_DIR(places_that_do_not_suit_are_refused),
		IN_DIR(a_vmlinux_that_was_rebuilt_meanwhile_is_not_loaded),
		IN_DIR(random_places_are_aligned_and_inside_and_cover_all),
		IN_DIR(without_entropy_the_kernel_stays_where_it_was_linked),
		IN_DIR(too_little_memory_is_an_error_with_the_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
