// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Starts a VMM under kvm_trace.so again and again and says when it got where.
 *
 * usage: measure --trace FILE.so [--runs N] [--until mark|TEXT] [--limit SECONDS] [--input FILE]
 *                COMMAND [ARGUMENT]...
 *
 * A run ends, by SIGKILL, when the guest wrote to the port (mark, the default) or the command printed
 * TEXT (\xNN for a byte). A line a run, separated by tabs, -1 for what did not come: microseconds from
 * execve to the first guest entry of the machine, to the mark, to TEXT; and for TEXT KiB of resident
 * memory at the time, and those of the guest's own. FILE is what the command reads first on its standard input.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	SLOTS_MAX = 64,
	OUTPUT_MAX = 1 << 20,
};

struct options {
	const char *trace, *input;
	int runs;
	double limit;
	char until[64];
	size_t until_size; /* 0: until the mark */
	char **command;
};

struct slot {
	uint64_t start, end;
};

struct run {
	pid_t pid;
	int trace, output;
	uint64_t started, entered, marked, printed; /* ns; 0: not yet */
	struct slot slots[SLOTS_MAX];
	int slot_count;
	char text[OUTPUT_MAX];
	size_t text_size;
	char line[128];
	size_t line_size;
	long resident, own;
};

static void die(const char *what)
{
	fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void become(const struct options *o, int trace, int output, int input)
{
	char fd[16];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	dup2(input, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	snprintf(fd, sizeof(fd), "%d", trace);
	setenv("KVM_TRACE_FD", fd, 1);
	setenv("LD_PRELOAD", o->trace, 1);
	execvp(o->command[0], o->command);
	fprintf(stderr, "measure: cannot run %s: %s\n", o->command[0], strerror(errno));
	_exit(127);
}

static void feed(const char *path, int fd)
{
	char data[4096];
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = file < 0 ? -1 : read(file, data, sizeof(data));

	if (n <= 0 || write(fd, data, (size_t)n) != n)
		die(path);
	close(file);
}

/* Its standard input stays open: a QEMU whose input ended would close the guest's port. */
static int start(struct run *run, const struct options *o)
{
	int trace[2], output[2], input[2];

	if (pipe2(trace, O_CLOEXEC) || pipe2(output, O_CLOEXEC) || pipe2(input, O_CLOEXEC))
		die("pipe");
	if (o->input)
		feed(o->input, input[1]);
	run->started = now_ns();
	run->pid = fork();
	if (run->pid < 0)
		die("fork");
	if (run->pid == 0) {
		fcntl(trace[1], F_SETFD, 0);
		become(o, trace[1], output[1], input[0]);
	}
	close(trace[1]);
	close(output[1]);
	close(input[0]);
	run->trace = trace[0];
	run->output = output[0];
	return input[1];
}

static void take_line(struct run *run, const char *line)
{
	unsigned long long a, b;

	if (sscanf(line, "run %llu", &a) == 1 && !run->marked)
		run->entered = a; // the last machine's: those before it were probes
	else if (sscanf(line, "mark %llu", &a) == 1 && !run->marked)
		run->marked = a;
	else if (sscanf(line, "memory %llx %llx", &a, &b) == 2 && run->slot_count < SLOTS_MAX)
		run->slots[run->slot_count++] = (struct slot){ a, a + b };
}

static bool take_trace(struct run *run)
{
	char data[4096];
	ssize_t n = read(run->trace, data, sizeof(data));

	for (ssize_t i = 0; i < n; i++) {
		if (data[i] != '\n' && run->line_size < sizeof(run->line) - 1) {
			run->line[run->line_size++] = data[i];
			continue;
		}
		run->line[run->line_size] = '\0';
		run->line_size = 0;
		take_line(run, run->line);
	}
	return n > 0;
}

static bool take_output(struct run *run, const struct options *o)
{
	ssize_t n = read(run->output, run->text + run->text_size, OUTPUT_MAX - run->text_size);

	if (n <= 0)
		return false;
	run->text_size += (size_t)n;
	if (o->until_size && !run->printed && memmem(run->text, run->text_size, o->until, o->until_size))
		run->printed = now_ns();
	return true;
}

static bool is_done(const struct run *run, const struct options *o)
{
	return o->until_size ? run->printed : run->marked;
}

static void watch(struct run *run, const struct options *o)
{
	uint64_t deadline = run->started + (uint64_t)(o->limit * 1e9);
	bool more = true;

	while (more && !is_done(run, o) && now_ns() < deadline) {
		struct pollfd fds[] = { { run->trace, POLLIN, 0 }, { run->output, POLLIN, 0 } };

		if (poll(fds, 2, 100) <= 0)
			continue;
		more = false;
		if (fds[0].revents)
			more |= take_trace(run);
		if (fds[1].revents)
			more |= take_output(run, o);
	}
}

static bool is_guest(const struct run *run, uint64_t start, uint64_t end)
{
	for (int i = 0; i < run->slot_count; i++) {
		if (start < run->slots[i].end && run->slots[i].start < end)
			return true;
	}
	return false;
}

static void read_memory(struct run *run)
{
	char path[64], line[512];
	unsigned long long start, end;
	bool guest = false;
	long kib;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", run->pid);
	f = fopen(path, "re");
	if (!f)
		return;
	run->resident = run->own = 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx-%llx ", &start, &end) == 2) {
			guest = is_guest(run, start, end);
		} else if (sscanf(line, "Rss: %ld kB", &kib) == 1) {
			run->resident += kib;
			run->own += guest ? kib : 0;
		}
	}
	fclose(f);
}

static double since(const struct run *run, uint64_t ns)
{
	return ns ? (double)(ns - run->started) / 1000 : -1;
}

static bool measure(const struct options *o)
{
	static struct run run;
	int status, input;

	run = (struct run){ .resident = -1, .own = -1 };
	input = start(&run, o);
	watch(&run, o);
	if (run.printed)
		read_memory(&run);
	kill(-run.pid, SIGKILL);
	waitpid(run.pid, &status, 0);
	close(run.trace);
	close(run.output);
	close(input);
	printf("%.0f\t%.0f\t%.0f\t%ld\t%ld\n", since(&run, run.entered), since(&run, run.marked),
	       since(&run, run.printed), run.resident, run.own);
	fflush(stdout);
	return is_done(&run, o);
}

/* \xNN in text is a byte. */
static size_t unescape(const char *text, char *ret, size_t max)
{
	size_t n = 0;
	unsigned int byte;

	while (*text && n < max) {
		if (sscanf(text, "\\x%2x", &byte) == 1) {
			ret[n++] = (char)byte;
			text += 4;
		} else {
			ret[n++] = *text++;
		}
	}
	return n;
}

static struct options parse(int argc, char **argv)
{
	static const struct option known[] = {
		{ "trace", required_argument, NULL, 't' },
		{ "runs", required_argument, NULL, 'r' },
		{ "until", required_argument, NULL, 'u' },
		{ "limit", required_argument, NULL, 'l' },
		{ "input", required_argument, NULL, 'i' },
		{ 0 },
	};
	struct options o = { .runs = 10, .limit = 60 };
	int c;

	while ((c = getopt_long(argc, argv, "+", known, NULL)) != -1) {
		switch (c) {
		case 't':
			o.trace = optarg;
			break;
		case 'r':
			o.runs = atoi(optarg);
			break;
		case 'l':
			o.limit = atof(optarg);
			break;
		case 'i':
			o.input = optarg;
			break;
		case 'u':
			if (strcmp(optarg, "mark"))
				o.until_size = unescape(optarg, o.until, sizeof(o.until));
			break;
		default:
			exit(2);
		}
	}
	o.command = argv + optind;
	if (!o.trace || !o.command[0] || o.runs < 1) {
		fprintf(stderr, "usage: measure --trace FILE.so [--runs N] [--until mark|TEXT] "
				"[--limit SECONDS] [--input FILE] COMMAND [ARGUMENT]...\n");
		exit(2);
	}
	return o;
}

int main(int argc, char **argv)
{
	struct options o = parse(argc, argv);
	bool ok = true;

	for (int i = 0; i < o.runs; i++)
		ok &= measure(&o);
	return ok ? 0 : 1;
}
