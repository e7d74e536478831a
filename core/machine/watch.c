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
		[WATCH_BY_INT3] = "int3",
	};

	return names[backend];
}

/* --- the set --- */

/* NULL: there is no memory. */
static struct watches *create(struct machine *m)
{
	struct watches *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->stops = calloc(m->vcpu_count, sizeof(*w->stops));
	if (!w->stops) {
		free(w);
		return NULL;
	}
	w->machine = m;
	pthread_mutex_init(&w->lock, NULL);
	slots_init(&w->slots, &m->kvm, &m->vm, &m->memory);
	w->can_show_sregs = (u32)kvm_capability(&m->kvm, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_SREGS;
	return w;
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
bool watches_try_out(struct watches *w, enum micro_guest guest)
{
	struct micro_result result = { 0 };
	struct error *err = micro_run(&w->machine->kvm, w->machine->cpuid, guest, TRIAL_LIMIT_NS, &result);
	bool works = !err && result.passed;

	error_destroy(err);
	return works;
}

static void learn_what_works(struct watches *w)
{
	if (w->registers_are_known)
		return;
	w->registers_work = watches_try_out(w, MICRO_DATA_WATCHPOINT);
	w->code_registers_work = watches_try_out(w, MICRO_CODE_BREAKPOINT);
	w->registers_are_known = true;
}

u32 watches_free_register(const struct watches *w)
{
	bool used[WATCH_REGISTERS + 1] = { false };

	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (w->watch[i].id)
			used[w->watch[i].debug_register] = true;
	for (u32 i = 1; i <= WATCH_REGISTERS; i++)
		if (!used[i] && !w->returns[i].watch)
			return i;
	return 0;
}

/* Of two with the same address a processor need not say that both were hit: they share one. */
static u32 find_register(const struct watches *w, const struct watch_config *c)
{
	for (u32 i = 0; i < WATCHES_MAX; i++) {
		const struct watch *watch = &w->watch[i];

		if (watch->id && watch->config.address == c->address && watch->config.size == c->size &&
		    watch->config.is_code == c->is_code && watch->debug_register)
			return watch->debug_register;
	}
	return watches_free_register(w);
}

static void fill_registers(struct watches *w)
{
	static const u8 lengths[] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };
	const u64 on_write = 1, enabled = 2, reserved = 1 << 10;

	memset(w->debugreg, 0, sizeof(w->debugreg));
	w->debug_control = 0;
	w->step_dr7 = reserved;
	w->debugreg[7] = reserved;
	if (watches_need_int3(w))
		w->debug_control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	for (u32 i = 0; i < WATCHES_MAX; i++) {
		const struct watch *watch = &w->watch[i];
		u32 n = watch->debug_register;

		if (!watch->id || !n)
			continue;

		u64 what = watch->config.is_code ? 0 : on_write | (u64)lengths[watch->config.size] << 2;
		u64 bits = enabled << 2 * n | what << (16 + 4 * n);

		w->debug_control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		w->debugreg[n] = watch->config.address;
		w->debugreg[7] |= bits;
		if (!watch->config.is_code)
			w->step_dr7 |= bits;
	}
	for (u32 n = 1; n <= WATCH_REGISTERS; n++) {
		if (!w->returns[n].watch)
			continue;
		w->debug_control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		w->debugreg[n] = w->returns[n].address;
		w->debugreg[7] |= enabled << 2 * n;
	}
}

struct error *watch_set_debug(const struct vcpu_thread *t, u32 extra)
{
	const struct watches *w = t->machine->watches;
	u64 debugreg[8];

	if (!w)
		return vcpu_set_guest_debug(&t->vcpu, extra, NULL);
	memcpy(debugreg, w->debugreg, sizeof(debugreg));
	if (extra & KVM_GUESTDBG_SINGLESTEP)
		debugreg[7] = w->step_dr7;
	return vcpu_set_guest_debug(&t->vcpu, extra | w->debug_control, debugreg);
}

struct error *watches_set_registers(struct watches *w)
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
		if (w->watch[i].id && !w->watch[i].debug_register && !w->watch[i].config.is_code)
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
	if (c->is_code && !guest_memory_at(&m->memory, c->gpa, 1))
		return error_create(ERROR_INVALID, "a watch of code at 0x%llx, which is not in the guest's memory",
				    (unsigned long long)c->address);
	if (c->is_code)
		return NULL;
	if (c->size != 1 && c->size != 2 && c->size != 4 && c->size != 8)
		return error_create(ERROR_INVALID, "a watch of %u bytes: 1, 2, 4 or 8 are possible", c->size);
	if (c->address % c->size || c->gpa % c->size)
		return error_with_hint(error_create(ERROR_INVALID, "a watch of %u bytes at 0x%llx, not aligned to that",
						    c->size, (unsigned long long)c->address),
				       "watch its aligned parts, each by itself");
	if (!guest_memory_at(&m->memory, c->gpa, c->size))
		return error_create(ERROR_INVALID, "a watch at 0x%llx, which is not in the guest's memory",
				    (unsigned long long)c->address);
	return NULL;
}

static struct error *no_registers(bool can, const char *without_any)
{
	if (!can)
		return error_with_hint(error_create(ERROR_UNSUPPORTED,
						    "this host's KVM does not stop at debug registers"),
				       "%s", without_any);
	return error_with_hint(error_create(ERROR_UNSUPPORTED, "all %d debug registers are in use", WATCH_REGISTERS),
			       "cancel a watch that has one; watches of data do without: { backend = \"page\" }");
}

/* A debug register, or an INT3: nothing else stops in front of an instruction. */
static struct error *choose_for_code(struct watches *w, const struct watch_config *c, struct watch *watch)
{
	bool can = w->code_registers_work;

	watch->debug_register = can ? find_register(w, c) : 0;
	if (!watch->debug_register || c->returns)
		watches_learn_soft_breakpoints(w);
	if (watch->debug_register || w->soft_breakpoints_work)
		return NULL;
	if (!can)
		return no_registers(can, "run under scripts/with-kvm");
	return error_with_hint(error_create(ERROR_UNSUPPORTED,
					    "all %d debug registers are in use; this host's KVM does not stop at INT3",
					    WATCH_REGISTERS),
			       "cancel a watch that has one; watches of data do without: { backend = \"page\" }");
}

static struct error *choose_backend(struct watches *w, const struct watch_config *c, struct watch *watch)
{
	learn_what_works(w);
	if (c->is_code)
		return choose_for_code(w, c, watch);

	bool can = c->backend != WATCH_BY_PAGE && w->registers_work;

	watch->debug_register = can ? find_register(w, c) : 0;
	if (c->backend != WATCH_BY_REGISTER || watch->debug_register)
		return NULL;
	return no_registers(can, "leave the backend to ktstr, or run under scripts/with-kvm");
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

static struct error *take_effect(struct watches *w, const struct watch *watch)
{
	return watch->debug_register || watch->config.is_code ? watches_set_registers(w) : watches_protect(w, true);
}

static struct error *add(struct watches *w, const struct watch_config *c, u32 *id)
{
	struct watch *watch = NULL;
	struct watch made = {
		.config = *c,
		.place = guest_memory_at(&w->machine->memory, c->gpa, c->is_code ? 1 : c->size),
	};

	for (u32 i = 0; !watch && i < WATCHES_MAX; i++)
		if (!w->watch[i].id)
			watch = &w->watch[i];
	if (!watch)
		return error_with_hint(error_create(ERROR_UNSUPPORTED, "there are %d watches already", WATCHES_MAX),
				       "cancel those that are not needed any more");

	struct error *err = choose_backend(w, c, &made);

	if (err)
		return err;
	if (!made.config.rate)
		made.config.rate = WATCH_RATE;
	made.value = c->is_code ? 0 : watch_read(&made);
	made.id = ++w->last_id;
	*watch = made;
	err = take_effect(w, watch);
	if (err) {
		watch->id = 0;
		error_destroy(take_effect(w, &made));
		return err;
	}
	w->count++;
	*id = watch->id;
	return NULL;
}

struct error *machine_add_watch(struct machine *m, const struct watch_config *config, u32 *id)
{
	struct error *err = check_config(m, config);

	if (err)
		return err;
	if (!m->watches)
		m->watches = create(m);
	if (!m->watches)
		return error_no_memory();
	pthread_mutex_lock(&m->watches->lock);
	err = add(m->watches, config, id);
	pthread_mutex_unlock(&m->watches->lock);
	return err;
}

static void forget_fires(struct watches *w, u32 id)
{
	for (u32 i = 1; i <= WATCH_RETURNS_MAX; i++)
		if (w->returns[i].watch == id)
			w->returns[i] = (struct watch_return){ 0 };
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
		err = take_effect(w, watch);
	}
	pthread_mutex_unlock(&w->lock);
	return err;
}

void watches_refresh(struct watches *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (w->watch[i].id && !w->watch[i].config.is_code)
			w->watch[i].value = watch_read(&w->watch[i]);
	pthread_mutex_unlock(&w->lock);
}

void machine_refresh_watches(struct machine *m)
{
	watches_refresh(m->watches);
}

struct error *machine_rewind_watches(struct machine *m)
{
	struct watches *w = m->watches;

	if (!w)
		return vm_reset_slots(&m->vm, &m->memory);
	watches_refresh(w);
	pthread_mutex_lock(&w->lock);
	memset(w->returns, 0, sizeof(w->returns));
	memset(w->stops, 0, m->vcpu_count * sizeof(*w->stops));

	struct error *err = slots_reset(&w->slots);

	if (!err)
		err = watches_set_registers(w);
	pthread_mutex_unlock(&w->lock);
	return err;
}
