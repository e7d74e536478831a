// SPDX-License-Identifier: GPL-2.0-or-later
//
// What nodes there are, who is on them, and how far apart they lie. A proximity domain is a node's number.

#include "x86/acpi_tables.h"
#include "x86/apicid.h"
#include "x86/layout.h"

enum {
	ENABLED = 1 << 0,

	SRAT_APIC = 0,
	SRAT_MEMORY = 1,
	SRAT_X2APIC = 2,

	HMAT_PROXIMITY = 0,
	HMAT_LOCALITY = 1,
	HMAT_PROCESSOR_VALID = 1 << 0,
	HMAT_ACCESS_LATENCY = 0,
	HMAT_ACCESS_BANDWIDTH = 3,
};

static void put_processor(struct buf *out, u32 node, u32 id)
{
	if (id < 255) {
		buf_put_u8(out, SRAT_APIC);
		buf_put_u8(out, 16);
		buf_put_u8(out, (u8)node);
		buf_put_u8(out, (u8)id);
		buf_put_u32(out, ENABLED);
		buf_put_zero(out, 8); // SAPIC id, high bytes of the node (there are none), clock domain
		return;
	}
	buf_put_u8(out, SRAT_X2APIC);
	buf_put_u8(out, 24);
	buf_put_u16(out, 0);
	buf_put_u32(out, node);
	buf_put_u32(out, id);
	buf_put_u32(out, ENABLED);
	buf_put_zero(out, 8); // clock domain, reserved
}

static void put_memory(struct buf *out, u32 node, u64 start, u64 end)
{
	if (start >= end)
		return;
	buf_put_u8(out, SRAT_MEMORY);
	buf_put_u8(out, 40);
	buf_put_u32(out, node);
	buf_put_u16(out, 0);
	buf_put_u64(out, start);
	buf_put_u64(out, end - start);
	buf_put_u32(out, 0);
	buf_put_u32(out, ENABLED);
	buf_put_u64(out, 0);
}

size_t srat_put(struct buf *out, const struct topology *t)
{
	const u64 hole = LAYOUT_HOLE_END - LAYOUT_HOLE_START;
	size_t start = table_begin(out, "SRAT", 3);
	u64 offset = 0; // into the guest's memory, the hole not counted

	buf_put_u32(out, 1); // as the specification has it
	buf_put_u64(out, 0);
	for (u32 cpu = 0; cpu < topology_cpus(t); cpu++)
		put_processor(out, topology_cpu(t, cpu).node, apic_id(t, cpu));
	for (u32 node = 0; node < t->nodes; node++) {
		u64 end = offset + t->node_memory[node];
		u64 low_end = end < LAYOUT_HOLE_START ? end : LAYOUT_HOLE_START;
		u64 high_start = offset > LAYOUT_HOLE_START ? offset : LAYOUT_HOLE_START;

		put_memory(out, node, offset, low_end);
		put_memory(out, node, high_start + hole, end + hole);
		offset = end;
	}
	table_end(out, start);
	return start;
}

size_t slit_put(struct buf *out, const struct topology *t)
{
	size_t start = table_begin(out, "SLIT", 1);

	buf_put_u64(out, t->nodes);
	for (u32 i = 0; i < t->nodes; i++)
		buf_put(out, t->distance[i], t->nodes);
	table_end(out, start);
	return start;
}

static void put_domains(struct buf *out, const struct topology *t)
{
	for (u32 node = 0; node < t->nodes; node++) {
		bool has_cpus = t->node_llcs[node] > 0;

		if (!t->node_memory[node])
			continue;
		buf_put_u16(out, HMAT_PROXIMITY);
		buf_put_u16(out, 0);
		buf_put_u32(out, 40);
		buf_put_u16(out, has_cpus ? HMAT_PROCESSOR_VALID : 0);
		buf_put_u16(out, 0);
		buf_put_u32(out, has_cpus ? node : 0);
		buf_put_u32(out, node);
		buf_put_zero(out, 20);
	}
}

/*
 * In the SLIT's proportions: 10 ns and 100 GB/s at distance 10. Entries are u16 and may be neither 0 nor
 * 0xffff, which distances from 10 to 254 keep.
 */
static u16 locality(u8 data_type, u8 distance)
{
	return data_type == HMAT_ACCESS_LATENCY ? distance * 10 : 10000 / distance;
}

static u32 count(const struct topology *t, bool initiators)
{
	u32 n = 0;

	for (u32 i = 0; i < t->nodes; i++)
		n += initiators ? t->node_llcs[i] > 0 : t->node_memory[i] > 0;
	return n;
}

static void put_localities(struct buf *out, const struct topology *t, u8 data_type)
{
	const u64 unit = data_type == HMAT_ACCESS_LATENCY ? 1000 : 100; // picoseconds, MB/s
	u32 initiators = count(t, true), targets = count(t, false);

	buf_put_u16(out, HMAT_LOCALITY);
	buf_put_u16(out, 0);
	buf_put_u32(out, 32 + 4 * initiators + 4 * targets + 2 * initiators * targets);
	buf_put_u8(out, 0); // of memory, not of a cache
	buf_put_u8(out, data_type);
	buf_put_u16(out, 0);
	buf_put_u32(out, initiators);
	buf_put_u32(out, targets);
	buf_put_u32(out, 0);
	buf_put_u64(out, unit);
	for (u32 i = 0; i < t->nodes; i++)
		if (t->node_llcs[i])
			buf_put_u32(out, i);
	for (u32 i = 0; i < t->nodes; i++)
		if (t->node_memory[i])
			buf_put_u32(out, i);
	for (u32 i = 0; i < t->nodes; i++)
		for (u32 j = 0; t->node_llcs[i] && j < t->nodes; j++)
			if (t->node_memory[j])
				buf_put_u16(out, locality(data_type, t->distance[i][j]));
}

size_t hmat_put(struct buf *out, const struct topology *t)
{
	size_t start = table_begin(out, "HMAT", 2);

	buf_put_u32(out, 0);
	put_domains(out, t);
	put_localities(out, t, HMAT_ACCESS_LATENCY);
	put_localities(out, t, HMAT_ACCESS_BANDWIDTH);
	table_end(out, start);
	return start;
}
