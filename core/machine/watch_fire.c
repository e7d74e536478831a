// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writes that were seen: which of them count, who stops for them, what becomes of them.
 */
#include "base/clock.h"
#include "machine/watch.h"
#include "machine/watch_internal.h"

static u64 extend(u64 v, const struct watch_config *c)
{
	u32 shift = 64 - c->size * 8;

	return c->is_signed ? (u64)((s64)(v << shift) >> shift) : v << shift >> shift;
}

static bool holds(const struct watch_config *c, u64 before, u64 after)
{
	u64 a = extend(after, c), b = extend(c->value, c);
	bool less = c->is_signed ? (s64)a < (s64)b : a < b;

	switch (c->op) {
	case WATCH_ALWAYS:
		return true;
	case WATCH_EQUAL:
		return a == b;
	case WATCH_NOT_EQUAL:
		return a != b;
	case WATCH_LESS:
		return less;
	case WATCH_AT_MOST:
		return less || a == b;
	case WATCH_GREATER:
		return !less && a != b;
	case WATCH_AT_LEAST:
		return !less;
	case WATCH_CHANGED:
		return before != after;
	case WATCH_BITS:
		return after & c->value;
	}
	return false;
}

/* A second of the machine's: the time that recording takes is none. */
static bool comes_too_fast(struct watches *w, struct watch *watch)
{
	u64 now = clock_now_ns() - w->recording_ns;

	if (now - watch->window_start_ns >= NSEC_PER_SEC) {
		watch->window_start_ns = now;
		watch->window_fires = 0;
	}
	return watch->window_fires++ >= watch->config.rate;
}

static void wake(const struct machine *m)
{
	if (m->watch_wake)
		m->watch_wake(m->watch_ctx);
}

/*
 * A debug register tells of a write when its value may be another vCPU's already: of one that wrote since this vCPU
 * went into the guest. Which of the two was the first nobody knows; those of both are marked that have a record.
 */
bool watches_note_race(struct watches *w, struct watch *watch, u32 cpu)
{
	u64 other = watch->last_cpu == cpu ? watch->last_of_another : watch->last;
	bool raced = other > w->stops[cpu].entered;

	if (watch->last_cpu != cpu) {
		watch->last_of_another = watch->last;
		watch->last_cpu = cpu;
	}
	watch->last = __atomic_add_fetch(&w->sequence, 1, __ATOMIC_RELEASE);
	for (u32 i = 0; raced && i < w->machine->vcpu_count; i++)
		for (u32 k = 0; i != cpu && k < w->stops[i].count; k++)
			if (w->stops[i].fires[k].watch == watch->id)
				w->stops[i].fires[k].raced = true;
	return raced;
}

void watches_note_beside(struct watches *w, u64 gpa)
{
	if (!w->beside)
		w->beside_since_ns = clock_now_ns();
	if (++w->beside < WATCH_BESIDE_MAX || w->is_hot)
		return;
	w->is_hot = true;
	w->hot_gpa = gpa;
	wake(w->machine);
}

static void drop(struct watches *w, struct watch *watch)
{
	watch->dropped++;
	if (!watch->is_fast) {
		watch->is_fast = true;
		wake(w->machine);
	}
}

static void queue(struct watches *w, struct watch *watch, u32 cpu, const struct watch_fire *fire)
{
	struct watch_stop *stop = &w->stops[cpu];

	watch->hits++;
	if (watch->config.counts_only)
		return;
	if (stop->count == WATCH_FIRES_MAX || comes_too_fast(w, watch)) {
		drop(w, watch);
		return;
	}

	struct watch_fire *f = &stop->fires[stop->count];

	*f = *fire;
	f->watch = watch->id;
	f->cpu = cpu;
	f->order = ++w->fired;
	f->number = watch->hits;
	f->size = watch->config.size;
	f->hold_ns = watch->config.hold_ns;
	__atomic_store_n(&stop->count, stop->count + 1, __ATOMIC_RELEASE);
	wake(w->machine);
}

void watches_fire(struct watches *w, struct watch *watch, const struct vcpu_thread *t,
		  const struct watch_change *change)
{
	const struct watch_fire fire = {
		.kind = WATCH_WRITE,
		.rip = watch_rip(t),
		.before = change->before,
		.after = change->after,
		.raced = change->raced,
	};

	watch->value = change->after;
	if (holds(&watch->config, change->before, change->after))
		queue(w, watch, t->index, &fire);
}

void watches_fire_code(struct watches *w, struct watch *watch, const struct vcpu_thread *t, enum watch_event_kind kind,
		       u64 value, u64 rip)
{
	const struct watch_fire fire = {
		.kind = kind,
		.rip = rip,
		.after = value,
		.wants_return = kind == WATCH_CALL && watch->config.returns,
	};

	queue(w, watch, t->index, &fire);
}

void watch_stop_at_breakpoint(struct watches *w, struct vcpu_thread *t)
{
	w->stops[t->index].breakpoint = watch_rip(t);
	__atomic_store_n(&w->stops[t->index].at_breakpoint, true, __ATOMIC_RELEASE);
	wake(w->machine);
}

u32 machine_take_fires(struct machine *m, struct watch_fire *ret, u32 max)
{
	struct watches *w = m->watches;
	u32 count = 0;

	if (!w)
		return 0;
	pthread_mutex_lock(&w->lock);
	for (u32 i = 0; i < m->vcpu_count; i++) {
		struct watch_stop *stop = &w->stops[i];

		if (stop->count > max - count)
			break;
		for (u32 k = 0; k < stop->count; k++) {
			struct watch *watch = watches_find(w, stop->fires[k].watch);

			ret[count++] = stop->fires[k];
			if (watch)
				watch->raced += stop->fires[k].raced;
		}
		__atomic_store_n(&stop->count, 0, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&w->lock);
	return count;
}

bool machine_has_fires(struct machine *m)
{
	for (u32 i = 0; m->watches && i < m->vcpu_count; i++)
		if (__atomic_load_n(&m->watches->stops[i].count, __ATOMIC_ACQUIRE) ||
		    __atomic_load_n(&m->watches->stops[i].at_breakpoint, __ATOMIC_ACQUIRE) ||
		    __atomic_load_n(&m->watches->stops[i].blocked, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

void machine_drop_fires(struct machine *m)
{
	struct watches *w = m->watches;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	for (u32 i = 0; i < m->vcpu_count; i++) {
		struct watch_stop *stop = &w->stops[i];

		for (u32 k = 0; k < stop->count; k++) {
			struct watch *watch = watches_find(w, stop->fires[k].watch);

			if (watch)
				watch->dropped++;
		}
		if (!stop->count)
			continue;
		__atomic_store_n(&stop->count, 0, __ATOMIC_RELEASE);
		vcpu_thread_kick(&m->vcpus[i]);
	}
	pthread_mutex_unlock(&w->lock);
}

/* --- any thread --- */

struct watch_counts machine_watch_counts(struct machine *m, u32 id)
{
	struct watches *w = m->watches;
	struct watch_counts ret = { 0 };

	if (!w)
		return ret;
	pthread_mutex_lock(&w->lock);

	const struct watch *watch = watches_find(w, id);

	if (watch)
		ret = (struct watch_counts){
			.hits = watch->hits,
			.dropped = watch->dropped,
			.raced = watch->raced,
			.backend = watch->debug_register ? WATCH_BY_REGISTER :
				   watch->config.is_code ? WATCH_BY_INT3 :
							   WATCH_BY_PAGE,
		};
	pthread_mutex_unlock(&w->lock);
	return ret;
}

void machine_note_recording(struct machine *m, u64 ns)
{
	pthread_mutex_lock(&m->watches->lock);
	m->watches->recording_ns += ns;
	pthread_mutex_unlock(&m->watches->lock);
}

void machine_note_dropped(struct machine *m, u32 id)
{
	struct watches *w = m->watches;

	pthread_mutex_lock(&w->lock);

	struct watch *watch = watches_find(w, id);

	if (watch)
		watch->dropped++;
	pthread_mutex_unlock(&w->lock);
}

bool machine_find_fast_watch(struct machine *m, struct watch_config *ret)
{
	struct watches *w = m->watches;
	bool found = false;

	if (!w)
		return false;
	pthread_mutex_lock(&w->lock);
	for (u32 i = 0; !found && i < WATCHES_MAX; i++) {
		struct watch *watch = &w->watch[i];

		if (!watch->id || !watch->is_fast || watch->is_fast_said)
			continue;
		watch->is_fast_said = true;
		*ret = watch->config;
		found = true;
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

bool machine_find_hot_watch(struct machine *m, struct watch_config *ret, u64 *ns)
{
	struct watches *w = m->watches;
	bool found = false;

	if (!w)
		return false;
	pthread_mutex_lock(&w->lock);
	for (u32 i = 0; w->is_hot && !w->is_hot_said && !found && i < WATCHES_MAX; i++) {
		const struct watch *watch = &w->watch[i];

		found = watch->id && !watch->debug_register && !watch->config.is_code &&
			watch->config.gpa / SLOTS_PAGE_SIZE == w->hot_gpa / SLOTS_PAGE_SIZE;
		if (found)
			*ret = watch->config;
	}
	*ns = clock_now_ns() - w->beside_since_ns;
	w->is_hot_said |= w->is_hot;
	pthread_mutex_unlock(&w->lock);
	return found;
}

void machine_on_watch(struct machine *m, void (*wake_fn)(void *ctx), void *ctx)
{
	m->watch_wake = wake_fn;
	m->watch_ctx = ctx;
}
