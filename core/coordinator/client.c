// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "coordinator/internal.h"
#include "coordinator/sentinel.h"

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
	free(c);
}
