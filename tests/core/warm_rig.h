/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests of saved machines share: guest memory with something in odd places, a directory, images of it.
 * Depends on cmocka, core/warm and kvm_fixture.h; included after cmocka.h.
 * The directory goes with all that is in it; a test that wants it to be empty says so.
 */
#ifndef TESTS_CORE_WARM_RIG_H
#define TESTS_CORE_WARM_RIG_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/kvm_fixture.h"
#include "warm/blocks.h"
#include "warm/image.h"
#include "warm/internal.h"

#define RIG_MEMORY (16ULL << 20)

struct rig {
	char dir[64];
	char path[384]; /* of rig_path() */
	struct guest_memory memory;
};

static inline const char *rig_path(struct rig *r, const char *name)
{
	snprintf(r->path, sizeof(r->path), "%s/%s", r->dir, name);
	return r->path;
}

/* Pages, and bytes in them, that a loop with a mistake at one of its ends would miss. */
static const u64 rig_places[] = {
	0, /* the first byte */
	3 * MEMORY_PAGE + 4095, /* the last of a page */
	7 * MEMORY_PAGE + 2048, 8 * MEMORY_PAGE + 1, 9 * MEMORY_PAGE + 8, /* a run */
	MEMORY_BLOCK - 1, MEMORY_BLOCK, /* over the end of a block */
	5 * MEMORY_BLOCK + 62 * MEMORY_PAGE, /* the last page but one */
	20 * MEMORY_BLOCK + 31 * MEMORY_PAGE + 9, 20 * MEMORY_BLOCK + 32 * MEMORY_PAGE + 9,
	RIG_MEMORY - 1, /* the last byte */
};

/* All of one block is in use, and those places. Returns the number of pages. */
static inline u32 rig_fill(struct rig *r, u8 seed)
{
	for (u64 i = 0; i < MEMORY_BLOCK; i++)
		r->memory.base[11 * MEMORY_BLOCK + i] = (u8)(i * 31 + i / MEMORY_PAGE + seed) | 1;
	for (size_t i = 0; i < ARRAY_SIZE(rig_places); i++)
		r->memory.base[rig_places[i]] = (u8)(seed + i) | 1;
	return BLOCK_PAGES + ARRAY_SIZE(rig_places);
}

static inline int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	strcpy(r->dir, "/tmp/ktstr-warm-XXXXXX");
	if (!mkdtemp(r->dir))
		return -1;
	assert_no_error(guest_memory_init(&r->memory, RIG_MEMORY, 6 << 20, 1ULL << 32));
	*state = r;
	return 0;
}

static inline int rig_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void rig_remove(const char *path)
{
	nftw(path, rig_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline int rig_teardown(void **state)
{
	struct rig *r = *state;

	guest_memory_deinit(&r->memory);
	rig_remove(r->dir);
	free(r);
	return 0;
}

/* The number of names in a directory; those that contain the text, when there is one. */
static inline u32 rig_count(const char *path, const char *text)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	u32 count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.' && (!text || strstr(entry->d_name, text));
	closedir(dir);
	return count;
}

static const char *const rig_parts[IMAGE_SECTIONS] = {
	[IMAGE_IDENTITY] = "kernel 7.3\nvcpus 4\n",
	[IMAGE_SCRIPT] = "",
	[IMAGE_MACHINE] = "thirteen byte",
	[IMAGE_CHANNEL] = "c",
};

static inline struct error *rig_create(struct rig *r, const char *dir, struct image **ret)
{
	struct buf parts[IMAGE_SECTIONS] = { 0 };

	for (u32 i = 0; i < IMAGE_SECTIONS; i++)
		buf_put(&parts[i], rig_parts[i], strlen(rig_parts[i]));

	struct error *err = image_create(dir, parts, &r->memory, ret);

	for (u32 i = 0; i < IMAGE_SECTIONS; i++)
		buf_deinit(&parts[i]);
	return err;
}

/* Of filled memory, under that name. */
static inline void rig_publish(struct rig *r, const char *name, u8 seed)
{
	struct image *image;

	rig_fill(r, seed);
	assert_no_error(rig_create(r, r->dir, &image));
	assert_no_error(image_publish(image, rig_path(r, name)));
	image_close(image);
}

static inline void rig_check_parts(const struct image *image)
{
	for (u32 i = 0; i < IMAGE_SECTIONS; i++) {
		size_t size;
		const void *data = image_section(image, i, &size);

		assert_int_equal(size, strlen(rig_parts[i]));
		assert_memory_equal(data, rig_parts[i], size);
	}
}

static inline u8 *rig_map(const struct image *image)
{
	u8 *p = mmap(NULL, image_memory_size(image), PROT_READ | PROT_WRITE, MAP_PRIVATE, image_memory_fd(image), 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* Whether the image's memory is the rig's, byte by byte. */
static inline bool rig_is_same(struct rig *r, const struct image *image)
{
	assert_int_equal(image_memory_size(image), r->memory.size);

	u8 *p = rig_map(image);
	bool same = memcmp(p, r->memory.base, r->memory.size) == 0;

	munmap(p, image_memory_size(image));
	return same;
}

#endif
