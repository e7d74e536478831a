/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's requests for kernel operations, from their frame to their answer; and cold batches.
 * Depends on kernel/ops.h, op_request.h and the coordinator's inside. Each function says whose thread it is for.
 * Each request gets exactly one answer, whatever main does: main has the symbols and carries it out, but where it
 * does not come in time, ends, or is taken back, the answer is why.
 */
#ifndef COORDINATOR_KERNEL_OP_H
#define COORDINATOR_KERNEL_OP_H

#include <pthread.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/loop.h"
#include "base/types.h"

struct coordinator;
struct op_batch;
struct view;

/* How long a request waits for main to come and take it on; of a frozen machine for as long as it takes. */
#define KERNEL_OP_PATIENCE_NS (10 * NSEC_PER_SEC)

enum {
	KERNEL_OPS_WAITING_MAX = 64, /* requests at a time: then nothing more is read of the guest's */
	KERNEL_OP_ANSWER_MAX = 64 << 10, /* bytes */
};

enum kernel_op_state {
	KERNEL_OP_FREE,
	KERNEL_OP_WAITING, /* for main */
	KERNEL_OP_CLAIMED, /* main is at it */
	KERNEL_OP_ANSWERED, /* the answer waits for room on its way to the guest */
};

struct kernel_op_slot {
	enum kernel_op_state state;
	u32 request_id; /* the guest's */
	u64 token; /* ours: what main knows it by */
	u64 deadline_ns;
	u32 size; /* of the answer */
	u8 *answer;
};

struct kernel_op_slots {
	pthread_mutex_t lock; /* for all but the timer, which is the thread's */
	struct kernel_op_slot slots[KERNEL_OPS_WAITING_MAX];
	u64 last_token;
	u64 patience_ns;
	struct loop_timer timer;
};

void kernel_ops_init(struct coordinator *c);
void kernel_ops_deinit(struct coordinator *c);

/* --- main --- */

/*
 * Runs a batch (kernel/ops.h) that has been checked in one freeze, by a view that nobody else uses meanwhile. Errors
 * as coordinator_freeze(), and then nothing of it was done; ERROR_BUSY, too, when main has frozen the machine. The
 * batch says how it went itself.
 */
MUST_CHECK struct error *coordinator_run_kernel_ops(struct coordinator *c, struct op_batch *batch,
						    const struct view *view);
/*
 * A guest's request (MSG_KERNEL_OP_REQUEST) comes as a frame with a token, a u64, in front of its payload, which has
 * been checked. Main claims it, carries it out, answers it. False: it has been answered, since main came too late.
 */
MUST_CHECK bool coordinator_claim_kernel_op(struct coordinator *c, u64 token);
/* The answer's payload, with the guest's id. Nothing where it is not claimed, or the machine has been taken back. */
MUST_CHECK struct error *coordinator_answer_kernel_op(struct coordinator *c, u64 token, const void *answer,
						      size_t size);
/* For tests: instead of KERNEL_OP_PATIENCE_NS, for requests that come from now on. */
void coordinator_inject_kernel_op_patience(struct coordinator *c, u64 patience_ns);

/* --- the thread --- */

/* A frame. It goes to main, with its token in front, or is answered here. Not while they are full. */
void kernel_ops_take_request(struct coordinator *c, const void *payload, size_t size);
bool kernel_ops_are_full(struct coordinator *c);
/* Answers that waited for room. */
void kernel_ops_send_answers(struct coordinator *c);
/* Nobody is there any more to be answered. */
void kernel_ops_end(struct coordinator *c);

/* As a part of a saved machine: what waits for main there is answered that it has to ask again. */
void kernel_ops_save(struct coordinator *c, struct buf *out);
/* All of `in`, instead of what there is now. False: it makes no sense, and nothing has changed. */
MUST_CHECK bool kernel_ops_load(struct coordinator *c, struct reader *in);

/* A batch of main's, which waits. */
struct cold_batch {
	struct op_batch *batch;
	const struct view *view;
};

/* Freezes, runs it. Errors are the freeze's; the batch has its own. */
MUST_CHECK struct error *kernel_ops_run_cold(struct coordinator *c, const struct cold_batch *cold);

#endif
