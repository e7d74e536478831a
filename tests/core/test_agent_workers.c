// SPDX-License-Identifier: GPL-2.0-or-later
#include <dirent.h>

#include "core/agent_client.h"
#include "work/table.h"

/* A group's plan in the request being put together. */
static void plan(struct client *c, const char *work, u32 count)
{
	client_begin(c);
	attr_put_string(&c->attrs, ATTR_WORK, work);
	attr_put_u32(&c->attrs, ATTR_COUNT, count);
}

static u32 create(struct client *c)
{
	u32 error = client_call(c, OP_WORKERS_CREATE);

	if (error)
		fail_msg("%s", reply_message(c));
	return (u32)reply_number(c, ATTR_GROUP);
}

static void start(struct client *c)
{
	client_begin(c);
	assert_int_equal(client_call(c, OP_WORKERS_START), 0);
}

static void stop(struct client *c, u32 timeout_ms, u32 reports)
{
	c->reports = 0;
	client_begin(c);
	attr_put_u32(&c->attrs, ATTR_TIMEOUT_MS, timeout_ms);
	assert_int_equal(client_call(c, OP_WORKERS_STOP), 0);
	assert_int_equal(reply_number(c, ATTR_COUNT), reports);
	assert_int_equal(c->reports, reports);
}

/* The text of /proc/PID/FILE. */
static void read_proc(pid_t pid, const char *file, char *out, size_t capacity)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, out, capacity - 1);
	out[n > 0 ? n : 0] = 0;
	close(fd);
}

static u32 find_workers(struct client *c, pid_t *pids, u32 max)
{
	DIR *dir = opendir("/proc");
	u32 count = 0;

	for (struct dirent *d; (d = readdir(dir));) {
		char text[512] = "", *at;
		int parent;

		if (atoi(d->d_name) <= 0)
			continue;
		read_proc(atoi(d->d_name), "stat", text, sizeof(text));
		at = strrchr(text, ')');
		if (at && sscanf(at, ") %*c %d", &parent) == 1 && parent == c->pid) {
			assert_true(count < max);
			pids[count++] = atoi(d->d_name);
		}
	}
	closedir(dir);
	return count;
}

/* Until each of the agent's children has been on a CPU so many times more, as the kernel counts. */
static void let_them_run(struct client *c, u64 slices)
{
	pid_t pids[16];
	u32 count = find_workers(c, pids, ARRAY_SIZE(pids));
	unsigned long long ran, waited, now, first[16];
	char text[128];

	assert_true(count > 0);
	for (u32 i = 0; i < count; i++) {
		read_proc(pids[i], "schedstat", text, sizeof(text));
		assert_int_equal(sscanf(text, "%llu %llu %llu", &ran, &waited, &first[i]), 3);
		do {
			assert_int_equal(client_ping(c), 0);
			read_proc(pids[i], "schedstat", text, sizeof(text));
			assert_int_equal(sscanf(text, "%llu %llu %llu", &ran, &waited, &now), 3);
		} while (now < first[i] + slices && ran < slices * 20000000ull);
	}
}

/* What is true of every report of a worker that ran. */
static void check_report(struct client *c, u32 i, u32 group, u32 index)
{
	const struct wire_worker_report *r = &c->workers[i].report;

	assert_string_equal(c->workers[i].reason, "");
	assert_int_equal(r->flags, 0);
	assert_int_equal(r->group, group);
	assert_int_equal(r->index, index);
	assert_true(r->work_units >= r->iterations || r->iterations == 0);
	assert_true(r->iterations > 0 && r->work_units > 0);
	assert_true(r->wall_ns > 0 && r->cpu_ns > 0);
	/* Both clocks start within the start itself. */
	assert_true(r->cpu_ns < r->wall_ns + 50000000);
	assert_true(r->blocked_ns < r->wall_ns);
	assert_true(r->run_delay_ns != WIRE_UNKNOWN);
	assert_true(r->max_gap_ns > 0 && r->max_gap_ns <= r->wall_ns && r->max_gap_at_ns <= r->wall_ns);
	assert_true(r->migrations < r->iterations);
	assert_true(strlen(c->workers[i].cpus) > 0);
}

static u64 wakes(struct client *c, u32 i)
{
	return c->workers[i].report.wake_count_low | (u64)c->workers[i].report.wake_count_high << 32;
}

static void run_type(struct client *c, const char *work, u32 count, bool sleeps)
{
	u32 group = create(c);
	pid_t pids[16];
	char comm[64];

	assert_int_equal(find_workers(c, pids, ARRAY_SIZE(pids)), count);
	for (u32 i = 0; i < count; i++) {
		read_proc(pids[i], "comm", comm, sizeof(comm));
		comm[strcspn(comm, "\n")] = 0;
		assert_string_equal(comm, work);
	}
	start(c);
	let_them_run(c, 5);
	stop(c, 10000, count);
	for (u32 i = 0; i < count; i++) {
		check_report(c, i, group, i);
		assert_int_equal(c->workers[i].samples, wakes(c, i) < 1024 ? wakes(c, i) : 1024);
		if (sleeps) {
			assert_true(wakes(c, i) > 0);
			assert_true(c->workers[i].report.blocked_ns > 0);
		} else {
			assert_int_equal(wakes(c, i), 0);
			assert_int_equal(c->workers[i].report.blocked_ns, 0);
		}
	}
	assert_int_equal(find_workers(c, pids, ARRAY_SIZE(pids)), 0);
}

static void spin_wait_computes(void **state)
{
	struct client *c = *state;

	plan(c, "SpinWait", 3);
	run_type(c, "SpinWait", 3, false);
	assert_int_equal(c->workers[0].report.work_units % 1024, 0);
}

static void yield_heavy_yields(void **state)
{
	struct client *c = *state;

	plan(c, "YieldHeavy", 2);
	run_type(c, "YieldHeavy", 2, false);
	assert_int_equal(c->workers[0].report.work_units, c->workers[0].report.iterations);
}

static void bursty_sleeps_between_bursts(void **state)
{
	struct client *c = *state;

	plan(c, "Bursty", 2);
	attr_put_param(&c->attrs, ATTR_PARAM, 0, 1);
	attr_put_param(&c->attrs, ATTR_PARAM, 1, 2);
	run_type(c, "Bursty", 2, true);
	/* A sleep of 2 ms asked for is a sleep of 2 ms accounted for, however late the wake; the last one
	 * may have been cut short. */
	for (u32 i = 0; i < 2; i++) {
		u64 blocked = c->workers[i].report.blocked_ns, n = wakes(c, i);

		assert_true(blocked > n * 1990000 && blocked < n * 2000000 + 60000000);
	}
}

static void futex_ping_pong_takes_turns(void **state)
{
	struct client *c = *state;
	u64 a, b;

	plan(c, "FutexPingPong", 2);
	run_type(c, "FutexPingPong", 2, true);
	a = c->workers[0].report.iterations;
	b = c->workers[1].report.iterations;
	assert_true(a == b || a == b + 1 || b == a + 1);
	assert_true(c->workers[0].report.work_units == a * 1025);
}

static void pipe_io_keeps_pairs_in_step(void **state)
{
	struct client *c = *state;

	plan(c, "PipeIo", 4);
	attr_put_param(&c->attrs, ATTR_PARAM, 0, 100000);
	run_type(c, "PipeIo", 4, true);
	for (u32 pair = 0; pair < 2; pair++) {
		u64 a = c->workers[2 * pair].report.work_units / 100001;
		u64 b = c->workers[2 * pair + 1].report.work_units / 100001;

		assert_true(a <= b + 1 && b <= a + 1);
	}
}

static void groups_start_and_stop_together(void **state)
{
	struct client *c = *state;
	u32 first, second;

	plan(c, "SpinWait", 1);
	first = create(c);
	plan(c, "Bursty", 2);
	attr_put_param(&c->attrs, ATTR_PARAM, 0, 1);
	attr_put_param(&c->attrs, ATTR_PARAM, 1, 1);
	second = create(c);
	assert_int_not_equal(first, second);
	start(c);
	let_them_run(c, 3);
	stop(c, 10000, 3);
	check_report(c, 0, first, 0);
	check_report(c, 1, second, 0);
	check_report(c, 2, second, 1);
	/* And again: nothing of the first run is left. */
	plan(c, "SpinWait", 1);
	first = create(c);
	start(c);
	let_them_run(c, 3);
	stop(c, 10000, 1);
	check_report(c, 0, first, 0);
	stop(c, 10000, 0);
}

static void stopped_before_the_start_they_report_nothing_done(void **state)
{
	struct client *c = *state;

	plan(c, "FutexPingPong", 4);
	create(c);
	stop(c, 10000, 4);
	for (u32 i = 0; i < 4; i++) {
		assert_int_equal(c->workers[i].report.flags, 0);
		assert_int_equal(c->workers[i].report.work_units, 0);
		assert_int_equal(c->workers[i].report.wall_ns, 0);
		assert_string_equal(c->workers[i].cpus, "");
	}
}

static void placement_is_as_asked(void **state)
{
	struct client *c = *state;
	pid_t pids[4];
	char text[4096], *at;
	int nice, policy;

	plan(c, "SpinWait", 2);
	attr_put_string(&c->attrs, ATTR_CPUS, "0");
	attr_put_u32(&c->attrs, ATTR_POLICY, 3);
	attr_put_s32(&c->attrs, ATTR_NICE, 5);
	create(c);
	assert_int_equal(find_workers(c, pids, ARRAY_SIZE(pids)), 2);
	for (u32 i = 0; i < 2; i++) {
		read_proc(pids[i], "status", text, sizeof(text));
		assert_non_null(strstr(text, "Cpus_allowed_list:\t0\n"));
		read_proc(pids[i], "stat", text, sizeof(text));
		/* Behind the name comes field 3. */
		at = strrchr(text, ')') + 2;
		for (int field = 3; field < 19; field++)
			at = strchr(at, ' ') + 1;
		nice = atoi(at);
		assert_int_equal(nice, 5);
		for (int field = 19; field < 41; field++)
			at = strchr(at, ' ') + 1;
		policy = atoi(at);
		assert_int_equal(policy, 3);
	}
	start(c);
	let_them_run(c, 2);
	stop(c, 10000, 2);
	assert_string_equal(c->workers[0].cpus, "0");
	assert_int_equal(c->workers[0].report.migrations, 0);
}

static void what_cannot_be_had_fails_the_whole_group(void **state)
{
	struct client *c = *state;
	pid_t pids[4];

	plan(c, "SpinWait", 3);
	attr_put_string(&c->attrs, ATTR_CPUS, "1023");
	assert_int_equal(client_call(c, OP_WORKERS_CREATE), EINVAL);
	assert_non_null(strstr(reply_message(c), "cannot run on CPUs 1023"));
	plan(c, "SpinWait", 1);
	attr_put_string(&c->attrs, ATTR_CGROUP, "none");
	assert_int_equal(client_call(c, OP_WORKERS_CREATE), ENOENT);
	assert_non_null(strstr(reply_message(c), "cannot enter cgroup 'none'"));
	do {
		client_begin(c);
		assert_int_equal(client_call(c, OP_SELF), 0);
	} while (reply_number(c, ATTR_COUNT2));
	assert_int_equal(find_workers(c, pids, ARRAY_SIZE(pids)), 0);
	stop(c, 10000, 0);
}

static void refused(struct client *c, const char *words)
{
	assert_int_equal(client_call(c, OP_WORKERS_CREATE), EINVAL);
	if (!strstr(reply_message(c), words))
		fail_msg("'%s' does not say '%s'", reply_message(c), words);
}

static void a_plan_that_makes_no_sense_is_refused(void **state)
{
	struct client *c = *state;

	plan(c, "spinwait", 1);
	refused(c, "no work type 'spinwait'");
	plan(c, "SpinWait", 0);
	refused(c, "1 to 4096 workers");
	plan(c, "SpinWait", 4097);
	refused(c, "1 to 4096 workers");
	plan(c, "PipeIo", 3);
	refused(c, "PipeIo needs a multiple of 2");
	plan(c, "SpinWait", 1);
	attr_put_param(&c->attrs, ATTR_PARAM, 0, 1);
	refused(c, "SpinWait has no parameter 0");
	plan(c, "Bursty", 1);
	attr_put_param(&c->attrs, ATTR_PARAM, 0, 0);
	refused(c, "burst_ms is from 1");
	plan(c, "Bursty", 1);
	attr_put_param(&c->attrs, ATTR_PARAM, UINT64_MAX, 1);
	refused(c, "Bursty has no parameter");
}

static void a_worker_that_died_is_reported_with_the_reason(void **state)
{
	struct client *c = *state;
	pid_t pids[4];

	plan(c, "SpinWait", 1);
	create(c);
	start(c);
	let_them_run(c, 2);
	assert_int_equal(find_workers(c, pids, ARRAY_SIZE(pids)), 1);
	assert_int_equal(kill(pids[0], SIGSEGV), 0);
	stop(c, 10000, 1);
	assert_int_equal(c->workers[0].report.flags, REPORT_FAILED);
	assert_string_equal(c->workers[0].reason, "ended by signal 11");
	assert_true(c->workers[0].report.iterations > 0);
}

static void a_worker_that_does_not_end_is_killed(void **state)
{
	struct client *c = *state;
	pid_t pids[4];

	plan(c, "SpinWait", 1);
	create(c);
	start(c);
	let_them_run(c, 2);
	assert_int_equal(find_workers(c, pids, ARRAY_SIZE(pids)), 1);
	assert_int_equal(kill(pids[0], SIGSTOP), 0);
	stop(c, 20, 1);
	assert_int_equal(c->workers[0].report.flags, REPORT_KILLED);
	assert_true(c->workers[0].report.iterations > 0);
	assert_true(c->workers[0].report.cpu_ns == WIRE_UNKNOWN);
	assert_int_equal(find_workers(c, pids, ARRAY_SIZE(pids)), 0);
}

static void many_workers_leave_nothing_behind(void **state)
{
	struct client *c = *state;
	u64 descriptors;

	client_begin(c);
	assert_int_equal(client_call(c, OP_SELF), 0);
	descriptors = reply_number(c, ATTR_COUNT);
	for (int i = 0; i < 5; i++) {
		plan(c, i % 2 ? "PipeIo" : "SpinWait", 60);
		create(c);
		stop(c, 10000, 60);
	}
	client_begin(c);
	assert_int_equal(client_call(c, OP_SELF), 0);
	assert_int_equal(reply_number(c, ATTR_COUNT), descriptors);
	assert_int_equal(reply_number(c, ATTR_COUNT2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AGENT(spin_wait_computes),
		WITH_AGENT(yield_heavy_yields),
		WITH_AGENT(bursty_sleeps_between_bursts),
		WITH_AGENT(futex_ping_pong_takes_turns),
		WITH_AGENT(pipe_io_keeps_pairs_in_step),
		WITH_AGENT(groups_start_and_stop_together),
		WITH_AGENT(stopped_before_the_start_they_report_nothing_done),
		WITH_AGENT(placement_is_as_asked),
		WITH_AGENT(what_cannot_be_had_fails_the_whole_group),
		WITH_AGENT(a_plan_that_makes_no_sense_is_refused),
		WITH_AGENT(a_worker_that_died_is_reported_with_the_reason),
		WITH_AGENT(a_worker_that_does_not_end_is_killed),
		WITH_AGENT(many_workers_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
