// SPDX-License-Identifier: GPL-2.0-or-later
#include "x86/cpuid_compare.h"

#include <stdio.h>
#include <string.h>

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid_entry2 *entries, u32 count, u32 leaf, u32 subleaf)
{
	for (u32 i = 0; i < count; i++)
		if (entries[i].function == leaf && entries[i].index == subleaf)
			return &entries[i];
	return NULL;
}

struct cpuid_model cpuid_model(const struct kvm_cpuid_entry2 *entries, u32 count)
{
	const struct kvm_cpuid_entry2 *names = find(entries, count, 0, 0);
	const struct kvm_cpuid_entry2 *numbers = find(entries, count, 1, 0);
	struct cpuid_model ret = { .vendor = "unknown" };

	if (names) {
		memcpy(ret.vendor, &names->ebx, 4);
		memcpy(ret.vendor + 4, &names->edx, 4);
		memcpy(ret.vendor + 8, &names->ecx, 4);
		ret.vendor[12] = 0;
	}
	for (char *c = ret.vendor; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	if (numbers) {
		u32 eax = numbers->eax;

		ret.stepping = eax & 0xf;
		ret.model = (eax >> 4 & 0xf) | (eax >> 12 & 0xf0);
		ret.family = (eax >> 8 & 0xf) + (eax >> 20 & 0xff);
	}
	return ret;
}

static bool is_same_model(const struct kvm_cpuid_entry2 *saved, u32 saved_count, const struct kvm_cpuid_entry2 *here,
			  u32 here_count, char *buffer, size_t size)
{
	struct cpuid_model a = cpuid_model(saved, saved_count), b = cpuid_model(here, here_count);

	if (strcmp(a.vendor, b.vendor) == 0 && a.family == b.family && a.model == b.model && a.stepping == b.stepping)
		return true;
	snprintf(buffer, size, "%s family %u model %u stepping %u, this host has %s family %u model %u stepping %u",
		 a.vendor, a.family, a.model, a.stepping, b.vendor, b.family, b.model, b.stepping);
	return false;
}

/* Leaves whose numbers are the TSC's rate, as far as they are. */
static bool is_rate(u32 leaf)
{
	return leaf == 0x15 || leaf == 0x16 || leaf == 0x40000010;
}

static bool is_same_entry(const struct kvm_cpuid_entry2 *a, const struct kvm_cpuid_entry2 *b, char *buffer,
			  size_t size)
{
	static const char *const names[] = { "EAX", "EBX", "ECX", "EDX" };
	const u32 was[] = { a->eax, a->ebx, a->ecx, a->edx };
	const u32 is[] = { b->eax, b->ebx, b->ecx, b->edx };

	for (u32 i = 0; i < 4; i++) {
		if (was[i] == is[i])
			continue;
		snprintf(buffer, size, "CPUID leaf 0x%x subleaf %u %s was 0x%08x and is 0x%08x", a->function, a->index,
			 names[i], was[i], is[i]);
		return false;
	}
	return true;
}

bool cpuid_is_same(const struct kvm_cpuid_entry2 *saved, u32 saved_count, const struct kvm_cpuid_entry2 *here,
		   u32 here_count, char *buffer, size_t size)
{
	if (!is_same_model(saved, saved_count, here, here_count, buffer, size))
		return false;
	for (u32 i = 0; i < saved_count; i++) {
		const struct kvm_cpuid_entry2 *was = &saved[i];
		const struct kvm_cpuid_entry2 *is = find(here, here_count, was->function, was->index);

		if (!is) {
			snprintf(buffer, size, "this host has no CPUID leaf 0x%x subleaf %u", was->function,
				 was->index);
			return false;
		}
		if (!is_rate(was->function) && !is_same_entry(was, is, buffer, size))
			return false;
	}
	for (u32 i = 0; i < here_count; i++) {
		if (find(saved, saved_count, here[i].function, here[i].index))
			continue;
		snprintf(buffer, size, "that one had no CPUID leaf 0x%x subleaf %u", here[i].function, here[i].index);
		return false;
	}
	return true;
}
