// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/tiny_vmm.h"

static void its_first_instructions_write_a_byte(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "tiny.run=first");
	assert_int_equal(v.first_port, TINY_FIRST_PORT);
	assert_int_equal(v.first_byte, TINY_FIRST_BYTE);
	tiny_vmm_deinit(&v);
}

static void it_prints_and_resets(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "console=ttyS0 quiet tiny.run=reset panic=-1");
	assert_string_equal(v.com1, "tiny: up\r\n");
	assert_string_equal(v.com2, "");
	assert_int_equal(v.end_port, LAYOUT_I8042_PORT + 4);
	tiny_vmm_deinit(&v);
}

static void without_a_word_it_resets(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "tiny.ran=panic xtiny.run=panic tiny.run= ");
	assert_string_equal(v.com1, "tiny: up\r\n");
	assert_int_equal(v.end_port, LAYOUT_I8042_PORT + 4);
	tiny_vmm_deinit(&v);
}

static void it_powers_off(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "tiny.run=poweroff");
	assert_int_equal(v.end_port, LAYOUT_PM_CONTROL_PORT);
	tiny_vmm_deinit(&v);
}

static void it_dies_of_a_triple_fault(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "tiny.run=triple");
	assert_int_equal(v.end_port, 0);
	assert_int_equal(v.end_exit, KVM_EXIT_SHUTDOWN);
	tiny_vmm_deinit(&v);
}

static void its_last_words_are_on_com2(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "tiny.run=sentinel=-17");
	assert_string_equal(v.com2, "KTSTR_EXIT:-17\r\n");
	assert_int_equal(v.end_port, LAYOUT_I8042_PORT + 4);
	tiny_vmm_deinit(&v);

	tiny_vmm_boot(&v, "tiny.run=panic");
	assert_non_null(strstr(v.com1, "Kernel panic - not syncing: tiny.run=panic"));
	assert_non_null(strstr(v.com2, "Kernel panic - not syncing: tiny.run=panic"));
	assert_non_null(strstr(v.com2, "Call Trace:"));
	tiny_vmm_deinit(&v);
}

static void an_unknown_scenario_is_named(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "tiny.run=nonsense=3 tiny.run=panic");
	assert_non_null(strstr(v.com1, "unknown scenario: nonsense=3"));
	assert_null(strstr(v.com1, "panic - not syncing"));
	tiny_vmm_deinit(&v);
}

static void without_a_console_device_it_says_so(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "tiny.run=exit=0");
	assert_non_null(strstr(v.com1, "no virtio-console"));
	assert_int_equal(v.end_port, LAYOUT_I8042_PORT + 4);
	tiny_vmm_deinit(&v);
}

static u64 counter(const struct tiny_vmm *v, u32 cpu)
{
	return __atomic_load_n((u64 *)(v->memory.base + TINY_COUNTERS_GPA + cpu * TINY_COUNTER_STRIDE),
			       __ATOMIC_RELAXED);
}

/* Waits until a CPU's counter has passed a value; a minute is for ever. */
static void wait_counter_above(const struct tiny_vmm *v, u32 cpu, u64 value)
{
	u64 end = clock_now_ns() + 60 * NSEC_PER_SEC;

	while (counter(v, cpu) <= value) {
		assert_true(clock_now_ns() < end);
		sched_yield();
	}
}

static void every_cpu_is_started_and_counts(void **state)
{
	static const u32 cores[] = { 1, 2, 3, 8 };
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(cores); i++) {
		tiny_vmm_init(&v, "tiny.run=count", cores[i]);
		tiny_vmm_start(&v);
		for (u32 cpu = 0; cpu < v.cpus; cpu++)
			wait_counter_above(&v, cpu, 0);
		// All of them, at the same time, go on.
		for (u32 cpu = 0; cpu < v.cpus; cpu++)
			wait_counter_above(&v, cpu, counter(&v, cpu) + 100);
		assert_int_equal(counter(&v, v.cpus), 0);
		tiny_vmm_deinit(&v);
	}
}

static void fifty_boots_leave_nothing_behind(void **state)
{
	struct tiny_vmm v;

	SKIP_WITHOUT_KVM();
	tiny_vmm_boot(&v, "tiny.run=reset");
	tiny_vmm_deinit(&v);

	struct footprint before = footprint_now();

	for (int i = 0; i < 50; i++) {
		tiny_vmm_boot(&v, "tiny.run=reset");
		assert_int_equal(v.end_port, LAYOUT_I8042_PORT + 4);
		tiny_vmm_deinit(&v);
	}
	assert_footprint(&before, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_first_instructions_write_a_byte),
		cmocka_unit_test(it_prints_and_resets),
		cmocka_unit_test(without_a_word_it_resets),
		cmocka_unit_test(it_powers_off),
		cmocka_unit_test(it_dies_of_a_triple_fault),
		cmocka_unit_test(its_last_words_are_on_com2),
		cmocka_unit_test(an_unknown_scenario_is_named),
		cmocka_unit_test(without_a_console_device_it_says_so),
		cmocka_unit_test(every_cpu_is_started_and_counts),
		cmocka_unit_test(fifty_boots_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
