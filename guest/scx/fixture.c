// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ktstr-bpf-fixture: loads fixture.bpf.c into this machine's kernel, fills its maps, says what it made, and
 * keeps it there until its standard input ends or a signal ends it. README.md says what it prints.
 *
 * It tells, as the guest's own account, what bpftool cannot dump: task storage, ring buffer, arena.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "fixture.h"
#include "fixture.bpf.skel.h"

enum { CHILDREN = FX_TASK_COUNT - 1 };

_Noreturn static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn static void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("ktstr-bpf-fixture: ", stderr);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void insert(const struct bpf_map *map, const void *key, const void *value)
{
	if (bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY))
		die("%s: cannot insert: %s", bpf_map__name(map), strerror(errno));
}

/* ----- what is filled in from here ----- */

static void fill_arrays(const struct fixture *skel)
{
	for (__u32 i = 0; i < FX_ARRAY_COUNT; i++) {
		struct fx_value value;

		fx_make_value(&value, FX_ARRAY, i);
		insert(skel->maps.fx_array, &i, &value);
	}
}

static void fill_hashes(const struct fixture *skel)
{
	for (__u32 i = 0; i < FX_HASH_COUNT; i++) {
		struct fx_key key;
		struct fx_value value;

		/* The padding is compared, too. */
		memset(&key, 0, sizeof(key));
		key.number = 1000 + i;
		memcpy(key.tag, (char[]){ 'k', 'e', 'y', (char)('0' + i), '\0' }, sizeof(key.tag));
		fx_make_value(&value, FX_HASH, i);
		insert(skel->maps.fx_hash, &key, &value);
	}
	for (__u32 i = 0; i < FX_HASH_LAZY_COUNT; i++) {
		__u32 key = 2000 + i;
		__u64 value = fx_id(FX_HASH_LAZY, 0, i);

		insert(skel->maps.fx_hash_lazy, &key, &value);
	}
	for (__u32 i = 0; i < FX_LRU_COUNT; i++) {
		__u64 key = 4000 + i;
		struct fx_point value = { .x = (__s32)i, .y = -(__s32)i };

		insert(skel->maps.fx_lru, &key, &value);
	}
}

/* The system call takes the values of all possible CPUs, each padded to 8 bytes. */
static void fill_percpu(const struct fixture *skel, __u32 cpus)
{
	__u64 *values = calloc(cpus, sizeof(*values));

	if (!values)
		die("out of memory");
	for (__u32 i = 0; i < FX_PERCPU_ARRAY_COUNT; i++) {
		for (__u32 cpu = 0; cpu < cpus; cpu++)
			values[cpu] = fx_id(FX_PERCPU_ARRAY, cpu, i);
		insert(skel->maps.fx_percpu_array, &i, values);
	}
	for (__u32 i = 0; i < FX_PERCPU_HASH_COUNT; i++) {
		__u32 key = 3000 + i;

		for (__u32 cpu = 0; cpu < cpus; cpu++)
			values[cpu] = (__u32)FX_PERCPU_HASH << 24 | cpu << 8 | i;
		insert(skel->maps.fx_percpu_hash, &key, values);
	}
	free(values);
}

/* A task that sleeps in read() for as long as we live: the pipe's other end stays open in here. */
static pid_t start_child(int number)
{
	int ends[2];
	char name[16];

	if (pipe(ends))
		die("cannot make a pipe: %s", strerror(errno));
	pid_t pid = fork();

	if (pid < 0)
		die("cannot fork: %s", strerror(errno));
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(name, sizeof(name), "fx-child-%d", number);
	prctl(PR_SET_NAME, name);
	read(ends[0], name, 1);
	_exit(0);
}

/* Task storage is looked up by pidfd. Reads back what it has set. */
static void fill_task(const struct fixture *skel, pid_t pid, __u32 i)
{
	struct fx_value value;
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0)
		die("cannot open process %d: %s", pid, strerror(errno));
	fx_make_value(&value, FX_TASK, i);
	insert(skel->maps.fx_task, &pidfd, &value);
	memset(&value, 0, sizeof(value));
	if (bpf_map_lookup_elem(bpf_map__fd(skel->maps.fx_task), &pidfd, &value))
		die("cannot read the storage of process %d: %s", pid, strerror(errno));
	printf("TASK %d %#llx %s\n", pid, (unsigned long long)value.id, value.name);
	close(pidfd);
}

static void run(const struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_test_run_opts, options);

	if (bpf_prog_test_run_opts(bpf_program__fd(prog), &options))
		die("%s: cannot run: %s", bpf_program__name(prog), strerror(errno));
	if (options.retval)
		die("%s: failed with %u", bpf_program__name(prog), options.retval);
}

/* ----- what is told ----- */

static void tell_map(const struct bpf_map *map)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);

	if (bpf_map_get_info_by_fd(bpf_map__fd(map), &info, &size))
		die("%s: no information: %s", bpf_map__name(map), strerror(errno));
	printf("MAP %u %s %s\n", info.id, libbpf_bpf_map_type_str(info.type), info.name);
}

static void tell_program(const struct bpf_program *prog)
{
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);

	if (bpf_prog_get_info_by_fd(bpf_program__fd(prog), &info, &size))
		die("%s: no information: %s", bpf_program__name(prog), strerror(errno));
	printf("PROG %u %s %s\n", info.id, libbpf_bpf_prog_type_str(info.type), info.name);
}

/* Its records, none of which is consumed. Behind the producer's page the data follow, twice. */
static void tell_ringbuf(const struct bpf_map *map)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const size_t size = page + 2 * FX_RINGBUF_BYTES;
	const char *pages = mmap(NULL, size, PROT_READ, MAP_SHARED, bpf_map__fd(map), (off_t)page);

	if (pages == MAP_FAILED)
		die("%s: cannot map: %s", bpf_map__name(map), strerror(errno));
	unsigned long produced = *(const unsigned long *)pages;

	for (unsigned long at = 0; at < produced;) {
		const __u32 *header = (const __u32 *)(pages + page + at);
		const struct fx_record *record = (const struct fx_record *)(header + 2);
		__u32 length = header[0] & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		printf("RECORD %lu %u %#llx %s%s\n", at, length, (unsigned long long)record->id, record->text,
		       header[0] & BPF_RINGBUF_DISCARD_BIT ? " discarded" : "");
		at += (BPF_RINGBUF_HDR_SZ + length + 7) / 8 * 8;
	}
	munmap((void *)pages, size);
}

/* The list as user space sees it: libbpf has mapped the arena at the address that the pointers are for. */
static void tell_arena(const struct fixture *skel)
{
	struct node {
		const struct node *next;
		__u64 id;
		__u32 index;
	};
	const struct node *node = (const struct node *)skel->bss->fx_arena_head;

	for (; node; node = node->next)
		printf("NODE %p %u %#llx\n", (const void *)node, node->index, (unsigned long long)node->id);
}

static void tell(const struct fixture *skel)
{
	struct bpf_program *prog;
	struct bpf_map *map;

	bpf_object__for_each_map(map, skel->obj)
	{
		if (bpf_map__autocreate(map))
			tell_map(map);
	}
	bpf_object__for_each_program(prog, skel->obj)
	{
		if (bpf_program__autoload(prog))
			tell_program(prog);
	}
	tell_ringbuf(skel->maps.fx_ringbuf);
	tell_arena(skel);
}

/* ----- all of it ----- */

static struct fixture *load(void)
{
	struct fixture *skel = fixture__open();

	if (!skel)
		die("cannot open the object: %s", strerror(errno));
	if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_ARENA, NULL) != 1) {
		bpf_map__set_autocreate(skel->maps.fx_arena, false);
		bpf_program__set_autoload(skel->progs.fx_fill_arena, false);
	}
	skel->rodata->fx_ro_u32 = 0xdecade;
	skel->rodata->fx_ro_point = (struct fx_point){ .x = 33, .y = -33 };
	skel->bss->fx_pid = (__u32)getpid();
	int err = fixture__load(skel);

	if (err)
		die("cannot load: %s", strerror(-err));
	err = fixture__attach(skel);
	if (err)
		die("cannot attach: %s", strerror(-err));
	return skel;
}

static void count(int calls)
{
	while (calls--)
		syscall(SYS_getpgid, 0);
}

int main(void)
{
	pid_t children[CHILDREN];
	int cpus = libbpf_num_possible_cpus();
	char line[256];

	if (cpus <= 0)
		die("cannot tell how many CPUs there can be");
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < CHILDREN; i++)
		children[i] = start_child(i);
	struct fixture *skel = load();

	fill_arrays(skel);
	fill_hashes(skel);
	fill_percpu(skel, (__u32)cpus);
	run(skel->progs.fx_fill);
	if (bpf_program__autoload(skel->progs.fx_fill_arena))
		run(skel->progs.fx_fill_arena);
	printf("CPUS %d\n", cpus);
	fill_task(skel, getpid(), 0);
	for (int i = 0; i < CHILDREN; i++)
		fill_task(skel, children[i], (__u32)i + 1);
	tell(skel);
	count(FX_CALLS);
	puts("READY");
	/* Each line of input is one more call that the program counts. */
	while (fgets(line, sizeof(line), stdin)) {
		count(1);
		printf("COUNTED %llu\n", (unsigned long long)skel->bss->fx_counted);
	}
	fixture__destroy(skel);
	return 0;
}
