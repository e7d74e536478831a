// SPDX-License-Identifier: GPL-2.0-or-later
#include "freeze/rendezvous.h"

#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

struct error *rendezvous_init(struct rendezvous *r, struct park_slot *slots, u32 count,
			      const struct rendezvous_ops *ops, void *ctx)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return error_create_errno("cannot create an eventfd to stop threads with");
	*r = (struct rendezvous){ .fd = fd, .count = count, .slots = slots, .ops = ops, .ctx = ctx };
	for (u32 i = 0; i < count; i++)
		slots[i] = (struct park_slot){ .rendezvous = r };
	return NULL;
}

void rendezvous_deinit(struct rendezvous *r)
{
	close(r->fd);
	r->fd = -1;
}

static bool is_gone(const struct rendezvous *r, u32 slot)
{
	return __atomic_load_n(&r->slots[slot].gone, __ATOMIC_ACQUIRE);
}

// The count has to stand before the first thread can acknowledge.
static void ask(struct rendezvous *r, u32 generation)
{
	u32 count = 0;

	for (u32 i = 0; i < r->count; i++)
		count += !is_gone(r, i);
	__atomic_store_n(&r->missing, (u64)generation << 32 | count, __ATOMIC_RELEASE);
	__atomic_store_n(&r->generation, generation, __ATOMIC_SEQ_CST);
}

void rendezvous_wake(struct rendezvous *r)
{
	syscall(SYS_futex, &r->generation, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void rendezvous_begin(struct rendezvous *r)
{
	ask(r, r->generation + 1);
	for (u32 i = 0; i < r->count; i++)
		if (!is_gone(r, i))
			r->ops->kick(r->ctx, i);
}

// No kick: a thread that has not parked yet was kicked when it began, and parks for this generation.
void rendezvous_again(struct rendezvous *r)
{
	ask(r, r->generation + 2);
	rendezvous_wake(r);
}

void rendezvous_open(struct rendezvous *r)
{
	if (!rendezvous_is_frozen(r))
		return;
	r->thawed_ns = clock_now_ns();
	__atomic_store_n(&r->generation, r->generation + 1, __ATOMIC_SEQ_CST);
}

void rendezvous_end(struct rendezvous *r)
{
	rendezvous_open(r);
	rendezvous_wake(r);
}

bool rendezvous_is_frozen(const struct rendezvous *r)
{
	return __atomic_load_n(&r->generation, __ATOMIC_ACQUIRE) & 1;
}

bool rendezvous_is_missing(const struct rendezvous *r, u32 slot)
{
	return rendezvous_is_frozen(r) && !is_gone(r, slot) &&
	       __atomic_load_n(&r->slots[slot].acked, __ATOMIC_ACQUIRE) != r->generation;
}

bool rendezvous_is_complete(const struct rendezvous *r)
{
	if (!rendezvous_is_frozen(r))
		return false;
	// The slots themselves, not the count: a thread may have ended after it was counted.
	for (u32 i = 0; i < r->count; i++)
		if (rendezvous_is_missing(r, i))
			return false;
	return true;
}

bool rendezvous_is_stuck(const struct rendezvous *r, u32 slot)
{
	const struct park_slot *s = &r->slots[slot];
	u32 acked = __atomic_load_n(&s->acked, __ATOMIC_ACQUIRE);

	// It leaves with a later generation than it acknowledged; the numbers may have wrapped.
	return !rendezvous_is_frozen(r) && !is_gone(r, slot) &&
	       (s32)(acked - __atomic_load_n(&s->left, __ATOMIC_ACQUIRE)) > 0;
}

// One wait's sources in the loop.
struct wait {
	struct loop *loop;
	struct loop_fd wakeup;
	struct loop_timer timer;
	bool timed_out;
	int fd;
};

static void wait_woken(void *ctx, u32 events)
{
	struct wait *w = ctx;
	eventfd_t count;

	// Nothing there to read is as good: the loop looks at the slots either way.
	eventfd_read(w->fd, &count);
}

static void wait_timed_out(void *ctx)
{
	struct wait *w = ctx;

	w->timed_out = true;
}

static void wait_deinit(struct wait *w)
{
	loop_cancel_timer(w->loop, &w->timer);
	loop_remove_fd(w->loop, &w->wakeup);
}

static u32 count_missing(const struct rendezvous *r)
{
	u32 count = 0;

	for (u32 i = 0; i < r->count; i++)
		count += rendezvous_is_missing(r, i);
	return count;
}

// A thread that has ended may have been counted, and then nobody tells of the last of the others.
static u64 turn_ns(const struct rendezvous *r)
{
	for (u32 i = 0; i < r->count; i++)
		if (is_gone(r, i))
			return NSEC_PER_MSEC;
	return LOOP_FOREVER;
}

struct error *rendezvous_wait(struct rendezvous *r, struct loop *loop, u64 timeout_ns, bool (*give_up)(void *ctx),
			      void *ctx)
{
	// Often all have stopped while the last ones were being kicked. Looking longer than this only takes
	// a CPU away from the threads that are waited for.
	if (rendezvous_is_complete(r))
		return NULL;

	CLEANUP(wait_deinit)
	struct wait w = { .loop = loop, .fd = r->fd, .timer = { .fn = wait_timed_out, .ctx = &w } };

	struct error *err = loop_add_fd(loop, &w.wakeup, r->fd, EPOLLIN, wait_woken, &w);

	if (err)
		return err;
	loop_set_timer(loop, &w.timer, clock_deadline_ns(timeout_ns));
	while (!rendezvous_is_complete(r)) {
		if (give_up && give_up(ctx))
			return error_create(ERROR_ENDED, "given up with %u of %u threads not stopped",
					    count_missing(r), r->count);
		if (w.timed_out)
			return error_create(ERROR_TIMEOUT, "%u of %u threads did not stop within %.3f s",
					    count_missing(r), r->count, (double)timeout_ns / NSEC_PER_SEC);
		err = loop_run_once(loop, turn_ns(r));
		if (err)
			return err;
	}
	return NULL;
}
