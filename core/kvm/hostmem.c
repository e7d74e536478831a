// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/hostmem.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

/* The files of one version of control groups. */
struct group_files {
	const char *controller; /* its field in /proc/self/cgroup */
	const char *mount;
	const char *limit, *usage;
	const char *reclaimable; /* key in memory.stat: page cache that goes when memory is wanted */
};

static const struct group_files versions[] = {
	{
		.controller = "",
		.mount = "/sys/fs/cgroup",
		.limit = "memory.max",
		.usage = "memory.current",
		.reclaimable = "inactive_file",
	},
	{
		.controller = "",
		.mount = "/sys/fs/cgroup/unified",
		.limit = "memory.max",
		.usage = "memory.current",
		.reclaimable = "inactive_file",
	},
	{
		.controller = "memory",
		.mount = "/sys/fs/cgroup/memory",
		.limit = "memory.limit_in_bytes",
		.usage = "memory.usage_in_bytes",
		.reclaimable = "total_inactive_file",
	},
};

static FILE *open_in(const char *root, const char *folder, const char *group, const char *file)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s%s%s/%s", root, folder, group, file) >= (int)sizeof(path))
		return NULL;
	return fopen(path, "re");
}

/* The number behind "KEY" or "KEY:" at a line's start. */
static bool find_number(FILE *f, const char *key, u64 *ret)
{
	char line[256];
	size_t length = strlen(key);

	while (fgets(line, sizeof(line), f)) {
		unsigned long long value;

		if (strncmp(line, key, length) != 0 || !strchr(" :", line[length]))
			continue;
		if (sscanf(line + length, "%*[ :]%llu", &value) == 1) {
			*ret = value;
			return true;
		}
	}
	return false;
}

static bool read_number(const char *root, const char *folder, const char *group, const char *file, u64 *ret)
{
	CLEANUP_FCLOSE FILE *f = open_in(root, folder, group, file);
	unsigned long long value;

	if (!f || fscanf(f, "%llu", &value) != 1)
		return false; // "max", or there is no such file
	*ret = value;
	return true;
}

/* What one group leaves; UINT64_MAX when it sets no limit. */
static u64 group_left(const char *root, const struct group_files *files, const char *group)
{
	u64 limit, usage, cache = 0;

	if (!read_number(root, files->mount, group, files->limit, &limit) ||
	    !read_number(root, files->mount, group, files->usage, &usage))
		return UINT64_MAX;

	CLEANUP_FCLOSE FILE *stat = open_in(root, files->mount, group, "memory.stat");

	if (stat && !find_number(stat, files->reclaimable, &cache))
		cache = 0;
	usage -= cache < usage ? cache : usage;
	return limit > usage ? limit - usage : 0;
}

/* The group and all above it, up to the mount point: in a container that may be all there is to see. */
static u64 groups_left(const char *root, const struct group_files *files, char *group)
{
	u64 least = UINT64_MAX;

	for (;;) {
		u64 left = group_left(root, files, group);

		if (left < least)
			least = left;
		if (!*group)
			return least;

		char *slash = strrchr(group, '/');

		*(slash ? slash : group) = '\0';
	}
}

/* The path of this process's group under a controller, without a trailing slash. */
static bool find_group(const char *root, const char *controller, char path[static PATH_MAX])
{
	CLEANUP_FCLOSE FILE *f = open_in(root, "", "", "proc/self/cgroup");
	char line[PATH_MAX];

	while (f && fgets(line, sizeof(line), f)) {
		char *names = strchr(line, ':');
		char *group = names ? strchr(names + 1, ':') : NULL;

		if (!group)
			continue;
		*group++ = '\0';
		if (strcmp(names + 1, controller) != 0)
			continue;
		group[strcspn(group, "\n")] = '\0';
		strcpy(path, strcmp(group, "/") == 0 ? "" : group);
		return true;
	}
	return false;
}

u64 host_memory_available(const char *root)
{
	CLEANUP_FCLOSE FILE *f = open_in(root, "", "", "proc/meminfo");
	char group[PATH_MAX];
	u64 kib;

	if (!f || !find_number(f, "MemAvailable", &kib))
		return 0;

	u64 available = kib << 10;

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		if (!find_group(root, versions[i].controller, group))
			continue;

		u64 left = groups_left(root, &versions[i], group);

		if (left < available)
			available = left;
	}
	return available;
}
