// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* The agent's own, which no library holds. */
#include "agent/control_value.c"
#include "agent/cpu_list.c"

static const struct {
	const char *control, *written, *got;
} matching[] = {
	{ "cpu.weight", "50", "50" },
	{ "cpu.weight", "050", "50" },
	{ "cpu.max", "max", "max 100000" },
	{ "cpu.max", "50000", "50000 100000" },
	{ "cpu.max", "50000 200000", "50000 200000" },
	{ "cpuset.cpus", "3,0-2", "0-3" },
	{ "cpuset.cpus", "", "" },
	{ "cpuset.cpus.partition", "root", "root" },
	{ "memory.max", "64M", "67108864" },
	{ "memory.max", "10000000", "9998336" },
	{ "memory.high", "max", "max" },
	{ "io.weight", "100", "default 100" },
	{ "io.max", "8:0 rbps=1048576", "8:0 rbps=1048576 wbps=max riops=max wiops=max" },
	{ "cgroup.subtree_control", "+cpu +memory", "cpu memory pids" },
	{ "cgroup.subtree_control", "-cpu", "memory pids" },
	{ "cgroup.procs", "17", "3\n17\n29" },
},
  differing[] = {
	  { "cpu.weight", "50", "100" },
	  { "cpu.weight", "50", "" },
	  { "cpu.max", "50000 200000", "200000 50000" },
	  { "cpu.max", "max", "50000 100000" },
	  { "cpuset.cpus", "0-3", "0-1" },
	  { "cpuset.cpus", "", "0-1" },
	  { "cpuset.cpus.partition", "root", "root invalid (no CPUs)" },
	  { "memory.max", "64M", "max" },
	  { "memory.max", "64M", "67104768" },
	  { "pids.max", "10000000", "9998336" },
	  { "cgroup.subtree_control", "+cpu", "memory pids" },
	  { "cgroup.subtree_control", "-cpu", "cpu memory" },
	  { "cgroup.procs", "17", "3\n29" },
  };

static void what_means_the_same_matches(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(matching); i++)
		if (!control_value_matches(matching[i].control, matching[i].written, matching[i].got))
			fail_msg("%s: '%s' reads '%s'", matching[i].control, matching[i].written, matching[i].got);
}

static void what_means_something_else_does_not(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(differing); i++)
		if (control_value_matches(differing[i].control, differing[i].written, differing[i].got))
			fail_msg("%s: '%s' reads '%s'", differing[i].control, differing[i].written,
				 differing[i].got);
}

static void a_value_too_long_to_judge_does_not_match(void **state)
{
	char text[CONTROL_MAX + 1];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	assert_false(control_value_matches("cpu.max", text, text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_means_the_same_matches),
		cmocka_unit_test(what_means_something_else_does_not),
		cmocka_unit_test(a_value_too_long_to_judge_does_not_match),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
