// SPDX-License-Identifier: GPL-2.0-or-later
/* YieldHeavy: gives up its CPU after each step; a unit is a yield. */
#include <sched.h>

#include "work/work.h"

static void run(struct worker *w)
{
	while (worker_is_running(w)) {
		sched_yield();
		worker_iterate(w, 1);
	}
}

const struct work_ops yield_heavy_ops = { .run = run };
