/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine put together: KVM, memory, kernel, firmware tables, devices; and its vCPUs' threads.
 * Depends on everything above it in core/. Nobody but the coordinator serves its device queues.
 * A machine ends once, for one reason; machine_stop() may be called any time, from any thread.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include "base/error.h"
#include "base/topology.h"
#include "base/types.h"
#include "device/virtio_console.h"
#include "image/kernel.h"
#include "kernel/view.h"
#include "machine/textlog.h"
#include "x86/cpuid.h"

/* How the BSP's loop ended. */
enum exit_reason {
	EXIT_EXTERNAL_KILL, /* somebody else asked: the user, or an AP that saw the end */
	EXIT_SHUTDOWN, /* the BSP itself saw the guest reset or power off: the only one with code 0 */
	EXIT_FATAL, /* failed entry, internal error, triple fault */
	EXIT_RUN_ERROR, /* KVM_RUN failed for good */
	EXIT_TIMEOUT, /* the wall-clock budget ran out */
};

/* "ExternalKill", "Shutdown", ... */
const char *exit_reason_name(enum exit_reason reason);

struct machine_config {
	const struct kernel_image *kernel; /* used while the machine is created */
	const void *initrd; /* likewise; NULL for none */
	size_t initrd_size;
	const char *cmdline; /* likewise */
	struct topology topology;
	bool kaslr; /* where the image can be relocated */
	bool la57; /* 5-level paging at entry */
	bool steal_time; /* PV steal time shown to the guest */
	enum invariant_tsc invariant_tsc;
};

struct machine_result {
	enum exit_reason reason;
	int code; /* 0 for EXIT_SHUTDOWN, else -1 */
	bool timed_out;
	u64 run_ns; /* wall time from start to the BSP's last exit */
	char detail[512]; /* what ended it, in words; empty when there is no more to say */
};

struct machine;

/* Nothing runs yet. */
MUST_CHECK struct error *machine_create(const struct machine_config *config, struct machine **ret);
/* Stops it if it runs, joins its threads, gives everything back. NULL is allowed. */
void machine_destroy(struct machine *m);

/* Starts the vCPUs' threads; once. */
MUST_CHECK struct error *machine_start(struct machine *m);

/* Asks every vCPU to stop; the first reason given counts. Does not wait. */
void machine_stop(struct machine *m, enum exit_reason reason);
/* Whether somebody has asked. Any thread. */
bool machine_has_stop(const struct machine *m);
/* Says, before a stop, why the machine ends; the first one to know it counts. Any thread. */
void machine_set_detail(struct machine *m, const char *fmt, ...) PRINTF_LIKE(2, 3);

u32 machine_cpus(const struct machine *m);
/* Where its kernel was put, also of a machine that was saved. */
const struct placed_kernel *machine_kernel(const struct machine *m);
/* Readable once every vCPU has stopped for good. */
int machine_ended_fd(const struct machine *m);
/* Waits for that, and joins the threads. The machine's memory and devices stay until it is destroyed. */
void machine_join(struct machine *m);
/* Valid after machine_join(). */
const struct machine_result *machine_result(const struct machine *m);

/* For the coordinator's thread, which serves its queues. */
struct virtio_console *machine_virtio_console(struct machine *m);
/* Who takes a port's bytes; before the start. A port that nobody listens to swallows them. */
void machine_listen(struct machine *m, u32 port, const struct console_port *listener);
struct textlog *machine_console_log(struct machine *m); /* COM1 */
struct textlog *machine_last_words(struct machine *m); /* COM2 */
/* wake(ctx, text, size) is called, on a vCPU's thread, one at a time, for COM1's new text. Set before the start. */
void machine_on_console(struct machine *m, void (*wake)(void *ctx, const void *text, size_t size), void *ctx);

#endif
