// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Calls from main to the coordinator's thread: each is taken once and answered once, whatever comes between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "coordinator/call.h"

/* The thread's side: takes each call and answers it by its kind, until it is told to end. */
struct server {
	struct call_slot slot;
	int fd;
	bool deaf; /* atomic: takes calls, and does not answer them */
	bool end; /* atomic */
	u32 taken, dropped; /* atomic */
	pthread_t thread;
};

static void wake(void *ctx)
{
	struct server *s = ctx;
	u64 one = 1;

	assert_int_equal(write(s->fd, &one, sizeof(one)), sizeof(one));
}

static void answer(struct server *s, const struct call *call)
{
	if (call->kind == CALL_CAPTURE)
		call_slot_answer(&s->slot, error_create(ERROR_BUSY, "%s", call->tag), 0);
	else
		call_slot_answer(&s->slot, NULL, call->count + 1);
}

static void *serve(void *arg)
{
	struct server *s = arg;
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	while (!__atomic_load_n(&s->end, __ATOMIC_ACQUIRE)) {
		struct call call;
		u64 count;

		poll(&p, 1, -1);
		if (read(s->fd, &count, sizeof(count)) != sizeof(count))
			continue;
		if (call_slot_is_abandoned(&s->slot)) {
			__atomic_add_fetch(&s->dropped, 1, __ATOMIC_RELAXED);
			call_slot_answer(&s->slot, error_create(ERROR_TIMEOUT, "nobody hears this"), 0);
		}
		if (!call_slot_take(&s->slot, &call))
			continue;
		__atomic_add_fetch(&s->taken, 1, __ATOMIC_RELEASE);
		if (!__atomic_load_n(&s->deaf, __ATOMIC_ACQUIRE))
			answer(s, &call);
	}
	call_slot_close(&s->slot);
	return NULL;
}

static void start(struct server *s)
{
	*s = (struct server){ .fd = eventfd(0, EFD_NONBLOCK) };
	assert_null(call_slot_init(&s->slot));
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
	__atomic_store_n(&s->end, true, __ATOMIC_RELEASE);
	wake(s);
	pthread_join(s->thread, NULL);
}

static void finish(struct server *s)
{
	stop(s);
	call_slot_deinit(&s->slot);
	close(s->fd);
}

static struct error *ask(struct server *s, const struct call *call, u32 *result)
{
	return call_slot_ask(&s->slot, call, wake, s, result);
}

static void assert_code(struct error *err, enum error_code code)
{
	assert_non_null(err);
	assert_int_equal(error_code(err), code);
	error_destroy(err);
}

static void every_call_gets_its_own_answer(void **state)
{
	struct server s;
	u32 result;

	start(&s);
	for (u32 i = 0; i < 5000; i++) {
		assert_null(ask(&s, &(struct call){ .kind = CALL_STEP, .count = i }, &result));
		assert_int_equal(result, i + 1);
	}
	assert_code(ask(&s, &(struct call){ .kind = CALL_CAPTURE, .tag = "x" }, NULL), ERROR_BUSY);
	assert_int_equal(s.taken, 5001);
	finish(&s);
}

static void nobody_there_is_an_error(void **state)
{
	struct server s;

	start(&s);
	stop(&s);
	assert_code(ask(&s, &(struct call){ .kind = CALL_THAW }, NULL), ERROR_ENDED);
	assert_code(ask(&s, &(struct call){ .kind = CALL_FREEZE }, NULL), ERROR_ENDED);
	call_slot_deinit(&s.slot);
	close(s.fd);
}

static void *end_when_taken(void *arg)
{
	struct server *s = arg;

	while (!__atomic_load_n(&s->taken, __ATOMIC_ACQUIRE))
		sched_yield();
	__atomic_store_n(&s->end, true, __ATOMIC_RELEASE);
	wake(s);
	return NULL;
}

static void a_call_that_waits_sees_the_end(void **state)
{
	struct server s;
	pthread_t helper;

	start(&s);
	__atomic_store_n(&s.deaf, true, __ATOMIC_RELEASE);
	pthread_create(&helper, NULL, end_when_taken, &s);
	assert_code(ask(&s, &(struct call){ .kind = CALL_LOOK }, NULL), ERROR_ENDED);
	pthread_join(helper, NULL);
	pthread_join(s.thread, NULL);
	call_slot_deinit(&s.slot);
	close(s.fd);
}

static pthread_t main_thread;

static void *interrupt_when_taken(void *arg)
{
	struct server *s = arg;

	while (!__atomic_load_n(&s->taken, __ATOMIC_ACQUIRE))
		sched_yield();
	pthread_kill(main_thread, SIGINT);
	return NULL;
}

static void a_signal_abandons_a_long_call_and_the_next_one_is_answered(void **state)
{
	struct server s;
	pthread_t helper;
	u32 result = 0;

	start(&s);
	main_thread = pthread_self();
	__atomic_store_n(&s.deaf, true, __ATOMIC_RELEASE);
	pthread_create(&helper, NULL, interrupt_when_taken, &s);
	assert_code(ask(&s, &(struct call){ .kind = CALL_FREEZE }, NULL), ERROR_INTERRUPTED);
	pthread_join(helper, NULL);
	__atomic_store_n(&s.deaf, false, __ATOMIC_RELEASE);
	// Clean-up after the signal, while the abandoned call may still be on its way.
	assert_null(ask(&s, &(struct call){ .kind = CALL_THAW, .count = 7 }, &result));
	assert_int_equal(result, 8);
	assert_true(interrupt_take_back());
	assert_null(ask(&s, &(struct call){ .kind = CALL_STEP, .count = 8 }, &result));
	assert_int_equal(result, 9);
	assert_int_equal(s.dropped, 1);
	finish(&s);
}

/* Until its handler has run, on the other thread. */
static void wait_for_signal(void)
{
	struct pollfd p = { .fd = interrupt_fd(), .events = POLLIN };

	assert_int_equal(poll(&p, 1, -1), 1);
}

/* The signal comes between what was asked for and its answer, which must not be lost: it is not repeated. */
static void *settle_then_interrupt(void *arg)
{
	struct server *s = arg;
	struct call call;

	while (!call_slot_take(&s->slot, &call))
		sched_yield();
	assert_true(call_slot_settle(&s->slot));
	pthread_kill(main_thread, SIGINT);
	wait_for_signal();
	// It has been seen, or is being looked at. Not for long: a signal that nobody answers ends the process.
	for (u64 end = clock_now_ns() + 100 * NSEC_PER_MSEC; clock_now_ns() < end;)
		sched_yield();
	call_slot_answer(&s->slot, NULL, 5);
	return NULL;
}

static void a_settled_call_is_answered_in_spite_of_a_signal(void **state)
{
	struct server s = { .fd = eventfd(0, EFD_NONBLOCK) };
	pthread_t helper;
	u32 result = 0;

	assert_null(call_slot_init(&s.slot));
	main_thread = pthread_self();
	pthread_create(&helper, NULL, settle_then_interrupt, &s);
	assert_null(ask(&s, &(struct call){ .kind = CALL_FREEZE }, &result));
	assert_int_equal(result, 5);
	pthread_join(helper, NULL);
	assert_true(interrupt_take_back());
	call_slot_deinit(&s.slot);
	close(s.fd);
}

static void *settle_after_the_signal(void *arg)
{
	struct server *s = arg;
	struct call call;

	while (!call_slot_take(&s->slot, &call))
		sched_yield();
	pthread_kill(main_thread, SIGINT);
	while (!call_slot_is_abandoned(&s->slot))
		sched_yield();
	assert_false(call_slot_settle(&s->slot));
	call_slot_answer(&s->slot, NULL, 5);
	assert_false(call_slot_is_taken(&s->slot));
	return NULL;
}

static void an_abandoned_call_cannot_be_settled(void **state)
{
	struct server s = { .fd = eventfd(0, EFD_NONBLOCK) };
	pthread_t helper;

	assert_null(call_slot_init(&s.slot));
	main_thread = pthread_self();
	pthread_create(&helper, NULL, settle_after_the_signal, &s);
	assert_code(ask(&s, &(struct call){ .kind = CALL_FREEZE }, NULL), ERROR_INTERRUPTED);
	pthread_join(helper, NULL);
	assert_true(interrupt_take_back());
	call_slot_deinit(&s.slot);
	close(s.fd);
}

static int install(void **state)
{
	struct error *err = interrupt_install(NULL, NULL);

	error_destroy(err);
	return err != NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_gets_its_own_answer),
		cmocka_unit_test(nobody_there_is_an_error),
		cmocka_unit_test(a_call_that_waits_sees_the_end),
		cmocka_unit_test(a_signal_abandons_a_long_call_and_the_next_one_is_answered),
		cmocka_unit_test(a_settled_call_is_answered_in_spite_of_a_signal),
		cmocka_unit_test(an_abandoned_call_cannot_be_settled),
	};

	return cmocka_run_group_tests(tests, install, NULL);
}
