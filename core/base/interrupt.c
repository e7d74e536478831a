// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct {
	volatile sig_atomic_t signal;
	bool unwinding; /* somebody has been told */
	int fd;
	void (*hook)(void *arg);
	void *arg;
} interrupt = { .fd = -1 };

static void give_up(int sig)
{
	// An alarm that somebody else sent ends the process as it would without us.
	_exit(128 + (interrupt.signal ? interrupt.signal : sig));
}

static void on_signal(int sig)
{
	int saved = errno;

	if (interrupt.signal)
		_exit(128 + sig);
	interrupt.signal = sig;
	alarm(INTERRUPT_IGNORED_S);

	u64 one = 1;
	// An eventfd at its limit would still be readable; nothing else can go wrong here.
	ssize_t ignored = write(interrupt.fd, &one, sizeof(one));

	(void)ignored;
	if (interrupt.hook)
		interrupt.hook(interrupt.arg);
	errno = saved;
}

struct error *interrupt_install(void (*hook)(void *arg), void *arg)
{
	interrupt.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (interrupt.fd < 0)
		return error_create_errno("eventfd for signals");
	interrupt.hook = hook;
	interrupt.arg = arg;

	struct sigaction stop = { .sa_handler = on_signal };
	struct sigaction alarm_action = { .sa_handler = give_up };

	sigemptyset(&stop.sa_mask);
	sigaddset(&stop.sa_mask, SIGALRM);
	if (sigaction(SIGINT, &stop, NULL) || sigaction(SIGTERM, &stop, NULL) ||
	    sigaction(SIGALRM, &alarm_action, NULL))
		return error_create_errno("sigaction");
	return NULL;
}

int interrupt_signal(void)
{
	return interrupt.signal;
}

int interrupt_fd(void)
{
	return interrupt.fd;
}

bool interrupt_is_told(void)
{
	return interrupt.unwinding;
}

struct error *interrupt_error(void)
{
	// Once: a script that catches every error must not put the end off for ever.
	if (!interrupt.unwinding)
		alarm(INTERRUPT_UNWIND_S);
	interrupt.unwinding = true;
	return error_create(ERROR_INTERRUPTED, "interrupted by %s",
			    interrupt.signal == SIGTERM ? "SIGTERM" : "SIGINT");
}
