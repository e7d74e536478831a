// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the host itself does of a schedule like that of captures on a clock: a thread that sleeps until each moment,
 * and does nothing then. Its priority is that of the thread that takes captures.
 *
 * usage: ticks COUNT SECONDS
 *
 * A line each: microseconds behind its moment.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { COUNT_MAX = 1000 };

/* As the coordinator's: first in the queue, or where that is not to be had, short turns. */
static void raise_priority(void)
{
	const struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} short_turns = { .size = sizeof(short_turns), .runtime = 100000 };

	if (setpriority(PRIO_PROCESS, 0, -20))
		syscall(SYS_sched_setattr, 0, &short_turns, 0);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[1]) : 0;
	double seconds = argc == 3 ? atof(argv[2]) : 0;
	static double late_us[COUNT_MAX];

	if (count < 1 || count > COUNT_MAX || seconds <= 0) {
		fprintf(stderr, "usage: ticks COUNT SECONDS\n");
		return 2;
	}
	raise_priority();

	int64_t start = now_ns();

	for (int i = 0; i < count; i++) {
		int64_t due = start + (int64_t)(seconds * 1e9 * (0.1 + (i + 1) * 0.8 / (count + 1)));
		struct timespec until = { .tv_sec = due / 1000000000, .tv_nsec = due % 1000000000 };

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
		late_us[i] = (double)(now_ns() - due) / 1000;
	}
	for (int i = 0; i < count; i++)
		printf("%.1f\n", late_us[i]);
	return 0;
}
