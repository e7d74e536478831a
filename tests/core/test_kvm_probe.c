// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/kvm_fixture.h"
#include "kvm/micro.h"
#include "kvm/probe.h"

static void the_answers_fit_each_other(void **state)
{
	struct probe p;

	SKIP_WITHOUT_KVM();
	probe_run(&p, KVM_DEVICE);
	assert_int_equal(p.kvm, PROBE_KVM_OK);
	assert_string_equal(p.error, "");
	assert_int_equal(p.api_version, KVM_API_VERSION);
	assert_true(p.long_mode);
	assert_true(p.max_vcpus >= 1);
	assert_true(p.memory_available > 0);
	assert_int_equal(p.stock_kernel, p.int3 && p.sse && p.xsave && p.popcnt && p.cmpxchg16b && p.syscall);
	assert_int_equal(p.paravirtual, !p.stock_kernel);
}

static void asking_twice_gives_the_same(void **state)
{
	struct probe a, b;

	SKIP_WITHOUT_KVM();
	probe_run(&a, KVM_DEVICE);
	probe_run(&b, KVM_DEVICE);
	b.memory_available = a.memory_available;
	assert_int_equal(a.stock_kernel, b.stock_kernel);
	assert_int_equal(a.data_watchpoint, b.data_watchpoint);
	assert_int_equal(a.code_breakpoint, b.code_breakpoint);
	assert_int_equal(a.syscall, b.syscall);
	assert_int_equal(a.int3, b.int3);
	assert_int_equal(a.sse, b.sse);
	assert_int_equal(a.master_clock, b.master_clock);
}

/* With virtualization in the processor itself, nothing that the probe tries may fail. */
static void a_processor_that_virtualizes_passes_all(void **state)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	bool virtualizes = false;
	char line[8192];
	struct probe p;

	SKIP_WITHOUT_KVM();
	assert_non_null(f);
	while (!virtualizes && fgets(line, sizeof(line), f))
		virtualizes = !strncmp(line, "flags", 5) && (strstr(line, " vmx") || strstr(line, " svm"));
	fclose(f);
	probe_run(&p, KVM_DEVICE);
	if (virtualizes) {
		assert_true(p.stock_kernel);
		assert_true(p.code_breakpoint);
	} else {
		assert_true(p.paravirtual);
		assert_false(p.stock_kernel);
	}
}

static void a_missing_device_is_missing(void **state)
{
	struct probe p;

	probe_run(&p, "/nonexistent/kvm");
	assert_int_equal(p.kvm, PROBE_KVM_MISSING);
	assert_non_null(strstr(p.error, "/nonexistent/kvm"));
	assert_string_not_equal(p.hint, "");
	assert_int_equal(p.api_version, -1);
	assert_false(p.stock_kernel);
	assert_false(p.paravirtual);
	assert_true(p.memory_available > 0);
}

static void a_device_that_is_not_kvm_is_an_error(void **state)
{
	struct probe p;

	probe_run(&p, "/dev/null");
	assert_int_equal(p.kvm, PROBE_KVM_ERROR);
	assert_non_null(strstr(p.error, "/dev/null"));
	assert_false(p.stock_kernel);
}

static void a_guest_that_never_ends_is_ended(void **state)
{
	struct kvm_cpuid2 *cpuid;
	struct micro_result r;
	struct kvm kvm;

	SKIP_WITHOUT_KVM();
	assert_no_error(kvm_open(&kvm, KVM_DEVICE));
	assert_no_error(kvm_supported_cpuid(&kvm, 0, &cpuid));
	assert_no_error(micro_run(&kvm, cpuid, MICRO_SPIN, 20 * NSEC_PER_MSEC, &r));
	assert_true(r.timed_out);
	assert_false(r.passed);
	assert_non_null(strstr(r.ending, "20 ms"));
	// The signal that ended it is gone: the next guest runs as ever.
	assert_no_error(micro_run(&kvm, cpuid, MICRO_PLAIN, 5 * NSEC_PER_SEC, &r));
	assert_true(r.passed);
	assert_false(r.timed_out);
	free(cpuid);
	kvm_close(&kvm);
}

static void probing_leaves_nothing_behind(void **state)
{
	struct probe p;

	SKIP_WITHOUT_KVM();
	probe_run(&p, KVM_DEVICE);

	struct footprint before = footprint_now();

	for (int i = 0; i < 10; i++)
		probe_run(&p, KVM_DEVICE);
	assert_footprint(&before, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_answers_fit_each_other),
		cmocka_unit_test(asking_twice_gives_the_same),
		cmocka_unit_test(a_processor_that_virtualizes_passes_all),
		cmocka_unit_test(a_missing_device_is_missing),
		cmocka_unit_test(a_device_that_is_not_kvm_is_an_error),
		cmocka_unit_test(a_guest_that_never_ends_is_ended),
		cmocka_unit_test(probing_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
