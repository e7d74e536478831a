// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * with-kvm's end on the host: sends one command to a helper machine, carries its streams and
 * signals, and exits as it did.
 *
 * usage: client --state DIR --project DIR --cache DIR [--owned PID] [--refresh] [--timeout S]
 *               (--ping | -- COMMAND [ARGUMENT]...)
 *
 * scripts/with-kvm replaces itself with it, so that signals and the parent's wait need no relay.
 * With --owned PID that QEMU is its child and lives no longer than it.
 */
#include "wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum {
	FAILED = 125, /* the helper's own failure, as opposed to the command's */
	TIMED_OUT = 124,
	PORTS = 8,
	START_LIMIT = 180, /* seconds for a helper to boot and answer, on a busy host */
	END_LIMIT = 10, /* seconds a command has to end after a signal */
};

struct client {
	const char *state, *project, *cache;
	pid_t owned;
	int ping, refresh;
	double timeout;

	int lock, port;
	uint32_t flags;
	uint8_t nonce[NONCE_SIZE];
	int running; /* STARTED was seen */
	int ended_by; /* the signal that we passed on, or 0 */
	double deadline; /* 0: none */
	int deadline_status;

	int stdin_open;
	uint32_t stdin_window;
	struct termios terminal;
	int raw;

	size_t in_size;
	char in[4 * (sizeof(struct frame_header) + FRAME_MAX)];
};

/* Set by signal handlers, which have nowhere else to put it. */
static volatile sig_atomic_t signal_seen, window_changed;

static void on_signal(int number)
{
	if (number == SIGWINCH)
		window_changed = 1;
	else
		signal_seen = number;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "with-kvm: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
}

static void remove_state(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(path);
}

/* The only way out: puts back the terminal and leaves no machine behind. */
_Noreturn static void leave(struct client *c, int status)
{
	if (c->raw)
		tcsetattr(0, TCSAFLUSH, &c->terminal);
	if (c->owned > 0) {
		kill(c->owned, SIGKILL);
		waitpid(c->owned, NULL, 0);
		remove_state(c->state);
	}
	exit(status);
}

static void show_console(const struct client *c)
{
	char path[4096], text[4096];

	snprintf(path, sizeof(path), "%s/console.log", c->state);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	off_t size = lseek(fd, 0, SEEK_END);

	lseek(fd, size > 3000 ? size - 3000 : 0, SEEK_SET);
	ssize_t n = read(fd, text, sizeof(text));

	close(fd);
	if (n <= 0)
		return;
	fprintf(stderr, "with-kvm: the end of the helper's console:\n");
	fwrite(text, 1, n, stderr);
	if (text[n - 1] != '\n')
		fputc('\n', stderr);
}

_Noreturn static void helper_failed(struct client *c, const char *what)
{
	if (c->raw)
		tcsetattr(0, TCSAFLUSH, &c->terminal);
	c->raw = 0;
	complain("%s", what);
	show_console(c);
	leave(c, FAILED);
}

static int machine_is_up(const struct client *c)
{
	char path[4096];

	if (c->owned > 0)
		return waitpid(c->owned, NULL, WNOHANG) == 0;
	// QEMU holds this lock for as long as it lives.
	snprintf(path, sizeof(path), "%s/lock", c->state);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return 0;
	int up = flock(fd, LOCK_EX | LOCK_NB) != 0;

	close(fd);
	return up;
}

static int exit_status_of(int number)
{
	return 128 + number;
}

static int seconds_left_ms(const struct client *c)
{
	if (!c->deadline)
		return -1;
	double left = c->deadline - now();

	return left <= 0 ? 0 : left * 1000 + 1;
}

static void check_deadline(struct client *c)
{
	if (!c->deadline || now() < c->deadline)
		return;
	if (c->deadline_status == FAILED)
		helper_failed(c, "the helper machine does not answer");
	if (c->deadline_status == TIMED_OUT)
		complain("timed out after %g seconds", c->timeout);
	leave(c, c->deadline_status);
}

static void take_signals(struct client *c);

/* All of it, or the helper is gone. */
static void port_write(struct client *c, const void *data, size_t size)
{
	while (size) {
		ssize_t n = send(c->port, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			helper_failed(c, "the helper machine died");
		if (n < 0) {
			struct pollfd p = { .fd = c->port, .events = POLLOUT };

			poll(&p, 1, seconds_left_ms(c));
			check_deadline(c);
			// Before the command runs, a signal ends the wait; later it has to
			// queue behind what is being sent.
			if (signal_seen && !c->running)
				leave(c, exit_status_of(signal_seen));
			continue;
		}
		data = (const char *)data + n;
		size -= n;
	}
}

static void send_frame(struct client *c, enum frame_type type, const void *data, uint32_t size)
{
	char frame[sizeof(struct frame_header) + FRAME_MAX];
	struct frame_header h = { .type = type, .length = size };

	memcpy(frame, &h, sizeof(h));
	if (size)
		memcpy(frame + sizeof(h), data, size);
	port_write(c, frame, sizeof(h) + size);
}

/* Passes a signal on once; the command then has END_LIMIT to end. */
static void take_signals(struct client *c)
{
	uint32_t number = signal_seen;

	if (!number)
		return;
	signal_seen = 0;
	if (!c->running || (c->ended_by && number != SIGINT))
		leave(c, exit_status_of(number));
	send_frame(c, FRAME_SIGNAL, &number, sizeof(number));
	if (!c->ended_by) {
		c->ended_by = number;
		c->deadline = now() + END_LIMIT;
		c->deadline_status = exit_status_of(number);
	}
}

static void take_window(struct client *c)
{
	struct winsize size;

	if (!window_changed)
		return;
	window_changed = 0;
	if (c->running && c->flags & REQUEST_PTY && !ioctl(1, TIOCGWINSZ, &size)) {
		uint16_t window[2] = { size.ws_row, size.ws_col };

		send_frame(c, FRAME_WINSIZE, window, sizeof(window));
	}
}

/* A reader that is slow, or stopped, must not keep a signal from being passed on. */
static void output(struct client *c, int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n > 0) {
			data += n;
			size -= n;
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, 1000);
		} else if (n < 0 && errno != EINTR) {
			return;
		}
		take_signals(c);
		check_deadline(c);
	}
}

static void make_raw(struct client *c)
{
	struct termios raw;

	if (!(c->flags & REQUEST_PTY) || tcgetattr(0, &c->terminal))
		return;
	raw = c->terminal;
	cfmakeraw(&raw);
	tcsetattr(0, TCSADRAIN, &raw);
	c->raw = 1;
}

static void go(struct client *c)
{
	struct timespec t;

	c->running = 1;
	c->deadline = 0;
	if (c->timeout > 0) {
		c->deadline = now() + c->timeout;
		c->deadline_status = TIMED_OUT;
	}
	make_raw(c);
	clock_gettime(CLOCK_REALTIME, &t);

	uint64_t realtime = t.tv_sec * 1000000000ull + t.tv_nsec;

	send_frame(c, FRAME_GO, &realtime, sizeof(realtime));
}

static void command_ended(struct client *c, uint32_t status)
{
	leave(c, c->ended_by ? exit_status_of(c->ended_by) : (int)status);
}

static void handle_frame(struct client *c, int type, const char *data, size_t size)
{
	uint32_t number = 0;

	if (size >= sizeof(number))
		memcpy(&number, data, sizeof(number));
	switch (type) {
	case FRAME_STDOUT:
		output(c, 1, data, size);
		break;
	case FRAME_STDERR:
		output(c, 2, data, size);
		break;
	case FRAME_CREDIT:
		c->stdin_window += number;
		break;
	case FRAME_EXIT:
		command_ended(c, number);
	}
}

/* Looks for our own STARTED in what may be the end of another command's output. */
static size_t find_start(struct client *c)
{
	char wanted[sizeof(WIRE_MAGIC) + NONCE_SIZE];

	memcpy(wanted, WIRE_MAGIC, sizeof(WIRE_MAGIC));
	memcpy(wanted + sizeof(WIRE_MAGIC), c->nonce, NONCE_SIZE);

	char *found = memmem(c->in, c->in_size, wanted, sizeof(wanted));

	if (found) {
		go(c);
		return found + sizeof(wanted) - c->in;
	}
	return c->in_size < sizeof(wanted) ? 0 : c->in_size - sizeof(wanted) + 1;
}

static void parse(struct client *c)
{
	size_t at = c->running ? 0 : find_start(c);

	while (c->running && c->in_size - at >= sizeof(struct frame_header)) {
		struct frame_header h;

		memcpy(&h, c->in + at, sizeof(h));
		if (h.type < FRAME_REQUEST || h.type > FRAME_EXIT || h.length > FRAME_MAX)
			helper_failed(c, "the helper machine sent what makes no sense");
		if (c->in_size - at < sizeof(h) + h.length)
			break;
		handle_frame(c, h.type, c->in + at + sizeof(h), h.length);
		at += sizeof(h) + h.length;
	}
	c->in_size -= at;
	memmove(c->in, c->in + at, c->in_size);
}

static void port_read(struct client *c)
{
	ssize_t n = read(c->port, c->in + c->in_size, sizeof(c->in) - c->in_size);

	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		helper_failed(c, c->running ? "the helper machine died" :
					      "the helper machine did not start");
	if (n > 0) {
		c->in_size += n;
		parse(c);
	}
}

static void carry_stdin(struct client *c)
{
	char data[FRAME_MAX];
	size_t most = c->stdin_window < sizeof(data) ? c->stdin_window : sizeof(data);
	ssize_t n = read(0, data, most);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		c->stdin_open = 0;
		n = 0;
	}
	c->stdin_window -= n;
	send_frame(c, FRAME_STDIN, data, n);
}

/* A background job that reads its terminal would be stopped. */
static int stdin_readable(const struct client *c)
{
	return c->running && c->stdin_open && c->stdin_window &&
	       (!isatty(0) || tcgetpgrp(0) == getpgrp());
}

_Noreturn static void serve(struct client *c)
{
	for (;;) {
		int reading = stdin_readable(c);
		struct pollfd p[] = {
			{ .fd = c->port, .events = POLLIN },
			{ .fd = reading ? 0 : -1, .events = POLLIN },
		};

		int n = poll(p, 2, seconds_left_ms(c));

		take_signals(c);
		take_window(c);
		check_deadline(c);
		if (n <= 0)
			continue;
		if (p[0].revents)
			port_read(c);
		if (p[1].revents)
			carry_stdin(c);
	}
}

struct bytes {
	char *data;
	size_t size;
};

static void append(struct bytes *b, const void *data, size_t size)
{
	b->data = realloc(b->data, b->size + size);
	if (!b->data) {
		complain("out of memory");
		exit(FAILED);
	}
	memcpy(b->data + b->size, data, size);
	b->size += size;
}

static void append_string(struct bytes *b, const char *string)
{
	append(b, string, strlen(string) + 1);
}

static uint32_t count(char *const *list)
{
	uint32_t n = 0;

	while (list[n])
		n++;
	return n;
}

static int same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino &&
	       x.st_rdev == y.st_rdev;
}

static uint32_t request_flags(const struct client *c)
{
	uint32_t flags = c->refresh ? REQUEST_REFRESH : 0;

	if (c->ping)
		return flags | REQUEST_PING;
	if (fcntl(0, F_GETFD) >= 0)
		flags |= REQUEST_STDIN;
	// A background job of a terminal gets pipes: it may not change the terminal's mode.
	if (isatty(0) && isatty(1) && tcgetpgrp(0) == getpgrp()) {
		flags |= REQUEST_PTY;
		if (isatty(2))
			flags |= REQUEST_PTY_STDERR;
	} else if (same_file(1, 2)) {
		flags |= REQUEST_MERGED;
	}
	return flags;
}

static struct bytes make_request(const struct client *c, char **command)
{
	extern char **environ;
	struct bytes b = { 0 };
	struct winsize size = { 0 };
	struct rlimit files = { 1024, 1024 };
	gid_t groups[256];
	int group_count = getgroups(256, groups);
	char cwd[4096];
	mode_t mask = umask(0);

	umask(mask);
	ioctl(1, TIOCGWINSZ, &size);
	getrlimit(RLIMIT_NOFILE, &files);
	if (!getcwd(cwd, sizeof(cwd))) {
		complain("working directory: %s", strerror(errno));
		exit(FAILED);
	}
	if (group_count < 0)
		group_count = 0;

	struct request r = {
		.flags = c->flags,
		.uid = geteuid(),
		.gid = getegid(),
		.umask = mask,
		.groups = group_count,
		.argc = count(command),
		.envc = count(environ) + 1,
		.rows = size.ws_row,
		.columns = size.ws_col,
		.open_files = files.rlim_cur,
	};

	append(&b, &r, sizeof(r));
	append(&b, groups, group_count * sizeof(*groups));
	append_string(&b, cwd);
	append_string(&b, c->project);
	append_string(&b, c->cache);
	for (char **arg = command; *arg; arg++)
		append_string(&b, *arg);
	for (char **env = environ; *env; env++)
		append_string(&b, *env);
	append_string(&b, "KTSTR_IN_HELPER=1");
	return b;
}

static void send_request(struct client *c, char **command)
{
	const char pad[sizeof(struct frame_header) + FRAME_MAX] = { 0 };
	struct bytes b = make_request(c, command);

	if (b.size > REQUEST_MAX) {
		complain("the command's arguments and environment are too long");
		leave(c, FAILED);
	}
	port_write(c, pad, sizeof(pad));
	send_frame(c, FRAME_REQUEST, c->nonce, sizeof(c->nonce));
	for (size_t at = 0; at < b.size; at += FRAME_MAX) {
		size_t left = b.size - at;

		send_frame(c, FRAME_REQUEST_DATA, b.data + at, left < FRAME_MAX ? left : FRAME_MAX);
	}
	send_frame(c, FRAME_REQUEST_END, NULL, 0);
	free(b.data);
}

static void pause_ms(struct client *c, int ms)
{
	poll(NULL, 0, ms);
	if (signal_seen)
		leave(c, exit_status_of(signal_seen));
	check_deadline(c);
}

/* Takes a port that no other client uses; the lock goes when we do, in whatever way. */
static int take_port(struct client *c)
{
	char path[4096];

	for (int i = 1; i <= PORTS; i++) {
		snprintf(path, sizeof(path), "%s/port%d.lock", c->state, i);
		c->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (c->lock < 0)
			return 0;
		if (!flock(c->lock, LOCK_EX | LOCK_NB))
			return i;
		close(c->lock);
	}
	return 0;
}

static int connect_port(struct client *c, int number)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char link[64];

	// sun_path holds 108 bytes; the state's directory may be longer than that.
	int dir = open(c->state, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -1;
	snprintf(link, sizeof(link), "/proc/self/fd/%d/port%d", dir, number);
	memcpy(address.sun_path, link, sizeof(link));
	c->port = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int result = connect(c->port, (struct sockaddr *)&address, sizeof(address));

	close(dir);
	if (result)
		close(c->port);
	return result;
}

static void connect_helper(struct client *c)
{
	int number, told = 0;

	while (!(number = take_port(c))) {
		if (!machine_is_up(c))
			helper_failed(c, "the helper machine is gone");
		if (!told++)
			complain("all %d ports of the helper are in use; waiting", PORTS);
		c->deadline = 0;
		pause_ms(c, 200);
	}
	c->deadline = now() + START_LIMIT;
	c->deadline_status = FAILED;
	while (connect_port(c, number)) {
		if (!machine_is_up(c))
			helper_failed(c, "the helper machine did not start");
		pause_ms(c, 20);
	}
}

static void catch_signals(void)
{
	// No SA_RESTART: a blocked write must come back.
	struct sigaction action = { .sa_handler = on_signal };
	const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		sigaction(numbers[i], &action, NULL);
	signal(SIGTTOU, SIG_IGN);
}

static char **parse_options(struct client *c, int argc, char **argv)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },
		{ "project", required_argument, NULL, 'p' },
		{ "cache", required_argument, NULL, 'c' },
		{ "owned", required_argument, NULL, 'o' },
		{ "timeout", required_argument, NULL, 't' },
		{ "refresh", no_argument, NULL, 'r' },
		{ "ping", no_argument, NULL, 'i' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (option) {
		case 's':
			c->state = optarg;
			break;
		case 'p':
			c->project = optarg;
			break;
		case 'c':
			c->cache = optarg;
			break;
		case 'o':
			c->owned = atoi(optarg);
			break;
		case 't':
			c->timeout = atof(optarg);
			break;
		case 'r':
			c->refresh = 1;
			break;
		case 'i':
			c->ping = 1;
			break;
		default:
			return NULL;
		}
	}
	return c->state && c->project && c->cache && (c->ping || optind < argc) ? argv + optind :
										  NULL;
}

int main(int argc, char **argv)
{
	struct client *c = calloc(1, sizeof(*c));
	char **command = c ? parse_options(c, argc, argv) : NULL;

	if (!command) {
		complain("the client is to be started by scripts/with-kvm");
		return FAILED;
	}
	catch_signals();
	c->flags = request_flags(c);
	c->stdin_open = (c->flags & REQUEST_STDIN) != 0;
	c->stdin_window = STDIN_WINDOW;
	if (getrandom(c->nonce, sizeof(c->nonce), 0) != sizeof(c->nonce)) {
		complain("getrandom: %s", strerror(errno));
		leave(c, FAILED);
	}
	connect_helper(c);
	send_request(c, command);
	serve(c);
}
