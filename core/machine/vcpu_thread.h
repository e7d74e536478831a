/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One vCPU's thread: runs it, carries out its exits, stops it when asked.
 * Depends on kvm and device. Only this thread enters the vCPU.
 * The order in vcpu_thread_kick() (wish, immediate_exit, signal) leaves no way to miss a wish.
 */
#ifndef MACHINE_VCPU_THREAD_H
#define MACHINE_VCPU_THREAD_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "kvm/vcpu.h"

struct machine;

struct vcpu_thread {
	struct machine *machine;
	u32 index; /* the guest's CPU number; 0 is the BSP */
	struct vcpu vcpu;
	pthread_t thread; /* for joining, when created */
	bool created;
	pthread_t self; /* for kicking, when running (atomic) says that it is set */
	bool running;
};

MUST_CHECK struct error *vcpu_thread_start(struct vcpu_thread *t);
/* Makes it look at the machine's wish to stop, wherever it is. Not once it may have been joined. */
void vcpu_thread_kick(struct vcpu_thread *t);
void vcpu_thread_join(struct vcpu_thread *t);

#endif
