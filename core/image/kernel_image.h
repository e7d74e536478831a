/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What struct kernel_image is made of, for the files that implement image/kernel.h.
 * Depends on vmlinux.h.
 * Nothing in it changes once kernel_image_open() has returned.
 */
#ifndef IMAGE_KERNEL_IMAGE_H
#define IMAGE_KERNEL_IMAGE_H

#include "image/kernel.h"
#include "image/vmlinux.h"

struct kernel_image {
	struct kernel_info info;
	struct vmlinux vmlinux; /* of a bzImage: decompressed, in a sealed memfd */
};

#endif
