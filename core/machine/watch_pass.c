// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Getting a vCPU past what watches stop it at: an instruction that is watched, or that KVM cannot emulate on a
 * protected page. It is stepped over, while the others stay parked.
 */
#include "machine/frozen.h"
#include "machine/watch.h"
#include "machine/watch_internal.h"

/* --- on the thread of the vCPU that is stepped --- */

bool watch_is_blocked(const struct vcpu_thread *t)
{
	const struct watches *w = t->machine->watches;

	return w && __atomic_load_n(&w->stops[t->index].blocked, __ATOMIC_ACQUIRE);
}

struct error *watch_open_pages(struct vcpu_thread *t)
{
	struct watches *w = t->machine->watches;
	struct watch_stop *stop = &w->stops[t->index];
	struct error *err = watches_protect(w, false);

	if (err)
		return err;
	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (w->watch[i].id && !w->watch[i].config.is_code)
			w->compared[i] = watch_read(&w->watch[i]);
	stop->has_opened = true;
	__atomic_store_n(&stop->blocked, false, __ATOMIC_RELEASE);
	return NULL;
}

/* Writes of what was there already are not seen here. Debug registers see their own. */
static void compare(struct watches *w, const struct vcpu_thread *t)
{
	for (u32 i = 0; i < WATCHES_MAX; i++) {
		struct watch *watch = &w->watch[i];

		if (!watch->id || watch->config.is_code || watch->debug_register)
			continue;

		const struct watch_change change = { .before = w->compared[i], .after = watch_read(watch) };

		if (change.before != change.after)
			watches_fire(w, watch, t, &change);
	}
}

struct error *watch_close_pages(struct vcpu_thread *t)
{
	struct watches *w = t->machine->watches;
	struct watch_stop *stop = w ? &w->stops[t->index] : NULL;

	if (!stop || !stop->has_opened)
		return NULL;
	stop->has_opened = false;
	pthread_mutex_lock(&w->lock);
	compare(w, t);
	pthread_mutex_unlock(&w->lock);

	struct error *err = watches_protect(w, true);

	// From here on nobody would see what is written there.
	if (err && !machine_is_stopping(w->machine)) {
		machine_set_detail(w->machine, "the watched pages are not protected any more: %s", error_message(err));
		machine_stop(w->machine, EXIT_FATAL);
	}
	return err;
}

/* --- while every vCPU is parked --- */

bool machine_find_blocked(struct machine *m, u32 *cpu)
{
	struct watches *w = m->watches;

	for (u32 i = 0; w && i < m->vcpu_count; i++) {
		*cpu = i;
		if (__atomic_load_n(&w->stops[i].blocked, __ATOMIC_ACQUIRE))
			return true;
	}
	return false;
}

struct error *machine_begin_unblock(struct machine *m, u32 cpu)
{
	return machine_begin_step(m, cpu, 1);
}

struct error *machine_end_unblock(struct machine *m, u32 cpu)
{
	struct watch_stop *stop = &m->watches->stops[cpu];
	u32 executed = 0;
	struct error *err = machine_end_step(m, cpu, &executed);

	// A vCPU that could not be let past is none that stands there: it has ended, or main has taken it elsewhere. Or
	// it comes there once more.
	__atomic_store_n(&stop->at_breakpoint, false, __ATOMIC_RELEASE);
	__atomic_store_n(&stop->blocked, false, __ATOMIC_RELEASE);
	return err;
}
