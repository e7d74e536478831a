// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A vCPU's writes to watched places, on its own thread.
 */
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine/watch_decode.h"
#include "machine/watch_internal.h"
#include "x86/paging.h"

#define PAGE_SIZE ((u64)SLOTS_PAGE_SIZE)

/* --- was it an atomic instruction? --- */

/* Of the last exit; every call of KVM's costs as much as an exit. */
const struct kvm_regs *watch_regs(const struct vcpu_thread *t, struct kvm_regs *room)
{
	const struct kvm_run *run = t->vcpu.run;

	if (run->kvm_valid_regs & KVM_SYNC_X86_REGS)
		return &run->s.regs.regs;
	error_destroy(vcpu_get_regs(&t->vcpu, room));
	return room;
}

u64 watch_rip(const struct vcpu_thread *t)
{
	struct kvm_regs room = { 0 };

	return watch_regs(t, &room)->rip;
}

static const struct kvm_sregs *sregs_of(const struct vcpu_thread *t, struct kvm_sregs *room)
{
	const struct kvm_run *run = t->vcpu.run;

	if (run->kvm_valid_regs & KVM_SYNC_X86_SREGS)
		return &run->s.regs.sregs;
	error_destroy(vcpu_get_sregs(&t->vcpu, room));
	return room;
}

static bool is_64_bit(const struct kvm_sregs *sregs)
{
	const u64 long_mode = 1 << 10;

	return sregs->efer & long_mode && sregs->cs.l;
}

static u32 levels_of(const struct kvm_sregs *sregs)
{
	const u64 la57 = 1 << 12;

	return sregs->cr4 & la57 ? 5 : 4;
}

/* How many of the bytes in front of rip could be read, into the end of code. */
static u32 read_code(const struct guest_memory *memory, const struct kvm_sregs *sregs, u64 rip,
		     u8 code[static WATCH_CODE_MAX])
{
	u32 size = 0;

	while (size < WATCH_CODE_MAX) {
		u64 last = rip - size - 1, in_page = last % PAGE_SIZE + 1;
		u32 n = in_page < WATCH_CODE_MAX - size ? (u32)in_page : WATCH_CODE_MAX - size;
		struct paging_walk walk = paging_walk(memory, sregs->cr3, levels_of(sregs), last);
		const u8 *at = walk.end == PAGING_MAPPED ? guest_memory_at(memory, walk.gpa - n + 1, n) : NULL;

		if (!at)
			break;
		// The guest may be changing it.
		for (u32 i = 0; i < n; i++)
			code[WATCH_CODE_MAX - size - n + i] = __atomic_load_n(at + i, __ATOMIC_RELAXED);
		size += n;
	}
	return size;
}

/* What the instruction may have been. */
struct readings {
	u32 count;
	struct watch_atomic one[WATCH_READINGS_MAX];
};

/* With a byte too many in front an instruction may lie at the same place of another page. */
static bool is_there(const struct guest_memory *memory, const struct kvm_sregs *sregs, u64 address, u64 gpa)
{
	struct paging_walk walk = paging_walk(memory, sregs->cr3, levels_of(sregs), address);

	return walk.end == PAGING_MAPPED && walk.gpa == gpa;
}

static void read_atomic(const struct vcpu_thread *t, struct watch_write *w, struct readings *ret)
{
	struct kvm_sregs room = { 0 };
	const struct kvm_sregs *sregs = sregs_of(t, &room);
	u8 code[WATCH_CODE_MAX];
	u32 count;

	if (!is_64_bit(sregs))
		return;
	w->code_size = read_code(&t->machine->memory, sregs, w->regs->rip, code);
	memcpy(w->code, code + WATCH_CODE_MAX - w->code_size, w->code_size);
	w->fs_base = sregs->fs.base;
	w->gs_base = sregs->gs.base;
	if (!watch_may_be_atomic(w->code, w->code_size))
		return;
	count = watch_decode(w, ret->one);
	for (u32 i = 0; i < count; i++)
		if (is_there(&t->machine->memory, sregs, ret->one[i].address, w->gpa))
			ret->one[ret->count++] = ret->one[i];
}

/* --- the write itself --- */

#define NOT_OURS __attribute__((no_sanitize("thread")))

#define DEFINE_PLACE(bits)                                \
	struct place##bits {                              \
		u##bits v;                                \
	} __attribute__((packed, may_alias));             \
	NOT_OURS static void put##bits(u8 *to, u##bits v) \
	{                                                 \
		*(volatile struct place##bits *)to =      \
			(struct place##bits){ v };        \
	}

DEFINE_PLACE(16)
DEFINE_PLACE(32)
DEFINE_PLACE(64)

/*
 * At once, as the guest's own store would be: also where it is not aligned. It is one: who reads the guest's memory
 * knows that it changes, and only a thread sanitizer would take it for ours.
 */
NOT_OURS static void store(u8 *to, u64 data, u32 size)
{
	bool aligned = (uintptr_t)to % size == 0;

	switch (size) {
	case 1:
		__atomic_store_n(to, (u8)data, __ATOMIC_RELEASE);
		break;
	case 2:
		if (aligned)
			__atomic_store_n((u16 *)to, (u16)data, __ATOMIC_RELEASE);
		else
			put16(to, (u16)data);
		break;
	case 4:
		if (aligned)
			__atomic_store_n((u32 *)to, (u32)data, __ATOMIC_RELEASE);
		else
			put32(to, (u32)data);
		break;
	case 8:
		if (aligned)
			__atomic_store_n((u64 *)to, data, __ATOMIC_RELEASE);
		else
			put64(to, data);
		break;
	default: // a part of one that crosses a page
		for (u32 i = 0; i < size; i++)
			__atomic_store_n(to + i, (u8)(data >> 8 * i), __ATOMIC_RELEASE);
	}
}

#define TRY(bits)                                                                                                    \
	do {                                                                                                         \
		u##bits found = __atomic_load_n((u##bits *)to, __ATOMIC_RELAXED);                                    \
                                                                                                                     \
		return watch_atomic_fits(a, w, found) &&                                                             \
		       __atomic_compare_exchange_n((u##bits *)to, &found, (u##bits)w->data, false, __ATOMIC_SEQ_CST, \
						   __ATOMIC_RELAXED);                                                \
	} while (0)

/* Where the guest's instruction would find now what it found when KVM read for it. False: it has to be done again. */
NOT_OURS static bool exchange(u8 *to, const struct watch_write *w, const struct watch_atomic *a)
{
	switch (w->size) {
	case 1:
		TRY(8);
	case 2:
		TRY(16);
	case 4:
		TRY(32);
	default:
		TRY(64);
	}
}

struct touched {
	struct watch *watch;
	u64 before;
};

static u32 find_touched(struct watches *w, u64 gpa, u32 size, struct touched ret[static WATCHES_MAX])
{
	u32 count = 0;

	for (u32 i = 0; i < WATCHES_MAX; i++) {
		struct watch *watch = &w->watch[i];

		if (watch->id && !watch->config.is_code && watch->config.gpa < gpa + size &&
		    gpa < watch->config.gpa + watch->config.size)
			ret[count++] = (struct touched){ watch, watch_read(watch) };
	}
	return count;
}

/* --- which of its readings an instruction was --- */

NOT_OURS static u64 load(const u8 *from, u32 size)
{
	u64 v = 0;

	switch (size) {
	case 1:
		return __atomic_load_n(from, __ATOMIC_RELAXED);
	case 2:
		return __atomic_load_n((const u16 *)from, __ATOMIC_RELAXED);
	case 4:
		return __atomic_load_n((const u32 *)from, __ATOMIC_RELAXED);
	case 8:
		return __atomic_load_n((const u64 *)from, __ATOMIC_RELAXED);
	}
	return v;
}

static void note_past(struct watches *w, const struct watch_write *write, u64 value)
{
	w->past[w->past_at++ % WATCH_PAST_MAX] =
		(struct watch_past){ .gpa = write->gpa, .size = write->size, .value = value };
}

/* Whether what the instruction would have found has been there lately. */
static bool was_there(const struct watches *w, const struct watch_write *write, const struct watch_atomic *a)
{
	for (u32 i = 0; i < WATCH_PAST_MAX; i++) {
		const struct watch_past *p = &w->past[i];

		if (p->size == write->size && p->gpa == write->gpa && watch_atomic_fits(a, write, p->value))
			return true;
	}
	return false;
}

/*
 * To be done again, since another vCPU wrote meanwhile: from the registers that the right reading gives. An XCHG behind
 * a byte that would be a prefix can be one of two registers'; what it found was there before that write.
 */
static const struct watch_atomic *choose(const struct watches *w, const struct watch_write *write,
					 const struct readings *readings)
{
	for (u32 i = 0; readings->count > 1 && i < readings->count; i++)
		if (was_there(w, write, &readings->one[i]))
			return &readings->one[i];
	return &readings->one[0];
}

/* False: it found what is not there any more. */
static bool exchange_as_read(u8 *to, const struct watch_write *write, const struct readings *readings)
{
	// A CMPXCHG that failed writes what is there.
	for (u32 i = 0; i < readings->count; i++)
		if (readings->one[i].kind == WATCH_ATOMIC_FAILED || exchange(to, write, &readings->one[i]))
			return true;
	return false;
}

/*
 * lock is held, so no other vCPU writes to a protected page. A CMPXCHG that failed is a write like any other to who
 * watches, as it is to a debug register.
 */
static void write_watched(struct watches *w, struct vcpu_thread *t, const struct watch_write *write, u8 *to,
			  bool aligned, const struct readings *readings)
{
	struct watch_stop *stop = &w->stops[t->index];
	struct touched touched[WATCHES_MAX];
	u32 count = find_touched(w, write->gpa, write->size, touched);
	u64 before = aligned ? load(to, write->size) : 0;

	if (!readings->count) {
		store(to, write->data, write->size);
	} else if (!exchange_as_read(to, write, readings)) {
		stop->undo = choose(w, write, readings)->before;
		stop->undo_due = true;
		return;
	}
	if (aligned)
		note_past(w, write, before);
	if (!count)
		watches_note_beside(w, write->gpa);
	for (u32 i = 0; i < count; i++) {
		const struct watch_change change = {
			.before = touched[i].before,
			.after = watch_read(touched[i].watch),
		};

		watches_fire(w, touched[i].watch, t, &change);
	}
}

bool watch_take_write(struct vcpu_thread *t)
{
	const struct kvm_run *run = t->vcpu.run;
	struct watches *w = t->machine->watches;
	struct watch_write write = { .gpa = run->mmio.phys_addr, .size = run->mmio.len };
	u8 *to = w && write.size <= 8 ? guest_memory_at(&t->machine->memory, write.gpa, write.size) : NULL;
	struct readings readings = { 0 };
	struct kvm_regs room = { 0 };

	if (!to)
		return false;
	memcpy(&write.data, run->mmio.data, write.size);
	write.regs = watch_regs(t, &room);

	// One that is not aligned crosses a page, and comes in parts, or is no lock that anybody takes.
	bool aligned = (write.size & (write.size - 1)) == 0 && write.gpa % write.size == 0;

	if (aligned)
		read_atomic(t, &write, &readings);
	pthread_mutex_lock(&w->lock);
	write_watched(w, t, &write, to, aligned, &readings);
	pthread_mutex_unlock(&w->lock);
	return true;
}

struct error *watch_undo(struct vcpu_thread *t)
{
	struct watches *w = t->machine->watches;
	struct watch_stop *stop = w ? &w->stops[t->index] : NULL;

	if (!stop || !stop->undo_due)
		return NULL;
	stop->undo_due = false;
	return vcpu_set_regs(&t->vcpu, &stop->undo);
}

/* --- the other exits --- */

void watch_take_debug(struct vcpu_thread *t)
{
	struct watches *w = t->machine->watches;
	u64 dr6 = t->vcpu.run->debug.arch.dr6;

	if (!w || !w->debug_control || watch_take_planted(t))
		return;
	pthread_mutex_lock(&w->lock);
	watch_take_code(w, t);
	for (u32 i = 0; i < WATCHES_MAX; i++) {
		struct watch *watch = &w->watch[i];

		if (!watch->id || watch->config.is_code || !watch->debug_register ||
		    !(dr6 >> watch->debug_register & 1))
			continue;

		const struct watch_change change = {
			.before = watch->value,
			.after = watch_read(watch),
			.raced = watches_note_race(w, watch, t->index),
		};

		watches_fire(w, watch, t, &change);
	}
	pthread_mutex_unlock(&w->lock);
}

/* The exception that the guest was to get for it. */
void watch_forget_undefined(struct vcpu_thread *t)
{
	enum { UNDEFINED = 6 };
	struct kvm_vcpu_events events;
	struct error *err = vcpu_get_events(&t->vcpu, &events);

	if (!err && events.exception.nr == UNDEFINED && (events.exception.injected || events.exception.pending)) {
		events.exception.injected = events.exception.pending = 0;
		events.flags &= KVM_VCPUEVENT_VALID_PAYLOAD;
		err = vcpu_set_events(&t->vcpu, &events);
	}
	error_destroy(err);
}

bool watch_take_failure(struct vcpu_thread *t)
{
	const struct kvm_run *run = t->vcpu.run;
	struct machine *m = t->machine;
	struct watch_stop *stop = m->watches ? &m->watches->stops[t->index] : NULL;

	// A KVM that cannot emulate INT3 stops in front of it, too.
	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && watch_take_planted(t))
		return true;
	if (!stop || !m->watches->slots.page_count ||
	    (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION &&
	     run->internal.suberror != KVM_INTERNAL_ERROR_DELIVERY_EV))
		return false;
	watch_forget_undefined(t);
	__atomic_store_n(&stop->blocked, true, __ATOMIC_RELEASE);
	if (m->watch_wake)
		m->watch_wake(m->watch_ctx);
	return true;
}

void watch_wait(struct vcpu_thread *t)
{
	for (;;) {
		u32 kicks = __atomic_load_n(&t->kicks, __ATOMIC_SEQ_CST);

		if (!watch_wants_attention(t) || park_is_wanted(t->park) || machine_is_stopping(t->machine))
			return;
		// A kick that has come since is in the number; one that comes now is a signal.
		syscall(SYS_futex, &t->kicks, FUTEX_WAIT_PRIVATE, kicks, NULL, NULL, 0);
	}
}
