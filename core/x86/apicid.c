// SPDX-License-Identifier: GPL-2.0-or-later
#include "x86/apicid.h"

/* Bits that number n things from 0. */
static u32 bits_for(u32 n)
{
	return n > 1 ? 32 - (u32)__builtin_clz(n - 1) : 0;
}

struct apic_id_layout apic_id_layout(const struct topology *t)
{
	struct apic_id_layout l;
	u32 llcs = 0, packages = 0;

	for (u32 i = 0; i < t->nodes; i++) {
		packages += t->node_llcs[i] > 0;
		if (t->node_llcs[i] > llcs)
			llcs = t->node_llcs[i];
	}
	l.core_shift = bits_for(t->threads);
	l.llc_shift = l.core_shift + bits_for(t->cores);
	l.package_shift = l.llc_shift + bits_for(llcs);
	l.bits = l.package_shift + bits_for(packages);
	return l;
}

u32 apic_id(const struct topology *t, u32 cpu)
{
	struct apic_id_layout l = apic_id_layout(t);
	struct topology_cpu c = topology_cpu(t, cpu);
	u32 llc = c.llc; // within its node
	u32 package = 0;

	for (u32 i = 0; i < c.node; i++) {
		llc -= t->node_llcs[i];
		package += t->node_llcs[i] > 0;
	}
	return package << l.package_shift | llc << l.llc_shift | c.core << l.core_shift | c.thread;
}

u32 apic_id_max(const struct topology *t)
{
	return apic_id(t, topology_cpus(t) - 1);
}

bool apic_id_needs_x2apic(const struct topology *t)
{
	return apic_id_max(t) > 254;
}
