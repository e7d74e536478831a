// SPDX-License-Identifier: GPL-2.0-or-later
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/interrupt.h"

/* In a process of its own, since signals are the process's; the status is what its parent checks. */
static int status_of(int (*child)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child());

	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void count(void *arg)
{
	++*(volatile sig_atomic_t *)arg;
}

static volatile sig_atomic_t calls;

static bool install(void)
{
	struct error *err = interrupt_install(count, (void *)&calls);
	bool fine = !err && !interrupt_signal() && !interrupt_is_told();

	error_destroy(err);
	return fine;
}

static bool is_readable(void)
{
	struct pollfd p = { .fd = interrupt_fd(), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static int ask_once(void)
{
	if (!install() || is_readable())
		return 1;
	raise(SIGTERM);
	if (interrupt_signal() != SIGTERM || calls != 1 || !is_readable() || interrupt_is_told())
		return 2;

	struct error *err = interrupt_error();
	bool fine = error_code(err) == ERROR_INTERRUPTED && interrupt_is_told() && is_readable();

	error_destroy(err);
	return fine ? 0 : 3;
}

static int ask_twice(void)
{
	if (!install())
		return 1;
	raise(SIGINT);
	raise(SIGINT);
	return 0;
}

static int ignore_it(void)
{
	if (!install())
		return 1;
	raise(SIGTERM);
	for (;;)
		pause();
}

static int get_a_strange_alarm(void)
{
	if (!install())
		return 1;
	raise(SIGALRM);
	return 0;
}

static void a_signal_asks_and_is_told_once(void **state)
{
	assert_int_equal(status_of(ask_once), 0);
}

static void a_second_signal_ends_the_process(void **state)
{
	assert_int_equal(status_of(ask_twice), 128 + SIGINT);
}

static void a_signal_that_is_ignored_ends_the_process(void **state)
{
	assert_int_equal(status_of(ignore_it), 128 + SIGTERM);
}

static void an_alarm_without_a_signal_ends_it_as_an_alarm(void **state)
{
	assert_int_equal(status_of(get_a_strange_alarm), 128 + SIGALRM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_signal_asks_and_is_told_once),
		cmocka_unit_test(a_second_signal_ends_the_process),
		cmocka_unit_test(a_signal_that_is_ignored_ends_the_process),
		cmocka_unit_test(an_alarm_without_a_signal_ends_it_as_an_alarm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
