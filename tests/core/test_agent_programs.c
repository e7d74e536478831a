// SPDX-License-Identifier: GPL-2.0-or-later
#include "core/agent_client.h"

static const char *out(struct client *c, u32 id)
{
	return client_output(c, id, MSG_STDOUT)->text;
}

static void exec_gives_status_and_both_outputs(void **state)
{
	struct client *c = *state;
	u32 id = client_exec(c, ARGS("sh", "-c", "echo out; echo err >&2; exit 3"));

	assert_int_equal(c->reply.error, 0);
	assert_int_equal(reply_number(c, ATTR_STATUS), 3);
	assert_int_equal(reply_number(c, ATTR_STDOUT_BYTES), 4);
	assert_int_equal(reply_number(c, ATTR_STDERR_BYTES), 4);
	assert_string_equal(out(c, id), "out\n");
	assert_string_equal(client_output(c, id, MSG_STDERR)->text, "err\n");
}

static void exec_tells_the_signal_that_ended_it(void **state)
{
	struct client *c = *state;
	struct attr a;

	client_exec(c, ARGS("sh", "-c", "kill -TERM $$"));
	assert_int_equal(c->reply.error, 0);
	assert_int_equal(reply_number(c, ATTR_SIGNAL), SIGTERM);
	assert_false(reply_attr(c, ATTR_STATUS, &a));
}

static void what_cannot_run_is_named_with_the_reason(void **state)
{
	struct client *c = *state;

	client_exec(c, ARGS("no-such-program"));
	assert_int_equal(c->reply.error, ENOENT);
	assert_string_equal(reply_message(c), "cannot run 'no-such-program': No such file or directory");
	client_exec(c, ARGS("/etc/passwd"));
	assert_int_equal(c->reply.error, EACCES);
	assert_string_equal(reply_message(c), "cannot run '/etc/passwd': Permission denied");

	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_string(&c->attrs, ATTR_CWD, "/no/such/place");
	assert_int_equal(client_call(c, OP_SPAWN), ENOENT);
	assert_string_equal(reply_message(c),
			    "cannot change to directory '/no/such/place': No such file or directory");

	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_string(&c->attrs, ATTR_CPUS, "0,1023");
	assert_int_equal(client_call(c, OP_EXEC), EINVAL);
	assert_string_equal(reply_message(c), "cannot run on CPUs 0,1023: only 0 of them are there");

	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_string(&c->attrs, ATTR_CGROUP, "not/there");
	assert_int_equal(client_call(c, OP_EXEC), ENOENT);
	assert_string_equal(reply_message(c), "cannot enter cgroup 'not/there': No such file or directory");
}

static void the_environment_directory_and_cpus_are_as_asked(void **state)
{
	struct client *c = *state;
	u32 id;

	client_begin(c);
	put_args(c, ARGS("sh", "-c", "echo $ONE $TWO; pwd; grep Cpus_allowed_list /proc/self/status"));
	attr_put_string(&c->attrs, ATTR_ENV, "ONE=1=1");
	attr_put_string(&c->attrs, ATTR_ENV, "TWO=two");
	attr_put_string(&c->attrs, ATTR_CWD, "/proc");
	attr_put_string(&c->attrs, ATTR_CPUS, "0");
	id = client_send(c, OP_EXEC);
	assert_int_equal(client_wait(c, id), 0);
	assert_string_equal(out(c, id), "1=1 two\n/proc\nCpus_allowed_list:\t0\n");
}

static void the_path_of_the_given_environment_is_searched(void **state)
{
	struct client *c = *state;

	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_string(&c->attrs, ATTR_ENV, "PATH=/no/such/place");
	assert_int_equal(client_call(c, OP_EXEC), ENOENT);
}

/* Fields of /proc/self/stat: 1 pid, 6 session, 19 nice, 41 policy. */
static void the_policy_is_as_asked_and_normal_otherwise(void **state)
{
	struct client *c = *state;
	int pid, session, policy, nice;
	u32 id;

	id = client_exec(c, ARGS("cut", "-d", " ", "-f", "1,6,19,41", "/proc/self/stat"));
	assert_int_equal(sscanf(out(c, id), "%d %d %d %d", &pid, &session, &nice, &policy), 4);
	assert_int_equal(pid, reply_number(c, ATTR_PID));
	assert_int_equal(session, pid);
	assert_int_equal(policy, 0);

	client_begin(c);
	put_args(c, ARGS("cut", "-d", " ", "-f", "19,41", "/proc/self/stat"));
	attr_put_u32(&c->attrs, ATTR_POLICY, 3);
	attr_put_s32(&c->attrs, ATTR_NICE, 7);
	id = client_send(c, OP_EXEC);
	assert_int_equal(client_wait(c, id), 0);
	assert_string_equal(out(c, id), "7 3\n");
}

static void a_program_inherits_nothing_of_the_agent(void **state)
{
	struct client *c = *state;
	u32 id = client_exec(c, ARGS("ls", "/proc/self/fd"));

	/* 3 is the directory that it reads. */
	assert_string_equal(out(c, id), "0\n1\n2\n3\n");
	assert_string_equal(client_shell(c, "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f 2"),
			    "0000000000000000\n0000000000000000\n");
	assert_string_equal(client_shell(c, "readlink /proc/self/fd/0"), "/dev/null\n");
}

static void a_spawned_program_can_be_signalled_and_waited_for(void **state)
{
	struct client *c = *state;
	u32 id = client_spawn(c, ARGS("sleep", "1000"));
	u64 pid = reply_number(c, ATTR_PID);

	assert_int_equal(kill((pid_t)pid, 0), 0);
	assert_int_equal(client_kill(c, id, SIGTERM), 0);
	assert_int_equal(client_on_program(c, OP_WAIT, id), 0);
	assert_int_equal(reply_number(c, ATTR_SIGNAL), SIGTERM);
	assert_int_equal(reply_number(c, ATTR_PID), pid);
	assert_int_equal(kill((pid_t)pid, 0), -1);
	/* Once told, it is forgotten. */
	assert_int_equal(client_on_program(c, OP_WAIT, id), ESRCH);
	assert_int_equal(client_kill(c, id, SIGTERM), ESRCH);
}

static void a_signal_reaches_the_whole_group(void **state)
{
	struct client *c = *state;
	u32 id = client_spawn(c, ARGS("sh", "-c", "sleep 1000 & echo $!; wait"));
	struct output *o = client_output(c, id, MSG_STDOUT);

	while (!strchr(o->text, '\n'))
		assert_true(client_step(c));
	/* The sleep holds the pipe: that its end is told shows that it is gone too. */
	assert_int_equal(client_kill(c, id, SIGKILL), 0);
	assert_int_equal(client_on_program(c, OP_WAIT, id), 0);
	assert_int_equal(kill(atoi(o->text), 0), -1);
}

static void a_program_that_has_ended_cannot_be_signalled(void **state)
{
	struct client *c = *state;
	u32 id = client_spawn(c, ARGS("echo", "gone"));

	/* Its children-count of 0 says that it was reaped. */
	do {
		client_begin(c);
		assert_int_equal(client_call(c, OP_SELF), 0);
	} while (reply_number(c, ATTR_COUNT2));
	assert_int_equal(client_kill(c, id, SIGTERM), ESRCH);
	assert_int_equal(client_on_program(c, OP_WAIT, id), 0);
	assert_int_equal(reply_number(c, ATTR_STATUS), 0);
	assert_string_equal(out(c, id), "gone\n");
}

static void two_cannot_wait_for_one_program(void **state)
{
	struct client *c = *state;
	u32 id = client_spawn(c, ARGS("sleep", "1000")), first;

	client_begin(c);
	attr_put_u32(&c->attrs, ATTR_PROGRAM, id);
	first = client_send(c, OP_WAIT);
	assert_int_equal(client_on_program(c, OP_WAIT, id), EBUSY);
	assert_int_equal(client_kill(c, id, SIGKILL), 0);
	assert_int_equal(client_wait(c, first), 0);
}

static u32 spawn_with_stdin(struct client *c, const char *const *argv)
{
	u32 id;

	client_begin(c);
	put_args(c, argv);
	attr_put_flag(&c->attrs, ATTR_HAS_STDIN);
	id = client_send(c, OP_SPAWN);
	assert_int_equal(client_wait(c, id), 0);
	return id;
}

static void stdin_goes_through_with_back_pressure(void **state)
{
	static u8 data[WIRE_DATA_MAX];
	struct client *c = *state;
	u32 id = spawn_with_stdin(c, ARGS("cat"));
	u64 total = 0;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (u8)("0123456789abcde"[i % 15]);
	for (int i = 0; i < 16; i++, total += sizeof(data))
		assert_int_equal(client_stdin(c, id, data, sizeof(data)), 0);
	assert_int_equal(client_stdin(c, id, NULL, 0), 0);
	assert_int_equal(client_stdin(c, id, NULL, 0), EPIPE);
	assert_int_equal(client_on_program(c, OP_WAIT, id), 0);
	assert_int_equal(reply_number(c, ATTR_STATUS), 0);
	assert_int_equal(reply_number(c, ATTR_STDOUT_BYTES), total);
	assert_int_equal(client_output(c, id, MSG_STDOUT)->bytes, total);
	assert_memory_equal(out(c, id), data, CLIENT_TEXT_MAX - 1);
}

static void stdin_that_nobody_reads_waits_and_ends_in_epipe(void **state)
{
	static u8 data[WIRE_DATA_MAX];
	struct client *c = *state;
	struct wire_output head = { .program = spawn_with_stdin(c, ARGS("sleep", "1000")) };
	u32 pending;

	memcpy(c->body, &head, sizeof(head));
	memcpy(c->body + sizeof(head), data, sizeof(data));
	pending = client_send_body(c, OP_STDIN, sizeof(head) + sizeof(data));
	assert_int_equal(client_stdin(c, head.program, data, 1), EBUSY);
	assert_int_equal(client_kill(c, head.program, SIGKILL), 0);
	assert_int_equal(client_wait(c, pending), EPIPE);
	assert_int_equal(client_stdin(c, head.program, data, 1), EPIPE);
	assert_int_equal(client_on_program(c, OP_WAIT, head.program), 0);

	head.program = client_spawn(c, ARGS("sleep", "1000"));
	assert_int_equal(client_stdin(c, head.program, data, 1), EPIPE);
	assert_int_equal(client_stdin(c, 4711, data, 1), ESRCH);
}

static void a_grandchild_that_keeps_the_pipe_does_not_hold_the_reply(void **state)
{
	struct client *c = *state;
	u32 id = client_exec(c, ARGS("sh", "-c", "sleep 1000 & echo $!"));
	pid_t sleeper = atoi(out(c, id));

	assert_int_equal(c->reply.error, 0);
	assert_int_equal(reply_number(c, ATTR_STATUS), 0);
	assert_true(sleeper > 0);
	assert_int_equal(kill(sleeper, SIGKILL), 0);
}

static void a_grandchild_that_floods_does_not_hold_the_reply(void **state)
{
	struct client *c = *state;
	u32 id = client_exec(c, ARGS("sh", "-c", "echo $$; exec 2>&1; yes & exit 5"));
	pid_t group = atoi(out(c, id));

	assert_int_equal(reply_number(c, ATTR_STATUS), 5);
	assert_int_equal(reply_number(c, ATTR_STDOUT_BYTES), client_output(c, id, MSG_STDOUT)->bytes);
	kill(-group, SIGKILL); /* it may have got SIGPIPE by now */
}

/* Large and odd, so that a byte lost or doubled at any edge shows. */
static void all_output_comes_before_the_end_is_told(void **state)
{
	struct client *c = *state;

	for (int i = 0; i < 20; i++) {
		u32 id = client_exec(c, ARGS("head", "-c", "1234567", "/dev/zero"));

		assert_int_equal(reply_number(c, ATTR_STATUS), 0);
		assert_int_equal(reply_number(c, ATTR_STDOUT_BYTES), 1234567);
		assert_int_equal(client_output(c, id, MSG_STDOUT)->bytes, 1234567);
	}
}

/* Bytes of output between a ping and its answer are what is queued between the two, and no more. */
static void replies_come_through_a_flood_and_floods_share(void **state)
{
	enum { FLOODS = 3,
	       ROUNDS = 40,
	       QUEUED_MAX = 4 << 20 };
	struct client *c = *state;
	u64 total = 0, before;
	u32 ids[FLOODS];

	for (int i = 0; i < FLOODS; i++)
		ids[i] = client_spawn(c, ARGS("yes", "a line of a flood"));
	for (int i = 0; i < ROUNDS; i++) {
		while (c->output_bytes < (u64)(i + 1) << 20)
			assert_true(client_step(c));
		before = c->output_bytes;
		assert_int_equal(client_ping(c), 0);
		assert_true(c->output_bytes - before < QUEUED_MAX);
	}
	client_begin(c);
	assert_int_equal(client_call(c, OP_SELF), 0);
	if (!getenv("KTSTR_AGENT"))
		assert_true(reply_number(c, ATTR_LENGTH) < 4 << 20);
	for (int i = 0; i < FLOODS; i++)
		total += client_output(c, ids[i], MSG_STDOUT)->bytes;
	for (int i = 0; i < FLOODS; i++) {
		assert_true(client_output(c, ids[i], MSG_STDOUT)->bytes > total / FLOODS / 4);
		assert_int_equal(client_kill(c, ids[i], SIGKILL), 0);
		assert_int_equal(client_on_program(c, OP_WAIT, ids[i]), 0);
	}
}

static void thousands_of_execs_leak_nothing(void **state)
{
	enum { EXECS = 2000,
	       AT_ONCE = 8 };
	struct client *c = *state;
	u64 descriptors = 0, memory = 0;
	u32 ids[AT_ONCE];

	/* The first ones may make the agent's memory grow to its working size. */
	for (int i = 0; i < EXECS / AT_ONCE; i++) {
		if (i == 10) {
			client_begin(c);
			assert_int_equal(client_call(c, OP_SELF), 0);
			descriptors = reply_number(c, ATTR_COUNT);
			memory = reply_number(c, ATTR_LENGTH);
		}
		for (int j = 0; j < AT_ONCE; j++) {
			client_begin(c);
			put_args(c, j ? ARGS("true") : ARGS("not-a-program"));
			ids[j] = client_send(c, OP_EXEC);
		}
		for (int j = 0; j < AT_ONCE; j++)
			assert_int_equal(client_wait(c, ids[j]), j ? 0 : ENOENT);
	}
	/* The last child to fail may not have been reaped yet when its failure is told. */
	do {
		client_begin(c);
		assert_int_equal(client_call(c, OP_SELF), 0);
	} while (reply_number(c, ATTR_COUNT2));
	assert_int_equal(reply_number(c, ATTR_COUNT), descriptors);
	assert_true(reply_number(c, ATTR_CPU_NS) > 0);
	if (!getenv("KTSTR_AGENT"))
		assert_true(reply_number(c, ATTR_LENGTH) < memory + (128 << 10));
}

static void more_programs_than_allowed_are_refused(void **state)
{
	struct client *c = *state;
	u32 ids[1024], n = 0;

	for (; n < ARRAY_SIZE(ids); n++)
		ids[n] = client_spawn(c, ARGS("true"));
	client_exec(c, ARGS("true"));
	assert_int_equal(c->reply.error, EAGAIN);
	while (n)
		assert_int_equal(client_on_program(c, OP_WAIT, ids[--n]), 0);
	client_exec(c, ARGS("true"));
	assert_int_equal(c->reply.error, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AGENT(exec_gives_status_and_both_outputs),
		WITH_AGENT(exec_tells_the_signal_that_ended_it),
		WITH_AGENT(what_cannot_run_is_named_with_the_reason),
		WITH_AGENT(the_environment_directory_and_cpus_are_as_asked),
		WITH_AGENT(the_path_of_the_given_environment_is_searched),
		WITH_AGENT(the_policy_is_as_asked_and_normal_otherwise),
		WITH_AGENT(a_program_inherits_nothing_of_the_agent),
		WITH_AGENT(a_spawned_program_can_be_signalled_and_waited_for),
		WITH_AGENT(a_signal_reaches_the_whole_group),
		WITH_AGENT(a_program_that_has_ended_cannot_be_signalled),
		WITH_AGENT(two_cannot_wait_for_one_program),
		WITH_AGENT(stdin_goes_through_with_back_pressure),
		WITH_AGENT(stdin_that_nobody_reads_waits_and_ends_in_epipe),
		WITH_AGENT(a_grandchild_that_keeps_the_pipe_does_not_hold_the_reply),
		WITH_AGENT(a_grandchild_that_floods_does_not_hold_the_reply),
		WITH_AGENT(all_output_comes_before_the_end_is_told),
		WITH_AGENT(replies_come_through_a_flood_and_floods_share),
		WITH_AGENT(thousands_of_execs_leak_nothing),
		WITH_AGENT(more_programs_than_allowed_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
