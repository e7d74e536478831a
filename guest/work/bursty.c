// SPDX-License-Identifier: GPL-2.0-or-later
/* Bursty: computes for burst_ms of wall time, sleeps for sleep_ms; a wake is late by what it overslept. */
#include "work/work.h"

enum { STEPS = 1024 };

static void run(struct worker *w)
{
	const u64 burst_ns = w->params[0] * 1000000, sleep_ns = w->params[1] * 1000000;
	u64 now = work_now();

	while (worker_is_running(w)) {
		u64 end = now + burst_ns;

		while (now < end && worker_is_running(w)) {
			worker_spin(w, STEPS);
			now = worker_iterate(w, 0);
		}
		if (sleep_ns)
			worker_sleep_until(w, now + sleep_ns);
		now = work_now();
	}
}

const struct work_ops bursty_ops = { .run = run };
