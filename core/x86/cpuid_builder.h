/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CPUID in the making, for cpuid.c and cpuid_topology.c alone: leaves found, added, dropped.
 * Depends on <linux/kvm.h>, base, apicid.h.
 * A leaf too many goes to a spare entry and sets `full`, so building is checked once, at its end.
 */
#ifndef X86_CPUID_BUILDER_H
#define X86_CPUID_BUILDER_H

#include <linux/kvm.h>

#include "base/topology.h"
#include "x86/apicid.h"

enum {
	CPUID_ENTRIES_MAX = 256, /* that KVM takes */

	/* Leaves both files write. */
	CPUID_LEAF_VENDOR = 0,
	CPUID_LEAF_FEATURES = 1,
};

#define CPUID_LEAF_EXT_MAX 0x80000000U
#define CPUID_LEAF_EXT_FEATURES 0x80000001U

struct cpuid_builder {
	struct kvm_cpuid2 *cpuid; /* with room for CPUID_ENTRIES_MAX */
	bool full;
	struct kvm_cpuid_entry2 spare;
	const struct topology *topology;
	struct apic_id_layout ids;
	struct topology_cpu cpu; /* the one this CPUID is for */
	u32 apic_id;
};

/* NULL when there is no such leaf; subleaf 0 for leaves that have none. */
struct kvm_cpuid_entry2 *cpuid_builder_find(struct cpuid_builder *b, u32 leaf, u32 subleaf);
/* The same, added with zeros when there is none. */
struct kvm_cpuid_entry2 *cpuid_builder_leaf(struct cpuid_builder *b, u32 leaf);
struct kvm_cpuid_entry2 *cpuid_builder_subleaf(struct cpuid_builder *b, u32 leaf, u32 subleaf);
/* Drops a leaf with all its subleaves. */
void cpuid_builder_drop(struct cpuid_builder *b, u32 leaf);
/* Makes leaves up to `leaf` count, basic or extended. */
void cpuid_builder_raise(struct cpuid_builder *b, u32 leaf);

/* cpuid_topology.c: every leaf that says where the CPU sits, by the vendor of the host. */
void cpuid_build_topology(struct cpuid_builder *b);

#endif
