// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/loop.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

// A callback that is on the stack. Its source is NULL once removed.
struct loop_frame {
	struct loop *loop;
	struct loop_fd *source;
	struct loop_frame *outer;
};

struct error *loop_init(struct loop *loop)
{
	CLEANUP_CLOSE int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	CLEANUP_CLOSE int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (epoll_fd < 0 || wake_fd < 0)
		return error_create_errno("cannot create an event loop");

	// The wake-up is the one source without a struct loop_fd.
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event))
		return error_create_errno("cannot watch an event loop's wake-up");
	*loop = (struct loop){ .epoll_fd = no_close(epoll_fd), .wake_fd = no_close(wake_fd) };
	return NULL;
}

void loop_deinit(struct loop *loop)
{
	close(loop->epoll_fd);
	close(loop->wake_fd);
	for (struct loop_timer *t = loop->timers; t; t = t->next)
		t->armed = false;
	*loop = (struct loop){ .epoll_fd = -1, .wake_fd = -1 };
}

static struct error *control(struct loop *loop, int op, struct loop_fd *source)
{
	struct epoll_event event = { .events = source->events, .data.ptr = source };

	if (epoll_ctl(loop->epoll_fd, op, source->fd, &event))
		return error_create_errno("cannot watch descriptor %d", source->fd);
	return NULL;
}

struct error *loop_add_fd(struct loop *loop, struct loop_fd *source, int fd, u32 events,
			  void (*fn)(void *ctx, u32 events), void *ctx)
{
	*source = (struct loop_fd){ .fd = fd, .events = events, .fn = fn, .ctx = ctx };

	struct error *err = control(loop, EPOLL_CTL_ADD, source);

	source->added = !err;
	return err;
}

struct error *loop_set_events(struct loop *loop, struct loop_fd *source, u32 events)
{
	if (source->events == events)
		return NULL;
	source->events = events;
	return source->held ? NULL : control(loop, EPOLL_CTL_MOD, source);
}

void loop_remove_fd(struct loop *loop, struct loop_fd *source)
{
	if (!source->added)
		return;
	if (!source->held)
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	for (struct loop_frame *f = loop->frames; f; f = f->outer)
		if (f->source == source)
			f->source = NULL;
	*source = (struct loop_fd){ .fd = -1 };
}

void loop_cancel_timer(struct loop *loop, struct loop_timer *timer)
{
	if (!timer->armed)
		return;
	if (timer->prev)
		timer->prev->next = timer->next;
	else
		loop->timers = timer->next;
	if (timer->next)
		timer->next->prev = timer->prev;
	timer->prev = timer->next = NULL;
	timer->armed = false;
}

void loop_set_timer(struct loop *loop, struct loop_timer *timer, u64 deadline_ns)
{
	struct loop_timer *prev = NULL;

	loop_cancel_timer(loop, timer);
	for (struct loop_timer *t = loop->timers; t && t->deadline_ns <= deadline_ns; t = t->next)
		prev = t;
	timer->deadline_ns = deadline_ns;
	timer->order = ++loop->timers_set;
	timer->armed = true;
	timer->prev = prev;
	timer->next = prev ? prev->next : loop->timers;
	if (prev)
		prev->next = timer;
	else
		loop->timers = timer;
	if (timer->next)
		timer->next->prev = timer;
}

void loop_wake(struct loop *loop)
{
	int saved = errno; // a signal handler may be calling
	u64 one = 1;

	// It fails only when the counter is full, and then the loop wakes up anyway.
	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		errno = saved;
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stopped, true, __ATOMIC_RELEASE);
	loop_wake(loop);
}

static void leave_frame(struct loop_frame *frame)
{
	frame->loop->frames = frame->outer;
	if (frame->source)
		frame->source->running = false;
}

static struct error *call_fd(struct loop *loop, struct loop_fd *source, u32 events)
{
	// A nested run found a source ready whose callback is still on the stack. Only taking it out
	// silences it: EPOLLERR and EPOLLHUP cannot be masked.
	if (source->running) {
		source->held = true;
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
		return NULL;
	}

	CLEANUP(leave_frame)
	struct loop_frame frame = { loop, source, loop->frames };

	loop->frames = &frame;
	source->running = true;
	source->fn(source->ctx, events);
	if (!frame.source || !source->held)
		return NULL;
	source->held = false;
	return control(loop, EPOLL_CTL_ADD, source);
}

// Those that were due and armed when it began: one that sets itself to the past waits a turn.
static void call_timers(struct loop *loop)
{
	if (!loop->timers)
		return;

	u64 now = clock_now_ns();
	u64 last = loop->timers_set;
	struct loop_timer *t = loop->timers;

	while (t && t->deadline_ns <= now) {
		if (t->order > last) {
			t = t->next;
			continue;
		}
		loop_cancel_timer(loop, t);
		t->fn(t->ctx);
		t = loop->timers; // the callback may have changed any of them
	}
}

static u64 time_to_wait(const struct loop *loop, u64 timeout_ns)
{
	if (!loop->timers)
		return timeout_ns;

	u64 now = clock_now_ns();
	u64 deadline = loop->timers->deadline_ns;
	u64 left = deadline > now ? deadline - now : 0;

	return left < timeout_ns ? left : timeout_ns;
}

struct error *loop_run_once(struct loop *loop, u64 timeout_ns)
{
	u64 wait = time_to_wait(loop, timeout_ns);
	struct timespec ts = { .tv_sec = wait / NSEC_PER_SEC, .tv_nsec = wait % NSEC_PER_SEC };
	struct epoll_event event;
	struct error *err = NULL;
	// One event at a time: none is ever stale because the callback before it removed its source, and
	// epoll itself takes the ready ones in turn.
	int n = epoll_pwait2(loop->epoll_fd, &event, 1, wait == LOOP_FOREVER ? NULL : &ts, NULL);

	if (n < 0 && errno != EINTR)
		return error_create_errno("cannot wait for events");
	if (n == 1 && event.data.ptr) {
		err = call_fd(loop, event.data.ptr, event.events);
	} else if (n == 1) {
		u64 count;

		if (read(loop->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			err = error_create_errno("cannot read an event loop's wake-up");
	}
	call_timers(loop);
	return err;
}

struct error *loop_run(struct loop *loop)
{
	while (!__atomic_exchange_n(&loop->stopped, false, __ATOMIC_ACQ_REL)) {
		struct error *err = loop_run_once(loop, LOOP_FOREVER);

		if (err)
			return err;
	}
	return NULL;
}
