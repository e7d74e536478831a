/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPUID of each vCPU: the host's features, the topology that was asked for, KVM's own leaves.
 * Depends on base and <linux/kvm.h>, makes no system call.
 * The guest's kernel decodes the topology as asked on Intel and on AMD hosts: package = NUMA node,
 * die = LLC, L3 shared by the LLC's CPUs, L1 and L2 by a core's.
 */
#ifndef X86_CPUID_H
#define X86_CPUID_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/topology.h"

/* The TSC's promise to keep its rate and never to stop (CPUID 0x80000007 EDX bit 8). */
enum invariant_tsc {
	INVARIANT_TSC_HOST, /* what the host's KVM offers */
	INVARIANT_TSC_HIDDEN, /* the guest then prefers kvmclock to its TSC */
	INVARIANT_TSC_SHOWN, /* it then prefers its TSC, whatever the host's is worth */
};

struct cpuid_options {
	bool tsc_deadline; /* KVM_CAP_TSC_DEADLINE_TIMER: KVM_GET_SUPPORTED_CPUID does not say it */
	bool steal_time; /* offer KVM_FEATURE_STEAL_TIME */
	enum invariant_tsc invariant_tsc;
	bool la57; /* the guest starts with 5-level paging: an error when the host has none */
	u32 tsc_khz; /* KVM_GET_TSC_KHZ, for leaf 0x40000010; 0: unknown, the guest has only kvmclock */
};

/*
 * The CPUID of one vCPU, for KVM_SET_CPUID2; released with free(). supported is what
 * KVM_GET_SUPPORTED_CPUID gave.
 *
 * PV features, always the same so that schedulers behave the same: CLOCKSOURCE, CLOCKSOURCE2 with its
 * stable bit, PV_EOI, PV_UNHALT, PV_TLB_FLUSH, PV_SEND_IPI, where the host has them; STEAL_TIME by option;
 * MSI_EXT_DEST_ID where APIC ids need it. Never ASYNC_PF, PV_SCHED_YIELD, POLL_CONTROL.
 *
 * ERROR_INVALID: no such CPU. ERROR_UNSUPPORTED: the host lacks what the topology or an option needs
 * (x2APIC for ids above 254, LA57, long mode).
 */
MUST_CHECK struct error *cpuid_build(const struct kvm_cpuid2 *supported, const struct topology *t, u32 cpu,
				     const struct cpuid_options *options, struct kvm_cpuid2 **ret);

#endif
