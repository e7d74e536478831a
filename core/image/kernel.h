/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel image: a bzImage, a vmlinux or a build tree, opened, placed in a guest and relocated.
 * Depends on base, on guest memory, and on libzstd, liblz4, liblzma and zlib.
 * An open image never changes, so any number of machines may load it at the same time.
 */
#ifndef IMAGE_KERNEL_H
#define IMAGE_KERNEL_H

#include "base/error.h"
#include "base/types.h"
#include "kvm/memory.h"

enum kernel_format {
	KERNEL_FORMAT_BZIMAGE,
	KERNEL_FORMAT_VMLINUX,
};

enum kernel_compression {
	KERNEL_COMPRESSION_NONE,
	KERNEL_COMPRESSION_ZSTD,
	KERNEL_COMPRESSION_LZ4,
	KERNEL_COMPRESSION_XZ,
	KERNEL_COMPRESSION_GZIP,
};

enum {
	KERNEL_RELEASE_MAX = 65, /* what uname(2) has room for, with its NUL */
	KERNEL_SETUP_HEADER_MAX = 0x290 - 0x1f1, /* struct setup_header in a struct boot_params */
};

struct kernel_info {
	enum kernel_format format;
	enum kernel_compression compression;
	/* uname -r: from a bzImage's header, else from linux_banner; "" when it does not say. */
	char release[KERNEL_RELEASE_MAX];
	/*
	 * A checksum covers the whole image and was found right. Never so for a vmlinux, nor for a
	 * bzImage of 6.16 or later that is LZ4-compressed and not signed: those are checked by
	 * structure alone.
	 */
	bool verified;
	/*
	 * There are relocation tables: it loads anywhere aligned. Without them (a plain vmlinux) it
	 * loads at its link address only.
	 */
	bool relocatable;
	u64 link_phys; /* guest-physical address of its first byte, as linked */
	u64 link_virt; /* and the kernel-virtual one */
	u64 span; /* bytes in memory from the first to the last, BSS included */
	u64 align; /* of both addresses; a power of two, at least 2 MiB when relocatable */
	u64 entry; /* physical address of the 64-bit entry point, as linked */
	/* What the bzImage's setup sectors hold from offset 0x1f1 on; size 0 for a vmlinux. */
	u8 setup_header[KERNEL_SETUP_HEADER_MAX];
	u32 setup_header_size;
};

/* Where a kernel goes. The defaults of a kernel that is not moved: link_phys and 0. */
struct kernel_place {
	u64 phys; /* guest-physical address of its first byte */
	u64 virt_slide; /* added to every virtual address it was linked with */
};

struct kernel_image;

/*
 * path: a bzImage, an x86-64 vmlinux (with or without relocation tables behind it) or a build tree
 * (its arch/x86/boot/bzImage, else its vmlinux). A bzImage is decompressed once, into memory.
 * ERROR_NOT_FOUND: no such file. ERROR_FORMAT: not a kernel image, cut short, or damaged.
 * ERROR_UNSUPPORTED: a kernel of another architecture, or with a compression that is not one of
 * ours.
 */
MUST_CHECK struct error *kernel_image_open(const char *path, struct kernel_image **ret);
/* NULL is allowed. Guests that were loaded from it live on. */
void kernel_image_close(struct kernel_image *image);

const struct kernel_info *kernel_image_info(const struct kernel_image *image);
const char *kernel_format_name(enum kernel_format format); /* "bzImage", "vmlinux" */
const char *kernel_compression_name(enum kernel_compression c); /* "zstd"; NULL for none */

/*
 * The vmlinux itself (out of a bzImage: the decompressed one), read-only, valid until the image is
 * closed: for libelf and BTF readers. Its file offsets start at 0; use pread, never lseek.
 */
int kernel_image_fd(const struct kernel_image *image);
/* Bytes of it; relocation tables included. */
u64 kernel_image_size(const struct kernel_image *image);

/* The RAM that a kernel may be placed in: [0, low_ram) without the initrd_size bytes at its top. */
struct kernel_room {
	u64 low_ram; /* bytes of RAM from 0 up to its end, or to the hole below 4 GiB */
	u64 initrd_size;
};

/* Lowest address that a moved kernel is placed at: below are boot data, the command line and ISA
 * memory. */
#define KERNEL_LOWEST_PHYS 0x1000000ULL

/*
 * Picks where the image goes. entropy NULL (nokaslr), or an image without relocation tables: its
 * link addresses. Otherwise aligned addresses that follow from *entropy, physical at or above
 * KERNEL_LOWEST_PHYS, virtual so that the image ends within the kernel's 1 GiB.
 * ERROR_INVALID when the RAM is too little; the message has the sizes.
 */
MUST_CHECK struct error *kernel_image_place(const struct kernel_image *image,
					    const struct kernel_room *room, const u64 *entropy,
					    struct kernel_place *ret);

/*
 * Puts the image into guest memory and applies its relocation tables. Guest memory must be as it
 * was created where the image goes: what BSS takes is not cleared again. Whole pages of an
 * immutable vmlinux (a read-only file, as kernel_image_extract() makes them, or a decompressed
 * bzImage) are mapped copy-on-write over guest memory; others are copied. ERROR_INVALID: place does
 * not suit the image or the memory. ERROR_FORMAT: a relocation points outside the image. After an
 * error the memory is in an unspecified state.
 */
MUST_CHECK struct error *kernel_image_load(const struct kernel_image *image,
					   struct guest_memory *memory,
					   const struct kernel_place *place);

/* Guest-physical address of the 64-bit entry point of an image loaded at place. */
u64 kernel_image_entry(const struct kernel_image *image, const struct kernel_place *place);

/*
 * Decompresses the vmlinux out of a bzImage, relocation tables behind it, into out_path: a
 * read-only, sparse file that appears complete or not at all; an old one is replaced. ERROR_INVALID
 * when path is not a bzImage, else as kernel_image_open(), and ERROR_OS.
 */
MUST_CHECK struct error *kernel_image_extract(const char *path, const char *out_path);

#endif
