/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vmlinux: the ELF file of a kernel, with or without relocation tables behind it.
 * Depends on base and relocate.h.
 * Reads by descriptor, maps only what nobody writes to; all it holds was checked against file and
 * span.
 */
#ifndef IMAGE_VMLINUX_H
#define IMAGE_VMLINUX_H

#include <sys/stat.h>

#include "base/error.h"
#include "base/types.h"
#include "image/kernel.h"
#include "image/relocate.h"

enum {
	VMLINUX_MAX_SEGMENTS = 16,
	VMLINUX_MIN_ALIGN = 2 << 20, /* the kernel maps itself with 2 MiB pages */
};

/* Largest image: what the kernel maps for itself. */
#define VMLINUX_MAX_SPAN (1ULL << 30)
#define VMLINUX_KERNEL_MAP 0xffffffff80000000ULL

struct vmlinux_segment {
	u64 offset; /* in the file */
	u64 file_size, memory_size;
	u64 image_offset; /* from the image's first byte */
};

struct vmlinux {
	int fd;
	struct stat stat; /* as it was when it was opened */
	/* Nobody is going to write to the file: a sealed memfd, or a regular file without write
	 * permission. */
	bool immutable;

	u64 link_phys, link_virt, span, entry; /* entry is physical */
	struct vmlinux_segment segments[VMLINUX_MAX_SEGMENTS]; /* by address, not overlapping */
	u32 segment_count;
	char release[KERNEL_RELEASE_MAX];

	bool relocatable;
	struct relocation_tables tables;
	u8 *tail; /* what tables points into */
	size_t tail_size;
	void *tail_mapping; /* NULL: tail is from malloc */
	size_t tail_mapping_size;
	u64 *relocated_pages; /* a bitmap, one bit a page of the image */
};

/* The first bytes of an ELF file? */
bool vmlinux_detect(const u8 *data, size_t size);

/*
 * Takes fd in any case; closes it on error. ERROR_FORMAT, ERROR_UNSUPPORTED (another architecture),
 * ERROR_OS; messages speak of "it", the caller says which file.
 */
MUST_CHECK struct error *vmlinux_open(int fd, bool sealed, struct vmlinux *ret);
void vmlinux_close(struct vmlinux *v);

/* ERROR_FORMAT "cut short" when there are fewer than size bytes. */
MUST_CHECK struct error *vmlinux_read(int fd, void *data, size_t size, u64 offset);

#endif
