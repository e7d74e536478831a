/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's time stands still over a freeze: kvmclock, every vCPU's TSC, armed timers.
 * Depends on kvm. All functions are for a machine whose vCPUs are parked.
 * What a host's KVM cannot do is left out, and told by clocks_are_exact(); nothing here fails a freeze.
 *
 * Noted when all are parked, put back before any runs. In the guest kvmclock and TSC go on from one and the
 * same instant, so that neither looks wrong beside the other, however often the machine is frozen.
 */
#ifndef FREEZE_CLOCKS_H
#define FREEZE_CLOCKS_H

#include "base/error.h"
#include "base/types.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

/* A vCPU's own timer, armed at the time of the freeze. Noted and put back by the vCPU's own thread. */
struct timer_note {
	u64 deadline; /* MSR_IA32_TSC_DEADLINE; 0: not armed, or not in that mode */
	u32 count; /* the local APIC's remaining count in its other modes; 0: not armed */
};

struct clocks {
	const struct vm *vm;
	u32 khz; /* of the guest's TSC */
	u32 count;
	bool inexact; /* this KVM gives no TSC offset, or no clock */
	u64 clock_ns, host_tsc; /* noted: the guest's kvmclock, and the host's TSC at the same instant */
	u64 stopped_ns; /* clock_now_ns() of that */
	u64 *offsets; /* noted: TSC offset of each vCPU */
};

/* vcpus are given to each call, so that the caller may keep them as it likes. */
MUST_CHECK struct error *clocks_init(struct clocks *c, const struct vm *vm, u32 khz, u32 count);
void clocks_deinit(struct clocks *c);

/* Notes kvmclock and every offset. vcpu(ctx, i) is vCPU i. */
void clocks_stop(struct clocks *c, const struct vcpu *(*vcpu)(void *ctx, u32 index), void *ctx);
/*
 * Sets them so that the guest's time goes on where it stood. Then each vCPU's own thread calls timer_resume()
 * before it runs. Afterwards the machine may be stopped again.
 */
void clocks_go(struct clocks *c, const struct vcpu *(*vcpu)(void *ctx, u32 index), void *ctx);
/* False when the guest will have seen time pass over a freeze. */
bool clocks_are_exact(const struct clocks *c);

void timer_note(const struct vcpu *vcpu, struct timer_note *note);
/*
 * Arms the timer for what was left of it. long_freeze: also tells the guest's watchdogs (KVM_KVMCLOCK_CTRL) that
 * it was stopped; not for short ones, since a detector that is told so at every capture never reports.
 */
void timer_resume(const struct vcpu *vcpu, const struct timer_note *note, bool long_freeze);

#endif
