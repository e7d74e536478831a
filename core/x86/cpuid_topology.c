// SPDX-License-Identifier: GPL-2.0-or-later
//
// The leaves that say where a CPU sits. Who reads what, in Linux:
//
//   Intel       leaf 0x1f (SMT, core, die), else 0xb; caches from leaf 4.
//   AMD, 6.1    package and core from 0xb; die from the node id of 0x8000001e ECX.
//   AMD, later  package, die and core from 0x80000026, else 0xb.
//   AMD, all    the LLC, if 0x80000006 EDX shows an L3: below family 0x17 it is the node id of
//               0x8000001e, from family 0x17 model 0x20 on the APIC id shifted right by the order of the
//               threads that share the last cache of 0x8000001d. In between (Zen 1) and on Hygon it is the
//               APIC id shifted right by 3, whatever the leaves say.
//
// All of them are written, from one description, so that they agree.

#include <string.h>

#include "x86/cpuid_builder.h"

#define BIT(n) (1U << (n))

enum {
	LEAF_CACHES = 4,
	LEAF_EXT_TOPOLOGY = 0xb,
	LEAF_DIE_TOPOLOGY = 0x1f,

	HTT_1_EDX = 28,
	CMP_LEGACY_EXT1_ECX = 1,
	NODEID_MSR_EXT1_ECX = 19,
	TOPOEXT_EXT1_ECX = 22,
};

#define LEAF_EXT_CACHES 0x80000006U
#define LEAF_EXT_SIZES 0x80000008U
#define LEAF_AMD_CACHES 0x8000001dU
#define LEAF_AMD_PLACE 0x8000001eU
#define LEAF_AMD_TOPOLOGY 0x80000026U

/* EPYC 7002: the first whose LLC the kernel takes from the leaves. */
#define SIGNATURE_ZEN2 0x00830f10U

/* Level types of leaves 0xb and 0x1f, and of 0x80000026. */
enum {
	LEVEL_INVALID = 0,
	LEVEL_SMT = 1,
	LEVEL_CORE = 2,
	LEVEL_DIE = 5,
	LEVEL_AMD_CORE = 1,
	LEVEL_AMD_COMPLEX = 2,
	LEVEL_AMD_DIE = 3,
	LEVEL_AMD_SOCKET = 4,
};

struct level {
	u32 type;
	u32 shift; /* of the APIC id, to the number of the level above (AMD: of this level) */
	u32 cpus; /* in this CPU's unit of the level */
};

static u32 core_cpus(const struct cpuid_builder *b)
{
	return b->topology->threads;
}

static u32 llc_cpus(const struct cpuid_builder *b)
{
	return core_cpus(b) * b->topology->cores;
}

static u32 package_cpus(const struct cpuid_builder *b)
{
	return llc_cpus(b) * b->topology->node_llcs[b->cpu.node];
}

static void build_levels(struct cpuid_builder *b, u32 leaf, const struct level *levels, u32 count)
{
	cpuid_builder_drop(b, leaf);
	cpuid_builder_raise(b, leaf);
	// One more than there are levels: type 0 ends the list.
	for (u32 i = 0; i <= count; i++) {
		struct kvm_cpuid_entry2 *e = cpuid_builder_subleaf(b, leaf, i);

		if (i < count) {
			e->eax = levels[i].shift;
			e->ebx = levels[i].cpus;
			e->ecx = levels[i].type << 8;
		}
		e->ecx |= i;
		e->edx = b->apic_id;
	}
}

/* Caches, L1D, L1I, L2, L3: eax (type, level, flags), ebx, ecx as leaf 4 and 0x8000001d have them. */
enum {
	CACHE_L1D,
	CACHE_L1I,
	CACHE_L2,
	CACHE_L3,
	CACHES,
};

enum {
	CACHE_TYPE_MASK = 0x1f,
	CACHE_LEVEL_SHIFT = 5,
	CACHE_IDENTITY_MASK = 0xff, /* type and level */
	CACHE_FLAGS_MASK = 0x3ff, /* and self-initialising, fully associative */
	CACHE_SHARING_SHIFT = 14,
	CACHE_CORES_SHIFT = 26,
	CACHE_CORES_MAX = 63,
	CACHE_SELF_INIT = 1 << 8,
	CACHE_LINE = 64,
};

struct cache {
	u32 eax, ebx, ecx, edx;
};

static u32 cache_identity(u32 cache)
{
	static const u8 types[CACHES] = { 1, 2, 3, 3 };
	static const u8 levels[CACHES] = { 1, 1, 2, 3 };

	return types[cache] | levels[cache] << CACHE_LEVEL_SHIFT;
}

/* What a host without complete cache leaves gets: 32 KiB, 32 KiB, 512 KiB, 16 MiB. */
static struct cache cache_default(u32 cache)
{
	static const u16 sets[CACHES] = { 64, 64, 1024, 16384 };
	static const u8 ways[CACHES] = { 8, 8, 8, 16 };

	return (struct cache){
		.eax = cache_identity(cache) | CACHE_SELF_INIT,
		.ebx = (CACHE_LINE - 1) | (ways[cache] - 1U) << 22,
		.ecx = sets[cache] - 1U,
	};
}

static u64 cache_size(const struct cache *c)
{
	return ((c->ebx & 0xfff) + 1ULL) * ((c->ebx >> 12 & 0x3ff) + 1) * ((c->ebx >> 22) + 1) * (c->ecx + 1ULL);
}

/* The host's caches; its sizes are worth showing, its sharing is not the guest's. */
static void read_caches(struct cpuid_builder *b, u32 leaf, struct cache caches[CACHES])
{
	u32 found = 0;

	memset(caches, 0, CACHES * sizeof(caches[0]));
	for (u32 i = 0; i < b->cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &b->cpuid->entries[i];

		for (u32 c = 0; e->function == leaf && c < CACHES; c++) {
			if ((e->eax & CACHE_IDENTITY_MASK) != cache_identity(c) || caches[c].eax)
				continue;
			caches[c] = (struct cache){ e->eax & CACHE_FLAGS_MASK, e->ebx, e->ecx, e->edx };
			found++;
		}
	}
	for (u32 c = 0; found < CACHES && c < CACHES; c++)
		caches[c] = cache_default(c);
}

static void build_caches(struct cpuid_builder *b, u32 leaf, const struct cache caches[CACHES], u32 eax)
{
	cpuid_builder_drop(b, leaf);
	for (u32 c = 0; c < CACHES; c++) {
		struct kvm_cpuid_entry2 *e = cpuid_builder_subleaf(b, leaf, c);
		u32 shift = c == CACHE_L3 ? b->ids.llc_shift : b->ids.core_shift;

		// Ids that may share, not CPUs that do: the kernel takes the order of it as a shift.
		e->eax = caches[c].eax | ((1U << shift) - 1) << CACHE_SHARING_SHIFT | eax;
		e->ebx = caches[c].ebx;
		e->ecx = caches[c].ecx;
		e->edx = caches[c].edx;
	}
	cpuid_builder_subleaf(b, leaf, CACHES); // type 0 ends the list
}

/* Leaf 1 has the low byte of the APIC id and the number of ids in a package. */
static void build_leaf1(struct cpuid_builder *b)
{
	struct kvm_cpuid_entry2 *e = cpuid_builder_leaf(b, CPUID_LEAF_FEATURES);
	u32 ids = 1U << b->ids.package_shift;

	e->ebx = (e->ebx & 0xffff) | (ids < 255 ? ids : 255) << 16 | (b->apic_id & 0xff) << 24;
	if (ids > 1)
		e->edx |= BIT(HTT_1_EDX);
	else
		e->edx &= ~BIT(HTT_1_EDX);
}

/* Leaf 0xb cannot say die: its core level reaches up to the package. */
static void build_leaf_b(struct cpuid_builder *b)
{
	const struct level levels[] = {
		{ LEVEL_SMT, b->ids.core_shift, core_cpus(b) },
		{ LEVEL_CORE, b->ids.package_shift, package_cpus(b) },
	};

	build_levels(b, LEAF_EXT_TOPOLOGY, levels, ARRAY_SIZE(levels));
}

static void build_intel(struct cpuid_builder *b)
{
	const struct level levels[] = {
		{ LEVEL_SMT, b->ids.core_shift, core_cpus(b) },
		{ LEVEL_CORE, b->ids.llc_shift, llc_cpus(b) },
		{ LEVEL_DIE, b->ids.package_shift, package_cpus(b) },
	};
	struct cache caches[CACHES];
	u32 cores = (1U << (b->ids.package_shift - b->ids.core_shift)) - 1;

	build_levels(b, LEAF_DIE_TOPOLOGY, levels, ARRAY_SIZE(levels));
	read_caches(b, LEAF_CACHES, caches);
	build_caches(b, LEAF_CACHES, caches,
		     (cores < CACHE_CORES_MAX ? cores : CACHE_CORES_MAX) << CACHE_CORES_SHIFT);
}

/* Bits 15:12 of 0x80000006 ECX and EDX; 9 refers to leaf 0x8000001d. */
static u32 amd_associativity(const struct cache *c)
{
	switch ((c->ebx >> 22) + 1) {
	case 1:
		return 1;
	case 2:
		return 2;
	case 4:
		return 4;
	case 8:
		return 6;
	case 16:
		return 8;
	case 32:
		return 0xa;
	case 48:
		return 0xb;
	case 64:
		return 0xc;
	case 96:
		return 0xd;
	case 128:
		return 0xe;
	default:
		return 9;
	}
}

static void build_amd_caches(struct cpuid_builder *b)
{
	struct cache caches[CACHES];

	read_caches(b, LEAF_AMD_CACHES, caches);
	build_caches(b, LEAF_AMD_CACHES, caches, 0);

	struct kvm_cpuid_entry2 *e = cpuid_builder_leaf(b, LEAF_EXT_CACHES);
	u32 l2_kib = (u32)(cache_size(&caches[CACHE_L2]) >> 10);
	u32 l3_half_mib = (u32)(cache_size(&caches[CACHE_L3]) >> 19);

	e->ecx = l2_kib << 16 | amd_associativity(&caches[CACHE_L2]) << 12 | 1 << 8 | CACHE_LINE;
	e->edx = l3_half_mib << 18 | amd_associativity(&caches[CACHE_L3]) << 12 | 1 << 8 | CACHE_LINE;
}

/*
 * The kernel has the LLC of a Zen 1 and of its Hygon relatives from the APIC id's bit 3 up, which only
 * some topologies fit. Such a host is shown as a Zen 2, whose LLC it takes from the leaves.
 */
static void hide_zen1(struct cpuid_builder *b)
{
	struct kvm_cpuid_entry2 *vendor = cpuid_builder_leaf(b, CPUID_LEAF_VENDOR);
	struct kvm_cpuid_entry2 *vendor_ext = cpuid_builder_leaf(b, CPUID_LEAF_EXT_MAX);
	struct kvm_cpuid_entry2 *features = cpuid_builder_leaf(b, CPUID_LEAF_FEATURES);
	u32 family = (features->eax >> 8 & 0xf) + (features->eax >> 20 & 0xff);
	u32 model = (features->eax >> 4 & 0xf) | (features->eax >> 12 & 0xf0);
	bool hygon = !memcmp(&vendor->ebx, "Hygo", 4);

	if (!hygon && (family != 0x17 || model > 0x1f))
		return;
	memcpy(&vendor->ebx, "Auth", 4);
	memcpy(&vendor->edx, "enti", 4);
	memcpy(&vendor->ecx, "cAMD", 4);
	vendor_ext->ebx = vendor->ebx;
	vendor_ext->edx = vendor->edx;
	vendor_ext->ecx = vendor->ecx;
	features->eax = SIGNATURE_ZEN2;
	cpuid_builder_leaf(b, CPUID_LEAF_EXT_FEATURES)->eax = SIGNATURE_ZEN2;
}

static void build_amd(struct cpuid_builder *b)
{
	const struct level levels[] = {
		{ LEVEL_AMD_CORE, b->ids.core_shift, core_cpus(b) },
		{ LEVEL_AMD_COMPLEX, b->ids.llc_shift, llc_cpus(b) },
		{ LEVEL_AMD_DIE, b->ids.llc_shift, llc_cpus(b) },
		{ LEVEL_AMD_SOCKET, b->ids.package_shift, package_cpus(b) },
	};
	struct kvm_cpuid_entry2 *e;

	hide_zen1(b);
	// A host's leaf 0x1f (an emulated one has it) would win over 0x80000026.
	cpuid_builder_drop(b, LEAF_DIE_TOPOLOGY);
	build_levels(b, LEAF_AMD_TOPOLOGY, levels, ARRAY_SIZE(levels));
	build_amd_caches(b);

	e = cpuid_builder_leaf(b, CPUID_LEAF_EXT_FEATURES);
	e->ecx |= BIT(TOPOEXT_EXT1_ECX);
	e->ecx &= ~(BIT(CMP_LEGACY_EXT1_ECX) | BIT(NODEID_MSR_EXT1_ECX));
	if (package_cpus(b) > 1)
		e->ecx |= BIT(CMP_LEGACY_EXT1_ECX);

	e = cpuid_builder_leaf(b, LEAF_EXT_SIZES);
	e->ecx = (e->ecx & ~0xf0ffU) | (package_cpus(b) - 1) | b->ids.package_shift << 12;

	u32 first_llc = 0; // of the package
	for (u32 i = 0; i < b->cpu.node; i++)
		first_llc += b->topology->node_llcs[i];

	// The node id is the LLC's: that is what older families take it for, and 6.1 as the die of all. The
	// number of nodes a package stays one (0 in bits 10:8): more make the kernel fold core ids.
	e = cpuid_builder_leaf(b, LEAF_AMD_PLACE);
	e->eax = b->apic_id;
	e->ebx = ((b->cpu.llc - first_llc) * b->topology->cores + b->cpu.core) | (core_cpus(b) - 1) << 8;
	e->ecx = b->cpu.llc;
	e->edx = 0;
}

void cpuid_build_topology(struct cpuid_builder *b)
{
	const struct kvm_cpuid_entry2 *vendor = cpuid_builder_leaf(b, CPUID_LEAF_VENDOR);
	bool amd = !memcmp(&vendor->ebx, "Auth", 4) || !memcmp(&vendor->ebx, "Hygo", 4);

	build_leaf1(b);
	build_leaf_b(b);
	if (amd)
		build_amd(b);
	else
		build_intel(b);
}
