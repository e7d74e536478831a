// SPDX-License-Identifier: GPL-2.0-or-later
#include "core/agent_client.h"
#include "device/virtio_console.h"

/* The next request is expected to be refused with that error and words. */
static void refused(struct client *c, u32 op, u32 error, const char *words)
{
	assert_int_equal(client_call(c, op), error);
	if (!strstr(reply_message(c), words))
		fail_msg("'%s' does not say '%s'", reply_message(c), words);
}

static void the_port_is_the_one_the_device_has(void **state)
{
	assert_string_equal(WIRE_PORT_NAME, CONSOLE_NAME_FRAMES);
}

static void it_announces_itself(void **state)
{
	struct client *c = client_start();
	struct attr_reader r;
	struct attr a;
	struct frame f;
	u32 seen = 0;

	assert_true(client_frame(c, &f));
	assert_int_equal(f.type, MSG_LIFECYCLE);
	assert_true(client_frame(c, &f));
	assert_int_equal(f.type, MSG_SYS_RDY);
	r = attr_reader_init(f.payload, f.length);
	while (attr_next(&r, &a)) {
		if (a.info->type == ATTR_VERSION)
			assert_int_equal(attr_u32(&a), WIRE_VERSION);
		else if (a.info->type == ATTR_PID)
			assert_int_equal(attr_u32(&a), c->pid);
		else
			assert_int_equal(a.info->type, ATTR_RELEASE);
		seen++;
	}
	assert_int_equal(seen, 3);
	client_shut_down(c, 0);
	client_free(c);
}

static void an_unknown_operation_is_refused(void **state)
{
	struct client *c = *state;

	client_begin(c);
	refused(c, 999, ENOSYS, "no operation 999");
	refused(c, 0, ENOSYS, "no operation 0");
}

static void requests_that_make_no_sense_are_refused_in_words(void **state)
{
	struct client *c = *state;
	struct attr_writer *w = &c->attrs;

	client_begin(c);
	refused(c, OP_EXEC, EINVAL, "ARG is missing");
	refused(c, OP_CGROUP_CREATE, EINVAL, "CGROUP is missing");
	refused(c, OP_CGROUP_REMOVE, EINVAL, "CGROUP is missing");
	refused(c, OP_READ, EINVAL, "PATH is missing");
	refused(c, OP_WAIT, ESRCH, "no program 0");
	refused(c, OP_STDIN, EINVAL, "no program");
	refused(c, OP_WRITE, EINVAL, "no header");
	refused(c, OP_WORKERS_CREATE, EINVAL, "no work type ''");

	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_string(w, ATTR_ENV, "NOVALUE");
	refused(c, OP_EXEC, EINVAL, "'NOVALUE' is no NAME=value");
	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_string(w, ATTR_CPUS, "0-");
	refused(c, OP_EXEC, EINVAL, "'0-' is no list of CPUs");
	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_u32(w, ATTR_POLICY, 8);
	refused(c, OP_EXEC, EINVAL, "no scheduling policy 8");
	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_u32(w, ATTR_POLICY, 1);
	attr_put_u32(w, ATTR_PRIORITY, 99);
	refused(c, OP_EXEC, EINVAL, "a priority from 1 to 98");
	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_s32(w, ATTR_NICE, 20);
	refused(c, OP_EXEC, EINVAL, "nice 20");
	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_u32(w, ATTR_POLICY, 6);
	refused(c, OP_EXEC, EINVAL, "policy deadline");
	client_begin(c);
	put_args(c, ARGS("true"));
	attr_put_string(w, ATTR_CGROUP, "a/../../b");
	refused(c, OP_EXEC, EINVAL, "no path of a cgroup");
	client_begin(c);
	attr_put_string(w, ATTR_CGROUP, "/a");
	refused(c, OP_CGROUP_CREATE, EINVAL, "no path of a cgroup");
	client_begin(c);
	attr_put_string(w, ATTR_PATH, "/proc/version");
	attr_put_u64(w, ATTR_LENGTH, WIRE_DATA_MAX + 1);
	refused(c, OP_READ, EINVAL, "at most");
	client_begin(c);
	attr_put_string(w, ATTR_PATH, "/no/module.ko");
	refused(c, OP_LOAD_MODULES, ENOENT, "'/no/module.ko'");
}

static void too_many_arguments_are_refused(void **state)
{
	struct client *c = *state;

	client_begin(c);
	for (int i = 0; i < 1024; i++)
		attr_put_string(&c->attrs, ATTR_ARG, "true");
	assert_int_equal(client_call(c, OP_EXEC), 0);
	client_begin(c);
	for (int i = 0; i < 1025; i++)
		attr_put_string(&c->attrs, ATTR_ARG, "true");
	refused(c, OP_EXEC, E2BIG, "1024");
}

static void a_write_that_lies_about_its_path_is_refused(void **state)
{
	struct client *c = *state;
	struct wire_write head = { .mode = 0644, .path_length = 5 };

	memcpy(c->body, &head, sizeof(head));
	memcpy(c->body + sizeof(head), "/tmp", 4);
	assert_int_equal(client_wait(c, client_send_body(c, OP_WRITE, sizeof(head) + 4)), EINVAL);
	memcpy(c->body + sizeof(head), "/t\0mp", 5);
	assert_int_equal(client_wait(c, client_send_body(c, OP_WRITE, sizeof(head) + 5)), EINVAL);
	head.path_length = 0;
	memcpy(c->body, &head, sizeof(head));
	assert_int_equal(client_wait(c, client_send_body(c, OP_WRITE, sizeof(head))), EINVAL);
}

/* Cut anywhere, a request is refused or done, and answered either way. */
static void every_cut_of_a_request_is_answered(void **state)
{
	struct client *c = *state;

	client_begin(c);
	put_args(c, ARGS("true", "x"));
	attr_put_string(&c->attrs, ATTR_ENV, "A=b");
	attr_put_string(&c->attrs, ATTR_CPUS, "0");
	attr_put_u32(&c->attrs, ATTR_POLICY, 0);
	for (size_t n = 0; n < c->attrs.size; n++) {
		u32 error = client_wait(c, client_send_body(c, OP_EXEC, n));

		assert_true(error == 0 || error == EINVAL);
		assert_true(n % 4 == 0 || error == EINVAL);
	}
}

/* Every byte of the attributes replaced by every value of a few: answered, and the agent lives. */
static void every_wrong_byte_is_answered(void **state)
{
	static const u8 values[] = { 0, 1, 3, 4, 0x7f, 0x80, 0xff };
	static const u32 ops[] = { OP_WORKERS_CREATE, OP_WAIT, OP_KILL, OP_READ, OP_CGROUP_CREATE,
				   OP_CGROUP_REMOVE, OP_LOAD_MODULES };
	struct client *c = *state;
	u8 good[256];
	size_t size;

	client_begin(c);
	attr_put_string(&c->attrs, ATTR_WORK, "Spin");
	attr_put_u32(&c->attrs, ATTR_COUNT, 2);
	attr_put_param(&c->attrs, ATTR_PARAM, 0, 1);
	attr_put_string(&c->attrs, ATTR_PATH, "/proc/none");
	attr_put_u64(&c->attrs, ATTR_LENGTH, 10);
	attr_put_string(&c->attrs, ATTR_CGROUP, "a/b");
	size = c->attrs.size;
	memcpy(good, c->body, size);
	for (size_t op = 0; op < ARRAY_SIZE(ops); op++) {
		for (size_t at = 0; at < size; at++) {
			for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
				memcpy(c->body, good, size);
				c->body[at] = values[v];
				client_wait(c, client_send_body(c, ops[op], size));
			}
		}
	}
	assert_int_equal(client_ping(c), 0);
}

static void rubbish_on_the_port_is_survived(void **state)
{
	struct client *c = *state;
	u8 rubbish[10000], frame[64];
	struct wire_op_request head = { .request_id = 0, .op = OP_PING };

	for (size_t i = 0; i < sizeof(rubbish); i++)
		rubbish[i] = (u8)(i * i + 7);
	client_write(c, rubbish, sizeof(rubbish));
	assert_int_equal(client_ping(c), 0);

	/* A request that has no id cannot be answered; one with id 0 is, with that. */
	client_write(c, frame, frame_encode(frame, sizeof(frame), MSG_OP_REQUEST, "abc", 3));
	client_write(c, frame, frame_encode(frame, sizeof(frame), MSG_SNAPSHOT_REPLY, "abc", 3));
	client_write(c, frame, frame_encode(frame, sizeof(frame), 0x11111111, "abc", 3));
	assert_int_equal(client_ping(c), 0);
	client_write(c, frame, frame_encode(frame, sizeof(frame), MSG_OP_REQUEST, &head, sizeof(head)));
	assert_int_equal(client_ping(c), 0);
	assert_int_equal(c->nameless_error, EINVAL);
}

static void many_requests_at_once_are_all_answered(void **state)
{
	enum { ROUNDS = 200,
	       AT_ONCE = 50 };
	struct client *c = *state;
	u32 ids[AT_ONCE];

	client_begin(c);
	for (int i = 0; i < ROUNDS; i++) {
		for (int j = 0; j < AT_ONCE; j++)
			ids[j] = client_send(c, OP_PING);
		for (int j = 0; j < AT_ONCE; j++)
			assert_int_equal(client_wait(c, ids[j]), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_port_is_the_one_the_device_has),
		cmocka_unit_test(it_announces_itself),
		WITH_AGENT(an_unknown_operation_is_refused),
		WITH_AGENT(requests_that_make_no_sense_are_refused_in_words),
		WITH_AGENT(too_many_arguments_are_refused),
		WITH_AGENT(a_write_that_lies_about_its_path_is_refused),
		WITH_AGENT(every_cut_of_a_request_is_answered),
		WITH_AGENT(every_wrong_byte_is_answered),
		WITH_AGENT(rubbish_on_the_port_is_survived),
		WITH_AGENT(many_requests_at_once_are_all_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
