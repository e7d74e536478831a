// SPDX-License-Identifier: GPL-2.0-or-later
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>

#include "fake_vcpus.h"

static void let_go_of_first(void *ctx)
{
	struct rig *rig = ctx;

	let_go(&rig->vcpus[0]);
}

static void all_threads_park_and_all_are_seen(void **state)
{
	struct rig *rig = *state;

	freeze(rig);
	assert_true(rendezvous_is_complete(&rig->r));
	for (u32 i = 0; i < THREADS; i++) {
		assert_false(rendezvous_is_missing(&rig->r, i));
		assert_int_equal(rig->vcpus[i].jobs, 1);
		assert_int_equal(rig->slots[i].acked, 1);
	}
	thaw_and_wait_until_all_run(rig);
	for (u32 i = 0; i < THREADS; i++) {
		assert_false(rendezvous_is_stuck(&rig->r, i));
		assert_int_equal(__atomic_load_n(&rig->slots[i].left, __ATOMIC_ACQUIRE), 2);
		assert_true(__atomic_load_n(&rig->slots[i].left_ns, __ATOMIC_RELAXED) >= rig->r.thawed_ns);
	}
}

static void what_is_written_on_one_side_is_there_on_the_other(void **state)
{
	struct rig *rig = *state;

	for (u64 word = 1; word <= 20; word++) {
		u64 runs[THREADS];

		freeze(rig);
		for (u32 i = 0; i < THREADS; i++) {
			runs[i] = rig->vcpus[i].runs;
			assert_int_equal(runs[i], __atomic_load_n(&rig->vcpus[i].entered, __ATOMIC_RELAXED));
		}
		rig->word = word;
		thaw_and_wait_until_all_run(rig);
		freeze(rig);
		for (u32 i = 0; i < THREADS; i++) {
			assert_int_equal(rig->vcpus[i].seen, word);
			assert_true(rig->vcpus[i].runs > runs[i]);
		}
		rendezvous_end(&rig->r);
	}
}

static void a_parked_thread_is_given_jobs(void **state)
{
	struct rig *rig = *state;

	freeze(rig);
	for (u64 job = 1; job <= 200; job++) {
		rig->job = job;
		rendezvous_again(&rig->r);
		fine(wait_for_all(rig, LONG));
		for (u32 i = 0; i < THREADS; i++) {
			assert_int_equal(rig->vcpus[i].result, job * 10 + i);
			assert_int_equal(rig->vcpus[i].jobs, job + 1);
		}
	}
	thaw_and_wait_until_all_run(rig);
}

// Waits shortly, again and again, until that one thread alone is missing.
static void freeze_all_but(struct rig *rig, u32 slot)
{
	u64 deadline = clock_deadline_ns(LONG);
	u32 missing;

	hold(&rig->vcpus[slot]);
	rendezvous_begin(&rig->r);
	do {
		fails(wait_for_all(rig, NSEC_PER_MSEC), ERROR_TIMEOUT, "did not stop within 0.001 s");
		assert_true(clock_now_ns() < deadline);
		missing = 0;
		for (u32 i = 0; i < THREADS; i++)
			missing += rendezvous_is_missing(&rig->r, i);
	} while (missing > 1);
	assert_true(rendezvous_is_missing(&rig->r, slot));
	assert_true(rendezvous_is_frozen(&rig->r));
	fails(wait_for_all(rig, NSEC_PER_MSEC), ERROR_TIMEOUT, "1 of 4 threads did not stop");
}

static void a_thread_that_does_not_stop_is_named_and_the_next_freeze_works(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 3; i++) {
		freeze_all_but(rig, 1);
		rendezvous_end(&rig->r);
		let_go(&rig->vcpus[1]);
		freeze(rig);
		thaw_and_wait_until_all_run(rig);
	}
}

static void a_thread_that_comes_late_into_the_next_freeze_is_waited_for(void **state)
{
	struct rig *rig = *state;
	struct loop_timer timer = { .fn = let_go_of_first, .ctx = rig };

	freeze_all_but(rig, 0);
	rendezvous_end(&rig->r);
	rendezvous_begin(&rig->r);
	loop_set_timer(&rig->loop, &timer, clock_now_ns() + NSEC_PER_MSEC);
	fine(wait_for_all(rig, UINT64_MAX)); // which is no bound at all
	assert_false(timer.armed);
	assert_int_equal(rig->slots[0].acked, 3);
	thaw_and_wait_until_all_run(rig);
}

struct guest_frame {
	struct rig *rig;
	struct loop_fd source;
	struct loop_timer answer;
	u32 frames;
};

static void frame_came(void *ctx, u32 events)
{
	struct guest_frame *g = ctx;
	eventfd_t count;

	eventfd_read(g->source.fd, &count);
	g->frames++;
	loop_set_timer(&g->rig->loop, &g->answer, clock_now_ns());
}

static void the_loops_other_sources_and_timers_are_served_while_it_waits(void **state)
{
	struct rig *rig = *state;
	struct guest_frame g = { .rig = rig, .answer = { .fn = let_go_of_first, .ctx = rig } };
	int fd = eventfd(1, EFD_CLOEXEC);

	hold(&rig->vcpus[0]);
	fine(loop_add_fd(&rig->loop, &g.source, fd, EPOLLIN, frame_came, &g));
	freeze(rig); // which is complete only if both were called
	assert_int_equal(g.frames, 1);
	loop_remove_fd(&rig->loop, &g.source);
	close(fd);
}

static void end_first(void *ctx)
{
	struct rig *rig = ctx;

	quit(&rig->vcpus[0]);
	let_go(&rig->vcpus[0]);
}

static void a_thread_that_ends_instead_of_parking_is_not_waited_for(void **state)
{
	struct rig *rig = *state;
	struct loop_timer timer = { .fn = end_first, .ctx = rig };

	freeze_all_but(rig, 0);
	loop_set_timer(&rig->loop, &timer, clock_now_ns());
	fine(wait_for_all(rig, LONG));
	assert_int_equal(rig->slots[0].acked, 0);
	// The last that it did is there to be seen.
	assert_int_equal(rig->vcpus[0].runs, __atomic_load_n(&rig->vcpus[0].entered, __ATOMIC_RELAXED));
	pthread_join(rig->vcpus[0].thread, NULL);
	rig->vcpus[0].joined = true;
	rendezvous_end(&rig->r);
	freeze(rig);
	assert_false(rendezvous_is_missing(&rig->r, 0));
}

struct end_and_park {
	struct rig *rig;
	struct loop_timer step, alarm;
	bool late;
};

// One of two ends, then the other one parks.
static void end_first_then_park_third(void *ctx)
{
	struct end_and_park *e = ctx;

	end_first(e->rig);
	pthread_join(e->rig->vcpus[0].thread, NULL);
	e->rig->vcpus[0].joined = true;
	let_go(&e->rig->vcpus[2]);
}

static void note_late(void *ctx)
{
	((struct end_and_park *)ctx)->late = true;
}

static void the_last_one_is_noticed_after_another_has_ended(void **state)
{
	struct rig *rig = *state;
	struct end_and_park e = {
		.rig = rig,
		.step = { .fn = end_first_then_park_third, .ctx = &e },
		.alarm = { .fn = note_late, .ctx = &e },
	};

	hold(&rig->vcpus[0]);
	hold(&rig->vcpus[2]);
	rendezvous_begin(&rig->r);
	loop_set_timer(&rig->loop, &e.step, clock_now_ns());
	loop_set_timer(&rig->loop, &e.alarm, clock_deadline_ns(20 * NSEC_PER_SEC));
	fine(wait_for_all(rig, LONG));
	assert_false(e.late);
	loop_cancel_timer(&rig->loop, &e.alarm);
}

static bool count_turn(void *ctx)
{
	(*(u32 *)ctx)++;
	return false;
}

static void a_wakeup_that_was_left_behind_is_no_acknowledgement_and_is_used_up(void **state)
{
	struct rig *rig = *state;
	u32 turns = 0;

	hold(&rig->vcpus[1]);
	eventfd_write(rig->r.fd, 1);
	rendezvous_begin(&rig->r);
	fails(rendezvous_wait(&rig->r, &rig->loop, 50 * NSEC_PER_MSEC, count_turn, &turns), ERROR_TIMEOUT,
	      "of 4 threads did not stop");
	assert_true(rendezvous_is_missing(&rig->r, 1));
	// One for it, one for the timer; the loop does not turn on and on.
	assert_in_range(turns, 1, 10);
	let_go(&rig->vcpus[1]);
	fine(wait_for_all(rig, LONG));
}

static bool is_set(void *ctx)
{
	return *(bool *)ctx;
}

static void set(void *ctx)
{
	*(bool *)ctx = true;
}

static void a_wait_can_be_given_up_and_stays_frozen(void **state)
{
	struct rig *rig = *state;
	bool killed = false;
	struct loop_timer timer = { .fn = set, .ctx = &killed };

	hold(&rig->vcpus[2]);
	rendezvous_begin(&rig->r);
	loop_set_timer(&rig->loop, &timer, clock_now_ns() + NSEC_PER_MSEC);
	fails(rendezvous_wait(&rig->r, &rig->loop, LONG, is_set, &killed), ERROR_ENDED, "given up");
	assert_true(killed);
	// No turn of the loop would come to tell.
	fails(rendezvous_wait(&rig->r, &rig->loop, LOOP_FOREVER, is_set, &killed), ERROR_ENDED, "given up");
	assert_true(rendezvous_is_frozen(&rig->r));
	assert_true(rendezvous_is_missing(&rig->r, 2));
	rendezvous_end(&rig->r);
	let_go(&rig->vcpus[2]);
	freeze(rig);
}

static void expect_nothing_left(struct rig *rig)
{
	struct loop_fd source = { 0 };

	assert_null(rig->loop.timers);
	fine(loop_add_fd(&rig->loop, &source, rig->r.fd, EPOLLIN, NULL, NULL)); // else it exists
	loop_remove_fd(&rig->loop, &source);
}

struct waiter {
	struct rig *rig;
	struct loop_fd source;
	sem_t inside;
};

static void tell_inside(void *ctx, u32 events)
{
	struct waiter *w = ctx;
	eventfd_t count;

	eventfd_read(w->source.fd, &count);
	sem_post(&w->inside);
}

static void *wait_in_vain(void *arg)
{
	struct waiter *w = arg;

	return wait_for_all(w->rig, LONG);
}

static inline void cancel_a_wait(struct rig *rig)
{
	struct waiter w = { .rig = rig };
	int fd = eventfd(1, EFD_CLOEXEC);
	pthread_t thread;
	void *result;

	sem_init(&w.inside, 0, 0);
	fine(loop_add_fd(&rig->loop, &w.source, fd, EPOLLIN, tell_inside, &w));
	assert_int_equal(pthread_create(&thread, NULL, wait_in_vain, &w), 0);
	wait_for(&w.inside);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	loop_remove_fd(&rig->loop, &w.source);
	close(fd);
	sem_destroy(&w.inside);
}

static void a_wait_leaves_nothing_in_the_loop_however_it_ends(void **state)
{
	struct rig *rig = *state;
	struct loop_timer timer = { .fn = let_go_of_first, .ctx = rig };
	bool killed = true;

	freeze_all_but(rig, 0);
	expect_nothing_left(rig);
	fails(rendezvous_wait(&rig->r, &rig->loop, LONG, is_set, &killed), ERROR_ENDED, "1 of 4");
	expect_nothing_left(rig);
#ifndef __SANITIZE_ADDRESS__ // which still holds the frames for poisoned that a cancellation has unwound
	cancel_a_wait(rig);
	expect_nothing_left(rig);
#endif
	loop_set_timer(&rig->loop, &timer, clock_now_ns());
	fine(wait_for_all(rig, LONG));
	expect_nothing_left(rig);
}

static sem_t interrupted; // a handler has no argument

static void note_signal(int signal)
{
	sem_post(&interrupted);
}

static void signals_and_wakeups_for_nothing_leave_a_thread_parked(void **state)
{
	struct rig *rig = *state;
	struct sigaction action = { .sa_handler = note_signal }, before;
	u64 deadline = clock_deadline_ns(LONG);

	sem_init(&interrupted, 0, 0);
	sigaction(SIGUSR1, &action, &before);
	freeze(rig);
	for (int i = 0; i < 200; i++) {
		pthread_kill(rig->vcpus[i % THREADS].thread, SIGUSR1);
		// TSan keeps a handler back that would run just before the thread sleeps: wake it until it is seen.
		do {
			syscall(SYS_futex, &rig->r.generation, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
			assert_true(clock_now_ns() < deadline);
		} while (sem_trywait(&interrupted));
	}
	thaw_and_wait_until_all_run(rig);
	freeze(rig);
	for (u32 i = 0; i < THREADS; i++) {
		// One round for each freeze.
		assert_int_equal(rig->vcpus[i].jobs, 2);
		assert_int_equal(rig->slots[i].acked, 3);
	}
	sigaction(SIGUSR1, &before, NULL);
	sem_destroy(&interrupted);
}

static void registers_read(const struct rig *rig, u64 ret[THREADS])
{
	for (u32 i = 0; i < THREADS; i++)
		ret[i] = rig->vcpus[i].runs;
}

// 1-0-1 as fast as can be: nobody waits for a thread to leave its park, none is lost and none runs on.
static void thousands_of_rapid_freezes_lose_no_thread(void **state)
{
	struct rig *rig = *state;

	for (u64 i = 1; i <= 5000; i++) {
		u64 first[THREADS], second[THREADS];

		freeze(rig);
		registers_read(rig, first);
		rig->word = i;
		if (i % 3 == 0) {
			rig->job = i;
			rendezvous_again(&rig->r);
			fine(wait_for_all(rig, LONG));
			for (u32 v = 0; v < THREADS; v++)
				assert_int_equal(rig->vcpus[v].result, i * 10 + v);
		}
		registers_read(rig, second);
		assert_memory_equal(first, second, sizeof(first));
		rendezvous_end(&rig->r);
	}
	freeze(rig);
	thaw_and_wait_until_all_run(rig);
	freeze(rig);
	for (u32 v = 0; v < THREADS; v++)
		assert_int_equal(rig->vcpus[v].seen, 5000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_threads_park_and_all_are_seen),
		TEST(what_is_written_on_one_side_is_there_on_the_other),
		TEST(a_parked_thread_is_given_jobs),
		TEST(a_thread_that_does_not_stop_is_named_and_the_next_freeze_works),
		TEST(a_thread_that_comes_late_into_the_next_freeze_is_waited_for),
		TEST(the_loops_other_sources_and_timers_are_served_while_it_waits),
		TEST(a_thread_that_ends_instead_of_parking_is_not_waited_for),
		TEST(the_last_one_is_noticed_after_another_has_ended),
		TEST(a_wakeup_that_was_left_behind_is_no_acknowledgement_and_is_used_up),
		TEST(a_wait_can_be_given_up_and_stays_frozen),
		TEST(a_wait_leaves_nothing_in_the_loop_however_it_ends),
		TEST(signals_and_wakeups_for_nothing_leave_a_thread_parked),
		TEST(thousands_of_rapid_freezes_lose_no_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
