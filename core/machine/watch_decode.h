/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which atomic instruction a write that KVM has emulated was: locked ones, and XCHG. 64-bit code.
 * Depends on base. KVM emulates such an instruction as a read and a plain write, and says neither that it was one nor
 * where it starts: rip is behind it. So it is looked for backwards, and has to be one that makes just this write.
 * Pure: reads nothing but its arguments, whatever they are.
 */
#ifndef MACHINE_WATCH_DECODE_H
#define MACHINE_WATCH_DECODE_H

#include <linux/kvm.h>

#include "base/types.h"

enum {
	WATCH_CODE_MAX = 15, /* bytes of the longest instruction */
	WATCH_READINGS_MAX = 6,
};

/* The write, and the vCPU as KVM shows it then: the registers are those behind the instruction. */
struct watch_write {
	u64 gpa;
	u32 size; /* 1, 2, 4, 8 */
	u64 data;
	const struct kvm_regs *regs;
	u64 fs_base, gs_base;
	u32 code_size; /* so many bytes are known in front of rip */
	u8 code[WATCH_CODE_MAX]; /* the last code_size of them */
};

enum watch_atomic_kind {
	WATCH_ATOMIC_FROM, /* it found `expected` */
	WATCH_ATOMIC_OR, /* it found what gives data with operand */
	WATCH_ATOMIC_AND,
	WATCH_ATOMIC_CARRY, /* `expected`, or that with `carry` added */
	WATCH_ATOMIC_FAILED, /* CMPXCHG found something else: it writes back what it found */
};

struct watch_atomic {
	enum watch_atomic_kind kind;
	u64 address; /* linear, unless it wraps: where gpa is in its page; whether in that one is yet to be seen */
	u64 expected, operand, carry;
	struct kvm_regs before; /* the registers in front of it, to have it done again */
};

/* Whether the bytes can hold one at all: worth getting at the rest of struct watch_write. */
bool watch_may_be_atomic(const u8 *code, u32 size);
/*
 * All that the bytes may be read as, the longest first: the last byte of the instruction before may look like a prefix.
 * 0: it was none.
 */
u32 watch_decode(const struct watch_write *w, struct watch_atomic ret[static WATCH_READINGS_MAX]);
/* Whether the instruction, had it found this, would have made the same write. size: of the write. */
bool watch_atomic_fits(const struct watch_atomic *a, const struct watch_write *w, u64 found);

#endif
