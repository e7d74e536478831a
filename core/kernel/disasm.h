/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine code as text, in the AT&T syntax that the kernel's tools print.
 * Depends on base, and on libcapstone, which is loaded when the first disassembler is made.
 * Any bytes will do: what is no instruction is a ".byte". One thread at a time uses a disassembler.
 */
#ifndef KERNEL_DISASM_H
#define KERNEL_DISASM_H

#include "base/error.h"
#include "base/types.h"

enum { INSTRUCTION_TEXT = 200,
       INSTRUCTION_MAX = 15 }; /* bytes */

struct instruction {
	u64 address;
	u64 target; /* where a direct jump or call goes; else 0 */
	u64 memory; /* the address of a rip-relative operand; else 0 */
	u32 length; /* bytes, at least 1 */
	bool valid; /* false: a ".byte" */
	u8 bytes[INSTRUCTION_MAX];
	char text[INSTRUCTION_TEXT]; /* "callq   0xffffffff81000000" */
};

struct disassembler;

/* ERROR_UNSUPPORTED: the library is not installed, or is another version than the one that this was built with. */
MUST_CHECK struct error *disassembler_create(struct disassembler **ret);
void disassembler_destroy(struct disassembler *d); /* NULL is allowed */

/*
 * Up to max instructions from the bytes at address; returns how many. What is cut short by the end of the bytes is
 * ".byte" too, so give 14 more than are wanted.
 */
u32 disassembler_run(struct disassembler *d, const void *bytes, size_t size, u64 address, struct instruction *ret,
		     u32 max);

#endif
