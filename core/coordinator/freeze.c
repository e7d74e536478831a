// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/freeze.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/internal.h"
#include "machine/frozen.h"
#include "machine/watch.h"

/* So long vCPUs have to come by themselves; where they did not, that many freezes hurry them from the start. */
#define HURRY_AFTER_NS NSEC_PER_MSEC
enum { HURRIED_FREEZES = 16 };

bool freeze_turn(void *coordinator)
{
	struct coordinator *c = coordinator;

	hold_serve_busy(c);
	return machine_has_stop(c->machine) || call_slot_is_abandoned(&c->call);
}

/* --- what stands still beside the vCPUs --- */

/*
 * The devices' work is this thread's own, so it stops by not being begun: on_queue() and push_outbox() look at
 * c->frozen.
 */
static void stop_the_rest(struct coordinator *c)
{
	c->frozen = true;
	machine_lift_breakpoints(c->machine);
	machine_stop_clocks(c->machine);
	c->frozen_at_ns = clock_now_ns();
	c->deadline_left_ns = 0;
	if (c->deadline.armed) {
		u64 deadline = c->deadline.deadline_ns;

		c->deadline_left_ns = deadline > c->frozen_at_ns ? deadline - c->frozen_at_ns : 1;
		loop_cancel_timer(&c->loop, &c->deadline);
	}
}

static void resume_queues(struct coordinator *c)
{
	for (u32 i = 0; i < CONSOLE_QUEUES; i++) {
		struct queue_source *source = &c->queues[i];

		if (!source->parked)
			continue;
		source->parked = false;

		struct error *err = loop_set_events(&c->loop, &source->fd, EPOLLIN);

		if (err) {
			machine_set_detail(c->machine, "a device's queue: %s", error_message(err));
			machine_stop(c->machine, EXIT_FATAL);
			error_destroy(err);
		}
	}
}

/* Said once, when it is known. */
static void warn_of_clocks(struct coordinator *c)
{
	if (c->warned_of_clocks || machine_clocks_are_exact(c->machine))
		return;
	c->warned_of_clocks = true;
	coordinator_warn(c, "this host's KVM cannot hold the guest's TSC: the guest sees the time of a freeze pass");
}

static void resume_the_rest(struct coordinator *c)
{
	u64 now = clock_now_ns();

	c->frozen_total_ns += now - c->frozen_at_ns;
	if (c->deadline_left_ns && !c->draining)
		loop_set_timer(&c->loop, &c->deadline, now + c->deadline_left_ns);
	// When the machine ends nobody reads them, and a vCPU that has not come back from a step is not parked.
	if (!machine_has_stop(c->machine)) {
		machine_refresh_watches(c->machine);
		machine_plant_breakpoints(c->machine);
		machine_resume_clocks(c->machine);
	}
	warn_of_clocks(c);
	resume_queues(c);
	c->frozen = false;
	// What main has sent meanwhile.
	coordinator_post(c, REQUEST_SEND);
}

/* --- freeze --- */

/* Unwound before the gate's guard: a gate that opens on a frozen machine would leave it frozen for ever. */
struct world_guard {
	struct coordinator *coordinator;
};

static void thaw(struct world_guard *guard)
{
	struct coordinator *c = guard->coordinator;

	if (!c)
		return;

	struct rendezvous *r = machine_rendezvous(c->machine);

	if (c->frozen)
		resume_the_rest(c);
	else
		coordinator_post(c, 0); // what came up meanwhile is for the loop's next turn
	rendezvous_open(r);
	// Who waits for the answer wakes them: vCPUs that outnumber the processors would keep it from its turn.
	if (!hold_answer_thaw(c))
		rendezvous_wake(r);
	loop_set_timer(&c->loop, &c->stuck_timer, clock_deadline_ns(FREEZE_RENDEZVOUS_TIMEOUT_NS));
}

static struct error *did_not_park(struct coordinator *c, struct error *timeout)
{
	struct rendezvous *r = machine_rendezvous(c->machine);
	char where[384] = "";
	u32 missing = 0;

	for (u32 i = machine_cpus(c->machine); i-- > 0;) {
		if (!rendezvous_is_missing(r, i))
			continue;
		missing++;
		machine_describe_cpu(c->machine, i, where, sizeof(where));
	}
	error_destroy(timeout);
	return error_create(ERROR_TIMEOUT,
			    "the machine could not be frozen: %u of %u vCPUs did not stop within %.1f s; %s", missing,
			    machine_cpus(c->machine), (double)c->patience_ns / NSEC_PER_SEC, where);
}

/* A machine that has its processors for itself is done long before anybody has to be hurried. */
static struct error *wait_for_all(struct coordinator *c, struct rendezvous *r)
{
	u64 first = c->patience_ns < HURRY_AFTER_NS ? c->patience_ns : HURRY_AFTER_NS;

	if (c->hurried_freezes) {
		c->hurried_freezes--;
		machine_hurry(c->machine);
	}

	struct error *err = rendezvous_wait(r, &c->loop, first, freeze_turn, c);

	if (!err || error_code(err) != ERROR_TIMEOUT || machine_has_stop(c->machine) || first == c->patience_ns)
		return err;
	error_destroy(err);
	// On a busy host it takes this thread a while to come to its turn again: the next ones do not wait for that.
	c->hurried_freezes = HURRIED_FREEZES;
	machine_hurry(c->machine);
	return rendezvous_wait(r, &c->loop, c->patience_ns - first, freeze_turn, c);
}

/* What the guard is to undo begins with it. */
static struct error *stop_the_world(struct coordinator *c, struct world_guard *guard)
{
	struct rendezvous *r = machine_rendezvous(c->machine);

	guard->coordinator = c;
	rendezvous_begin(r);

	struct error *err = wait_for_all(c, r);

	if (machine_has_stop(c->machine)) {
		error_destroy(err);
		return error_create(ERROR_ENDED, "the machine has ended");
	}
	// The last one may have come with the timeout.
	if (err && !rendezvous_is_complete(r))
		return error_code(err) == ERROR_TIMEOUT ? did_not_park(c, err) : err;
	error_destroy(err);
	stop_the_rest(c);
	return NULL;
}

static void count(struct coordinator *c, enum freeze_source source, const struct error *err)
{
	struct freeze_counts *counts = &c->counts[source];
	u64 *counter = &counts->failed;

	if (!err)
		counter = &counts->done;
	else if (error_code(err) == ERROR_BUSY)
		counter = &counts->busy;
	else if (error_code(err) == ERROR_TIMEOUT)
		counter = &counts->timeout;
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

struct error *freeze_reject(struct coordinator *c, enum freeze_source source)
{
	struct error *err = error_create(ERROR_BUSY, "somebody else is freezing the machine");

	count(c, source, err);
	return err;
}

struct error *freeze(struct coordinator *c, enum freeze_source source,
		     struct error *(*visit)(struct coordinator *c, void *arg), void *arg)
{
	GATE_GUARD struct gate_guard gate = { 0 };

	if (!gate_try_acquire(&c->gate, &gate))
		return freeze_reject(c, source);

	CLEANUP(thaw)
	struct world_guard world = { 0 };
	struct error *err = stop_the_world(c, &world);

	if (!err)
		err = visit(c, arg);
	// Before the thaw tells main that it is over.
	count(c, source, err);
	return err;
}
