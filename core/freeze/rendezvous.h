/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stopping every vCPU and letting them go: one generation word, odd while frozen.
 * Depends on base. Knows park slots, a way to kick, and an event loop; nothing of machines.
 * One thread (the coordinator's) drives it. An acknowledgement is for its own generation: a late one disturbs
 * nothing, and nobody waits for the last vCPU to leave its park.
 */
#ifndef FREEZE_RENDEZVOUS_H
#define FREEZE_RENDEZVOUS_H

#include "base/error.h"
#include "base/loop.h"
#include "base/types.h"

struct rendezvous;

/* park.h is for the thread that owns it. */
struct park_slot {
	struct rendezvous *rendezvous;
	u32 acked; /* atomic: the generation acknowledged last */
	u32 left; /* atomic: the even generation with which it last left its park */
	u64 left_ns; /* atomic: when that was, clock_now_ns() */
	bool gone; /* atomic: the thread has ended */
};

struct rendezvous_ops {
	/* Makes the slot's thread look at park_is_wanted(), wherever it is. */
	void (*kick)(void *ctx, u32 slot);
};

struct rendezvous {
	u32 generation; /* atomic, and a futex: odd while frozen; the driving thread alone changes it */
	u64 missing; /* atomic: generation << 32 | acknowledgements to come until fd is written to */
	int fd; /* eventfd: readable when the last one came, or a thread ended */
	u32 count;
	struct park_slot *slots; /* the caller's */
	const struct rendezvous_ops *ops;
	void *ctx;
	u64 thawed_ns; /* clock_now_ns() of the last rendezvous_end(); 0: none yet */
};

/* slots: count of them, zeroed here; they must outlive it. */
MUST_CHECK struct error *rendezvous_init(struct rendezvous *r, struct park_slot *slots, u32 count,
					 const struct rendezvous_ops *ops, void *ctx);
void rendezvous_deinit(struct rendezvous *r);

/* Frozen from now on, and not complete yet. Not while frozen. */
void rendezvous_begin(struct rendezvous *r);
/*
 * Another generation while frozen: every parked thread acknowledges once more. What the caller wrote before is
 * seen by each before its new acknowledgement, which is how a parked vCPU is given something to do.
 */
void rendezvous_again(struct rendezvous *r);
/* Thaws: wakes every parked thread, and waits for none. Harmless when not frozen. */
void rendezvous_end(struct rendezvous *r);
/*
 * The same in two steps. From the first on the machine is thawed, and may be frozen again; the second, by any
 * thread and at any time, makes those that sleep in their parks see it.
 */
void rendezvous_open(struct rendezvous *r);
void rendezvous_wake(struct rendezvous *r);

bool rendezvous_is_frozen(const struct rendezvous *r);
/* Every thread that has not ended has acknowledged the present generation. */
bool rendezvous_is_complete(const struct rendezvous *r);
/* Whether it is this slot that is waited for. */
bool rendezvous_is_missing(const struct rendezvous *r, u32 slot);
/* After a thaw: the slot parked for a freeze, the last one or one before, and has not left its park since. */
bool rendezvous_is_stuck(const struct rendezvous *r, u32 slot);

/*
 * Runs the loop until the rendezvous is complete. give_up(ctx), looked at before each turn (NULL: never), ends
 * it early (ERROR_ENDED). ERROR_TIMEOUT after timeout_ns: the caller says which vCPU and where. Still frozen
 * then: only rendezvous_end() thaws.
 */
MUST_CHECK struct error *rendezvous_wait(struct rendezvous *r, struct loop *loop, u64 timeout_ns,
					 bool (*give_up)(void *ctx), void *ctx);

#endif
