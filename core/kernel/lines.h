/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Source lines: which line of which file an address was made of, and through which inlined calls.
 * Depends on base, libelf and libdw. Addresses are those that the file was linked with; who knows the slide takes it
 * off. One thread at a time uses an open file, which nobody may change meanwhile.
 * Any file will do: it is refused, or each question has an answer or an error. What is kept in memory is bounded.
 */
#ifndef KERNEL_LINES_H
#define KERNEL_LINES_H

#include "base/error.h"
#include "base/types.h"

enum { LINE_PLACES = 32 };

struct line_place {
	const char *function; /* "" where the file does not say */
	/* As its makers named it; relative to the kernel's tree where it is of that: "kernel/sched/core.c". */
	const char *file;
	u32 line; /* from 1 */
	u32 column; /* from 1; 0: the file does not say */
};

struct lines;

/*
 * path: a vmlinux with DWARF (4 or 5, compressed or not), or what a debug package has of one. build_id NULL: any will
 * do; else the NT_GNU_BUILD_ID of the kernel that is meant. ERROR_NOT_FOUND: no such file. ERROR_FORMAT: no ELF file,
 * cut short, or damaged. ERROR_UNSUPPORTED: it has no DWARF, or is of another build or architecture.
 */
MUST_CHECK struct error *lines_open(const char *path, const void *build_id, size_t build_id_size, struct lines **ret);
void lines_close(struct lines *l); /* NULL is allowed */

/*
 * places: LINE_PLACES of them. The first is the line itself, with the function that its source is in. Where that was
 * inlined the next is the call, in the function that it was inlined into, and so on; the last is in the function whose
 * symbol the address belongs to. *count 0: the file knows no line for it. Of calls that are nested deeper than there
 * are places, the inner ones are left out. Strings are good until the next question. O(log n), but for the first
 * address of a source file, whose tables are read then. ERROR_FORMAT: damaged.
 */
MUST_CHECK struct error *lines_find(struct lines *l, u64 address, struct line_place *places, u32 *count);

#endif
