/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captures on a clock, as the coordinator's thread takes them: capture/periodic.h says when.
 * Depends on the coordinator's inside. The coordinator's thread alone.
 * Every capture of a plan ends up in the store: itself, or a placeholder with the reason.
 */
#ifndef COORDINATOR_PERIODIC_H
#define COORDINATOR_PERIODIC_H

#include "coordinator/internal.h"

/* Takes what is due. Not from within a callback of the loop: it freezes. */
void periodic_serve(struct coordinator *c);
/* A frame of the guest's: its workload starts, pauses, goes on, ends. */
void periodic_take_frame(struct coordinator *c, u32 type);
/* What has not been taken will not be. */
void periodic_stop(struct coordinator *c, const char *reason);
/* Of the workload so far, or CAPTURE_NO_WORKLOAD. */
u64 periodic_workload_ns(const struct coordinator *c);
void periodic_deinit(struct coordinator *c);

#endif
