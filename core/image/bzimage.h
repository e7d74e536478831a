/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bzImage format: setup sectors, then the decompressor with the compressed vmlinux in it.
 * Depends on base and zlib. Protocol 2.08 (kernel 2.6.26) or later.
 * Everything in a struct bzimage was checked against the file's size; nothing is copied.
 */
#ifndef IMAGE_BZIMAGE_H
#define IMAGE_BZIMAGE_H

#include "base/error.h"
#include "base/types.h"
#include "image/kernel.h"

struct bzimage {
	const u8 *setup_header; /* the bytes from 0x1f1 on */
	u32 setup_header_size;
	const u8 *payload; /* compressed, without the size that stands behind it */
	size_t payload_size;
	u32 vmlinux_size; /* bytes that it unpacks to */
	enum kernel_compression compression;
	u32 align; /* kernel_alignment; 0: the header does not say */
	bool verified; /* see struct kernel_info */
	char release[KERNEL_RELEASE_MAX];
};

/* The bytes have a bzImage's signature; it may still be damaged. */
bool bzimage_detect(const u8 *data, size_t size);

/*
 * data must stay as long as ret is used. Compares the file's own checksums where the compression
 * has none. ERROR_FORMAT, ERROR_UNSUPPORTED; messages speak of "it", the caller says which file.
 */
MUST_CHECK struct error *bzimage_parse(const u8 *data, size_t size, struct bzimage *ret);

#endif
