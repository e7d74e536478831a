// SPDX-License-Identifier: GPL-2.0-or-later
#include "core/agent_client.h"

static struct client *started(void)
{
	struct client *c = client_start();

	client_expect_ready(c);
	return c;
}

/* A pipe's end of file says that no process holds its other end any more. */
static bool ends(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char text[256];

	for (;;) {
		assert_int_equal(poll(&p, 1, CLIENT_WAIT_MS), 1);
		if (read(fd, text, sizeof(text)) <= 0)
			return true;
	}
}

static void shutdown_kills_all_and_exit_is_the_last_frame(void **state)
{
	struct client *c = started();
	u32 waiting, program;
	pid_t pid;

	client_spawn(c, ARGS("sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1000; done"));
	client_spawn(c, ARGS("yes"));
	client_spawn(c, ARGS("true"));
	program = client_spawn(c, ARGS("sleep", "1000"));
	pid = (pid_t)reply_number(c, ATTR_PID);
	client_begin(c);
	attr_put_u32(&c->attrs, ATTR_PROGRAM, program);
	waiting = client_send(c, OP_WAIT);
	client_begin(c);
	attr_put_string(&c->attrs, ATTR_WORK, "SpinWait");
	attr_put_u32(&c->attrs, ATTR_COUNT, 4);
	assert_int_equal(client_call(c, OP_WORKERS_CREATE), 0);
	client_begin(c);
	assert_int_equal(client_call(c, OP_WORKERS_START), 0);

	/* Nothing comes after EXIT: client_step() says so. */
	client_shut_down(c, -7);
	assert_true(client_has_reply(c, waiting));
	assert_int_equal(reply_number(c, ATTR_SIGNAL), SIGKILL);
	assert_int_equal(kill(pid, 0), -1);
	client_free(c);
}

static void a_request_during_the_shutdown_is_refused(void **state)
{
	struct client *c = started();
	u32 first, second;

	client_spawn(c, ARGS("sleep", "1000"));
	client_begin(c);
	first = client_send(c, OP_SHUTDOWN);
	client_begin(c);
	second = client_send(c, OP_PING);
	assert_int_equal(client_wait(c, first), 0);
	while (client_step(c))
		;
	/* Read before the end or not at all. */
	if (client_has_reply(c, second))
		assert_int_equal(c->reply.error, ESHUTDOWN);
	assert_true(c->exit_seen);
	assert_int_equal(client_reap(c), 0);
	client_free(c);
}

static void a_host_that_goes_away_ends_everything(void **state)
{
	struct client *c = started();
	int pipes[2], status;
	char script[64];

	/* The program holds the write end through /proc of this process. */
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	snprintf(script, sizeof(script), "exec 1>/proc/%d/fd/%d; exec sleep 1000", getpid(), pipes[1]);
	client_spawn(c, ARGS("sh", "-c", script));
	shutdown(c->fd, SHUT_RDWR);
	status = client_reap(c);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	close(pipes[1]);
	assert_true(ends(pipes[0]));
	close(pipes[0]);
	client_free(c);
}

static void a_crash_leaves_last_words_and_a_failing_code(void **state)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct client *c = started();
		char text[512] = "", expected[64];
		ssize_t n;

		assert_int_equal(kill(c->pid, signals[i]), 0);
		assert_int_equal(client_reap(c), (128 + signals[i]) << 8);
		n = read(c->last_words, text, sizeof(text) - 1);
		assert_true(n > 0);
		snprintf(expected, sizeof(expected), "ktstr-agent: crash: signal %d, address 0x", signals[i]);
		assert_memory_equal(text, expected, strlen(expected));
		assert_non_null(strstr(text, ", pc 0x"));
		snprintf(expected, sizeof(expected), "\nKTSTR_EXIT:%d\n", 128 + signals[i]);
		assert_string_equal(text + n - strlen(expected), expected);
		client_free(c);
	}
}

static void a_port_that_is_none_is_said_in_last_words(void **state)
{
	char path[PATH_MAX], number[16], text[512] = "";
	int pipes[2], status;
	pid_t pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		pass(pipes[1], number);
		execl(agent_path(path), "agent", "--port", "999", "--last-words", number, (char *)NULL);
		_exit(127);
	}
	close(pipes[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0);
	assert_true(read(pipes[0], text, sizeof(text) - 1) > 0);
	assert_string_equal(text, "ktstr-agent: cannot set up the event loop: Bad file descriptor\n"
				  "KTSTR_EXIT:70\n");
	close(pipes[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shutdown_kills_all_and_exit_is_the_last_frame),
		cmocka_unit_test(a_request_during_the_shutdown_is_refused),
		cmocka_unit_test(a_host_that_goes_away_ends_everything),
		cmocka_unit_test(a_crash_leaves_last_words_and_a_failing_code),
		cmocka_unit_test(a_port_that_is_none_is_said_in_last_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
