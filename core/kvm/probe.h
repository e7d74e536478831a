/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this host's KVM really does, found out by running micro guests; a feature flag is no proof.
 * Depends on the rest of core/kvm. Each micro guest has a bound in wall time, so a KVM that hangs cannot
 * hang the caller; answers that could not be had are false.
 */
#ifndef KVM_PROBE_H
#define KVM_PROBE_H

#include "base/types.h"

enum probe_kvm {
	PROBE_KVM_OK,
	PROBE_KVM_MISSING, /* no device */
	PROBE_KVM_PERMISSION, /* there, but not for this user */
	PROBE_KVM_ERROR, /* cannot be used; error says why */
};

/*
 * What a micro guest in long mode did. Each is true when the outcome was right; of XSAVE, POPCNT and
 * CMPXCHG16B also where the supported CPUID does not offer it, since no kernel uses it then.
 */
struct probe {
	enum probe_kvm kvm;
	char error[256]; /* empty when kvm is PROBE_KVM_OK */
	char hint[256]; /* the remedy, or empty */
	int api_version; /* -1 when it could not be asked */

	bool long_mode; /* plain integer code and a port write in 64-bit kernel mode */
	bool int3; /* INT3 in kernel mode arrives at the guest's handler */
	bool sse; /* SSE arithmetic in kernel mode */
	bool xsave; /* XSAVE and XRSTOR in kernel mode */
	bool popcnt; /* POPCNT in kernel mode */
	bool cmpxchg16b; /* CMPXCHG16B in kernel mode */
	bool syscall; /* SYSCALL from user mode arrives at LSTAR in ring 0, and SYSRET goes back */
	bool data_watchpoint; /* a write watched by a debug register stops the vCPU */
	bool code_breakpoint; /* an instruction watched by a debug register does */

	bool master_clock; /* kvmclock is stable (KVM_CLOCK_TSC_STABLE) */
	bool tsc_deadline; /* the local APIC's timer has the TSC-deadline mode */
	bool invariant_tsc; /* CPUID 0x80000007 EDX bit 8 in KVM's supported CPUID */
	u32 max_vcpus; /* 0: unknown */
	u64 memory_available; /* bytes: MemAvailable, or what the cgroup leaves if that is less */

	bool stock_kernel; /* an unmodified 64-bit kernel can run: all that it cannot do without is there */
	bool paravirtual; /* KVM opens and runs micro guests, but not what a stock kernel executes */
};

/* device: KVM_DEVICE. Takes a few milliseconds; half a minute at most, when micro guests hang. */
void probe_run(struct probe *probe, const char *device);

#endif
