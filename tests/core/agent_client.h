/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An agent as an ordinary process, with a socket for its port, and the host's side of the conversation.
 * Depends on cmocka and tlv/codec.h. KTSTR_AGENT names another agent than the one built beside the tests.
 * Whatever is waited for is waited for by an event, and no longer than a minute.
 */
#ifndef TESTS_CORE_AGENT_CLIENT_H
#define TESTS_CORE_AGENT_CLIENT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "tlv/codec.h"

enum {
	CLIENT_BODY_MAX = WIRE_DATA_MAX + 65536,
	CLIENT_TEXT_MAX = 1 << 16,
	CLIENT_WAIT_MS = 60000,
	CLIENT_STASH = 64,
	CLIENT_SNAPSHOTS = 128,
	CLIENT_KERNEL_OPS = 128,
};

/* The first bytes of a program's output. */
struct output {
	u32 program, type;
	u64 bytes;
	size_t kept;
	char text[CLIENT_TEXT_MAX];
};

/* A reply that came while another was waited for. */
struct reply {
	u32 id, error;
	size_t length;
	u8 *body;
};

struct client {
	pid_t pid;
	int fd, last_words;
	u32 last_id;
	struct frame_reader in;
	struct reply stash[CLIENT_STASH];
	struct output outputs[8]; /* the newest programs' */
	u32 output_at;
	u64 output_bytes; /* of all programs, since the start */
	u32 reports;
	struct {
		struct wire_worker_report report;
		char cpus[256], reason[256];
		size_t samples;
		u64 sample;
	} workers[64];
	struct wire_snapshot_request snapshots[CLIENT_SNAPSHOTS]; /* the newest, i-th one at i modulo that */
	u32 snapshot_count; /* since the start */
	struct {
		u8 *payload;
		size_t length;
	} kernel_ops[CLIENT_KERNEL_OPS]; /* requests, likewise */
	u32 kernel_op_count;
	u32 nameless_error; /* of the reply to a request without an id */
	bool exit_seen;
	s32 exit_code;

	/* The request being put together. */
	u8 body[CLIENT_BODY_MAX];
	struct attr_writer attrs;
	/* The reply that was waited for. */
	struct reply reply;
};

/* A guest program: the one that the variable names, or that name's built beside the tests. */
static inline const char *guest_program_path(const char *variable, const char *name, char *out)
{
	const char *given = getenv(variable);
	ssize_t n;

	if (given)
		return given;
	n = readlink("/proc/self/exe", out, PATH_MAX - 64);
	assert_true(n > 0);
	out[n] = 0;
	snprintf(strrchr(out, '/'), 64, "/../../guest/%s", name);
	return out;
}

static inline const char *agent_path(char *out)
{
	return guest_program_path("KTSTR_AGENT", "agent", out);
}

/* A descriptor's number as text, and the descriptor open across exec. */
static inline void pass(int fd, char out[16])
{
	snprintf(out, 16, "%d", fd);
	fcntl(fd, F_SETFD, 0);
}

/* With an option of the agent's more, unless it is NULL. */
static inline struct client *client_start_with(const char *option, const char *value)
{
	struct client *c = calloc(1, sizeof(*c));
	const char *cgroups = getenv("KTSTR_TEST_CGROUP");
	char path[PATH_MAX], port[16], words[16];
	int sockets[2], pipes[2];

	assert_non_null(c);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	c->pid = fork();
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
		pass(sockets[1], port);
		pass(pipes[1], words);
		execl(agent_path(path), "agent", "--port", port, "--last-words", words, "--cgroup-root",
		      cgroups ? cgroups : "/nonexistent", option, value, (char *)NULL);
		_exit(127);
	}
	close(sockets[1]);
	close(pipes[1]);
	c->fd = sockets[0];
	c->last_words = pipes[0];
	frame_reader_init(&c->in, malloc(FRAME_BUFFER_MAX), FRAME_BUFFER_MAX);
	return c;
}

static inline struct client *client_start(void)
{
	return client_start_with(NULL, NULL);
}

static inline void client_free(struct client *c)
{
	close(c->fd);
	close(c->last_words);
	free(c->in.data);
	free(c->reply.body);
	for (u32 i = 0; i < CLIENT_STASH; i++)
		free(c->stash[i].body);
	for (u32 i = 0; i < CLIENT_KERNEL_OPS; i++)
		free(c->kernel_ops[i].payload);
	free(c);
}

/* --- what comes in --- */

/* The next frame; false when the agent has closed its end. */
static inline bool client_frame(struct client *c, struct frame *ret)
{
	while (!frame_reader_next(&c->in, ret)) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		u8 *at;
		size_t space = frame_reader_space(&c->in, &at);
		ssize_t n;

		assert_int_equal(poll(&p, 1, CLIENT_WAIT_MS), 1);
		n = read(c->fd, at, space);
		if (n <= 0)
			return false;
		frame_reader_advance(&c->in, (size_t)n);
	}
	return true;
}

static inline struct output *client_output(struct client *c, u32 program, u32 type)
{
	struct output *o;

	for (u32 i = 0; i < ARRAY_SIZE(c->outputs); i++)
		if (c->outputs[i].program == program && c->outputs[i].type == type)
			return &c->outputs[i];
	o = &c->outputs[c->output_at++ % ARRAY_SIZE(c->outputs)];
	*o = (struct output){ .program = program, .type = type };
	return o;
}

static inline void client_take_output(struct client *c, const struct frame *f)
{
	struct wire_output head;
	struct output *o;
	size_t n = f->length - sizeof(head), keep;

	assert_true(f->length >= sizeof(head) && n <= WIRE_DATA_MAX);
	memcpy(&head, f->payload, sizeof(head));
	o = client_output(c, head.program, f->type);
	keep = n < sizeof(o->text) - 1 - o->kept ? n : sizeof(o->text) - 1 - o->kept;
	memcpy(o->text + o->kept, (const u8 *)f->payload + sizeof(head), keep);
	o->kept += keep;
	o->bytes += n;
	c->output_bytes += n;
}

static inline void client_take_report(struct client *c, const struct frame *f)
{
	struct attr_reader r;
	struct attr a;

	assert_true(c->reports < ARRAY_SIZE(c->workers));
	__auto_type w = &c->workers[c->reports++];
	memset(w, 0, sizeof(*w));
	assert_true(f->length >= sizeof(w->report));
	memcpy(&w->report, f->payload, sizeof(w->report));
	r = attr_reader_init((const u8 *)f->payload + sizeof(w->report), f->length - sizeof(w->report));
	while (attr_next(&r, &a)) {
		if (a.info->type == ATTR_CPU_USED)
			assert_true(attr_string(&a, w->cpus, sizeof(w->cpus)));
		else if (a.info->type == ATTR_REASON)
			assert_true(attr_string(&a, w->reason, sizeof(w->reason)));
		else if (a.info->type == ATTR_WAKE_SAMPLES && (w->samples = attr_array_count(&a)))
			w->sample = attr_array_get(&a, 0);
	}
	assert_false(r.malformed);
}

static inline void client_take_reply(struct client *c, const struct frame *f)
{
	struct wire_op_reply head;
	struct reply *r = NULL;

	assert_true(f->length >= sizeof(head));
	memcpy(&head, f->payload, sizeof(head));
	if (!head.request_id) {
		c->nameless_error = head.error;
		return;
	}
	for (u32 i = 0; i < CLIENT_STASH && !r; i++)
		if (!c->stash[i].id)
			r = &c->stash[i];
	assert_non_null(r);
	free(r->body);
	*r = (struct reply){ head.request_id, head.error, f->length - sizeof(head), malloc(f->length) };
	memcpy(r->body, (const u8 *)f->payload + sizeof(head), r->length);
}

static inline void client_take_snapshot(struct client *c, const struct frame *f)
{
	struct wire_snapshot_request *s = &c->snapshots[c->snapshot_count++ % CLIENT_SNAPSHOTS];

	assert_int_equal(f->length, sizeof(*s));
	memcpy(s, f->payload, sizeof(*s));
}

static inline void client_take_kernel_op(struct client *c, const struct frame *f)
{
	u32 at = c->kernel_op_count++ % CLIENT_KERNEL_OPS;

	free(c->kernel_ops[at].payload);
	c->kernel_ops[at].length = f->length;
	c->kernel_ops[at].payload = memcpy(malloc(f->length + 1), f->payload, f->length);
}

/* Takes in one frame, whatever it is; false at the agent's end. */
static inline bool client_step(struct client *c)
{
	struct frame f;

	if (!client_frame(c, &f))
		return false;
	assert_false(c->exit_seen);
	switch (f.type) {
	case MSG_STDOUT:
	case MSG_STDERR:
		client_take_output(c, &f);
		break;
	case MSG_WORKER_REPORT:
		client_take_report(c, &f);
		break;
	case MSG_OP_REPLY:
		client_take_reply(c, &f);
		break;
	case MSG_SNAPSHOT_REQUEST:
		client_take_snapshot(c, &f);
		break;
	case MSG_KERNEL_OP_REQUEST:
		client_take_kernel_op(c, &f);
		break;
	case MSG_EXIT:
		assert_int_equal(f.length, 4);
		memcpy(&c->exit_code, f.payload, 4);
		c->exit_seen = true;
		break;
	default:
		fail_msg("a frame of type 0x%x", f.type);
	}
	return true;
}

static inline bool client_has_reply(struct client *c, u32 id)
{
	for (u32 i = 0; i < CLIENT_STASH; i++) {
		if (c->stash[i].id != id)
			continue;
		free(c->reply.body);
		c->reply = c->stash[i];
		c->stash[i] = (struct reply){ 0 };
		return true;
	}
	return false;
}

/* Waits for that request's reply, which is then c->reply; returns its error. */
static inline u32 client_wait(struct client *c, u32 id)
{
	while (!client_has_reply(c, id))
		if (!client_step(c))
			fail_msg("the agent ended before it answered request %u", id);
	return c->reply.error;
}

/* The reply's attribute of that type, the first one. */
static inline bool reply_attr(struct client *c, u32 type, struct attr *ret)
{
	struct attr_reader r = attr_reader_init(c->reply.body, c->reply.length);

	while (attr_next(&r, ret))
		if (ret->info->type == type)
			return true;
	assert_false(r.malformed);
	return false;
}

static inline u64 reply_number(struct client *c, u32 type)
{
	struct attr a;

	if (!reply_attr(c, type, &a))
		fail_msg("the reply has no %s", attr_info_by_type(type)->name);
	return a.info->kind == ATTR_KIND_U64 ? attr_u64(&a) : attr_u32(&a);
}

static inline const char *reply_message(struct client *c)
{
	static char text[1024];
	struct attr a;

	*text = 0;
	if (reply_attr(c, ATTR_MESSAGE, &a))
		assert_true(attr_string(&a, text, sizeof(text)));
	return text;
}

/* --- what goes out --- */

/* Writes all of it, taking in what comes meanwhile, so that neither side waits for the other. */
static inline void client_write(struct client *c, const void *data, size_t size)
{
	const u8 *p = data;

	while (size) {
		ssize_t n = send(c->fd, p, size, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			p += n;
			size -= (size_t)n;
		} else {
			struct pollfd fds = { .fd = c->fd, .events = POLLIN | POLLOUT };

			assert_true(n < 0 && errno == EAGAIN);
			assert_int_equal(poll(&fds, 1, CLIENT_WAIT_MS), 1);
			if (fds.revents & POLLIN && !client_step(c))
				fail_msg("the agent ended");
		}
	}
}

/* A request with the first n bytes of c->body. */
static inline u32 client_send_body(struct client *c, u32 op, size_t n)
{
	static u8 frame[FRAME_BUFFER_MAX];
	struct wire_op_request head = { .request_id = ++c->last_id, .op = op };

	memcpy(frame + WIRE_HEADER_SIZE, &head, sizeof(head));
	memcpy(frame + WIRE_HEADER_SIZE + sizeof(head), c->body, n);
	client_write(c, frame, frame_seal(frame, MSG_OP_REQUEST, (u32)(sizeof(head) + n)));
	return head.request_id;
}

/* Between these two, attributes go into c->attrs. */
static inline struct attr_writer *client_begin(struct client *c)
{
	c->attrs = attr_writer_init(c->body, sizeof(c->body));
	return &c->attrs;
}

static inline u32 client_send(struct client *c, u32 op)
{
	assert_false(c->attrs.failed);
	return client_send_body(c, op, c->attrs.size);
}

static inline u32 client_call(struct client *c, u32 op)
{
	return client_wait(c, client_send(c, op));
}

static inline u32 client_ping(struct client *c)
{
	client_begin(c);
	return client_call(c, OP_PING);
}

/* Arguments into the request; the last one is NULL. */
static inline void put_args(struct client *c, const char *const *argv)
{
	for (; *argv; argv++)
		attr_put_string(&c->attrs, ATTR_ARG, *argv);
}

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Runs a program to its end; the outputs are out_text() and err_text() of the returned id. */
static inline u32 client_exec(struct client *c, const char *const *argv)
{
	u32 id;

	client_begin(c);
	put_args(c, argv);
	id = client_send(c, OP_EXEC);
	client_wait(c, id);
	return id;
}

/* By sh -c; fails the test unless the status is 0. Returns what it printed. */
static inline const char *client_shell(struct client *c, const char *script)
{
	u32 id = client_exec(c, ARGS("sh", "-c", script));

	if (c->reply.error || reply_number(c, ATTR_STATUS))
		fail_msg("'%s': error %u, %s", script, c->reply.error, client_output(c, id, MSG_STDERR)->text);
	return client_output(c, id, MSG_STDOUT)->text;
}

static inline u32 client_spawn(struct client *c, const char *const *argv)
{
	u32 id;

	client_begin(c);
	put_args(c, argv);
	id = client_send(c, OP_SPAWN);
	assert_int_equal(client_wait(c, id), 0);
	return id;
}

static inline u32 client_on_program(struct client *c, u32 op, u32 program)
{
	client_begin(c);
	attr_put_u32(&c->attrs, ATTR_PROGRAM, program);
	return client_call(c, op);
}

static inline u32 client_kill(struct client *c, u32 program, int number)
{
	client_begin(c);
	attr_put_u32(&c->attrs, ATTR_PROGRAM, program);
	attr_put_u32(&c->attrs, ATTR_SIGNAL, (u32)number);
	return client_call(c, OP_KILL);
}

/* With whatever is in c->body after the header. Returns the error. */
static inline u32 client_stdin(struct client *c, u32 program, const void *data, size_t n)
{
	struct wire_output head = { .program = program };

	memcpy(c->body, &head, sizeof(head));
	if (n)
		memcpy(c->body + sizeof(head), data, n);
	return client_wait(c, client_send_body(c, OP_STDIN, sizeof(head) + n));
}

static inline u32 client_write_file(struct client *c, const char *path, struct wire_write head, const void *data,
				    size_t n)
{
	head.path_length = (u16)strlen(path);
	memcpy(c->body, &head, sizeof(head));
	memcpy(c->body + sizeof(head), path, head.path_length);
	memcpy(c->body + sizeof(head) + head.path_length, data, n);
	return client_wait(c, client_send_body(c, OP_WRITE, sizeof(head) + head.path_length + n));
}

static inline u32 client_read_file(struct client *c, const char *path, u64 offset, u64 length)
{
	client_begin(c);
	attr_put_string(&c->attrs, ATTR_PATH, path);
	attr_put_u64(&c->attrs, ATTR_OFFSET, offset);
	attr_put_u64(&c->attrs, ATTR_LENGTH, length);
	return client_call(c, OP_READ);
}

/* --- beginning and end --- */

/* Takes in the two frames that an agent announces itself with. */
static inline void client_expect_ready(struct client *c)
{
	struct frame f;
	u32 phase;

	assert_true(client_frame(c, &f));
	assert_int_equal(f.type, MSG_LIFECYCLE);
	assert_int_equal(f.length, sizeof(struct wire_lifecycle));
	memcpy(&phase, f.payload, sizeof(phase));
	assert_int_equal(phase, LIFECYCLE_INIT_STARTED);
	assert_true(client_frame(c, &f));
	assert_int_equal(f.type, MSG_SYS_RDY);
}

/* How the agent's process ended; waits for it. */
static inline int client_reap(struct client *c)
{
	int status;

	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	return status;
}

static inline void client_shut_down(struct client *c, s32 code)
{
	client_begin(c);
	attr_put_s32(&c->attrs, ATTR_CODE, code);
	assert_int_equal(client_call(c, OP_SHUTDOWN), 0);
	while (client_step(c))
		;
	assert_true(c->exit_seen);
	assert_int_equal(c->exit_code, code);
	assert_int_equal(client_reap(c), 0);
	assert_int_equal(c->in.stats.bad_headers + c->in.stats.bad_payloads + c->in.stats.unknown, 0);
}

/* cmocka's setup and teardown: an agent for each test, orderly ended. */
static inline int start_agent(void **state)
{
	struct client *c = client_start();

	client_expect_ready(c);
	*state = c;
	return 0;
}

static inline int end_agent(void **state)
{
	struct client *c = *state;

	client_shut_down(c, 0);
	client_free(c);
	return 0;
}

#define WITH_AGENT(f) cmocka_unit_test_setup_teardown(f, start_agent, end_agent)

#endif
