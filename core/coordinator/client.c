// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "coordinator/internal.h"
#include "coordinator/monitoring.h"
#include "coordinator/periodic.h"
#include "coordinator/sentinel.h"
#include "coordinator/watching.h"
#include "machine/frozen.h"

/* Waits for fd, or a signal. False when the deadline came first. */
static struct error *wait_for(int fd, u64 deadline_ns, bool *ready)
{
	struct pollfd p[] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = interrupt_fd(), .events = POLLIN },
	};
	u64 now = clock_now_ns();
	u64 left = deadline_ns > now ? deadline_ns - now : 0;
	struct timespec ts = { .tv_sec = (time_t)(left / NSEC_PER_SEC), .tv_nsec = (long)(left % NSEC_PER_SEC) };

	*ready = false;
	if (ppoll(p, ARRAY_SIZE(p), deadline_ns == UINT64_MAX ? NULL : &ts, NULL) < 0 && errno != EINTR)
		return error_create_errno("waiting for the machine");
	if (interrupt_signal())
		return interrupt_error();
	*ready = p[0].revents || deadline_ns == UINT64_MAX || clock_now_ns() < deadline_ns;
	return NULL;
}

struct error *coordinator_send(struct coordinator *c, u32 type, const void *payload, size_t size, u64 timeout_ns)
{
	u64 deadline = clock_deadline_ns(timeout_ns);

	if (size > WIRE_PAYLOAD_MAX)
		return error_create(ERROR_INVALID, "a frame of %zu bytes: at most %d are possible", size,
				    WIRE_PAYLOAD_MAX);
	for (;;) {
		outbox_clear_space(&c->outbox);
		if (__atomic_load_n(&c->over, __ATOMIC_SEQ_CST))
			return error_create(ERROR_ENDED, "the machine has ended");
		if (outbox_put(&c->outbox, type, payload, size)) {
			coordinator_post(c, REQUEST_SEND);
			return NULL;
		}

		bool ready;
		struct error *err = wait_for(c->outbox.space_fd, deadline, &ready);

		if (err)
			return err;
		if (!ready)
			return error_create(ERROR_TIMEOUT, "the guest takes in no frames");
	}
}

/* The next frame, or NULL; lets a coordinator that waits for room go on. */
static struct mail *take(struct coordinator *c, bool *closed)
{
	struct mail *m = mailbox_take(&c->mailbox, closed);

	if (m && __atomic_load_n(&c->starved, __ATOMIC_SEQ_CST))
		coordinator_post(c, REQUEST_RESUME);
	return m;
}

struct error *coordinator_recv(struct coordinator *c, u64 timeout_ns, enum coordinator_event *event,
			       struct mail **mail)
{
	u64 deadline = clock_deadline_ns(timeout_ns);

	for (;;) {
		bool closed, ready;

		mailbox_clear_event(&c->mailbox);
		// Before what the guest has said since.
		*mail = NULL;
		*event = COORDINATOR_WATCH;
		if (__atomic_exchange_n(&c->watching.is_new, false, __ATOMIC_ACQ_REL))
			return NULL;
		*mail = take(c, &closed);
		*event = COORDINATOR_FRAME;
		if (*mail)
			return NULL;
		*event = COORDINATOR_PLAN;
		if (__atomic_exchange_n(&c->planning.wanted, false, __ATOMIC_ACQ_REL))
			return NULL;
		*event = COORDINATOR_CONSOLE;
		if (__atomic_exchange_n(&c->console_is_new, false, __ATOMIC_ACQ_REL))
			return NULL;
		*event = COORDINATOR_ENDED;
		if (closed)
			return NULL;

		struct error *err = wait_for(c->mailbox.fd, deadline, &ready);

		if (err)
			return err;
		*event = COORDINATOR_TIMEOUT;
		if (!ready)
			return NULL;
	}
}

void coordinator_wake_on_console(struct coordinator *c, bool on)
{
	__atomic_store_n(&c->wake_on_console, on, __ATOMIC_RELEASE);
}

/* --- freezing --- */

static void post_call(void *ctx)
{
	coordinator_post(ctx, REQUEST_CALL);
}

static enum hold hold_of(const struct coordinator *c)
{
	return (enum hold)__atomic_load_n(&c->hold, __ATOMIC_SEQ_CST);
}

/* Tells main, once, that its freeze was ended by the limit; or asks. */
static struct error *ask_frozen(struct coordinator *c, const struct call *call, u32 *result)
{
	struct error *err = NULL;

	if (hold_of(c) == HOLD_FROZEN)
		err = call_slot_ask(&c->call, call, post_call, c, result);
	else if (hold_of(c) == HOLD_NONE && __atomic_load_n(&c->over, __ATOMIC_SEQ_CST))
		return error_create(ERROR_ENDED, "the machine has ended");
	else if (hold_of(c) != HOLD_EXPIRED)
		return error_create(ERROR_RUNNING, "the machine is not frozen");
	// The limit may have come in between.
	if (hold_of(c) != HOLD_EXPIRED)
		return err;
	error_destroy(err);
	__atomic_store_n(&c->hold, HOLD_NONE, __ATOMIC_SEQ_CST);
	return error_create(ERROR_FREEZE_LIMIT, "freeze limit: the machine has been thawed");
}

struct error *coordinator_freeze(struct coordinator *c, u64 limit_ns)
{
	const struct call call = { .kind = CALL_FREEZE, .limit_ns = limit_ns };

	if (hold_of(c) == HOLD_FROZEN)
		return error_create(ERROR_FROZEN, "the machine is frozen already");
	// A limit that main was not told of. A watch's freeze stays: it is not main's yet.
	if (hold_of(c) == HOLD_EXPIRED)
		__atomic_store_n(&c->hold, HOLD_NONE, __ATOMIC_SEQ_CST);
	return call_slot_ask(&c->call, &call, post_call, c, NULL);
}

struct error *coordinator_thaw(struct coordinator *c)
{
	struct error *err = ask_frozen(c, &(struct call){ .kind = CALL_THAW }, NULL);

	// They are free to go, and asleep. Somebody may have frozen them again by now: then they stay.
	if (!err)
		rendezvous_wake(machine_rendezvous(c->machine));
	return err;
}

bool coordinator_is_frozen(const struct coordinator *c)
{
	return hold_of(c) == HOLD_FROZEN;
}

u32 coordinator_expirations(const struct coordinator *c)
{
	return __atomic_load_n(&c->expirations, __ATOMIC_SEQ_CST);
}

const u32 *coordinator_expirations_at(const struct coordinator *c)
{
	return &c->expirations;
}

void coordinator_on_limit(struct coordinator *c, void (*hook)(void *ctx), void *ctx)
{
	c->limit_hook = hook;
	c->limit_ctx = ctx;
}

struct error *coordinator_visit(struct coordinator *c, struct error *(*visit)(struct coordinator *c, void *arg),
				void *arg)
{
	return ask_frozen(c, &(struct call){ .kind = CALL_LOOK, .look = visit, .arg = arg }, NULL);
}

struct regs_look {
	u32 cpu;
	struct kvm_regs *regs;
	struct kvm_sregs *sregs;
};

static struct error *look_at_regs(struct coordinator *c, void *arg)
{
	const struct regs_look *l = arg;

	return machine_get_regs(c->machine, l->cpu, l->regs, l->sregs);
}

struct error *coordinator_get_regs(struct coordinator *c, u32 cpu, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	return coordinator_visit(c, look_at_regs, &(struct regs_look){ cpu, regs, sregs });
}

struct msr_look {
	u32 cpu, index;
	u64 *ret;
};

static struct error *look_at_msr(struct coordinator *c, void *arg)
{
	const struct msr_look *l = arg;

	return machine_get_msr(c->machine, l->cpu, l->index, l->ret);
}

struct error *coordinator_get_msr(struct coordinator *c, u32 cpu, u32 index, u64 *ret)
{
	return coordinator_visit(c, look_at_msr, &(struct msr_look){ cpu, index, ret });
}

struct memory_look {
	u64 gpa;
	void *data;
	size_t size;
};

static struct error *look_at_memory(struct coordinator *c, void *arg)
{
	const struct memory_look *l = arg;
	const void *at = guest_memory_at(machine_memory(c->machine), l->gpa, l->size);

	if (!at)
		return error_create(ERROR_INVALID, "[0x%llx, +0x%zx) is not the guest's RAM",
				    (unsigned long long)l->gpa,
				    l->size);
	memcpy(l->data, at, l->size);
	return NULL;
}

struct error *coordinator_read_physical(struct coordinator *c, u64 gpa, void *data, size_t size)
{
	return coordinator_visit(c, look_at_memory, &(struct memory_look){ gpa, data, size });
}

static struct error *look_at_all_memory(struct coordinator *c, void *arg)
{
	const struct guest_memory *memory = machine_memory(c->machine);
	u32 *crc = arg;

	*crc = (u32)crc32_z(0, memory->base, memory->size);
	return NULL;
}

struct error *coordinator_memory_crc(struct coordinator *c, u32 *ret)
{
	return coordinator_visit(c, look_at_all_memory, ret);
}

struct error *coordinator_step(struct coordinator *c, u32 cpu, u32 count, u64 limit_ns, u32 *executed)
{
	const struct call call = { .kind = CALL_STEP, .cpu = cpu, .count = count, .limit_ns = limit_ns };

	return ask_frozen(c, &call, executed);
}

static struct error *ask_capture(struct coordinator *c, struct call *call, const char *tag)
{
	if (!snapshot_tag_is_good(tag))
		return error_create(ERROR_INVALID, "a capture's name has 1 to %d printable characters",
				    WIRE_TAG_SIZE);
	snprintf(call->tag, sizeof(call->tag), "%s", tag);
	return call_slot_ask(&c->call, call, post_call, c, NULL);
}

struct error *coordinator_capture(struct coordinator *c, const char *tag)
{
	return ask_capture(c, &(struct call){ .kind = CALL_CAPTURE, .source = FREEZE_MAIN }, tag);
}

struct error *coordinator_capture_early(struct coordinator *c, bool *taken)
{
	u32 result = 0;
	struct error *err = call_slot_ask(&c->call, &(struct call){ .kind = CALL_EARLY, .source = FREEZE_FAILURE },
					  post_call, c, &result);

	*taken = result;
	return err;
}

struct error *coordinator_run_kernel_ops(struct coordinator *c, struct op_batch *batch, const struct view *view)
{
	struct cold_batch cold = { .batch = batch, .view = view };
	const struct call call = { .kind = CALL_KERNEL_OPS, .source = FREEZE_KERNEL_OP, .arg = &cold };

	return call_slot_ask(&c->call, &call, post_call, c, NULL);
}

struct error *coordinator_inject_capture(struct coordinator *c, enum freeze_source source, const char *tag)
{
	return ask_capture(c, &(struct call){ .kind = CALL_INJECT, .source = source }, tag);
}

struct capture_store *coordinator_captures(struct coordinator *c)
{
	return &c->captures;
}

void coordinator_freeze_counts(const struct coordinator *c, struct freeze_counts ret[FREEZE_SOURCES])
{
	for (u32 i = 0; i < FREEZE_SOURCES; i++) {
		const struct freeze_counts *counts = &c->counts[i];

		ret[i] = (struct freeze_counts){
			.done = __atomic_load_n(&counts->done, __ATOMIC_RELAXED),
			.busy = __atomic_load_n(&counts->busy, __ATOMIC_RELAXED),
			.timeout = __atomic_load_n(&counts->timeout, __ATOMIC_RELAXED),
			.failed = __atomic_load_n(&counts->failed, __ATOMIC_RELAXED),
		};
	}
}

struct error *coordinator_start_monitor(struct coordinator *c, struct monitor *m, u64 interval_ns)
{
	const struct call call = { .kind = CALL_MONITOR, .monitor = m, .limit_ns = interval_ns };

	if (!interval_ns || monitor_cpus(m) != machine_cpus(c->machine))
		return error_create(ERROR_INVALID, "a monitor of %u CPUs, each %llu ns, for a machine with %u",
				    monitor_cpus(m), (unsigned long long)interval_ns, machine_cpus(c->machine));
	return call_slot_ask(&c->call, &call, post_call, c, NULL);
}

struct error *coordinator_stop_monitor(struct coordinator *c, struct monitor *m)
{
	return call_slot_ask(&c->call, &(struct call){ .kind = CALL_MONITOR, .monitor = m }, post_call, c, NULL);
}

struct error *coordinator_inject_periodic(struct coordinator *c, u64 period_ns)
{
	return call_slot_ask(&c->call, &(struct call){ .kind = CALL_TICK, .limit_ns = period_ns }, post_call, c, NULL);
}

struct error *coordinator_inject_patience(struct coordinator *c, u64 patience_ns)
{
	return call_slot_ask(&c->call, &(struct call){ .kind = CALL_PATIENCE, .limit_ns = patience_ns }, post_call, c,
			     NULL);
}

struct error *coordinator_inject_deafness(struct coordinator *c, u32 cpu, u64 duration_ns)
{
	return machine_make_deaf(c->machine, cpu, clock_deadline_ns(duration_ns));
}

void coordinator_inject_late_failure(struct coordinator *c)
{
	__atomic_store_n(&c->failure_comes_late, true, __ATOMIC_RELAXED);
}

/* --- the end --- */

void coordinator_kill(struct coordinator *c)
{
	coordinator_post(c, REQUEST_KILL);
}

static bool find_sentinel(struct machine *m, s32 *code)
{
	struct buf text = BUF_INIT;

	textlog_read(machine_last_words(m), 0, &text);

	bool found = !text.failed && sentinel_find(text.data, text.size, code);

	buf_deinit(&text);
	return found;
}

static void collect(struct coordinator *c)
{
	struct run_result *r = &c->result;

	pthread_join(c->thread, NULL);
	c->thread_created = false;
	machine_join(c->machine);
	r->machine = *machine_result(c->machine);
	r->channel = c->reader.stats;
	r->exit_code = r->machine.code;
	strcpy(r->warnings, c->warnings);
	r->failure = c->failure;
	strcpy(r->failure_line, c->failure_line);
	r->reported = c->reported;
	if (c->reported)
		r->exit_code = c->exit_code;
	else
		r->reported = find_sentinel(c->machine, &r->exit_code);
	c->ended = true;
}

/* What main is asked from now on it does not hear. */
static void stop_answering(struct coordinator *c)
{
	coordinator_wake_on_plan(c, false);
	coordinator_post(c, 0);
}

struct error *coordinator_join(struct coordinator *c, struct run_result *ret)
{
	enum coordinator_event event = COORDINATOR_FRAME;

	stop_answering(c);
	while (!c->ended && event != COORDINATOR_ENDED) {
		struct mail *mail = NULL;
		struct error *err = coordinator_recv(c, UINT64_MAX, &event, &mail);

		if (err)
			return err;
		free(mail);
	}
	if (!c->ended)
		collect(c);
	*ret = c->result;
	return NULL;
}

/* Like a join, but a signal does not stop it: it is short, since everybody has been told to end. */
static void end_thread(struct coordinator *c)
{
	struct pollfd p = { .fd = c->mailbox.fd, .events = POLLIN };
	bool closed = false;

	stop_answering(c);
	coordinator_kill(c);
	while (!closed) {
		mailbox_clear_event(&c->mailbox);

		struct mail *m = take(c, &closed);

		if (m) {
			closed = false;
			free(m);
		} else if (!closed) {
			poll(&p, 1, -1);
		}
	}
	collect(c);
}

void coordinator_destroy(struct coordinator *c)
{
	if (!c)
		return;
	if (c->thread_created)
		end_thread(c);
	monitoring_deinit(c);
	watching_deinit(c);
	loop_deinit(&c->loop);
	captures_deinit(c);
	periodic_deinit(c);
	kernel_ops_deinit(c);
	pthread_mutex_destroy(&c->warnings_lock);
	call_slot_deinit(&c->call);
	outbox_deinit(&c->outbox);
	mailbox_deinit(&c->mailbox);
	free(c->reader_buffer);
	if (c->request_fd >= 0)
		close(c->request_fd);
	free(c);
}
