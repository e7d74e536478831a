/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of struct coordinator, for its two sides: coordinator.c is the thread, client.c is main.
 * Depends on coordinator.h. Each field says whose it is; what both use is atomic or has its own lock.
 */
#ifndef COORDINATOR_INTERNAL_H
#define COORDINATOR_INTERNAL_H

#include <pthread.h>

#include "base/loop.h"
#include "capture/capture.h"
#include "capture/kernel_failure.h"
#include "capture/plan.h"
#include "coordinator/call.h"
#include "coordinator/coordinator.h"
#include "coordinator/kernel_op.h"
#include "coordinator/outbox.h"
#include "freeze/gate.h"
#include "kernel/printk.h"

/* What main asks of the coordinator's thread. */
enum request {
	REQUEST_SEND = 1 << 0, /* there is something in the outbox */
	REQUEST_RESUME = 1 << 1, /* there is room in the mailbox again */
	REQUEST_KILL = 1 << 2,
	REQUEST_CALL = 1 << 3, /* main's call, or main no longer waits for it */
	REQUEST_WATCH = 1 << 4, /* from a vCPU: a watch has fired */
};

/* A device queue, served by the loop unless the machine is frozen. */
struct queue_source {
	struct coordinator *coordinator;
	u32 queue;
	struct loop_fd fd;
	bool parked; /* it became ready while frozen, and is not watched until the thaw */
};

/* Who main's own freeze belongs to, as main sees it. */
enum hold {
	HOLD_NONE,
	HOLD_FROZEN,
	HOLD_WATCH, /* a watch's freeze that is to be main's; it has not been told yet */
	HOLD_EXPIRED, /* its limit has thawed the machine; main has not been told yet */
};

struct watch_entry;

/* watching.c */
struct watching {
	/* The thread's own. */
	bool due;
	u32 recorded, lost;

	/* Shared. */
	bool is_new; /* atomic */
	pthread_mutex_t lock; /* of what follows */
	struct watch_entry *first, **last;
	u32 count;
};

struct coordinator {
	struct machine *machine;
	u64 timeout_ns;

	/* The thread's own. */
	struct loop loop;
	struct queue_source queues[CONSOLE_QUEUES];
	struct loop_fd ended_source, request_source;
	struct loop_timer deadline;
	struct frame_reader reader;
	u8 *reader_buffer;
	bool draining; /* the vCPUs have stopped; what is left in the rings is still read */

	/* The thread's own, for freezing. */
	struct gate gate;
	bool frozen; /* devices and clocks stand, too */
	u64 deadline_left_ns; /* of the run, while frozen */
	u64 started_ns, frozen_at_ns, frozen_total_ns;
	u64 patience_ns; /* of a rendezvous */
	u32 hurried_freezes; /* that many hurry the vCPUs at once */
	bool thaw_is_awaited; /* by main */
	bool warned_of_clocks;
	struct loop_timer stuck_timer; /* looks whether every vCPU has left its park */
	struct snapshot_request asked; /* a guest's request that is to be carried out */
	bool is_asked;
	struct wire_reply_slot {
		bool pending; /* the outbox had no room for it */
		u32 size;
		u8 payload[256];
	} reply;
	struct planning {
		struct plan *plan; /* held; what captures record; NULL: registers and clocks alone */
		struct view view; /* the machine's kernel as this thread sees it */
		char reason[CAPTURE_REASON_MAX]; /* why there is no plan */
		bool settled; /* main has said which it is */
		bool awaited; /* a request of the guest's waits for that */
		bool extended; /* longer, since main has heard of it */
		struct loop_timer timer; /* until then */
		u64 expected; /* bytes of the last record */
		bool asks; /* atomic, shared: main says it when it is asked */
		bool wanted; /* atomic, shared: it is asked */
		struct printk_layout log; /* where the kernel's log is; no prb: nobody has said it */
	} planning;
	enum freeze_state dump_state; /* failure.c: what has been captured of a failure */
	enum kernel_failure failure; /* that there has been, and its line */
	char failure_line[KERNEL_FAILURE_LINE];
	u64 failure_seq; /* older records of the kernel's log are of no interest */
	struct periodic *periodic; /* periodic.c; NULL: there have been none */
	struct loop_timer periodic_timer;
	struct loop_timer tick_timer; /* a timer's captures, for tests */
	u64 tick_ns;
	bool tick_due;
	u32 ticks;
	struct monitor_source *monitors; /* monitoring.c */
	u32 epoch; /* changes when the machine is taken back */
	char phase[WIRE_TAG_SIZE + 1]; /* of the script's scenario, for captures; "" */

	/* The vCPUs'; while failure_found it is the thread's. */
	struct kernel_failure_scan failure_scan;

	/* Shared. */
	bool failure_found; /* atomic */
	bool failure_comes_late; /* atomic; in tests: it is looked at when the machine has ended */
	struct mailbox mailbox;
	struct outbox outbox;
	int request_fd;
	u32 requests; /* enum request; atomic */
	bool starved; /* atomic: frames wait for room in the mailbox */
	bool over; /* atomic: nobody is there to send to any more */
	bool wake_on_console, console_is_new; /* atomic */
	struct call_slot call;
	u32 hold; /* enum hold; atomic */
	u32 expirations; /* atomic: of main's limits */
	struct capture_store captures;
	struct watching watching;
	struct kernel_op_slots kernel_ops;
	struct freeze_counts counts[FREEZE_SOURCES]; /* each of them atomic */
	void (*limit_hook)(void *ctx); /* main's, before the start */
	void *limit_ctx;
	pthread_mutex_t warnings_lock;
	char warnings[sizeof(((struct run_result *)0)->warnings)]; /* lines */

	/* The thread writes them; main reads them after joining it. */
	bool reported;
	s32 exit_code;

	pthread_t thread;
	bool thread_created;
	bool ended; /* main has seen the end; result is valid */
	struct run_result result;
};

/* Makes the thread look at a request. Any thread. */
void coordinator_post(struct coordinator *c, u32 request);

/* Says what a user should know of a run that goes on. Any thread. */
void coordinator_warn(struct coordinator *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- the thread's own --- */

/* coordinator.c: reads on where something kept frames waiting. */
void coordinator_resume_input(struct coordinator *c);

/* hold.c: serves main's call, if there is one. Not from within a callback of the loop: it may freeze. */
void hold_serve(struct coordinator *c);
/* In a watch's freeze, c->hold being HOLD_WATCH: until main thaws the machine, or the limit does, or its end. */
MUST_CHECK struct error *hold_for_watch(struct coordinator *c, u64 limit_ns);
/* The same in the middle of somebody else's freeze, where none of it can be done and none of it waits. */
void hold_serve_busy(struct coordinator *c);
/* Answers main's thaw, if that is what ends this freeze: true, and main wakes the vCPUs. */
bool hold_answer_thaw(struct coordinator *c);

/*
 * A capture on its way: begun before the freeze that it is taken in, and kept after it. What captures_keep() or
 * captures_drop() has not had is the caller's.
 */
struct shot {
	struct capture *capture;
	struct plan_run *run; /* NULL: there is no plan */
};

/* capture.c */
void captures_init(struct coordinator *c);
void captures_deinit(struct coordinator *c);
MUST_CHECK struct error *captures_begin(struct coordinator *c, enum freeze_source source, const char *tag,
					struct shot *ret);
/* In the freeze. */
MUST_CHECK struct error *captures_take(struct coordinator *c, struct shot *shot);
/* After it; *times as capture_store_put(). What goes wrong leaves nothing of the shot. */
MUST_CHECK struct error *captures_keep(struct coordinator *c, struct shot *shot, u32 *times);
void captures_drop(struct shot *shot);
/* A frame: answered now when the gate is held, else as soon as the loop's callback has returned. */
void captures_take_request(struct coordinator *c, const void *payload, size_t size);
/* In a freeze, or after the machine's end: until main has said what captures record, or clearly does not. */
void captures_await_plan(struct coordinator *c);
/* Carries out what has been asked. Not from within a callback of the loop. */
void captures_serve(struct coordinator *c);
/* Freezes, records. One that timed out is kept, too: as a placeholder. */
MUST_CHECK struct error *captures_record(struct coordinator *c, enum freeze_source source, const char *tag);
/* In place of a capture: whoever reasons about them has to know that one is missing. */
void captures_keep_placeholder(struct coordinator *c, enum freeze_source source, const char *tag, const char *why);
/* Sends a reply that had to wait. */
void captures_send_reply(struct coordinator *c);
void captures_set_tick(struct coordinator *c, u64 period_ns);

#endif
