// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Main's calls, and the visitor that holds a frozen machine for main until it says thaw.
 */
#include <string.h>

#include "coordinator/failure.h"
#include "coordinator/freeze.h"
#include "coordinator/internal.h"
#include "coordinator/monitoring.h"
#include "machine/frozen.h"

struct holding {
	struct coordinator *coordinator;
	struct loop_timer limit;
	bool expired, thaw; /* why it ends */
	bool is_watch; /* and main may not know yet */
};

static void set_hold(struct coordinator *c, enum hold hold)
{
	__atomic_store_n(&c->hold, hold, __ATOMIC_SEQ_CST);
}

static void on_limit(void *ctx)
{
	struct holding *h = ctx;

	h->expired = true;
}

/* After each turn of the loop in a step: whether there is a reason to give up. The freeze's limit is one. */
static bool step_turn(void *holding)
{
	const struct holding *h = holding;

	return freeze_turn(h->coordinator) || h->expired;
}

/* One vCPU runs, with the clocks, until every one has acknowledged again. */
static struct error *step(struct coordinator *c, struct holding *h, const struct call *call, u32 *executed)
{
	struct rendezvous *r = machine_rendezvous(c->machine);
	struct error *err = machine_begin_step(c->machine, call->cpu, call->count);
	struct error *late;

	if (err)
		return err;
	err = rendezvous_wait(r, &c->loop, call->limit_ns, step_turn, h);
	if (err) {
		// It ends at its next instruction, unless the vCPU is beyond reach; then the machine cannot be held.
		machine_cancel_step(c->machine, call->cpu);
		late = rendezvous_wait(r, &c->loop, c->patience_ns, NULL, NULL);
		if (late) {
			error_destroy(err);
			machine_set_detail(c->machine, "vCPU %u did not come back from a single step", call->cpu);
			machine_stop(c->machine, EXIT_FATAL);
			return late;
		}
	}
	late = machine_end_step(c->machine, call->cpu, executed);
	if (err && error_code(err) == ERROR_TIMEOUT) {
		error_destroy(err);
		err = error_create(ERROR_TIMEOUT, "vCPU %u executed %u of %u instructions within %.1f s", call->cpu,
				   *executed, call->count, (double)call->limit_ns / NSEC_PER_SEC);
	}
	if (!err)
		return late;
	error_destroy(late);
	return err;
}

static struct error *set_monitor(struct coordinator *c, const struct call *call)
{
	if (call->limit_ns)
		return monitoring_add(c, call->monitor, call->limit_ns);
	monitoring_remove(c, call->monitor);
	return NULL;
}

/* What can be set at any time. False: it is another call. */
static bool serve_setting(struct coordinator *c, const struct call *call)
{
	struct error *err = NULL;

	if (call->kind == CALL_TICK)
		captures_set_tick(c, call->limit_ns);
	else if (call->kind == CALL_PATIENCE)
		c->patience_ns = call->limit_ns;
	else if (call->kind == CALL_MONITOR)
		err = set_monitor(c, call);
	else if (call->kind == CALL_PLAN || call->kind == CALL_PERIODIC)
		err = call->look(c, call->arg);
	else
		return false;
	call_slot_answer(&c->call, err, 0);
	return true;
}

/* --- while frozen by main --- */

static void serve_held(struct coordinator *c, struct holding *h)
{
	struct call call;
	struct error *err;
	u32 result = 0;

	if (!call_slot_take(&c->call, &call) || serve_setting(c, &call))
		return;
	switch (call.kind) {
	case CALL_INJECT:
	case CALL_KERNEL_OPS:
		err = freeze_reject(c, call.source);
		break;
	case CALL_THAW: // answered when it is being done
		h->thaw = c->thaw_is_awaited = true;
		return;
	case CALL_LOOK:
		err = call.look(c, call.arg);
		break;
	case CALL_STEP:
		err = step(c, h, &call, &result);
		if (!h->expired)
			break;
		error_destroy(err); // answered after the thaw: main finds that the limit has come
		return;
	default:
		if (h->is_watch && (call.kind == CALL_FREEZE || call.kind == CALL_CAPTURE || call.kind == CALL_EARLY))
			err = freeze_reject(c, call.source);
		else
			err = error_create(ERROR_FROZEN, "the machine is frozen already");
	}
	call_slot_answer(&c->call, err, result);
}

/* Until main's thaw, its limit, or the machine's end. */
static struct error *hold_until_thaw(struct coordinator *c, struct holding *h, u64 limit_ns)
{
	struct error *err = NULL;
	u32 watch = HOLD_WATCH;

	if (limit_ns != UINT64_MAX)
		loop_set_timer(&c->loop, &h->limit, clock_deadline_ns(limit_ns));
	while (!err && !h->thaw && !h->expired && !machine_has_stop(c->machine)) {
		err = loop_run_once(&c->loop, LOOP_FOREVER);
		serve_held(c, h);
	}
	loop_cancel_timer(&c->loop, &h->limit);
	// What main has not heard of need not be taken from it.
	if (__atomic_compare_exchange_n(&c->hold, &watch, HOLD_NONE, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return err;
	if (h->expired && !h->thaw) {
		__atomic_fetch_add(&c->expirations, 1, __ATOMIC_SEQ_CST);
		set_hold(c, HOLD_EXPIRED);
	} else {
		set_hold(c, HOLD_NONE);
	}
	return err;
}

/* Fails when nobody waits for it any more. */
static struct error *hold(struct coordinator *c, void *arg)
{
	const struct call *freeze_call = arg;
	struct holding h = { .coordinator = c, .limit = { .fn = on_limit, .ctx = &h } };

	if (!call_slot_settle(&c->call))
		return error_create(ERROR_INTERRUPTED, "nobody waits for this freeze any more");
	set_hold(c, HOLD_FROZEN);
	call_slot_answer(&c->call, NULL, 0);
	return hold_until_thaw(c, &h, freeze_call->limit_ns);
}

struct error *hold_for_watch(struct coordinator *c, u64 limit_ns)
{
	struct holding h = { .coordinator = c, .limit = { .fn = on_limit, .ctx = &h }, .is_watch = true };

	return hold_until_thaw(c, &h, limit_ns);
}

bool hold_answer_thaw(struct coordinator *c)
{
	if (!c->thaw_is_awaited)
		return false;
	c->thaw_is_awaited = false;
	call_slot_answer(&c->call, NULL, 0);
	return true;
}

/* --- while running --- */

static void freeze_for_main(struct coordinator *c, struct call *call)
{
	u32 expirations = c->expirations;
	struct error *err = freeze(c, FREEZE_MAIN, hold, call);

	// Not c->hold: main may have been told by another call since, and go on all the same.
	if (c->expirations != expirations && c->limit_hook)
		c->limit_hook(c->limit_ctx);
	// The freeze itself, where it came to nothing, or a step that the limit has ended. A thaw has been answered.
	if (call_slot_is_taken(&c->call))
		call_slot_answer(&c->call, err, 0);
	else
		error_destroy(err);
}

static struct error *not_frozen(const struct coordinator *c)
{
	if (machine_has_stop(c->machine))
		return error_create(ERROR_ENDED, "the machine has ended");
	return error_create(ERROR_RUNNING, "the machine is not frozen");
}

void hold_serve(struct coordinator *c)
{
	struct call call;
	struct error *err;
	u32 result = 0;

	if (!call_slot_take(&c->call, &call) || serve_setting(c, &call))
		return;
	switch (call.kind) {
	case CALL_FREEZE:
		freeze_for_main(c, &call);
		return;
	case CALL_EARLY:
		err = failure_take_early(c, &result);
		break;
	case CALL_CAPTURE:
	case CALL_INJECT:
		err = captures_record(c, call.source, call.tag);
		break;
	case CALL_KERNEL_OPS:
		err = kernel_ops_run_cold(c, call.arg);
		break;
	default:
		err = not_frozen(c);
	}
	call_slot_answer(&c->call, err, result);
}

void hold_serve_busy(struct coordinator *c)
{
	struct call call;
	struct error *err;

	if (!call_slot_take(&c->call, &call) || serve_setting(c, &call))
		return;
	if (call.kind == CALL_FREEZE || call.kind == CALL_CAPTURE || call.kind == CALL_EARLY ||
	    call.kind == CALL_INJECT || call.kind == CALL_KERNEL_OPS)
		err = freeze_reject(c, call.source);
	else
		err = not_frozen(c);
	call_slot_answer(&c->call, err, 0);
}
