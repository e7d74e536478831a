/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other CPUs: found in the MADT, started by INIT and SIPI, waiting for work.
 * Depends on trap.h.
 * A CPU that is listed and does not come up is told apart from one that is not listed.
 */
#ifndef TINY_SMP_H
#define TINY_SMP_H

#include "base/types.h"
#include "tiny/tiny.h"

struct cpu {
	bool up; /* the rest is filled in */
	u32 apic_id; /* read from its own local APIC */
	u32 cpuid_id; /* what its CPUID says */
};

struct cpus {
	u32 listed; /* enabled in the MADT, the boot CPU among them */
	volatile u32 up; /* running; 1 at first */
	struct cpu cpu[TINY_CPUS_MAX]; /* numbered as they came; 0 is the boot CPU */
	void (*volatile work)(u32 index); /* what the others do once it is set; it does not return */
};

/*
 * Starts every CPU that the MADT lists and waits until all are up, or about `seconds` have passed. rsdp
 * 0: there are no tables, so there is one CPU. False when some did not come up.
 */
bool cpus_start(struct cpus *cpus, u64 rsdp, u32 seconds);
/* Sets the others to work. */
void cpus_run(struct cpus *cpus, void (*work)(u32 index));

#endif
