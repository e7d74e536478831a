// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm/hostmem.h"

#define MIB (1ULL << 20)

/* A folder that looks like a machine's root. */
static int root_create(void **state)
{
	char *root = strdup("/tmp/ktstr-test-XXXXXX");

	*state = root;
	return root && mkdtemp(root) ? 0 : -1;
}

static int root_destroy(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", (char *)*state);
	free(*state);
	return system(command);
}

static void put(const char *root, const char *path, const char *text)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(full, 0755);
		*slash = '/';
	}

	FILE *f = fopen(full, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void put_meminfo(const char *root)
{
	put(root, "proc/meminfo",
	    "MemTotal:        8388608 kB\nMemFree:          102400 kB\nMemAvailable:    4194304 kB\n");
}

static void without_groups_it_is_what_the_host_has(void **state)
{
	put_meminfo(*state);
	assert_int_equal(host_memory_available(*state), 4096 * MIB);
}

static void without_proc_it_is_unknown(void **state)
{
	assert_int_equal(host_memory_available(*state), 0);
}

static void a_group_leaves_its_limit_less_what_is_used(void **state)
{
	put_meminfo(*state);
	put(*state, "proc/self/cgroup", "0::/a/b\n");
	put(*state, "sys/fs/cgroup/a/b/memory.max", "1073741824\n");
	put(*state, "sys/fs/cgroup/a/b/memory.current", "314572800\n");
	put(*state, "sys/fs/cgroup/a/b/memory.stat", "anon 1\nfile 2\ninactive_file 104857600\n");
	assert_int_equal(host_memory_available(*state), (1024 - 300 + 100) * MIB);
}

static void the_tightest_group_above_counts(void **state)
{
	put_meminfo(*state);
	put(*state, "proc/self/cgroup", "0::/a/b\n");
	put(*state, "sys/fs/cgroup/a/b/memory.max", "max\n");
	put(*state, "sys/fs/cgroup/a/b/memory.current", "1048576\n");
	put(*state, "sys/fs/cgroup/a/memory.max", "536870912\n");
	put(*state, "sys/fs/cgroup/a/memory.current", "1048576\n");
	assert_int_equal(host_memory_available(*state), 511 * MIB);
}

static void a_looser_group_changes_nothing(void **state)
{
	put_meminfo(*state);
	put(*state, "proc/self/cgroup", "0::/a\n");
	put(*state, "sys/fs/cgroup/a/memory.max", "68719476736\n");
	put(*state, "sys/fs/cgroup/a/memory.current", "0\n");
	assert_int_equal(host_memory_available(*state), 4096 * MIB);
}

static void a_group_that_is_full_leaves_nothing(void **state)
{
	put_meminfo(*state);
	put(*state, "proc/self/cgroup", "0::/a\n");
	put(*state, "sys/fs/cgroup/a/memory.max", "1048576\n");
	put(*state, "sys/fs/cgroup/a/memory.current", "2097152\n");
	assert_int_equal(host_memory_available(*state), 0);
}

static void version_1_has_other_names(void **state)
{
	put_meminfo(*state);
	put(*state, "proc/self/cgroup", "4:memory:/job\n1:cpu:/\n0::/\n");
	put(*state, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "268435456\n");
	put(*state, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", "134217728\n");
	put(*state, "sys/fs/cgroup/memory/job/memory.stat", "cache 5\ninactive_file 1\ntotal_inactive_file 1048576\n");
	assert_int_equal(host_memory_available(*state), 129 * MIB);
}

/* A container's /proc may name a path of the host that it does not see; its own limit is at the mount. */
static void in_a_container_the_mount_itself_counts(void **state)
{
	put_meminfo(*state);
	put(*state, "proc/self/cgroup", "0::/system.slice/not-here\n");
	put(*state, "sys/fs/cgroup/memory.max", "268435456\n");
	put(*state, "sys/fs/cgroup/memory.current", "0\n");
	assert_int_equal(host_memory_available(*state), 256 * MIB);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, root_create, root_destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_groups_it_is_what_the_host_has),
		TEST(without_proc_it_is_unknown),
		TEST(a_group_leaves_its_limit_less_what_is_used),
		TEST(the_tightest_group_above_counts),
		TEST(a_looser_group_changes_nothing),
		TEST(a_group_that_is_full_leaves_nothing),
		TEST(version_1_has_other_names),
		TEST(in_a_container_the_mount_itself_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
