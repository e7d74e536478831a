/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captures on a clock: which one is due, and what becomes of those that are not taken.
 * Depends on base/error.h and base/types.h. It reads no clock and takes no capture: who drives it says what time it is.
 * Each capture of the plan is handed out once: to be taken, or as missed, with the reason.
 */
#ifndef CAPTURE_PERIODIC_H
#define CAPTURE_PERIODIC_H

#include "base/error.h"
#include "base/types.h"

/* After PERIODIC_TIMEOUTS rendezvous timeouts in a row the rest is given up: the host is overloaded. */
enum { PERIODIC_MAX = 64,
       PERIODIC_TAG_SIZE = 16,
       PERIODIC_REASON_SIZE = 160,
       PERIODIC_TIMEOUTS = 2 };

/* Times of the workload: since its start, its pauses taken out. */
struct periodic_moment {
	u64 due_ns;
	char tag[PERIODIC_TAG_SIZE];
};

struct periodic_plan {
	u32 count; /* 1 to PERIODIC_MAX */
	struct periodic_moment at[PERIODIC_MAX]; /* in order */
	u64 end_ns; /* when it is too late for the last one; for the others that is when the next one is due */
};

enum periodic_state {
	PERIODIC_WAITING, /* for the workload to start */
	PERIODIC_RUNNING,
	PERIODIC_PAUSED,
	PERIODIC_OVER,
	PERIODIC_GIVEN_UP,
};

/* Its times, now_ns, are of a clock that stands while the machine is frozen; one that goes back is taken to stand. */
struct periodic {
	struct periodic_plan plan;
	enum periodic_state state;
	u32 next; /* the first that has not been handed out for good */
	u32 taken, missed;
	u32 timeouts; /* in a row */
	bool has_started;
	bool is_taking; /* the next one has been handed out, and is not settled */
	u64 now_ns, started_ns, paused_ns, paused_at_ns, ended_ns;
	char reason[PERIODIC_REASON_SIZE]; /* why the rest is not taken, once it is over */
};

enum periodic_turn {
	PERIODIC_NOTHING, /* nothing is due now */
	PERIODIC_TAKE, /* it has to be settled before there is another one */
	PERIODIC_MISSED, /* it has been settled: ask again for the next one */
};

enum periodic_outcome {
	PERIODIC_TAKEN,
	PERIODIC_TIMED_OUT,
	PERIODIC_FAILED, /* otherwise */
};

/* False: the plan makes no sense. */
MUST_CHECK bool periodic_init(struct periodic *p, const struct periodic_plan *plan);

/* The workload starts, pauses, goes on; what is left comes later by its pauses. Where it makes no sense, nothing. */
void periodic_start(struct periodic *p, u64 now_ns);
void periodic_pause(struct periodic *p, u64 now_ns);
void periodic_resume(struct periodic *p, u64 now_ns);
/* It ends. reason: of what has not been taken; NULL: that it has ended, and after how long. */
void periodic_finish(struct periodic *p, u64 now_ns, const char *reason);

/* ret: of PERIODIC_TAKE and _MISSED. reason: PERIODIC_REASON_SIZE bytes, of PERIODIC_MISSED. */
MUST_CHECK enum periodic_turn periodic_next(struct periodic *p, u64 now_ns, const struct periodic_moment **ret,
					    char *reason);
/* How the attempt at the capture that was handed out ended. */
void periodic_settle(struct periodic *p, u64 now_ns, enum periodic_outcome outcome);

/* When the next one is due, on the clock of now_ns. False: nothing is to come. */
MUST_CHECK bool periodic_next_at(const struct periodic *p, u64 *ret);
/* Of the workload: since its start, without its pauses; after its end, how long it was. False: it has not started. */
MUST_CHECK bool periodic_elapsed(struct periodic *p, u64 now_ns, u64 *ret);
bool periodic_is_over(const struct periodic *p);
/* "waiting", "running", "paused", "over", "given up" */
const char *periodic_state_name(enum periodic_state state);

#endif
