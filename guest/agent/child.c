// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/child.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

void child_reset(const struct agent *agent)
{
	// The kernel's own struct sigaction, all zero: SIG_DFL. libc keeps its hands on signals that it uses
	// itself, and a parent's libc may have left those ignored.
	static const unsigned long by_default[4];
	static const u64 none;

	for (long number = 1; number < NSIG; number++)
		syscall(SYS_rt_sigaction, number, by_default, NULL, sizeof(none));
	syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &none, NULL, sizeof(none));
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
