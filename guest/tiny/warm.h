/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest to be saved and to go on elsewhere: it remembers, its clocks tick, and it answers.
 * Depends on op.h, smp.h and report.h.
 * Every CPU is halted but for its own timer's ticks, which it counts in its cell at TINY_COUNTERS_GPA.
 *
 * It answers what every guest that listens does (op_answer_common), and
 *   OP_WRITE: its bytes go into the one file there is, whatever the path, of at most TINY_WARM_SIZE bytes; it lies
 *     at TINY_WARM_GPA. EFBIG beyond.
 *   OP_READ: from the file by PATH: /memory, that one; /counters, a u64 a CPU: its ticks; /tsc: u64 TSC, u64 kHz.
 *     ENOENT for others. EINVAL when there are more bytes to tell than a reply holds (OP_REPLY_DATA_MAX).
 */
#ifndef TINY_WARM_H
#define TINY_WARM_H

#include "tiny/smp.h"

/* What makes the ticks. */
enum warm_clock {
	WARM_DEADLINE, /* deadlines of the TSC, set one after the other */
	WARM_PERIODIC, /* the APIC's own count */
};

/*
 * Starts every CPU; SYS_RDY when all tick, every ms milliseconds (0: 10). A machine whose CPUs do not all come up,
 * or whose TSC makes no deadlines of a known frequency, resets.
 */
__attribute__((noreturn)) void warm_run(struct cpus *cpus, u64 rsdp, enum warm_clock clock, u32 ms);

#endif
