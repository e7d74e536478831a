// SPDX-License-Identifier: GPL-2.0-or-later
/* FutexPingPong: two workers take turns; one computes while the other sleeps on a futex. */
#include "work/work.h"

struct table {
	u32 turn; /* the member that may play */
	u32 pad;
	u64 asked_ns; /* when the turn was passed on */
};

/* False when it is to stop. */
static bool wait_for_turn(struct worker *w, struct table *t)
{
	while (__atomic_load_n(&t->turn, __ATOMIC_ACQUIRE) != w->member) {
		u64 began = work_now();
		int error = work_futex_wait(&t->turn, !w->member);

		if (!worker_is_running(w)) {
			worker_interrupted(w, began);
			return false;
		}
		/* An error means that the turn had come before it slept: no wake. */
		if (!error && __atomic_load_n(&t->turn, __ATOMIC_ACQUIRE) == w->member)
			worker_woken(w, began, t->asked_ns > began ? t->asked_ns : began);
	}
	return true;
}

static void run(struct worker *w)
{
	struct table *t = w->cell->shared;

	while (worker_is_running(w) && wait_for_turn(w, t)) {
		worker_spin(w, w->params[0]);
		t->asked_ns = work_now();
		__atomic_store_n(&t->turn, !w->member, __ATOMIC_RELEASE);
		work_futex_wake(&t->turn, 1);
		worker_iterate(w, 1);
	}
}

const struct work_ops futex_ping_pong_ops = { .run = run };
