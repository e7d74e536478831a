/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One call at a time from main to the coordinator's thread, with its answer.
 * Depends on base and freeze/state.h. Main asks and waits; the thread takes, and answers exactly once.
 * Main may stop waiting when a signal comes: the call is then abandoned, and its answer dropped.
 */
#ifndef COORDINATOR_CALL_H
#define COORDINATOR_CALL_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "freeze/state.h"

struct coordinator;
struct monitor;

enum call_kind {
	CALL_FREEZE, /* limit_ns */
	CALL_THAW,
	CALL_CAPTURE, /* tag */
	CALL_STEP, /* cpu, count, limit_ns; result: instructions executed */
	CALL_LOOK, /* look(c, arg) */
	CALL_EARLY, /* result: 1 when it was taken */
	CALL_INJECT, /* source, tag: a capture by a source that is not main, for tests */
	CALL_TICK, /* limit_ns: a capture each period, for tests; 0: no more */
	CALL_PATIENCE, /* limit_ns: of a rendezvous, for tests */
	CALL_PLAN, /* look(c, arg), at any time: what captures record from now on, and in which phase they are */
	CALL_PERIODIC, /* the same: captures on a clock */
	CALL_MONITOR, /* monitor, limit_ns: a sample each period; 0: no more */
	CALL_KERNEL_OPS, /* source, arg: a struct cold_batch, of main's memory, looked at when the call is settled */
};

struct call {
	enum call_kind kind;
	u64 limit_ns; /* UINT64_MAX: none */
	u32 cpu, count;
	enum freeze_source source;
	char tag[WIRE_TAG_SIZE + 1];
	/* Of CALL_LOOK, on the thread, in a frozen machine; arg is main's memory: such a call is never abandoned. */
	struct error *(*look)(struct coordinator *c, void *arg);
	void *arg;
	struct monitor *monitor;
};

enum call_state {
	CALL_IDLE,
	CALL_POSTED,
	CALL_TAKEN,
	CALL_SETTLED, /* taken, and main can give it up no more */
	CALL_ANSWERED,
};

struct call_slot {
	pthread_mutex_t lock;
	int fd; /* eventfd: readable when there is an answer, or the slot is free again */
	enum call_state state;
	bool abandoned, closed;
	struct call call;
	struct error *err; /* the answer */
	u32 result;
};

MUST_CHECK struct error *call_slot_init(struct call_slot *slot);
void call_slot_deinit(struct call_slot *slot);

/*
 * Main: post(ctx) wakes the thread. Returns the answer; ERROR_ENDED when nobody is there to answer,
 * ERROR_INTERRUPTED when a signal came first (CALL_FREEZE, CALL_CAPTURE, CALL_EARLY, CALL_INJECT,
 * CALL_STEP, CALL_KERNEL_OPS). result may be NULL.
 */
MUST_CHECK struct error *call_slot_ask(struct call_slot *slot, const struct call *call, void (*post)(void *ctx),
				       void *ctx, u32 *result);

/* The thread: the call that was posted, if there is one. */
bool call_slot_take(struct call_slot *slot, struct call *ret);
/* The answer to the call taken; err NULL: it went well. */
void call_slot_answer(struct call_slot *slot, struct error *err, u32 result);
/*
 * What is to be answered at once has come about: from now on main waits for it, whatever comes. False: main has given
 * it up before.
 */
MUST_CHECK bool call_slot_settle(struct call_slot *slot);
/* Whether there is a call that was taken and not answered. */
bool call_slot_is_taken(struct call_slot *slot);
/* The call taken is of no interest to main any more; it still has to be answered. */
bool call_slot_is_abandoned(struct call_slot *slot);
/* Every call is answered with ERROR_ENDED from now on; one that is being waited for at once. */
void call_slot_close(struct call_slot *slot);

#endif
