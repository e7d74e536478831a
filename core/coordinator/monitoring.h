/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitors of a running machine: each has a timer in the coordinator's loop.
 * Depends on coordinator/monitor.h and the coordinator's inside. The coordinator's thread alone.
 * Nothing is sampled while the machine is frozen, or is to end.
 */
#ifndef COORDINATOR_MONITORING_H
#define COORDINATOR_MONITORING_H

#include "base/error.h"
#include "base/types.h"

struct coordinator;
struct monitor;

/* The first sample is taken at once. It is dropped, too, when nobody else has it any more. */
MUST_CHECK struct error *monitoring_add(struct coordinator *c, struct monitor *m, u64 interval_ns);
/* Nothing where it is not there. */
void monitoring_remove(struct coordinator *c, struct monitor *m);
/* Takes no more of them. */
void monitoring_stop(struct coordinator *c);
/* Once the loop does not run any more. */
void monitoring_deinit(struct coordinator *c);

#endif
