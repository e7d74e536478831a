// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Captures: asked for by the guest, by a timer, by main; taken in a freeze, kept, and answered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/failure.h"
#include "coordinator/freeze.h"
#include "coordinator/internal.h"
#include "coordinator/periodic.h"
#include "machine/frozen.h"

/* A timer's captures have as many names; then they begin anew. */
enum { TICK_NAMES = 64 };

/*
 * A request of the guest's waits so long for main to hear that it is to say what captures record: main is in a wait of
 * its own, or busy. And so long until it has said it, which takes seconds where the processor is emulated.
 */
#define PLAN_PATIENCE_NS (3 * NSEC_PER_SEC)
#define PLAN_COMPILE_NS (30 * NSEC_PER_SEC)

/* --- recording --- */

struct error *captures_begin(struct coordinator *c, enum freeze_source source, const char *tag, struct shot *ret)
{
	struct planning *p = &c->planning;
	struct error *err = capture_create(tag, source, machine_cpus(c->machine), &ret->capture);

	ret->run = NULL;
	if (err)
		return err;
	if (p->plan)
		err = plan_run_create(p->plan, p->expected + p->expected / 4, &ret->run);
	else
		snprintf(ret->capture->reason, sizeof(ret->capture->reason), "%s",
			 *p->reason ? p->reason : "nobody has said what captures record");
	if (err)
		captures_drop(ret);
	return err;
}

void captures_drop(struct shot *shot)
{
	capture_destroy(shot->capture);
	plan_run_destroy(shot->run);
	*shot = (struct shot){ 0 };
}

/* When in the run that was. Of a workload that is over the time stands still: only what it lacks has one. */
static void note_moment(const struct coordinator *c, struct capture *capture, u64 now_ns)
{
	bool is_over = c->periodic && periodic_is_over(c->periodic);

	capture->elapsed_ns = now_ns - c->started_ns - c->frozen_total_ns;
	if (!is_over || capture->missed)
		capture->workload_ns = periodic_workload_ns(c);
	capture->epoch = c->epoch;
	memcpy(capture->phase, c->phase, sizeof(capture->phase));
}

struct error *captures_take(struct coordinator *c, struct shot *shot)
{
	struct capture *capture = shot->capture;
	struct error *err = NULL;

	capture->clock_ns = machine_clock_ns(c->machine);
	note_moment(c, capture, c->frozen_at_ns);
	for (u32 i = 0; !err && i < capture->cpus; i++)
		err = machine_get_regs(c->machine, i, &capture->cpu[i].regs, &capture->cpu[i].sregs);
	if (!err && shot->run)
		plan_run_execute(shot->run, &c->planning.view);
	capture->frozen_ns = clock_now_ns() - c->frozen_at_ns;
	return err;
}

struct error *captures_keep(struct coordinator *c, struct shot *shot, u32 *times)
{
	struct plan_run *run = shot->run;
	struct error *err = NULL;

	shot->run = NULL;
	if (run)
		err = plan_run_finish(run, &shot->capture->record);
	if (!err) {
		if (shot->capture->record)
			c->planning.expected = shot->capture->record->size;
		err = capture_store_put(&c->captures, shot->capture, times);
	}
	if (err)
		captures_drop(shot);
	return err;
}

static struct error *take(struct coordinator *c, void *arg)
{
	return captures_take(c, arg);
}

static void warn_of_name(struct coordinator *c, const char *tag, u32 times)
{
	if (times == 2) // said once
		coordinator_warn(c, "the capture '%s' was taken more than once: only the last one is kept", tag);
}

/* What would have been a capture: whoever reasons about them has to know that one is missing. */
void captures_keep_placeholder(struct coordinator *c, enum freeze_source source, const char *tag, const char *why)
{
	struct capture *capture;
	u32 times = 0;
	struct error *err = capture_create(tag, source, 0, &capture);

	if (!err) {
		capture->missed = true;
		note_moment(c, capture, clock_now_ns());
		snprintf(capture->reason, sizeof(capture->reason), "%s", why);
		err = capture_store_put(&c->captures, capture, &times);
		if (err)
			capture_destroy(capture);
	}
	if (err)
		coordinator_warn(c, "the capture '%s' was not taken, and %s", tag, error_message(err));
	error_destroy(err);
	warn_of_name(c, tag, times);
}

struct error *captures_record(struct coordinator *c, enum freeze_source source, const char *tag)
{
	struct shot shot;
	struct error *err = captures_begin(c, source, tag, &shot);
	u32 times = 0;

	if (err)
		return err;
	err = freeze(c, source, take, &shot);
	if (err) {
		if (error_code(err) == ERROR_TIMEOUT)
			captures_keep_placeholder(c, source, tag, error_message(err));
		captures_drop(&shot);
		return err;
	}
	err = captures_keep(c, &shot, &times);
	warn_of_name(c, tag, times);
	return err;
}

/* --- the guest's requests --- */

void captures_send_reply(struct coordinator *c)
{
	// At the end there is nobody to send it to, and what the guest said last must still be read.
	if (c->reply.pending && (c->draining || outbox_put(&c->outbox, MSG_SNAPSHOT_REPLY, c->reply.payload,
							   c->reply.size))) {
		c->reply.pending = false;
		coordinator_post(c, REQUEST_SEND | REQUEST_RESUME);
	}
}

static u32 status_of(const struct error *err)
{
	if (!err)
		return SNAPSHOT_DONE;
	switch (error_code(err)) {
	case ERROR_BUSY:
		return SNAPSHOT_BUSY;
	case ERROR_TIMEOUT:
		return SNAPSHOT_TIMEOUT;
	default:
		return SNAPSHOT_FAILED;
	}
}

/* Destroys err. No other request is read until the reply has found room on its way to the guest. */
static void reply(struct coordinator *c, u32 request_id, struct error *err)
{
	struct wire_snapshot_reply head = { .request_id = request_id, .status = status_of(err) };
	struct attr_writer w = attr_writer_init(c->reply.payload + sizeof(head),
						sizeof(c->reply.payload) - sizeof(head));

	memcpy(c->reply.payload, &head, sizeof(head));
	if (err) {
		char reason[200];

		snprintf(reason, sizeof(reason), "%s", error_message(err));
		attr_put_string(&w, ATTR_REASON, reason);
		error_destroy(err);
	}
	c->reply.size = (u32)(sizeof(head) + w.size);
	c->reply.pending = true;
	captures_send_reply(c);
}

static u32 id_of(const void *payload, size_t size)
{
	u32 id = 0;

	if (size >= sizeof(id))
		memcpy(&id, payload, sizeof(id));
	return id;
}

/* It is carried out when the loop's callback has returned; until then no further frame is read. */
static void ask(struct coordinator *c, const struct snapshot_request *request)
{
	c->asked = *request;
	c->is_asked = true;
}

void captures_take_request(struct coordinator *c, const void *payload, size_t size)
{
	struct snapshot_request request;

	if (!snapshot_request_parse(payload, size, &request))
		reply(c, id_of(payload, size),
		      error_create(ERROR_FORMAT,
				   "the request is malformed: a capture has a name of 1 to %d printable characters",
				   WIRE_TAG_SIZE));
	else if (request.kind != SNAPSHOT_CAPTURE)
		reply(c, request.request_id,
		      error_create(ERROR_UNSUPPORTED, "requests of kind %u are not part of this version",
				   request.kind));
	else if (gate_is_held(&c->gate))
		reply(c, request.request_id, freeze_reject(c, FREEZE_GUEST));
	else
		ask(c, &request);
}

/* --- what is recorded --- */

struct new_plan {
	struct plan *plan;
	const struct view *view;
	const struct printk_layout *log;
	const char *reason;
};

/* On the thread, whatever it does. */
static struct error *set_plan(struct coordinator *c, void *arg)
{
	const struct new_plan *new = arg;
	struct planning *p = &c->planning;

	plan_put(p->plan);
	p->plan = new->plan ? plan_get(new->plan) : NULL;
	p->view = *new->view;
	// Main's own: what it holds frozen, and what tells it that it no longer does.
	p->view.frozen = 0;
	p->view.expirations_now = NULL;
	p->expected = 0;
	p->log = new->log ? *new->log : (struct printk_layout){ 0 };
	snprintf(p->reason, sizeof(p->reason), "%s", new->reason ? new->reason : "");
	p->settled = true;
	loop_cancel_timer(&c->loop, &p->timer);
	// The request that waits for it is looked at in the loop's next turn.
	coordinator_post(c, 0);
	return NULL;
}

static void post_call(void *ctx)
{
	coordinator_post(ctx, REQUEST_CALL);
}

struct error *coordinator_set_plan(struct coordinator *c, struct plan *plan, const struct view *view,
				   const struct printk_layout *log, const char *reason)
{
	struct new_plan new = { plan, view, log, reason };
	const struct call call = { .kind = CALL_PLAN, .look = set_plan, .arg = &new };

	if (plan && plan_cpus(plan) != machine_cpus(c->machine))
		return error_create(ERROR_INVALID, "a capture plan for %u CPUs, and the machine has %u",
				    plan_cpus(plan), machine_cpus(c->machine));
	return call_slot_ask(&c->call, &call, post_call, c, NULL);
}

static struct error *set_phase(struct coordinator *c, void *arg)
{
	snprintf(c->phase, sizeof(c->phase), "%s", (const char *)arg);
	return NULL;
}

struct error *coordinator_set_phase(struct coordinator *c, const char *phase)
{
	const struct call call = { .kind = CALL_PLAN, .look = set_phase, .arg = (void *)phase };

	if (*phase && !snapshot_tag_is_good(phase))
		return error_create(ERROR_INVALID, "a phase has a name of 1 to %d printable characters", WIRE_TAG_SIZE);
	return call_slot_ask(&c->call, &call, post_call, c, NULL);
}

void coordinator_wake_on_plan(struct coordinator *c, bool on)
{
	__atomic_store_n(&c->planning.asks, on, __ATOMIC_RELEASE);
}

static void on_plan_patience(void *ctx)
{
	struct coordinator *c = ctx;

	if (!c->planning.extended && !__atomic_load_n(&c->planning.wanted, __ATOMIC_ACQUIRE)) {
		c->planning.extended = true;
		loop_set_timer(&c->loop, &c->planning.timer, clock_deadline_ns(PLAN_COMPILE_NS));
		return;
	}
	// It has not said so: whenever it does, later captures are the better for it.
	c->planning.settled = true;
	snprintf(c->planning.reason, sizeof(c->planning.reason),
		 "the script was busy, and did not say in time what captures record");
}

/* Whether the guest's request can be carried out; main says what is to be recorded when it first matters. */
static bool plan_is_settled(struct coordinator *c)
{
	struct planning *p = &c->planning;

	if (p->settled || !__atomic_load_n(&p->asks, __ATOMIC_ACQUIRE) ||
	    (machine_has_stop(c->machine) && !c->draining))
		return true;
	if (!p->awaited) {
		p->awaited = true;
		loop_set_timer(&c->loop, &p->timer, clock_deadline_ns(PLAN_PATIENCE_NS));
		__atomic_store_n(&p->wanted, true, __ATOMIC_RELEASE);
		mailbox_nudge(&c->mailbox);
	}
	return false;
}

void captures_await_plan(struct coordinator *c)
{
	struct planning *p = &c->planning;
	struct error *err = NULL;

	if (p->plan)
		return;
	// It may have been asked too early, or not have had the time.
	p->settled = p->awaited = p->extended = false;
	while (!err && !plan_is_settled(c)) {
		err = loop_run_once(&c->loop, LOOP_FOREVER);
		// Main comes to a wait of its own when it is told that somebody freezes the machine.
		hold_serve_busy(c);
	}
	error_destroy(err);
}

/* --- the timer --- */

static void on_tick(void *ctx)
{
	struct coordinator *c = ctx;

	if (gate_is_held(&c->gate))
		error_destroy(freeze_reject(c, FREEZE_PERIODIC));
	else
		c->tick_due = true;
	loop_set_timer(&c->loop, &c->tick_timer, clock_deadline_ns(c->tick_ns));
}

void captures_set_tick(struct coordinator *c, u64 period_ns)
{
	c->tick_ns = period_ns;
	if (period_ns)
		loop_set_timer(&c->loop, &c->tick_timer, clock_deadline_ns(period_ns));
	else
		loop_cancel_timer(&c->loop, &c->tick_timer);
}

static void tick(struct coordinator *c)
{
	char tag[32];

	snprintf(tag, sizeof(tag), "periodic_%03u", c->ticks++ % TICK_NAMES);

	struct error *err = captures_record(c, FREEZE_PERIODIC, tag);

	if (err)
		coordinator_warn(c, "%s: %s", tag, error_message(err));
	error_destroy(err);
}

/* --- */

void captures_init(struct coordinator *c)
{
	capture_store_init(&c->captures);
	c->tick_timer = (struct loop_timer){ .fn = on_tick, .ctx = c };
	c->planning.timer = (struct loop_timer){ .fn = on_plan_patience, .ctx = c };
}

void captures_deinit(struct coordinator *c)
{
	capture_store_deinit(&c->captures);
	plan_put(c->planning.plan);
}

void captures_serve(struct coordinator *c)
{
	if (c->is_asked && plan_is_settled(c)) {
		struct error *err = captures_record(c, FREEZE_GUEST, c->asked.tag);

		c->is_asked = false;
		reply(c, c->asked.request_id, err);
		coordinator_resume_input(c);
		// The next request is for the next turn: others have their turn in between.
		if (c->is_asked)
			coordinator_post(c, 0);
	}
	if (c->tick_due && !machine_has_stop(c->machine))
		tick(c);
	c->tick_due = false;
	periodic_serve(c);
	failure_serve(c);
}
