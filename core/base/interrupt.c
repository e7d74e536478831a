// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/interrupt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct {
	volatile sig_atomic_t signal;
	volatile bool unwinding; /* somebody has been told */
	volatile bool patient;
	int fd;
	void (*hook)(void *arg);
	void *arg;
	pthread_t main; /* who installed it; valid with the hook */
} interrupt = { .fd = -1 };

static void fill_ours(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGALRM);
}

static void give_up(int sig)
{
	// An alarm that somebody else sent ends the process as it would without us.
	_exit(128 + (interrupt.signal ? interrupt.signal : sig));
}

static void on_signal(int sig)
{
	int saved = errno;

	// At a prompt, a second SIGINT asks for nothing that the first did not.
	if (interrupt.patient && interrupt.signal == SIGINT && sig == SIGINT)
		return;
	if (interrupt.signal && !(interrupt.patient && interrupt.signal == SIGINT))
		_exit(128 + sig);
	interrupt.signal = sig;
	interrupt.unwinding = false;
	alarm(INTERRUPT_IGNORED_S);

	u64 one = 1;
	// An eventfd at its limit would still be readable; nothing else can go wrong here.
	ssize_t ignored = write(interrupt.fd, &one, sizeof(one));

	(void)ignored;
	if (interrupt.hook && !(interrupt.patient && sig == SIGINT))
		interrupt.hook(interrupt.arg);
	errno = saved;
}

static int break_signal(void)
{
	return SIGRTMIN;
}

static void on_break(int sig)
{
	int saved = errno;

	(void)sig;
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
	interrupt.main = pthread_self();

	struct sigaction stop = { .sa_handler = on_signal };
	struct sigaction alarm_action = { .sa_handler = give_up };
	struct sigaction break_action = { .sa_handler = on_break };

	fill_ours(&stop.sa_mask);
	sigemptyset(&break_action.sa_mask);
	if (hook && sigaction(break_signal(), &break_action, NULL))
		return error_create_errno("sigaction");
	if (sigaction(SIGINT, &stop, NULL) || sigaction(SIGTERM, &stop, NULL) ||
	    sigaction(SIGALRM, &alarm_action, NULL))
		return error_create_errno("sigaction");
	return NULL;
}

void interrupt_break(void)
{
	if (interrupt.hook)
		pthread_kill(interrupt.main, break_signal());
}

void interrupt_set_patient(bool patient)
{
	interrupt.patient = patient;
}

static void drain(int fd)
{
	u64 count;
	ssize_t ignored = read(fd, &count, sizeof(count));

	(void)ignored;
}

bool interrupt_take_back(void)
{
	sigset_t ours, before;

	// Only the main thread takes signals: none comes in between.
	fill_ours(&ours);
	pthread_sigmask(SIG_BLOCK, &ours, &before);

	bool taken = interrupt.signal == SIGINT;

	if (taken) {
		alarm(0);
		drain(interrupt.fd);
		interrupt.unwinding = false;
		interrupt.signal = 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return taken;
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
