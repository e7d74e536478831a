/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of lines.c share: tables of address ranges, a compilation unit that has been read, paths.
 * Depends on base, libelf and libdw.
 * Nothing here outlives the Dwarf handle that it was read with, but tables of ranges.
 */
#ifndef KERNEL_LINES_PARTS_H
#define KERNEL_LINES_PARTS_H

#include <elfutils/libdw.h>
#include <libelf.h>

#include "base/error.h"
#include "base/types.h"
#include "kernel/lines.h"

enum { LINE_PATH = 512 }; /* with its NUL; a longer one is cut */

/* [start, end) belongs to the DIE at that offset. */
struct span {
	u64 start, end;
	u64 reach; /* the highest end of this one and those before it */
	u64 die;
};

struct span_table {
	struct span *spans;
	u32 count, capacity;
};

/* All ranges of a DIE that begin at or above lowest: what the linker left out is at 0. */
MUST_CHECK struct error *span_table_add(struct span_table *t, Dwarf_Die *die, u64 lowest);
void span_table_sort(struct span_table *t); /* before the first span_table_find() */
const struct span *span_table_find(const struct span_table *t, u64 address); /* NULL: none */
void span_table_deinit(struct span_table *t);

/* A compilation unit whose functions are known. */
struct line_unit {
	Dwarf_Die die;
	u64 offset; /* the DIE's */
	const char *directory; /* that the compiler was in; NULL: unknown */
	struct span_table functions;
};

MUST_CHECK struct error *line_unit_create(Dwarf *dwarf, u64 offset, u64 lowest, struct line_unit **ret);
void line_unit_destroy(struct line_unit *u); /* NULL is allowed */

/* A place before its path has been put in shape. */
struct raw_place {
	const char *function, *file; /* NULL: unknown */
	int line, column;
};

/* As lines_find(). */
MUST_CHECK struct error *line_unit_find(struct line_unit *u, Dwarf *dwarf, u64 address,
					struct raw_place places[LINE_PLACES], u32 *count);

/* The directory that a unit was compiled in; NULL: it does not say. */
const char *line_unit_directory(Dwarf_Die *unit);

/* name, in directory (NULL: none) unless it is absolute, without "." and "x/.."; at most LINE_PATH bytes. */
void line_path_put(const char *directory, const char *name, char *out);

/* The file as libelf sees it: whole, of this architecture, with DWARF, and of that build. */
MUST_CHECK struct error *line_file_check(Elf *elf, u64 file_size, const void *build_id, size_t build_id_size);
/* The lowest address of its code. */
u64 line_file_lowest(Elf *elf);

/* What libdw could not read. */
MUST_CHECK struct error *line_damage(void);

#endif
