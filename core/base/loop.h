/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An event loop: descriptors with callbacks, timers, wake-ups from other threads (epoll underneath).
 * Depends on base/error.h and base/clock.h. Sources are the caller's memory; the loop allocates nothing.
 * A callback may add, remove and free any source (its own too) and may run the loop again, nested; no
 * source's callback is ever entered while it is still running.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <sys/epoll.h>

#include "base/error.h"
#include "base/types.h"

/* Everything but loop_wake() and loop_stop() belongs to the thread that runs the loop. */

/* A descriptor to watch; zero-initialise it. The loop does not own it: remove the source, then close. */
struct loop_fd {
	int fd;
	u32 events; /* EPOLLIN, EPOLLOUT, ...; level-triggered; 0 leaves only EPOLLERR and EPOLLHUP */
	void (*fn)(void *ctx, u32 events);
	void *ctx;
	bool running; /* its callback is on the stack */
	bool held; /* became ready while running: not watched until the callback returns */
	bool added;
};

/* A one-shot timer; zero-initialise it. A periodic one sets itself again in its callback. */
struct loop_timer {
	void (*fn)(void *ctx);
	void *ctx;
	u64 deadline_ns; /* CLOCK_MONOTONIC, as clock_now_ns() */
	u64 order; /* of arming, among all timers of the loop */
	bool armed;
	struct loop_timer *prev, *next;
};

struct loop_frame;

struct loop {
	int epoll_fd, wake_fd;
	struct loop_timer *timers; /* armed ones, earliest first */
	u64 timers_set; /* times a timer was armed */
	struct loop_frame *frames; /* callbacks on the stack, innermost first */
	bool stopped; /* atomic */
};

#define LOOP_FOREVER UINT64_MAX

MUST_CHECK struct error *loop_init(struct loop *loop);
/* Sources still added are forgotten, not closed. */
void loop_deinit(struct loop *loop);

MUST_CHECK struct error *loop_add_fd(struct loop *loop, struct loop_fd *source, int fd, u32 events,
				     void (*fn)(void *ctx, u32 events), void *ctx);
MUST_CHECK struct error *loop_set_events(struct loop *loop, struct loop_fd *source, u32 events);
/* Its callback is not called again; a source that was not added (all zero) is left alone. */
void loop_remove_fd(struct loop *loop, struct loop_fd *source);

/* Arms it, or moves it when armed. A deadline in the past fires at the next turn. O(armed timers). */
void loop_set_timer(struct loop *loop, struct loop_timer *timer, u64 deadline_ns);
void loop_cancel_timer(struct loop *loop, struct loop_timer *timer);

/* From any thread, or a signal handler: the running, or the next, loop_run_once() returns early. */
void loop_wake(struct loop *loop);

/*
 * Waits until something happens, at most timeout_ns (LOOP_FOREVER: no bound; 0: polls), and calls at most
 * one descriptor's callback and all timers that are due. It may return with nothing called.
 */
MUST_CHECK struct error *loop_run_once(struct loop *loop, u64 timeout_ns);

/* Runs until loop_stop(). A stop that came before is honoured, and used up, by the next loop_run(). */
MUST_CHECK struct error *loop_run(struct loop *loop);
/* From any thread, or a signal handler. Ends the innermost loop_run(). */
void loop_stop(struct loop *loop);

#endif
