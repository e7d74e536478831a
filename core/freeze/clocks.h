/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's time stands still over a freeze: kvmclock, every vCPU's TSC, armed timers.
 * Depends on kvm. All functions are for a machine whose vCPUs are parked.
 * What a host's KVM cannot do is left out, and told by clocks_are_exact(); nothing here fails a freeze.
 *
 * Noted when all are parked, put back before any runs. In the guest kvmclock and TSC go on from one and the
 * same instant, so that neither looks wrong beside the other, however often the machine is frozen.
 *
 *	parked	timer_note() on each vCPU's thread, before it acknowledges
 *		clocks_stop()
 *	thaw	clocks_go()
 *		timer_rewind() for each vCPU, from the same thread
 *	running	timer_resume() on each vCPU's thread, before KVM_RUN
 */
#ifndef FREEZE_CLOCKS_H
#define FREEZE_CLOCKS_H

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

/* A vCPU's own timer, armed at the time of the freeze. All zero before the first; it stays for the next. */
struct timer_note {
	u64 deadline; /* MSR_IA32_TSC_DEADLINE; 0: not armed, or not in that mode */
	u32 count; /* the local APIC's remaining count in its other modes; 0: not armed */
};

struct clocks {
	const struct vm *vm;
	u32 khz; /* of the guest's TSC, which runs at the host's rate */
	u32 count;
	bool stopped; /* noted, and not let go yet */
	bool inexact; /* this KVM gives no TSC offset, or no clock */
	bool untold; /* this KVM does not even tell the TSC offset */
	bool offsets_work, no_offsets; /* tried: it heeds the TSC offset, it does not; neither: not tried yet */
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
 * Sets them so that the guest's time goes on where it stood; nothing when it is not stopped. Afterwards the
 * machine may be stopped again, also within the same freeze: what ran in between has seen its time, and no more.
 */
void clocks_go(struct clocks *c, const struct vcpu *(*vcpu)(void *ctx, u32 index), void *ctx);
/*
 * The guest's time as it was noted, for another machine, or for this one later on. ERROR_UNSUPPORTED where KVM does
 * not tell it.
 */
MUST_CHECK struct error *clocks_save(const struct clocks *c, struct buf *out);
/*
 * As if the machine had been stopped at that time: it goes on from there with clocks_go(). ERROR_FORMAT;
 * ERROR_UNSUPPORTED when this host's TSC runs at another rate.
 */
MUST_CHECK struct error *clocks_load(struct clocks *c, struct reader *in);
/* False when the guest will have seen time pass over a freeze. */
bool clocks_are_exact(const struct clocks *c);

/* The guest's kvmclock in nanoseconds, and the host's TSC at that instant. */
struct clock_pair {
	u64 ns, tsc;
};

/*
 * By how much a TSC offset has to be lowered so that the guest's TSC of khz has advanced between the pairs by as
 * much as its kvmclock did: to the nearest cycle, all arithmetic modulo 2^64.
 */
u64 clocks_tsc_lag(struct clock_pair then, struct clock_pair now, u32 khz);

void timer_note(const struct vcpu *vcpu, struct timer_note *note);
/* Forgets a deadline that is armed, if the vCPU's timer is in that mode: another state is about to be loaded. */
void timer_disarm(const struct vcpu *vcpu);
void timer_note_save(const struct timer_note *note, struct buf *out);
void timer_note_load(struct timer_note *note, struct reader *in);
/*
 * Puts a noted count back. By one thread for every vCPU, while none runs and no device raises an interrupt: it
 * sets the whole local APIC, and what came in meanwhile would be lost. Costs nothing where the guest has a
 * deadline, as Linux does.
 */
void timer_rewind(const struct vcpu *vcpu, const struct timer_note *note);
/*
 * Arms a noted deadline. long_freeze: also tells the guest's watchdogs (KVM_KVMCLOCK_CTRL) that it was stopped;
 * not for short ones, since a detector that is told so at every capture never reports.
 */
void timer_resume(const struct vcpu *vcpu, const struct timer_note *note, bool long_freeze);

#endif
