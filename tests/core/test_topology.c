// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/topology.h"

#define MIB(n) ((u64)(n) << 20)

static void expect_refused(struct error *err, const char *what)
{
	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_INVALID);
	assert_non_null(strstr(error_message(err), what));
	error_destroy(err);
}

static void a_regular_topology_numbers_threads_cores_llcs_nodes(void **state)
{
	struct topology t;

	assert_null(topology_init(&t, 2, 4, 3, 2, MIB(514)));
	assert_int_equal(topology_cpus(&t), 24);
	assert_int_equal(topology_llcs(&t), 4);
	assert_int_equal(topology_memory(&t), MIB(514));
	assert_int_equal(t.node_memory[0], MIB(258)); // the odd 2 MiB go to the first
	assert_int_equal(t.distance[0][1], 20);

	struct topology_cpu c = topology_cpu(&t, 17);

	assert_int_equal(c.thread, 1);
	assert_int_equal(c.core, 2);
	assert_int_equal(c.llc, 2);
	assert_int_equal(c.node, 1);
}

static void counts_that_make_no_machine_are_refused(void **state)
{
	struct topology t;

	expect_refused(topology_init(&t, 0, 1, 1, 1, MIB(256)), "0 NUMA nodes");
	expect_refused(topology_init(&t, 2, 3, 1, 1, MIB(256)), "multiple of the nodes");
	expect_refused(topology_init(&t, 1, 1, 0, 1, MIB(256)), "at least one core");
	expect_refused(topology_init(&t, 1, 11, 23, 1, MIB(256)), "253 CPUs");
	expect_refused(topology_init(&t, 1, 1, 1u << 31, 8, MIB(256)), "CPUs");
	expect_refused(topology_init(&t, 1, 1, 1, 9, MIB(256)), "9 threads");
	assert_null(topology_init(&t, 1, 14, 9, 2, MIB(256)));
}

static void nodes_with_memory_only_come_last(void **state)
{
	struct topology t;

	assert_null(topology_init(&t, 3, 3, 1, 1, MIB(768)));
	t.node_llcs[2] = 0;
	assert_null(topology_check(&t));
	assert_int_equal(topology_cpus(&t), 2);
	t.node_llcs[2] = 1;
	t.node_llcs[1] = 0;
	expect_refused(topology_check(&t), "node 1 has no LLC");
}

static void distances_are_symmetric_and_ten_to_oneself(void **state)
{
	struct topology t;

	assert_null(topology_init(&t, 2, 2, 1, 1, MIB(512)));
	t.distance[0][1] = 30;
	expect_refused(topology_check(&t), "differ");
	t.distance[1][0] = 30;
	assert_null(topology_check(&t));
	t.distance[0][0] = 11;
	expect_refused(topology_check(&t), "10 to itself");
	t.distance[0][0] = 10;
	t.distance[0][1] = t.distance[1][0] = 255;
	expect_refused(topology_check(&t), "unreachable");
}

static void two_are_the_same_when_all_that_counts_is(void **state)
{
	struct topology a, b;

	memset(&b, 0xaa, sizeof(b)); // what lies between and behind the members in use does not count
	assert_null(topology_init(&a, 2, 2, 1, 1, MIB(512)));
	b.nodes = a.nodes;
	b.cores = a.cores;
	b.threads = a.threads;
	for (u32 i = 0; i < 2; i++) {
		b.node_llcs[i] = a.node_llcs[i];
		b.node_memory[i] = a.node_memory[i];
		memcpy(b.distance[i], a.distance[i], 2);
	}
	assert_true(topology_is_same(&a, &b));
	b.distance[0][1] = b.distance[1][0] = 30;
	assert_false(topology_is_same(&a, &b));
	b = a;
	b.node_memory[1] += MIB(2);
	assert_false(topology_is_same(&a, &b));
	b = a;
	b.threads = 2;
	assert_false(topology_is_same(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_regular_topology_numbers_threads_cores_llcs_nodes),
		cmocka_unit_test(counts_that_make_no_machine_are_refused),
		cmocka_unit_test(nodes_with_memory_only_come_last),
		cmocka_unit_test(distances_are_symmetric_and_ten_to_oneself),
		cmocka_unit_test(two_are_the_same_when_all_that_counts_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
