/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a machine's watches, and what a vCPU's thread does with them.
 * Depends on internal.h and watch.h. lock guards all but what says otherwise.
 * Watches come and go while every vCPU is parked; a machine that never had one has no struct watches.
 */
#ifndef MACHINE_WATCH_INTERNAL_H
#define MACHINE_WATCH_INTERNAL_H

#include <pthread.h>

#include "kvm/micro.h"
#include "kvm/slots.h"
#include "machine/internal.h"
#include "machine/watch.h"

/* A call that has not returned. */
struct watch_return {
	u32 watch; /* 0: there is none */
	u8 *place; /* in the host's memory; used where it has no register */
	bool is_over;
	u64 address;
	u64 sp; /* the stack pointer is that then */
};

struct watch {
	u32 id; /* 0: there is none here */
	u32 debug_register; /* 0: it is by page */
	struct watch_config config;
	u8 *place; /* in the host's memory */
	u64 value; /* that was there last, as far as we know */
	u64 hits, dropped, raced;
	u64 last, last_of_another; /* of its writes, by watches.sequence: of last_cpu, and of any other vCPU */
	u32 last_cpu;
	u64 window_start_ns; /* of the second that is counted */
	u32 window_fires;
	bool is_fast, is_fast_said;
};

/* What one vCPU has done, and waits with. */
struct watch_stop {
	u32 count; /* atomic; of fires */
	bool blocked; /* atomic: its instruction needs the page writable */
	bool at_breakpoint; /* atomic: its instruction is watched, and has not been executed */
	u64 breakpoint; /* where that is */
	bool has_opened; /* the vCPU's own, while it is stepped: the pages are writable */
	u64 entered; /* likewise: watches.sequence when it went into the guest last */
	bool undo_due; /* the vCPU's own: its instruction is to be done again, from these registers */
	struct kvm_regs undo;
	struct watch_fire fires[WATCH_FIRES_MAX];
};

/* What was replaced in protected pages lately: as much as others write while a vCPU's thread waits for its turn. */
enum { WATCH_PAST_MAX = 4096 };

struct watch_past {
	u64 gpa, value;
	u32 size;
};

/* An INT3 in the guest's code. */
struct watch_plant {
	u8 *at;
	u8 original;
};

enum { WATCH_PLANTS_MAX = WATCHES_MAX + WATCH_RETURNS_MAX };

struct watches {
	struct machine *machine;
	pthread_mutex_t lock;
	u32 last_id, count;
	struct watch watch[WATCHES_MAX];
	struct slots slots; /* changed while all are parked */
	bool can_show_sregs;
	bool registers_work, registers_are_known;
	u32 debug_control; /* KVM_GUESTDBG_*; changed while all are parked, like debugreg */
	u64 debugreg[8];
	u64 step_dr7; /* without those of code: a vCPU that is stepped is to get past them */
	bool code_registers_work; /* like registers_work */
	bool soft_breakpoints_work, soft_breakpoints_are_known; /* INT3 */
	/* The first ones by their registers, the others by an INT3; is_over is of lock. */
	struct watch_return returns[WATCH_RETURNS_MAX + 1];
	struct watch_plant plants[WATCH_PLANTS_MAX];
	u32 plant_count;
	bool has_planted; /* atomic; once, and so in what was read without the lock */
	bool returns_changed;
	struct watch_past past[WATCH_PAST_MAX]; /* a ring */
	u32 past_at;
	u64 beside, beside_since_ns; /* writes to protected pages that were nobody's, from the first on */
	u64 hot_gpa; /* of the last of them when there were too many */
	bool is_hot, is_hot_said;
	u64 fired; /* so many fires there have been */
	u64 sequence; /* atomic; of writes that debug registers saw */
	u64 recording_ns; /* that recording has taken so far */
	u64 compared[WATCHES_MAX]; /* while a vCPU is let through */
	struct watch_stop *stops; /* of each vCPU */
};

/* watch.c; lock is held, or all are parked. NULL: there is no such watch. */
struct watch *watches_find(struct watches *w, u32 id);
/* While all are parked: 1 to WATCH_REGISTERS, that nobody uses; 0: none. */
u32 watches_free_register(const struct watches *w);
/* Likewise: those of all watches and returns, on every vCPU. */
MUST_CHECK struct error *watches_set_registers(struct watches *w);
/* The host may have written: what is there now is what the next write finds. While all are parked. */
void watches_refresh(struct watches *w); /* NULL is allowed */
/* While all are parked: the pages of the watches, or none, cannot be written by the guest. */
MUST_CHECK struct error *watches_protect(struct watches *w, bool on);

/* What a write made of what was in a watch's place. */
struct watch_change {
	u64 before, after;
	bool raced;
};

/* lock is held. The vCPU has written there. */
void watches_fire(struct watches *w, struct watch *watch, const struct vcpu_thread *t,
		  const struct watch_change *change);
/* Likewise: a write to a protected page, of what nobody watches. */
void watches_note_beside(struct watches *w, u64 gpa);
/* Likewise, of a write that a debug register saw: whether another vCPU may have written as well. */
bool watches_note_race(struct watches *w, struct watch *watch, u32 cpu);
void watches_fire_code(struct watches *w, struct watch *watch, const struct vcpu_thread *t, enum watch_event_kind kind,
		       u64 value, u64 rip);
/* lock is held: it waits for being let past. */
void watch_stop_at_breakpoint(struct watches *w, struct vcpu_thread *t);
/* watch_code.c; lock is held: the part of a KVM_EXIT_DEBUG that is about code. */
void watch_take_code(struct watches *w, struct vcpu_thread *t);
/* watch_plant.c; lock is held, or all are parked. */
void watches_learn_soft_breakpoints(struct watches *w);
bool watches_need_int3(const struct watches *w);
bool watches_have_planted(const struct watches *w, u64 address);
/* Its exit is one of an INT3 of ours, which it stands in front of: done. */
bool watch_take_planted(struct vcpu_thread *t);
/* lock is held: it stands in front of an instruction that is watched. */
void watch_hit_code(struct watches *w, struct vcpu_thread *t, u64 pc);
/* watch_vcpu.c: after an emulation that failed, the exception that the guest was to get for it is not to come. */
void watch_forget_undefined(struct vcpu_thread *t);
bool watches_try_out(struct watches *w, enum micro_guest guest);
u64 watch_read(const struct watch *watch);
const struct kvm_regs *watch_regs(const struct vcpu_thread *t, struct kvm_regs *room); /* of the last exit */
u64 watch_rip(const struct vcpu_thread *t);

/* --- on the vCPU's thread --- */

/* Its exit is a write of the guest to its own memory: done. False: it is for a device. */
bool watch_take_write(struct vcpu_thread *t);
/* A KVM_EXIT_DEBUG, which may be a watch's. */
void watch_take_debug(struct vcpu_thread *t);
/* KVM could not emulate an instruction. True: it will be tried again with its page writable. */
bool watch_take_failure(struct vcpu_thread *t);
/* After its exit has retired: puts it in front of an instruction that is to be done again. */
MUST_CHECK struct error *watch_undo(struct vcpu_thread *t);
/* Before each KVM_RUN. */
static inline void watch_note_entry(const struct vcpu_thread *t)
{
	struct watches *w = t->machine->watches;

	if (w)
		w->stops[t->index].entered = __atomic_load_n(&w->sequence, __ATOMIC_ACQUIRE);
}
/*
 * For who steps it, watch_pass.c: whether its instruction needs the pages to be writable. Has it so, until the
 * instruction is over; close is harmless where nothing was opened. The other vCPUs are parked.
 */
bool watch_is_blocked(const struct vcpu_thread *t);
MUST_CHECK struct error *watch_open_pages(struct vcpu_thread *t);
MUST_CHECK struct error *watch_close_pages(struct vcpu_thread *t);
/* Whether the vCPU is to stand still, or its last instruction to be undone. */
static inline bool watch_wants_attention(const struct vcpu_thread *t)
{
	const struct watches *w = t->machine->watches;
	const struct watch_stop *stop = w ? &w->stops[t->index] : NULL;

	return stop && (stop->undo_due || __atomic_load_n(&stop->count, __ATOMIC_ACQUIRE) ||
			__atomic_load_n(&stop->blocked, __ATOMIC_ACQUIRE) ||
			__atomic_load_n(&stop->at_breakpoint, __ATOMIC_ACQUIRE));
}
/* Until it has been recorded, somebody freezes the machine, or ends it. */
void watch_wait(struct vcpu_thread *t);
/* KVM_SET_GUEST_DEBUG with the watches' registers; extra: KVM_GUESTDBG_* beside them. */
MUST_CHECK struct error *watch_set_debug(const struct vcpu_thread *t, u32 extra);

void watches_destroy(struct watches *w); /* NULL is allowed */

#endif
