/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The relocation tables behind a vmlinux, and their application to a loaded image.
 * Depends on base. Entries are the low 32 bits of linked virtual addresses.
 * Every entry is checked against the image's span before anything is written through it.
 */
#ifndef IMAGE_RELOCATE_H
#define IMAGE_RELOCATE_H

#include "base/error.h"
#include "base/types.h"

/* The tables need not be aligned in their file, nor relocated words in their image. */
typedef u32 __attribute__((aligned(1), may_alias)) relocation_word32;
typedef u64 __attribute__((aligned(1), may_alias)) relocation_word64;

/* Entries of one kind, in no order that is relied upon. */
struct relocation_list {
	const relocation_word32 *entries;
	size_t count;
};

struct relocation_tables {
	struct relocation_list
		add32; /* 32-bit words: the slide is added, sign-extended addresses */
	struct relocation_list sub32; /* 32-bit words relative to per-CPU memory: it is taken off */
	struct relocation_list add64;
	u64 link_virt, span; /* of the image they belong to */
};

/*
 * Takes the bytes between the ELF file's end and the end of the file apart; they must stay as long
 * as ret. They are read from the end backwards: 32-bit entries up to a zero, in kernels with
 * per-CPU relocations the inverse ones up to a zero, 64-bit ones up to a zero, and nothing must be
 * left. ERROR_FORMAT: that, or an entry points outside [link_virt, link_virt + span).
 */
MUST_CHECK struct error *relocation_tables_parse(const void *data, size_t size, u64 link_virt,
						 u64 span, struct relocation_tables *ret);

/* Sets bit n of map (one bit a page of 4 KiB from link_virt on) where page n has a relocation. */
void relocation_tables_pages(const struct relocation_tables *t, u64 *map);

/* image: span bytes, loaded. */
void relocation_tables_apply(const struct relocation_tables *t, u8 *image, u64 slide);

#endif
