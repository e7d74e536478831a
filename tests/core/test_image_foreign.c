// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images of memory that is in part another file's, as a kernel's is that is mapped rather than copied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/warm_rig.h"

enum {
	AT = 3 * MEMORY_BLOCK + 5 * MEMORY_PAGE, /* within a block */
	SIZE = 4 * MEMORY_BLOCK,
};

/* Maps a file over some of the memory; its pages are all different, and none has been touched. */
static void map_foreign(struct rig *r)
{
	FILE *f = fopen(rig_path(r, "kernel"), "w+");

	assert_non_null(f);
	for (u32 i = 0; i < SIZE / sizeof(i); i++)
		fwrite(&i, sizeof(i), 1, f);
	fflush(f);
	assert_ptr_not_equal(mmap(r->memory.base + AT, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
				  fileno(f), 0),
			     MAP_FAILED);
	fclose(f);
	unlink(r->path);
	guest_memory_note_foreign(&r->memory, r->memory.base + AT, SIZE);
}

static void check_image(struct rig *r)
{
	struct image *image;

	assert_no_error(rig_create(r, r->dir, &image));
	assert_no_error(image_verify(image));
	assert_true(rig_is_same(r, image));
	image_close(image);
}

static void another_files_pages_are_saved_untouched(void **state)
{
	struct rig *r = *state;

	rig_fill(r, 1);
	map_foreign(r);
	check_image(r);
}

static void another_files_pages_are_saved_read_or_written(void **state)
{
	struct rig *r = *state;
	volatile u8 *at = r->memory.base + AT;
	u32 sum = 0;

	rig_fill(r, 2);
	map_foreign(r);
	for (u64 page = 0; page < SIZE / MEMORY_PAGE; page += 3) {
		sum += at[page * MEMORY_PAGE];
		at[(page + 1) * MEMORY_PAGE + 100] ^= 0xff;
	}
	assert_int_not_equal(sum, UINT32_MAX);
	check_image(r);
}

static void memory_that_was_filled_again_has_none_of_them(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_fill(r, 3);
	assert_no_error(rig_create(r, r->dir, &image));
	map_foreign(r);
	assert_no_error(guest_memory_refill(&r->memory, image_memory_fd(image)));
	assert_int_equal(r->memory.foreign_end, 0);
	assert_true(rig_is_same(r, image));
	image_close(image);
	check_image(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(another_files_pages_are_saved_untouched, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(another_files_pages_are_saved_read_or_written, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(memory_that_was_filled_again_has_none_of_them, rig_setup,
						rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
