// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ktstr-kernel: reads and writes the kernel's memory from inside the machine, by the host's hand.
 *
 * It knows nothing but the agent's socket and how requests are written: what a name means, and where it lies, the
 * host knows.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_op/operation.h"
#include "local/client.h"

#define HINT "try 'ktstr-kernel --help'\n"

enum { ANSWER_MAX = 64 << 10 };

static const char help[] =
	"usage: ktstr-kernel [--cold] [--retry SECONDS] OPERATION...\n"
	"\n"
	"Reads and writes this machine's kernel, in order, up to the first operation that fails; those before it\n"
	"stay done. For each that was done it prints a line.\n"
	"\n"
	"  read PLACE         the value; of bytes their hexadecimal digits\n"
	"  write PLACE VALUE  'written'\n"
	"  or PLACE VALUE     sets bits of a word of 32; the value before\n"
	"\n"
	"PLACE is a symbol (jiffies_64), a per-CPU symbol with its CPU (runqueues@1), an address (0xffffffff82a00000)\n"
	"or a task by its pid (task:1); then a field (runqueues@1.curr.pid, avenrun[1]), where 'a|b' is the first\n"
	"that the kernel has; then, where the kernel's types do not say it, or say it otherwise, :u8 to :u64, :s8 to\n"
	":s64, :bytes or :bytes16 (panic_timeout:s32). A CPU is said where a pointer on the way is per-CPU, too\n"
	"(task:1@0).\n"
	"What is at a symbol or an address is said in braces: 0xffff888003c2a000{struct rq}.nr_running. VALUE is a\n"
	"number (10, -10, 0xa), or the hexadecimal digits of bytes.\n"
	"\n"
	"  --cold           all of them in one freeze of the machine; else while it runs, each word at once\n"
	"  --retry SECONDS  ask again, for so long, while somebody else holds the freeze\n"
	"  --socket PATH    the agent's socket (" LOCAL_KERNEL_SOCKET ")\n"
	"  --help           this\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 usage, 3 busy (somebody else holds the freeze), 4 timeout (nobody on the\n"
	"host came to do it, or a vCPU did not stop in time).\n";

struct options {
	const char *socket;
	bool cold;
	double retry; /* seconds */
};

_Noreturn static void die_of_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn static void die_of_usage(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("ktstr-kernel: ", stderr);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs("\n" HINT, stderr);
	exit(EXIT_USAGE);
}

static void take_option(struct options *options, int c)
{
	switch (c) {
	case 'c':
		options->cold = true;
		break;
	case 'r':
		options->retry = client_parse_seconds(optarg);
		if (options->retry < 0)
			die_of_usage("--retry takes 0 to 1000000 seconds, not '%s'", optarg);
		break;
	case 's':
		options->socket = optarg;
		break;
	case 'h':
		fputs(help, stdout);
		exit(EXIT_DONE);
	default:
		/* getopt has said what is wrong. */
		fputs(HINT, stderr);
		exit(EXIT_USAGE);
	}
}

static struct options parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "cold", no_argument, NULL, 'c' },
		{ "retry", required_argument, NULL, 'r' },
		{ "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct options options = { .socket = LOCAL_KERNEL_SOCKET };
	int c;

	/* A negative VALUE is no option: they end with the first word that is none. */
	while ((c = getopt_long(argc, argv, "+", known, NULL)) >= 0)
		take_option(&options, c);
	if (optind == argc)
		die_of_usage("what to do is not said");
	return options;
}

/* --- the request --- */

struct request {
	u8 data[KERNEL_OP_REQUEST_MAX];
	size_t size;
};

static void make_request(struct request *request, const struct options *options, char **words)
{
	struct wire_kernel_op_request head = {
		.request_id = LOCAL_KERNEL_OP,
		.flags = options->cold ? KERNEL_OP_COLD : 0,
	};
	struct attr_writer w = attr_writer_init(request->data + sizeof(head), sizeof(request->data) - sizeof(head));
	char wrong[200];

	memcpy(request->data, &head, sizeof(head));
	while (*words) {
		int used = operation_put(&w, words, wrong, sizeof(wrong));

		if (used < 0)
			die_of_usage("%s", wrong);
		words += used;
	}
	if (w.failed)
		die_of_usage("that is more than one request can hold");
	request->size = sizeof(head) + w.size;
}

/* --- the answer --- */

struct asking {
	const struct options *options;
	struct request request;
	u8 answer[ANSWER_MAX];
	size_t size;
	struct text why;
};

static void print_value(const struct attr *a)
{
	const u8 *bytes = a->value;

	switch (a->info->type) {
	case ATTR_VALUE:
		printf("%" PRIu64 "\n", attr_u64(a));
		break;
	case ATTR_SIGNED:
		printf("%" PRId64 "\n", (s64)attr_u64(a));
		break;
	case ATTR_WRITTEN:
		puts("written");
		break;
	case ATTR_DATA:
		for (size_t i = 0; i < a->length; i++)
			printf("%02x", bytes[i]);
		puts("");
		break;
	}
}

static struct attr_reader attributes_of(const struct asking *asking)
{
	const size_t head = sizeof(struct wire_kernel_op_reply);

	return attr_reader_init(asking->answer + head, asking->size - head);
}

static void note_reason(struct asking *asking)
{
	struct attr_reader r = attributes_of(asking);
	struct attr a;

	asking->why.text[0] = 0;
	while (attr_next(&r, &a))
		if (a.info->type == ATTR_REASON)
			attr_string(&a, asking->why.text, sizeof(asking->why.text));
}

static enum exit_status ask(void *arg)
{
	static const enum exit_status statuses[] = {
		[KERNEL_OP_DONE] = EXIT_DONE,
		[KERNEL_OP_BUSY] = EXIT_BUSY,
		[KERNEL_OP_TIMEOUT] = EXIT_TIMEOUT,
		[KERNEL_OP_FAILED] = EXIT_FAILED,
	};
	struct asking *asking = arg;
	struct wire_kernel_op_reply head;
	ssize_t n = client_exchange(asking->options->socket, asking->request.data, asking->request.size,
				    asking->answer, sizeof(asking->answer), &asking->why);

	asking->size = 0;
	if (n < 0)
		return EXIT_FAILED;
	if ((size_t)n < sizeof(head)) {
		snprintf(asking->why.text, sizeof(asking->why.text), "the agent's answer of %zd bytes is none", n);
		return EXIT_FAILED;
	}
	asking->size = (size_t)n;
	memcpy(&head, asking->answer, sizeof(head));
	note_reason(asking);
	return head.status < sizeof(statuses) / sizeof(*statuses) ? statuses[head.status] : EXIT_FAILED;
}

static void print_values(const struct asking *asking)
{
	struct attr_reader r = attributes_of(asking);
	struct attr a;

	while (attr_next(&r, &a))
		print_value(&a);
}

int main(int argc, char **argv)
{
	static const char *const words[] = {
		[EXIT_FAILED] = "failed",
		[EXIT_BUSY] = "busy",
		[EXIT_TIMEOUT] = "timeout",
	};
	static struct asking asking;
	struct options options = parse_options(argc, argv);
	enum exit_status status;

	asking.options = &options;
	make_request(&asking.request, &options, argv + optind);
	status = client_retry(options.retry, ask, &asking);
	if (asking.size)
		print_values(&asking);
	fflush(stdout);
	if (status != EXIT_DONE)
		fprintf(stderr, "ktstr-kernel: %s%s%s\n", words[status], *asking.why.text ? ": " : "", asking.why.text);
	return status;
}
