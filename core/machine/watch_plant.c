// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Breakpoints by INT3, where debug registers run out. They stand in the guest's code only while it runs: who looks into
 * a frozen machine, saves it or steps it finds the code as it is.
 */
#include "machine/watch.h"
#include "machine/watch_internal.h"

enum {
	INT3 = 0xcc,
	VECTOR_INT3 = 3,
};

void watches_learn_soft_breakpoints(struct watches *w)
{
	if (w->soft_breakpoints_are_known)
		return;
	w->soft_breakpoints_work = watches_try_out(w, MICRO_SOFT_BREAKPOINT);
	w->soft_breakpoints_are_known = true;
}

static bool is_planted(const struct watch *watch)
{
	return watch->id && watch->config.is_code && !watch->debug_register;
}

bool watches_need_int3(const struct watches *w)
{
	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (is_planted(&w->watch[i]))
			return true;
	for (u32 i = WATCH_REGISTERS + 1; i <= WATCH_RETURNS_MAX; i++)
		if (w->returns[i].watch)
			return true;
	return false;
}

bool watches_have_planted(const struct watches *w, u64 address)
{
	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (is_planted(&w->watch[i]) && w->watch[i].config.address == address)
			return true;
	for (u32 i = WATCH_REGISTERS + 1; i <= WATCH_RETURNS_MAX; i++)
		if (w->returns[i].watch && w->returns[i].address == address)
			return true;
	return false;
}

/* --- in the guest's code; every vCPU is parked, or has ended --- */

static void plant(struct watches *w, u8 *at)
{
	u32 count = w->plant_count;

	for (u32 i = 0; i < count; i++)
		if (w->plants[i].at == at)
			return;
	w->plants[count] = (struct watch_plant){ .at = at, .original = __atomic_load_n(at, __ATOMIC_RELAXED) };
	w->plant_count = count + 1;
	__atomic_store_n(&w->has_planted, true, __ATOMIC_RELAXED);
	__atomic_store_n(at, INT3, __ATOMIC_RELEASE);
}

void machine_plant_breakpoints(struct machine *m)
{
	struct watches *w = m->watches;

	if (!w || !watches_need_int3(w))
		return;
	pthread_mutex_lock(&w->lock);
	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (is_planted(&w->watch[i]))
			plant(w, w->watch[i].place);
	for (u32 i = WATCH_REGISTERS + 1; i <= WATCH_RETURNS_MAX; i++)
		if (w->returns[i].watch)
			plant(w, w->returns[i].place);
	pthread_mutex_unlock(&w->lock);
}

void machine_lift_breakpoints(struct machine *m)
{
	struct watches *w = m->watches;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	for (u32 i = w->plant_count; i-- > 0;) {
		const struct watch_plant *p = &w->plants[i];

		// What the guest has written there since is its code.
		if (__atomic_load_n(p->at, __ATOMIC_RELAXED) == INT3)
			__atomic_store_n(p->at, p->original, __ATOMIC_RELEASE);
	}
	w->plant_count = 0;
	pthread_mutex_unlock(&w->lock);
}

/* --- any thread --- */

bool machine_begin_unhide(struct machine *m)
{
	struct watches *w = m->watches;

	if (!w || !__atomic_load_n(&w->has_planted, __ATOMIC_RELAXED))
		return false;
	pthread_mutex_lock(&w->lock);
	return true;
}

void machine_end_unhide(struct machine *m, const u8 *from, u8 *bytes, size_t size)
{
	struct watches *w = m->watches;

	for (u32 i = 0; i < w->plant_count; i++) {
		const struct watch_plant *p = &w->plants[i];

		if (p->at >= from && p->at < from + size && bytes[p->at - from] == INT3)
			bytes[p->at - from] = p->original;
	}
	pthread_mutex_unlock(&w->lock);
}

/* --- on the vCPU's thread --- */

/* One of the guest's own: as if nobody had looked. */
static void give_back(struct vcpu_thread *t)
{
	struct kvm_vcpu_events events;
	struct error *err = vcpu_get_events(&t->vcpu, &events);

	if (!err) {
		events.exception.injected = 1;
		events.exception.pending = 0;
		events.exception.nr = VECTOR_INT3;
		events.exception.has_error_code = 0;
		events.flags &= KVM_VCPUEVENT_VALID_PAYLOAD;
		err = vcpu_set_events(&t->vcpu, &events);
	}
	error_destroy(err);
}

bool watch_take_planted(struct vcpu_thread *t)
{
	const struct kvm_run *run = t->vcpu.run;
	struct watches *w = t->machine->watches;
	bool is_debug = run->exit_reason == KVM_EXIT_DEBUG;

	if (!w || !(w->debug_control & KVM_GUESTDBG_USE_SW_BP) ||
	    (is_debug && run->debug.arch.exception != VECTOR_INT3))
		return false;

	u64 pc = is_debug ? run->debug.arch.pc : watch_rip(t);

	pthread_mutex_lock(&w->lock);

	bool ours = watches_have_planted(w, pc);

	if (ours)
		watch_hit_code(w, t, pc);
	pthread_mutex_unlock(&w->lock);
	if (is_debug && !ours)
		give_back(t);
	else if (ours && !is_debug)
		watch_forget_undefined(t);
	return is_debug || ours;
}
