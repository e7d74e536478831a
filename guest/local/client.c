// SPDX-License-Identifier: GPL-2.0-or-later
#include "local/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { RETRY_PAUSE_NS = 20 * 1000 * 1000 };

static const double RETRY_SECONDS_MAX = 1e6;

double client_parse_seconds(const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	/* "nan" is neither above nor below. */
	return end != text && !*end && seconds >= 0 && seconds <= RETRY_SECONDS_MAX ? seconds : -1;
}

/* A connection to the agent; -1: why there is none. */
static int reach_agent(const char *path, struct text *why)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *fmt = "cannot reach the agent at %s (%s)";

	errno = fd < 0 ? errno : ENAMETOOLONG;
	if (fd >= 0 && strlen(path) < sizeof(address.sun_path)) {
		strcpy(address.sun_path, path);
		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			return no_close(fd);
	}
	if (errno == ENOENT)
		fmt = "no agent listens at %s (%s): is this a ktstr machine?";
	else if (errno == ECONNREFUSED)
		fmt = "the agent at %s takes no more requests (%s): the machine is shutting down";
	snprintf(why->text, sizeof(why->text), fmt, path, strerror(errno));
	return -1;
}

ssize_t client_exchange(const char *socket, const void *request, size_t size, void *answer, size_t max,
			struct text *why)
{
	CLEANUP_CLOSE int fd = reach_agent(socket, why);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = send(fd, request, size, MSG_NOSIGNAL);
	if (n >= 0 || errno == EPIPE || errno == ECONNRESET)
		do
			n = recv(fd, answer, max, 0);
		while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n <= 0)
		snprintf(why->text, sizeof(why->text), "%s",
			 n < 0 ? strerror(errno) : "the agent ended before it answered");
	return n > 0 ? n : -1;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

enum exit_status client_retry(double seconds, enum exit_status (*ask)(void *arg), void *arg)
{
	static const struct timespec pause = { .tv_nsec = RETRY_PAUSE_NS };
	double until = now() + seconds;
	enum exit_status status;

	while ((status = ask(arg)) == EXIT_BUSY && now() < until)
		nanosleep(&pause, NULL);
	return status;
}
