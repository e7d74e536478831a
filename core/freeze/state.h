/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The words that the freeze's parts share: its sources, its limits, the states of a dual capture.
 * Depends on base and tlv/wire.h. Types, constants and the transitions between states; no behaviour beyond them.
 */
#ifndef FREEZE_STATE_H
#define FREEZE_STATE_H

#include "base/clock.h"
#include "base/error.h"
#include "base/types.h"
#include "tlv/wire.h"

/*
 * How long a rendezvous waits for every vCPU to park, and how long after a thaw one may be in its park before
 * it is reported. Far above what a healthy one needs: a real timeout is a vCPU that its kick does not reach.
 */
#define FREEZE_RENDEZVOUS_TIMEOUT_NS (30 * NSEC_PER_SEC)

/* What freezes a machine. All go through the one gate. */
enum freeze_source {
	FREEZE_MAIN, /* the script's own freeze, or its capture */
	FREEZE_GUEST, /* a CAPTURE frame */
	FREEZE_PERIODIC,
	FREEZE_WATCH, /* a vCPU hit a watchpoint */
	FREEZE_KERNEL_OP, /* a cold operation on the kernel's memory */
	FREEZE_FAILURE, /* the guest's kernel has failed */
	FREEZE_SOURCES,
};

/* "main", "guest", "periodic", "watch", "kernel-op" */
const char *freeze_source_name(enum freeze_source source);

/* A guest's MSG_SNAPSHOT_REQUEST after it has been checked. */
struct snapshot_request {
	u32 request_id; /* comes back in the reply */
	u32 kind; /* enum wire_snapshot_kind */
	char tag[WIRE_TAG_SIZE + 1]; /* printable, not empty */
};

/* Names of captures: 1 to WIRE_TAG_SIZE characters of printable ASCII. */
MUST_CHECK bool snapshot_tag_is_good(const char *tag);

/*
 * False when the payload is not one: wrong size, a tag that is empty or not printable ASCII. Where the size is
 * right request_id and kind (any number) are set all the same, so that it can be answered.
 */
MUST_CHECK bool snapshot_request_parse(const void *payload, size_t size, struct snapshot_request *ret);

/* The states of a run's dual capture. A single capture goes from IDLE to DONE. */
enum freeze_state {
	FREEZE_IDLE, /* no dump yet */
	FREEZE_TOOK_EARLY, /* the early one is there; waits for the error exit to latch */
	FREEZE_DONE, /* the late one is there, and was handed out */
};

/* "Idle", "TookEarly", "Done" */
const char *freeze_state_name(enum freeze_state state);
/* A task has waited too long: true, and the state moves, when an early capture is to be taken now. */
MUST_CHECK bool freeze_state_take_early(enum freeze_state *state, bool dual);
/* The error exit has latched: true, and the state moves, when the late capture is to be taken now. */
MUST_CHECK bool freeze_state_take_late(enum freeze_state *state);

#endif
