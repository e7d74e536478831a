// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/crash.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <ucontext.h>
#include <unistd.h>

enum { GIVE_UP_CODE = 70 };

static struct {
	int fd;
	bool machine;
	pid_t pid;
	char stack[16384] __attribute__((aligned(16)));
} crash = { .fd = -1 };

/* Without hanging where nobody reads: COM2 takes its bytes in time, or the end comes without them. */
static void say(const char *text)
{
	size_t n = strlen(text);
	struct pollfd p = { .fd = crash.fd, .events = POLLOUT };

	while (n && poll(&p, 1, 1000) == 1) {
		ssize_t done = write(crash.fd, text, n);

		if (done <= 0)
			break;
		text += done;
		n -= (size_t)done;
	}
}

_Noreturn static void end(const char *reason, int code)
{
	char text[640];

	snprintf(text, sizeof(text), "ktstr-agent: %s\nKTSTR_EXIT:%d\n", reason, code);
	if (crash.fd >= 0) {
		say(text);
		tcdrain(crash.fd);
	}
	if (crash.machine) {
		int kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

		*strchr(text, '\n') = 0;
		if (kmsg >= 0 && write(kmsg, text, strlen(text)) > 0)
			close(kmsg);
		reboot(RB_AUTOBOOT);
	}
	_exit(code);
}

static u64 program_counter(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (u64)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return context->uc_mcontext.pc;
#endif
}

static void handle(int number, siginfo_t *info, void *context)
{
	char text[256];

	/* A child that has not reset its signals yet dies of it, and no more. */
	if (getpid() != crash.pid)
		_exit(128 + number);
	snprintf(text, sizeof(text), "crash: signal %d, address 0x%llx, pc 0x%llx", number,
		 (unsigned long long)(uintptr_t)info->si_addr,
		 (unsigned long long)program_counter(context));
	end(text, 128 + number);
}

void crash_init(int fd, bool machine)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
	struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND };
	stack_t stack = { .ss_sp = crash.stack, .ss_size = sizeof(crash.stack) };
	struct termios tty;

	crash.fd = fd;
	crash.machine = machine;
	crash.pid = getpid();
	if (fd >= 0 && !tcgetattr(fd, &tty)) {
		cfmakeraw(&tty);
		tty.c_cflag |= CLOCAL;
		tcsetattr(fd, TCSANOW, &tty);
	}
	sigaltstack(&stack, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
}

void crash_give_up(const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	end(text, GIVE_UP_CODE);
}
