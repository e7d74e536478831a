/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lists of CPUs as the kernel writes them.
 * Depends on base/types.h.
 * CPUs are numbered from 0 to CPUS_MAX - 1; a list that names another is no list.
 */
#ifndef AGENT_CPU_LIST_H
#define AGENT_CPU_LIST_H

#include "base/types.h"

enum { CPUS_MAX = 1024 };

struct cpu_list {
	u64 bits[CPUS_MAX / 64];
};

/* "0-3,8", a new line at the end allowed, "" is none. False when it is anything else. */
bool cpu_list_parse(const char *text, struct cpu_list *ret);
/* Returns the length, cut to what fits. */
size_t cpu_list_format(const u64 *bits, char *out, size_t capacity);

#endif
