/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A segment of a vmlinux, read from its end as far down as somebody looks.
 * Depends on base and image/vmlinux.h.
 * What was read stays as it is, so what was checked in it holds: a file that anybody may write to is copied, another
 * one is mapped.
 */
#ifndef KERNEL_SYMBOL_WINDOW_H
#define KERNEL_SYMBOL_WINDOW_H

#include "base/error.h"
#include "base/types.h"

struct symbol_window {
	int fd; /* not owned; -1: all is there */
	u64 file_offset; /* of the segment's first byte */
	u64 virt; /* and its address; a multiple of 8 */
	size_t size; /* bytes that the file has of it */
	size_t loaded; /* data[loaded, size) is there */
	u8 *data;
	void *mapping; /* NULL: data is from malloc */
	size_t mapping_size;
};

MUST_CHECK struct error *symbol_window_init(struct symbol_window *w, int fd, u64 file_offset, u64 virt, size_t size);
void symbol_window_deinit(struct symbol_window *w);

/* Reads what is missing of [from, size), and somewhat more: the next call will ask for what is below. */
MUST_CHECK struct error *symbol_window_load(struct symbol_window *w, size_t from);

#endif
