/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One vCPU's thread: runs it, carries out its exits, parks it and stops it when asked.
 * Depends on kvm, device and freeze. Only this thread enters the vCPU.
 * The order in vcpu_thread_kick() (wish, immediate_exit, signal) leaves no way to miss a wish: only the
 * thread clears immediate_exit, and looks for wishes after it has.
 */
#ifndef MACHINE_VCPU_THREAD_H
#define MACHINE_VCPU_THREAD_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "freeze/clocks.h"
#include "freeze/park.h"
#include "kvm/vcpu.h"

struct machine;

/* Instructions that a parked vCPU is to execute before it acknowledges the next generation. */
struct vcpu_step {
	u32 wanted; /* 0: none */
	u32 done;
	bool cancelled; /* atomic: nobody waits for more of them */
	struct error *err; /* whoever takes the result destroys it */
};

struct vcpu_thread {
	struct machine *machine;
	u32 index; /* the guest's CPU number; 0 is the BSP */
	struct vcpu vcpu;
	pthread_t thread; /* for joining, when created */
	bool created;
	pthread_t self; /* for kicking, when running (atomic) says that it is set */
	pid_t tid; /* likewise */
	bool running;
	bool in_guest; /* atomic: in KVM_RUN, for messages */
	bool exit_pending; /* the last exit's instruction retires only when the vCPU runs again */
	struct park_slot *park;
	bool is_crowding; /* it may keep who wakes it from a processor */
	int nice; /* its own, once running */
	bool is_hurried; /* atomic: it has another, until it has parked */
	struct timer_note timer; /* while parked */
	struct vcpu_step step; /* the coordinator's, but for the time that it gives it away */
	u32 kicks; /* atomic: so often has it been kicked */
	u64 deaf_until_ns; /* atomic; 0, but in tests: it does not acknowledge a freeze before */
};

/* What a vCPU's thread does after an exit. */
enum verdict {
	VERDICT_GO_ON,
	VERDICT_SHUTDOWN, /* the guest reset or powered off, here */
	VERDICT_FATAL,
};

MUST_CHECK struct error *vcpu_thread_start(struct vcpu_thread *t);
/* Makes it look at the machine's wish to stop, wherever it is. Not once it may have been joined. */
void vcpu_thread_kick(struct vcpu_thread *t);
/* Of the threads that wait for a processor it is the first, until it has parked. As kick(). */
void vcpu_thread_hurry(struct vcpu_thread *t);
void vcpu_thread_join(struct vcpu_thread *t);

/* --- on the thread itself --- */

/* Runs the vCPU until its next exit, and carries that out. */
MUST_CHECK struct error *vcpu_thread_enter(struct vcpu_thread *t, enum verdict *verdict);
/* Lets the last exit's instruction retire; nothing after it is executed. Leaves immediate_exit set. */
MUST_CHECK struct error *vcpu_thread_retire(struct vcpu_thread *t, enum verdict *verdict);

#endif
