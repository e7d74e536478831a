/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Topologies that what describes a machine to its guest is tested with.
 * Depends on base/topology.h; for tests alone.
 * Every preset, and some that are lopsided: uneven nodes, odd counts, memory without CPUs and the reverse.
 */
#ifndef TESTS_TOPOLOGIES_H
#define TESTS_TOPOLOGIES_H

#include "base/topology.h"

struct regular_topology {
	const char *name;
	u32 nodes, llcs, cores, threads;
};

static const struct regular_topology regular_topologies[] = {
	{ "one", 1, 1, 1, 1 },
	{ "tiny-1llc", 1, 1, 4, 1 },
	{ "tiny-2llc", 1, 2, 2, 1 },
	{ "odd-3llc", 1, 3, 3, 1 },
	{ "odd-5llc", 1, 5, 3, 1 },
	{ "odd-7llc", 1, 7, 2, 1 },
	{ "smt-2llc", 1, 2, 2, 2 },
	{ "smt-3llc", 1, 3, 2, 2 },
	{ "medium-4llc", 1, 4, 4, 2 },
	{ "medium-8llc", 1, 8, 4, 2 },
	{ "large-4llc", 1, 4, 16, 2 },
	{ "large-8llc", 1, 8, 8, 2 },
	{ "near-max-llc", 1, 15, 8, 2 },
	{ "max-cpu", 1, 14, 9, 2 },
	{ "numa2-4llc", 2, 4, 4, 1 },
	{ "numa2-8llc", 2, 8, 8, 2 },
	{ "numa4-8llc", 4, 8, 4, 1 },
	{ "numa4-12llc", 4, 12, 8, 2 },
	{ "medium-4llc-nosmt", 1, 4, 8, 1 },
	{ "medium-8llc-nosmt", 1, 8, 8, 1 },
	{ "large-4llc-nosmt", 1, 4, 32, 1 },
	{ "large-8llc-nosmt", 1, 8, 16, 1 },
	{ "near-max-llc-nosmt", 1, 15, 16, 1 },
	{ "max-cpu-nosmt", 1, 14, 18, 1 },
	{ "numa2-8llc-nosmt", 2, 8, 16, 1 },
	{ "three threads", 2, 6, 3, 3 },
	{ "seven threads", 3, 3, 5, 7 },
	{ "many nodes", 63, 63, 4, 1 },
};

struct uneven_topology {
	const char *name;
	u32 nodes, cores, threads;
	u32 node_llcs[8];
	u32 node_gib[8];
};

static const struct uneven_topology uneven_topologies[] = {
	{ "uneven", 2, 4, 2, { 1, 3 }, { 1, 2 } },
	{ "memory only", 3, 3, 2, { 2, 1, 0 }, { 2, 2, 4 } },
	{ "node without memory", 4, 5, 1, { 1, 1, 7, 3 }, { 4, 0, 0, 3 } },
	{ "several memory only", 6, 1, 3, { 1, 20, 9, 0, 0, 0 }, { 1, 1, 1, 1, 1, 1 } },
	{ "id 255", 2, 32, 1, { 1, 4 }, { 1, 1 } },
	{ "wide ids", 8, 2, 2, { 1, 1, 1, 1, 1, 1, 1, 33 }, { 1, 1, 1, 1, 1, 1, 1, 1 } },
};

enum {
	REGULAR_TOPOLOGIES = ARRAY_SIZE(regular_topologies),
	TOPOLOGIES = REGULAR_TOPOLOGIES + ARRAY_SIZE(uneven_topologies),
};

/* Fills in topology i, of TOPOLOGIES, and returns its name; distances grow with the nodes' numbers. */
static inline const char *test_topology(u32 i, struct topology *t)
{
	if (i < REGULAR_TOPOLOGIES) {
		const struct regular_topology *r = &regular_topologies[i];
		u64 memory = (u64)r->llcs * r->cores * r->threads * (64 << 20);
		struct error *err = topology_init(t, r->nodes, r->llcs, r->cores, r->threads, memory);

		assert_null(err);
		return r->name;
	}

	const struct uneven_topology *u = &uneven_topologies[i - REGULAR_TOPOLOGIES];

	*t = (struct topology){ .nodes = u->nodes, .cores = u->cores, .threads = u->threads };
	for (u32 n = 0; n < u->nodes; n++) {
		t->node_llcs[n] = u->node_llcs[n];
		t->node_memory[n] = (u64)u->node_gib[n] << 30;
		for (u32 m = 0; m < u->nodes; m++)
			t->distance[n][m] = n == m ? 10 : (u8)(20 + n + m);
	}

	struct error *err = topology_check(t);

	assert_null(err);
	return u->name;
}

#endif
