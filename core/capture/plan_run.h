/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a plan's run: what is copied and noted (plan_run.c), while the operations go on (plan_walk.c).
 * Depends on capture/plan_internal.h. One thread at a time.
 * Every access is bounded; after the first limit that is reached nothing more is copied.
 */
#ifndef CAPTURE_PLAN_RUN_H
#define CAPTURE_PLAN_RUN_H

#include "capture/plan_internal.h"

/* What could not be recorded, once for each operation and kind. */
struct plan_noted {
	u32 op;
	enum plan_note kind;
	u32 count;
	u64 address; /* where it was first */
};

struct plan_run {
	struct plan *plan;
	const struct view *view;
	struct record *record;
	u32 segment_capacity;
	bool stopped; /* a limit has been reached, or there is no memory */
	bool no_memory;
	u64 deadline_ns;
	u64 registers[PLAN_REGISTERS];
	u64 *percpu; /* what is to be added for each CPU; 0: not set up */
	u64 *seen; /* a hash set: where PLAN_ONCE has led */
	u32 seen_count, seen_capacity;
	struct plan_noted notes[PLAN_NOTES_MAX];
	u32 note_count;
	u64 notes_dropped;
};

void plan_note_that(struct plan_run *run, const struct plan_op *op, enum plan_note kind, u64 address);
/* Counts a step; false: the run is over. */
bool plan_step(struct plan_run *run, const struct plan_op *op, u64 address);
void plan_copy(struct plan_run *run, const struct plan_op *op, u64 address, u64 size);
/* One word of 1, 2, 4 or 8 bytes; false: it is not mapped, which is noted. */
bool plan_load(struct plan_run *run, const struct plan_op *op, u64 address, u32 size, u64 *ret);
bool plan_load_bytes(struct plan_run *run, const struct plan_op *op, u64 address, void *data, u32 size);
/* Whether an operation leads to an address for the first time. */
bool plan_is_first(struct plan_run *run, const struct plan_op *op, u64 address);

/* plan_walk.c: carries out the plan. */
void plan_walk(struct plan_run *run);

#endif
