// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "capture/kernel_failure.h"

/* In pieces of that size; each of them is memory of its own. */
static struct kernel_failure_scan scan_of(const char *text, size_t piece)
{
	struct kernel_failure_scan scan = { 0 };
	size_t size = strlen(text);
	bool told = false;

	for (size_t at = 0; at < size; at += piece) {
		size_t n = size - at < piece ? size - at : piece;
		char *own = malloc(n);

		assert_non_null(own);
		memcpy(own, text + at, n);

		bool is_told = kernel_failure_put(&scan, own, n);

		assert_false(told && is_told); // once
		told |= is_told;
		free(own);
	}
	assert_int_equal(told, scan.found != KERNEL_FINE);
	return scan;
}

static void is(const char *text, enum kernel_failure failure, const char *line)
{
	static const size_t pieces[] = { 1, 7, 4096 };

	for (u32 i = 0; i < 3; i++) {
		struct kernel_failure_scan scan = scan_of(text, pieces[i]);

		assert_int_equal(scan.found, failure);
		if (failure)
			assert_string_equal(scan.line, line);
	}
}

static void each_kind_of_failure_is_found_with_its_line(void **state)
{
	is("[    1.0] fine\r\n[    2.5] Kernel panic - not syncing: sysrq triggered crash\r\nmore\n", KERNEL_PANIC,
	   "[    2.5] Kernel panic - not syncing: sysrq triggered crash");
	is("Oops: 0002 [#1] PREEMPT SMP NOPTI\n", KERNEL_OOPS, "Oops: 0002 [#1] PREEMPT SMP NOPTI");
	is("Oops: general protection fault, probably for non-canonical address 0xdead000000000122\n", KERNEL_OOPS,
	   "Oops: general protection fault, probably for non-canonical address 0xdead000000000122");
	is("kernel BUG at kernel/sched/core.c:1!\n", KERNEL_OOPS, "kernel BUG at kernel/sched/core.c:1!");
	is("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [spin:99]\n", KERNEL_SOFT_LOCKUP,
	   "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [spin:99]");
	is("INFO: task dd:77 blocked for more than 120 seconds.\n", KERNEL_HUNG_TASK,
	   "INFO: task dd:77 blocked for more than 120 seconds.");
}

static void each_kernels_words_are_known(void **state)
{
	// 7.2 and later
	is("INFO: task dd:77 blocked in I/O wait for more than 120 seconds.\n", KERNEL_HUNG_TASK,
	   "INFO: task dd:77 blocked in I/O wait for more than 120 seconds.");
	// until 6.9
	is("general protection fault, probably for non-canonical address 0xdead: 0000 [#1] PREEMPT\n", KERNEL_OOPS,
	   "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] PREEMPT");
	is("divide error: 0000 [#1] PREEMPT SMP\n", KERNEL_OOPS, "divide error: 0000 [#1] PREEMPT SMP");
	// what comes before the oops itself says more
	is("BUG: kernel NULL pointer dereference, address: 0000000000000010\nOops: 0000 [#1]\n", KERNEL_OOPS,
	   "BUG: kernel NULL pointer dereference, address: 0000000000000010");
	is("BUG: unable to handle page fault for address: ffffc90000000000\n", KERNEL_OOPS,
	   "BUG: unable to handle page fault for address: ffffc90000000000");
}

static void the_first_one_counts(void **state)
{
	is("Oops: 0000 [#1]\nKernel panic - not syncing: Fatal exception\n", KERNEL_OOPS, "Oops: 0000 [#1]");
}

static void other_text_is_fine(void **state)
{
	is("", KERNEL_FINE, NULL);
	is("INFO: task dd:77 is happy\n blocked for more than enough\n", KERNEL_FINE, NULL);
	is("Kernel panic -\nnot syncing\n", KERNEL_FINE, NULL);
	// of a program, which the kernel has ended
	is("traps: dd[77] general protection fault ip:401000 sp:7ffe0000 error:0 in dd[401000+1000]\n", KERNEL_FINE,
	   NULL);
	is(" for more than 120 seconds. INFO: task dd:77 blocked\n", KERNEL_FINE, NULL);
}

static void an_unfinished_line_does_not_count_yet(void **state)
{
	is("Kernel panic - not syncing: in the middle of", KERNEL_FINE, NULL);
}

static void a_line_without_end_and_strange_bytes_do_no_harm(void **state)
{
	char text[3000];

	memset(text, 'x', sizeof(text));
	memcpy(text, "Oops: \x01\xff", 8);
	text[sizeof(text) - 2] = '\n';
	text[sizeof(text) - 1] = '\0';

	struct kernel_failure_scan scan = scan_of(text, 11);

	assert_int_equal(scan.found, KERNEL_OOPS);
	assert_int_equal(strlen(scan.line), KERNEL_FAILURE_LINE - 1);
	assert_memory_equal(scan.line, "Oops: ??x", 9);

	// A NUL does not hide what is behind it.
	scan = (struct kernel_failure_scan){ 0 };
	assert_true(kernel_failure_put(&scan, "a\0Oops: \n", 9));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_of_failure_is_found_with_its_line),
		cmocka_unit_test(each_kernels_words_are_known),
		cmocka_unit_test(the_first_one_counts),
		cmocka_unit_test(other_text_is_fine),
		cmocka_unit_test(an_unfinished_line_does_not_count_yet),
		cmocka_unit_test(a_line_without_end_and_strange_bytes_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
