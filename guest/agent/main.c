// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The agent: PID 1 of a machine under test. Under test itself it is an ordinary process:
 *
 *     agent --port FD [--last-words FD] [--cgroup-root DIR] [--random PATH] [--socket PATH]
 *           [--kernel-socket PATH]
 *
 * with a socket for the port, no mounts and no machine to end; all else is the same code.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/ask.h"
#include "agent/crash.h"
#include "agent/local.h"
#include "agent/module.h"
#include "agent/restored.h"
#include "agent/setup.h"
#include "agent/shutdown.h"

static void send_started(struct agent *agent)
{
	struct wire_lifecycle phase = { .phase = LIFECYCLE_INIT_STARTED };

	memcpy(port_frame(&agent->port, sizeof(phase)), &phase, sizeof(phase));
	port_frame_done(&agent->port, MSG_LIFECYCLE, sizeof(phase));
	port_flush(&agent->port);
}

static void take_port(struct agent *agent, int fd, bool stream)
{
	if (!port_init(&agent->port, fd, stream))
		crash_give_up("no memory for the port's buffers");
	errno = agent_init(agent);
	if (!errno)
		errno = source_add(agent, &agent->port.source, fd, EPOLLIN | EPOLLOUT);
	if (errno)
		crash_give_up("cannot set up the event loop: %s", strerror(errno));
	send_started(agent);
}

/* All else works without. */
static void take_askers(struct agent *agent, struct askers **ret, const struct ask_kind *kind, const char *path)
{
	int error = path ? askers_init(agent, ret, kind, path) : 0;

	if (error)
		agent_log(agent, "no %s from inside: cannot listen at %s: %s", kind->what, path, strerror(error));
}

_Noreturn static void run_as_init(struct agent *agent)
{
	struct fail f;
	int fd;

	agent->init = true;
	crash_init(setup_first(), true);
	/* Not every kernel has the port's driver built in. */
	if (modules_load_listed(MODULES_FOR_PORT, &f))
		crash_give_up("%s", f.message);
	fd = setup_open_port();
	if (fd < 0)
		crash_give_up("cannot open the port " WIRE_PORT_NAME ": %s", strerror(errno));
	take_port(agent, fd, false);
	setup_rest(agent);
	take_askers(agent, &agent->captures, &ask_captures, LOCAL_SOCKET);
	take_askers(agent, &agent->kernel_ops, &ask_kernel_ops, LOCAL_KERNEL_SOCKET);
	send_ready(agent, NULL);
	agent_run(agent);
	setup_power_off();
}

static int run_as_process(struct agent *agent, int port_fd, int last_words_fd, const char *socket,
			  const char *kernel_socket)
{
	crash_init(last_words_fd, false);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* Close-on-exec and non-blocking, as the device would be. */
	fcntl(port_fd, F_SETFD, FD_CLOEXEC);
	fcntl(port_fd, F_SETFL, O_NONBLOCK);
	if (last_words_fd >= 0)
		fcntl(last_words_fd, F_SETFD, FD_CLOEXEC);
	take_port(agent, port_fd, true);
	take_askers(agent, &agent->captures, &ask_captures, socket);
	take_askers(agent, &agent->kernel_ops, &ask_kernel_ops, kernel_socket);
	send_ready(agent, NULL);
	agent_run(agent);
	kill_everything(agent);
	return !agent->shutdown.exit_sent;
}

int main(int argc, char **argv)
{
	static struct agent agent = { .cgroup_root = "/sys/fs/cgroup", .random_path = "/dev/urandom" };
	int port_fd = -1, last_words_fd = -1;
	const char *socket = NULL, *kernel_socket = NULL;

	/* The kernel hands unknown words of its command line to PID 1: none of them is meant for the agent. */
	if (getpid() == 1)
		run_as_init(&agent);

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--port"))
			port_fd = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--last-words"))
			last_words_fd = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--cgroup-root"))
			agent.cgroup_root = argv[i + 1];
		else if (!strcmp(argv[i], "--random"))
			agent.random_path = argv[i + 1];
		else if (!strcmp(argv[i], "--socket"))
			socket = argv[i + 1];
		else if (!strcmp(argv[i], "--kernel-socket"))
			kernel_socket = argv[i + 1];
	}
	if (port_fd < 0) {
		fprintf(stderr, "ktstr-agent runs as PID 1 of a ktstr machine; to test it: --port FD\n");
		return 2;
	}
	return run_as_process(&agent, port_fd, last_words_fd, socket, kernel_socket);
}
