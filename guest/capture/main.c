// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ktstr-capture: asks for a capture from inside the machine, and waits until it has been taken.
 *
 * It knows nothing but the agent's socket. All of the machine stands still while a capture is taken, this
 * program too: to the guest it takes no time.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/local.h"
#include "base/cleanup.h"

enum exit_status {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_BUSY = 3,
	EXIT_TIMEOUT = 4,
};

enum { RETRY_PAUSE_NS = 20 * 1000 * 1000 };

#define HINT "try 'ktstr-capture --help'\n"

static const double RETRY_SECONDS_MAX = 1e6;

static const char help[] =
	"usage: ktstr-capture [--retry SECONDS] NAME\n"
	"\n"
	"Asks for a capture of this ktstr machine, and waits until it has been taken. NAME is what the test\n"
	"finds it by: 1 to 64 printable ASCII characters.\n"
	"\n"
	"  --retry SECONDS  ask again, for so long, while somebody else holds the freeze\n"
	"  --socket PATH    the agent's socket (" LOCAL_SOCKET ")\n"
	"  --help           this\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 usage, 3 busy (somebody else holds the freeze), 4 timeout (a vCPU\n"
	"did not stop in time).\n";

struct options {
	const char *socket;
	const char *name;
	double retry; /* seconds */
};

_Noreturn static void die_of_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn static void die_of_usage(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("ktstr-capture: ", stderr);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs("\n" HINT, stderr);
	exit(EXIT_USAGE);
}

static double parse_seconds(const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	/* "nan" is neither above nor below. */
	if (end == text || *end || !(seconds >= 0 && seconds <= RETRY_SECONDS_MAX))
		die_of_usage("--retry takes 0 to 1000000 seconds, not '%s'", text);
	return seconds;
}

static struct options parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "retry", required_argument, NULL, 'r' },
		{ "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct options options = { .socket = LOCAL_SOCKET };
	const char *wrong;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (c == 'r') {
			options.retry = parse_seconds(optarg);
		} else if (c == 's') {
			options.socket = optarg;
		} else if (c == 'h') {
			fputs(help, stdout);
			exit(EXIT_DONE);
		} else {
			/* getopt has said what is wrong. */
			fputs(HINT, stderr);
			exit(EXIT_USAGE);
		}
	}
	if (optind + 1 != argc)
		die_of_usage("one NAME is needed, not %d", argc - optind);
	options.name = argv[optind];
	wrong = local_name_check(options.name, strlen(options.name));
	if (wrong)
		die_of_usage("%s", wrong);
	return options;
}

struct text {
	char text[LOCAL_REASON_MAX + 1];
};

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

/*
 * The answer: the bytes of it, 0 when the agent has closed without one, or -1. An agent that answers before it
 * has read the request (it may have too many) may have closed already: its answer is there all the same, behind
 * an error.
 */
static ssize_t exchange(int fd, const char *name, struct local_answer *ret)
{
	struct local_request request = { .kind = SNAPSHOT_CAPTURE };
	size_t length = strlen(name);
	ssize_t n;

	memcpy(request.name, name, length);
	n = send(fd, &request, offsetof(struct local_request, name) + length, MSG_NOSIGNAL);
	if (n < 0 && errno != EPIPE && errno != ECONNRESET)
		return -1;
	do
		n = recv(fd, ret, sizeof(*ret), 0);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	return n;
}

static enum exit_status judge(u32 status)
{
	switch ((enum wire_snapshot_status)status) {
	case SNAPSHOT_DONE:
		return EXIT_DONE;
	case SNAPSHOT_BUSY:
		return EXIT_BUSY;
	case SNAPSHOT_TIMEOUT:
		return EXIT_TIMEOUT;
	case SNAPSHOT_FAILED:
		break;
	}
	return EXIT_FAILED;
}

/* One request, and why it was not done. */
static enum exit_status ask(const struct options *options, struct text *why)
{
	static const ssize_t head = offsetof(struct local_answer, reason);
	CLEANUP_CLOSE int fd = reach_agent(options->socket, why);
	struct local_answer answer;
	ssize_t n;

	if (fd < 0)
		return EXIT_FAILED;
	n = exchange(fd, options->name, &answer);
	if (n >= head) {
		snprintf(why->text, sizeof(why->text), "%.*s", (int)(n - head), answer.reason);
		return judge(answer.status);
	}
	snprintf(why->text, sizeof(why->text), "%s",
		 n < 0 ? strerror(errno) : "the agent ended before it answered");
	return EXIT_FAILED;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	static const char *const words[] = {
		[EXIT_FAILED] = "failed",
		[EXIT_BUSY] = "busy (somebody else holds the freeze)",
		[EXIT_TIMEOUT] = "timeout (a vCPU did not stop in time)",
	};
	static const struct timespec pause = { .tv_nsec = RETRY_PAUSE_NS };
	struct options options = parse_options(argc, argv);
	double until = now() + options.retry;
	enum exit_status status;
	struct text why;

	while ((status = ask(&options, &why)) == EXIT_BUSY && now() < until)
		nanosleep(&pause, NULL);
	if (status != EXIT_DONE)
		fprintf(stderr, "ktstr-capture: '%s': %s%s%s\n", options.name, words[status],
			*why.text ? ": " : "", why.text);
	return status;
}
