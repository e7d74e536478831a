// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ktstr-capture: asks for a capture from inside the machine, and waits until it has been taken.
 *
 * It knows nothing but the agent's socket. All of the machine stands still while a capture is taken, this
 * program too: to the guest it takes no time.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/local.h"
#include "local/client.h"

#define HINT "try 'ktstr-capture --help'\n"

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
	double seconds = client_parse_seconds(text);

	if (seconds < 0)
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

struct asking {
	const struct options *options;
	struct text why; /* it was not done */
};

static enum exit_status ask(void *arg)
{
	static const ssize_t head = offsetof(struct local_answer, reason);
	struct asking *asking = arg;
	struct local_request request = { .kind = SNAPSHOT_CAPTURE };
	struct local_answer answer;
	size_t length = strlen(asking->options->name);
	ssize_t n;

	memcpy(request.name, asking->options->name, length);
	n = client_exchange(asking->options->socket, &request, offsetof(struct local_request, name) + length, &answer,
			    sizeof(answer), &asking->why);
	if (n < head)
		return EXIT_FAILED;
	snprintf(asking->why.text, sizeof(asking->why.text), "%.*s", (int)(n - head), answer.reason);
	return judge(answer.status);
}

int main(int argc, char **argv)
{
	static const char *const words[] = {
		[EXIT_FAILED] = "failed",
		[EXIT_BUSY] = "busy (somebody else holds the freeze)",
		[EXIT_TIMEOUT] = "timeout (a vCPU did not stop in time)",
	};
	struct options options = parse_options(argc, argv);
	struct asking asking = { .options = &options };
	enum exit_status status = client_retry(options.retry, ask, &asking);

	if (status != EXIT_DONE)
		fprintf(stderr, "ktstr-capture: '%s': %s%s%s\n", options.name, words[status],
			*asking.why.text ? ": " : "", asking.why.text);
	return status;
}
