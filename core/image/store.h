/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stores a decompressed vmlinux where it can be mapped from: a sealed memfd, or a read-only file; and files at large.
 * Depends on base.
 * Long runs of zeros become holes.
 */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include "base/error.h"
#include "base/types.h"

/* *ret: a descriptor that nobody can write to any more. */
MUST_CHECK struct error *store_memory(const u8 *data, size_t size, int *ret);

/* The file appears under path complete and on disk, or not at all; what was there is replaced. */
MUST_CHECK struct error *store_file(const char *path, const u8 *data, size_t size);

/* The same for what fill() writes to fd, a new file: its error leaves nothing behind. */
MUST_CHECK struct error *store_written(const char *path, u32 mode, struct error *(*fill)(int fd, const void *arg),
				       const void *arg);

#endif
