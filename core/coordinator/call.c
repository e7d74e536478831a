// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/call.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/interrupt.h"

struct error *call_slot_init(struct call_slot *slot)
{
	*slot = (struct call_slot){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (slot->fd < 0)
		return error_create_errno("eventfd for answers");
	pthread_mutex_init(&slot->lock, NULL);
	return NULL;
}

void call_slot_deinit(struct call_slot *slot)
{
	error_destroy(slot->err);
	close(slot->fd);
	pthread_mutex_destroy(&slot->lock);
}

static void signal_change(struct call_slot *slot)
{
	u64 one = 1;
	ssize_t ignored = write(slot->fd, &one, sizeof(one));

	(void)ignored;
}

static void clear_change(struct call_slot *slot)
{
	u64 count;
	ssize_t ignored = read(slot->fd, &count, sizeof(count));

	(void)ignored;
}

/* Waits for a change, or a signal; may return early. */
static void wait_for_change(struct call_slot *slot, bool interruptible)
{
	struct pollfd p[] = {
		{ .fd = slot->fd, .events = POLLIN },
		{ .fd = interrupt_fd(), .events = POLLIN },
	};

	poll(p, interruptible ? 2 : 1, -1);
	clear_change(slot);
}

/* Puts the call into the slot when it is free: one that was abandoned may still be on its way. */
static bool try_post(struct call_slot *slot, const struct call *call)
{
	bool posted = false;

	pthread_mutex_lock(&slot->lock);
	if (slot->state == CALL_IDLE && !slot->closed) {
		slot->call = *call;
		slot->state = CALL_POSTED;
		slot->abandoned = false;
		posted = true;
	}
	pthread_mutex_unlock(&slot->lock);
	return posted;
}

static bool is_closed(struct call_slot *slot)
{
	pthread_mutex_lock(&slot->lock);

	bool closed = slot->closed;

	pthread_mutex_unlock(&slot->lock);
	return closed;
}

static bool try_collect(struct call_slot *slot, struct error **err, u32 *result)
{
	bool answered;

	pthread_mutex_lock(&slot->lock);
	answered = slot->state == CALL_ANSWERED;
	if (answered) {
		*err = slot->err;
		slot->err = NULL;
		if (result)
			*result = slot->result;
		slot->state = CALL_IDLE;
	}
	pthread_mutex_unlock(&slot->lock);
	return answered;
}

/* False when the answer came first after all, or is just coming. */
static bool try_abandon(struct call_slot *slot)
{
	pthread_mutex_lock(&slot->lock);

	bool abandoned = slot->state == CALL_POSTED || slot->state == CALL_TAKEN;

	if (slot->state == CALL_POSTED)
		slot->state = CALL_IDLE;
	else if (abandoned)
		slot->abandoned = true;
	pthread_mutex_unlock(&slot->lock);
	return abandoned;
}

/* Those are worth giving up for a signal; the others also serve the clean-up after one. */
static bool can_take_long(enum call_kind kind)
{
	return kind == CALL_FREEZE || kind == CALL_CAPTURE || kind == CALL_EARLY || kind == CALL_INJECT ||
	       kind == CALL_STEP || kind == CALL_KERNEL_OPS;
}

struct error *call_slot_ask(struct call_slot *slot, const struct call *call, void (*post)(void *ctx), void *ctx,
			    u32 *result)
{
	bool interruptible = can_take_long(call->kind);
	struct error *err = NULL;

	while (!try_post(slot, call)) {
		if (is_closed(slot))
			return error_create(ERROR_ENDED, "the machine has ended");
		if (interruptible && interrupt_signal())
			return interrupt_error();
		wait_for_change(slot, interruptible);
	}
	post(ctx);
	while (!try_collect(slot, &err, result)) {
		if (interruptible && interrupt_signal() && try_abandon(slot)) {
			post(ctx);
			return interrupt_error();
		}
		wait_for_change(slot, interruptible);
	}
	return err;
}

bool call_slot_take(struct call_slot *slot, struct call *ret)
{
	bool posted;

	pthread_mutex_lock(&slot->lock);
	posted = slot->state == CALL_POSTED;
	if (posted) {
		slot->state = CALL_TAKEN;
		*ret = slot->call;
	}
	pthread_mutex_unlock(&slot->lock);
	return posted;
}

/* Under the lock. */
static void answer(struct call_slot *slot, struct error *err, u32 result)
{
	if (slot->abandoned) {
		error_destroy(err);
		slot->state = CALL_IDLE;
	} else {
		slot->err = err;
		slot->result = result;
		slot->state = CALL_ANSWERED;
	}
	slot->abandoned = false;
}

void call_slot_answer(struct call_slot *slot, struct error *err, u32 result)
{
	pthread_mutex_lock(&slot->lock);
	answer(slot, err, result);
	pthread_mutex_unlock(&slot->lock);
	signal_change(slot);
}

bool call_slot_settle(struct call_slot *slot)
{
	pthread_mutex_lock(&slot->lock);

	bool settled = !slot->abandoned;

	if (settled)
		slot->state = CALL_SETTLED;
	pthread_mutex_unlock(&slot->lock);
	return settled;
}

bool call_slot_is_abandoned(struct call_slot *slot)
{
	pthread_mutex_lock(&slot->lock);

	bool abandoned = slot->state == CALL_TAKEN && slot->abandoned;

	pthread_mutex_unlock(&slot->lock);
	return abandoned;
}

bool call_slot_is_taken(struct call_slot *slot)
{
	pthread_mutex_lock(&slot->lock);

	bool taken = slot->state == CALL_TAKEN;

	pthread_mutex_unlock(&slot->lock);
	return taken;
}

void call_slot_close(struct call_slot *slot)
{
	pthread_mutex_lock(&slot->lock);
	slot->closed = true;
	if (slot->state != CALL_IDLE && slot->state != CALL_ANSWERED)
		answer(slot, error_create(ERROR_ENDED, "the machine has ended"), 0);
	pthread_mutex_unlock(&slot->lock);
	signal_change(slot);
}
