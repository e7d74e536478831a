// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/topologies.h"
#include "x86/apicid.h"

static void the_largest_preset_pads_to_433(void **state)
{
	struct topology t;

	assert_null(topology_init(&t, 1, 14, 9, 2, 0));
	assert_int_equal(apic_id_max(&t), 433);
	assert_int_equal(apic_id(&t, 0), 0);
	assert_int_equal(apic_id(&t, 1), 1);
	assert_int_equal(apic_id(&t, 17), 17); // the ninth core's second thread
	assert_int_equal(apic_id(&t, 18), 32); // the second LLC starts at a power of two
	assert_true(apic_id_needs_x2apic(&t));
}

static void ids_up_to_254_need_no_x2apic(void **state)
{
	struct topology t;

	assert_null(topology_init(&t, 1, 15, 8, 2, 0));
	assert_int_equal(apic_id_max(&t), 239);
	assert_false(apic_id_needs_x2apic(&t));
	assert_null(topology_init(&t, 1, 252, 1, 1, 0));
	assert_false(apic_id_needs_x2apic(&t));
	assert_null(topology_init(&t, 1, 63, 2, 2, 0));
	assert_int_equal(apic_id_max(&t), 251);
	assert_null(topology_init(&t, 4, 4, 17, 3, 0));
	assert_true(apic_id_needs_x2apic(&t));
}

static void ids_grow_from_0_and_split_into_their_fields(void **state)
{
	for (u32 i = 0; i < TOPOLOGIES; i++) {
		struct topology t;

		test_topology(i, &t);

		struct apic_id_layout l = apic_id_layout(&t);
		u32 last = 0;

		assert_int_equal(apic_id(&t, 0), 0);
		for (u32 cpu = 0; cpu < topology_cpus(&t); cpu++) {
			struct topology_cpu c = topology_cpu(&t, cpu);
			u32 id = apic_id(&t, cpu);

			assert_true(cpu == 0 || id > last);
			assert_int_equal(id & ((1 << l.core_shift) - 1), c.thread);
			assert_int_equal((id & ((1 << l.llc_shift) - 1)) >> l.core_shift, c.core);
			assert_true(id < 1U << l.bits);
			last = id;
		}
		assert_int_equal(apic_id_max(&t), last);
	}
}

/* A node without CPUs takes up no ids, so that CPU 0 has id 0 whatever comes before it. */
static void nodes_without_cpus_take_no_ids(void **state)
{
	struct topology t = { .nodes = 3, .cores = 1, .threads = 1, .node_llcs = { 0, 1, 1 } };

	assert_int_equal(apic_id(&t, 0), 0);
	assert_int_equal(apic_id(&t, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_largest_preset_pads_to_433),
		cmocka_unit_test(ids_up_to_254_need_no_x2apic),
		cmocka_unit_test(ids_grow_from_0_and_split_into_their_fields),
		cmocka_unit_test(nodes_without_cpus_take_no_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
