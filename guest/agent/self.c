// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/self.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static u32 count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	u32 n = 0;

	if (!dir)
		return 0;
	for (struct dirent *d; (d = readdir(dir));)
		n += d->d_name[0] != '.';
	closedir(dir);
	return n - 1; /* the directory's own */
}

/* The parent of a process, from the field behind the name, which may hold anything but ends with the last ')'. */
static pid_t parent_of(const char *pid)
{
	char path[64], text[512], state;
	CLEANUP_FCLOSE FILE *file = NULL;
	int parent;
	char *at;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	file = fopen(path, "re");
	if (!file || !fgets(text, sizeof(text), file))
		return -1;
	at = strrchr(text, ')');
	return at && sscanf(at, ") %c %d", &state, &parent) == 2 ? parent : -1;
}

/* Zombies are counted: one that stays is a leak. */
static u32 count_children(void)
{
	pid_t self = getpid();
	DIR *dir = opendir("/proc");
	u32 n = 0;

	if (!dir)
		return 0;
	for (struct dirent *d; (d = readdir(dir));)
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9')
			n += parent_of(d->d_name) == self;
	closedir(dir);
	return n;
}

static u64 resident_bytes(void)
{
	CLEANUP_FCLOSE FILE *file = fopen("/proc/self/statm", "re");
	unsigned long long size, resident;

	if (!file || fscanf(file, "%llu %llu", &size, &resident) != 2)
		return 0;
	return resident * (u64)sysconf(_SC_PAGESIZE);
}

int op_self(struct agent *agent, const struct request *q, struct fail *f)
{
	struct attr_writer w = reply_begin(agent, q->id);

	attr_put_u32(&w, ATTR_COUNT, count_descriptors());
	attr_put_u32(&w, ATTR_COUNT2, count_children());
	attr_put_u64(&w, ATTR_LENGTH, resident_bytes());
	attr_put_u64(&w, ATTR_CPU_NS, agent_clock(CLOCK_THREAD_CPUTIME_ID) - agent->cpu_start_ns);
	reply_end(agent, &w);
	return 0;
}
