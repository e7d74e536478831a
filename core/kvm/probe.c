// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/probe.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "kvm/hostmem.h"
#include "kvm/kvm.h"
#include "kvm/micro.h"

/* A micro guest takes microseconds, some milliseconds where all is emulated. */
#define GUEST_LIMIT (5 * NSEC_PER_SEC)
#define PROBE_LIMIT (30 * NSEC_PER_SEC)

enum {
	CPUID_INVARIANT_TSC_LEAF = 0x80000007,
	CPUID_INVARIANT_TSC = 1 << 8,
};

static void take_error(struct probe *probe, enum probe_kvm kvm, struct error *err)
{
	const char *hint = error_hint(err);

	probe->kvm = kvm;
	snprintf(probe->error, sizeof(probe->error), "%s", error_message(err));
	snprintf(probe->hint, sizeof(probe->hint), "%s", hint ? hint : "");
	error_destroy(err);
}

static void take_open_error(struct probe *probe, const char *device, struct error *err)
{
	enum probe_kvm kvm = PROBE_KVM_ERROR;

	if (error_code(err) == ERROR_NOT_FOUND)
		kvm = PROBE_KVM_MISSING;
	else if (access(device, R_OK | W_OK) != 0)
		kvm = PROBE_KVM_PERMISSION;
	take_error(probe, kvm, err);
}

static struct error *run_guests(struct probe *probe, const struct kvm *kvm, struct kvm_cpuid2 *cpuid)
{
	const struct {
		enum micro_guest guest;
		bool *answer;
	} guests[] = {
		{ MICRO_PLAIN, &probe->long_mode },
		{ MICRO_INT3, &probe->int3 },
		{ MICRO_SSE, &probe->sse },
		{ MICRO_XSAVE, &probe->xsave },
		{ MICRO_POPCNT, &probe->popcnt },
		{ MICRO_CMPXCHG16B, &probe->cmpxchg16b },
		{ MICRO_SYSCALL, &probe->syscall },
		{ MICRO_DATA_WATCHPOINT, &probe->data_watchpoint },
		{ MICRO_CODE_BREAKPOINT, &probe->code_breakpoint },
	};
	u64 end = clock_now_ns() + PROBE_LIMIT;

	for (size_t i = 0; i < ARRAY_SIZE(guests) && clock_now_ns() < end; i++) {
		struct micro_result result;
		struct error *err = micro_run(kvm, cpuid, guests[i].guest, GUEST_LIMIT, &result);

		if (err)
			return err;
		*guests[i].answer = result.passed;
		probe->master_clock |= result.master_clock;
		// Where not even plain code runs, the others need not be tried.
		if (guests[i].guest == MICRO_PLAIN && !result.passed)
			return error_with_hint(
				error_create(ERROR_UNSUPPORTED, "a guest of plain 64-bit code does not run: %s",
					     result.ending),
				"see the host's kernel log, or run under scripts/with-kvm");
	}
	return NULL;
}

static void ask_features(struct probe *probe, const struct kvm *kvm, struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *power = cpuid_find(cpuid, CPUID_INVARIANT_TSC_LEAF, 0);

	probe->invariant_tsc = power && power->edx & CPUID_INVARIANT_TSC;
	probe->tsc_deadline = kvm_capability(kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	probe->max_vcpus = (u32)kvm_capability(kvm, KVM_CAP_MAX_VCPUS);
}

static void probe_kvm(struct probe *probe, const char *device)
{
	CLEANUP_FREE struct kvm_cpuid2 *cpuid = NULL;
	struct kvm kvm CLEANUP(kvm_close) = { .fd = -1 };
	struct error *err = kvm_open(&kvm, device);

	if (err) {
		take_open_error(probe, device, err);
		return;
	}
	probe->api_version = KVM_API_VERSION;
	err = kvm_supported_cpuid(&kvm, 0, &cpuid);
	if (!err) {
		ask_features(probe, &kvm, cpuid);
		err = run_guests(probe, &kvm, cpuid);
	}
	if (err) {
		take_error(probe, PROBE_KVM_ERROR, err);
		return;
	}
	probe->stock_kernel = probe->long_mode && probe->int3 && probe->sse && probe->xsave && probe->popcnt &&
			      probe->cmpxchg16b && probe->syscall;
	probe->paravirtual = !probe->stock_kernel;
}

void probe_run(struct probe *probe, const char *device)
{
	*probe = (struct probe){ .kvm = PROBE_KVM_OK, .api_version = -1 };
	probe->memory_available = host_memory_available("");
	probe_kvm(probe, device);
}
