/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A record: pieces of a kernel's memory as they were at one moment, by their addresses, and notes of what is missing.
 * Depends on base and kernel/view.h. It never changes, so any number of threads may hold and read it.
 * Its memory is looked at through a view, as a machine's is: what was not recorded is ERROR_UNMAPPED there.
 */
#ifndef CAPTURE_RECORD_H
#define CAPTURE_RECORD_H

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"
#include "kernel/view.h"

/* LuaJIT reads this struct, too (lua/ktstr/kernel/c.lua). */
struct record {
	u32 users; /* atomic: whoever holds it */
	u32 segment_count;
	struct view_segment *segments; /* by address; none overlaps another */
	u8 *data; /* where they lie */
	u64 capacity, size; /* of data: bytes that are mapped, bytes in use */
	struct buf notes; /* lines: what, how often, at which address first, where in the plan; separated by tabs */
	u32 steps; /* of the plan that were carried out */
	u32 plan_id; /* of the plan */
	u64 spent_ns; /* while the machine was frozen */
	u64 slide; /* of the machine's view */
	bool is_cut; /* the run came to a limit, and what was to follow is missing */
};

struct record *record_get(struct record *r);
/* Destroys it when nobody else holds it. NULL is allowed. */
void record_put(struct record *r);

/* The record outlives the view, or view_end(). */
void record_open_view(const struct record *r, struct view *ret);

/*
 * Puts the segments in order, and takes away where one overlaps another: they are of one moment, so what they say of
 * an address is the same.
 */
void record_sort(struct record *r);

/* Nothing but room: capacity bytes, with the first `expected` of them touched already. */
MUST_CHECK struct error *record_create_empty(u64 capacity, u64 expected, struct record **ret);
/* Gives back what is not in use. */
void record_shrink(struct record *r);

#endif
