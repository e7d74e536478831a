/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is recorded when the guest's kernel fails: one capture, "failure", of the machine at once or as it has ended.
 * Depends on the coordinator's inside. The text comes on vCPUs' threads, one at a time; the rest is the coordinator's.
 * What a program of the guest's says is no failure, where the kernel's log can be read.
 */
#ifndef COORDINATOR_FAILURE_H
#define COORDINATOR_FAILURE_H

#include "coordinator/internal.h"

/* New text on COM1. */
void failure_take_text(struct coordinator *c, const void *text, size_t size);
/* Records it, the first time that there is one. Not from within a callback of the loop: it freezes. */
void failure_serve(struct coordinator *c);
/*
 * A capture, "early", of a machine in which a failure seems to be on its way: once, and not after the failure.
 * *taken: whether it was the time for it.
 */
MUST_CHECK struct error *failure_take_early(struct coordinator *c, u32 *taken);
/* The machine is taken back to where it had not failed. Its vCPUs stand. */
void failure_forget(struct coordinator *c);

#endif
