// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/coordinator.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/loop.h"
#include "coordinator/outbox.h"

/* Frames that wait for main: beyond this the guest has to wait. */
enum { MAILBOX_LIMIT = 8 << 20 };

/* What main asks of the coordinator's thread. */
enum request {
	REQUEST_SEND = 1 << 0, /* there is something in the outbox */
	REQUEST_RESUME = 1 << 1, /* there is room in the mailbox again */
	REQUEST_KILL = 1 << 2,
};

struct queue_source {
	struct coordinator *coordinator;
	u32 queue;
	struct loop_fd fd;
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
	struct error *failure; /* the loop itself failed */

	/* Shared. */
	struct mailbox mailbox;
	struct outbox outbox;
	int request_fd;
	u32 requests; /* enum request; atomic */
	bool starved; /* atomic: frames wait for room in the mailbox */
	bool over; /* atomic: nothing can be sent any more */
	bool wake_on_console, console_is_new; /* atomic */

	/* The thread writes them; main reads them after joining it. */
	bool reported;
	s32 exit_code;

	pthread_t thread;
	bool thread_created;
	bool ended; /* main has seen the end; result is valid */
	struct run_result result;
};

static void post(struct coordinator *c, u32 request)
{
	u64 one = 1;

	__atomic_fetch_or(&c->requests, request, __ATOMIC_ACQ_REL);

	ssize_t ignored = write(c->request_fd, &one, sizeof(one));

	(void)ignored;
}

/* --- the coordinator's thread: from the guest --- */

static void deliver(struct coordinator *c, const struct frame *f)
{
	struct wire_exit report;

	if (f->type == MSG_EXIT && f->length == sizeof(report)) {
		memcpy(&report, f->payload, sizeof(report));
		c->reported = true;
		c->exit_code = report.code;
	}
	if (!mailbox_put(&c->mailbox, f->type, f->payload, f->length))
		machine_stop(c->machine, EXIT_FATAL);
}

/* Hands out the frames that are complete, while there is room. False: some have to wait. */
static bool deliver_frames(struct coordinator *c)
{
	struct frame f;

	while (mailbox_has_room(&c->mailbox)) {
		if (!frame_reader_next(&c->reader, &f))
			return true;
		deliver(c, &f);
	}
	__atomic_store_n(&c->starved, true, __ATOMIC_SEQ_CST);
	// Main may have made room before it could see that we wait for it.
	if (mailbox_has_room(&c->mailbox))
		post(c, REQUEST_RESUME);
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

static void on_resume(struct coordinator *c)
{
	__atomic_store_n(&c->starved, false, __ATOMIC_SEQ_CST);
	if (deliver_frames(c))
		virtio_console_resume(machine_virtio_console(c->machine), CONSOLE_PORT_FRAMES);
}

static void on_queue(void *ctx, u32 events)
{
	struct queue_source *source = ctx;

	virtio_console_serve(machine_virtio_console(source->coordinator->machine), source->queue);
}

/* --- to the guest --- */

static void push_outbox(struct coordinator *c)
{
	struct virtio_console *con = machine_virtio_console(c->machine);
	const u8 *data;
	size_t n;

	while ((n = outbox_peek(&c->outbox, &data))) {
		size_t sent = virtio_console_write(con, CONSOLE_PORT_FRAMES, data, n);

		if (!sent)
			return;
		outbox_take(&c->outbox, sent);
	}
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
	if (requests & REQUEST_SEND)
		push_outbox(c);
	if (requests & REQUEST_RESUME)
		on_resume(c);
}

static void on_deadline(void *ctx)
{
	struct coordinator *c = ctx;

	machine_stop(c->machine, EXIT_TIMEOUT);
}

static void on_ended(void *ctx, u32 events)
{
	struct coordinator *c = ctx;
	struct virtio_console *con = machine_virtio_console(c->machine);

	loop_remove_fd(&c->loop, &c->ended_source);
	loop_cancel_timer(&c->loop, &c->deadline);
	c->draining = true;
	for (u32 i = 0; i < CONSOLE_QUEUES; i++)
		virtio_kick(&con->virtio, i);
}

/* The rings do not change any more: when no queue has work, everything the guest said was read. */
static bool is_drained(struct coordinator *c)
{
	if (__atomic_load_n(&c->starved, __ATOMIC_SEQ_CST))
		return false;
	for (u32 i = 0; i < CONSOLE_QUEUES; i++) {
		struct pollfd p = { .fd = c->queues[i].fd.fd, .events = POLLIN };

		if (poll(&p, 1, 0) > 0)
			return false;
	}
	return true;
}

static void finish(struct coordinator *c)
{
	__atomic_store_n(&c->over, true, __ATOMIC_SEQ_CST);
	outbox_take(&c->outbox, 0); // wakes a sender, which then sees the end
	mailbox_close(&c->mailbox);
}

static void *coordinator_main(void *arg)
{
	struct coordinator *c = arg;

	while (!c->failure && !(c->draining && is_drained(c)))
		c->failure = loop_run_once(&c->loop, LOOP_FOREVER);
	if (c->failure)
		machine_stop(c->machine, EXIT_FATAL);
	finish(c);
	return NULL;
}

/* On a vCPU's thread. */
static void on_console(void *ctx)
{
	struct coordinator *c = ctx;

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
	err = init(c);
	if (err) {
		coordinator_destroy(c);
		return err;
	}
	machine_listen(m, CONSOLE_PORT_FRAMES,
		       &(struct console_port){ .ops = &frame_port_ops, .ctx = c });
	machine_on_console(m, on_console, c);
	*ret = c;
	return NULL;

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
	if (c->timeout_ns)
		loop_set_timer(&c->loop, &c->deadline, clock_now_ns() + c->timeout_ns);

	struct error *err = machine_start(c->machine);

	if (err)
		return err;
	err = start_thread(c);
	if (err)
		machine_stop(c->machine, EXIT_EXTERNAL_KILL);
	return err;
}

/* --- main's side --- */

static u64 deadline_after(u64 timeout_ns)
{
	u64 now = clock_now_ns();

	return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

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
	u64 deadline = deadline_after(timeout_ns);

	if (size > WIRE_PAYLOAD_MAX)
		return error_create(ERROR_INVALID, "a frame of %zu bytes: at most %d are possible", size,
				    WIRE_PAYLOAD_MAX);
	for (;;) {
		outbox_clear_space(&c->outbox);
		if (__atomic_load_n(&c->over, __ATOMIC_SEQ_CST))
			return error_create(ERROR_ENDED, "the machine has ended");
		if (outbox_put(&c->outbox, type, payload, size)) {
			post(c, REQUEST_SEND);
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
		post(c, REQUEST_RESUME);
	return m;
}

struct error *coordinator_recv(struct coordinator *c, u64 timeout_ns, enum coordinator_event *event,
			       struct mail **mail)
{
	u64 deadline = deadline_after(timeout_ns);

	for (;;) {
		bool closed, ready;

		mailbox_clear_event(&c->mailbox);
		*mail = take(c, &closed);
		*event = COORDINATOR_FRAME;
		if (*mail)
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

void coordinator_kill(struct coordinator *c)
{
	post(c, REQUEST_KILL);
}

/* The last "KTSTR_EXIT:<code>" that the guest wrote to COM2, whatever else is there. */
static bool find_sentinel(struct machine *m, s32 *code)
{
	static const char sentinel[] = "KTSTR_EXIT:";
	struct buf text = BUF_INIT;
	bool found = false;

	textlog_read(machine_last_words(m), 0, &text);
	buf_put_u8(&text, 0);

	const char *p = text.failed ? NULL : (const char *)text.data;
	const char *text_end = p ? p + text.size : NULL;

	while (p && (p = memmem(p, (size_t)(text_end - p), sentinel, strlen(sentinel)))) {
		char *number_end;

		p += strlen(sentinel);

		long v = strtol(p, &number_end, 10);

		if (number_end == p || v < INT32_MIN || v > INT32_MAX)
			continue;
		*code = (s32)v;
		found = true;
	}
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
	r->reported = c->reported;
	if (c->reported)
		r->exit_code = c->exit_code;
	else
		r->reported = find_sentinel(c->machine, &r->exit_code);
	c->ended = true;
}

struct error *coordinator_join(struct coordinator *c, struct run_result *ret)
{
	enum coordinator_event event = COORDINATOR_FRAME;

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
	loop_deinit(&c->loop);
	outbox_deinit(&c->outbox);
	mailbox_deinit(&c->mailbox);
	free(c->reader_buffer);
	if (c->request_fd >= 0)
		close(c->request_fd);
	error_destroy(c->failure);
	free(c);
}
