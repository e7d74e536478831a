/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a plan, for those who check it and run it.
 * Depends on capture/plan.h.
 * Operations are what plan.c has checked: trees nest, registers exist, sizes are within their limits.
 */
#ifndef CAPTURE_PLAN_INTERNAL_H
#define CAPTURE_PLAN_INTERNAL_H

#include "capture/plan.h"

struct plan {
	u32 users; /* atomic */
	struct plan_header header;
	const struct plan_op *ops;
	const char *text;
	u8 bytes[]; /* all of it */
};

#endif
