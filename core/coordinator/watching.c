// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/watching.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "coordinator/freeze.h"
#include "machine/frozen.h"
#include "machine/watch.h"

/* Names of their records, and how many fires may wait for main: none's name is another's before it has been taken. */
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

/* All that was fired before one freeze, and the record that they have in common. */
struct recording {
	struct watch_fire *fires; /* room for all that vCPUs can hold */
	u32 max, count;
	struct shot shot;
	char tag[32];
	bool is_recorded, is_published;
};

/* The calls that the writers are in: what is left of their stacks. */
static void add_stacks(struct coordinator *c, struct recording *r)
{
	const u64 kernel = 1ULL << 63;
	struct kvm_regs regs = { 0 };
	struct kvm_sregs sregs;

	for (u32 i = 0; r->shot.run && i < r->count; i++) {
		if (i && r->fires[i].cpu == r->fires[i - 1].cpu) // they are by CPU
			continue;
		error_destroy(machine_get_regs(c->machine, r->fires[i].cpu, &regs, &sregs));
		if (regs.rsp & kernel)
			plan_run_add_stack(r->shot.run, regs.rsp);
	}
}

/* Nobody will see them: they count as dropped. */
static void lose(struct coordinator *c, const struct recording *r)
{
	for (u32 i = 0; i < r->count; i++)
		machine_note_dropped(c->machine, r->fires[i].watch);
}

/* Main may have them now. */
static void publish(struct coordinator *c, struct recording *r)
{
	u32 times = 0;
	struct error *err = captures_keep(c, &r->shot, &times);

	r->is_published = true;
	if (err) {
		say_lost(c, error_message(err));
		error_destroy(err);
		lose(c, r);
		return;
	}
	c->watching.recorded++;
	for (u32 i = 0; i < r->count; i++) {
		struct watch_event event = { .fire = r->fires[i] };

		memcpy(event.tag, r->tag, sizeof(event.tag));
		if (!put_event(c, &event)) {
			say_lost(c, "the script does not take them");
			machine_note_dropped(c->machine, event.fire.watch);
		}
	}
	__atomic_store_n(&c->watching.is_new, true, __ATOMIC_RELEASE);
	mailbox_nudge(&c->mailbox);
}

/* The freeze is to be main's. False: main has not even been told yet that its last one has come to its limit. */
static bool offer_freeze(struct coordinator *c)
{
	u32 none = HOLD_NONE;

	return __atomic_compare_exchange_n(&c->hold, &none, HOLD_WATCH, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static struct error *unblock_all(struct coordinator *c, bool (*find)(struct machine *m, u32 *cpu))
{
	struct error *err = NULL;
	u32 cpu;

	while (!err && !machine_has_stop(c->machine) && find(c->machine, &cpu))
		err = unblock(c, cpu);
	return err;
}

static void catch_returns(struct coordinator *c, const struct recording *r)
{
	for (u32 i = 0; i < r->count; i++)
		if (!machine_catch_return(c->machine, &r->fires[i]))
			say_lost(c, "there is no debug register for another call's return");
}

static int by_order(const void *a, const void *b)
{
	const struct watch_fire *x = a, *y = b;

	return (x->order > y->order) - (x->order < y->order);
}

/* Fires are recorded where they are, right behind a write and in front of an instruction. */
static struct error *record_fires(struct coordinator *c, struct recording *r)
{
	struct error *err = captures_take(c, &r->shot);
	u64 hold_ns = 0;

	if (err)
		return err;
	add_stacks(c, r);
	qsort(r->fires, r->count, sizeof(r->fires[0]), by_order);
	r->is_recorded = true;
	catch_returns(c, r);
	for (u32 i = 0; i < r->count; i++) {
		r->fires[i].elapsed_ns = r->shot.capture->elapsed_ns;
		if (r->fires[i].hold_ns > hold_ns)
			hold_ns = r->fires[i].hold_ns;
	}
	// Before main can see what has been fired.
	if (!hold_ns || !offer_freeze(c))
		return NULL;
	publish(c, r);
	return hold_for_watch(c, hold_ns);
}

static struct error *record_all(struct coordinator *c, void *arg)
{
	struct recording *r = arg;
	struct error *err = unblock_all(c, machine_find_blocked);

	if (err)
		return err;
	r->count = machine_take_fires(c->machine, r->fires, r->max);
	if (r->count)
		err = record_fires(c, r);
	if (!err)
		err = machine_settle_returns(c->machine);
	return err ? err : unblock_all(c, machine_find_at_breakpoint);
}

/* --- */

static void say_what_costs(struct coordinator *c)
{
	struct watch_config watch;
	u64 ns;

	while (machine_find_fast_watch(c->machine, &watch))
		coordinator_warn(c,
				 "the watch of %s fires more than %u times a second: the rest is counted, but not "
				 "recorded; give it a condition (when), or another rate",
				 watch.name, watch.rate);
	if (machine_find_hot_watch(c->machine, &watch, &ns))
		coordinator_warn(c,
				 "the page of the watch of %s is hot: within %.1f s the guest has written %u times "
				 "beside what is watched, and has to wait for each; a debug register costs nothing",
				 watch.name, (double)ns / NSEC_PER_SEC, WATCH_BESIDE_MAX);
}

/* A freeze came to nothing. Whoever waits is not to wait for ever. */
static void give_up(struct coordinator *c, const struct error *err)
{
	if (machine_has_stop(c->machine))
		return;
	if (error_code(err) == ERROR_ENDED) { // main has given up a call of its own meanwhile: once more
		c->watching.due = true;
		coordinator_post(c, 0);
		return;
	}
	say_lost(c, error_message(err));
	machine_drop_fires(c->machine);
	// A vCPU that cannot get past a page has to be helped some time.
	if (machine_has_fires(c->machine)) {
		c->watching.due = true;
		coordinator_post(c, 0);
	}
}

static struct error *serve(struct coordinator *c, struct recording *r)
{
	u32 expirations = c->expirations;
	struct error *err;

	snprintf(r->tag, sizeof(r->tag), "watch_%03u", c->watching.recorded % EVENTS_MAX);
	r->fires = malloc(r->max * sizeof(*r->fires));
	err = r->fires ? captures_begin(c, FREEZE_WATCH, r->tag, &r->shot) : error_no_memory();
	if (err)
		return err;
	err = freeze(c, FREEZE_WATCH, record_all, r);
	if (c->expirations != expirations && c->limit_hook)
		c->limit_hook(c->limit_ctx);
	// Also when what came behind the recording has failed.
	if (r->is_recorded && !r->is_published)
		publish(c, r);
	else if (!r->is_recorded)
		lose(c, r);
	if (!r->is_published)
		captures_drop(&r->shot);
	return err;
}

void watching_serve(struct coordinator *c)
{
	struct recording r = { .max = machine_cpus(c->machine) * WATCH_FIRES_MAX };
	u64 start = clock_now_ns();

	if (!c->watching.due || machine_has_stop(c->machine))
		return;
	c->watching.due = false;
	say_what_costs(c);
	if (!machine_has_fires(c->machine))
		return;

	struct error *err = serve(c, &r);

	if (err)
		give_up(c, err);
	error_destroy(err);
	free(r.fires);
	machine_note_recording(c->machine, clock_now_ns() - start);
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
