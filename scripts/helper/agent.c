// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One port of the helper machine: takes a request, runs its session, carries its streams.
 *
 * Nothing blocks: the port's and the command's descriptors are non-blocking, and output is read
 * only when there is room to send it, so a slow reader on the host slows the command down as a
 * full pipe would.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	FRAME_SIZE = sizeof(struct frame_header) + FRAME_MAX,
	OUT_SIZE = 8 * FRAME_SIZE,
};

struct agent {
	int port;
	int signals; /* a signalfd: SIGCHLD, and SIGIO when the host comes or goes */
	int away; /* nobody has the host's end open */
	struct session session;

	uint8_t nonce[NONCE_SIZE];
	char *request;
	size_t request_size;
	int request_done;

	size_t in_size, out_size, stdin_size;
	int stdin_end;
	char in[FRAME_SIZE];
	char out[OUT_SIZE];
	char stdin_data[STDIN_WINDOW];
};

static void send_frame(struct agent *a, enum frame_type type, const void *data, uint32_t size)
{
	struct frame_header h = { .type = type, .length = size };

	// The callers saw to the room; small frames have a reserve of one whole frame.
	if (a->out_size + sizeof(h) + size > sizeof(a->out))
		return;
	memcpy(a->out + a->out_size, &h, sizeof(h));
	if (size)
		memcpy(a->out + a->out_size + sizeof(h), data, size);
	a->out_size += sizeof(h) + size;
}

static int has_room(const struct agent *a)
{
	return a->out_size + 2 * FRAME_SIZE <= sizeof(a->out);
}

static void end_session(struct agent *a)
{
	session_end(&a->session);
	a->stdin_size = 0;
	a->stdin_end = 0;
}

static void exit_frame(struct agent *a, int wait_status)
{
	uint32_t code = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) :
						   WEXITSTATUS(wait_status);

	send_frame(a, FRAME_EXIT, &code, sizeof(code));
}

static void set_clock(const void *data)
{
	struct timespec now;
	uint64_t host;

	memcpy(&host, data, sizeof(host));
	clock_gettime(CLOCK_REALTIME, &now);

	int64_t off = (int64_t)(host - (now.tv_sec * 1000000000ull + now.tv_nsec));

	// The firmware's clock counts seconds, and the host may have slept. A clock that is behind
	// the host's makes files from the future, and is corrected. One that seems ahead may only
	// show how long the frame was under way: then another command that measures is worth more.
	if (off > 50000000 || off < -2000000000) {
		struct timespec right = { host / 1000000000, host % 1000000000 };

		clock_settime(CLOCK_REALTIME, &right);
	}
}

static void go(struct agent *a, const void *data)
{
	const struct request *r = (const void *)a->request;

	if (!a->request_done || a->session.pid)
		return;
	set_clock(data);
	if (a->request_size >= sizeof(*r) && r->flags & REQUEST_PING) {
		exit_frame(a, 0);
	} else if (session_start(&a->session, a->request, a->request_size)) {
		char text[128];
		int n = snprintf(text, sizeof(text), "with-kvm: helper: cannot start: %s\n",
				 strerror(errno));

		send_frame(a, FRAME_STDERR, text, n);
		exit_frame(a, W_EXITCODE(125, 0));
	}
	a->request_done = 0;
}

static void request_append(struct agent *a, const void *data, size_t size)
{
	if (a->request_size + size > REQUEST_MAX)
		return;
	char *bigger = realloc(a->request, a->request_size + size);

	if (!bigger)
		return;
	a->request = bigger;
	memcpy(a->request + a->request_size, data, size);
	a->request_size += size;
}

static void started(struct agent *a)
{
	char text[sizeof(WIRE_MAGIC) + NONCE_SIZE];

	a->request_done = 1;
	memcpy(text, WIRE_MAGIC, sizeof(WIRE_MAGIC));
	memcpy(text + sizeof(WIRE_MAGIC), a->nonce, NONCE_SIZE);
	send_frame(a, FRAME_STARTED, text, sizeof(text));
}

static void take_stdin(struct agent *a, const void *data, size_t size)
{
	if (!size)
		a->stdin_end = 1;
	if (a->session.in < 0 || a->stdin_size + size > sizeof(a->stdin_data))
		return;
	memcpy(a->stdin_data + a->stdin_size, data, size);
	a->stdin_size += size;
}

static void handle_frame(struct agent *a, int type, const char *data, size_t size)
{
	uint32_t number;
	uint16_t window[2];

	switch (type) {
	case FRAME_REQUEST:
		if (size != NONCE_SIZE)
			return;
		end_session(a);
		memcpy(a->nonce, data, NONCE_SIZE);
		a->request_size = 0;
		a->request_done = 0;
		break;
	case FRAME_REQUEST_DATA:
		request_append(a, data, size);
		break;
	case FRAME_REQUEST_END:
		started(a);
		break;
	case FRAME_GO:
		if (size == sizeof(uint64_t))
			go(a, data);
		break;
	case FRAME_STDIN:
		take_stdin(a, data, size);
		break;
	case FRAME_SIGNAL:
		if (size != sizeof(number))
			return;
		memcpy(&number, data, sizeof(number));
		session_signal(&a->session, number);
		break;
	case FRAME_WINSIZE:
		if (size != sizeof(window))
			return;
		memcpy(window, data, sizeof(window));
		session_resize(&a->session, window[0], window[1]);
		break;
	}
}

static int plausible(const struct frame_header *h)
{
	return h->type >= FRAME_REQUEST && h->type <= FRAME_EXIT && h->length <= FRAME_MAX &&
	       !h->reserved[0] && !h->reserved[1] && !h->reserved[2];
}

static void parse(struct agent *a)
{
	size_t at = 0;

	while (at < a->in_size) {
		struct frame_header h;
		size_t left = a->in_size - at;

		if (a->in[at] == FRAME_PAD) {
			at++;
			continue;
		}
		if (left < sizeof(h))
			break;
		memcpy(&h, a->in + at, sizeof(h));
		if (!plausible(&h)) {
			at++;
			continue;
		}
		if (left < sizeof(h) + h.length)
			break;
		handle_frame(a, h.type, a->in + at + sizeof(h), h.length);
		at += sizeof(h) + h.length;
	}
	a->in_size -= at;
	memmove(a->in, a->in + at, a->in_size);
}

static void port_read(struct agent *a)
{
	ssize_t n = read(a->port, a->in + a->in_size, sizeof(a->in) - a->in_size);

	if (n > 0) {
		a->in_size += n;
		parse(a);
	}
}

static void port_write(struct agent *a)
{
	ssize_t n = write(a->port, a->out, a->out_size);

	if (n > 0) {
		a->out_size -= n;
		memmove(a->out, a->out + n, a->out_size);
	}
}

/* Whether there was something, or may be more. */
static int carry_output(struct agent *a, int *fd, enum frame_type type)
{
	char data[FRAME_MAX];

	if (*fd < 0)
		return 0;
	if (!has_room(a))
		return 1;
	ssize_t n = read(*fd, data, sizeof(data));

	if (n > 0) {
		send_frame(a, type, data, n);
		return 1;
	}
	// A terminal whose last user is gone says EIO.
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(*fd);
		*fd = -1;
	}
	return 0;
}

static void carry_input(struct agent *a)
{
	struct session *s = &a->session;

	if (s->in >= 0 && a->stdin_size) {
		ssize_t n = write(s->in, a->stdin_data, a->stdin_size);

		if (n > 0) {
			uint32_t credit = n;

			a->stdin_size -= n;
			memmove(a->stdin_data, a->stdin_data + n, a->stdin_size);
			send_frame(a, FRAME_CREDIT, &credit, sizeof(credit));
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			// Nobody reads it any more: take the rest and forget it.
			a->stdin_size = 0;
			a->stdin_end = 1;
		}
	}
	if (s->in >= 0 && a->stdin_end && !a->stdin_size) {
		close(s->in);
		s->in = -1;
	}
}

static void take_signals(struct agent *a)
{
	struct signalfd_siginfo info;

	while (read(a->signals, &info, sizeof(info)) > 0)
		;
	// Signals of a kind are merged: look at the state, not at what came.
	if (a->session.pid && !a->session.exited &&
	    waitpid(a->session.pid, &a->session.status, WNOHANG) == a->session.pid)
		a->session.exited = 1;

	struct pollfd p = { .fd = a->port, .events = POLLIN };

	poll(&p, 1, 0);
	a->away = (p.revents & POLLHUP) != 0;
}

static void step(struct agent *a)
{
	struct session *s = &a->session;
	int room = has_room(a);
	struct pollfd p[] = {
		{ .fd = a->signals, .events = POLLIN },
		{ .fd = a->away ? -1 : a->port, .events = POLLIN | (a->out_size ? POLLOUT : 0) },
		{ .fd = room ? s->out : -1, .events = POLLIN },
		{ .fd = room ? s->err : -1, .events = POLLIN },
		{ .fd = a->stdin_size ? s->in : -1, .events = POLLOUT },
	};

	if (poll(p, 5, s->exited && room ? 0 : -1) < 0)
		return;
	if (p[0].revents)
		take_signals(a);
	if (p[1].revents & POLLHUP)
		a->away = 1;
	if (a->away) {
		// The client is gone, and with it whoever would read this.
		end_session(a);
		a->out_size = 0;
		return;
	}
	if (p[1].revents & POLLIN)
		port_read(a);
	if (p[1].revents & POLLOUT)
		port_write(a);
	carry_input(a);

	int more = carry_output(a, &s->out, FRAME_STDOUT);

	more |= carry_output(a, &s->err, FRAME_STDERR);
	if (s->exited && !more) {
		int status = s->status;

		end_session(a);
		exit_frame(a, status);
	}
}

void agent_run(const char *path, int slot)
{
	struct agent *a = calloc(1, sizeof(*a));
	sigset_t set;

	if (!a)
		_exit(1);
	a->session = (struct session){ .slot = slot, .in = -1, .out = -1, .err = -1 };
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	a->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	a->port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (a->signals < 0 || a->port < 0) {
		fprintf(stderr, "helper: %s: %s\n", path, strerror(errno));
		_exit(1);
	}
	fcntl(a->port, F_SETOWN, getpid());
	fcntl(a->port, F_SETFL, O_NONBLOCK | O_ASYNC);
	for (;;)
		step(a);
}
