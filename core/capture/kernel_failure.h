/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first failure that a kernel tells of on its console: a panic, an oops, a soft lockup, a hung task.
 * Depends on base/types.h. The text comes in pieces of any size; a line counts when it is complete.
 * A guest writes that text: nothing in it does harm, and a line that only mentions such a thing counts as well. Who
 * wrote it is for others to find out (coordinator/failure.c).
 */
#ifndef CAPTURE_KERNEL_FAILURE_H
#define CAPTURE_KERNEL_FAILURE_H

#include <stddef.h>

#include "base/types.h"

enum kernel_failure {
	KERNEL_FINE,
	KERNEL_PANIC,
	KERNEL_OOPS,
	KERNEL_SOFT_LOCKUP,
	KERNEL_HUNG_TASK,
};

enum { KERNEL_FAILURE_LINE = 256 };

/* Zero-initialise it. */
struct kernel_failure_scan {
	enum kernel_failure found;
	u32 size;
	char line[KERNEL_FAILURE_LINE]; /* the last one; the failure's, once there is one: printable, terminated */
};

/* True when this text completes the line of the first failure; then nothing is looked at any more. */
bool kernel_failure_put(struct kernel_failure_scan *scan, const void *text, size_t size);
/* "panic", "oops", "soft lockup", "hung task"; "" */
const char *kernel_failure_name(enum kernel_failure failure);

#endif
