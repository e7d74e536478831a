/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPU topology of a machine: NUMA nodes, LLCs, cores, SMT threads.
 * Depends on nothing. CPUs, LLCs and nodes are numbered from 0, in the kernel's order.
 * A node without LLCs has memory only; such nodes come last, as the kernel numbers them.
 */
#ifndef BASE_TOPOLOGY_H
#define BASE_TOPOLOGY_H

#include "base/error.h"
#include "base/types.h"

enum {
	TOPOLOGY_MAX_CPUS = 252,
	TOPOLOGY_MAX_NODES = 64,
};

struct topology {
	u32 nodes;
	u32 cores; /* per LLC */
	u32 threads; /* per core */
	u32 node_llcs[TOPOLOGY_MAX_NODES]; /* LLCs of each node */
	u64 node_memory[TOPOLOGY_MAX_NODES]; /* bytes of each node, multiples of 2 MiB */
	u8 distance[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES]; /* 10 on the diagonal, above 10 off it */
};

/* Where one CPU sits; node, llc are global numbers, core is within the LLC, thread within the core. */
struct topology_cpu {
	u32 node, llc, core, thread;
};

/* A regular "NnNlNcNt" topology: llcs is the total; distances 10/20; memory divided over the nodes. */
MUST_CHECK struct error *topology_init(struct topology *t, u32 nodes, u32 llcs, u32 cores, u32 threads,
				       u64 memory);
/* Checks every promise above (counts, at most TOPOLOGY_MAX_CPUS CPUs, symmetric distances). */
MUST_CHECK struct error *topology_check(const struct topology *t);
/* Both topology_check()ed. */
bool topology_is_same(const struct topology *a, const struct topology *b);
u32 topology_llcs(const struct topology *t);
u32 topology_cpus(const struct topology *t);
u64 topology_memory(const struct topology *t);
struct topology_cpu topology_cpu(const struct topology *t, u32 cpu);

#endif
