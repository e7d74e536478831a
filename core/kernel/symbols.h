/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The symbols of a kernel image: name to address and address to name, duplicates kept.
 * Depends on base and image. Addresses are those the image was linked with; who knows the KASLR offset adds it.
 * A set never changes once it is made, so any number of machines and threads may use it at the same time.
 */
#ifndef KERNEL_SYMBOLS_H
#define KERNEL_SYMBOLS_H

#include "base/error.h"
#include "base/types.h"
#include "image/kernel.h"

struct symbol {
	u64 address;
	const char *name; /* the set's */
	char kind; /* nm's letter: 't' 'T' code, 'd' 'D' data, 'b' 'B' BSS, 'r' 'R', 'V' 'W' weak, 'A' absolute ... */
	bool moves; /* KASLR moves it with the image; false: absolute, or a zero-based per-CPU offset (before 7.x) */
};

struct symbols;

/*
 * From the image's .symtab where it has one, else from its kallsyms: found by the structure of its compressed tables
 * (three layouts), without a symbol. ERROR_FORMAT: neither, or damaged; ERROR_NO_MEMORY.
 */
MUST_CHECK struct error *symbols_create(const struct kernel_image *image, struct symbols **ret);
void symbols_destroy(struct symbols *s); /* NULL is allowed */

/*
 * The same from a file of one's own (a cache): what symbols_write() put into it, and nothing else, mapped and checked.
 * Nobody may write to the file as long as the set lives: a new one has to take its place.
 * ERROR_FORMAT: not such a file, another version, cut short or damaged.
 */
MUST_CHECK struct error *symbols_open(int fd, struct symbols **ret);
MUST_CHECK struct error *symbols_write(const struct symbols *s, int fd);

u32 symbols_count(const struct symbols *s);
/* By address, ascending; those of one address in the image's order. */
struct symbol symbols_get(const struct symbols *s, u32 index);

/*
 * All of that name, by address: the number of them, and in *first the place of the first for symbols_named().
 * O(log n).
 */
u32 symbols_find(const struct symbols *s, const char *name, u32 *first);
struct symbol symbols_named(const struct symbols *s, u32 place);
/* The place of the first at or after prefix, by strcmp(); for completion: place + 1 while it has the prefix. */
u32 symbols_from(const struct symbols *s, const char *prefix);

/*
 * The symbol that an address of the image belongs to, that is the nearest at or below it, of those that move with
 * the image; *end is where the next one begins. False when there is none below, or the image ends before it.
 */
bool symbols_at(const struct symbols *s, u64 address, struct symbol *ret, u64 *end);

#endif
