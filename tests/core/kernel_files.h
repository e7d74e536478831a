/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests of kernel images share: every compression, a vmlinux compared, an image refused.
 * Depends on cmocka, image_files.h and core/image; included after cmocka.h.
 * A refusal is checked as a whole: code, text, the file's name, one line, a hint.
 */
#ifndef TESTS_CORE_KERNEL_FILES_H
#define TESTS_CORE_KERNEL_FILES_H

#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"

static const enum kernel_compression compressions[] = {
	KERNEL_COMPRESSION_ZSTD,
	KERNEL_COMPRESSION_LZ4,
	KERNEL_COMPRESSION_XZ,
	KERNEL_COMPRESSION_GZIP,
};

/* The image's vmlinux is byte for byte this one. */
static inline bool same_vmlinux(const struct kernel_image *image, const struct buf *vmlinux)
{
	u8 *found = malloc(vmlinux->size);
	bool same = kernel_image_size(image) == vmlinux->size &&
		    pread(kernel_image_fd(image), found, vmlinux->size, 0) ==
			    (ssize_t)vmlinux->size &&
		    !memcmp(found, vmlinux->data, vmlinux->size);

	free(found);
	return same;
}

/* Fails with that code, a message with that text, and a hint. */
static inline void expect_refused(struct test_dir *d, const void *data, size_t size,
				  enum error_code code, const char *text)
{
	struct kernel_image *image;
	struct error *err = kernel_image_open(test_dir_write(d, "bad", data, size), &image);

	assert_non_null(err);
	assert_non_null(error_hint(err));
	assert_null(strchr(error_message(err), '\n'));
	assert_non_null(strstr(error_message(err), d->file));
	assert_error(err, code, text);
	test_dir_remove(d, "bad");
}

#endif
