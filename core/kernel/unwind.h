/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The calls that a stack holds: a sleeping task's, or those of a CPU that was stopped.
 * Depends on base, orc.h and view.h. One thread at a time, as the view.
 * Nothing on a stack is believed: a walk ends within UNWIND_FRAMES steps, and says why it did.
 */
#ifndef KERNEL_UNWIND_H
#define KERNEL_UNWIND_H

#include "base/types.h"
#include "kernel/orc.h"
#include "kernel/view.h"

enum {
	UNWIND_FRAMES = 128, /* at most */
	UNWIND_STEP = 16 << 10, /* bytes that a frame can be large: a stack's size */
	UNWIND_SWITCHES = 8, /* from one stack to another: task, interrupt, and the exceptions' ones */
};

/* Unwind tables, and what is added to their addresses: an image's KASLR offset, nothing for a module. */
struct unwind_table {
	const struct orc *orc;
	u64 slide;
};

/* A stack, [start, end). */
struct unwind_stack {
	u64 start, end;
};

enum unwind_flags {
	UNWIND_RETURN = 1 << 0, /* a return address: the call is the instruction before it, so look up address - 1 */
	UNWIND_SIGNAL = 1 << 1, /* it was interrupted here, by an exception or an interrupt */
	UNWIND_GUESSED = 1 << 2, /* by the frame pointer, since no table covers the code that it called */
	UNWIND_TRACED = 1 << 3, /* tracing has put itself in between, and what it called returns to that first */
};

struct unwind_frame {
	u64 address;
	u64 sp; /* its stack pointer there */
	u64 regs; /* of its struct pt_regs, for an interrupted one; of the last five words only, too; else 0 */
	u32 flags;
	u32 reserved;
};

enum unwind_end {
	UNWIND_USER, /* whole: user mode entered the kernel here; `at` is where it did */
	UNWIND_BOTTOM, /* whole: the first function of a kernel thread, or of a CPU */
	UNWIND_MANY, /* more than UNWIND_FRAMES frames */
	UNWIND_NO_TABLE, /* nothing says how to unwind the code at `at`, and its frame pointer leads nowhere */
	UNWIND_NO_REGISTER, /* the code at `at` needs a register that was not saved */
	UNWIND_NO_CODE, /* the return address, `at`, is none */
	UNWIND_NO_STACK, /* `at` is no stack pointer, or on no stack of these */
	UNWIND_UNMAPPED, /* no memory at `at` */
	UNWIND_LOOP, /* the stack pointer went back, to `at` */
	UNWIND_REPLACED, /* the return address, `at`, is tracing's own; nothing says which it has replaced */
};

/* Of a return address that tracing has replaced: where on the stack it was, and what. */
struct unwind_return {
	u64 at, address;
};

/* Where to begin. */
struct unwind_start {
	u64 ip, sp, bp;
	/* Of a stopped CPU; else 0 and has_all is false. */
	u64 ax, dx, di, r10, r13;
	bool has_all;
	bool user; /* the CPU is in user mode */
	bool returns; /* ip is a return address: that of a task which gave its CPU away */
	bool entered; /* ip is a function's first instruction: sp is where it returns to, tables or not */
};

struct unwind {
	const struct view *view;
	const struct unwind_table *tables;
	u32 table_count;
	/* The stacks that there may be; none: any memory of the kernel's that goes one way. */
	u32 stack_count;
	const struct unwind_stack *stacks;
	/* What tracing puts in the place of return addresses, and those that are known. */
	const u64 *trampolines;
	const struct unwind_return *returns;
	u32 trampoline_count, return_count;
};

struct unwind_result {
	u32 count;
	enum unwind_end end;
	u64 at; /* what the end is about; 0 for UNWIND_BOTTOM */
	u64 user_regs; /* UNWIND_USER: of the struct pt_regs; 0: user mode is where it began */
	struct unwind_frame frames[UNWIND_FRAMES]; /* innermost first */
};

void unwind_stack(const struct unwind *u, const struct unwind_start *start, struct unwind_result *ret);

/* In words: "user mode", "return address is no code". */
const char *unwind_end_text(enum unwind_end end);

#endif
