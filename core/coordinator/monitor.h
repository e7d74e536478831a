/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Samples of a running kernel's memory: a program says which cells to read, a bounded ring keeps what they held.
 * Depends on kernel/view.h, machine/host_time.h. Each scalar is read once, bounds-checked; what cannot be read
 * is absent, never 0. One thread samples, any other may look at the ring. Whoever has got a monitor puts it
 * back; the last one frees it.
 */
#ifndef COORDINATOR_MONITOR_H
#define COORDINATOR_MONITOR_H

#include "base/error.h"
#include "base/types.h"
#include "kernel/view.h"
#include "machine/host_time.h"

#define MONITOR_NO_CPU UINT32_MAX
#define MONITOR_UNKNOWN UINT64_MAX

enum {
	MONITOR_CELLS_MAX = 1 << 20,
	MONITOR_STEPS_MAX = 32, /* of one cell */
	MONITOR_BYTES_MAX = 256 << 20, /* of a ring */
};

/* Follows a pointer: the address becomes what is at address + offset, with the CPU's offset added when per_cpu. */
struct monitor_step {
	u64 offset;
	u32 per_cpu;
	u32 reserved;
};

enum monitor_cell_flags {
	MONITOR_PER_CPU = 1 << 0, /* start is a per-CPU address */
	MONITOR_SIGNED = 1 << 1,
};

/* Where a number is: from start by steps[first_step, + steps), then offset bytes on. A NULL on the way: absent. */
struct monitor_cell {
	u64 start;
	u64 offset;
	u32 cpu; /* whose part, where something is per-CPU; MONITOR_NO_CPU: nothing is */
	u32 value; /* the sample's value that it is; several cells of one value are its sum, absent when one is */
	u32 first_step;
	u16 steps;
	u8 size; /* 1, 2, 4, 8 */
	u8 flags;
};

struct monitor_program {
	u64 offsets; /* address of __per_cpu_offset; 0: nothing is per-CPU */
	u64 unset; /* what a CPU's offset is, beside 0, before the kernel has set up its per-CPU areas */
	u32 cpus; /* of the machine */
	u32 values; /* of a sample */
};

/*
 * One sample. Behind it: cpus times struct cpu_time, values times u64 (two's complement), and a bit for each value,
 * low ones first, that says whether it is there; padded to a multiple of 8.
 */
struct monitor_sample {
	u64 number; /* of all that were taken, from 0 */
	u64 host_ns; /* CLOCK_MONOTONIC when it began */
	u64 elapsed_ns; /* since the machine's start, without the time that it was frozen */
	u32 epoch; /* another one once the machine was taken back: nothing is to be compared across */
	u32 spent_ns; /* how long it took */
};

/* What the host did with a vCPU's thread. */
struct monitor_cpu {
	u64 ran_ns; /* how long it has run it since its start; MONITOR_UNKNOWN */
	u32 state; /* enum host_time_state: when this was looked at */
	u32 reserved;
};

struct monitor_counts {
	u64 taken;
	u64 dropped; /* of these: the oldest, where the ring was full */
	u64 early; /* left out: the kernel had not set up its per-CPU areas */
	u64 frozen; /* left out: the machine was frozen */
	u64 spent_max_ns; /* on one sample */
};

struct monitor;

/*
 * Copies all it is given. capacity: samples that the ring holds, at least 1. The view's memory must be there whenever
 * a sample is taken. ERROR_INVALID: the program makes no sense, or the ring would be too large.
 */
MUST_CHECK struct error *monitor_create(const struct view *view, const struct monitor_program *program,
					const struct monitor_cell *cells, u32 cell_count,
					const struct monitor_step *steps, u32 step_count, u32 capacity,
					struct monitor **ret);
struct monitor *monitor_get(struct monitor *m);
/* NULL is allowed. */
void monitor_put(struct monitor *m);
/* Whether nobody else has it. */
bool monitor_is_alone(const struct monitor *m);

/* --- one thread --- */

/* Takes one; cpus: the program's number of them. */
void monitor_take(struct monitor *m, u64 elapsed_ns, u32 epoch, const struct monitor_cpu *cpus);
void monitor_skip_frozen(struct monitor *m);

/* --- any thread --- */

u32 monitor_cpus(const struct monitor *m);
/* Bytes of a sample with all behind it. */
size_t monitor_sample_size(const struct monitor *m);
/* Copies samples from number `from` on, the oldest that the ring has first, as many as fit; returns how many. */
u32 monitor_copy(struct monitor *m, u64 from, void *data, size_t size);
struct monitor_counts monitor_counts(struct monitor *m);

#endif
