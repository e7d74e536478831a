// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "core/topologies.h"
#include "x86/acpi.h"
#include "x86/apicid.h"
#include "x86/layout.h"

#define GPA LAYOUT_ACPI_GPA

static void deinit(struct buf *b)
{
	buf_deinit(b);
}

static struct buf build(const struct topology *t)
{
	struct buf b = BUF_INIT;

	assert_null(acpi_build(t, GPA, &b));
	return b;
}

static u64 get(const struct buf *b, u64 gpa, u32 size)
{
	u64 v = 0;

	assert_true(gpa >= GPA && gpa - GPA + size <= b->size);
	memcpy(&v, b->data + (gpa - GPA), size);
	return v;
}

static u8 sum(const struct buf *b, u64 gpa, u64 size)
{
	u8 s = 0;

	for (u64 i = 0; i < size; i++)
		s += (u8)get(b, gpa + i, 1);
	return s;
}

static bool has_signature(const struct buf *b, u64 gpa, const char *signature)
{
	u32 v;

	memcpy(&v, signature, 4);
	return get(b, gpa, 4) == v;
}

/* Follows RSDP and XSDT; 0 when there is no such table. */
static u64 find_table(const struct buf *b, const char *signature)
{
	u64 xsdt = get(b, GPA + 24, 8);

	for (u64 at = xsdt + 36; at < xsdt + get(b, xsdt + 4, 4); at += 8) {
		u64 table = get(b, at, 8);

		if (has_signature(b, table, signature))
			return table;
	}
	return 0;
}

/* The next entry, of a type, of a MADT or SRAT after `at` (0: the first); 0 when there is none. */
static u64 next_entry(const struct buf *b, u64 table, u32 head, u64 at, u32 type)
{
	at = at ? at + get(b, at + 1, 1) : table + head;
	for (; at < table + get(b, table + 4, 4); at += get(b, at + 1, 1)) {
		assert_true(get(b, at + 1, 1) >= 2);
		if (get(b, at, 1) == type)
			return at;
	}
	return 0;
}

enum {
	MADT_HEAD = 44,
	SRAT_HEAD = 48,
};

static void for_each_topology(void (*check)(const struct topology *t, const struct buf *b))
{
	for (u32 i = 0; i < TOPOLOGIES; i++) {
		struct topology t;

		test_topology(i, &t);

		CLEANUP(deinit)
		struct buf b = build(&t);

		check(&t, &b);
	}
}

static void check_chain(const struct topology *t, const struct buf *b)
{
	u64 tables[16], sizes[16], xsdt = get(b, GPA + 24, 8);
	u32 n = 0;

	assert_memory_equal(b->data, "RSD PTR ", 8);
	assert_int_equal(sum(b, GPA, 20), 0);
	assert_int_equal(sum(b, GPA, 36), 0);
	assert_true(b->size <= LAYOUT_ACPI_SIZE);
	tables[n] = GPA;
	sizes[n++] = 36;
	tables[n++] = xsdt;
	for (u64 at = xsdt + 36; at < xsdt + get(b, xsdt + 4, 4); at += 8)
		tables[n++] = get(b, at, 8);

	u64 fadt = find_table(b, "FACP");

	tables[n++] = get(b, fadt + 40, 4);
	assert_true(has_signature(b, tables[n - 1], "DSDT"));
	assert_int_equal(get(b, fadt + 140, 8), tables[n - 1]);
	for (u32 i = 1; i < n; i++) {
		sizes[i] = get(b, tables[i] + 4, 4);
		assert_int_equal(sum(b, tables[i], sizes[i]), 0);
		assert_int_equal(tables[i] % 16, 0);
	}
	tables[n] = get(b, fadt + 36, 4);
	assert_true(has_signature(b, tables[n], "FACS"));
	assert_int_equal(tables[n] % 64, 0);
	sizes[n++] = 64;
	for (u32 i = 0; i < n; i++)
		for (u32 j = 0; j < i; j++)
			assert_true(tables[i] >= tables[j] + sizes[j] || tables[j] >= tables[i] + sizes[i]);
	assert_int_equal(find_table(b, "SLIT") != 0, t->nodes > 1);
	assert_int_equal(find_table(b, "HMAT") != 0, t->nodes > 1);
	assert_true(find_table(b, "MCFG") && find_table(b, "SRAT") && find_table(b, "APIC"));
}

static void tables_are_found_whole_and_apart(void **state)
{
	for_each_topology(check_chain);
}

/* In the order of the CPUs, since that is how the kernel numbers them. */
static void check_madt(const struct topology *t, const struct buf *b)
{
	u64 madt = find_table(b, "APIC"), at = madt + MADT_HEAD;
	u32 cpu = 0;

	for (; at < madt + get(b, madt + 4, 4); at += get(b, at + 1, 1)) {
		u32 type = (u32)get(b, at, 1), id = apic_id(t, cpu < topology_cpus(t) ? cpu : 0);

		if (type != 0 && type != 9)
			continue;
		assert_true(cpu < topology_cpus(t));
		assert_int_equal(type, id < 255 ? 0 : 9);
		assert_int_equal(type ? get(b, at + 4, 4) : get(b, at + 3, 1), id);
		assert_int_equal(type ? get(b, at + 12, 4) : get(b, at + 2, 1), cpu);
		assert_int_equal(type ? get(b, at + 8, 4) : get(b, at + 4, 4), 1);
		cpu++;
	}
	assert_int_equal(cpu, topology_cpus(t));
	assert_int_equal(next_entry(b, madt, MADT_HEAD, 0, 10) != 0, apic_id_needs_x2apic(t));
}

static void the_madt_lists_the_cpus_in_order(void **state)
{
	for_each_topology(check_madt);
}

static void the_madt_has_an_ioapic_and_its_overrides(void **state)
{
	struct topology t;

	assert_null(topology_init(&t, 1, 1, 1, 1, MIB(256)));

	CLEANUP(deinit)
	struct buf b = build(&t);
	u64 madt = find_table(&b, "APIC"), ioapic = next_entry(&b, madt, MADT_HEAD, 0, 1);
	u64 timer = next_entry(&b, madt, MADT_HEAD, 0, 2), sci = next_entry(&b, madt, MADT_HEAD, timer, 2);

	assert_int_equal(get(&b, madt + 36, 4), 0xfee00000);
	assert_int_equal(get(&b, ioapic + 4, 4), 0xfec00000);
	assert_int_equal(get(&b, ioapic + 8, 4), 0);
	assert_int_equal(get(&b, timer + 3, 1), 0);
	assert_int_equal(get(&b, timer + 4, 4), 2);
	assert_int_equal(get(&b, sci + 3, 1), 9);
	assert_int_equal(get(&b, sci + 4, 4), 9);
	assert_int_equal(get(&b, sci + 8, 2), 0xd); // level, active high
	assert_int_equal(get(&b, next_entry(&b, madt, MADT_HEAD, 0, 4) + 5, 1), 1);
}

/* Which node each id is on, and each byte of memory. */
static void check_srat(const struct topology *t, const struct buf *b)
{
	u64 srat = find_table(b, "SRAT"), end_of_last = 0, sizes[TOPOLOGY_MAX_NODES] = { 0 };
	u32 cpu = 0, last_node = 0;

	for (u64 at = srat + SRAT_HEAD; at < srat + get(b, srat + 4, 4); at += get(b, at + 1, 1)) {
		u32 type = (u32)get(b, at, 1);

		if (type == 1) {
			u32 node = (u32)get(b, at + 2, 4);
			u64 start = get(b, at + 8, 8), size = get(b, at + 16, 8);

			assert_int_equal(get(b, at + 28, 4), 1);
			assert_true(size && node >= last_node && start >= end_of_last);
			assert_true(start + size <= LAYOUT_HOLE_START || start >= LAYOUT_HOLE_END);
			assert_true(start == end_of_last || (end_of_last <= LAYOUT_HOLE_START && start == GIB(4)));
			sizes[node] += size;
			end_of_last = start + size;
			last_node = node;
			continue;
		}

		u32 id = (u32)(type == 2 ? get(b, at + 8, 4) : get(b, at + 3, 1));

		assert_true(type == 0 || type == 2);
		assert_int_equal(id, apic_id(t, cpu));
		assert_int_equal(type == 2 ? get(b, at + 4, 4) : get(b, at + 2, 1), topology_cpu(t, cpu).node);
		assert_int_equal(type == 2 ? get(b, at + 12, 4) : get(b, at + 4, 4), 1);
		cpu++;
	}
	assert_int_equal(cpu, topology_cpus(t));
	for (u32 i = 0; i < t->nodes; i++)
		assert_int_equal(sizes[i], t->node_memory[i]);
}

static void the_srat_places_cpus_and_memory(void **state)
{
	for_each_topology(check_srat);
}

static void memory_that_reaches_the_hole_goes_on_above_it(void **state)
{
	static const u64 sizes[] = { LAYOUT_HOLE_START, LAYOUT_HOLE_START + MIB(2), LAYOUT_HOLE_START - MIB(2) };

	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct topology t;

		assert_null(topology_init(&t, 2, 2, 1, 1, 0));
		t.node_memory[0] = sizes[i];
		t.node_memory[1] = MIB(4);

		CLEANUP(deinit)
		struct buf b = build(&t);

		check_srat(&t, &b);
	}
}

static void check_distances(const struct topology *t, const struct buf *b)
{
	u64 slit = find_table(b, "SLIT"), hmat = find_table(b, "HMAT");

	if (t->nodes < 2)
		return;
	assert_int_equal(get(b, slit + 36, 8), t->nodes);
	for (u32 i = 0; i < t->nodes; i++)
		for (u32 j = 0; j < t->nodes; j++)
			assert_int_equal(get(b, slit + 44 + i * t->nodes + j, 1), t->distance[i][j]);

	u32 domains = 0, matrices = 0;

	for (u64 at = hmat + 40; at < hmat + get(b, hmat + 4, 4); at += get(b, at + 4, 4)) {
		if (get(b, at, 2) == 0) {
			u32 node = (u32)get(b, at + 16, 4);

			assert_true(t->node_memory[node]);
			assert_int_equal(get(b, at + 8, 2), t->node_llcs[node] > 0);
			assert_int_equal(get(b, at + 12, 4), t->node_llcs[node] ? node : 0);
			domains++;
			continue;
		}

		u32 initiators = (u32)get(b, at + 12, 4), targets = (u32)get(b, at + 16, 4);
		u64 from = at + 32, to = from + 4 * initiators, entry = to + 4 * targets;
		bool latency = get(b, at + 9, 1) == 0;

		for (u32 i = 0; i < initiators; i++) {
			for (u32 j = 0; j < targets; j++, entry += 2) {
				u32 d = t->distance[get(b, from + 4 * i, 4)][get(b, to + 4 * j, 4)];

				assert_true(get(b, entry, 2) > 0 && get(b, entry, 2) < 0xffff);
				assert_int_equal(get(b, entry, 2), latency ? d * 10 : 10000 / d);
			}
		}
		assert_int_equal(entry, at + get(b, at + 4, 4));
		matrices++;
	}
	assert_int_equal(matrices, 2);
	for (u32 i = 0; i < t->nodes; i++)
		domains -= t->node_memory[i] > 0;
	assert_int_equal(domains, 0);
}

static void slit_and_hmat_give_the_distances(void **state)
{
	for_each_topology(check_distances);
}

static void the_fadt_is_that_of_a_pc_without_keyboard_controller(void **state)
{
	struct topology t;

	assert_null(topology_init(&t, 1, 1, 1, 1, MIB(256)));

	CLEANUP(deinit)
	struct buf b = build(&t);
	u64 fadt = find_table(&b, "FACP");

	assert_int_equal(get(&b, fadt + 4, 4), 276);
	assert_int_equal(get(&b, fadt + 46, 2), 9);
	assert_int_equal(get(&b, fadt + 48, 4), 0); // no SMI_CMD
	assert_int_equal(get(&b, fadt + 56, 4), LAYOUT_PM_EVENT_PORT);
	assert_int_equal(get(&b, fadt + 64, 4), LAYOUT_PM_CONTROL_PORT);
	assert_int_equal(get(&b, fadt + 76, 4), 0); // no PM timer
	assert_int_equal(get(&b, fadt + 88, 2), 0x0204);
	assert_int_equal(get(&b, fadt + 109, 2) & 3, 1); // legacy devices, no 8042
	assert_int_equal(get(&b, fadt + 112, 4) >> 20 & 1, 0); // not hardware-reduced
	assert_int_equal(get(&b, fadt + 112, 4) >> 10 & 1, 1);
	assert_int_equal(get(&b, fadt + 116, 4), 0x00000801); // a port, eight bits
	assert_int_equal(get(&b, fadt + 120, 8), LAYOUT_PM_RESET_PORT);
	assert_int_equal(get(&b, fadt + 128, 1), LAYOUT_PM_RESET_VALUE);
	assert_int_equal(get(&b, fadt + 152, 8), LAYOUT_PM_EVENT_PORT);
	assert_int_equal(get(&b, fadt + 176, 8), LAYOUT_PM_CONTROL_PORT);

	u64 mcfg = find_table(&b, "MCFG");

	assert_int_equal(get(&b, mcfg + 44, 8), LAYOUT_ECAM_GPA);
	assert_int_equal((get(&b, mcfg + 55, 1) + 1) << 20, LAYOUT_ECAM_SIZE);
}

static void tables_have_a_proper_place(void **state)
{
	struct topology t;
	CLEANUP(deinit)
	struct buf b = BUF_INIT;
	struct error *err;

	assert_null(topology_init(&t, 1, 1, 1, 1, MIB(256)));
	err = acpi_build(&t, GPA + 16, &b);
	assert_int_equal(error_code(err), ERROR_INVALID);
	error_destroy(err);
	err = acpi_build(&t, GIB(4), &b);
	assert_int_equal(error_code(err), ERROR_INVALID);
	error_destroy(err);
	assert_null(acpi_build(&t, MIB(16), &b));
	err = acpi_build(&t, MIB(16), &b);
	assert_int_equal(error_code(err), ERROR_INVALID);
	error_destroy(err);
}

static void write_file(const char *dir, const char *name, const u8 *data, size_t size)
{
	CLEANUP_FREE char *path = NULL;

	assert_true(asprintf(&path, "%s/%s", dir, name) > 0);

	CLEANUP_FCLOSE FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
}

/* Every table apart, as a file that iasl reads; the RSDP is the first 64 bytes. */
static void write_tables(const char *dir, const struct buf *b)
{
	for (u64 at = GPA + 64; at < GPA + b->size;) {
		char name[] = "xxxx.dat";
		u32 signature = (u32)get(b, at, 4);
		u64 size = get(b, at + 4, 4);

		memcpy(name, &signature, 4);
		write_file(dir, name, b->data + (at - GPA), size);
		at = ALIGN_UP(at + size, 16);
	}
}

/* Every table is taken apart and put together again, and iasl has nothing to say about either. */
static void iasl_finds_no_fault(void **state)
{
	static const u32 chosen[] = { 0, 13, 17, REGULAR_TOPOLOGIES - 1, REGULAR_TOPOLOGIES + 1, TOPOLOGIES - 1 };

	if (system("command -v iasl >/dev/null") != 0) {
		print_message("iasl is not installed (package acpica-tools): skipped\n");
		skip();
	}
	for (u32 i = 0; i < ARRAY_SIZE(chosen); i++) {
		char dir[] = "/tmp/test_acpi.XXXXXX", command[1024];
		struct topology t;

		test_topology(chosen[i], &t);

		CLEANUP(deinit)
		struct buf b = build(&t);

		assert_non_null(mkdtemp(dir));
		write_tables(dir, &b);
		snprintf(command, sizeof(command),
			 "cd %s && for t in *.dat; do n=${t%%.dat};"
			 " iasl -d $t >log 2>&1 && ! grep -iE 'warning|error|invalid|unknown' log $n.dsl &&"
			 " iasl -p again $n.dsl >log 2>&1 && grep -q ' 0 Errors, 0 Warnings, 0 Remarks' log"
			 " || { echo $t; cat log; exit 1; }; done && test -e DSDT.dsl",
			 dir);

		int status = system(command);

		snprintf(command, sizeof(command), "rm -r %s", dir);
		assert_int_equal(system(command), 0);
		assert_int_equal(status, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_found_whole_and_apart),
		cmocka_unit_test(the_madt_lists_the_cpus_in_order),
		cmocka_unit_test(the_madt_has_an_ioapic_and_its_overrides),
		cmocka_unit_test(the_srat_places_cpus_and_memory),
		cmocka_unit_test(memory_that_reaches_the_hole_goes_on_above_it),
		cmocka_unit_test(slit_and_hmat_give_the_distances),
		cmocka_unit_test(the_fadt_is_that_of_a_pc_without_keyboard_controller),
		cmocka_unit_test(tables_have_a_proper_place),
		cmocka_unit_test(iasl_finds_no_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
