/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An agent with a socket, and what is at its two sides: the host, and programs of the guest that ask for captures.
 * Depends on core/agent_client.h. KTSTR_CAPTURE names another ktstr-capture than the one built beside the tests.
 * Whatever is waited for is waited for by an event, and no longer than a minute.
 */
#ifndef TESTS_CORE_CAPTURE_RIG_H
#define TESTS_CORE_CAPTURE_RIG_H

#include "core/agent_client.h"

#include <grp.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/local.h"

struct rig {
	struct client *c;
	char directory[64], socket[80];
};

/* The socket is for what that option of the agent's says. */
static inline int start_rig_with(void **state, const char *option)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	strcpy(rig->directory, "/tmp/ktstr-capture-XXXXXX");
	assert_non_null(mkdtemp(rig->directory));
	chmod(rig->directory, 0755);
	snprintf(rig->socket, sizeof(rig->socket), "%s/agent", rig->directory);
	rig->c = client_start_with(option, rig->socket);
	client_expect_ready(rig->c);
	*state = rig;
	return 0;
}

static inline int start_rig(void **state)
{
	return start_rig_with(state, "--socket");
}

static inline void free_rig(struct rig *rig)
{
	client_free(rig->c);
	unlink(rig->socket);
	rmdir(rig->directory);
	free(rig);
}

static inline int end_rig(void **state)
{
	struct rig *rig = *state;

	client_shut_down(rig->c, 0);
	free_rig(rig);
	return 0;
}

/* Whose agent the test has ended itself. */
static inline int end_rig_without_agent(void **state)
{
	free_rig(*state);
	return 0;
}

#define WITH_RIG(f) cmocka_unit_test_setup_teardown(f, start_rig, end_rig)
#define WITH_DOOMED_RIG(f) cmocka_unit_test_setup_teardown(f, start_rig, end_rig_without_agent)

/* --- the host's side --- */

/* The next request of the agent. */
static inline struct wire_snapshot_request next_request(struct client *c)
{
	u32 before = c->snapshot_count;

	while (c->snapshot_count == before)
		assert_true(client_step(c));
	return c->snapshots[before % CLIENT_SNAPSHOTS];
}

static inline void reply(struct client *c, u32 id, u32 status, const char *reason)
{
	struct wire_snapshot_reply head = { .request_id = id, .status = status };
	u8 payload[4096], frame[sizeof(payload) + WIRE_HEADER_SIZE];
	struct attr_writer w = attr_writer_init(payload + sizeof(head), sizeof(payload) - sizeof(head));

	memcpy(payload, &head, sizeof(head));
	if (*reason)
		attr_put_string(&w, ATTR_REASON, reason);
	assert_false(w.failed);
	client_write(c, frame,
		     frame_encode(frame, sizeof(frame), MSG_SNAPSHOT_REPLY, payload, (u32)(sizeof(head) + w.size)));
}

/* A ping in between: what had come to the agent before has been seen to, so that nothing of it is counted. */
static inline u32 count_descriptors(struct client *c)
{
	client_ping(c);
	client_begin(c);
	assert_int_equal(client_call(c, OP_SELF), 0);
	return (u32)reply_number(c, ATTR_COUNT);
}

/* --- a guest's program: ktstr-capture itself, or ktstr-kernel --- */

struct run {
	pid_t pid;
	int out; /* its stdout and stderr */
	char text[4096];
};

static inline struct run run_program(const char *name, const char *variable, uid_t user, const char *socket,
				     const char *const *args)
{
	const char *argv[32] = { name, "--socket", socket };
	char path[PATH_MAX];
	struct run run = { 0 };
	int pipes[2];

	for (u32 i = 0; args[i]; i++)
		argv[3 + i] = args[i];
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	run.pid = fork();
	if (!run.pid) {
		int program = open(guest_program_path(variable, name, path), O_RDONLY | O_CLOEXEC);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(pipes[1], 1);
		dup2(pipes[1], 2);
		if (user && (setgroups(0, NULL) || setgid(user) || setuid(user)))
			_exit(126);
		fexecve(program, (char **)argv, (char *[]){ NULL });
		_exit(127);
	}
	close(pipes[1]);
	run.out = pipes[0];
	return run;
}

static inline struct run run_as(uid_t user, const char *socket, const char *const *args)
{
	return run_program("ktstr-capture", "KTSTR_CAPTURE", user, socket, args);
}

static inline struct run run(const char *socket, const char *const *args)
{
	return run_as(0, socket, args);
}

/* Waits for its end; the exit status. What it said is in run->text. */
static inline int end_of(struct run *run)
{
	size_t size = 0;
	int status;

	for (;;) {
		struct pollfd p = { .fd = run->out, .events = POLLIN };
		ssize_t n;

		assert_int_equal(poll(&p, 1, CLIENT_WAIT_MS), 1);
		n = read(run->out, run->text + size, sizeof(run->text) - 1 - size);
		if (n <= 0)
			break;
		size += (size_t)n;
	}
	run->text[size] = 0;
	close(run->out);
	assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* --- a guest's program that goes its own ways --- */

static inline int reach(const struct rig *rig)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, rig->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline void say(int fd, const char *name)
{
	struct local_request request = { .kind = SNAPSHOT_CAPTURE };
	ssize_t n = (ssize_t)(offsetof(struct local_request, name) + strlen(name));

	memcpy(request.name, name, strlen(name));
	assert_int_equal(send(fd, &request, (size_t)n, MSG_NOSIGNAL), n);
}

static inline int ask(const struct rig *rig, const char *name)
{
	int fd = reach(rig);

	say(fd, name);
	return fd;
}

/* Expects that answer, and the agent to close. */
static inline void expect_answer(int fd, u32 status, const char *reason)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct local_answer answer;
	ssize_t n;

	assert_int_equal(poll(&p, 1, CLIENT_WAIT_MS), 1);
	n = recv(fd, &answer, sizeof(answer), 0);
	assert_true(n >= (ssize_t)sizeof(answer.status));
	assert_int_equal(answer.status, status);
	assert_int_equal(n, sizeof(answer.status) + strlen(reason));
	assert_memory_equal(answer.reason, reason, strlen(reason));
	assert_int_equal(recv(fd, &answer, sizeof(answer), 0), 0);
	close(fd);
}

#endif
