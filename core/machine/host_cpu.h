/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest on this host would be shown as its CPU, as a line of text: to tell hosts apart before a restore.
 * Depends on machine.h.
 */
#ifndef MACHINE_HOST_CPU_H
#define MACHINE_HOST_CPU_H

#include "machine/machine.h"

enum { HOST_CPU_TEXT_MAX = 96 };

/*
 * Vendor, family, model, stepping, and a hash of the CPUID of a guest's CPU 0; the TSC's rate is not in it. Only
 * topology, steal_time, invariant_tsc and la57 of the configuration count. Errors as machine_create().
 */
MUST_CHECK struct error *host_cpu_text(const struct machine_config *config, char ret[HOST_CPU_TEXT_MAX]);

#endif
