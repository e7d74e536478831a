// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * PID 1 of the guest that scripts/soak-helper runs: everything at once that a scheduler test does
 * to a machine (spinning, floating point, forking, switching, page faults), for as many seconds as
 * soak=SECONDS on the kernel's command line says, with a line about every ten seconds.
 *
 * Each worker checks its own results: a register lost in a world switch shows as a mismatch.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum kind { SPIN,
	    FLOAT,
	    FORK,
	    PIPE,
	    FAULT,
	    KINDS };

struct load {
	atomic_ulong done[KINDS];
	atomic_ulong wrong;
};

struct worker {
	struct load *load;
	enum kind kind;
	int seed;
};

/* Integers in as many registers as there are. */
static uint64_t spin(uint64_t seed)
{
	uint64_t a = seed, b = ~seed, c = seed * 3, d = seed + 7, e = 1, f = 2;

	for (int i = 0; i < 2000000; i++) {
		a = a * 6364136223846793005u + b;
		b ^= a >> 13;
		c += b ^ d;
		d = (d << 7) | (d >> 57);
		e += c * d;
		f ^= e + a;
	}
	return a ^ b ^ c ^ d ^ e ^ f;
}

/* The same sum twice gives the same bits, unless a vector register was lost on the way. */
static uint64_t floats(uint64_t seed)
{
	double lanes[8], sum = 0;
	uint64_t bits;

	for (int i = 0; i < 8; i++)
		lanes[i] = 1.0 + seed + i;
	for (int n = 0; n < 100000; n++)
		for (int i = 0; i < 8; i++)
			lanes[i] = lanes[i] * 1.0000001 + 1.0 / (lanes[i] + n);
	for (int i = 0; i < 8; i++)
		sum += sqrt(lanes[i]);
	memcpy(&bits, &sum, sizeof(bits));
	return bits;
}

static int fork_once(int seed)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(seed & 63);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == (seed & 63);
}

static int pipe_once(int there[2], int back[2], uint32_t value)
{
	uint32_t got = 0;

	return write(there[1], &value, 4) == 4 && read(back[0], &got, 4) == 4 && got == value;
}

static void echo(int from, int to)
{
	uint32_t value;

	while (read(from, &value, 4) == 4)
		if (write(to, &value, 4) != 4)
			break;
	_exit(0);
}

static int fault_once(int seed)
{
	const size_t size = 4 << 20;
	unsigned char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int good = memory != MAP_FAILED;

	if (!good)
		return 0;
	for (size_t at = 0; at < size; at += 4096)
		memory[at] = seed + (at >> 12);
	for (size_t at = 0; at < size; at += 4096)
		good &= memory[at] == (unsigned char)(seed + (at >> 12));
	munmap(memory, size);
	return good;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t spun = 0, floated = 0;
	int there[2], back[2];

	if (w->kind == PIPE) {
		if (pipe(there) || pipe(back))
			return NULL;
		if (!fork())
			echo(there[0], back[1]);
	}
	if (w->kind == SPIN)
		spun = spin(w->seed);
	if (w->kind == FLOAT)
		floated = floats(w->seed);
	for (uint32_t n = 0;; n++) {
		int good = 0;

		switch (w->kind) {
		case SPIN:
			good = spin(w->seed) == spun;
			break;
		case FLOAT:
			good = floats(w->seed) == floated;
			break;
		case FORK:
			good = fork_once(n + w->seed);
			break;
		case PIPE:
			good = pipe_once(there, back, n);
			break;
		default:
			good = fault_once(n + w->seed);
		}
		atomic_fetch_add(good ? &w->load->done[w->kind] : &w->load->wrong, 1);
	}
	return NULL;
}

static int seconds_wanted(void)
{
	char line[4096] = "";
	FILE *f = fopen("/proc/cmdline", "re");
	int seconds = 60;

	if (f && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, "soak=");

		if (at)
			seconds = atoi(at + 5);
	}
	return seconds;
}

static void start_all(struct load *load, int each)
{
	for (int i = 0; i < each * KINDS; i++) {
		struct worker *w = malloc(sizeof(*w));
		pthread_t thread;

		*w = (struct worker){ load, i % KINDS, i };
		if (pthread_create(&thread, NULL, work, w))
			printf("SOAK pthread_create failed\n");
	}
}

static void beat(struct load *l, long at)
{
	printf("SOAK %ld spin %lu float %lu fork %lu pipe %lu fault %lu wrong %lu\n", at,
	       l->done[SPIN], l->done[FLOAT], l->done[FORK], l->done[PIPE], l->done[FAULT],
	       l->wrong);
	fflush(stdout);
}

int main(void)
{
	struct load *load = calloc(1, sizeof(*load));
	long cpus, seconds;

	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, "");
	seconds = seconds_wanted();
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	printf("SOAK begins: %ld CPUs, %ld seconds\n", cpus, seconds);
	start_all(load, cpus / 2 + 1);

	time_t start = time(NULL);

	for (long at = 0; at < seconds; at = time(NULL) - start) {
		sleep(10);
		beat(load, time(NULL) - start);
	}
	printf("SOAK ends: %s\n", load->wrong ? "WRONG" : "good");
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
	return 0;
}
