// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Opens a vmlinux and loads it, moved and not, into guest memory with nothing mapped round it. The
 * first byte picks whether the input is the file or changes to a good one, and whether the file is
 * mapped.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "../core/image_builder.h"
#include "image/kernel.h"
#include "patches.h"

enum { CHANGES = 1 << 0,
       NO_INVERSE = 1 << 1,
       NO_TABLES = 1 << 2,
       IMMUTABLE = 1 << 3 };

#define RAM (64ULL << 20)

static void load(const struct kernel_image *image, const u64 *entropy)
{
	const struct kernel_room room = { .low_ram = RAM };
	struct kernel_place place;
	struct guest_memory memory;
	struct error *err = guest_memory_init(&memory, RAM, 3ULL << 30, 4ULL << 30);

	if (err)
		abort();
	err = kernel_image_place(image, &room, entropy, &place);
	if (!err)
		err = kernel_image_load(image, &memory, &place);
	error_destroy(err);
	guest_memory_deinit(&memory);
}

/* A good file of each kind, made once. */
static const struct buf *good(u8 how)
{
	static struct buf files[4];
	struct buf *file = &files[how >> 1 & 3];
	struct vmlinux_options o = { .no_inverse = how & NO_INVERSE, .no_tables = how & NO_TABLES };

	if (!file->size)
		build_vmlinux(file, &o);
	return file;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const u64 entropy = 0x9e3779b97f4a7c15;
	struct kernel_image *image;
	struct buf file = BUF_INIT;
	char path[32];

	if (!size)
		return 0;

	u8 how = data[0];

	if (how & CHANGES) {
		buf_put(&file, good(how)->data, good(how)->size);
		apply_patches(&file, data + 1, size - 1);
	} else {
		buf_put(&file, data + 1, size - 1);
	}

	int fd = open_bytes(file.data, file.size, path);

	if (how & IMMUTABLE && fchmod(fd, 0444) < 0)
		abort();

	struct error *err = kernel_image_open(path, &image);

	if (!err) {
		load(image, NULL);
		load(image, &entropy);
		kernel_image_close(image);
	}
	error_destroy(err);
	close(fd);
	buf_deinit(&file);
	return 0;
}
