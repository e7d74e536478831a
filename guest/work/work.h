/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a work type is made of, and what it calls while it runs: one process a worker, measured from inside.
 * Depends on tlv/wire.h and work/table.h.
 * An iteration costs two vDSO calls and stores to the worker's own memory; nothing is shared while running
 * but the stop flag, which is only read.
 */
#ifndef WORK_WORK_H
#define WORK_WORK_H

#include <signal.h>
#include <sys/types.h>

#include "tlv/wire.h"
#include "work/table.h"

enum {
	WORK_CPUS = 1024,
	WORK_SAMPLES = 1024, /* wake latencies kept */
	WORK_CELL_FDS = 64,
	WORK_CELL_BYTES = 4096,
};

/* Interrupts what a worker blocks in, once the stop flag is set; sent again until it has ended. */
#define WORK_STOP_SIGNAL SIGUSR1

/* The start line, one for all groups: a worker waits until epoch is not the one it came with. */
struct work_line {
	u32 epoch;
	u32 pad;
	u64 start_ns; /* CLOCK_MONOTONIC, written before epoch */
};

/* Shared by the workers of a group and the agent. */
struct work_group {
	u32 stop;
};

enum worker_state {
	WORKER_SETTING_UP = 0,
	WORKER_AT_LINE,
	WORKER_RUNNING,
	WORKER_DONE,
	WORKER_FAILED, /* error and reason say why */
};

/* A worker's own page in shared memory. The agent reads it when the worker is at the line or gone. */
struct worker_slot {
	u32 state; /* enum worker_state */
	s32 error; /* errno */
	char reason[256];
	struct wire_worker_report report; /* kept current while it runs */
	u64 wakes;
	u64 cpus[WORK_CPUS / 64]; /* where it ran */
	u64 samples[WORK_SAMPLES]; /* wake latencies, ns; the first min(wakes, WORK_SAMPLES) count */
} __attribute__((aligned(64)));

/* Workers that belong together: a pair, a waker and its fan, or one alone. */
struct work_cell {
	void *shared; /* WORK_CELL_BYTES of zeros, aligned to 64, for the type's own use */
	int fds[WORK_CELL_FDS]; /* inherited by the cell's workers */
	u32 fd_count;
	u32 size;
};

struct worker {
	struct worker_slot *slot;
	const struct work_line *line;
	const struct work_group *group;
	const struct work_cell *cell;
	const u64 *params;
	u32 member; /* within its cell, from 0 */
	u32 epoch; /* of the line it came to */

	/* The library's own. */
	u64 last_ns; /* end of the last iteration */
	u64 asleep_ns; /* own sleep since then */
	u64 units; /* done since then */
	u32 cpu;
	u64 random;
	u64 cpu_start_ns, run_delay_start_ns;
	int schedstat_fd;
};

struct work_ops {
	/* In the agent, before a cell's workers are forked: makes what they share (fds). Optional; returns
	 * 0 or an errno, having filled in fd_count either way. */
	int (*prepare)(struct work_cell *cell, const u64 *params);
	/* In the worker, from the start signal until worker_is_running() is false or worker_fail(). A
	 * signal interrupts whatever it blocks in (EINTR) when it is to stop. */
	void (*run)(struct worker *w);
};

/* One a type, in guest/work/<symbol>.c. */
#define WORK_OPS_(symbol, ...) extern const struct work_ops symbol##_ops;
WORK_TYPES(WORK_OPS_)

const struct work_ops *work_ops_get(enum work_type_index type);

/* --- for a type's run() --- */

static inline bool worker_is_running(const struct worker *w)
{
	return !__atomic_load_n(&w->group->stop, __ATOMIC_RELAXED);
}

/* CLOCK_MONOTONIC, ns. */
u64 work_now(void);

/* Plain arithmetic in registers, steps times; each step is a unit. Iterates by itself within a long run, so
 * that a long computation is no gap, and leaves it when the worker is to stop. */
void worker_spin(struct worker *w, u64 steps);

/* One iteration is done, with that many units beside those of worker_spin(). Returns the time. */
u64 worker_iterate(struct worker *w, u64 units);

/* It slept from began on, the wake was due (or asked for) at due, and it runs again now. */
void worker_woken(struct worker *w, u64 began, u64 due);

/* It slept from began until now, and was interrupted: no wake to judge. */
void worker_interrupted(struct worker *w, u64 began);

/* Sleeps until due, and accounts for it. */
void worker_sleep_until(struct worker *w, u64 due);

/* Futex on a cell's shared memory: 0 when woken, else an errno (EINTR, EAGAIN). */
int work_futex_wait(u32 *word, u32 value);
void work_futex_wake(u32 *word, s32 count);

/* It cannot go on: REPORT_FAILED with the reason, and the text of error unless that is 0. */
void worker_fail(struct worker *w, int error, const char *what);

/* --- for the agent --- */

/* In the child, once it is placed: waits at the line, runs, reports, ends the process. line_fd is an
 * eventfd that is told when the worker stands at the line. */
_Noreturn void worker_main(struct worker *w, const struct work_type_info *info, const struct work_ops *ops,
			   int line_fd);

#endif
