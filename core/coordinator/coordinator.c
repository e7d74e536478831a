// SPDX-License-Identifier: GPL-2.0-or-later
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/failure.h"
#include "coordinator/internal.h"
#include "coordinator/monitoring.h"
#include "coordinator/periodic.h"
#include "coordinator/watching.h"
#include "machine/frozen.h"
#include "machine/watch.h"

/* Frames that wait for main: beyond this the guest has to wait. */
enum { MAILBOX_LIMIT = 8 << 20 };

void coordinator_post(struct coordinator *c, u32 request)
{
	u64 one = 1;

	__atomic_fetch_or(&c->requests, request, __ATOMIC_ACQ_REL);

	ssize_t ignored = write(c->request_fd, &one, sizeof(one));

	(void)ignored;
}

void coordinator_warn(struct coordinator *c, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log_line("%s", line);
	pthread_mutex_lock(&c->warnings_lock);

	size_t used = strlen(c->warnings);

	// What does not fit any more is the same over and over again.
	if (used + strlen(line) + 2 <= sizeof(c->warnings))
		sprintf(c->warnings + used, "%s\n", line);
	pthread_mutex_unlock(&c->warnings_lock);
}

/* --- the coordinator's thread: from the guest --- */

static void deliver(struct coordinator *c, const struct frame *f)
{
	struct wire_exit report;

	if (f->type == MSG_SNAPSHOT_REQUEST) {
		captures_take_request(c, f->payload, f->length);
		return;
	}
	if (f->type == MSG_KERNEL_OP_REQUEST) {
		kernel_ops_take_request(c, f->payload, f->length);
		return;
	}
	periodic_take_frame(c, f->type);
	if (f->type == MSG_EXIT && f->length == sizeof(report)) {
		memcpy(&report, f->payload, sizeof(report));
		c->reported = true;
		c->exit_code = report.code;
	}
	if (!mailbox_put(&c->mailbox, f->type, f->payload, f->length)) {
		machine_set_detail(c->machine, "the host has no memory for a frame of %u bytes", f->length);
		machine_stop(c->machine, EXIT_FATAL);
	}
}

/* A request for a capture is carried out, and answered, before anything behind it is read. */
static bool has_unanswered_request(struct coordinator *c)
{
	return c->is_asked || c->reply.pending || kernel_ops_are_full(c);
}

/* Hands out the frames that are complete, while there is room. False: some have to wait. */
static bool deliver_frames(struct coordinator *c)
{
	struct frame f;

	while (!has_unanswered_request(c) && mailbox_has_room(&c->mailbox)) {
		if (!frame_reader_next(&c->reader, &f))
			return true;
		deliver(c, &f);
	}
	if (has_unanswered_request(c))
		return false;
	__atomic_store_n(&c->starved, true, __ATOMIC_SEQ_CST);
	// Main may have made room before it could see that we wait for it.
	if (mailbox_has_room(&c->mailbox))
		coordinator_post(c, REQUEST_RESUME);
	return false;
}

static size_t on_input(void *ctx, const void *data, size_t size)
{
	struct coordinator *c = ctx;
	size_t used = 0;

	while (deliver_frames(c) && used < size) {
		u8 *space;
		size_t n = frame_reader_space(&c->reader, &space);

		if (n > size - used)
			n = size - used;
		memcpy(space, (const u8 *)data + used, n);
		frame_reader_advance(&c->reader, n);
		used += n;
	}
	return used;
}

void coordinator_resume_input(struct coordinator *c)
{
	__atomic_store_n(&c->starved, false, __ATOMIC_SEQ_CST);
	if (deliver_frames(c))
		virtio_console_resume(machine_virtio_console(c->machine), CONSOLE_PORT_FRAMES);
}

static void on_queue(void *ctx, u32 events)
{
	struct queue_source *source = ctx;
	struct coordinator *c = source->coordinator;
	struct error *err;

	if (!c->frozen) {
		virtio_console_serve(machine_virtio_console(c->machine), source->queue);
		return;
	}
	// Level-triggered: it would come again at once. The thaw takes care of it.
	source->parked = true;
	err = loop_set_events(&c->loop, &source->fd, 0);
	error_destroy(err); // it comes again then, and nothing worse
}

/* --- to the guest --- */

/* What does not go now goes when the port says that it can be written, or has been opened. */
static void push_outbox(struct coordinator *c)
{
	struct virtio_console *con = machine_virtio_console(c->machine);

	if (c->frozen)
		return;

	// Both pieces of the ring. What main has put since waits a turn, so that main and a guest that
	// takes everything at once do not keep the deadline and the other direction waiting.
	for (int piece = 0; piece < 2; piece++) {
		const u8 *data;
		size_t n = outbox_peek(&c->outbox, &data);

		if (!n)
			return;

		size_t sent = virtio_console_write(con, CONSOLE_PORT_FRAMES, data, n);

		if (sent) {
			outbox_take(&c->outbox, sent);
			captures_send_reply(c);
			kernel_ops_send_answers(c);
		}
		if (sent < n)
			return;
	}
	coordinator_post(c, REQUEST_SEND);
}

static void on_writable(void *ctx)
{
	push_outbox(ctx);
}

static void on_opened(void *ctx, bool open)
{
	if (open)
		push_outbox(ctx);
}

static const struct console_port_ops frame_port_ops = {
	.input = on_input,
	.writable = on_writable,
	.opened = on_opened,
};

/* --- requests, the deadline, the end --- */

static void on_request(void *ctx, u32 events)
{
	struct coordinator *c = ctx;
	u64 count;
	ssize_t ignored = read(c->request_fd, &count, sizeof(count));

	(void)ignored;

	u32 requests = __atomic_exchange_n(&c->requests, 0, __ATOMIC_ACQ_REL);

	if (requests & REQUEST_KILL)
		machine_stop(c->machine, EXIT_EXTERNAL_KILL);
	if (requests & REQUEST_SEND) {
		kernel_ops_send_answers(c);
		push_outbox(c);
	}
	if (requests & REQUEST_RESUME)
		coordinator_resume_input(c);
	if (requests & REQUEST_WATCH)
		watching_note(c);
	// REQUEST_CALL: whoever runs the loop looks for it, since it may freeze.
}

/* 30 s after a thaw: a vCPU that still sits in its park will not leave it. */
static void on_stuck_timer(void *ctx)
{
	struct coordinator *c = ctx;

	for (u32 i = 0; i < machine_cpus(c->machine); i++)
		if (rendezvous_is_stuck(machine_rendezvous(c->machine), i))
			coordinator_warn(c, "vCPU %u has not left its park %llu s after the machine was thawed", i,
					 FREEZE_RENDEZVOUS_TIMEOUT_NS / NSEC_PER_SEC);
}

static void on_deadline(void *ctx)
{
	struct coordinator *c = ctx;

	machine_stop(c->machine, EXIT_TIMEOUT);
}

/* A sender that waits for room sees the end. */
static void end_sending(struct coordinator *c)
{
	__atomic_store_n(&c->over, true, __ATOMIC_SEQ_CST);
	outbox_take(&c->outbox, 0);
}

static void on_ended(void *ctx, u32 events)
{
	struct coordinator *c = ctx;
	struct virtio_console *con = machine_virtio_console(c->machine);

	loop_remove_fd(&c->loop, &c->ended_source);
	machine_lift_breakpoints(c->machine);
	loop_cancel_timer(&c->loop, &c->deadline);
	captures_set_tick(c, 0);
	periodic_stop(c, "the machine ended");
	monitoring_stop(c);
	c->draining = true;
	captures_send_reply(c);
	kernel_ops_end(c);
	// At once: main may be waiting to send, and what the guest has said waits for main to take it.
	end_sending(c);
	for (u32 i = 0; i < CONSOLE_QUEUES; i++)
		virtio_kick(&con->virtio, i);
}

/* The rings do not change any more: when no queue has work, everything the guest said was read. */
static bool is_drained(struct coordinator *c)
{
	if (__atomic_load_n(&c->starved, __ATOMIC_SEQ_CST) || has_unanswered_request(c) ||
	    __atomic_load_n(&c->requests, __ATOMIC_ACQUIRE) & REQUEST_RESUME)
		return false;
	for (u32 i = 0; i < CONSOLE_QUEUES; i++) {
		struct pollfd p = { .fd = c->queues[i].fd.fd, .events = POLLIN };

		if (poll(&p, 1, 0) > 0)
			return false;
	}
	return true;
}

/*
 * vCPUs that outnumber the processors would keep this thread waiting for milliseconds each time that it has
 * something to do, which is little. Without the right to be first, it asks for short turns: those come sooner.
 */
static void raise_priority(void)
{
	// The kernel's struct sched_attr, whose header does not go with the C library's.
	const struct {
		u32 size, policy;
		u64 flags;
		s32 nice;
		u32 priority;
		u64 runtime, deadline, period;
	} short_turns = { .size = sizeof(short_turns), .runtime = 100000 };

	if (setpriority(PRIO_PROCESS, (id_t)gettid(), -20))
		syscall(SYS_sched_setattr, 0, &short_turns, 0);
}

static void *coordinator_main(void *arg)
{
	struct coordinator *c = arg;
	struct error *err = NULL;

	raise_priority();

	while (!err && !(c->draining && is_drained(c))) {
		err = loop_run_once(&c->loop, LOOP_FOREVER);
		captures_serve(c);
		hold_serve(c);
		watching_serve(c);
	}
	if (err) {
		machine_set_detail(c->machine, "the coordinator: %s", error_message(err));
		machine_stop(c->machine, EXIT_FATAL);
		error_destroy(err);
	}
	failure_serve(c); // its last words may have come with its end
	end_sending(c);
	call_slot_close(&c->call);
	mailbox_close(&c->mailbox);
	return NULL;
}

/* On a vCPU's thread. */
static void on_watch(void *ctx)
{
	coordinator_post(ctx, REQUEST_WATCH);
}

/* On a vCPU's thread. */
static void on_console(void *ctx, const void *text, size_t size)
{
	struct coordinator *c = ctx;

	failure_take_text(c, text, size);
	if (!__atomic_load_n(&c->wake_on_console, __ATOMIC_ACQUIRE))
		return;
	if (!__atomic_exchange_n(&c->console_is_new, true, __ATOMIC_ACQ_REL))
		mailbox_nudge(&c->mailbox);
}

/* --- creation --- */

static struct error *add_sources(struct coordinator *c)
{
	struct error *err = loop_add_fd(&c->loop, &c->request_source, c->request_fd, EPOLLIN, on_request, c);

	if (!err)
		err = loop_add_fd(&c->loop, &c->ended_source, machine_ended_fd(c->machine), EPOLLIN, on_ended, c);
	for (u32 i = 0; !err && i < CONSOLE_QUEUES; i++) {
		struct queue_source *source = &c->queues[i];

		source->coordinator = c;
		source->queue = i;
		err = loop_add_fd(&c->loop, &source->fd,
				  virtio_console_fd(machine_virtio_console(c->machine), i), EPOLLIN, on_queue,
				  source);
	}
	return err;
}

static struct error *init(struct coordinator *c)
{
	c->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->request_fd < 0)
		return error_create_errno("eventfd for the coordinator");
	c->reader_buffer = malloc(FRAME_BUFFER_MAX);
	if (!c->reader_buffer)
		return error_no_memory();
	frame_reader_init(&c->reader, c->reader_buffer, FRAME_BUFFER_MAX);
	c->deadline = (struct loop_timer){ .fn = on_deadline, .ctx = c };
	c->stuck_timer = (struct loop_timer){ .fn = on_stuck_timer, .ctx = c };
	c->patience_ns = FREEZE_RENDEZVOUS_TIMEOUT_NS;
	return add_sources(c);
}

/* What has its own descriptors comes first, so that one set of labels undoes it. */
struct error *coordinator_create(struct machine *m, u64 timeout_ns, struct coordinator **ret)
{
	struct coordinator *c = calloc(1, sizeof(*c));

	if (!c)
		return error_no_memory();
	c->machine = m;
	c->timeout_ns = timeout_ns;
	c->request_fd = -1;

	struct error *err = loop_init(&c->loop);

	if (err)
		goto free_coordinator;
	err = mailbox_init(&c->mailbox, MAILBOX_LIMIT);
	if (err)
		goto deinit_loop;
	err = outbox_init(&c->outbox);
	if (err)
		goto deinit_mailbox;
	err = call_slot_init(&c->call);
	if (err)
		goto deinit_outbox;
	captures_init(c);
	watching_init(c);
	kernel_ops_init(c);
	pthread_mutex_init(&c->warnings_lock, NULL);
	err = init(c);
	if (err) {
		coordinator_destroy(c);
		return err;
	}
	machine_listen(m, CONSOLE_PORT_FRAMES,
		       &(struct console_port){ .ops = &frame_port_ops, .ctx = c });
	machine_on_console(m, on_console, c);
	machine_on_watch(m, on_watch, c);
	*ret = c;
	return NULL;

deinit_outbox:
	outbox_deinit(&c->outbox);
deinit_mailbox:
	mailbox_deinit(&c->mailbox);
deinit_loop:
	loop_deinit(&c->loop);
free_coordinator:
	free(c);
	return err;
}

static struct error *start_thread(struct coordinator *c)
{
	sigset_t all, old;

	// Signals are main's; the thread inherits the mask it is created under.
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);

	int e = pthread_create(&c->thread, NULL, coordinator_main, c);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e)
		return error_create(ERROR_OS, "cannot start the coordinator's thread: %s", strerror(e));
	pthread_setname_np(c->thread, "coordinator");
	c->thread_created = true;
	return NULL;
}

struct error *coordinator_start(struct coordinator *c)
{
	c->started_ns = clock_now_ns();
	if (c->timeout_ns)
		loop_set_timer(&c->loop, &c->deadline, clock_deadline_ns(c->timeout_ns));

	struct error *err = machine_start(c->machine);

	if (!err)
		err = start_thread(c);
	if (err) {
		// vCPUs that did start call back here until they have ended, and nobody else waits for them.
		machine_stop(c->machine, EXIT_EXTERNAL_KILL);
		machine_join(c->machine);
	}
	return err;
}
