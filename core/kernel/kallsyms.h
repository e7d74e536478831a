/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kallsyms: the compressed table of symbols that a kernel carries in its read-only data.
 * Depends on base, symbol_window.h and symbol_set.h.
 * Found by structure alone, and believed only where each part agrees with the others and with the image.
 *
 * The parts as scripts/kallsyms.c of the kernel writes them, each aligned to 8 bytes, or to 4 since 7.x:
 *   names        a length (one byte, or two when its top bit is set) and that many codes of tokens; the first
 *                character that comes out is nm's letter
 *   num_syms     u32, right in front of the names
 *   markers      u32, where in names each 256th begins
 *   token_table  256 strings, one for each code; a digit's code is always the digit itself
 *   token_index  u16, where in token_table each begins
 *   offsets      s32 a symbol
 *   seqs         the symbols by name, three big-endian bytes each (since 6.2; it is a help that can be missing)
 * and their layouts:
 *   BEFORE       offsets, relative_base, num_syms, names, markers, seqs, token_table, token_index
 *   BEHIND       num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs
 *   SELF         likewise, without relative_base: an offset is from its own place
 */
#ifndef KERNEL_KALLSYMS_H
#define KERNEL_KALLSYMS_H

#include "base/error.h"
#include "base/types.h"
#include "kernel/symbol_window.h"
#include "kernel/symbols.h"

enum kallsyms_layout {
	KALLSYMS_BEFORE,
	KALLSYMS_BEHIND,
	KALLSYMS_SELF,
};

enum {
	KALLSYMS_TOKENS = 256,
	KALLSYMS_MARKED = 256, /* symbols from one marker to the next */
	KALLSYMS_MAX_NAME = 1024, /* with its letter; KSYM_NAME_LEN is 512 */
};

/* The addresses that symbols may have. */
struct kallsyms_image {
	u64 start, end; /* as linked; end is the first behind it, where a symbol may be */
	u64 percpu_size; /* of the per-CPU data that is linked at 0; 0: there is none */
};

/* All pointers are into the window that they were found in. */
struct kallsyms {
	enum kallsyms_layout layout;
	u32 count;
	const u8 *names;
	size_t names_size;
	const char *tokens;
	const u8 *index; /* u16 each */
	const u8 *offsets;
	const u8 *seqs; /* NULL: no room for it */
	u64 base; /* relative_base; for KALLSYMS_SELF the address of the offsets */
	bool absolute; /* offsets from 0 on are addresses, those below go up from base - 1 */
};

/*
 * ERROR_NOT_FOUND: nothing like it. ERROR_FORMAT: a table of tokens, but nothing that goes with it.
 * Names are checked as far as their lengths go; kallsyms_build() is the judge of their text.
 */
MUST_CHECK struct error *kallsyms_find(struct symbol_window *w, const struct kallsyms_image *image,
				       struct kallsyms *ret);

/* ERROR_FORMAT: a name that is none. */
MUST_CHECK struct error *kallsyms_build(const struct kallsyms *k, const struct kallsyms_image *image,
					struct symbols **ret);

static inline u32 kallsyms_u32(const u8 *p)
{
	u32 v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

/* *moves: it is in the image, and KASLR moves it. */
static inline u64 kallsyms_address(const struct kallsyms *k, u32 i, bool *moves)
{
	u32 offset = kallsyms_u32(k->offsets + (size_t)i * 4);

	*moves = true;
	if (k->layout == KALLSYMS_SELF)
		return k->base + (u64)i * 4 + (u64)(s64)(s32)offset;
	if (!k->absolute)
		return k->base + offset;
	*moves = offset >> 31;
	return *moves ? k->base - 1 - (u64)(s64)(s32)offset : offset;
}

/* The codes of the name at p: their number, and in *codes where they are; 0 when they are not all before end. */
static inline u32 kallsyms_codes(const u8 *p, const u8 *end, const u8 **codes)
{
	if (p == end)
		return 0;

	u32 n = *p++;

	if (n & 0x80) {
		if (p == end)
			return 0;
		n = (n & 0x7f) | (u32)*p++ << 7;
	}
	*codes = p;
	return n <= (size_t)(end - p) && n <= KALLSYMS_MAX_NAME ? n : 0;
}

#endif
