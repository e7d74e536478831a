// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/topology.h"

#include <string.h>

enum { MEMORY_UNIT = 2 << 20 };

struct error *topology_init(struct topology *t, u32 nodes, u32 llcs, u32 cores, u32 threads, u64 memory)
{
	memset(t, 0, sizeof(*t));
	if (nodes < 1 || nodes > TOPOLOGY_MAX_NODES)
		return error_create(ERROR_INVALID, "%u NUMA nodes: 1 to %d are possible", nodes,
				    TOPOLOGY_MAX_NODES);
	if (!llcs || llcs % nodes)
		return error_create(ERROR_INVALID,
				    "%u LLCs on %u NUMA nodes: the LLCs must be a multiple of the nodes", llcs,
				    nodes);
	t->nodes = nodes;
	t->cores = cores;
	t->threads = threads;

	u64 units = memory / MEMORY_UNIT;

	for (u32 i = 0; i < nodes; i++) {
		t->node_llcs[i] = llcs / nodes;
		t->node_memory[i] = (units / nodes + (i < units % nodes)) * MEMORY_UNIT;
		for (u32 j = 0; j < nodes; j++)
			t->distance[i][j] = i == j ? 10 : 20;
	}
	return topology_check(t);
}

static struct error *check_distances(const struct topology *t)
{
	for (u32 i = 0; i < t->nodes; i++) {
		for (u32 j = 0; j < t->nodes; j++) {
			u8 d = t->distance[i][j];

			if (i == j ? d != 10 : d <= 10)
				return error_create(ERROR_INVALID,
						    "distance from node %u to %u is %u: it must be 10 to itself, "
						    "11 to 254 to others",
						    i, j, d);
			if (d == 255)
				return error_create(ERROR_INVALID, "distance 255 from node %u to %u means "
								   "unreachable",
						    i, j);
			if (d != t->distance[j][i])
				return error_create(ERROR_INVALID,
						    "distances between nodes %u and %u differ: %u and %u", i, j, d,
						    t->distance[j][i]);
		}
	}
	return NULL;
}

struct error *topology_check(const struct topology *t)
{
	if (t->nodes < 1 || t->nodes > TOPOLOGY_MAX_NODES)
		return error_create(ERROR_INVALID, "%u NUMA nodes: 1 to %d are possible", t->nodes,
				    TOPOLOGY_MAX_NODES);
	if (!t->cores || !t->threads)
		return error_create(ERROR_INVALID, "a topology needs at least one core and one thread");
	if (t->threads > 8)
		return error_create(ERROR_INVALID, "%u threads a core: at most 8 are possible", t->threads);

	u64 llcs = 0;

	for (u32 i = 0; i < t->nodes; i++) {
		llcs += t->node_llcs[i];
		// The kernel numbers nodes that have CPUs first: any other order would not be the guest's.
		if (i && t->node_llcs[i] && !t->node_llcs[i - 1])
			return error_create(ERROR_INVALID,
					    "node %u has no LLC, and node %u has: nodes with memory only come last",
					    i - 1, i);
		if (t->node_memory[i] % MEMORY_UNIT)
			return error_create(ERROR_INVALID, "memory of node %u is not a multiple of 2 MiB", i);
	}
	if (!llcs)
		return error_create(ERROR_INVALID, "a topology needs at least one LLC");

	u64 cpus = llcs * t->cores * t->threads;

	if (llcs > TOPOLOGY_MAX_CPUS || t->cores > TOPOLOGY_MAX_CPUS || cpus > TOPOLOGY_MAX_CPUS)
		return error_create(ERROR_INVALID, "the topology has %llu CPUs: at most %d are possible",
				    (unsigned long long)cpus, TOPOLOGY_MAX_CPUS);
	return check_distances(t);
}

u32 topology_llcs(const struct topology *t)
{
	u32 n = 0;

	for (u32 i = 0; i < t->nodes; i++)
		n += t->node_llcs[i];
	return n;
}

u32 topology_cpus(const struct topology *t)
{
	return topology_llcs(t) * t->cores * t->threads;
}

u64 topology_memory(const struct topology *t)
{
	u64 n = 0;

	for (u32 i = 0; i < t->nodes; i++)
		n += t->node_memory[i];
	return n;
}

struct topology_cpu topology_cpu(const struct topology *t, u32 cpu)
{
	struct topology_cpu c = {
		.thread = cpu % t->threads,
		.core = cpu / t->threads % t->cores,
		.llc = cpu / t->threads / t->cores,
	};
	u32 llc = c.llc;

	while (llc >= t->node_llcs[c.node])
		llc -= t->node_llcs[c.node++];
	return c;
}

bool topology_is_same(const struct topology *a, const struct topology *b)
{
	if (a->nodes != b->nodes || a->cores != b->cores || a->threads != b->threads)
		return false;
	for (u32 i = 0; i < a->nodes; i++)
		if (a->node_llcs[i] != b->node_llcs[i] || a->node_memory[i] != b->node_memory[i] ||
		    memcmp(a->distance[i], b->distance[i], a->nodes) != 0)
			return false;
	return true;
}
