/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scenarios that ask for operations on the guest's own memory.
 * Depends on tiny/console.h and tiny/report.h.
 * Each request writes a word and reads it; the reply has to say so, with the request's id.
 */
#ifndef TINY_KERNEL_OP_H
#define TINY_KERNEL_OP_H

#include "base/types.h"

enum { KERNEL_OP_BURST_MAX = 1024 };

/* So many, one by one, every other one cold; what became of them as a line on STDOUT. False: a reply was strange. */
bool kernel_op_one_by_one(u32 count);
/* The same, all sent before the first reply is looked at; at most KERNEL_OP_BURST_MAX. */
bool kernel_op_burst(u32 count);
/* Bad requests: the reason that each is answered with on STDOUT, a line each. */
bool kernel_op_bad(void);

#endif
