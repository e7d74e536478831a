// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "work/work.h"

enum { FUTEX_WAIT_OP = 0,
       FUTEX_WAKE_OP = 1 };

static u64 read_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

u64 work_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int work_futex_wait(u32 *word, u32 value)
{
	return syscall(SYS_futex, word, FUTEX_WAIT_OP, value, NULL, NULL, 0) ? errno : 0;
}

void work_futex_wake(u32 *word, s32 count)
{
	syscall(SYS_futex, word, FUTEX_WAKE_OP, count, NULL, NULL, 0);
}

u64 worker_iterate(struct worker *w, u64 units)
{
	struct wire_worker_report *r = &w->slot->report;
	u64 now = work_now();
	u32 cpu = (u32)sched_getcpu();
	u64 gap = now - w->last_ns;

	gap = gap > w->asleep_ns ? gap - w->asleep_ns : 0;
	r->work_units += units + w->units;
	r->iterations++;
	r->wall_ns = now - w->line->start_ns;
	if (gap > r->max_gap_ns) {
		r->max_gap_ns = gap;
		r->max_gap_at_ns = r->wall_ns;
		r->max_gap_cpu = cpu;
	}
	if (cpu != w->cpu) {
		r->migrations += w->cpu != UINT32_MAX;
		w->cpu = cpu;
		if (cpu < WORK_CPUS)
			w->slot->cpus[cpu / 64] |= 1ull << cpu % 64;
	}
	w->last_ns = now;
	w->asleep_ns = 0;
	w->units = 0;
	return now;
}

/* The register keeps the compiler from folding the loop; no PAUSE, which a hypervisor may exit on. */
static void spin(u64 steps)
{
	for (u64 x = steps; steps; steps--) {
		x = x * 5 + 1;
		__asm__ volatile(""
				 : "+r"(x));
	}
}

void worker_spin(struct worker *w, u64 steps)
{
	const u64 longest = 65536;

	for (; steps > longest; steps -= longest) {
		spin(longest);
		worker_iterate(w, longest);
		if (!worker_is_running(w))
			return;
	}
	spin(steps);
	w->units += steps;
}

/* xorshift64*: the low bits of the product are the weak ones. */
static u64 random_below(struct worker *w, u64 n)
{
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return (w->random * 0x2545f4914f6cdd1d >> 11) % n;
}

/* Algorithm R: after n wakes each of them is in the sample with the same chance. */
static void keep_sample(struct worker *w, u64 latency)
{
	u64 n = w->slot->wakes++;
	u64 at = n < WORK_SAMPLES ? n : random_below(w, n + 1);

	if (at < WORK_SAMPLES)
		w->slot->samples[at] = latency;
}

static void account_sleep(struct worker *w, u64 ns)
{
	w->asleep_ns += ns;
	w->slot->report.blocked_ns += ns;
}

void worker_woken(struct worker *w, u64 began, u64 due)
{
	u64 now = work_now();

	account_sleep(w, due > began ? due - began : 0);
	keep_sample(w, now > due ? now - due : 0);
}

void worker_interrupted(struct worker *w, u64 began)
{
	account_sleep(w, work_now() - began);
}

void worker_sleep_until(struct worker *w, u64 due)
{
	struct timespec ts = { .tv_sec = (time_t)(due / 1000000000), .tv_nsec = (long)(due % 1000000000) };
	u64 began = work_now();

	while (worker_is_running(w)) {
		if (!clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL)) {
			worker_woken(w, began, due);
			return;
		}
	}
	worker_interrupted(w, began);
}

void worker_fail(struct worker *w, int error, const char *what)
{
	struct worker_slot *s = w->slot;

	s->error = error;
	if (error)
		snprintf(s->reason, sizeof(s->reason), "%s: %s", what, strerror(error));
	else
		snprintf(s->reason, sizeof(s->reason), "%s", what);
	__atomic_store_n(&s->state, WORKER_FAILED, __ATOMIC_RELEASE);
}

/* Time spent runnable and waiting; WIRE_UNKNOWN where the kernel does not count it. */
static u64 read_run_delay(int fd)
{
	unsigned long long ran, waited, slices;
	char text[128];
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return WIRE_UNKNOWN;
	text[n] = 0;
	if (sscanf(text, "%llu %llu %llu", &ran, &waited, &slices) != 3 || !slices)
		return WIRE_UNKNOWN;
	return waited;
}

static void wait_at_line(struct worker *w, int line_fd)
{
	struct worker_slot *s = w->slot;
	const u64 one = 1;

	/* Every page that the run writes is there before it begins. */
	memset(s->samples, 0, sizeof(s->samples));
	memset(s->cpus, 0, sizeof(s->cpus));
	s->report.run_delay_ns = s->report.cpu_ns = WIRE_UNKNOWN;
	w->cpu = UINT32_MAX;
	w->schedstat_fd = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
	w->run_delay_start_ns = read_run_delay(w->schedstat_fd);

	__atomic_store_n(&s->state, WORKER_AT_LINE, __ATOMIC_RELEASE);
	if (write(line_fd, &one, sizeof(one)) != sizeof(one)) {
		worker_fail(w, errno, "cannot report to the start line");
		_exit(1);
	}
	close(line_fd);
	w->cpu_start_ns = read_clock(CLOCK_THREAD_CPUTIME_ID);
	while (__atomic_load_n(&w->line->epoch, __ATOMIC_ACQUIRE) == w->epoch && worker_is_running(w))
		work_futex_wait((u32 *)&w->line->epoch, w->epoch);
}

static void finish(struct worker *w)
{
	struct wire_worker_report *r = &w->slot->report;
	u64 before, cpu, after, delay;

	/* Two clocks at one moment: again when something came in between. */
	for (int tries = 0; tries < 8; tries++) {
		before = work_now();
		cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
		after = work_now();
		if (after - before < 20000)
			break;
	}
	r->wall_ns = before - w->line->start_ns;
	r->cpu_ns = cpu - w->cpu_start_ns;
	delay = read_run_delay(w->schedstat_fd);
	if (delay != WIRE_UNKNOWN && w->run_delay_start_ns != WIRE_UNKNOWN)
		r->run_delay_ns = delay - w->run_delay_start_ns;
}

static void wake_up(int number)
{
	(void)number;
}

static void set_signals(void)
{
	struct sigaction action = { .sa_handler = wake_up };

	/* No SA_RESTART: whatever it blocks in returns EINTR, and it looks at the stop flag. */
	sigaction(WORK_STOP_SIGNAL, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

void worker_main(struct worker *w, const struct work_type_info *info, const struct work_ops *ops, int line_fd)
{
	struct worker_slot *s = w->slot;

	set_signals();
	prctl(PR_SET_NAME, info->name);
	/* Timers to the point, so that a late wake is the scheduler's and not the slack's. */
	prctl(PR_SET_TIMERSLACK, 1);
	w->random = 0x9e3779b97f4a7c15ull * (s->report.index + 1) ^ s->report.group;
	wait_at_line(w, line_fd);

	/* Stopped before it was ever started: nothing to measure. */
	if (__atomic_load_n(&w->line->epoch, __ATOMIC_ACQUIRE) == w->epoch) {
		s->report.run_delay_ns = s->report.cpu_ns = 0;
	} else {
		__atomic_store_n(&s->state, WORKER_RUNNING, __ATOMIC_RELEASE);
		w->last_ns = w->line->start_ns;
		ops->run(w);
		finish(w);
	}
	if (s->state == WORKER_FAILED)
		_exit(1);
	__atomic_store_n(&s->state, WORKER_DONE, __ATOMIC_RELEASE);
	_exit(0);
}
