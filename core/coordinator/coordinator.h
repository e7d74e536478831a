/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of a machine: its event loop's thread, the frames on port 1, the deadline, main's requests.
 * Depends on everything above it in core/. It alone serves the machine's device queues.
 * Two threads meet here: main calls the functions below, the coordinator's own thread does the rest.
 */
#ifndef COORDINATOR_COORDINATOR_H
#define COORDINATOR_COORDINATOR_H

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"
#include "capture/capture.h"
#include "capture/kernel_failure.h"
#include "capture/periodic.h"
#include "capture/plan.h"
#include "coordinator/mailbox.h"
#include "coordinator/monitor.h"
#include "kernel/printk.h"
#include "machine/machine.h"
#include "machine/watch.h"
#include "tlv/codec.h"

/* What a run came to: the machine's own account, overridden by the guest's report where there is one. */
struct run_result {
	struct machine_result machine;
	bool reported; /* an EXIT frame came, or the sentinel on COM2 */
	s32 exit_code; /* the guest's where it reported, else the machine's */
	struct frame_stats channel; /* what was dropped on port 1 */
	char warnings[4096]; /* lines: what a user should know of a run that went on */
	enum kernel_failure failure; /* that the guest's kernel told of first */
	char failure_line[KERNEL_FAILURE_LINE];
};

/* How the freezes of one source went. */
struct freeze_counts {
	u64 done, busy, timeout, failed;
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
	COORDINATOR_WATCH, /* coordinator_take_fire() has something */
	COORDINATOR_CONSOLE, /* new text on COM1; only after coordinator_wake_on_console() */
	COORDINATOR_PLAN, /* only after coordinator_wake_on_plan(): a capture waits for coordinator_set_plan() */
};

/* Waits for the next one. ERROR_INTERRUPTED when a signal came. */
MUST_CHECK struct error *coordinator_recv(struct coordinator *c, u64 timeout_ns, enum coordinator_event *event,
					  struct mail **mail);
void coordinator_wake_on_console(struct coordinator *c, bool on);

/* --- freezing; see freeze.h for what happens --- */

/*
 * Stops the machine until coordinator_thaw(), for limit_ns at most (UINT64_MAX: for as long as it takes).
 * ERROR_BUSY, ERROR_FROZEN (it is, by an earlier call), ERROR_TIMEOUT, ERROR_ENDED, ERROR_INTERRUPTED: the
 * machine runs then, if it lives.
 */
MUST_CHECK struct error *coordinator_freeze(struct coordinator *c, u64 limit_ns);
/* ERROR_RUNNING: it was not frozen. ERROR_FREEZE_LIMIT: the limit has thawed it before (said once). */
MUST_CHECK struct error *coordinator_thaw(struct coordinator *c);
bool coordinator_is_frozen(const struct coordinator *c);
/* How often a limit has thawed the machine. Safe in a Lua hook. */
u32 coordinator_expirations(const struct coordinator *c);
/* Where that number is, as long as the coordinator: to be read at once. */
const u32 *coordinator_expirations_at(const struct coordinator *c);
/* hook(ctx) is called on the coordinator's thread when a limit thaws the machine. Before the start. */
void coordinator_on_limit(struct coordinator *c, void (*hook)(void *ctx), void *ctx);

/* These are for a machine that main has frozen; errors as coordinator_thaw(), and ERROR_INVALID for their own. */
MUST_CHECK struct error *coordinator_get_regs(struct coordinator *c, u32 cpu, struct kvm_regs *regs,
					      struct kvm_sregs *sregs);
/* One model-specific register. */
MUST_CHECK struct error *coordinator_get_msr(struct coordinator *c, u32 cpu, u32 index, u64 *ret);
/* Guest-physical memory, RAM only. */
MUST_CHECK struct error *coordinator_read_physical(struct coordinator *c, u64 gpa, void *data, size_t size);
/* CRC-32 of all RAM. */
MUST_CHECK struct error *coordinator_memory_crc(struct coordinator *c, u32 *ret);
/* Calls visit(c, arg) on the coordinator's thread; the machine stays frozen as long as it takes. */
MUST_CHECK struct error *coordinator_visit(struct coordinator *c,
					   struct error *(*visit)(struct coordinator *c, void *arg), void *arg);
/*
 * Executes count instructions on one vCPU. *executed is less where the vCPU halted, or waits for its start.
 * ERROR_TIMEOUT when it took longer than limit_ns, ERROR_INTERRUPTED.
 */
MUST_CHECK struct error *coordinator_step(struct coordinator *c, u32 cpu, u32 count, u64 limit_ns, u32 *executed);

/*
 * What captures record from now on. view: of the machine's kernel; it is copied, and has to be set up. plan NULL:
 * registers and clocks alone, and reason says why. The coordinator holds the plan as long as it needs it. log: where
 * the kernel's log is, for telling what the kernel says from what a program writes to the console; NULL: not known.
 * ERROR_INVALID: the plan is for another number of CPUs; ERROR_ENDED.
 */
MUST_CHECK struct error *coordinator_set_plan(struct coordinator *c, struct plan *plan, const struct view *view,
					      const struct printk_layout *log, const char *reason);
/* Whether the first capture that the guest asks for is to wait, for seconds at most, until a plan has been set. */
void coordinator_wake_on_plan(struct coordinator *c, bool on);
/* In which phase of its scenario the script says that captures are from now on; "": in none. ERROR_ENDED. */
MUST_CHECK struct error *coordinator_set_phase(struct coordinator *c, const char *phase);
/* Freezes, records, thaws. tag: 1 to WIRE_TAG_SIZE printable characters. Errors as coordinator_freeze(). */
MUST_CHECK struct error *coordinator_capture(struct coordinator *c, const char *tag);
/*
 * The early one of a dual capture: the guest's kernel seems to be about to fail. *taken: false where there has been
 * one, or the failure itself has been recorded. Errors as coordinator_capture().
 */
MUST_CHECK struct error *coordinator_capture_early(struct coordinator *c, bool *taken);
struct capture_store *coordinator_captures(struct coordinator *c);
void coordinator_freeze_counts(const struct coordinator *c, struct freeze_counts ret[FREEZE_SOURCES]);

/* --- captures on a clock --- */

/*
 * Captures at the plan's moments, of the workload's time: freezes and pauses are taken out. It starts now, or (waits)
 * when the guest says so. Each is in the store then, or a placeholder with the reason. ERROR_BUSY: some are going on.
 */
MUST_CHECK struct error *coordinator_start_periodic(struct coordinator *c, const struct periodic_plan *plan,
						    bool waits);

enum periodic_control {
	PERIODIC_LOOK,
	PERIODIC_BEGIN, /* where it waits */
	PERIODIC_PAUSE,
	PERIODIC_RESUME,
	PERIODIC_FINISH, /* the workload has ended: what was not taken has a placeholder now */
};

struct periodic_counts {
	enum periodic_state state;
	u32 count, taken, missed;
};

/* What it has come to. ERROR_INVALID: there have been none. */
MUST_CHECK struct error *coordinator_control_periodic(struct coordinator *c, enum periodic_control control,
						      struct periodic_counts *ret);

/* --- watches --- */

/* A write that was recorded. */
struct watch_event {
	struct watch_fire fire;
	char tag[32]; /* of its record among the captures */
};

/* Both freeze, where main has not. Errors as coordinator_freeze(), and those of machine_add_watch(). */
MUST_CHECK struct error *coordinator_add_watch(struct coordinator *c, const struct watch_config *config, u32 *id);
MUST_CHECK struct error *coordinator_remove_watch(struct coordinator *c, u32 id);
struct watch_counts coordinator_watch_counts(const struct coordinator *c, u32 id);
/* The oldest that main has not taken. False: there is none. */
bool coordinator_take_fire(struct coordinator *c, struct watch_event *ret);
/* Where the machine is frozen for a watch's function, it is main's freeze from now on. False: it is not. */
bool coordinator_accept_freeze(struct coordinator *c);

/*
 * A sample now, and each interval_ns from then on, while the machine runs and is not frozen. The view that the monitor
 * was made with is this machine's. ERROR_INVALID: another number of CPUs, no interval; ERROR_ENDED.
 */
MUST_CHECK struct error *coordinator_start_monitor(struct coordinator *c, struct monitor *m, u64 interval_ns);
/* No more samples once it returns. ERROR_ENDED: then neither. */
MUST_CHECK struct error *coordinator_stop_monitor(struct coordinator *c, struct monitor *m);

/*
 * For tests: a capture by another source than main; one each period_ns (0: none); another limit than 30 s for a
 * rendezvous; a vCPU that does not park before some time has passed.
 */
MUST_CHECK struct error *coordinator_inject_capture(struct coordinator *c, enum freeze_source source,
						    const char *tag);
MUST_CHECK struct error *coordinator_inject_periodic(struct coordinator *c, u64 period_ns);
MUST_CHECK struct error *coordinator_inject_patience(struct coordinator *c, u64 patience_ns);
MUST_CHECK struct error *coordinator_inject_deafness(struct coordinator *c, u32 cpu, u64 duration_ns);
/* A failure of the guest's kernel is looked at when the machine has ended, as if the freeze had lost that race. */
void coordinator_inject_late_failure(struct coordinator *c);

/* --- saving; within coordinator_visit(), or before the start --- */

struct machine *coordinator_machine(struct coordinator *c);
/*
 * What is on its way on port 1: frames for the guest, pieces of its own, a request of its that is not answered; and
 * what it has reported. Not frames that main has not taken.
 */
void coordinator_save(struct coordinator *c, struct buf *out);
/* Instead of what is on its way now, and of frames that main has not taken. ERROR_FORMAT. */
MUST_CHECK struct error *coordinator_load(struct coordinator *c, struct reader *in);

/* --- the end --- */

/* Asks the run to end (ExternalKill). Does not wait. */
void coordinator_kill(struct coordinator *c);
/*
 * Waits for the end. Frames that main has not taken are dropped, but a report among them counts.
 * ERROR_INTERRUPTED when a signal came first.
 */
MUST_CHECK struct error *coordinator_join(struct coordinator *c, struct run_result *ret);

#endif
