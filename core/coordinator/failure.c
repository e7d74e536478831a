// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/failure.h"

#include <string.h>

#include "base/clock.h"
#include "coordinator/freeze.h"
#include "kernel/printk.h"
#include "machine/frozen.h"

static const char tag[] = "failure";

/* What the log is searched for: more records than are printed while the coordinator comes to look at them. */
enum { LOOK_BACK = 4096 };

void failure_take_text(struct coordinator *c, const void *text, size_t size)
{
	if (__atomic_load_n(&c->failure_found, __ATOMIC_ACQUIRE) ||
	    !kernel_failure_put(&c->failure_scan, text, size))
		return;
	__atomic_store_n(&c->failure_found, true, __ATOMIC_RELEASE);
	coordinator_post(c, 0);
}

/* --- who has said it --- */

struct search {
	u64 from, newest; /* numbers of records */
	bool any;
	struct kernel_failure_scan first; /* the oldest that tells of a failure */
};

static bool look(void *ctx, const struct printk_record *record)
{
	struct kernel_failure_scan scan = { 0 };
	struct search *s = ctx;

	if (record->seq < s->from)
		return false;
	if (!s->any)
		s->newest = record->seq;
	s->any = true;
	if (!record->facility && (kernel_failure_put(&scan, record->text, record->size) ||
				  kernel_failure_put(&scan, "\n", 1)))
		s->first = scan;
	return true;
}

enum origin { NOBODY_KNOWS,
	      THE_KERNEL,
	      A_PROGRAM };

/*
 * A program in the guest can write to the console what it likes, and into the kernel's log by /dev/kmsg; but the
 * kernel marks what it has not said itself.
 */
static enum origin origin_of(struct coordinator *c)
{
	const struct planning *p = &c->planning;
	struct search s = { .from = c->failure_seq };
	struct error *err;

	if (!p->log.prb)
		return NOBODY_KNOWS;
	err = printk_look_back(&p->view, &p->log, LOOK_BACK, look, &s);
	if (err) {
		error_destroy(err);
		return NOBODY_KNOWS;
	}
	if (!s.first.found) {
		if (s.any)
			c->failure_seq = s.newest + 1;
		return A_PROGRAM;
	}
	// As the console has it, where that is the same line: with its time.
	if (!strstr(c->failure_line, s.first.line))
		strcpy(c->failure_line, s.first.line);
	c->failure = s.first.found;
	return THE_KERNEL;
}

/* What the console says is not the kernel's: true, and it is listened to again. */
static bool is_refuted(struct coordinator *c)
{
	c->failure = c->failure_scan.found;
	strcpy(c->failure_line, c->failure_scan.line);
	if (origin_of(c) != A_PROGRAM)
		return false;
	c->failure = KERNEL_FINE;
	c->failure_line[0] = '\0';
	c->failure_scan = (struct kernel_failure_scan){ 0 };
	__atomic_store_n(&c->failure_found, false, __ATOMIC_RELEASE);
	// Nobody listened until now: but what the kernel says is in its log before it is on the console.
	if (origin_of(c) != THE_KERNEL)
		return true;
	__atomic_store_n(&c->failure_found, true, __ATOMIC_RELEASE);
	return false;
}

/* --- recording it --- */

struct dump {
	struct shot shot;
	bool is_checked, is_refuted;
};

/* The machine stands still. What captures record, and how the log is read, main may have to say first. */
static struct error *record(struct coordinator *c, void *arg)
{
	struct dump *d = arg;
	struct error *err;

	captures_await_plan(c);
	d->is_refuted = !d->is_checked && is_refuted(c);
	if (d->is_refuted)
		return NULL;
	err = captures_begin(c, FREEZE_FAILURE, tag, &d->shot);
	return err ? err : captures_take(c, &d->shot);
}

/* A machine that has ended stands still by itself, and its memory and its vCPUs are still there. */
static struct error *record_ended(struct coordinator *c, struct dump *d)
{
	machine_stop_clocks(c->machine);
	c->frozen_at_ns = clock_now_ns();
	return record(c, d);
}

static void keep(struct coordinator *c, struct dump *d, struct error *err)
{
	u32 times;

	if (!freeze_state_take_late(&c->dump_state)) { // it has been taken back to where it had not failed
		captures_drop(&d->shot);
		error_destroy(err);
		return;
	}
	coordinator_warn(c, "the guest's kernel, %s: %s", kernel_failure_name(c->failure), c->failure_line);
	if (!err)
		err = captures_keep(c, &d->shot, &times);
	else
		captures_drop(&d->shot);
	if (err)
		captures_keep_placeholder(c, FREEZE_FAILURE, tag, error_message(err));
	error_destroy(err);
}

void failure_serve(struct coordinator *c)
{
	struct dump d = { .is_checked = c->planning.log.prb };
	struct error *err;

	if (!__atomic_load_n(&c->failure_found, __ATOMIC_ACQUIRE) || c->dump_state == FREEZE_DONE)
		return;
	// A machine that is about to end comes here again when it has.
	if (!c->draining &&
	    (machine_has_stop(c->machine) || __atomic_load_n(&c->failure_comes_late, __ATOMIC_RELAXED)))
		return;
	if (d.is_checked && is_refuted(c))
		return;
	err = c->draining ? record_ended(c, &d) : freeze(c, FREEZE_FAILURE, record, &d);
	if (err && error_code(err) == ERROR_ENDED && !c->draining) { // meanwhile: likewise
		captures_drop(&d.shot);
		error_destroy(err);
		return;
	}
	if (!d.is_refuted)
		keep(c, &d, err);
}

struct error *failure_take_early(struct coordinator *c, u32 *taken)
{
	struct error *err;

	*taken = freeze_state_take_early(&c->dump_state, true);
	if (!*taken)
		return NULL;
	err = captures_record(c, FREEZE_FAILURE, "early");
	// Another one may be tried, unless the failure itself has come meanwhile.
	if (err && c->dump_state == FREEZE_TOOK_EARLY)
		c->dump_state = FREEZE_IDLE;
	return err;
}

void failure_forget(struct coordinator *c)
{
	c->failure_scan = (struct kernel_failure_scan){ 0 };
	c->failure = KERNEL_FINE;
	c->failure_line[0] = '\0';
	c->failure_seq = 0;
	c->dump_state = FREEZE_IDLE;
	__atomic_store_n(&c->failure_found, false, __ATOMIC_RELEASE);
}
