// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Opens bzImages. The first byte picks how the input becomes one: as it is, as the payload of a
 * good one, or as changes to a good one of some compression.
 */
#include <unistd.h>

#include "../core/image_builder.h"
#include "image/kernel.h"
#include "patches.h"

enum { WHOLE,
       PAYLOAD,
       CHANGES };

/* A good file of each kind, made once: compressing takes longer than all the rest. */
static const struct buf *good(u8 how)
{
	static struct buf files[16];
	struct buf *file = &files[how >> 2 & 15];
	struct vmlinux_options v = { .no_inverse = how >> 5 & 1 };
	struct bzimage_options o = {
		.compression = KERNEL_COMPRESSION_ZSTD + (how >> 2 & 3),
		.crc = how >> 4 & 1,
	};
	struct buf vmlinux = BUF_INIT;

	if (!file->size) {
		build_vmlinux(&vmlinux, &v);
		build_bzimage(file, &vmlinux, &o);
		buf_deinit(&vmlinux);
	}
	return file;
}

static void build(struct buf *file, u8 how, const u8 *data, size_t size)
{
	struct buf payload = BUF_INIT;
	struct bzimage_options o = { .payload = &payload };

	switch (how & 3) {
	case WHOLE:
		buf_put(file, data, size);
		break;
	case PAYLOAD:
		buf_put(&payload, data, size);
		build_bzimage(file, NULL, &o);
		buf_deinit(&payload);
		break;
	default:
		buf_put(file, good(how)->data, good(how)->size);
		apply_patches(file, data, size);
		break;
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct kernel_image *image;
	struct buf file = BUF_INIT;
	char path[32];

	if (!size)
		return 0;
	build(&file, data[0], data + 1, size - 1);

	int fd = open_bytes(file.data, file.size, path);
	struct error *err = kernel_image_open(path, &image);

	if (!err) {
		const struct kernel_info *info = kernel_image_info(image);

		if (info->entry - info->link_phys >= info->span ||
		    strnlen(info->release, KERNEL_RELEASE_MAX) == KERNEL_RELEASE_MAX)
			abort();
		kernel_image_close(image);
	}
	error_destroy(err);
	close(fd);
	buf_deinit(&file);
	return 0;
}
