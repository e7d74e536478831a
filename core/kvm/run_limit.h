/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bound in wall time for this thread's vcpu_run(), whatever the guest does.
 * Depends on vcpu.h. A timer's signal, blocked in the thread and let through by KVM_RUN alone: no
 * handler is installed, and nobody else in the process notices.
 */
#ifndef KVM_RUN_LIMIT_H
#define KVM_RUN_LIMIT_H

#include <signal.h>
#include <time.h>

#include "base/error.h"
#include "base/types.h"
#include "kvm/vcpu.h"

struct run_limit {
	timer_t timer;
	sigset_t signal, before;
	bool armed;
};

/*
 * From ns nanoseconds on, vcpu_run() of this vCPU in this thread returns VCPU_INTERRUPTED within 10 ms. One
 * at a time in a thread.
 */
MUST_CHECK struct error *run_limit_init(struct run_limit *limit, const struct vcpu *vcpu, u64 ns);
/* In the same thread. The vCPU keeps its signal mask; do not run it any more. */
void run_limit_deinit(struct run_limit *limit);

#endif
