// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <asm/kvm_para.h>

#include "base/cleanup.h"
#include "core/cpuid_decode.h"
#include "core/topologies.h"
#include "x86/apicid.h"
#include "x86/cpuid.h"

/* What KVM_GET_SUPPORTED_CPUID says on hosts of several kinds. */
struct host {
	const char *name, *vendor;
	u32 signature, max, ext_max;
	u32 cache_leaf; /* with four caches, shared in the host's way; 0: none */
};

static const struct host hosts[] = {
	{ "Intel, no leaf 0x1f", "GenuineIntel", 0x000406f1, 0x14, 0x80000008, 4 },
	{ "Intel, leaf 0x1f", "GenuineIntel", 0x000c06f2, 0x20, 0x80000008, 4 },
	{ "Intel, no caches", "GenuineIntel", 0x00000663, 0xd, 0x80000008, 0 },
	{ "emulated AMD", "AuthenticAMD", 0x00000663, 0xd, 0x8000000a, 0 },
	{ "emulated AMD, leaf 0x1f", "AuthenticAMD", 0x00000663, 0x1f, 0x8000001f, 0 },
	{ "AMD family 0x15", "AuthenticAMD", 0x00600f12, 0xd, 0x8000001e, 0x8000001d },
	{ "AMD Zen 1", "AuthenticAMD", 0x00800f12, 0xd, 0x8000001f, 0x8000001d },
	{ "AMD Zen 2", "AuthenticAMD", 0x00830f10, 0x10, 0x8000001f, 0x8000001d },
	{ "AMD Zen 3", "AuthenticAMD", 0x00a00f11, 0x10, 0x80000023, 0x8000001d },
	{ "AMD Zen 4", "AuthenticAMD", 0x00a10f11, 0x10, 0x80000028, 0x8000001d },
	{ "Hygon", "HygonGenuine", 0x00900f02, 0xd, 0x8000001f, 0x8000001d },
	{ "another vendor", "  Shanghai  ", 0x000307b0, 0xd, 0x80000008, 0 },
};

enum {
	SUPPORTED_ENTRIES = 64,
	SUBLEAF = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
};

struct supported {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 room[SUPPORTED_ENTRIES];
};

static struct kvm_cpuid_entry2 *put(struct kvm_cpuid2 *c, u32 leaf, u32 subleaf, u32 flags)
{
	struct kvm_cpuid_entry2 *e = &c->entries[c->nent++];

	assert_true(c->nent <= SUPPORTED_ENTRIES);
	*e = (struct kvm_cpuid_entry2){ .function = leaf, .index = subleaf, .flags = flags };
	return e;
}

static void put_vendor(struct kvm_cpuid2 *c, u32 leaf, u32 max, const char *vendor)
{
	struct kvm_cpuid_entry2 *e = put(c, leaf, 0, 0);

	e->eax = max;
	memcpy(&e->ebx, vendor, 4);
	memcpy(&e->edx, vendor + 4, 4);
	memcpy(&e->ecx, vendor + 8, 4);
}

/* Leaves 0xb and 0x1f and whatever else says where the host's own CPU sits are there, and wrong. */
static void put_host_topology(struct kvm_cpuid2 *c, const struct host *h)
{
	for (u32 leaf = 0xb; leaf <= 0x1f && leaf <= h->max; leaf += 0x1f - 0xb) {
		for (u32 i = 0; i < 3; i++) {
			struct kvm_cpuid_entry2 *e = put(c, leaf, i, SUBLEAF);

			e->eax = i ? 7 : 1;
			e->ebx = i ? 96 : 2;
			e->ecx = (i + 1) << 8 | i;
			e->edx = 77;
		}
	}
	for (u32 i = 0; h->cache_leaf && i < 5; i++) {
		static const u32 identity[] = { 0x121, 0x122, 0x143, 0x163, 0 };
		struct kvm_cpuid_entry2 *e = put(c, h->cache_leaf, i, SUBLEAF);

		e->eax = identity[i] | (i == 3 ? 95 : 1) << 14;
		e->ebx = i == 4 ? 0 : 63 | 11 << 22;
		e->ecx = i == 4 ? 0 : 64 << (4 * i);
	}
	if (h->ext_max >= 0x8000001e)
		put(c, 0x8000001e, 0, 0)->eax = 77;
}

static struct kvm_cpuid2 *supported_init(struct supported *s, const struct host *h)
{
	struct kvm_cpuid2 *c = &s->head;
	struct kvm_cpuid_entry2 *e;

	memset(s, 0, sizeof(*s));
	put_vendor(c, 0, h->max, h->vendor);
	e = put(c, 1, 0, 0);
	e->eax = h->signature;
	e->ebx = 0x4d800800;
	e->ecx = 1 << 21 | 1 << 0;
	e->edx = 0x0f8bfbff;
	put(c, 6, 0, 0);
	e = put(c, 7, 0, SUBLEAF);
	e->ebx = 0x219c07ab;
	e->ecx = 1 << 16;
	put(c, 0xd, 0, SUBLEAF)->eax = 7;
	put(c, 0xd, 1, SUBLEAF)->eax = 0xf;
	put(c, KVM_CPUID_SIGNATURE, 0, 0)->eax = KVM_CPUID_FEATURES;
	put(c, KVM_CPUID_FEATURES, 0, 0)->eax = UINT32_MAX & ~(1U << KVM_FEATURE_MSI_EXT_DEST_ID);
	put_vendor(c, 0x80000000, h->ext_max, h->vendor);
	e = put(c, 0x80000001, 0, 0);
	e->eax = h->signature;
	e->edx = 1 << 29;
	put(c, 0x80000007, 0, 0)->edx = 1 << 8;
	put(c, 0x80000008, 0, 0)->eax = 0x3030;
	put_host_topology(c, h);
	return c;
}

static struct kvm_cpuid2 *build(const struct kvm_cpuid2 *supported, const struct topology *t, u32 cpu,
				const struct cpuid_options *options)
{
	struct kvm_cpuid2 *c = NULL;

	assert_null(cpuid_build(supported, t, cpu, options, &c));
	return c;
}

static void build_all(const struct host *h, const struct topology *t, struct kvm_cpuid2 **all)
{
	static const struct cpuid_options options = { .tsc_deadline = true };
	struct supported s;

	supported_init(&s, h);
	for (u32 cpu = 0; cpu < topology_cpus(t); cpu++)
		all[cpu] = build(&s.head, t, cpu, &options);
}

static void free_all(const struct topology *t, struct kvm_cpuid2 **all)
{
	for (u32 cpu = 0; cpu < topology_cpus(t); cpu++)
		free(all[cpu]);
}

/* The kernel's own notion of siblings. */
static bool same_core(const struct place *a, const struct place *b)
{
	return a->package == b->package && a->die == b->die && a->node_id == b->node_id && a->llc == b->llc &&
	       a->core == b->core;
}

static void check_places(const struct topology *t, const struct place *places)
{
	for (u32 i = 0; i < topology_cpus(t); i++) {
		struct topology_cpu a = topology_cpu(t, i);

		assert_int_not_equal(places[i].llc, NO_LLC);
		for (u32 j = 0; j < i; j++) {
			const struct place *p = &places[i], *q = &places[j];
			struct topology_cpu b = topology_cpu(t, j);

			assert_int_equal(p->package == q->package, a.node == b.node);
			assert_int_equal(p->die == q->die, a.llc == b.llc);
			assert_int_equal(p->llc == q->llc, a.llc == b.llc);
			assert_int_equal(same_core(p, q), a.llc == b.llc && a.core == b.core);
		}
	}
}

static void for_each_host_and_topology(void (*check)(const struct topology *t, struct kvm_cpuid2 **all))
{
	for (u32 h = 0; h < ARRAY_SIZE(hosts); h++) {
		for (u32 i = 0; i < TOPOLOGIES; i++) {
			struct kvm_cpuid2 *all[TOPOLOGY_MAX_CPUS];
			struct topology t;

			test_topology(i, &t);
			build_all(&hosts[h], &t, all);
			check(&t, all);
			free_all(&t, all);
		}
	}
}

static void check_61(const struct topology *t, struct kvm_cpuid2 **all)
{
	struct place places[TOPOLOGY_MAX_CPUS];

	for (u32 cpu = 0; cpu < topology_cpus(t); cpu++)
		places[cpu] = decode_61(all[cpu]);
	check_places(t, places);
}

static void linux_61_sees_the_topology_on_every_host(void **state)
{
	for_each_host_and_topology(check_61);
}

static void check_73(const struct topology *t, struct kvm_cpuid2 **all)
{
	struct place places[TOPOLOGY_MAX_CPUS];

	for (u32 cpu = 0; cpu < topology_cpus(t); cpu++)
		assert_true(decode_73(all[0], all[cpu], &places[cpu]));
	check_places(t, places);
}

static void linux_73_sees_the_topology_on_every_host(void **state)
{
	for_each_host_and_topology(check_73);
}

static void check_ids(const struct topology *t, struct kvm_cpuid2 **all)
{
	for (u32 cpu = 0; cpu < topology_cpus(t); cpu++) {
		u32 id = apic_id(t, cpu);
		const struct kvm_cpuid2 *c = all[cpu];

		assert_int_equal(cpuid_query(c, 1, 0).ebx >> 24, id & 0xff);
		assert_int_equal(cpuid_query(c, 0xb, 0).edx, id);
		assert_int_equal(cpuid_query(c, 0xb, 1).edx, id);
		assert_int_equal(cpuid_query(c, 0xb, 2).ecx >> 8, 0);
		if (cpuid_is_amd(c)) {
			assert_int_equal(cpuid_query(c, 0x8000001e, 0).eax, id);
			assert_int_equal(cpuid_query(c, 0x80000026, 0).edx, id);
		} else {
			assert_int_equal(cpuid_query(c, 0x1f, 0).edx, id);
		}
	}
}

static void every_leaf_has_the_same_apic_id(void **state)
{
	for_each_host_and_topology(check_ids);
}

/* How many CPUs share the caches, and what counts leaf 1 and its relatives give. */
static void check_counts(const struct topology *t, struct kvm_cpuid2 **all)
{
	struct apic_id_layout l = apic_id_layout(t);

	for (u32 cpu = 0; cpu < topology_cpus(t); cpu++) {
		const struct kvm_cpuid2 *c = all[cpu];
		u32 leaf = cpuid_is_amd(c) ? 0x8000001d : 4;
		u32 package = t->node_llcs[topology_cpu(t, cpu).node] * t->cores * t->threads;
		u32 ids = cpuid_query(c, 1, 0).ebx >> 16 & 0xff;

		assert_int_equal(last_cache(c, leaf), 3);
		for (u32 i = 0; i < 4; i++) {
			struct kvm_cpuid_entry2 e = cpuid_query(c, leaf, i);

			assert_int_equal(cache_shift(e.eax), i == 3 ? l.llc_shift : l.core_shift);
			assert_int_equal(e.eax >> 5 & 7, i < 2 ? 1 : i);
			assert_true(e.ebx && e.ecx);
		}
		assert_int_equal(ids, l.package_shift < 8 ? 1 << l.package_shift : 255);
		assert_int_equal(cpuid_query(c, 1, 0).edx >> 28 & 1, ids > 1);
		assert_int_equal(cpuid_query(c, 0xb, 0).ebx, t->threads);
		assert_int_equal(cpuid_query(c, 0xb, 1).ebx, package);
		if (!cpuid_is_amd(c))
			continue;
		assert_int_equal(cpuid_query(c, 0x80000008, 0).ecx & 0xff, package - 1);
		assert_int_equal(cpuid_query(c, 0x80000008, 0).ecx >> 12 & 0xf, l.package_shift);
		assert_int_equal(cpuid_query(c, 0x80000001, 0).ecx >> 1 & 1, package > 1);
		assert_int_equal(cpuid_query(c, 0x8000001e, 0).ebx >> 8, t->threads - 1);
		assert_true(cpuid_query(c, 0x80000006, 0).edx >> 12 & 0xf);
		assert_true(cpuid_query(c, 0x80000006, 0).edx >> 18);
	}
}

static void counts_and_cache_sharing_agree(void **state)
{
	for_each_host_and_topology(check_counts);
}

static void check_entries(const struct topology *t, struct kvm_cpuid2 **all)
{
	const struct kvm_cpuid2 *c = all[topology_cpus(t) - 1];

	for (u32 i = 0; i < c->nent; i++)
		for (u32 j = 0; j < i; j++)
			assert_false(c->entries[i].function == c->entries[j].function &&
				     c->entries[i].index == c->entries[j].index);
}

static void no_leaf_is_there_twice(void **state)
{
	for_each_host_and_topology(check_entries);
}

static void what_is_not_topology_stays_the_hosts(void **state)
{
	for (u32 h = 0; h < ARRAY_SIZE(hosts); h++) {
		struct supported s;
		struct topology t;

		assert_null(topology_init(&t, 1, 2, 2, 2, 0));
		supported_init(&s, &hosts[h]);

		CLEANUP_FREE struct kvm_cpuid2 *c = build(&s.head, &t, 3, &(struct cpuid_options){ 0 });

		assert_int_equal(cpuid_query(c, 7, 0).ebx, 0x219c07ab);
		assert_int_equal(cpuid_query(c, 0xd, 1).eax, 0xf);
		assert_int_equal(cpuid_query(c, 1, 0).ebx & 0xffff, 0x0800);
		assert_int_equal(cpuid_query(c, 1, 0).ecx & 1, 1);
		assert_int_equal(cpuid_query(c, 0x80000008, 0).eax, 0x3030);
		if (hosts[h].cache_leaf) // sizes, not sharing
			assert_int_equal(cpuid_query(c, hosts[h].cache_leaf, 3).ecx, 64 << 12);
	}
}

static void the_pv_features_are_the_documented_ones(void **state)
{
	const u32 base = 1 << KVM_FEATURE_CLOCKSOURCE | 1 << KVM_FEATURE_CLOCKSOURCE2 |
			 1 << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT | 1 << KVM_FEATURE_PV_EOI |
			 1 << KVM_FEATURE_PV_UNHALT | 1 << KVM_FEATURE_PV_TLB_FLUSH | 1 << KVM_FEATURE_PV_SEND_IPI;
	struct supported s;
	struct topology small, large;

	assert_null(topology_init(&small, 1, 1, 4, 1, 0));
	assert_null(topology_init(&large, 1, 14, 9, 2, 0));
	supported_init(&s, &hosts[0]);

	CLEANUP_FREE struct kvm_cpuid2 *a = build(&s.head, &small, 0, &(struct cpuid_options){ 0 });
	CLEANUP_FREE struct kvm_cpuid2 *b = build(&s.head, &small, 0, &(struct cpuid_options){ .steal_time = true });
	CLEANUP_FREE struct kvm_cpuid2 *c = build(&s.head, &large, 0, &(struct cpuid_options){ 0 });
	struct kvm_cpuid_entry2 signature = cpuid_query(a, KVM_CPUID_SIGNATURE, 0);

	assert_int_equal(cpuid_query(a, KVM_CPUID_FEATURES, 0).eax, base);
	assert_int_equal(cpuid_query(b, KVM_CPUID_FEATURES, 0).eax, base | 1 << KVM_FEATURE_STEAL_TIME);
	assert_int_equal(cpuid_query(c, KVM_CPUID_FEATURES, 0).eax, base | 1 << KVM_FEATURE_MSI_EXT_DEST_ID);
	assert_int_equal(cpuid_query(a, KVM_CPUID_FEATURES, 0).edx, 0);
	assert_memory_equal(&signature.ebx, "KVMKVMKVM\0\0\0", 12);
	assert_true(cpuid_query(a, 1, 0).ecx >> 31);
}

/* A feature that the host lacks is not made up. */
static void a_host_without_kvm_leaves_offers_none(void **state)
{
	struct supported s;
	struct topology t;

	assert_null(topology_init(&t, 1, 1, 1, 1, 0));
	memset(&s, 0, sizeof(s));
	put(&s.head, 0x80000001, 0, 0)->edx = 1 << 29;

	CLEANUP_FREE struct kvm_cpuid2 *c = build(&s.head, &t, 0, &(struct cpuid_options){ .steal_time = true });

	assert_int_equal(cpuid_query(c, KVM_CPUID_FEATURES, 0).eax, 0);
	assert_int_equal(cpuid_query(c, 0xb, 1).ebx, 1);
}

static void clocks_follow_the_options(void **state)
{
	const struct cpuid_options on = { .tsc_deadline = true, .tsc_khz = 2599985 };
	const struct cpuid_options off = { .invariant_tsc = INVARIANT_TSC_HIDDEN };
	struct supported s;
	struct topology t;

	assert_null(topology_init(&t, 1, 1, 1, 1, 0));
	supported_init(&s, &hosts[3]);

	CLEANUP_FREE struct kvm_cpuid2 *a = build(&s.head, &t, 0, &on);
	CLEANUP_FREE struct kvm_cpuid2 *b = build(&s.head, &t, 0, &off);

	assert_int_equal(cpuid_query(a, 1, 0).ecx >> 24 & 1, 1);
	assert_int_equal(cpuid_query(b, 1, 0).ecx >> 24 & 1, 0);
	assert_int_equal(cpuid_query(a, 0x80000007, 0).edx >> 8 & 1, 1);
	assert_int_equal(cpuid_query(b, 0x80000007, 0).edx >> 8 & 1, 0);
	assert_int_equal(cpuid_query(a, 6, 0).eax >> 2 & 1, 1); // without ARAT the kernel wants a PIT
	assert_int_equal(cpuid_query(a, 0x40000010, 0).eax, 2599985);
	assert_int_equal(cpuid_query(a, 0x40000010, 0).ebx, 1000000);
	assert_int_equal(cpuid_query(b, 0x40000010, 0).eax, 0);
}

static u32 invariant_tsc_bit(const struct supported *s, enum invariant_tsc choice)
{
	const struct cpuid_options options = { .invariant_tsc = choice };
	struct topology t;

	assert_null(topology_init(&t, 1, 1, 1, 1, 0));

	CLEANUP_FREE struct kvm_cpuid2 *c = build(&s->head, &t, 0, &options);

	return cpuid_query(c, 0x80000007, 0).edx >> 8 & 1;
}

static void the_invariant_tsc_is_the_hosts_or_hidden_or_shown(void **state)
{
	struct supported has, lacks, no_leaf;

	supported_init(&has, &hosts[3]);
	supported_init(&lacks, &hosts[3]);
	for (u32 i = 0; i < lacks.head.nent; i++)
		if (lacks.head.entries[i].function == 0x80000007)
			lacks.head.entries[i].edx = 0;
	memset(&no_leaf, 0, sizeof(no_leaf));
	put(&no_leaf.head, 0x80000001, 0, 0)->edx = 1 << 29;

	assert_int_equal(invariant_tsc_bit(&has, INVARIANT_TSC_HOST), 1);
	assert_int_equal(invariant_tsc_bit(&has, INVARIANT_TSC_HIDDEN), 0);
	assert_int_equal(invariant_tsc_bit(&has, INVARIANT_TSC_SHOWN), 1);
	assert_int_equal(invariant_tsc_bit(&lacks, INVARIANT_TSC_HOST), 0);
	assert_int_equal(invariant_tsc_bit(&lacks, INVARIANT_TSC_HIDDEN), 0);
	assert_int_equal(invariant_tsc_bit(&lacks, INVARIANT_TSC_SHOWN), 1);
	assert_int_equal(invariant_tsc_bit(&no_leaf, INVARIANT_TSC_HIDDEN), 0);
	assert_int_equal(invariant_tsc_bit(&no_leaf, INVARIANT_TSC_SHOWN), 1);
}

static void expect_error(struct supported *s, const struct topology *t, u32 cpu, bool la57, enum error_code code,
			 const char *text)
{
	struct kvm_cpuid2 *c = NULL;
	struct error *err = cpuid_build(&s->head, t, cpu, &(struct cpuid_options){ .la57 = la57 }, &c);

	assert_non_null(err);
	assert_null(c);
	assert_int_equal(error_code(err), code);
	assert_non_null(strstr(error_message(err), text));
	error_destroy(err);
}

static void what_the_host_lacks_is_an_error(void **state)
{
	struct supported s;
	struct topology small, large;

	assert_null(topology_init(&small, 1, 1, 4, 1, 0));
	assert_null(topology_init(&large, 1, 14, 9, 2, 0));
	supported_init(&s, &hosts[0]);
	expect_error(&s, &small, 4, false, ERROR_INVALID, "4 CPUs");
	s.head.entries[1].ecx = 0; // leaf 1: no x2APIC
	expect_error(&s, &large, 0, false, ERROR_UNSUPPORTED, "433");
	s.head.entries[3].ecx = 0; // leaf 7: no LA57
	expect_error(&s, &small, 0, true, ERROR_UNSUPPORTED, "5-level");

	CLEANUP_FREE struct kvm_cpuid2 *c = build(&s.head, &small, 0, &(struct cpuid_options){ 0 });

	for (u32 i = 0; i < s.head.nent; i++)
		if (s.head.entries[i].function == 0x80000001)
			s.head.entries[i].edx = 0;
	expect_error(&s, &small, 0, false, ERROR_UNSUPPORTED, "64-bit");
}

static void too_many_entries_are_an_error(void **state)
{
	enum { MANY = 257 };
	CLEANUP_FREE struct kvm_cpuid2 *many = calloc(1, sizeof(*many) + MANY * sizeof(many->entries[0]));
	struct kvm_cpuid2 *c = NULL;
	struct topology t;

	assert_null(topology_init(&t, 1, 1, 4, 1, 0));
	for (u32 i = 0; i < MANY; i++)
		many->entries[i].function = 0x20000 + i;
	many->entries[0].function = 0x80000001;
	many->entries[0].edx = 1 << 29;
	for (u32 nent = 230; nent <= MANY; nent++) {
		many->nent = nent;

		struct error *err = cpuid_build(many, &t, 0, &(struct cpuid_options){ 0 }, &c);

		assert_true(err ? nent > 230 : nent < 256);
		error_destroy(err);
		free(c);
		c = NULL;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(linux_61_sees_the_topology_on_every_host),
		cmocka_unit_test(linux_73_sees_the_topology_on_every_host),
		cmocka_unit_test(every_leaf_has_the_same_apic_id),
		cmocka_unit_test(counts_and_cache_sharing_agree),
		cmocka_unit_test(no_leaf_is_there_twice),
		cmocka_unit_test(what_is_not_topology_stays_the_hosts),
		cmocka_unit_test(the_pv_features_are_the_documented_ones),
		cmocka_unit_test(a_host_without_kvm_leaves_offers_none),
		cmocka_unit_test(clocks_follow_the_options),
		cmocka_unit_test(the_invariant_tsc_is_the_hosts_or_hidden_or_shown),
		cmocka_unit_test(what_the_host_lacks_is_an_error),
		cmocka_unit_test(too_many_entries_are_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
