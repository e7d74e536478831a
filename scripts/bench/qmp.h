/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU as a child, spoken to by QMP, its guest's port on its standard input and output.
 * Depends on libc and base/clock.h.
 * For the programs beside it: what goes wrong ends them, with a word on stderr, and QEMU dies with them.
 */
#ifndef KTSTR_BENCH_QMP_H
#define KTSTR_BENCH_QMP_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { PEER_ARGUMENTS_MAX = 64 };

struct peer {
	pid_t pid;
	int input, output, qmp;
	char line[65536]; /* of QMP, a line's beginning at its start */
	size_t size;
};

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, fmt, args);
	fputs("\n", stderr);
	va_end(args);
	exit(1);
}

static void peer_become(char **command, int input, int output, int qmp)
{
	char chardev[64], *argv[PEER_ARGUMENTS_MAX + 5];
	int n = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(input, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	while (command[n] && n < PEER_ARGUMENTS_MAX) {
		argv[n] = command[n];
		n++;
	}
	snprintf(chardev, sizeof(chardev), "socket,id=qmp,fd=%d", qmp);
	argv[n++] = "-chardev";
	argv[n++] = chardev;
	argv[n++] = "-mon";
	argv[n++] = "chardev=qmp,mode=control";
	argv[n] = NULL;
	execvp(argv[0], argv);
	fprintf(stderr, "%s: cannot run %s: %s\n", program_invocation_short_name, argv[0], strerror(errno));
	_exit(127);
}

/* Its standard input stays open: a QEMU whose input ended would close the guest's port. */
static void peer_spawn(struct peer *peer, char **command)
{
	int input[2], output[2], qmp[2];

	if (pipe2(input, O_CLOEXEC) || pipe2(output, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp))
		die("pipes: %s", strerror(errno));
	peer->pid = fork();
	if (peer->pid < 0)
		die("fork: %s", strerror(errno));
	if (peer->pid == 0) {
		fcntl(qmp[1], F_SETFD, 0);
		peer_become(command, input[0], output[1], qmp[1]);
	}
	close(input[0]);
	close(output[1]);
	close(qmp[1]);
	peer->input = input[1];
	peer->output = output[0];
	peer->qmp = qmp[0];
	peer->size = 0;
}

/* A line that holds the text; an error, or a migration that failed, ends the program. */
static bool peer_is_line(const char *line, size_t size, const char *text)
{
	static const char error[] = "{\"error\":", failed[] = "\"status\": \"failed\"";

	if ((size >= sizeof(error) - 1 && memcmp(line, error, sizeof(error) - 1) == 0) ||
	    memmem(line, size, failed, sizeof(failed) - 1))
		die("QMP: %.*s", (int)size, line);
	return memmem(line, size, text, strlen(text));
}

/* Takes lines until one holds the text. */
static void peer_wait(struct peer *peer, const char *text)
{
	for (;;) {
		char *end = memchr(peer->line, '\n', peer->size);

		if (end) {
			size_t size = (size_t)(end + 1 - peer->line);
			bool done = peer_is_line(peer->line, size, text);

			peer->size -= size;
			memmove(peer->line, end + 1, peer->size);
			if (done)
				return;
			continue;
		}

		ssize_t n = read(peer->qmp, peer->line + peer->size, sizeof(peer->line) - peer->size);

		if (n <= 0)
			die("QEMU has closed its QMP socket");
		peer->size += (size_t)n;
	}
}

/* arguments: a JSON object. */
static void peer_send(const struct peer *peer, const char *name, const char *arguments)
{
	char line[4096];
	int size = snprintf(line, sizeof(line), "{\"execute\":\"%s\",\"arguments\":%s}\n", name, arguments);

	if (size >= (int)sizeof(line) || write(peer->qmp, line, (size_t)size) != size)
		die("QMP: %s", strerror(errno));
}

/* How long the command took: the greeting and events come before its return. */
static u64 peer_command(struct peer *peer, const char *name, const char *arguments)
{
	u64 start = clock_now_ns();

	peer_send(peer, name, arguments);
	peer_wait(peer, "\"return\"");
	return clock_now_ns() - start;
}

/* Reads what the guest sends until it holds the text; false after so many seconds. */
static bool peer_wait_output(const struct peer *peer, const char *text, unsigned int seconds)
{
	u64 deadline = clock_now_ns() + seconds * NSEC_PER_SEC;
	struct pollfd p = { .fd = peer->output, .events = POLLIN };
	char data[65536];
	size_t size = 0;

	while (!memmem(data, size, text, strlen(text))) {
		u64 now = clock_now_ns();

		if (now >= deadline || poll(&p, 1, (int)((deadline - now) / NSEC_PER_MSEC) + 1) <= 0)
			return false;

		ssize_t n = read(peer->output, data + size, sizeof(data) - size);

		if (n <= 0)
			return false;
		size += (size_t)n;
	}
	return true;
}

static void peer_end(struct peer *peer)
{
	kill(peer->pid, SIGKILL);
	waitpid(peer->pid, NULL, 0);
	close(peer->input);
	close(peer->output);
	close(peer->qmp);
}

#endif
