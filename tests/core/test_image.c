// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/warm_rig.h"
#include "warm/pagemap.h"

static void memory_and_sections_come_back(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_fill(r, 1);
	assert_no_error(rig_create(r, r->dir, &image));
	rig_check_parts(image);
	assert_true(rig_is_same(r, image));
	assert_no_error(image_verify(image));
	// Without a name, it has left nothing to remove.
	assert_int_equal(rig_count(r->dir, NULL), 0);
	image_close(image);
	image_close(NULL);
}

static void an_image_can_do_without_a_directory(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_fill(r, 2);
	assert_no_error(rig_create(r, NULL, &image));
	assert_true(rig_is_same(r, image));
	assert_no_error(image_verify(image));
	image_close(image);
}

static void a_directory_that_cannot_hold_it_is_named(void **state)
{
	struct rig *r = *state;
	struct image *image = NULL;

	assert_error(rig_create(r, rig_path(r, "nowhere"), &image), ERROR_OS, "nowhere");
	assert_null(image);
}

static void memory_of_zeros_takes_no_room(void **state)
{
	struct rig *r = *state;
	struct image *image;

	memset(r->memory.base, 0, RIG_MEMORY); // written, but zeros
	assert_no_error(rig_create(r, r->dir, &image));
	assert_true(rig_is_same(r, image));
	assert_true(image_disk_size(image) <= 2 * MEMORY_PAGE);
	image_close(image);
}

static u64 data_bytes(int fd, u64 size)
{
	u64 bytes = 0;

	for (off_t at = 0; (u64)at < size;) {
		off_t start = lseek(fd, at, SEEK_DATA);

		if (start < 0)
			break;
		at = lseek(fd, start, SEEK_HOLE);
		bytes += (u64)(at - start);
	}
	return bytes;
}

static void check_sparse(struct rig *r, const char *dir)
{
	u32 pages = rig_fill(r, 3);
	struct image *image;

	assert_no_error(rig_create(r, dir, &image));
	assert_true(data_bytes(image_memory_fd(image), RIG_MEMORY) >= pages * MEMORY_PAGE);
	// Some file systems hand out more than a page at a time, but none everything.
	assert_true(data_bytes(image_memory_fd(image), RIG_MEMORY) < RIG_MEMORY / 4);
	assert_true(image_disk_size(image) >= pages * MEMORY_PAGE);
	assert_true(image_disk_size(image) < RIG_MEMORY / 4);
	image_close(image);
}

static void pages_of_zeros_are_holes(void **state)
{
	struct rig *r = *state;

	check_sparse(r, r->dir);
	check_sparse(r, NULL);
}

static u64 pages_present(const void *base, u64 size)
{
	struct pagemap pagemap;
	u64 count = 0, entry;

	assert_no_error(pagemap_open(&pagemap, base, size));
	for (u64 i = 0; i < size / MEMORY_PAGE; i++) {
		assert_no_error(pagemap_get(&pagemap, i, &entry));
		count += !!(entry & PAGEMAP_PRESENT);
	}
	pagemap_close(&pagemap);
	return count;
}

static void memory_that_nobody_touched_is_not_touched_by_saving_it(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_fill(r, 4);

	u64 before = pages_present(r->memory.base, RIG_MEMORY);

	assert_no_error(rig_create(r, r->dir, &image));
	assert_int_equal(pages_present(r->memory.base, RIG_MEMORY), before);
	image_close(image);
}

/* Memory as a machine has it that was restored from the image: the rig's becomes that. */
static void map_from(struct rig *r, const struct image *image)
{
	assert_ptr_equal(mmap(r->memory.base, RIG_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
			      image_memory_fd(image), 0),
			 r->memory.base);
	if (r->memory.file)
		close(r->memory.file);
	r->memory.file = dup(image_memory_fd(image));
}

static void a_restored_machine_can_be_saved_again(void **state)
{
	struct rig *r = *state;
	struct image *first, *second;
	volatile u8 *memory = r->memory.base;

	rig_fill(r, 5);
	assert_no_error(rig_create(r, r->dir, &first));
	map_from(r, first);
	memory[0] = 0; // a page that becomes one of zeros
	memory[2 * MEMORY_PAGE + 5] = 9; // what was a hole
	memory[20 * MEMORY_BLOCK + 31 * MEMORY_PAGE + 9] ^= 0x40; // a change
	assert_int_equal(memory[30 * MEMORY_BLOCK], 0); // a hole that was looked at
	assert_no_error(rig_create(r, r->dir, &second));
	assert_no_error(image_verify(second));
	assert_true(rig_is_same(r, second));
	assert_false(rig_is_same(r, first));
	assert_true(image_disk_size(second) < RIG_MEMORY / 4);

	// And once more, from the second, nothing of it touched.
	map_from(r, second);
	image_close(first);
	assert_no_error(rig_create(r, r->dir, &first));
	assert_true(rig_is_same(r, first));
	image_close(first);
	image_close(second);
}

static void a_restored_machine_is_not_touched_by_saving_it(void **state)
{
	struct rig *r = *state;
	struct image *first, *second;

	rig_fill(r, 6);
	assert_no_error(rig_create(r, r->dir, &first));
	map_from(r, first);
	assert_no_error(rig_create(r, r->dir, &second));
	assert_int_equal(pages_present(r->memory.base, RIG_MEMORY), 0);
	image_close(first);
	image_close(second);
}

static void sections_that_are_too_large_are_refused(void **state)
{
	struct rig *r = *state;
	struct buf parts[IMAGE_SECTIONS] = { 0 };
	struct image *image = NULL;

	buf_put_zero(&parts[IMAGE_SCRIPT], 64 << 20);
	assert_error(image_create(r->dir, parts, &r->memory, &image), ERROR_INVALID, "more than an image holds");
	assert_null(image);
	buf_deinit(&parts[IMAGE_SCRIPT]);
}

static void a_file_that_may_not_be_so_large_is_an_error_that_names_the_directory(void **state)
{
	struct rig *r = *state;
	struct rlimit before, tight;
	struct image *image = NULL;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

	rig_fill(r, 7);
	getrlimit(RLIMIT_FSIZE, &before);
	tight = before;
	tight.rlim_cur = 1 << 20;
	setrlimit(RLIMIT_FSIZE, &tight);

	struct error *err = rig_create(r, r->dir, &image);

	setrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, handler);
	assert_error(err, ERROR_OS, r->dir);
	assert_null(image);
	assert_int_equal(rig_count(r->dir, NULL), 0);
}

enum { CANNOT_MOUNT = 77 };

/* Exits with 0 when an error of that code names the directory and nothing is left there. */
static void exit_if_full(struct rig *r, struct error *err, struct image *image)
{
	if (!err)
		_exit(10);
	if (error_code(err) != ERROR_OS || !strstr(error_message(err), r->dir) ||
	    !strstr(error_message(err), strerror(ENOSPC)))
		_exit(11);
	if (image)
		image_close(image);
	error_destroy(err);
	_exit(rig_count(r->dir, NULL) ? 12 : 0);
}

static void fill_disk(struct rig *r, bool publish)
{
	struct image *image = NULL;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", r->dir, "tmpfs", 0, "size=128k"))
		_exit(CANNOT_MOUNT);
	// A child has none of its parent's guest memory.
	if (guest_memory_init(&r->memory, RIG_MEMORY, 6 << 20, 1ULL << 32))
		_exit(13);
	rig_fill(r, 8);
	if (!publish)
		exit_if_full(r, rig_create(r, r->dir, &image), NULL);

	struct error *err = rig_create(r, NULL, &image);

	exit_if_full(r, err ? err : image_publish(image, rig_path(r, "name")), image);
}

static void check_full_disk(struct rig *r, bool publish)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		fill_disk(r, publish);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == CANNOT_MOUNT) {
		print_message("this user cannot mount a small file system\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_full_disk_is_an_error_and_leaves_nothing(void **state)
{
	check_full_disk(*state, false);
}

static void a_disk_that_becomes_full_while_publishing_is_left_as_it_was(void **state)
{
	check_full_disk(*state, true);
}

static void a_hundred_images_leave_no_descriptor_and_no_mapping(void **state)
{
	struct rig *r = *state;

	rig_fill(r, 9);

	struct footprint before = footprint_now();

	for (int i = 0; i < 100; i++) {
		struct image *image;

		assert_no_error(rig_create(r, i % 2 ? r->dir : NULL, &image));
		assert_no_error(image_publish(image, rig_path(r, "x")));
		image_close(image);
		assert_no_error(image_open(r->path, &image));
		image_close(image);
		rig_remove(r->path);
	}
	assert_footprint(&before, 100);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(memory_and_sections_come_back),
		WITH_RIG(an_image_can_do_without_a_directory),
		WITH_RIG(a_directory_that_cannot_hold_it_is_named),
		WITH_RIG(memory_of_zeros_takes_no_room),
		WITH_RIG(pages_of_zeros_are_holes),
		WITH_RIG(memory_that_nobody_touched_is_not_touched_by_saving_it),
		WITH_RIG(a_restored_machine_can_be_saved_again),
		WITH_RIG(a_restored_machine_is_not_touched_by_saving_it),
		WITH_RIG(sections_that_are_too_large_are_refused),
		WITH_RIG(a_file_that_may_not_be_so_large_is_an_error_that_names_the_directory),
		WITH_RIG(a_full_disk_is_an_error_and_leaves_nothing),
		WITH_RIG(a_disk_that_becomes_full_while_publishing_is_left_as_it_was),
		WITH_RIG(a_hundred_images_leave_no_descriptor_and_no_mapping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
