// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The set of a machine's watches, and what makes the guest's writes visible.
 */
#include "machine/watch.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kvm/micro.h"
#include "machine/watch_internal.h"

/* Of the micro guest that tries a debug register. */
#define TRIAL_LIMIT_NS (5 * NSEC_PER_SEC)

const char *watch_backend_name(enum watch_backend backend)
{
	static const char *const names[] = {
		[WATCH_BY_ANY] = "any",
		[WATCH_BY_REGISTER] = "register",
		[WATCH_BY_PAGE] = "page",
	};

	return names[backend];
}

/* --- the set --- */

static struct error *create(struct machine *m)
{
	struct watches *w = calloc(1, sizeof(*w));

	if (!w)
		return error_no_memory();
	w->stops = calloc(m->vcpu_count, sizeof(*w->stops));
	if (!w->stops) {
		free(w);
		return error_no_memory();
	}
	w->machine = m;
	pthread_mutex_init(&w->lock, NULL);
	slots_init(&w->slots, &m->kvm, &m->vm, &m->memory);
	w->can_show_sregs = (u32)kvm_capability(&m->kvm, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_SREGS;
	m->watches = w;
	return NULL;
}

void watches_destroy(struct watches *w)
{
	if (!w)
		return;
	pthread_mutex_destroy(&w->lock);
	free(w->stops);
	free(w);
}

struct watch *watches_find(struct watches *w, u32 id)
{
	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (id && w->watch[i].id == id)
			return &w->watch[i];
	return NULL;
}

/* --- debug registers --- */

/* A micro guest tells: a feature flag is no proof. */
static bool registers_work(struct watches *w)
{
	struct micro_result result = { 0 };

	if (!w->registers_are_known) {
		struct error *err = micro_run(&w->machine->kvm, w->machine->cpuid, MICRO_DATA_WATCHPOINT,
					      TRIAL_LIMIT_NS, &result);

		w->registers_work = !err && result.passed;
		w->registers_are_known = true;
		error_destroy(err);
	}
	return w->registers_work;
}

/* 1 to WATCH_REGISTERS; 0: none. Of two with the same address a processor need not say that both were hit. */
static u32 find_register(const struct watches *w, const struct watch_config *c)
{
	bool used[WATCH_REGISTERS + 1] = { false };

	for (u32 i = 0; i < WATCHES_MAX; i++) {
		const struct watch *watch = &w->watch[i];

		if (watch->id && watch->config.address == c->address && watch->config.size == c->size &&
		    watch->debug_register)
			return watch->debug_register;
		if (watch->id)
			used[watch->debug_register] = true;
	}
	for (u32 i = 1; i <= WATCH_REGISTERS; i++)
		if (!used[i])
			return i;
	return 0;
}

static void fill_registers(struct watches *w)
{
	static const u8 lengths[] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };
	const u64 on_write = 1, enabled = 2, reserved = 1 << 10;

	memset(w->debugreg, 0, sizeof(w->debugreg));
	w->debug_control = 0;
	for (u32 i = 0; i < WATCHES_MAX; i++) {
		const struct watch *watch = &w->watch[i];
		u32 n = watch->debug_register;

		if (!watch->id || !n)
			continue;
		w->debug_control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		w->debugreg[n] = watch->config.address;
		w->debugreg[7] |= reserved | enabled << 2 * n |
				  (on_write | (u64)lengths[watch->config.size] << 2) << (16 + 4 * n);
	}
}

struct error *watch_set_debug(const struct vcpu_thread *t, u32 extra)
{
	const struct watches *w = t->machine->watches;

	return vcpu_set_guest_debug(&t->vcpu, extra | (w ? w->debug_control : 0), w ? w->debugreg : NULL);
}

static struct error *set_registers(struct watches *w)
{
	struct error *err = NULL;

	fill_registers(w);
	for (u32 i = 0; !err && i < w->machine->vcpu_count; i++)
		err = watch_set_debug(&w->machine->vcpus[i], 0);
	return err;
}

/* --- pages --- */

static int by_address(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static u32 list_pages(const struct watches *w, u64 ret[static WATCHES_MAX])
{
	u32 count = 0, unique = 0;

	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (w->watch[i].id && !w->watch[i].debug_register)
			ret[count++] = w->watch[i].config.gpa / SLOTS_PAGE_SIZE * SLOTS_PAGE_SIZE;
	qsort(ret, count, sizeof(ret[0]), by_address);
	for (u32 i = 0; i < count; i++)
		if (!unique || ret[unique - 1] != ret[i])
			ret[unique++] = ret[i];
	return unique;
}

/* Every exit then leaves them in the run page: whoever looks at a write needs them, and to ask takes as long as it. */
static void show_sregs(struct watches *w, bool on)
{
	for (u32 i = 0; w->can_show_sregs && i < w->machine->vcpu_count; i++) {
		struct kvm_run *run = w->machine->vcpus[i].vcpu.run;

		if (on)
			run->kvm_valid_regs |= KVM_SYNC_X86_SREGS;
		else
			run->kvm_valid_regs &= ~(u64)KVM_SYNC_X86_SREGS;
	}
}

/*
 * What KVM cannot emulate then ends in an exit, and in nothing else: it would make it an undefined instruction for the
 * guest, in user mode without a word. KVMs from before 5.13 do that: watch_take_failure() undoes it where it can.
 */
static void exit_on_failure(struct watches *w, bool on)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { on } };

	error_destroy(KVM_IOCTL(w->machine->vm.fd, KVM_ENABLE_CAP, &cap, "exits where emulation fails"));
}

struct error *watches_protect(struct watches *w, bool on)
{
	u64 pages[WATCHES_MAX];
	bool broken;
	struct error *err = slots_protect(&w->slots, pages, on ? list_pages(w, pages) : 0, &broken);

	show_sregs(w, w->slots.page_count);
	exit_on_failure(w, w->slots.page_count);
	if (broken) {
		machine_set_detail(w->machine, "the guest's memory is lost: %s", error_message(err));
		machine_stop(w->machine, EXIT_FATAL);
	}
	return err;
}

/* --- adding and removing --- */

static struct error *check_config(const struct machine *m, const struct watch_config *c)
{
	if (c->size != 1 && c->size != 2 && c->size != 4 && c->size != 8)
		return error_create(ERROR_INVALID, "a watch of %u bytes: 1, 2, 4 or 8 are possible", c->size);
	if (c->address % c->size || c->gpa % c->size)
		return error_with_hint(error_create(ERROR_INVALID, "a watch of %u bytes at 0x%llx, which is not aligned to that",
						    c->size, (unsigned long long)c->address),
				       "watch its aligned parts, each by itself");
	if (!guest_memory_at(&m->memory, c->gpa, c->size))
		return error_create(ERROR_INVALID, "a watch at 0x%llx, which is not in the guest's memory",
				    (unsigned long long)c->address);
	return NULL;
}

static struct error *choose_backend(struct watches *w, const struct watch_config *c, u32 *debug_register)
{
	bool can = c->backend != WATCH_BY_PAGE && registers_work(w);

	*debug_register = can ? find_register(w, c) : 0;
	if (c->backend != WATCH_BY_REGISTER || *debug_register)
		return NULL;
	return error_with_hint(can ? error_create(ERROR_UNSUPPORTED, "all %d debug registers are in use", WATCH_REGISTERS) :
				     error_create(ERROR_UNSUPPORTED, "this host's KVM does not stop at debug registers"),
			       "leave the backend to ktstr, or choose 'page'");
}

u64 watch_read(const struct watch *watch)
{
	u64 v = 0;

	switch (watch->config.size) {
	case 1:
		return __atomic_load_n((u8 *)watch->place, __ATOMIC_ACQUIRE);
	case 2:
		return __atomic_load_n((u16 *)watch->place, __ATOMIC_ACQUIRE);
	case 4:
		return __atomic_load_n((u32 *)watch->place, __ATOMIC_ACQUIRE);
	case 8:
		return __atomic_load_n((u64 *)watch->place, __ATOMIC_ACQUIRE);
	}
	return v;
}

static struct error *take_effect(struct watches *w, bool by_register)
{
	return by_register ? set_registers(w) : watches_protect(w, true);
}

static struct error *add(struct watches *w, const struct watch_config *c, u32 *id)
{
	struct watch *watch = NULL;
	u32 debug_register;

	for (u32 i = 0; !watch && i < WATCHES_MAX; i++)
		if (!w->watch[i].id)
			watch = &w->watch[i];
	if (!watch)
		return error_with_hint(error_create(ERROR_UNSUPPORTED, "there are %d watches already", WATCHES_MAX),
				       "cancel those that are not needed any more");

	struct error *err = choose_backend(w, c, &debug_register);

	if (err)
		return err;
	*watch = (struct watch){
		.id = ++w->last_id,
		.debug_register = debug_register,
		.config = *c,
		.place = guest_memory_at(&w->machine->memory, c->gpa, c->size),
	};
	if (!watch->config.rate)
		watch->config.rate = WATCH_RATE;
	watch->value = watch_read(watch);
	err = take_effect(w, debug_register);
	if (err) {
		watch->id = 0;
		error_destroy(take_effect(w, debug_register));
		return err;
	}
	w->count++;
	*id = watch->id;
	return NULL;
}

struct error *machine_add_watch(struct machine *m, const struct watch_config *config, u32 *id)
{
	struct error *err = check_config(m, config);

	if (!err && !m->watches)
		err = create(m);
	if (err)
		return err;
	pthread_mutex_lock(&m->watches->lock);
	err = add(m->watches, config, id);
	pthread_mutex_unlock(&m->watches->lock);
	return err;
}

static void forget_fires(struct watches *w, u32 id)
{
	for (u32 i = 0; i < w->machine->vcpu_count; i++) {
		struct watch_stop *stop = &w->stops[i];
		u32 kept = 0;

		for (u32 k = 0; k < stop->count; k++)
			if (stop->fires[k].watch != id)
				stop->fires[kept++] = stop->fires[k];
		__atomic_store_n(&stop->count, kept, __ATOMIC_RELEASE);
	}
}

struct error *machine_remove_watch(struct machine *m, u32 id)
{
	struct watches *w = m->watches;
	struct error *err = NULL;

	if (!w)
		return NULL;
	pthread_mutex_lock(&w->lock);

	struct watch *watch = watches_find(w, id);

	if (watch) {
		watch->id = 0;
		w->count--;
		forget_fires(w, id);
		err = take_effect(w, watch->debug_register);
	}
	pthread_mutex_unlock(&w->lock);
	return err;
}

struct error *machine_rewind_watches(struct machine *m)
{
	struct watches *w = m->watches;

	if (!w)
		return vm_reset_slots(&m->vm, &m->memory);
	pthread_mutex_lock(&w->lock);
	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (w->watch[i].id)
			w->watch[i].value = watch_read(&w->watch[i]);
	memset(w->stops, 0, m->vcpu_count * sizeof(*w->stops));

	struct error *err = slots_reset(&w->slots);

	pthread_mutex_unlock(&w->lock);
	return err;
}
