// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/cpu_list.h"

#include <stdio.h>
#include <string.h>

/* One number, below CPUS_MAX; moves *at behind it. */
static bool take_cpu(const char **at, u32 *ret)
{
	const char *p = *at;

	for (*ret = 0; *p >= '0' && *p <= '9'; p++) {
		*ret = *ret * 10 + (u32)(*p - '0');
		if (*ret >= CPUS_MAX)
			return false;
	}
	if (p == *at)
		return false;
	*at = p;
	return true;
}

bool cpu_list_parse(const char *text, struct cpu_list *ret)
{
	u32 first, last;

	*ret = (struct cpu_list){ 0 };
	if (!*text || !strcmp(text, "\n"))
		return true;
	for (;; text++) {
		if (!take_cpu(&text, &first))
			return false;
		last = first;
		if (*text == '-' && (text++, !take_cpu(&text, &last) || last < first))
			return false;
		for (u32 cpu = first; cpu <= last; cpu++)
			ret->bits[cpu / 64] |= 1ull << cpu % 64;
		if (*text != ',')
			return !*text || !strcmp(text, "\n");
	}
}

static bool has_cpu(const u64 *bits, u32 cpu)
{
	return cpu < CPUS_MAX && bits[cpu / 64] >> cpu % 64 & 1;
}

size_t cpu_list_format(const u64 *bits, char *out, size_t capacity)
{
	size_t n = 0;

	out[0] = 0;
	for (u32 cpu = 0; cpu < CPUS_MAX && n < capacity; cpu++) {
		u32 first = cpu;

		if (!has_cpu(bits, cpu))
			continue;
		while (has_cpu(bits, cpu + 1))
			cpu++;
		n += (size_t)snprintf(out + n, capacity - n, first == cpu ? "%s%u" : "%s%u-%u", n ? "," : "",
				      first, cpu);
	}
	return n < capacity ? n : capacity - 1;
}
