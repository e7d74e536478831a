/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decompression of a kernel's payload, by the formats that kernels are compressed with.
 * Depends on base, libzstd, liblz4, liblzma and zlib.
 * The output's size is known beforehand: one byte more or less is an error.
 */
#ifndef IMAGE_DECOMPRESS_H
#define IMAGE_DECOMPRESS_H

#include "base/error.h"
#include "base/types.h"
#include "image/kernel.h"

/* From the first bytes; ERROR_UNSUPPORTED names a format that is known but not ours. */
MUST_CHECK struct error *decompress_detect(const u8 *data, size_t size,
					   enum kernel_compression *ret);

/* The format has a checksum over its contents here, which decompress() compares. */
bool decompress_is_checked(enum kernel_compression compression, const u8 *data, size_t size);

/*
 * Decompresses all of data into exactly out_size bytes. ERROR_FORMAT: damaged, or of another size;
 * ERROR_NO_MEMORY.
 */
MUST_CHECK struct error *decompress(enum kernel_compression compression, const u8 *data,
				    size_t size, u8 *out, size_t out_size);

#endif
