// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/warm_rig.h"
#include "warm/state_file.h"

/* --- the published image "name" of each test --- */

static int published_setup(void **state)
{
	if (rig_setup(state))
		return -1;
	rig_publish(*state, "name", 1);
	return 0;
}

static struct error *open_it(struct rig *r)
{
	struct image *image = NULL;
	struct error *err = image_open(rig_path(r, "name"), &image);

	assert_int_equal(image == NULL, err != NULL);
	image_close(image);
	return err;
}

static struct buf read_file(const char *path)
{
	struct buf b = BUF_INIT;
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	for (int c = fgetc(f); c != EOF; c = fgetc(f))
		buf_put_u8(&b, (u8)c);
	fclose(f);
	return b;
}

/* Under that name, in place of what has it. */
static void write_file(const char *path, const void *data, size_t size)
{
	unlink(path);

	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

/* The clock that files are stamped by may stand still for some milliseconds. */
static void wait_for_another_ctime(const char *path)
{
	struct timespec now;
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	do
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	while (now.tv_sec == st.st_ctim.tv_sec && now.tv_nsec <= st.st_ctim.tv_nsec);
}

/* One byte of the file, where it is. */
static void change_byte(const char *path, u64 at)
{
	u8 byte;

	wait_for_another_ctime(path);
	assert_int_equal(chmod(path, 0600), 0); // it has to be wanted

	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	close(fd);
}

static void set_length(const char *path, u64 size)
{
	wait_for_another_ctime(path);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(truncate(path, (off_t)size), 0);
}

/* --- state --- */

static void every_flipped_byte_of_the_state_is_noticed(void **state)
{
	struct rig *r = *state;
	struct buf bytes = read_file(rig_path(r, "name/state"));

	assert_no_error(open_it(r));
	for (size_t i = 0; i < bytes.size; i++) {
		bytes.data[i] ^= 1 << i % 8;
		write_file(rig_path(r, "name/state"), bytes.data, bytes.size);
		assert_error(open_it(r), ERROR_FORMAT, "'state' is damaged");
		bytes.data[i] ^= 1 << i % 8;
	}
	write_file(rig_path(r, "name/state"), bytes.data, bytes.size);
	assert_no_error(open_it(r));
	buf_deinit(&bytes);
}

/* Of as many bytes as a machine of several vCPUs has. */
static void every_flipped_bit_of_a_large_state_is_noticed(void **state)
{
	struct buf parts[IMAGE_SECTIONS] = { 0 }, sums = BUF_INIT, bytes = BUF_INIT;
	struct state_file parsed;

	for (u32 i = 0; i < 20000; i++)
		buf_put_u8(&parts[IMAGE_MACHINE], (u8)(i * 7 + i / 256));
	for (u32 i = 0; i < 700; i++)
		block_sum_put(&sums, (struct block_sum){ i * 2, hash64(&i, sizeof(i)) });
	assert_no_error(state_file_build(parts, 512ULL << 20, &sums, &bytes));
	assert_no_error(state_file_parse(bytes.data, bytes.size, &parsed));
	assert_int_equal(parsed.memory_size, 512ULL << 20);
	for (size_t bit = 0; bit < bytes.size * 8; bit++) {
		bytes.data[bit / 8] ^= 1 << bit % 8;

		struct error *err = state_file_parse(bytes.data, bytes.size, &parsed);

		if (!err)
			print_error("bit %zu\n", bit);
		assert_error(err, ERROR_FORMAT, "");
		bytes.data[bit / 8] ^= 1 << bit % 8;
	}
	buf_deinit(&parts[IMAGE_MACHINE]);
	buf_deinit(&sums);
	buf_deinit(&bytes);
}

static void a_state_of_another_length_is_noticed(void **state)
{
	struct rig *r = *state;
	struct buf bytes = read_file(rig_path(r, "name/state"));
	size_t size = bytes.size;

	for (size_t n = 0; n < size; n++) {
		write_file(rig_path(r, "name/state"), bytes.data, n);
		assert_error(open_it(r), ERROR_FORMAT, "'state' is damaged");
	}
	buf_put_zero(&bytes, 8);
	for (size_t n = size + 1; n <= bytes.size; n++) {
		write_file(rig_path(r, "name/state"), bytes.data, n);
		assert_error(open_it(r), ERROR_FORMAT, "when it was made");
	}
	set_length(rig_path(r, "name/state"), (64LL << 20) + 1);
	assert_error(open_it(r), ERROR_FORMAT, "which no machine's has");
	buf_deinit(&bytes);
}

static void a_state_of_another_version_says_which(void **state)
{
	struct rig *r = *state;
	struct buf bytes = read_file(rig_path(r, "name/state"));

	bytes.data[8] = 77;
	write_file(rig_path(r, "name/state"), bytes.data, bytes.size);
	assert_error(open_it(r), ERROR_FORMAT, "version 77");
	buf_deinit(&bytes);
}

/* The bytes of a state whose checksum is right, whatever else it says. */
static struct buf forge(u64 memory_size, const struct buf *sums)
{
	struct buf parts[IMAGE_SECTIONS] = { 0 }, bytes = BUF_INIT;

	assert_no_error(state_file_build(parts, memory_size, sums, &bytes));
	return bytes;
}

static void a_checksum_does_not_make_nonsense_right(void **state)
{
	static const u64 sizes[] = { 0, 4096, (2 << 20) + 4096, 1ULL << 62, UINT64_MAX };
	static const u32 lists[][2] = { { 5, 5 }, { 5, 4 }, { 7, 8 }, { 0, UINT32_MAX } };
	struct state_file parsed;
	struct buf sums = BUF_INIT, bytes;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		bytes = forge(sizes[i], &sums);
		assert_error(state_file_parse(bytes.data, bytes.size, &parsed), ERROR_FORMAT, "possible size");
		buf_deinit(&bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		block_sum_put(&sums, (struct block_sum){ lists[i][0], 1 });
		block_sum_put(&sums, (struct block_sum){ lists[i][1], 2 });
		bytes = forge(2 << 20, &sums); // which has 8 blocks
		assert_error(state_file_parse(bytes.data, bytes.size, &parsed), ERROR_FORMAT, "makes no sense");
		buf_deinit(&bytes);
		buf_deinit(&sums);
	}
	buf_put_u8(&sums, 0);
	bytes = forge(2 << 20, &sums);
	assert_error(state_file_parse(bytes.data, bytes.size, &parsed), ERROR_FORMAT, "cut short");
	buf_deinit(&bytes);
	buf_deinit(&sums);
}

static void another_images_state_does_not_fit_the_memory(void **state)
{
	struct rig *r = *state;

	rig_publish(r, "other", 2);

	struct buf bytes = read_file(rig_path(r, "other/state"));

	write_file(rig_path(r, "name/state"), bytes.data, bytes.size);
	assert_error(open_it(r), ERROR_FORMAT, "memory is not what was saved");
	buf_deinit(&bytes);
}

/* --- memory --- */

static void memory_of_another_length_is_noticed(void **state)
{
	struct rig *r = *state;

	set_length(rig_path(r, "name/memory"), RIG_MEMORY - 1);
	assert_error(open_it(r), ERROR_FORMAT, "should have 16777216");
	set_length(rig_path(r, "name/memory"), RIG_MEMORY + 1);
	assert_error(open_it(r), ERROR_FORMAT, "should have 16777216");
	// As long as before, but its end is a hole now.
	set_length(rig_path(r, "name/memory"), RIG_MEMORY - 1);
	set_length(rig_path(r, "name/memory"), RIG_MEMORY);
	assert_error(open_it(r), ERROR_FORMAT, "0xfc0000");
}

static void a_missing_file_is_an_image_that_is_not_there(void **state)
{
	struct rig *r = *state;

	assert_int_equal(unlink(rig_path(r, "name/memory")), 0);
	assert_error(open_it(r), ERROR_NOT_FOUND, "'memory'");
	assert_int_equal(unlink(rig_path(r, "name/state")), 0);
	assert_error(open_it(r), ERROR_NOT_FOUND, "'state'");
	rig_remove(rig_path(r, "name"));
	assert_error(open_it(r), ERROR_NOT_FOUND, "no saved machine");
	write_file(rig_path(r, "name"), "x", 1);
	assert_error(open_it(r), ERROR_NOT_FOUND, "no saved machine");
}

/* A byte of a page in use, of a page of zeros beside it, and of a block without any. */
static const u64 changes[] = { 3 * MEMORY_PAGE + 4095, 4 * MEMORY_PAGE, 30 * MEMORY_BLOCK + 1 };
static const char *const changed_blocks[] = { "block at 0x0", "block at 0x0", "block at 0x780000" };

static void memory_that_was_written_to_is_noticed(void **state)
{
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		change_byte(rig_path(r, "name/memory"), changes[i]);
		assert_error(open_it(r), ERROR_FORMAT, changed_blocks[i]);
		assert_error(open_it(r), ERROR_FORMAT, changed_blocks[i]); // again: nothing was noted as fine
		change_byte(rig_path(r, "name/memory"), changes[i]);
		assert_no_error(open_it(r));
	}
}

static void memory_that_was_replaced_is_noticed(void **state)
{
	struct rig *r = *state;
	struct buf bytes = read_file(rig_path(r, "name/memory"));

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		bytes.data[changes[i]] ^= 1;
		write_file(rig_path(r, "name/memory"), bytes.data, bytes.size);
		assert_error(open_it(r), ERROR_FORMAT, changed_blocks[i]);
		bytes.data[changes[i]] ^= 1;
	}
	// The same bytes in another file, and without holes, are as good.
	write_file(rig_path(r, "name/memory"), bytes.data, bytes.size);
	assert_no_error(open_it(r));
	buf_deinit(&bytes);
}

static void memory_whose_data_has_become_a_hole_is_noticed(void **state)
{
	struct rig *r = *state;
	int fd;

	wait_for_another_ctime(rig_path(r, "name/memory"));
	assert_int_equal(chmod(r->path, 0600), 0);
	fd = open(r->path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 11 * MEMORY_BLOCK, MEMORY_BLOCK), 0);
	close(fd);
	assert_error(open_it(r), ERROR_FORMAT, "block at 0x2c0000");
}

static void damage_to_an_open_image_is_found_by_looking(void **state)
{
	struct rig *r = *state;
	struct image *image;

	assert_no_error(image_open(rig_path(r, "name"), &image));
	change_byte(rig_path(r, "name/memory"), 20 * MEMORY_BLOCK);
	assert_error(image_verify(image), ERROR_FORMAT, "0x500000");
	// Nor is it spread by publishing a copy.
	assert_int_equal(unlink(rig_path(r, "name/memory")), 0);
	assert_error(image_publish(image, rig_path(r, "copy")), ERROR_FORMAT, "0x500000");
	assert_int_equal(rig_count(r->dir, NULL), 1);
	image_close(image);

	rig_remove(rig_path(r, "name"));
	rig_publish(r, "name", 3);
	assert_no_error(image_open(rig_path(r, "name"), &image));
	set_length(rig_path(r, "name/memory"), MEMORY_BLOCK);
	assert_error(image_verify(image), ERROR_FORMAT, "its memory has 262144 bytes");
	image_close(image);
}

/* --- what was checked --- */

static void what_was_checked_is_not_looked_at_again(void **state)
{
	struct rig *r = *state;
	char line[CHECKED_MAX];
	struct image *image;

	assert_no_error(image_open(rig_path(r, "name"), &image));

	int directory = open(rig_path(r, "name"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	change_byte(rig_path(r, "name/memory"), 0);
	assert_true(checked_line(image, image_memory_fd(image), line));
	assert_false(checked_is(directory, line));
	checked_write(directory, line); // says that this very file was found right
	image_close(image);
	close(directory);
	assert_no_error(image_open(rig_path(r, "name"), &image));
	assert_error(image_verify(image), ERROR_FORMAT, "block at 0x0");
	image_close(image);
}

static void a_hint_that_is_missing_or_wrong_is_made_anew(void **state)
{
	struct rig *r = *state;
	struct buf before = read_file(rig_path(r, "name/checked"));
	static const char *const wrong[] = { "", "x", "x\n" };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		write_file(rig_path(r, "name/checked"), wrong[i], strlen(wrong[i]));
		assert_no_error(open_it(r));

		struct buf after = read_file(rig_path(r, "name/checked"));

		assert_int_equal(after.size, before.size);
		assert_memory_equal(after.data, before.data, before.size);
		buf_deinit(&after);
	}
	// Not one byte of it is without a meaning.
	for (size_t i = 0; i < before.size; i++) {
		struct image *image;

		before.data[i] ^= 1;
		write_file(rig_path(r, "name/checked"), before.data, before.size);
		assert_no_error(image_open(rig_path(r, "name"), &image));
		image_close(image);
		before.data[i] ^= 1;

		struct buf after = read_file(rig_path(r, "name/checked"));

		assert_memory_equal(after.data, before.data, before.size);
		buf_deinit(&after);
	}
	assert_int_equal(unlink(rig_path(r, "name/checked")), 0);
	assert_no_error(open_it(r));
	assert_int_equal(access(rig_path(r, "name/checked"), F_OK), 0);
	buf_deinit(&before);
}

static void a_hint_in_the_shape_of_a_link_is_not_followed(void **state)
{
	struct rig *r = *state;
	struct buf after;

	write_file(rig_path(r, "victim"), "mine", 4);
	assert_int_equal(unlink(rig_path(r, "name/checked")), 0);
	assert_int_equal(symlink("../victim", rig_path(r, "name/checked")), 0);
	assert_no_error(open_it(r));
	after = read_file(rig_path(r, "victim"));
	assert_int_equal(after.size, 4);
	buf_deinit(&after);
}

/* --- what are no files --- */

static void links_pipes_and_directories_are_refused(void **state)
{
	static const char *const names[] = { "name/state", "name/memory" };
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char kept[384];

		snprintf(kept, sizeof(kept), "%s", rig_path(r, "kept"));
		assert_int_equal(rename(rig_path(r, names[i]), kept), 0);
		assert_int_equal(symlink("../kept", rig_path(r, names[i])), 0);
		assert_error(open_it(r), ERROR_FORMAT, "not a regular file");
		assert_int_equal(unlink(rig_path(r, names[i])), 0);
		assert_int_equal(mkfifo(rig_path(r, names[i]), 0600), 0);
		assert_error(open_it(r), ERROR_FORMAT, "not a regular file"); // and is not waited for
		assert_int_equal(unlink(rig_path(r, names[i])), 0);
		assert_int_equal(mkdir(rig_path(r, names[i]), 0700), 0);
		assert_error(open_it(r), ERROR_FORMAT, "not a regular file");
		assert_int_equal(rmdir(rig_path(r, names[i])), 0);
		assert_int_equal(rename(kept, rig_path(r, names[i])), 0);
		assert_no_error(open_it(r));
	}
}

static void a_directory_that_may_not_be_read_is_an_error_of_the_systems(void **state)
{
	struct rig *r = *state;
	struct error *err;

	assert_int_equal(chmod(rig_path(r, "name"), 0), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	err = open_it(r);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(rig_path(r, "name"), 0700), 0);
	assert_error(err, ERROR_OS, strerror(EACCES));
}

static void a_directory_that_may_not_be_written_to_does(void **state)
{
	struct rig *r = *state;
	struct error *err;

	assert_int_equal(chmod(r->dir, 0755), 0);
	assert_int_equal(unlink(rig_path(r, "name/checked")), 0);
	assert_int_equal(chmod(rig_path(r, "name/state"), 0444), 0);
	assert_int_equal(chmod(rig_path(r, "name/memory"), 0444), 0);
	assert_int_equal(chmod(rig_path(r, "name"), 0555), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	err = open_it(r);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(rig_path(r, "name"), 0755), 0);
	assert_no_error(err);
	assert_int_equal(access(rig_path(r, "name/checked"), F_OK), -1);
}

#define WITH_IMAGE(test) cmocka_unit_test_setup_teardown(test, published_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_IMAGE(every_flipped_byte_of_the_state_is_noticed),
		cmocka_unit_test(every_flipped_bit_of_a_large_state_is_noticed),
		WITH_IMAGE(a_state_of_another_length_is_noticed),
		WITH_IMAGE(a_state_of_another_version_says_which),
		cmocka_unit_test(a_checksum_does_not_make_nonsense_right),
		WITH_IMAGE(another_images_state_does_not_fit_the_memory),
		WITH_IMAGE(memory_of_another_length_is_noticed),
		WITH_IMAGE(a_missing_file_is_an_image_that_is_not_there),
		WITH_IMAGE(memory_that_was_written_to_is_noticed),
		WITH_IMAGE(memory_that_was_replaced_is_noticed),
		WITH_IMAGE(memory_whose_data_has_become_a_hole_is_noticed),
		WITH_IMAGE(damage_to_an_open_image_is_found_by_looking),
		WITH_IMAGE(what_was_checked_is_not_looked_at_again),
		WITH_IMAGE(a_hint_that_is_missing_or_wrong_is_made_anew),
		WITH_IMAGE(a_hint_in_the_shape_of_a_link_is_not_followed),
		WITH_IMAGE(links_pipes_and_directories_are_refused),
		WITH_IMAGE(a_directory_that_may_not_be_read_is_an_error_of_the_systems),
		WITH_IMAGE(a_directory_that_may_not_be_written_to_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
