/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUs at work that never ends: counting in kernel mode or in user mode, halted, at long copies to devices.
 * Depends on smp.h and console.h.
 * A CPU that counts does so in its own cell at TINY_COUNTERS_GPA. None of these returns.
 */
#ifndef TINY_LOAD_H
#define TINY_LOAD_H

#include "tiny/smp.h"

/* What a CPU does. */
enum load_kind {
	LOAD_KERNEL, /* counts in kernel mode, interrupts off */
	LOAD_USER, /* counts in user mode, interrupts on */
	LOAD_HALT, /* halted; a timer wakes it every 100 ms, and it counts that */
	LOAD_MIXED, /* by its number: one of the first three, or LOAD_DEAD */
	LOAD_DEAD, /* halted, interrupts off: nothing wakes it */
};

__attribute__((noreturn)) void load_count(u32 index);

/*
 * Starts every CPU (as cpus_start) and sets each to work; SYS_RDY when all are at it but the boot CPU, which
 * follows. A machine whose CPUs do not all come up resets.
 */
__attribute__((noreturn)) void load_run(struct cpus *cpus, u64 rsdp, enum load_kind kind);

/*
 * Copies kilobytes, by one instruction each, to the console's MSI-X table, where nothing happens, and to COM2's
 * scratch register, for ever; the boot CPU's cell counts the rounds.
 */
__attribute__((noreturn)) void load_copy(void);

#endif
