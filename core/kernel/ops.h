/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations on a kernel's memory, many in one batch: reads, writes, and setting bits.
 * Depends on kernel/view.h, pid.h and tlv/wire.h. Names are resolved by whoever makes the batch.
 * In order, and the first that fails is the last: those before it stay done, those behind it are not begun. No word
 * is ever torn: it is read and written by one access.
 */
#ifndef KERNEL_OPS_H
#define KERNEL_OPS_H

#include "base/error.h"
#include "base/types.h"
#include "kernel/pid.h"
#include "kernel/view.h"
#include "tlv/wire.h"

enum {
	OPS_MAX = 16 << 10, /* in a batch */
	OPS_STEPS_MAX = 16, /* of one operation */
	OPS_BYTES_MAX = 16 << 20, /* of a batch's data */
};

/* Follows a pointer: the address becomes what is at address + offset, with the CPU's offset added when per_cpu. */
struct op_step {
	u64 offset;
	u32 per_cpu;
	u32 reserved;
};

enum op_base {
	OP_BASE_ADDRESS, /* start */
	OP_BASE_PER_CPU, /* start with the CPU's offset added */
	OP_BASE_TASK, /* the task with that pid; start is not used */
};

/* LuaJIT writes this struct and the next, too (lua/ktstr/kernel/c.lua). */
struct op {
	u64 start;
	u64 offset; /* of the operand, from where the steps lead */
	u64 value; /* to be written, or set */
	u32 cpu; /* of what is per-CPU */
	u32 pid; /* of a task */
	u32 first_step;
	u32 size; /* bytes of the operand; of a scalar 1, 2, 4 or 8, to set bits 4 */
	u32 data; /* where its bytes are in the batch's data, those to write or to fill in */
	u16 steps;
	u8 op; /* enum wire_kernel_op */
	u8 base; /* enum op_base */
	u8 is_bytes; /* else a scalar */
	u8 shift, bits; /* of a bit-field in that scalar, from its lowest bit; bits 0: it is none */
	u8 reserved[5];
};

struct op_layout {
	u64 offsets; /* address of __per_cpu_offset; 0: nothing is per-CPU */
	u64 unset; /* what a CPU's offset is, beside 0, before the kernel has set up its per-CPU areas */
	u32 cpus; /* that the kernel has */
	u32 reserved;
	struct pid_layout pids;
};

/* All but the last two are the maker's. */
struct op_batch {
	struct op_layout layout;
	const struct op *ops;
	const struct op_step *steps;
	u32 count, step_count;
	u8 *data;
	u64 data_size;
	bool frozen; /* the guest stands still: then words need not be aligned, and many bytes are one write */
	u64 *values; /* count: of what is read (not bytes); of what bits are set in, as it was before */
	u32 done; /* operations carried out */
	struct error *err; /* why operation `done` was not; NULL: all were. Whoever takes it destroys it */
};

/* ERROR_INVALID: something in it points outside of it. */
MUST_CHECK struct error *op_batch_check(const struct op_batch *b);
/*
 * The batch has been checked. While the guest runs (ERROR_RUNNING): words have to be aligned, bytes that are written
 * an aligned word, and no bit-field is written, since the guest may be about to write the word that it has read.
 */
void op_batch_run(struct op_batch *b, const struct view *view);

#endif
