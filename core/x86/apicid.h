/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * APIC ids from the topology: bit fields thread | core | LLC | package, each padded to a power of two.
 * Depends on base. A vCPU's id in KVM is its APIC id.
 * Ids are unique, grow with the CPU number, and CPU 0 has id 0.
 */
#ifndef X86_APICID_H
#define X86_APICID_H

#include "base/topology.h"

/* Shifts right by these give the number of the core, the LLC and the package (a node that has CPUs). */
struct apic_id_layout {
	u32 core_shift; /* bits of the thread */
	u32 llc_shift; /* and of the core */
	u32 package_shift; /* and of the LLC within its node */
	u32 bits; /* and of the package: all that are used */
};

struct apic_id_layout apic_id_layout(const struct topology *t);
u32 apic_id(const struct topology *t, u32 cpu);
u32 apic_id_max(const struct topology *t);

/*
 * Some id is above 254: 8-bit APIC ids do not reach it. Such a machine has a split irqchip, 32-bit ids
 * (KVM_CAP_X2APIC_API) and extended MSI destinations.
 */
bool apic_id_needs_x2apic(const struct topology *t);

#endif
