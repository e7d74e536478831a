/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of a machine: its event loop's thread, the frames on port 1, the deadline, main's requests.
 * Depends on everything above it in core/. It alone serves the machine's device queues.
 * Two threads meet here: main calls the functions below, the coordinator's own thread does the rest.
 */
#ifndef COORDINATOR_COORDINATOR_H
#define COORDINATOR_COORDINATOR_H

#include "base/error.h"
#include "base/types.h"
#include "coordinator/mailbox.h"
#include "machine/machine.h"
#include "tlv/codec.h"

/* What a run came to: the machine's own account, overridden by the guest's report where there is one. */
struct run_result {
	struct machine_result machine;
	bool reported; /* an EXIT frame came, or the sentinel on COM2 */
	s32 exit_code; /* the guest's where it reported, else the machine's */
	struct frame_stats channel; /* what was dropped on port 1 */
};

struct coordinator;

/* The machine must outlive the coordinator. timeout_ns: wall time of the run; 0: no limit. */
MUST_CHECK struct error *coordinator_create(struct machine *m, u64 timeout_ns, struct coordinator **ret);
/* Ends the run if it has not ended. NULL is allowed. */
void coordinator_destroy(struct coordinator *c);

/* Starts the machine. Once: after an error nothing runs, and only destroying it is left. */
MUST_CHECK struct error *coordinator_start(struct coordinator *c);

/*
 * Queues a frame for the guest, and waits while the queue is full. timeout_ns: UINT64_MAX for ever.
 * ERROR_ENDED, ERROR_TIMEOUT, ERROR_INTERRUPTED, ERROR_INVALID (payload too long).
 */
MUST_CHECK struct error *coordinator_send(struct coordinator *c, u32 type, const void *payload, size_t size,
					  u64 timeout_ns);

enum coordinator_event {
	COORDINATOR_FRAME, /* *mail is the caller's, to free() */
	COORDINATOR_TIMEOUT,
	COORDINATOR_ENDED, /* the run is over and every frame was handed out */
	COORDINATOR_CONSOLE, /* new text on COM1; only after coordinator_wake_on_console() */
};

/* Waits for the next one. ERROR_INTERRUPTED when a signal came. */
MUST_CHECK struct error *coordinator_recv(struct coordinator *c, u64 timeout_ns, enum coordinator_event *event,
					  struct mail **mail);
void coordinator_wake_on_console(struct coordinator *c, bool on);

/* Asks the run to end (ExternalKill). Does not wait. */
void coordinator_kill(struct coordinator *c);
/*
 * Waits for the end. Frames that main has not taken are dropped, but a report among them counts.
 * ERROR_INTERRUPTED when a signal came first.
 */
MUST_CHECK struct error *coordinator_join(struct coordinator *c, struct run_result *ret);

#endif
