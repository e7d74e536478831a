// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/periodic.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "coordinator/coordinator.h"

/* The clock of the guest's work: it stands while the machine is frozen. */
static u64 running_ns(const struct coordinator *c)
{
	u64 now = c->frozen ? c->frozen_at_ns : clock_now_ns();

	return now - c->started_ns - c->frozen_total_ns;
}

/*
 * The time may come in the middle of somebody's freeze. The end of a freeze wakes the loop, and whoever runs it looks
 * at periodic_serve(): so here there is nothing to do.
 */
static void on_moment(void *ctx)
{
}

static void set_timer(struct coordinator *c)
{
	u64 at, now = running_ns(c);

	if (!periodic_next_at(c->periodic, &at)) {
		loop_cancel_timer(&c->loop, &c->periodic_timer);
		return;
	}
	loop_set_timer(&c->loop, &c->periodic_timer, clock_deadline_ns(at > now ? at - now : 0));
}

static void settle(struct coordinator *c, const char *tag, struct error *err)
{
	enum periodic_outcome outcome = PERIODIC_TAKEN;

	if (err)
		outcome = error_code(err) == ERROR_TIMEOUT ? PERIODIC_TIMED_OUT : PERIODIC_FAILED;
	// One that timed out has left its placeholder.
	if (outcome == PERIODIC_FAILED)
		captures_keep_placeholder(c, FREEZE_PERIODIC, tag, error_message(err));
	error_destroy(err);
	periodic_settle(c->periodic, running_ns(c), outcome);
}

/* Keeps the placeholders of what will not be taken. The one that is to be taken now; NULL: there is none. */
static const struct periodic_moment *next_to_take(struct coordinator *c)
{
	const struct periodic_moment *one;
	char reason[PERIODIC_REASON_SIZE];
	enum periodic_turn turn;

	while ((turn = periodic_next(c->periodic, running_ns(c), &one, reason)) == PERIODIC_MISSED)
		captures_keep_placeholder(c, FREEZE_PERIODIC, one->tag, reason);
	return turn == PERIODIC_TAKE ? one : NULL;
}

/* Of a plan that is over. */
static void keep_missed(struct coordinator *c)
{
	const struct periodic_moment *none = next_to_take(c);

	(void)none;
}

void periodic_serve(struct coordinator *c)
{
	const struct periodic_moment *one;

	if (!c->periodic)
		return;
	// The machine's end says what becomes of the rest.
	while ((!machine_has_stop(c->machine) || periodic_is_over(c->periodic)) && (one = next_to_take(c)))
		settle(c, one->tag, captures_record(c, FREEZE_PERIODIC, one->tag));
	set_timer(c);
}

void periodic_take_frame(struct coordinator *c, u32 type)
{
	struct periodic *p = c->periodic;

	if (!p)
		return;
	if (type == MSG_SCENARIO_START)
		periodic_start(p, running_ns(c));
	else if (type == MSG_SCENARIO_PAUSE)
		periodic_pause(p, running_ns(c));
	else if (type == MSG_SCENARIO_RESUME)
		periodic_resume(p, running_ns(c));
	else if (type == MSG_SCENARIO_END)
		periodic_finish(p, running_ns(c), NULL);
}

void periodic_stop(struct coordinator *c, const char *reason)
{
	loop_cancel_timer(&c->loop, &c->periodic_timer);
	if (c->periodic)
		periodic_finish(c->periodic, running_ns(c), reason);
	// The turn of the loop that this is in looks at periodic_serve(), which keeps the placeholders.
}

void periodic_deinit(struct coordinator *c)
{
	free(c->periodic);
}

u64 periodic_workload_ns(const struct coordinator *c)
{
	u64 ret;

	return c->periodic && periodic_elapsed(c->periodic, running_ns(c), &ret) ? ret : CAPTURE_NO_WORKLOAD;
}

/* --- main's calls, carried out on the thread whatever it does --- */

struct new_periodic {
	struct periodic *periodic;
	bool waits;
};

static struct error *begin(struct coordinator *c, void *arg)
{
	struct new_periodic *new = arg;
	struct periodic *old = c->periodic;

	if (old && (!periodic_is_over(old) || old->is_taking))
		return error_create(ERROR_BUSY, "periodic captures are going on already: %u of %u are still to come",
				    old->plan.count - old->next, old->plan.count);
	if (old)
		keep_missed(c);
	free(c->periodic);
	c->periodic = new->periodic;
	new->periodic = NULL;
	c->periodic_timer = (struct loop_timer){ .fn = on_moment, .ctx = c };
	if (!new->waits)
		periodic_start(c->periodic, running_ns(c));
	coordinator_post(c, 0);
	return NULL;
}

static void post_call(void *ctx)
{
	coordinator_post(ctx, REQUEST_CALL);
}

static struct error *ask(struct coordinator *c, struct error *(*look)(struct coordinator *c, void *arg), void *arg)
{
	return call_slot_ask(&c->call, &(struct call){ .kind = CALL_PERIODIC, .look = look, .arg = arg }, post_call, c,
			     NULL);
}

struct error *coordinator_start_periodic(struct coordinator *c, const struct periodic_plan *plan, bool waits)
{
	struct new_periodic new = { .periodic = calloc(1, sizeof(*new.periodic)), .waits = waits };
	struct error *err;

	if (!new.periodic)
		return error_no_memory();
	if (periodic_init(new.periodic, plan))
		err = ask(c, begin, &new);
	else
		err = error_create(ERROR_INVALID, "%u periodic captures: the plan makes no sense", plan->count);
	free(new.periodic);
	return err;
}

struct control {
	enum periodic_control control;
	struct periodic_counts *ret;
};

static struct error *carry_out(struct coordinator *c, void *arg)
{
	const struct control *control = arg;
	struct periodic *p = c->periodic;

	if (!p)
		return error_create(ERROR_INVALID, "there are no periodic captures");
	if (control->control == PERIODIC_BEGIN)
		periodic_start(p, running_ns(c));
	else if (control->control == PERIODIC_PAUSE)
		periodic_pause(p, running_ns(c));
	else if (control->control == PERIODIC_RESUME)
		periodic_resume(p, running_ns(c));
	else if (control->control == PERIODIC_FINISH)
		periodic_finish(p, running_ns(c), NULL);
	// Before the answer: main looks at the captures next.
	if (periodic_is_over(p))
		keep_missed(c);
	*control->ret = (struct periodic_counts){
		.state = p->state, .taken = p->taken, .missed = p->missed, .count = p->plan.count
	};
	coordinator_post(c, 0);
	return NULL;
}

struct error *coordinator_control_periodic(struct coordinator *c, enum periodic_control control,
					   struct periodic_counts *ret)
{
	return ask(c, carry_out, &(struct control){ control, ret });
}
