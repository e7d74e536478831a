// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/child.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

void child_reset(const struct agent *agent)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	setrlimit(RLIMIT_NOFILE, &agent->files);
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void child_keep_fds(int *keep, u32 count)
{
	unsigned int from = 3;

	qsort(keep, count, sizeof(*keep), compare_fds);
	for (u32 i = 0; i <= count; i++) {
		unsigned int to = i < count ? (unsigned int)keep[i] : UINT_MAX;

		if (to > from)
			syscall(SYS_close_range, from, i < count ? to - 1 : UINT_MAX, 0);
		if (to >= from)
			from = to + 1;
	}
}
