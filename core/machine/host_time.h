/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the host has run each vCPU's thread, and whether the thread wants to run.
 * Depends on machine.h. One thread at a time; the machine must be there, running or not.
 * What the host does not tell is said to be unknown.
 */
#ifndef MACHINE_HOST_TIME_H
#define MACHINE_HOST_TIME_H

#include "base/error.h"
#include "base/types.h"
#include "machine/machine.h"

enum host_time_state {
	HOST_TIME_UNKNOWN,
	HOST_TIME_WANTS, /* it runs, waits for its turn, or for the host's memory */
	HOST_TIME_SLEEPS, /* the guest has halted the vCPU, or it waits for its start */
};

struct host_times;

MUST_CHECK struct error *host_times_create(struct machine *m, struct host_times **ret);
/* NULL is allowed. */
void host_times_destroy(struct host_times *t);

/* CPU time of the vCPU's thread since it was started; false: not known. */
MUST_CHECK bool host_times_ran(struct host_times *t, u32 cpu, u64 *ret);
enum host_time_state host_times_state(struct host_times *t, u32 cpu);

#endif
