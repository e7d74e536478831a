// SPDX-License-Identifier: GPL-2.0-or-later
#include "core/capture_rig.h"

enum { CLIENTS_MAX = 64 }; /* what the agent takes at a time */

static const char full[] = "64 captures are being asked for already";

/* Until it is continued, what comes to it waits. */
static void stop_agent(struct client *c)
{
	int status;

	assert_int_equal(kill(c->pid, SIGSTOP), 0);
	assert_int_equal(waitpid(c->pid, &status, WUNTRACED), c->pid);
	assert_true(WIFSTOPPED(status));
}

static void one_too_many_is_refused_at_once(void **state)
{
	const struct rig *rig = *state;
	u32 descriptors = count_descriptors(rig->c), ids[CLIENTS_MAX];
	int fds[CLIENTS_MAX], fd;
	struct run asking;

	for (u32 i = 0; i < CLIENTS_MAX; i++) {
		fds[i] = ask(rig, "one of them");
		ids[i] = next_request(rig->c).request_id;
	}
	/* Often: its packet may come before the agent's answer, or after. */
	for (u32 i = 0; i < 50; i++) {
		asking = run(rig->socket, ARGS("a"));
		assert_int_equal(end_of(&asking), 1);
		assert_string_equal(asking.text, "ktstr-capture: 'a': failed: "
						 "64 captures are being asked for already\n");
		expect_answer(reach(rig), SNAPSHOT_FAILED, full);
	}
	assert_int_equal(rig->c->snapshot_count, CLIENTS_MAX);

	reply(rig->c, ids[7], SNAPSHOT_DONE, "");
	expect_answer(fds[7], SNAPSHOT_DONE, "");
	fd = ask(rig, "again");
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_DONE, "");
	expect_answer(fd, SNAPSHOT_DONE, "");
	for (u32 i = 0; i < CLIENTS_MAX; i++) {
		if (i == 7)
			continue;
		reply(rig->c, ids[i], SNAPSHOT_DONE, "");
		expect_answer(fds[i], SNAPSHOT_DONE, "");
	}
	assert_int_equal(count_descriptors(rig->c), descriptors);
}

static void who_says_nothing_makes_room_for_who_asks(void **state)
{
	static const char way[] = "too many others came while nothing was asked for here";
	const struct rig *rig = *state;
	int fds[CLIENTS_MAX], asking;

	for (u32 i = 0; i < CLIENTS_MAX; i++)
		fds[i] = reach(rig);
	asking = ask(rig, "a");
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_DONE, "");
	expect_answer(asking, SNAPSHOT_DONE, "");
	/* The one that was there first. */
	expect_answer(fds[0], SNAPSHOT_FAILED, way);
	for (u32 i = 1; i < CLIENTS_MAX; i++)
		close(fds[i]);
}

/* The agent looks at both in one turn, while there is one place left. */
static void who_has_asked_keeps_its_place(void **state)
{
	const struct rig *rig = *state;
	int fds[CLIENTS_MAX], first, second;

	for (u32 i = 0; i < CLIENTS_MAX - 1; i++) {
		fds[i] = ask(rig, "one of them");
		next_request(rig->c);
	}
	stop_agent(rig->c);
	first = ask(rig, "first");
	second = ask(rig, "second");
	kill(rig->c->pid, SIGCONT);
	expect_answer(second, SNAPSHOT_FAILED, full);
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_DONE, "");
	expect_answer(first, SNAPSHOT_DONE, "");
	for (u32 i = 0; i < CLIENTS_MAX - 1; i++)
		close(fds[i]);
}

/* If a request has come since, and it is one of those that stay: 1. */
static u32 answer_stays(struct client *c, u32 since)
{
	const struct wire_snapshot_request *request = &c->snapshots[since % CLIENT_SNAPSHOTS];

	if (c->snapshot_count == since || strcmp(request->tag, "stays"))
		return 0;
	reply(c, request->request_id, SNAPSHOT_DONE, "");
	return 1;
}

/*
 * Nobody reads the port, which is full: requests wait, and nothing is torn. Batches ask and go until some are not
 * passed on; in each the last one asks for nonsense, and its answer says that the others were read. A batch is
 * less than half of what the agent takes, which may not have seen yet that the one before has gone.
 */
static void a_full_port_is_waited_for(void **state)
{
	enum { READS = 8,
	       BATCHES = 120,
	       BATCH = 30 };
	const struct rig *rig = *state;
	u32 reads[READS], asked = 0, left = READS + BATCH;
	int fds[BATCH];

	for (u32 i = 0; i < READS; i++) {
		client_begin(rig->c);
		attr_put_string(&rig->c->attrs, ATTR_PATH, "/dev/zero");
		attr_put_u64(&rig->c->attrs, ATTR_LENGTH, WIRE_DATA_MAX);
		reads[i] = client_send(rig->c, OP_READ);
	}
	for (u32 i = 0; i < BATCHES; i++) {
		for (u32 j = 0; j < BATCH; j++, asked++)
			fds[j] = ask(rig, "goes");
		expect_answer(ask(rig, "\n"), SNAPSHOT_FAILED, "a name has printable ASCII characters only");
		for (u32 j = 0; j < BATCH; j++)
			close(fds[j]);
	}
	for (u32 j = 0; j < BATCH; j++)
		fds[j] = ask(rig, "stays");
	while (left) {
		u32 before = rig->c->snapshot_count;

		assert_true(client_step(rig->c));
		left -= answer_stays(rig->c, before);
		for (u32 i = 0; i < READS; i++) {
			if (client_has_reply(rig->c, reads[i])) {
				assert_int_equal(rig->c->reply.error, 0);
				left--;
			}
		}
	}
	for (u32 j = 0; j < BATCH; j++)
		expect_answer(fds[j], SNAPSHOT_DONE, "");
	/* Had all been passed on, the port was not full. */
	assert_true(rig->c->snapshot_count < asked + BATCH);
	assert_int_equal(rig->c->in.stats.bad_headers + rig->c->in.stats.bad_payloads, 0);
}

static void nothing_is_left_of_a_thousand_captures(void **state)
{
	const struct rig *rig = *state;
	u32 descriptors = count_descriptors(rig->c);

	for (u32 i = 0; i < 1000; i++) {
		int fd = ask(rig, "a");

		reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_DONE, "");
		if (i % 2)
			close(fd);
		else
			expect_answer(fd, SNAPSHOT_DONE, "");
	}
	assert_int_equal(count_descriptors(rig->c), descriptors);
}

/* --- ends --- */

static void a_shutdown_answers_who_waits(void **state)
{
	const struct rig *rig = *state;
	struct run asking = run(rig->socket, ARGS("a"));
	int silent = reach(rig), late;
	char words[200];

	next_request(rig->c);
	/* One more comes when the agent has been told, and has not looked yet. */
	stop_agent(rig->c);
	client_begin(rig->c);
	client_send(rig->c, OP_SHUTDOWN);
	late = ask(rig, "late");
	kill(rig->c->pid, SIGCONT);
	while (client_step(rig->c))
		;
	assert_true(rig->c->exit_seen);
	assert_int_equal(client_reap(rig->c), 0);
	expect_answer(late, SNAPSHOT_FAILED, "the machine is shutting down");
	/* Which of the two it looks at first is the kernel's affair. */
	assert_in_range(rig->c->snapshot_count, 1, 2);
	assert_int_equal(end_of(&asking), 1);
	assert_string_equal(asking.text, "ktstr-capture: 'a': failed: the machine is shutting down\n");
	expect_answer(silent, SNAPSHOT_FAILED, "the machine is shutting down");

	asking = run(rig->socket, ARGS("later"));
	assert_int_equal(end_of(&asking), 1);
	snprintf(words, sizeof(words), "ktstr-capture: 'later': failed: the agent at %s takes no more requests "
				       "(Connection refused): the machine is shutting down\n",
		 rig->socket);
	assert_string_equal(asking.text, words);
}

static void an_agent_that_dies_is_said_to_have(void **state)
{
	const struct rig *rig = *state;
	struct run asking = run(rig->socket, ARGS("a"));

	next_request(rig->c);
	kill(rig->c->pid, SIGKILL);
	client_reap(rig->c);
	assert_int_equal(end_of(&asking), 1);
	assert_string_equal(asking.text, "ktstr-capture: 'a': failed: the agent ended before it answered\n");
}

static void without_an_agent_the_program_says_so(void **state)
{
	struct run asking = run("/nonexistent/agent", ARGS("a"));

	assert_int_equal(end_of(&asking), 1);
	assert_string_equal(asking.text, "ktstr-capture: 'a': failed: no agent listens at /nonexistent/agent "
					 "(No such file or directory): is this a ktstr machine?\n");
}

static void an_agent_without_its_socket_does_all_else(void **state)
{
	struct client *c = client_start_with("--socket", "/nonexistent/agent");

	client_expect_ready(c);
	reply(c, 1, SNAPSHOT_DONE, "");
	assert_int_equal(client_ping(c), 0);
	client_shut_down(c, 0);
	client_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(one_too_many_is_refused_at_once),
		WITH_RIG(who_says_nothing_makes_room_for_who_asks),
		WITH_RIG(who_has_asked_keeps_its_place),
		WITH_RIG(a_full_port_is_waited_for),
		WITH_RIG(nothing_is_left_of_a_thousand_captures),
		WITH_DOOMED_RIG(a_shutdown_answers_who_waits),
		WITH_DOOMED_RIG(an_agent_that_dies_is_said_to_have),
		cmocka_unit_test(without_an_agent_the_program_says_so),
		cmocka_unit_test(an_agent_without_its_socket_does_all_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
