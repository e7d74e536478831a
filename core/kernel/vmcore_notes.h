/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU puts into its dumps for each CPU, and vmcore.c into its: a note of that name tells crash that the machine
 * was stopped from outside, so that it takes the registers of every CPU from the file; and registers out of notes.
 * Depends on base/types.h and kernel/vmcore.h. The layout is the file's.
 */
#ifndef KERNEL_VMCORE_NOTES_H
#define KERNEL_VMCORE_NOTES_H

#include <sys/procfs.h>

#include "base/types.h"
#include "kernel/vmcore.h"

enum { QEMU_CPU_VERSION = 1 };

/* The second word of a segment's descriptor, where qemu_segment.flags has it. */
enum {
	SEGMENT_TYPE_SHIFT = 8,
	SEGMENT_S_SHIFT = 12,
	SEGMENT_DPL_SHIFT = 13,
	SEGMENT_PRESENT_SHIFT = 15,
	SEGMENT_AVL_SHIFT = 20,
	SEGMENT_L_SHIFT = 21,
	SEGMENT_DB_SHIFT = 22,
	SEGMENT_G_SHIFT = 23,
};

struct qemu_segment {
	u32 selector, limit, flags, pad;
	u64 base;
};

struct qemu_cpu {
	u32 version; /* QEMU_CPU_VERSION */
	u32 size;
	u64 rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rip, rflags;
	struct qemu_segment cs, ds, es, fs, gs, ss;
	struct qemu_segment ldt, tr, gdt, idt;
	u64 cr[5];
	u64 kernel_gs_base;
};

/* All of *cpu, but for what only the other note has: control registers, and most of the segments. */
void take_prstatus(struct vmcore_cpu *cpu, const struct elf_prstatus *status);
void take_qemu_cpu(struct vmcore_cpu *cpu, const struct qemu_cpu *q);

#endif
