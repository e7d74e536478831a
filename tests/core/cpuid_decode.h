/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How kernels find a CPU's place from its CPUID: as 6.1 does it, and as 6.12 and 7.3 do.
 * Depends on <linux/kvm.h>; for tests alone. After the vendors' manuals and what those kernels read.
 * Equal numbers in `place` mean the same package, die, LLC, core: that is all that is compared.
 */
#ifndef TESTS_CPUID_DECODE_H
#define TESTS_CPUID_DECODE_H

#include <linux/kvm.h>
#include <string.h>

#include "base/types.h"

#define NO_LLC UINT32_MAX

/* Package and die as numbered in the whole machine; core within the package. */
struct place {
	u32 package, die, llc, core, node_id;
};

/* What the CPUID instruction gives: zeros for leaves beyond the maximum, or that KVM has no entry for. */
static inline struct kvm_cpuid_entry2 cpuid_query(const struct kvm_cpuid2 *c, u32 leaf, u32 subleaf)
{
	u32 max = 0;
	struct kvm_cpuid_entry2 found = { 0 };

	for (u32 i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == (leaf & 0xffff0000))
			max = e->eax;
		if (e->function == leaf &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
			found = *e;
	}
	return leaf <= max ? found : (struct kvm_cpuid_entry2){ 0 };
}

static inline bool cpuid_is_amd(const struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 e = cpuid_query(c, 0, 0);

	return !memcmp(&e.ebx, "Auth", 4) && !memcmp(&e.edx, "enti", 4) && !memcmp(&e.ecx, "cAMD", 4);
}

static inline u32 cpuid_family(const struct kvm_cpuid2 *c)
{
	u32 eax = cpuid_query(c, 1, 0).eax, family = eax >> 8 & 0xf;

	return family == 0xf ? family + (eax >> 20 & 0xff) : family;
}

static inline u32 cpuid_model(const struct kvm_cpuid2 *c)
{
	u32 eax = cpuid_query(c, 1, 0).eax, model = eax >> 4 & 0xf;

	return cpuid_family(c) >= 6 ? model | (eax >> 12 & 0xf0) : model;
}

static inline bool cpuid_has_topoext(const struct kvm_cpuid2 *c)
{
	return cpuid_query(c, 0x80000001, 0).ecx & 1 << 22;
}

/* The smallest n with 1 << n >= count. */
static inline u32 count_order(u32 count)
{
	u32 n = 0;

	while (1ULL << n < count)
		n++;
	return n;
}

/* Shift from the APIC id to the id of a cache, from its leaf's EAX. */
static inline u32 cache_shift(u32 eax)
{
	return count_order((eax >> 14 & 0xfff) + 1);
}

static inline u32 last_cache(const struct kvm_cpuid2 *c, u32 leaf)
{
	u32 n = 0;

	while (cpuid_query(c, leaf, n).eax & 0x1f)
		n++;
	return n - 1;
}

/* AMD's LLC: every kernel has the same three cases. */
static inline u32 decode_amd_llc(const struct kvm_cpuid2 *c, u32 apic_id, u32 node_id)
{
	if (!cpuid_query(c, 0x80000006, 0).edx)
		return NO_LLC;
	if (cpuid_family(c) < 0x17)
		return node_id;
	if (cpuid_family(c) == 0x17 && cpuid_model(c) <= 0x1f)
		return apic_id >> 3;

	u32 eax = cpuid_query(c, 0x8000001d, last_cache(c, 0x8000001d)).eax;

	return apic_id >> cache_shift(eax);
}

static inline u32 decode_intel_llc(const struct kvm_cpuid2 *c, u32 apic_id)
{
	u32 llc = NO_LLC;

	for (u32 i = 0; cpuid_query(c, 4, i).eax & 0x1f; i++) {
		u32 eax = cpuid_query(c, 4, i).eax, level = eax >> 5 & 7;

		if (level == 3 || (level == 2 && llc == NO_LLC))
			llc = apic_id >> cache_shift(eax);
	}
	return llc;
}

/* 6.1: leaf 0x1f or 0xb; AMD's die, node and LLC from 0x8000001e, which leaf 0x1f's die overrides. */
static inline struct place decode_61(const struct kvm_cpuid2 *c)
{
	u32 leaf = cpuid_query(c, 0x1f, 0).ebx ? 0x1f : 0xb;
	struct kvm_cpuid_entry2 e = cpuid_query(c, leaf, 0);
	u32 id = e.edx, smt = e.eax & 0x1f, core = smt, die = smt, package = smt, package_cpus = e.ebx & 0xffff;
	u32 threads = e.ebx & 0xffff;
	bool has_die = false;
	struct place p = { .llc = NO_LLC };

	for (u32 i = 1; (e = cpuid_query(c, leaf, i)).ecx >> 8 & 0xff; i++) {
		u32 type = e.ecx >> 8 & 0xff;

		package = e.eax & 0x1f;
		if (type == 2) {
			core = die = package;
			package_cpus = e.ebx & 0xffff;
		}
		if (type == 5) {
			die = package;
			has_die = true;
		}
	}
	p.package = id >> package;
	p.core = (id & ((1ULL << package) - 1)) >> smt;
	if (!cpuid_is_amd(c)) {
		p.die = has_die ? p.package << 16 | (id >> core & ((1ULL << (die - core)) - 1)) : p.package << 16;
		p.llc = decode_intel_llc(c, id);
		return p;
	}
	if (!cpuid_has_topoext(c)) {
		p.die = p.llc = p.package;
		return p;
	}
	e = cpuid_query(c, 0x8000001e, 0);
	p.node_id = e.ecx & 0xff;
	p.die = p.package << 16 | (has_die ? id >> core & ((1ULL << (die - core)) - 1) : p.node_id);
	p.llc = decode_amd_llc(c, id, p.node_id);
	p.node_id = 0; // 6.1 compares it only as the die

	u32 nodes = (e.ecx >> 8 & 7) + 1;

	if (nodes > 1 && cpuid_family(c) < 0x17)
		p.core %= package_cpus / threads / nodes;
	return p;
}

/* 6.12 and 7.3: one scan of a leaf into domains; what a leaf does not name has the shift of the one below. */
enum domain {
	DOMAIN_SMT,
	DOMAIN_CORE,
	DOMAIN_MODULE,
	DOMAIN_TILE,
	DOMAIN_DIE,
	DOMAIN_DIEGRP,
	DOMAINS,
};

struct scan {
	u32 leaf, id;
	u32 shifts[DOMAINS];
};

static inline bool scan_leaf(const struct kvm_cpuid2 *c, u32 leaf, const u8 *domains, u32 types, struct scan *s)
{
	struct kvm_cpuid_entry2 e;
	u32 n;

	for (n = 0; (e = cpuid_query(c, leaf, n)).ebx & 0xffff; n++) {
		u32 type = e.ecx >> 8 & 0xff;

		if (type == 0)
			break;
		if (type >= types)
			return false; // the kernel reports such a leaf
		for (u32 d = domains[type]; d < DOMAINS; d++)
			s->shifts[d] = e.eax & 0x1f;
		if (n && s->id != e.edx)
			return false; // likewise
		s->id = e.edx;
	}
	s->leaf = leaf;
	return n > 0;
}

static inline bool scan_topology(const struct kvm_cpuid2 *c, struct scan *s)
{
	static const u8 intel[] = { 0, DOMAIN_SMT, DOMAIN_CORE, DOMAIN_MODULE, DOMAIN_TILE, DOMAIN_DIE, DOMAIN_DIEGRP };
	static const u8 amd[] = { 0, DOMAIN_SMT, DOMAIN_CORE, DOMAIN_TILE, DOMAIN_DIE };

	return scan_leaf(c, 0x1f, intel, sizeof(intel), s) || scan_leaf(c, 0x80000026, amd, sizeof(amd), s) ||
	       scan_leaf(c, 0xb, intel, 3, s);
}

/* False when the kernel would complain: no leaf, ids that differ, shifts that are not the boot CPU's. */
static inline bool decode_73(const struct kvm_cpuid2 *boot, const struct kvm_cpuid2 *c, struct place *p)
{
	struct scan s = { 0 }, boot_scan = { 0 };

	if (!scan_topology(boot, &boot_scan) || !scan_topology(c, &s) ||
	    memcmp(s.shifts, boot_scan.shifts, sizeof(s.shifts)))
		return false;
	*p = (struct place){
		.package = s.id >> s.shifts[DOMAIN_DIEGRP],
		.die = s.id >> s.shifts[DOMAIN_TILE],
		.core = (s.id & ((1ULL << s.shifts[DOMAIN_DIEGRP]) - 1)) >> s.shifts[DOMAIN_SMT],
		.llc = NO_LLC,
	};
	if (!cpuid_is_amd(c)) {
		p->llc = decode_intel_llc(c, s.id);
		return true;
	}
	if (!cpuid_has_topoext(c)) {
		p->llc = s.id >> s.shifts[DOMAIN_CORE];
		return true;
	}

	struct kvm_cpuid_entry2 e = cpuid_query(c, 0x8000001e, 0);

	p->node_id = e.ecx & 0xff;
	p->llc = decode_amd_llc(c, s.id, p->node_id);
	return true;
}

#endif
