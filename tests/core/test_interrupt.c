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

/* Asks and tells, as a command that is interrupted does. */
static bool interrupt_command(int sig)
{
	raise(sig);

	struct error *err = interrupt_error();
	bool fine = error_code(err) == ERROR_INTERRUPTED && interrupt_is_told();

	error_destroy(err);
	return fine;
}

static int take_back_and_go_on(void)
{
	if (!install() || interrupt_take_back())
		return 1;
	for (int i = 1; i <= 3; i++) {
		if (!interrupt_command(SIGINT) || calls != i || !is_readable())
			return 2;
		if (!interrupt_take_back() || interrupt_signal() || interrupt_is_told() || is_readable())
			return 3;
		if (alarm(0)) // one that was left would end the process later
			return 4;
	}
	raise(SIGINT);
	raise(SIGINT);
	return 0;
}

static int take_back_the_end(void)
{
	if (!install() || !interrupt_command(SIGTERM))
		return 1;
	if (interrupt_take_back() || interrupt_signal() != SIGTERM || !interrupt_is_told() || !is_readable())
		return 2;
	return alarm(0) ? 0 : 3;
}

static int ask_a_prompt_often(void)
{
	if (!install())
		return 1;
	interrupt_set_patient(true);
	raise(SIGINT);
	raise(SIGINT);
	raise(SIGINT);
	if (calls || interrupt_signal() != SIGINT || !is_readable() || !interrupt_take_back() || is_readable())
		return 2;
	interrupt_set_patient(false);
	raise(SIGINT);
	return calls == 1 ? 0 : 3;
}

static int end_a_prompt(void)
{
	if (!install())
		return 1;
	interrupt_set_patient(true);
	raise(SIGINT);
	raise(SIGTERM);
	if (calls != 1 || interrupt_signal() != SIGTERM || interrupt_is_told() || interrupt_take_back())
		return 2;
	raise(SIGTERM);
	return 0;
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

static void a_sigint_that_is_taken_back_leaves_nothing_behind(void **state)
{
	assert_int_equal(status_of(take_back_and_go_on), 128 + SIGINT);
}

static void a_sigterm_cannot_be_taken_back(void **state)
{
	assert_int_equal(status_of(take_back_the_end), 0);
}

static void at_a_prompt_many_sigints_are_one(void **state)
{
	assert_int_equal(status_of(ask_a_prompt_often), 0);
}

static void at_a_prompt_sigterm_is_heard_after_a_sigint(void **state)
{
	assert_int_equal(status_of(end_a_prompt), 128 + SIGTERM);
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
		cmocka_unit_test(a_sigint_that_is_taken_back_leaves_nothing_behind),
		cmocka_unit_test(a_sigterm_cannot_be_taken_back),
		cmocka_unit_test(at_a_prompt_many_sigints_are_one),
		cmocka_unit_test(at_a_prompt_sigterm_is_heard_after_a_sigint),
		cmocka_unit_test(an_alarm_without_a_signal_ends_it_as_an_alarm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
