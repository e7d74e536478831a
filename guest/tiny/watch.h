/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes of every kind to the pages at TINY_WATCH_GPA, on request: by one CPU, or by all at once.
 * Depends on smp.h and op.h; the console is open.
 * A request is OP_READ: PATH is a routine's name, LENGTH how often, OFFSET from where (0: the first byte). The reply
 * comes when all CPUs are through: u64 for each, what its routine came to.
 */
#ifndef TINY_WATCH_H
#define TINY_WATCH_H

#include "tiny/smp.h"

/* Starts every CPU (as cpus_start), sends SYS_RDY, and answers for ever. */
__attribute__((noreturn)) void watch_run(struct cpus *cpus, u64 rsdp);

#endif
