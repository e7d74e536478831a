// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Watches of code: calls of a function, and its returns, by debug registers and INT3.
 */
#include <string.h>

#include "machine/frozen.h"
#include "machine/watch.h"
#include "machine/watch_internal.h"
#include "x86/paging.h"

/* --- on the vCPU's thread; lock is held --- */

/* Stacks tell tasks apart, and calls of a function that calls itself. */
static void take_return(struct watches *w, struct vcpu_thread *t, struct watch_return *r, const struct kvm_regs *regs)
{
	struct watch *watch = watches_find(w, r->watch);

	if (r->sp != regs->rsp || r->is_over)
		return;
	if (watch)
		watches_fire_code(w, watch, t, WATCH_RETURN, regs->rax, regs->rip);
	// Its register is given back when all are parked.
	r->is_over = true;
}

/* Whatever stopped it there, it is in front of all that is watched there. */
void watch_hit_code(struct watches *w, struct vcpu_thread *t, u64 pc)
{
	for (u32 i = 0; i < WATCHES_MAX; i++)
		if (w->watch[i].id && w->watch[i].config.is_code && w->watch[i].config.address == pc)
			watches_fire_code(w, &w->watch[i], t, WATCH_CALL, 0, pc);
	for (u32 i = 1; i <= WATCH_RETURNS_MAX; i++) {
		struct kvm_regs room = { 0 };

		if (w->returns[i].watch && w->returns[i].address == pc)
			take_return(w, t, &w->returns[i], watch_regs(t, &room));
	}
	watch_stop_at_breakpoint(w, t);
}

void watch_take_code(struct watches *w, struct vcpu_thread *t)
{
	const struct kvm_debug_exit_arch *debug = &t->vcpu.run->debug.arch;
	bool hit = false;

	for (u32 i = 0; i < WATCHES_MAX; i++) {
		const struct watch *watch = &w->watch[i];

		hit |= watch->id && watch->config.is_code && watch->debug_register &&
		       debug->dr6 >> watch->debug_register & 1 && debug->pc == watch->config.address;
	}
	for (u32 i = 1; i <= WATCH_REGISTERS; i++)
		hit |= w->returns[i].watch && debug->dr6 >> i & 1 && debug->pc == w->returns[i].address;
	if (hit)
		watch_hit_code(w, t, debug->pc);
}

/* --- while every vCPU is parked --- */

bool machine_find_at_breakpoint(struct machine *m, u32 *cpu)
{
	struct watches *w = m->watches;

	for (u32 i = 0; w && i < m->vcpu_count; i++) {
		struct watch_stop *stop = &w->stops[i];
		struct kvm_regs regs = { 0 };

		if (!__atomic_load_n(&stop->at_breakpoint, __ATOMIC_ACQUIRE))
			continue;
		*cpu = i;
		error_destroy(vcpu_get_regs(&m->vcpus[i].vcpu, &regs));
		if (regs.rip == stop->breakpoint)
			return true;
		// Main has stepped it past that.
		__atomic_store_n(&stop->at_breakpoint, false, __ATOMIC_RELEASE);
	}
	return false;
}

static bool translate(const struct machine *m, const struct kvm_sregs *sregs, u64 address, u64 *gpa)
{
	const u64 la57 = 1 << 12;
	struct paging_walk walk = paging_walk(&m->memory, sregs->cr3, sregs->cr4 & la57 ? 5 : 4, address);

	*gpa = walk.gpa;
	return walk.end == PAGING_MAPPED;
}

struct error *machine_settle_returns(struct machine *m)
{
	struct watches *w = m->watches;
	bool changed = w->returns_changed;

	for (u32 i = 1; i <= WATCH_RETURNS_MAX; i++) {
		if (!w->returns[i].watch || !w->returns[i].is_over)
			continue;
		w->returns[i] = (struct watch_return){ 0 };
		changed = true;
	}
	w->returns_changed = false;
	return changed ? watches_set_registers(w) : NULL;
}

/* By a register where there is one. 0: none. */
static u32 free_return(const struct watches *w)
{
	u32 n = watches_free_register(w);

	for (u32 i = WATCH_REGISTERS + 1; !n && w->soft_breakpoints_work && i <= WATCH_RETURNS_MAX; i++)
		if (!w->returns[i].watch)
			n = i;
	return n;
}

bool machine_catch_return(struct machine *m, const struct watch_fire *call)
{
	struct watches *w = m->watches;
	struct watch_return r = { .watch = call->watch };
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct error *err;
	u64 at = 0;

	if (call->kind != WATCH_CALL || !call->wants_return)
		return true;
	err = machine_get_regs(m, call->cpu, &regs, &sregs);
	if (err) {
		error_destroy(err);
		return false;
	}

	u32 n = free_return(w);

	if (!n || regs.rsp % 8 || !translate(m, &sregs, regs.rsp, &at) || !guest_memory_at(&m->memory, at, 8))
		return false;
	memcpy(&r.address, guest_memory_at(&m->memory, at, 8), sizeof(r.address));
	r.sp = regs.rsp + 8;
	r.place = translate(m, &sregs, r.address, &at) ? guest_memory_at(&m->memory, at, 1) : NULL;
	if (n > WATCH_REGISTERS && !r.place)
		return false;
	w->returns[n] = r;
	w->returns_changed = true;
	return true;
}
