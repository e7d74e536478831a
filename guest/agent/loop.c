// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/ask.h"
#include "agent/cgroup.h"
#include "agent/helper.h"
#include "agent/program.h"
#include "agent/shutdown.h"
#include "agent/stream.h"
#include "agent/workers.h"

enum { EVENTS_A_TURN = 64,
       FILES_MAX = 16384 };

int source_add(struct agent *agent, struct source *source, int fd, u32 events)
{
	struct epoll_event event = { .events = events | EPOLLET, .data.ptr = source };

	return epoll_ctl(agent->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? errno : 0;
}

void source_close(struct agent *agent, int *fd)
{
	if (*fd < 0)
		return;
	epoll_ctl(agent->epoll_fd, EPOLL_CTL_DEL, *fd, NULL);
	close(*fd);
	*fd = -1;
}

void agent_wake_at(struct agent *agent, u64 ns)
{
	if (ns < agent->deadline)
		agent->deadline = ns;
}

void agent_log(const struct agent *agent, const char *fmt, ...)
{
	int fd = agent->init ? open("/dev/kmsg", O_WRONLY | O_CLOEXEC) : 2;
	char text[512];
	va_list args;
	int n = snprintf(text, sizeof(text), "ktstr-agent: ");

	va_start(args, fmt);
	n += vsnprintf(text + n, sizeof(text) - (size_t)n - 1, fmt, args);
	va_end(args);
	if (n > (int)sizeof(text) - 2)
		n = (int)sizeof(text) - 2;
	text[n++] = '\n';
	if (fd >= 0 && write(fd, text, (size_t)n) != n && !agent->init)
		return;
	if (agent->init && fd >= 0)
		close(fd);
}

static void signal_ready(struct agent *agent, struct source *source, u32 events)
{
	struct signalfd_siginfo info;

	while (read(agent->signal_fd, &info, sizeof(info)) > 0)
		;
	agent->reap = true;
}

u64 agent_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

int agent_init(struct agent *agent)
{
	struct rlimit many;
	sigset_t set;

	agent->cpu_start_ns = agent_clock(CLOCK_THREAD_CPUTIME_ID);
	agent->ready_last = &agent->ready_first;
	agent->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	agent->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (agent->epoll_fd < 0 || agent->null_fd < 0)
		return errno;
	/* Four descriptors a program; as PID 1 of a machine the agent may raise both limits. */
	getrlimit(RLIMIT_NOFILE, &agent->files);
	many = (struct rlimit){
		.rlim_cur = FILES_MAX,
		.rlim_max = agent->files.rlim_max > FILES_MAX ? agent->files.rlim_max : FILES_MAX,
	};
	if (setrlimit(RLIMIT_NOFILE, &many)) {
		many.rlim_cur = many.rlim_max = agent->files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &many);
	}

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	agent->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (agent->signal_fd < 0)
		return errno;
	agent->signal_source.ready = signal_ready;
	errno = source_add(agent, &agent->signal_source, agent->signal_fd, EPOLLIN);
	return errno ? errno : workers_init(agent);
}

/* Milliseconds until the next turn is due, rounded up; -1 for ever. */
static int timeout_ms(const struct agent *agent, bool at_once)
{
	u64 now = agent_clock(CLOCK_MONOTONIC);

	if (at_once || agent->deadline <= now)
		return 0;
	if (agent->deadline == UINT64_MAX)
		return -1;
	u64 ms = (agent->deadline - now + 999999) / 1000000;
	return ms < 60000 ? (int)ms : 60000;
}

static void wait_for_events(struct agent *agent, bool at_once)
{
	struct epoll_event events[EVENTS_A_TURN];
	int n = epoll_wait(agent->epoll_fd, events, EVENTS_A_TURN, timeout_ms(agent, at_once));

	for (int i = 0; i < n; i++) {
		struct source *source = events[i].data.ptr;

		source->ready(agent, source, events[i].events);
	}
	/* More may be waiting: the list holds so many only. */
	agent->again = n == EVENTS_A_TURN;
}

/* Everybody's: as PID 1 the agent inherits all orphans. */
static void reap_children(struct agent *agent)
{
	int status;
	pid_t pid;

	if (!agent->reap)
		return;
	agent->reap = false;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!programs_reap(agent, pid, status))
			workers_reap(agent, pid, status);
	agent->childless = pid < 0 && errno == ECHILD;
}

void agent_run(struct agent *agent)
{
	bool at_once = true;

	for (;;) {
		wait_for_events(agent, at_once);
		agent->now = agent_clock(CLOCK_MONOTONIC);
		agent->deadline = UINT64_MAX;
		reap_children(agent);
		requests_step(agent);
		programs_step(agent);
		helpers_step(agent);
		askers_step(agent, agent->captures);
		askers_step(agent, agent->kernel_ops);
		cgroup_step(agent);
		workers_step(agent);
		streams_step(agent);
		if (shutdown_step(agent))
			return;

		bool sent = port_flush(&agent->port);

		if (agent->port.ended)
			return;
		/* What was left undone for lack of room waits for the port, unless it has just taken some. */
		at_once = agent->again && (sent || !port_queued(&agent->port));
		if (port_queued(&agent->port) && agent->port.writable)
			agent_wake_at(agent, agent->now + 10000000);
	}
}
