// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/watching.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "coordinator/freeze.h"
#include "machine/frozen.h"
#include "machine/watch.h"

/* Names of their records; as many may wait for main, so that none is another's before it has been taken. */
enum { EVENTS_MAX = 256 };

struct watch_entry {
	struct watch_event event;
	struct watch_entry *next;
};

void watching_init(struct coordinator *c)
{
	pthread_mutex_init(&c->watching.lock, NULL);
	c->watching.last = &c->watching.first;
}

void watching_deinit(struct coordinator *c)
{
	while (c->watching.first) {
		struct watch_entry *e = c->watching.first;

		c->watching.first = e->next;
		free(e);
	}
	pthread_mutex_destroy(&c->watching.lock);
}

void watching_note(struct coordinator *c)
{
	c->watching.due = true;
}

/* --- recording, while frozen --- */

/* On its way to main. False: too many are. */
static bool put_event(struct coordinator *c, const struct watch_event *event)
{
	struct watching *w = &c->watching;
	struct watch_entry *e = malloc(sizeof(*e));
	bool fits;

	if (!e)
		return false;
	*e = (struct watch_entry){ .event = *event };
	pthread_mutex_lock(&w->lock);
	fits = w->count < EVENTS_MAX;
	if (fits) {
		*w->last = e;
		w->last = &e->next;
		w->count++;
	}
	pthread_mutex_unlock(&w->lock);
	if (!fits)
		free(e);
	return fits;
}

static void say_lost(struct coordinator *c, const char *why)
{
	if (!c->watching.lost++)
		coordinator_warn(c, "writes to watched places are counted, but not recorded: %s", why);
}

static struct error *take_record(struct coordinator *c, const struct watch_event *event, struct capture **ret)
{
	u32 cpus = machine_cpus(c->machine);
	struct capture *capture;
	struct error *err = capture_create(event->tag, FREEZE_WATCH, cpus, &capture);

	if (err)
		return err;
	capture->clock_ns = machine_clock_ns(c->machine);
	capture->elapsed_ns = event->fire.elapsed_ns;
	for (u32 i = 0; !err && i < cpus; i++)
		err = machine_get_regs(c->machine, i, &capture->cpu[i].regs, &capture->cpu[i].sregs);
	if (err)
		free(capture);
	else
		*ret = capture;
	return err;
}

static void record_fire(struct coordinator *c, struct watch_fire *fire)
{
	struct watch_event event;
	struct capture *capture;
	u32 times = 0;

	fire->elapsed_ns = c->frozen_at_ns - c->started_ns - c->frozen_total_ns;
	event.fire = *fire;
	snprintf(event.tag, sizeof(event.tag), "watch_%03u", c->watching.recorded % EVENTS_MAX);

	struct error *err = take_record(c, &event, &capture);

	if (!err) {
		err = capture_store_put(&c->captures, capture, &times);
		if (err)
			free(capture);
	}
	if (err)
		say_lost(c, error_message(err));
	else if (!put_event(c, &event))
		say_lost(c, "the script does not take them");
	else
		c->watching.recorded++;
	error_destroy(err);
}

/* One vCPU executes one instruction that KVM cannot emulate, with every page writable. */
static struct error *unblock(struct coordinator *c, u32 cpu)
{
	struct rendezvous *r = machine_rendezvous(c->machine);
	struct error *err = machine_begin_unblock(c->machine, cpu);

	if (err)
		return err;
	err = rendezvous_wait(r, &c->loop, c->patience_ns, freeze_turn, c);
	if (err) {
		machine_cancel_step(c->machine, cpu);

		struct error *late = rendezvous_wait(r, &c->loop, c->patience_ns, NULL, NULL);

		if (late) {
			error_destroy(err);
			machine_set_detail(c->machine, "vCPU %u did not come back from a write to a watched page", cpu);
			machine_stop(c->machine, EXIT_FATAL);
			return late;
		}
	}
	// Whatever became of the step: the pages are protected again.
	struct error *end = machine_end_unblock(c->machine, cpu);

	if (!err)
		return end;
	error_destroy(end);
	return err;
}

struct recording {
	struct watch_fire *fires; /* room for all that vCPUs can hold */
	u32 max;
};

/* The freeze is to be main's. False: main has not even been told yet that its last one has come to its limit. */
static bool offer_freeze(struct coordinator *c)
{
	u32 none = HOLD_NONE;

	return __atomic_compare_exchange_n(&c->hold, &none, HOLD_WATCH, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static struct error *record_all(struct coordinator *c, void *arg)
{
	const struct recording *r = arg;
	struct error *err = NULL;
	u64 hold_ns = 0;
	u32 cpu;

	while (!err && !machine_has_stop(c->machine) && machine_find_blocked(c->machine, &cpu))
		err = unblock(c, cpu);
	if (err)
		return err;

	u32 count = machine_take_fires(c->machine, r->fires, r->max);

	for (u32 i = 0; i < count; i++)
		if (r->fires[i].hold_ns > hold_ns)
			hold_ns = r->fires[i].hold_ns;
	// Before main can see what has been fired.
	if (hold_ns && !offer_freeze(c))
		hold_ns = 0;
	for (u32 i = 0; i < count; i++)
		record_fire(c, &r->fires[i]);
	__atomic_store_n(&c->watching.is_new, true, __ATOMIC_RELEASE);
	mailbox_nudge(&c->mailbox);
	return hold_ns ? hold_for_watch(c, hold_ns) : NULL;
}

/* --- */

static void say_fast(struct coordinator *c)
{
	u32 id;

	while ((id = machine_find_fast_watch(c->machine)) != 0)
		coordinator_warn(c, "watch %u fires more than %d times a second: what comes faster is counted, but not recorded",
				 id, WATCH_RATE);
}

static void serve(struct coordinator *c, const struct recording *r)
{
	u64 start = clock_now_ns();
	u32 expirations = c->expirations;
	struct error *err = freeze(c, FREEZE_WATCH, record_all, (void *)r);

	if (c->expirations != expirations && c->limit_hook)
		c->limit_hook(c->limit_ctx);
	if (err && !machine_has_stop(c->machine)) {
		if (error_code(err) == ERROR_ENDED) { // main has given up a call of its own meanwhile
			c->watching.due = true;
			coordinator_post(c, 0);
		} else {
			say_lost(c, error_message(err));
			machine_drop_fires(c->machine);
		}
	}
	error_destroy(err);
	machine_note_recording(c->machine, clock_now_ns() - start);
}

void watching_serve(struct coordinator *c)
{
	struct recording r = { .max = machine_cpus(c->machine) * WATCH_FIRES_MAX };

	if (!c->watching.due || machine_has_stop(c->machine))
		return;
	c->watching.due = false;
	say_fast(c);
	if (!machine_has_fires(c->machine))
		return;
	r.fires = malloc(r.max * sizeof(*r.fires));
	if (r.fires) {
		serve(c, &r);
	} else {
		say_lost(c, "the host has no memory for them");
		machine_drop_fires(c->machine);
	}
	free(r.fires);
}

/* --- main's side --- */

struct adding {
	const struct watch_config *config;
	u32 *id;
};

static struct error *add(struct coordinator *c, void *arg)
{
	const struct adding *a = arg;

	return machine_add_watch(c->machine, a->config, a->id);
}

static struct error *remove_watch(struct coordinator *c, void *arg)
{
	return machine_remove_watch(c->machine, *(const u32 *)arg);
}

/* In main's own freeze, or in one for this alone. */
static struct error *visit_frozen(struct coordinator *c, struct error *(*visit)(struct coordinator *c, void *arg),
				  void *arg)
{
	if (coordinator_is_frozen(c))
		return coordinator_visit(c, visit, arg);

	struct error *err = coordinator_freeze(c, UINT64_MAX);

	if (err)
		return err;
	err = coordinator_visit(c, visit, arg);

	struct error *late = coordinator_thaw(c);

	if (!err)
		return late;
	error_destroy(late);
	return err;
}

struct error *coordinator_add_watch(struct coordinator *c, const struct watch_config *config, u32 *id)
{
	return visit_frozen(c, add, &(struct adding){ config, id });
}

struct error *coordinator_remove_watch(struct coordinator *c, u32 id)
{
	return visit_frozen(c, remove_watch, &id);
}

struct watch_counts coordinator_watch_counts(const struct coordinator *c, u32 id)
{
	return machine_watch_counts(c->machine, id);
}

bool coordinator_take_fire(struct coordinator *c, struct watch_event *ret)
{
	struct watching *w = &c->watching;

	pthread_mutex_lock(&w->lock);

	struct watch_entry *e = w->first;

	if (e) {
		w->first = e->next;
		if (!w->first)
			w->last = &w->first;
		w->count--;
		*ret = e->event;
	}
	pthread_mutex_unlock(&w->lock);
	free(e);
	return e;
}

bool coordinator_accept_freeze(struct coordinator *c)
{
	u32 watch = HOLD_WATCH;

	return __atomic_compare_exchange_n(&c->hold, &watch, HOLD_FROZEN, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
