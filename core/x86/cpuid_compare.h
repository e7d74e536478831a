/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether two guests were shown the same CPU, and if not, what differs, in words.
 * Depends on base and <linux/kvm.h>.
 * The TSC's rate is left out: it is measured anew at each start of a host, and compared elsewhere.
 */
#ifndef X86_CPUID_COMPARE_H
#define X86_CPUID_COMPARE_H

#include <linux/kvm.h>

#include "base/types.h"

/* What leaf 0 and leaf 1 say: who made it, and which one it is. */
struct cpuid_model {
	char vendor[13]; /* printable; "unknown" where there is no leaf 0 */
	u32 family, model, stepping;
};

struct cpuid_model cpuid_model(const struct kvm_cpuid_entry2 *entries, u32 count);

/* False with the first difference (vendor and model before single bits) in buffer, which always terminates. */
bool cpuid_is_same(const struct kvm_cpuid_entry2 *saved, u32 saved_count, const struct kvm_cpuid_entry2 *here,
		   u32 here_count, char *buffer, size_t size);

#endif
