// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/host_cpu.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "kvm/kvm.h"
#include "x86/cpuid_compare.h"

static void describe(const struct kvm_cpuid2 *cpuid, char ret[HOST_CPU_TEXT_MAX])
{
	struct cpuid_model model = cpuid_model(cpuid->entries, cpuid->nent);

	snprintf(ret, HOST_CPU_TEXT_MAX, "%s %u-%u-%u %016llx", model.vendor, model.family, model.model, model.stepping,
		 (unsigned long long)hash64(cpuid->entries, cpuid->nent * sizeof(cpuid->entries[0])));
}

struct error *host_cpu_text(const struct machine_config *config, char ret[HOST_CPU_TEXT_MAX])
{
	struct kvm kvm;
	struct kvm_cpuid2 *supported = NULL, *cpuid = NULL;
	struct error *err = kvm_open(&kvm, KVM_DEVICE);

	if (err)
		return err;

	struct cpuid_options options = {
		.tsc_deadline = kvm_capability(&kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
		.steal_time = config->steal_time,
		.invariant_tsc = config->invariant_tsc,
		.la57 = config->la57,
	};

	err = kvm_supported_cpuid(&kvm, 0, &supported);
	if (!err)
		err = cpuid_build(supported, &config->topology, 0, &options, &cpuid);
	if (!err)
		describe(cpuid, ret);
	free(cpuid);
	free(supported);
	kvm_close(&kvm);
	return err;
}
