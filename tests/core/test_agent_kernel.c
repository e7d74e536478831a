// SPDX-License-Identifier: GPL-2.0-or-later
/* Kernel operations that the guest's programs ask for: ktstr-kernel, the agent's socket, what the host gets of it. */
#include "core/capture_rig.h"

#include "kernel/op_request.h"

enum { CLIENTS_MAX = 64 }; /* what the agent takes at a time */

static int start_kernel_rig(void **state)
{
	return start_rig_with(state, "--kernel-socket");
}

#define WITH_KERNEL_RIG(f) cmocka_unit_test_setup_teardown(f, start_kernel_rig, end_rig)
#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static struct run start(const struct rig *rig, const char *const *words)
{
	return run_program("ktstr-kernel", "KTSTR_KERNEL_PROGRAM", 0, rig->socket, words);
}

/* The next request that reaches the host, checked as the host does. */
static struct op_request next_op(struct client *c)
{
	u32 before = c->kernel_op_count;
	struct op_request r;
	struct error *err;

	while (c->kernel_op_count == before)
		assert_true(client_step(c));
	err = op_request_open(c->kernel_ops[before % CLIENT_KERNEL_OPS].payload,
			      c->kernel_ops[before % CLIENT_KERNEL_OPS].length, &r);
	if (err)
		fail_msg("%s", error_message(err));
	assert_int_not_equal(r.request_id, 0);
	return r;
}

struct answer {
	u8 payload[4096];
	struct attr_writer w;
};

static struct answer *begin_answer(u32 id, u32 status, u32 done)
{
	static struct answer a;
	struct wire_kernel_op_reply head = { .request_id = id, .status = status, .done = done };

	memcpy(a.payload, &head, sizeof(head));
	a.w = attr_writer_init(a.payload + sizeof(head), sizeof(a.payload) - sizeof(head));
	return &a;
}

static void send_answer(struct client *c, const struct answer *a)
{
	u8 frame[sizeof(a->payload) + WIRE_HEADER_SIZE];
	u32 size = (u32)(sizeof(struct wire_kernel_op_reply) + a->w.size);

	assert_false(a->w.failed);
	client_write(c, frame, frame_encode(frame, sizeof(frame), MSG_KERNEL_OP_REPLY, a->payload, size));
}

static void say_no(struct client *c, u32 id, u32 status, const char *reason)
{
	struct answer *a = begin_answer(id, status, 0);

	attr_put_string(&a->w, ATTR_REASON, reason);
	send_answer(c, a);
}

static struct op_entry next_entry(struct op_request *r)
{
	struct op_entry e;

	assert_true(op_request_next(r, &e));
	return e;
}

static void what_a_person_writes_reaches_the_host(void **state)
{
	const struct rig *rig = *state;
	struct run asking = start(rig, WORDS("--cold", "read", "jiffies_64", "read", "runqueues@3.curr.pid", "write",
					     "panic_timeout:s32", "-7", "or", "0xffffffff82a00000{struct x}.flags:u32",
					     "0x80000001", "read", "task:1.comm:bytes5", "write",
					     "task:12.comm:bytes", "00fF10", "write", "big:u64", "0xffffffffffffffff"));
	struct op_request r = next_op(rig->c);
	struct op_entry e = next_entry(&r);

	assert_true(r.cold && r.count == 7);
	assert_true(e.op == KERNEL_OP_READ && !strcmp(e.symbol, "jiffies_64") && !e.has_cpu && !*e.field && !*e.type);
	e = next_entry(&r);
	assert_true(!strcmp(e.symbol, "runqueues") && e.has_cpu && e.cpu == 3 && !strcmp(e.field, "curr.pid"));
	e = next_entry(&r);
	assert_true(e.op == KERNEL_OP_WRITE && !strcmp(e.type, "s32") && e.value == (u64)-7);
	e = next_entry(&r);
	assert_true(e.op == KERNEL_OP_OR && e.where == OP_AT_ADDRESS && e.address == 0xffffffff82a00000);
	assert_true(!strcmp(e.structure, "struct x") && !strcmp(e.field, "flags") && e.value == 0x80000001);
	e = next_entry(&r);
	assert_true(e.where == OP_AT_TASK && e.pid == 1 && !strcmp(e.field, "comm") && e.has_length && e.length == 5);
	e = next_entry(&r);
	assert_true(e.pid == 12 && e.has_data && e.data_size == 3);
	assert_memory_equal(e.data, "\0\xff\x10", 3);
	e = next_entry(&r);
	assert_true(e.value == UINT64_MAX);
	say_no(rig->c, r.request_id, KERNEL_OP_FAILED, "no");
	assert_int_equal(end_of(&asking), 1);
	assert_string_equal(asking.text, "ktstr-kernel: failed: no\n");

	asking = start(rig, WORDS("read", "avenrun[1]", "read", "a@0[2][3].b:u8", "write", "a@08.b|c[0].d", "010",
				  "read", "task:0012@1.mm.x"));
	r = next_op(rig->c);
	e = next_entry(&r);
	assert_true(!strcmp(e.symbol, "avenrun") && !strcmp(e.field, "[1]"));
	e = next_entry(&r);
	assert_true(!strcmp(e.symbol, "a") && e.has_cpu && !strcmp(e.field, "[2][3].b") && !strcmp(e.type, "u8"));
	/* A 0 in front makes nothing octal. */
	e = next_entry(&r);
	assert_true(e.has_cpu && e.cpu == 8 && !strcmp(e.field, "b|c[0].d") && e.value == 10);
	e = next_entry(&r);
	assert_true(e.where == OP_AT_TASK && e.pid == 12 && e.has_cpu && e.cpu == 1 && !strcmp(e.field, "mm.x"));
	say_no(rig->c, r.request_id, KERNEL_OP_FAILED, "no");
	assert_int_equal(end_of(&asking), 1);
}

static void values_are_printed_in_order_up_to_the_first_that_failed(void **state)
{
	const struct rig *rig = *state;
	struct run asking = start(rig, WORDS("read", "a", "read", "b", "read", "c", "write", "d", "1", "read", "e"));
	struct answer *a = begin_answer(next_op(rig->c).request_id, KERNEL_OP_FAILED, 4);

	attr_put_u64(&a->w, ATTR_VALUE, UINT64_MAX);
	attr_put_u64(&a->w, ATTR_SIGNED, (u64)-3);
	attr_put_data(&a->w, ATTR_DATA, "\0z\xff", 3);
	attr_put_flag(&a->w, ATTR_WRITTEN);
	attr_put_string(&a->w, ATTR_REASON, "entry 5, e: the kernel has no symbol 'e'");
	send_answer(rig->c, a);
	assert_int_equal(end_of(&asking), 1);
	assert_string_equal(asking.text, "18446744073709551615\n-3\n007aff\nwritten\n"
					 "ktstr-kernel: failed: entry 5, e: the kernel has no symbol 'e'\n");
}

static void each_status_is_an_exit_status(void **state)
{
	static const struct {
		u32 status;
		int exit_status;
		const char *text;
	} cases[] = {
		{ KERNEL_OP_DONE, 0, "" },
		{ KERNEL_OP_BUSY, 3, "ktstr-kernel: busy: why\n" },
		{ KERNEL_OP_TIMEOUT, 4, "ktstr-kernel: timeout: why\n" },
		{ KERNEL_OP_FAILED, 1, "ktstr-kernel: failed: why\n" },
		{ 77, 1, "ktstr-kernel: failed: why\n" },
	};
	const struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct run asking = start(rig, WORDS("read", "a"));

		say_no(rig->c, next_op(rig->c).request_id, cases[i].status, "why");
		assert_int_equal(end_of(&asking), cases[i].exit_status);
		assert_string_equal(asking.text, cases[i].text);
	}
}

static void retry_asks_again_while_busy(void **state)
{
	const struct rig *rig = *state;
	struct run asking = start(rig, WORDS("--retry", "1000", "--cold", "write", "a:u32", "1"));
	struct answer *a;

	for (u32 i = 0; i < 3; i++)
		say_no(rig->c, next_op(rig->c).request_id, KERNEL_OP_BUSY, "");
	a = begin_answer(next_op(rig->c).request_id, KERNEL_OP_DONE, 1);
	attr_put_flag(&a->w, ATTR_WRITTEN);
	send_answer(rig->c, a);
	assert_int_equal(end_of(&asking), 0);
	assert_string_equal(asking.text, "written\n");
}

static void it_says_how_it_is_used(void **state)
{
	static const char *const words[] = { "usage: ktstr-kernel", "read PLACE", "write PLACE VALUE", "or PLACE VALUE",
					     "--cold", "--retry", "Exit status" };
	const struct rig *rig = *state;
	struct run asking = start(rig, WORDS("--help"));

	assert_int_equal(end_of(&asking), 0);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strstr(asking.text, words[i]))
			fail_msg("'%s' is not in '%s'", words[i], asking.text);
	assert_int_equal(rig->c->kernel_op_count, 0);
}

static void what_makes_no_sense_is_refused_by_the_program(void **state)
{
	static const struct {
		const char *words[4];
		const char *text;
	} cases[] = {
		{ { NULL }, "what to do is not said" },
		{ { "raed", "a" }, "'raed' is no operation" },
		{ { "read" }, "read wants a place" },
		{ { "write", "a" }, "write wants a place and a value" },
		{ { "read", "" }, "'' is no place" },
		{ { "read", ".a" }, "'.a' is no place" },
		{ { "read", "a{struct x" }, "is no place" },
		{ { "read", "a@x" }, "'x' is no CPU" },
		{ { "read", "task:x.pid" }, "'task:x' is no task" },
		{ { "read", "0xyz" }, "'0xyz' is no address" },
		{ { "read", "a:bytes0" }, "the number of bytes is 1 to 32768" },
		{ { "read", "a:bytes32769" }, "the number of bytes is" },
		{ { "write", "a", "b" }, "'b' is no number" },
		{ { "write", "a", "" }, "'' is no number" },
		{ { "write", "a", "--5" }, "'--5' is no number" },
		{ { "write", "a", "0x" }, "'0x' is no number" },
		{ { "write", "a", "12k" }, "'12k' is no number" },
		{ { "write", "a", "99999999999999999999" }, "is no number" },
		{ { "write", "a:bytes", "abc" }, "are not the hexadecimal digits" },
		{ { "write", "a:bytes", "" }, "are not the hexadecimal digits" },
		{ { "--retry", "-1", "read" }, "--retry takes 0 to 1000000 seconds" },
		{ { "--nonsense" }, "unrecognized option" },
	};
	const struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *words[5] = { 0 };
		struct run asking;

		memcpy(words, cases[i].words, sizeof(cases[i].words));
		asking = start(rig, words);
		assert_int_equal(end_of(&asking), 2);
		if (!strstr(asking.text, cases[i].text))
			fail_msg("'%s' is not in '%s'", cases[i].text, asking.text);
		assert_non_null(strstr(asking.text, "try 'ktstr-kernel --help'"));
	}
	assert_int_equal(rig->c->kernel_op_count, 0);
}

/* --- programs that go their own ways --- */

static void say_packet(int fd, u32 first, size_t size)
{
	u8 *packet = calloc(1, size + 4);

	memcpy(packet, &first, sizeof(first));
	assert_int_equal(send(fd, packet, size, MSG_NOSIGNAL), size);
	free(packet);
}

static void expect_refusal(int fd, const char *words)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	u8 packet[4096];
	struct wire_kernel_op_reply head;
	struct attr_reader r;
	struct attr a;
	ssize_t n;

	assert_int_equal(poll(&p, 1, CLIENT_WAIT_MS), 1);
	n = recv(fd, packet, sizeof(packet), 0);
	assert_true(n > (ssize_t)sizeof(head));
	memcpy(&head, packet, sizeof(head));
	assert_true(head.status == KERNEL_OP_FAILED && head.done == 0);
	r = attr_reader_init(packet + sizeof(head), (size_t)n - sizeof(head));
	assert_true(attr_next(&r, &a) && a.info->type == ATTR_REASON);
	if (a.length != strlen(words) || memcmp(a.value, words, a.length))
		fail_msg("'%.*s' is not '%s'", (int)a.length, (const char *)a.value, words);
	assert_int_equal(recv(fd, packet, sizeof(packet), 0), 0);
	close(fd);
}

static void packets_that_are_none_are_refused_by_the_agent(void **state)
{
	const struct rig *rig = *state;
	u32 descriptors = count_descriptors(rig->c);
	int fd = reach(rig);

	say_packet(fd, LOCAL_KERNEL_OP, 4);
	expect_refusal(fd, "the request is too short");
	fd = reach(rig);
	say_packet(fd, SNAPSHOT_CAPTURE, 68);
	expect_refusal(fd, "the agent takes requests for kernel operations only");
	fd = reach(rig);
	say_packet(fd, LOCAL_KERNEL_OP, KERNEL_OP_REQUEST_MAX + 4);
	expect_refusal(fd, "the request is longer than 64 KiB");
	fd = reach(rig);
	shutdown(fd, SHUT_WR);
	expect_refusal(fd, "the request is too short");
	assert_int_equal(rig->c->kernel_op_count, 0);
	assert_int_equal(count_descriptors(rig->c), descriptors);
}

static void sixty_four_ask_at_a_time_and_get_their_own_answers(void **state)
{
	const struct rig *rig = *state;
	u32 descriptors = count_descriptors(rig->c), ids[CLIENTS_MAX];
	int fds[CLIENTS_MAX], fd;

	for (u32 i = 0; i < CLIENTS_MAX; i++) {
		u32 before = rig->c->kernel_op_count;

		fds[i] = reach(rig);
		say_packet(fds[i], LOCAL_KERNEL_OP, 8 + i);
		while (rig->c->kernel_op_count == before)
			assert_true(client_step(rig->c));
		assert_int_equal(rig->c->kernel_ops[before].length, 8 + i);
		memcpy(&ids[i], rig->c->kernel_ops[before].payload, sizeof(u32));
		for (u32 j = 0; j < i; j++)
			assert_int_not_equal(ids[i], ids[j]);
	}
	fd = reach(rig);
	expect_refusal(fd, "64 kernel operations are being asked for already");
	for (u32 i = CLIENTS_MAX; i-- > 0;) {
		char reason[40];

		snprintf(reason, sizeof(reason), "told to number %u", i);
		say_no(rig->c, ids[i], KERNEL_OP_FAILED, reason);
		expect_refusal(fds[i], reason);
	}
	assert_int_equal(count_descriptors(rig->c), descriptors);
}

static void the_largest_request_and_answer_pass(void **state)
{
	const struct rig *rig = *state;
	u8 *payload = calloc(1, KERNEL_OP_REQUEST_MAX), *frame = malloc(KERNEL_OP_REQUEST_MAX + WIRE_HEADER_SIZE);
	struct pollfd p = { .fd = reach(rig), .events = POLLIN };

	say_packet(p.fd, LOCAL_KERNEL_OP, KERNEL_OP_REQUEST_MAX);
	while (!rig->c->kernel_op_count)
		assert_true(client_step(rig->c));
	assert_int_equal(rig->c->kernel_ops[0].length, KERNEL_OP_REQUEST_MAX);
	memcpy(payload, rig->c->kernel_ops[0].payload, sizeof(u32));
	payload[KERNEL_OP_REQUEST_MAX - 1] = 'x';
	client_write(rig->c, frame,
		     frame_encode(frame, KERNEL_OP_REQUEST_MAX + WIRE_HEADER_SIZE, MSG_KERNEL_OP_REPLY, payload,
				  KERNEL_OP_REQUEST_MAX));
	assert_int_equal(poll(&p, 1, CLIENT_WAIT_MS), 1);
	assert_int_equal(recv(p.fd, payload, KERNEL_OP_REQUEST_MAX, 0), KERNEL_OP_REQUEST_MAX);
	assert_int_equal(payload[KERNEL_OP_REQUEST_MAX - 1], 'x');
	close(p.fd);
	free(payload);
	free(frame);
}

static void a_reply_to_nobody_is_ignored(void **state)
{
	const struct rig *rig = *state;
	u8 frame[64];
	int fd = reach(rig);
	u32 id;

	say_packet(fd, LOCAL_KERNEL_OP, 8);
	while (!rig->c->kernel_op_count)
		assert_true(client_step(rig->c));
	memcpy(&id, rig->c->kernel_ops[0].payload, sizeof(id));
	close(fd);
	client_ping(rig->c);
	say_no(rig->c, id, KERNEL_OP_FAILED, "late");
	say_no(rig->c, 12345, KERNEL_OP_DONE, "");
	client_write(rig->c, frame, frame_encode(frame, sizeof(frame), MSG_KERNEL_OP_REPLY, "abc", 3));
	client_ping(rig->c);
}

static void only_root_may_ask(void **state)
{
	const struct rig *rig = *state;
	struct run asking;
	struct stat st;

	assert_int_equal(stat(rig->socket, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	if (getuid())
		skip();
	asking = run_program("ktstr-kernel", "KTSTR_KERNEL_PROGRAM", 65534, rig->socket, WORDS("read", "a"));
	assert_int_equal(end_of(&asking), 1);
	assert_non_null(strstr(asking.text, "(Permission denied)"));
}

static void at_the_end_who_asks_is_told(void **state)
{
	const struct rig *rig = *state;
	struct run asking = start(rig, WORDS("read", "a"));

	next_op(rig->c);
	client_shut_down(rig->c, 0);
	assert_int_equal(end_of(&asking), 1);
	assert_string_equal(asking.text, "ktstr-kernel: failed: the machine is shutting down\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_KERNEL_RIG(what_a_person_writes_reaches_the_host),
		WITH_KERNEL_RIG(values_are_printed_in_order_up_to_the_first_that_failed),
		WITH_KERNEL_RIG(each_status_is_an_exit_status),
		WITH_KERNEL_RIG(retry_asks_again_while_busy),
		WITH_KERNEL_RIG(it_says_how_it_is_used),
		WITH_KERNEL_RIG(what_makes_no_sense_is_refused_by_the_program),
		WITH_KERNEL_RIG(packets_that_are_none_are_refused_by_the_agent),
		WITH_KERNEL_RIG(sixty_four_ask_at_a_time_and_get_their_own_answers),
		WITH_KERNEL_RIG(the_largest_request_and_answer_pass),
		WITH_KERNEL_RIG(a_reply_to_nobody_is_ignored),
		WITH_KERNEL_RIG(only_root_may_ask),
		cmocka_unit_test_setup_teardown(at_the_end_who_asks_is_told, start_kernel_rig, end_rig_without_agent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
