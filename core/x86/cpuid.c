// SPDX-License-Identifier: GPL-2.0-or-later
#include "x86/cpuid.h"

#include <asm/kvm_para.h>
#include <stdlib.h>
#include <string.h>

#include "x86/cpuid_builder.h"

#define BIT(n) (1U << (n))

enum {
	LEAF_POWER = 6,
	LEAF_FEATURES7 = 7,
	/* KVM's LAPIC timer counts nanoseconds. */
	APIC_BUS_KHZ = 1000000,
};

#define LEAF_EXT_POWER 0x80000007U
#define LEAF_KVM_TIMING 0x40000010U

/* Bits by their leaf and register. */
enum {
	X2APIC_1_ECX = 21,
	TSC_DEADLINE_1_ECX = 24,
	HYPERVISOR_1_ECX = 31,
	ARAT_6_EAX = 2,
	LA57_7_ECX = 16,
	LONG_MODE_EXT1_EDX = 29,
	INVARIANT_TSC_EXT7_EDX = 8,
};

/* The index of a leaf's entry, or nent. */
static u32 find(const struct kvm_cpuid2 *cpuid, u32 leaf, u32 subleaf)
{
	for (u32 i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == leaf &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
			return i;
	}
	return cpuid->nent;
}

struct kvm_cpuid_entry2 *cpuid_builder_find(struct cpuid_builder *b, u32 leaf, u32 subleaf)
{
	u32 i = find(b->cpuid, leaf, subleaf);

	return i < b->cpuid->nent ? &b->cpuid->entries[i] : NULL;
}

static struct kvm_cpuid_entry2 *add(struct cpuid_builder *b, u32 leaf, u32 subleaf, u32 flags)
{
	struct kvm_cpuid_entry2 *e = &b->spare;

	if (b->cpuid->nent < CPUID_ENTRIES_MAX)
		e = &b->cpuid->entries[b->cpuid->nent++];
	else
		b->full = true;
	*e = (struct kvm_cpuid_entry2){ .function = leaf, .index = subleaf, .flags = flags };
	return e;
}

struct kvm_cpuid_entry2 *cpuid_builder_leaf(struct cpuid_builder *b, u32 leaf)
{
	struct kvm_cpuid_entry2 *e = cpuid_builder_find(b, leaf, 0);

	return e ? e : add(b, leaf, 0, 0);
}

struct kvm_cpuid_entry2 *cpuid_builder_subleaf(struct cpuid_builder *b, u32 leaf, u32 subleaf)
{
	struct kvm_cpuid_entry2 *e = cpuid_builder_find(b, leaf, subleaf);

	return e ? e : add(b, leaf, subleaf, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
}

void cpuid_builder_drop(struct cpuid_builder *b, u32 leaf)
{
	u32 kept = 0;

	for (u32 i = 0; i < b->cpuid->nent; i++)
		if (b->cpuid->entries[i].function != leaf)
			b->cpuid->entries[kept++] = b->cpuid->entries[i];
	b->cpuid->nent = kept;
}

void cpuid_builder_raise(struct cpuid_builder *b, u32 leaf)
{
	struct kvm_cpuid_entry2 *e = cpuid_builder_leaf(b, leaf & 0x80000000U);

	if (e->eax < leaf)
		e->eax = leaf;
}

/* The registers of a leaf that has no subleaves, or subleaf 0; zeros when it is not there. */
static struct kvm_cpuid_entry2 leaf_of(const struct kvm_cpuid2 *cpuid, u32 leaf)
{
	u32 i = find(cpuid, leaf, 0);

	return i < cpuid->nent ? cpuid->entries[i] : (struct kvm_cpuid_entry2){ 0 };
}

static struct error *check_host(const struct kvm_cpuid2 *host, const struct topology *t,
				const struct cpuid_options *options)
{
	if (host->nent > CPUID_ENTRIES_MAX)
		return error_create(ERROR_INVALID, "the host's CPUID has %u entries: KVM takes %d", host->nent,
				    CPUID_ENTRIES_MAX);
	if (!(leaf_of(host, CPUID_LEAF_EXT_FEATURES).edx & BIT(LONG_MODE_EXT1_EDX)))
		return error_create(ERROR_UNSUPPORTED, "this KVM has no 64-bit mode (CPUID 0x80000001 EDX bit 29)");
	if (apic_id_needs_x2apic(t) && !(leaf_of(host, CPUID_LEAF_FEATURES).ecx & BIT(X2APIC_1_ECX)))
		return error_with_hint(error_create(ERROR_UNSUPPORTED,
						    "the topology has APIC ids up to %u and this KVM has no x2APIC",
						    apic_id_max(t)),
				       "use a topology with fewer LLCs, cores or threads");
	if (options->la57 && !(leaf_of(host, LEAF_FEATURES7).ecx & BIT(LA57_7_ECX)))
		return error_with_hint(error_create(ERROR_UNSUPPORTED,
						    "5-level paging was asked for and this host has none"),
				       "leave out la57 = true");
	return NULL;
}

static void build_features(struct cpuid_builder *b, const struct cpuid_options *options)
{
	struct kvm_cpuid_entry2 *e = cpuid_builder_leaf(b, CPUID_LEAF_FEATURES);

	e->ecx |= BIT(HYPERVISOR_1_ECX);
	if (options->tsc_deadline)
		e->ecx |= BIT(TSC_DEADLINE_1_ECX);
	else
		e->ecx &= ~BIT(TSC_DEADLINE_1_ECX);

	// The LAPIC timer never stops. Without this bit the kernel wants a PIT, deadline timer or not.
	cpuid_builder_raise(b, LEAF_POWER);
	cpuid_builder_leaf(b, LEAF_POWER)->eax |= BIT(ARAT_6_EAX);

	if (options->invariant_tsc == INVARIANT_TSC_HIDDEN) {
		e = cpuid_builder_find(b, LEAF_EXT_POWER, 0);
		if (e)
			e->edx &= ~BIT(INVARIANT_TSC_EXT7_EDX);
	} else if (options->invariant_tsc == INVARIANT_TSC_SHOWN) {
		cpuid_builder_raise(b, LEAF_EXT_POWER);
		cpuid_builder_leaf(b, LEAF_EXT_POWER)->edx |= BIT(INVARIANT_TSC_EXT7_EDX);
	}
}

/*
 * The features are an allow-list: what a later KVM adds stays off until somebody has thought about what
 * it does to a scheduler. ASYNC_PF makes tasks sleep for the host's page faults, PV_SCHED_YIELD and
 * POLL_CONTROL change what idle and waking CPUs do.
 */
static void build_kvm(struct cpuid_builder *b, const struct cpuid_options *options)
{
	u32 allowed = BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
		      BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT) | BIT(KVM_FEATURE_PV_EOI) |
		      BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI);
	struct kvm_cpuid_entry2 *e;

	if (options->steal_time)
		allowed |= BIT(KVM_FEATURE_STEAL_TIME);

	e = cpuid_builder_leaf(b, KVM_CPUID_SIGNATURE);
	e->eax = options->tsc_khz ? LEAF_KVM_TIMING : KVM_CPUID_FEATURES;
	memcpy(&e->ebx, "KVMK", 4);
	memcpy(&e->ecx, "VMKV", 4);
	memcpy(&e->edx, "M\0\0\0", 4);

	e = cpuid_builder_leaf(b, KVM_CPUID_FEATURES);
	e->eax &= allowed;
	// Not KVM's to offer: it says that whoever routes the MSIs understands the extended destination.
	if (apic_id_needs_x2apic(b->topology))
		e->eax |= BIT(KVM_FEATURE_MSI_EXT_DEST_ID);
	e->edx = 0; // no hints: vCPUs may be preempted

	// Linux asks kvmclock instead; this is for guests that have no driver for it.
	if (options->tsc_khz) {
		e = cpuid_builder_leaf(b, LEAF_KVM_TIMING);
		e->eax = options->tsc_khz;
		e->ebx = APIC_BUS_KHZ;
	}
}

struct error *cpuid_build(const struct kvm_cpuid2 *supported, const struct topology *t, u32 cpu,
			  const struct cpuid_options *options, struct kvm_cpuid2 **ret)
{
	if (cpu >= topology_cpus(t))
		return error_create(ERROR_INVALID, "the topology has %u CPUs: there is no CPU %u", topology_cpus(t),
				    cpu);

	struct error *err = check_host(supported, t, options);

	if (err)
		return err;

	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));

	if (!cpuid)
		return error_no_memory();
	cpuid->nent = supported->nent;
	memcpy(cpuid->entries, supported->entries, supported->nent * sizeof(cpuid->entries[0]));

	struct cpuid_builder b = {
		.cpuid = cpuid,
		.topology = t,
		.ids = apic_id_layout(t),
		.cpu = topology_cpu(t, cpu),
		.apic_id = apic_id(t, cpu),
	};

	build_features(&b, options);
	build_kvm(&b, options);
	cpuid_build_topology(&b);
	if (b.full) {
		free(cpuid);
		return error_create(ERROR_UNSUPPORTED, "a vCPU's CPUID would have more than the %d entries KVM takes",
				    CPUID_ENTRIES_MAX);
	}
	*ret = cpuid;
	return NULL;
}
