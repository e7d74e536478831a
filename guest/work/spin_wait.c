// SPDX-License-Identifier: GPL-2.0-or-later
/* SpinWait: computes without a pause, and never leaves its CPU by itself. */
#include "work/work.h"

enum { STEPS = 1024 };

static void run(struct worker *w)
{
	while (worker_is_running(w)) {
		worker_spin(w, STEPS);
		worker_iterate(w, 0);
	}
}

const struct work_ops spin_wait_ops = { .run = run };
