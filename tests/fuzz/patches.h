/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Applies fuzz input as small changes to a good file, so that most of what is tried passes its
 * magics. Depends on base/buf.h. Input: records of u16 offset (from the end when the top bit of the
 * length is set), u8 length, and that many bytes.
 */
#ifndef TESTS_FUZZ_PATCHES_H
#define TESTS_FUZZ_PATCHES_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"

static inline void apply_patches(struct buf *file, const u8 *data, size_t size)
{
	struct reader r = reader_init(data, size);

	while (reader_left(&r) >= 4) {
		size_t offset = reader_get_u16(&r);
		u8 length = reader_get_u8(&r);
		size_t n = length & 0x1f;

		if (n > reader_left(&r))
			n = reader_left(&r);

		const u8 *bytes = reader_take(&r, n);

		offset %= file->size;
		if (length & 0x80)
			offset = file->size - 1 - offset;
		if (n > file->size - offset)
			n = file->size - offset;
		memcpy(file->data + offset, bytes, n);
		// A record that says so also cuts the file there.
		if (length & 0x40 && offset)
			file->size = offset;
	}
}

/* A file in memory with these bytes, by a path that can be opened: path needs 32 bytes. */
static inline int open_bytes(const void *data, size_t size, char *path)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size))
		abort();
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

#endif
