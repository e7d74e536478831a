/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Micro guests: a handful of instructions that run in long mode on one vCPU, for probe.c.
 * Depends on the rest of core/kvm.
 * A run ends within its bound in wall time, whatever the guest or KVM does.
 */
#ifndef KVM_MICRO_H
#define KVM_MICRO_H

#include "base/error.h"
#include "base/types.h"
#include "kvm/kvm.h"

enum micro_guest {
	MICRO_PLAIN, /* integer instructions and a port write */
	MICRO_INT3,
	MICRO_SSE,
	MICRO_XSAVE,
	MICRO_POPCNT,
	MICRO_CMPXCHG16B,
	MICRO_SYSCALL,
	MICRO_DATA_WATCHPOINT,
	MICRO_CODE_BREAKPOINT,
	MICRO_SOFT_BREAKPOINT, /* an INT3 of the host's */
	MICRO_SPIN, /* never ends by itself */
	MICRO_COUNT,
};

struct micro_result {
	bool passed; /* the guest saw, and did, what a processor does */
	bool timed_out;
	bool master_clock; /* kvmclock was stable after the run */
	char ending[160]; /* what happened instead, for people; empty when it passed */
};

/* An error only when the machine could not be made at all. limit_ns: the bound of KVM_RUN. */
MUST_CHECK struct error *micro_run(const struct kvm *kvm, struct kvm_cpuid2 *cpuid, enum micro_guest guest,
				   u64 limit_ns, struct micro_result *ret);

#endif
