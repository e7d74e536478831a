// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/host_time.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "machine/internal.h"

enum {
	NOT_OPENED = -1,
	NOT_THERE = -2,
};

struct host_times {
	struct machine *machine;
	int stat_fds[]; /* a vCPU's /proc/self/task/TID/stat: kept, since it is read many times */
};

struct error *host_times_create(struct machine *m, struct host_times **ret)
{
	struct host_times *t = calloc(1, sizeof(*t) + m->vcpu_count * sizeof(t->stat_fds[0]));

	if (!t)
		return error_no_memory();
	t->machine = m;
	for (u32 i = 0; i < m->vcpu_count; i++)
		t->stat_fds[i] = NOT_OPENED;
	*ret = t;
	return NULL;
}

void host_times_destroy(struct host_times *t)
{
	if (!t)
		return;
	for (u32 i = 0; i < t->machine->vcpu_count; i++)
		if (t->stat_fds[i] >= 0)
			close(t->stat_fds[i]);
	free(t);
}

/* The vCPU's thread, if it has begun. It is joined only when nobody asks any more. */
static const struct vcpu_thread *thread_of(const struct host_times *t, u32 cpu)
{
	const struct vcpu_thread *thread = &t->machine->vcpus[cpu];

	return __atomic_load_n(&thread->running, __ATOMIC_SEQ_CST) ? thread : NULL;
}

bool host_times_ran(struct host_times *t, u32 cpu, u64 *ret)
{
	const struct vcpu_thread *thread = thread_of(t, cpu);
	struct timespec ts;
	clockid_t id;

	// Of a thread that has ended there is none.
	if (!thread || pthread_getcpuclockid(thread->self, &id) || clock_gettime(id, &ts))
		return false;
	*ret = (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
	return true;
}

static int open_stat(pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);

	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? NOT_THERE : fd;
}

enum host_time_state host_times_state(struct host_times *t, u32 cpu)
{
	const struct vcpu_thread *thread = thread_of(t, cpu);
	int *fd = &t->stat_fds[cpu];
	char text[128];

	if (!thread)
		return HOST_TIME_UNKNOWN;
	if (*fd == NOT_OPENED)
		*fd = open_stat(thread->tid);

	ssize_t n = *fd >= 0 ? pread(*fd, text, sizeof(text) - 1, 0) : -1;

	if (n <= 0)
		return HOST_TIME_UNKNOWN;
	text[n] = 0;

	// Behind the name, which is in parentheses and may have some of its own.
	const char *end = strrchr(text, ')');

	if (!end || end[1] != ' ')
		return HOST_TIME_UNKNOWN;
	return end[2] == 'S' ? HOST_TIME_SLEEPS : HOST_TIME_WANTS;
}
