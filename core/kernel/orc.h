/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ORC tables of a kernel image or of a module: how to find a caller's stack and frame pointer from an address.
 * Depends on base. Addresses are those that the tables were given.
 * A table never changes once it is made. Whatever bytes it was made of, a lookup ends in O(log n) and within them.
 */
#ifndef KERNEL_ORC_H
#define KERNEL_ORC_H

#include "base/error.h"
#include "base/types.h"

/* Bits from an entry's first; bits 0: the kernel has no such field. */
struct orc_field {
	u32 offset, bits;
};

/*
 * struct orc_entry as the kernel's BTF has it. A layout with `end` is that of kernels before 6.4, which number the
 * types from CALL on. The registers were numbered anew in 7.x, of which the types say nothing: a table itself does,
 * since hardly an entry is without the stack pointer or the place where the caller's bp was saved.
 */
struct orc_layout {
	u32 size; /* bytes of an entry, at most 8 */
	struct orc_field sp_offset, bp_offset, sp_reg, bp_reg, type;
	struct orc_field signal; /* from 6.3 on */
	struct orc_field end; /* before 6.4 */
};

enum orc_register {
	ORC_UNDEFINED, /* bp: it is the caller's still; sp: there is no way on */
	ORC_PREV_SP, /* the caller's stack pointer, just found */
	ORC_AX,
	ORC_DX,
	ORC_DI,
	ORC_BP,
	ORC_SP,
	ORC_R10,
	ORC_R13,
	ORC_BP_INDIRECT, /* the word at bp + offset */
	ORC_SP_INDIRECT, /* the word at sp, plus the offset */
	ORC_REGISTERS,
};

enum orc_type {
	ORC_NONE, /* code that cannot be unwound, or no code */
	ORC_END, /* the outermost frame */
	ORC_CALL, /* a return address lies below the caller's stack pointer */
	ORC_REGS, /* a struct pt_regs lies at the stack pointer found */
	ORC_REGS_PARTIAL, /* only its last five words: rip, cs, flags, rsp, ss */
};

struct orc_entry {
	enum orc_type type;
	enum orc_register sp_reg, bp_reg;
	s32 sp_offset, bp_offset;
	bool signal; /* the code was interrupted into: its caller's address is no return address */
};

struct orc;

/* ERROR_INVALID when it cannot be one: fields outside the entry, or one too narrow. */
MUST_CHECK struct error *orc_check_layout(const struct orc_layout *layout);

/*
 * From both tables as an image (__start_orc_unwind_ip, __start_orc_unwind) or a module (struct mod_arch_specific) has
 * them; they are copied. ips_address is where the first of its count 32-bit offsets lies, and each is relative to
 * itself: given as linked, all addresses are. ERROR_FORMAT: not sorted, spread over more than 1 GiB, or of registers
 * that make no sense.
 */
MUST_CHECK struct error *orc_create(const void *ips, u64 ips_address, const void *entries, u32 count,
				    const struct orc_layout *layout, struct orc **ret);
void orc_destroy(struct orc *orc); /* NULL is allowed */

u32 orc_count(const struct orc *orc);
/* The code that it covers: [*start, *end). */
void orc_range(const struct orc *orc, u64 *start, u64 *end);

/*
 * The entry of the code at address. False: the address is outside, or its entry says nothing that is known
 * (a register or a type that there is not).
 */
bool orc_find(const struct orc *orc, u64 address, struct orc_entry *ret);

#endif
