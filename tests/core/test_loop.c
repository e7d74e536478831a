// SPDX-License-Identifier: GPL-2.0-or-later
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/loop.h"

static void fine(struct error *err)
{
	if (err)
		fail_msg("%s", error_message(err));
}

// A readable eventfd with a callback that counts.
struct source {
	struct loop *loop;
	struct loop_fd fd;
	struct loop_timer timer;
	u32 calls, depth, deepest;
	int drain; // the descriptor to empty, or -1 to leave it readable
	struct source *victim; // removed by the callback
	bool nest; // run the loop from the callback
};

static void source_called(void *ctx, u32 events)
{
	struct source *s = ctx;
	u64 count;

	s->calls++;
	if (++s->depth > s->deepest)
		s->deepest = s->depth;
	if (s->drain >= 0)
		assert_int_equal(read(s->drain, &count, sizeof(count)), sizeof(count));
	if (s->victim)
		loop_remove_fd(s->loop, &s->victim->fd);
	if (s->nest)
		for (int i = 0; i < 8; i++)
			fine(loop_run_once(s->loop, 0));
	s->depth--;
}

static int ready_eventfd(void)
{
	int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void a_ready_descriptor_is_called_until_it_is_drained(void **state)
{
	struct loop loop;
	int fd = ready_eventfd();
	struct source s = { .loop = &loop, .drain = -1 };

	fine(loop_init(&loop));
	fine(loop_add_fd(&loop, &s.fd, fd, EPOLLIN, source_called, &s));
	fine(loop_run_once(&loop, 0));
	fine(loop_run_once(&loop, 0));
	assert_int_equal(s.calls, 2);
	s.drain = fd;
	fine(loop_run_once(&loop, 0));
	fine(loop_run_once(&loop, 0));
	assert_int_equal(s.calls, 3);
	loop_remove_fd(&loop, &s.fd);
	loop_deinit(&loop);
	close(fd);
}

static void events_can_be_turned_off_and_on(void **state)
{
	struct loop loop;
	int fd = ready_eventfd();
	struct source s = { .loop = &loop, .drain = -1 };

	fine(loop_init(&loop));
	fine(loop_add_fd(&loop, &s.fd, fd, 0, source_called, &s));
	fine(loop_run_once(&loop, 0));
	assert_int_equal(s.calls, 0);
	fine(loop_set_events(&loop, &s.fd, EPOLLIN));
	fine(loop_run_once(&loop, 0));
	assert_int_equal(s.calls, 1);
	loop_deinit(&loop);
	close(fd);
}

static void ready_descriptors_take_turns(void **state)
{
	struct loop loop;
	int fds[3];
	struct source s[3];

	fine(loop_init(&loop));
	for (int i = 0; i < 3; i++) {
		fds[i] = ready_eventfd();
		s[i] = (struct source){ .loop = &loop, .drain = -1 };
		fine(loop_add_fd(&loop, &s[i].fd, fds[i], EPOLLIN, source_called, &s[i]));
	}
	for (int i = 0; i < 30; i++)
		fine(loop_run_once(&loop, 0));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(s[i].calls, 10);
		close(fds[i]);
	}
	loop_deinit(&loop);
}

static void a_source_removed_by_another_one_is_not_called(void **state)
{
	struct loop loop;
	int fds[2] = { ready_eventfd(), ready_eventfd() };
	struct source s[2];

	fine(loop_init(&loop));
	for (int i = 0; i < 2; i++) {
		s[i] = (struct source){ .loop = &loop, .drain = -1, .victim = &s[1 - i] };
		fine(loop_add_fd(&loop, &s[i].fd, fds[i], EPOLLIN, source_called, &s[i]));
	}
	for (int i = 0; i < 4; i++)
		fine(loop_run_once(&loop, 0));
	assert_true((s[0].calls == 4 && s[1].calls == 0) || (s[0].calls == 0 && s[1].calls == 4));
	loop_deinit(&loop);
	close(fds[0]);
	close(fds[1]);
}

static void a_source_can_remove_and_free_itself(void **state)
{
	struct loop loop;
	int fd = ready_eventfd();
	struct source s = { .loop = &loop, .drain = -1 };

	fine(loop_init(&loop));
	s.victim = &s;
	s.nest = true;
	fine(loop_add_fd(&loop, &s.fd, fd, EPOLLIN, source_called, &s));
	fine(loop_run_once(&loop, 0));
	fine(loop_run_once(&loop, 0));
	assert_int_equal(s.calls, 1);
	loop_deinit(&loop);
	close(fd);
}

static void a_nested_run_serves_others_and_never_reenters(void **state)
{
	struct loop loop;
	int fds[2] = { ready_eventfd(), ready_eventfd() };
	struct source outer = { .loop = &loop, .drain = -1, .nest = true };
	struct source other = { .loop = &loop, .drain = -1 };

	fine(loop_init(&loop));
	fine(loop_add_fd(&loop, &outer.fd, fds[0], EPOLLIN, source_called, &outer));
	fine(loop_run_once(&loop, 0));
	assert_int_equal(outer.calls, 1);
	fine(loop_add_fd(&loop, &other.fd, fds[1], EPOLLIN, source_called, &other));
	while (outer.calls < 2)
		fine(loop_run_once(&loop, 0));
	assert_int_equal(outer.deepest, 1);
	assert_true(other.calls >= 7);
	// It was only held while it ran: it is called again afterwards.
	while (outer.calls < 3)
		fine(loop_run_once(&loop, 0));
	loop_deinit(&loop);
	close(fds[0]);
	close(fds[1]);
}

struct order {
	struct loop *loop;
	struct loop_timer timers[4];
	struct order_entry {
		struct order *order;
		int index;
	} entries[4];
	int fired[16];
	int count;
	bool again; // timer 0 sets itself to the past
	int cancels; // timer 0 cancels this one, if not 0
};

static void timer_fired(void *ctx)
{
	struct order_entry *e = ctx;
	struct order *o = e->order;

	o->fired[o->count++] = e->index;
	if (e->index == 0 && o->again)
		loop_set_timer(o->loop, &o->timers[0], 1);
	if (e->index == 0 && o->cancels)
		loop_cancel_timer(o->loop, &o->timers[o->cancels]);
}

static void init_order(struct order *o, struct loop *loop)
{
	*o = (struct order){ .loop = loop };
	for (int i = 0; i < 4; i++) {
		o->entries[i] = (struct order_entry){ o, i };
		o->timers[i] = (struct loop_timer){ .fn = timer_fired, .ctx = &o->entries[i] };
	}
}

static void timers_fire_by_deadline_then_by_age(void **state)
{
	struct loop loop;
	struct order o;

	fine(loop_init(&loop));
	init_order(&o, &loop);
	loop_set_timer(&loop, &o.timers[3], 30);
	loop_set_timer(&loop, &o.timers[1], 20);
	loop_set_timer(&loop, &o.timers[2], 20);
	loop_set_timer(&loop, &o.timers[0], 40);
	loop_set_timer(&loop, &o.timers[0], 10); // moved
	fine(loop_run_once(&loop, 0));
	assert_int_equal(o.count, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(o.fired[i], i);
	loop_deinit(&loop);
}

static void a_timer_does_not_fire_before_its_deadline(void **state)
{
	struct loop loop;
	struct order o;

	fine(loop_init(&loop));
	init_order(&o, &loop);

	u64 deadline = clock_now_ns() + 3 * NSEC_PER_MSEC;

	loop_set_timer(&loop, &o.timers[0], deadline);
	loop_set_timer(&loop, &o.timers[1], deadline + 3600 * NSEC_PER_SEC);
	while (!o.count)
		fine(loop_run_once(&loop, LOOP_FOREVER));
	assert_true(clock_now_ns() >= deadline);
	assert_int_equal(o.count, 1);
	loop_deinit(&loop);
	assert_false(o.timers[1].armed);
}

static void a_cancelled_timer_does_not_fire(void **state)
{
	struct loop loop;
	struct order o;

	fine(loop_init(&loop));
	init_order(&o, &loop);
	o.cancels = 2;
	loop_set_timer(&loop, &o.timers[0], 1);
	loop_set_timer(&loop, &o.timers[1], 2);
	loop_set_timer(&loop, &o.timers[2], 3);
	loop_cancel_timer(&loop, &o.timers[1]);
	loop_cancel_timer(&loop, &o.timers[1]);
	fine(loop_run_once(&loop, 0));
	assert_int_equal(o.count, 1);
	loop_deinit(&loop);
}

static void a_timer_set_to_the_past_by_itself_fires_once_a_turn(void **state)
{
	struct loop loop;
	struct order o;

	fine(loop_init(&loop));
	init_order(&o, &loop);
	o.again = true;
	loop_set_timer(&loop, &o.timers[0], 1);
	loop_set_timer(&loop, &o.timers[1], 2);
	fine(loop_run_once(&loop, LOOP_FOREVER));
	assert_int_equal(o.count, 2);
	fine(loop_run_once(&loop, LOOP_FOREVER));
	assert_int_equal(o.count, 3);
	loop_deinit(&loop);
}

static void a_busy_descriptor_does_not_starve_timers(void **state)
{
	struct loop loop;
	struct order o;
	int fd = ready_eventfd();
	struct source s = { .loop = &loop, .drain = -1 };

	fine(loop_init(&loop));
	init_order(&o, &loop);
	fine(loop_add_fd(&loop, &s.fd, fd, EPOLLIN, source_called, &s));
	loop_set_timer(&loop, &o.timers[0], 1);
	fine(loop_run_once(&loop, 0));
	assert_int_equal(o.count, 1);
	assert_int_equal(s.calls, 1);
	loop_deinit(&loop);
	close(fd);
}

static void *wake_from_thread(void *arg)
{
	loop_wake(arg);
	return NULL;
}

static void *stop_from_thread(void *arg)
{
	loop_stop(arg);
	return NULL;
}

static void another_thread_wakes_it_up(void **state)
{
	struct loop loop;
	pthread_t thread;

	fine(loop_init(&loop));
	assert_int_equal(pthread_create(&thread, NULL, wake_from_thread, &loop), 0);
	fine(loop_run_once(&loop, LOOP_FOREVER)); // would never return otherwise
	pthread_join(thread, NULL);
	loop_deinit(&loop);
}

static void it_runs_until_another_thread_stops_it(void **state)
{
	struct loop loop;
	pthread_t thread;
	int fd = ready_eventfd();
	struct source s = { .loop = &loop, .drain = fd };

	fine(loop_init(&loop));
	fine(loop_add_fd(&loop, &s.fd, fd, EPOLLIN, source_called, &s));
	assert_int_equal(pthread_create(&thread, NULL, stop_from_thread, &loop), 0);
	fine(loop_run(&loop));
	pthread_join(thread, NULL);
	// A stop that came first is honoured, and once.
	loop_stop(&loop);
	fine(loop_run(&loop));
	loop_stop(&loop);
	fine(loop_run(&loop));
	loop_deinit(&loop);
	close(fd);
}

static void a_bad_descriptor_is_an_error(void **state)
{
	struct loop loop;
	struct loop_fd source = { 0 };

	fine(loop_init(&loop));

	struct error *err = loop_add_fd(&loop, &source, -1, EPOLLIN, source_called, NULL);

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_OS);
	error_destroy(err);
	loop_remove_fd(&loop, &source);
	loop_deinit(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ready_descriptor_is_called_until_it_is_drained),
		cmocka_unit_test(events_can_be_turned_off_and_on),
		cmocka_unit_test(ready_descriptors_take_turns),
		cmocka_unit_test(a_source_removed_by_another_one_is_not_called),
		cmocka_unit_test(a_source_can_remove_and_free_itself),
		cmocka_unit_test(a_nested_run_serves_others_and_never_reenters),
		cmocka_unit_test(timers_fire_by_deadline_then_by_age),
		cmocka_unit_test(a_timer_does_not_fire_before_its_deadline),
		cmocka_unit_test(a_cancelled_timer_does_not_fire),
		cmocka_unit_test(a_timer_set_to_the_past_by_itself_fires_once_a_turn),
		cmocka_unit_test(a_busy_descriptor_does_not_starve_timers),
		cmocka_unit_test(another_thread_wakes_it_up),
		cmocka_unit_test(it_runs_until_another_thread_stops_it),
		cmocka_unit_test(a_bad_descriptor_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
