// SPDX-License-Identifier: GPL-2.0-or-later
#include "core/capture_rig.h"

static void a_request_reaches_the_host_with_its_name_and_an_id(void **state)
{
	static const char longest[] = "0123456789012345678901234567890123456789012345678901234567890123";
	static const char *const names[] = { "x", "after the storm", longest };
	const struct rig *rig = *state;
	u32 last = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct run asking = run(rig->socket, ARGS(names[i]));
		struct wire_snapshot_request request = next_request(rig->c);
		char expected[WIRE_TAG_SIZE] = "";

		memcpy(expected, names[i], strlen(names[i]));
		assert_memory_equal(request.tag, expected, sizeof(expected));
		assert_int_equal(request.kind, SNAPSHOT_CAPTURE);
		assert_int_not_equal(request.request_id, 0);
		assert_int_not_equal(request.request_id, last);
		last = request.request_id;
		reply(rig->c, request.request_id, SNAPSHOT_DONE, "");
		assert_int_equal(end_of(&asking), 0);
		assert_string_equal(asking.text, "");
	}
}

static void each_status_comes_back_as_an_exit_status_and_words(void **state)
{
	static const struct {
		u32 status;
		const char *reason;
		int exit_status;
		const char *words;
	} cases[] = {
		{ SNAPSHOT_DONE, "not told", 0, "" },
		{ SNAPSHOT_FAILED, "no memory for it", 1, "ktstr-capture: 'a': failed: no memory for it\n" },
		{ SNAPSHOT_FAILED, "", 1, "ktstr-capture: 'a': failed\n" },
		{ SNAPSHOT_BUSY, "a watch has it", 3,
		  "ktstr-capture: 'a': busy (somebody else holds the freeze): a watch has it\n" },
		{ SNAPSHOT_TIMEOUT, "vCPU 3 at schedule+0x1c", 4,
		  "ktstr-capture: 'a': timeout (a vCPU did not stop in time): vCPU 3 at schedule+0x1c\n" },
		{ 77, "later than this agent", 1,
		  "ktstr-capture: 'a': failed: the host answered with a status of 77, which means nothing here\n" },
	};
	const struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct run asking = run(rig->socket, ARGS("a"));

		reply(rig->c, next_request(rig->c).request_id, cases[i].status, cases[i].reason);
		assert_int_equal(end_of(&asking), cases[i].exit_status);
		assert_string_equal(asking.text, cases[i].words);
	}
}

static void a_reason_too_long_is_cut(void **state)
{
	const struct rig *rig = *state;
	int fd = ask(rig, "a");
	char reason[3000];

	memset(reason, 'r', sizeof(reason));
	reason[sizeof(reason) - 1] = 0;
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_FAILED, reason);
	reason[LOCAL_REASON_MAX] = 0;
	expect_answer(fd, SNAPSHOT_FAILED, reason);
}

static void many_programs_get_their_own_answers_in_any_order(void **state)
{
	enum { PROGRAMS = 20 };
	const struct rig *rig = *state;
	struct run runs[PROGRAMS];
	struct wire_snapshot_request requests[PROGRAMS];
	char text[100];

	for (u32 i = 0; i < PROGRAMS; i++) {
		snprintf(text, sizeof(text), "number %u", i);
		runs[i] = run(rig->socket, ARGS(text));
	}
	for (u32 i = 0; i < PROGRAMS; i++) {
		requests[i] = next_request(rig->c);
		for (u32 j = 0; j < i; j++)
			assert_int_not_equal(requests[i].request_id, requests[j].request_id);
	}
	for (u32 i = PROGRAMS; i-- > 0;) {
		snprintf(text, sizeof(text), "told to %s", requests[i].tag);
		reply(rig->c, requests[i].request_id, SNAPSHOT_FAILED, text);
	}
	for (u32 i = 0; i < PROGRAMS; i++) {
		assert_int_equal(end_of(&runs[i]), 1);
		snprintf(text, sizeof(text), "ktstr-capture: 'number %u': failed: told to number %u\n", i, i);
		assert_string_equal(runs[i].text, text);
	}
}

static void retry_asks_again_while_busy(void **state)
{
	const struct rig *rig = *state;
	struct run asking = run(rig->socket, ARGS("--retry", "1000", "a"));
	u32 last = 0;

	for (int i = 0; i < 4; i++) {
		struct wire_snapshot_request request = next_request(rig->c);

		assert_string_equal(request.tag, "a");
		assert_int_not_equal(request.request_id, last);
		last = request.request_id;
		reply(rig->c, last, i < 3 ? SNAPSHOT_BUSY : SNAPSHOT_DONE, "");
	}
	assert_int_equal(end_of(&asking), 0);
	assert_string_equal(asking.text, "");

	/* Not after what is no better later. */
	asking = run(rig->socket, ARGS("--retry", "1000", "a"));
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_TIMEOUT, "");
	assert_int_equal(end_of(&asking), 4);
	asking = run(rig->socket, ARGS("--retry", "0", "a"));
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_BUSY, "");
	assert_int_equal(end_of(&asking), 3);
}

static void any_user_may_ask(void **state)
{
	const struct rig *rig = *state;
	struct stat st;
	struct run asking;

	assert_int_equal(stat(rig->socket, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	/* Only root can be somebody else. */
	asking = run_as(getuid() ? 0 : 65534, rig->socket, ARGS("a"));
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_DONE, "");
	assert_int_equal(end_of(&asking), 0);
}

/* --- what goes wrong --- */

static void the_program_refuses_what_makes_no_sense(void **state)
{
	static const char too_long[] = "01234567890123456789012345678901234567890123456789012345678901234";
	static const struct {
		const char *args[4];
		const char *words;
	} cases[] = {
		{ { "" }, "cannot be empty" },
		{ { too_long }, "at most 64 characters" },
		{ { "a\nb" }, "printable" },
		{ { "a\x7f" }, "printable" },
		{ { "\xc3\xa9" }, "printable" },
		{ { NULL }, "one NAME is needed, not 0" },
		{ { "a", "b" }, "one NAME is needed, not 2" },
		{ { "--retry", "soon", "a" }, "0 to 1000000 seconds, not 'soon'" },
		{ { "--retry", "nan", "a" }, "not 'nan'" },
		{ { "--retry", "-1", "a" }, "not '-1'" },
		{ { "--again", "a" }, "again" },
		{ { "a", "--retry" }, "retry" },
	};
	const struct rig *rig = *state;
	struct run asking;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		asking = run(rig->socket, cases[i].args);
		assert_int_equal(end_of(&asking), 2);
		if (!strstr(asking.text, cases[i].words) || !strstr(asking.text, "--help"))
			fail_msg("'%s' does not say '%s'", asking.text, cases[i].words);
	}
	asking = run(rig->socket, ARGS("--help"));
	assert_int_equal(end_of(&asking), 0);
	assert_non_null(strstr(asking.text, "usage: ktstr-capture [--retry SECONDS] NAME\n"));
	assert_int_equal(client_ping(rig->c), 0);
	assert_int_equal(rig->c->snapshot_count, 0);
}

static void the_agent_refuses_what_is_no_request(void **state)
{
	static const char too_short[] = "the request is too short";
	static const struct {
		u32 kind;
		size_t size;
		const char *name; /* its first bytes */
		size_t name_size;
		const char *words;
	} cases[] = {
		{ SNAPSHOT_CAPTURE, 0, "", 0, too_short },
		{ SNAPSHOT_CAPTURE, 3, "", 0, too_short },
		{ SNAPSHOT_CAPTURE, 4, "", 0, "a name cannot be empty" },
		{ SNAPSHOT_CAPTURE, 5, "\n", 1, "a name has printable ASCII characters only" },
		{ SNAPSHOT_CAPTURE, 7, "a\0b", 3, "a name has printable ASCII characters only" },
		{ SNAPSHOT_CAPTURE, 4 + 65, "a", 1, "a name has at most 64 characters" },
		{ SNAPSHOT_CAPTURE, 100000, "a", 1, "a name has at most 64 characters" },
		{ SNAPSHOT_WATCH, 5, "a", 1, "the agent takes requests for captures only" },
		{ 0, 5, "a", 1, "the agent takes requests for captures only" },
	};
	static u8 packet[100000];
	const struct rig *rig = *state;
	u32 descriptors = count_descriptors(rig->c);
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fd = reach(rig);
		memset(packet, 'n', sizeof(packet));
		memcpy(packet, &cases[i].kind, 4);
		memcpy(packet + 4, cases[i].name, cases[i].name_size);
		assert_int_equal(send(fd, packet, cases[i].size, MSG_NOSIGNAL), cases[i].size);
		expect_answer(fd, SNAPSHOT_FAILED, cases[i].words);
	}
	assert_int_equal(count_descriptors(rig->c), descriptors);
	assert_int_equal(rig->c->snapshot_count, 0);
	fd = ask(rig, "good");
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_DONE, "");
	expect_answer(fd, SNAPSHOT_DONE, "");
}

/* More than one packet is nothing that was agreed on, but must not cost the answer. */
static void who_says_too_much_or_ends_its_side_gets_its_answer(void **state)
{
	const struct rig *rig = *state;
	int talker = ask(rig, "a"), quiet = ask(rig, "b");
	u32 first;

	for (int i = 0; i < 5; i++)
		assert_int_equal(send(talker, "more", 4, MSG_NOSIGNAL), 4);
	assert_int_equal(shutdown(quiet, SHUT_WR), 0);
	first = next_request(rig->c).request_id;
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_BUSY, "b's");
	reply(rig->c, first, SNAPSHOT_BUSY, "a's");
	/* Both are closed by now, with what has not been read. */
	assert_int_equal(client_ping(rig->c), 0);
	expect_answer(talker, SNAPSHOT_BUSY, "a's");
	expect_answer(quiet, SNAPSHOT_BUSY, "b's");
	assert_int_equal(rig->c->snapshot_count, 2);
}

static void a_program_that_is_killed_is_forgotten(void **state)
{
	const struct rig *rig = *state;
	u32 descriptors = count_descriptors(rig->c), late;
	struct run asking = run(rig->socket, ARGS("gone"));
	int status;

	late = next_request(rig->c).request_id;
	assert_int_equal(count_descriptors(rig->c), descriptors + 1);
	kill(asking.pid, SIGKILL);
	assert_int_equal(waitpid(asking.pid, &status, 0), asking.pid);
	close(asking.out);
	assert_int_equal(count_descriptors(rig->c), descriptors);

	asking = run(rig->socket, ARGS("next"));
	reply(rig->c, late, SNAPSHOT_FAILED, "too late");
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_DONE, "");
	assert_int_equal(end_of(&asking), 0);
	assert_int_equal(count_descriptors(rig->c), descriptors);
}

static void a_reply_to_nobody_is_ignored(void **state)
{
	const struct rig *rig = *state;
	/* One that has not asked yet, and so has no id. */
	int silent = reach(rig), fd = ask(rig, "a");
	u32 id = next_request(rig->c).request_id;
	u8 frame[64];

	reply(rig->c, 0, SNAPSHOT_DONE, "");
	reply(rig->c, id + 1, SNAPSHOT_DONE, "");
	reply(rig->c, id - 1, SNAPSHOT_DONE, "");
	client_write(rig->c, frame, frame_encode(frame, sizeof(frame), MSG_SNAPSHOT_REPLY, &id, sizeof(id)));
	reply(rig->c, id, SNAPSHOT_BUSY, "the right one");
	reply(rig->c, id, SNAPSHOT_DONE, "one more");
	expect_answer(fd, SNAPSHOT_BUSY, "the right one");
	assert_int_equal(client_ping(rig->c), 0);
	say(silent, "b");
	reply(rig->c, next_request(rig->c).request_id, SNAPSHOT_BUSY, "b's");
	expect_answer(silent, SNAPSHOT_BUSY, "b's");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(a_request_reaches_the_host_with_its_name_and_an_id),
		WITH_RIG(each_status_comes_back_as_an_exit_status_and_words),
		WITH_RIG(a_reason_too_long_is_cut),
		WITH_RIG(many_programs_get_their_own_answers_in_any_order),
		WITH_RIG(retry_asks_again_while_busy),
		WITH_RIG(any_user_may_ask),
		WITH_RIG(the_program_refuses_what_makes_no_sense),
		WITH_RIG(the_agent_refuses_what_is_no_request),
		WITH_RIG(who_says_too_much_or_ends_its_side_gets_its_answer),
		WITH_RIG(a_program_that_is_killed_is_forgotten),
		WITH_RIG(a_reply_to_nobody_is_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
