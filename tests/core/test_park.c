// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The words of a rendezvous and its slots, step by step, in one thread: every order of events that matters,
 * without chance. test_rendezvous.c has the threads.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "freeze/park.h"

enum { SLOTS = 3 };

struct fixture {
	struct rendezvous r;
	struct park_slot slots[SLOTS];
	u32 kicks[SLOTS];
	bool kicked_too_early;
};

static void note_kick(void *ctx, u32 slot)
{
	struct fixture *f = ctx;

	// What the kicked thread would find.
	f->kicked_too_early |= !park_is_wanted(&f->slots[slot]) || !rendezvous_is_missing(&f->r, slot) ||
			       f->r.missing >> 32 != f->r.generation;
	f->kicks[slot]++;
}

static const struct rendezvous_ops ops = { note_kick };

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	memset(f->slots, 0xa5, sizeof(f->slots));
	assert_null(rendezvous_init(&f->r, f->slots, SLOTS, &ops, f));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_false(f->kicked_too_early);
	rendezvous_deinit(&f->r);
	free(f);
	return 0;
}

static bool is_signalled(const struct rendezvous *r)
{
	struct pollfd p = { .fd = r->fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void ack_all(struct fixture *f, u32 generation)
{
	for (u32 i = 0; i < SLOTS; i++)
		park_ack(&f->slots[i], generation);
}

static void nobody_is_wanted_before_the_first_freeze(void **state)
{
	struct fixture *f = *state;

	assert_false(rendezvous_is_frozen(&f->r));
	assert_false(rendezvous_is_complete(&f->r));
	assert_int_equal(f->r.thawed_ns, 0);
	for (u32 i = 0; i < SLOTS; i++) {
		assert_int_equal(park_wanted(&f->slots[i]), 0);
		assert_false(rendezvous_is_missing(&f->r, i));
		assert_false(rendezvous_is_stuck(&f->r, i));
	}
}

static void a_freeze_is_complete_with_the_last_acknowledgement_and_not_before(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	assert_true(rendezvous_is_frozen(&f->r));
	for (u32 i = 0; i < SLOTS; i++) {
		assert_int_equal(f->kicks[i], 1);
		assert_int_equal(park_wanted(&f->slots[i]), 1);
		assert_true(rendezvous_is_missing(&f->r, i));
		assert_false(rendezvous_is_complete(&f->r));
		assert_false(is_signalled(&f->r));
		park_ack(&f->slots[i], 1);
		assert_false(rendezvous_is_missing(&f->r, i));
		assert_false(park_is_wanted(&f->slots[i]));
	}
	assert_true(rendezvous_is_complete(&f->r));
	assert_true(is_signalled(&f->r));
	rendezvous_end(&f->r);
	assert_false(rendezvous_is_frozen(&f->r));
	assert_false(rendezvous_is_complete(&f->r));
}

static void an_acknowledgement_counts_once(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	for (u32 i = 0; i < SLOTS; i++)
		park_ack(&f->slots[0], 1);
	assert_false(rendezvous_is_complete(&f->r));
	assert_false(is_signalled(&f->r));
	assert_true(rendezvous_is_missing(&f->r, 1));
	ack_all(f, 1);
	assert_true(rendezvous_is_complete(&f->r));
	assert_true(is_signalled(&f->r));
	rendezvous_end(&f->r);
}

static void a_late_acknowledgement_does_not_count_for_the_next_freeze(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	park_ack(&f->slots[1], 1);
	park_ack(&f->slots[2], 1);
	rendezvous_end(&f->r);
	assert_false(rendezvous_is_missing(&f->r, 0));
	rendezvous_begin(&f->r);
	park_ack(&f->slots[1], 3);
	park_ack(&f->slots[2], 3);
	// It was stopped for generation 1, and gets round to saying so only now.
	park_ack(&f->slots[0], 1);
	assert_false(rendezvous_is_complete(&f->r));
	assert_true(rendezvous_is_missing(&f->r, 0));
	assert_false(is_signalled(&f->r));
	assert_int_equal(park_wait(&f->slots[0]), 3);
	park_ack(&f->slots[0], 3);
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
}

static void a_late_acknowledgement_after_the_thaw_is_without_effect(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	park_ack(&f->slots[1], 1);
	park_ack(&f->slots[2], 1);
	rendezvous_end(&f->r);
	park_ack(&f->slots[0], 1);
	assert_false(rendezvous_is_complete(&f->r));
	assert_int_equal(park_wait(&f->slots[0]), 0);
	assert_false(rendezvous_is_stuck(&f->r, 0));
	rendezvous_begin(&f->r);
	ack_all(f, 3);
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
}

// Nothing waits for the last one to leave its park: a boolean would let it sleep through 1-0-1.
static void a_parked_thread_that_missed_the_thaw_finds_the_next_freeze(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	ack_all(f, 1);
	rendezvous_end(&f->r);
	rendezvous_begin(&f->r);
	assert_false(rendezvous_is_complete(&f->r));
	for (u32 i = 0; i < SLOTS; i++) {
		assert_int_equal(park_wait(&f->slots[i]), 3);
		assert_int_equal(f->slots[i].left, 0);
		park_ack(&f->slots[i], 3);
	}
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
	for (u32 i = 0; i < SLOTS; i++)
		assert_int_equal(park_wait(&f->slots[i]), 0);
}

static void leaving_the_park_is_noted_with_its_time(void **state)
{
	struct fixture *f = *state;
	u64 before = clock_now_ns();

	rendezvous_begin(&f->r);
	ack_all(f, 1);
	rendezvous_end(&f->r);
	assert_in_range(f->r.thawed_ns, before, clock_now_ns());
	assert_int_equal(park_wait(&f->slots[1]), 0);
	assert_int_equal(f->slots[1].left, 2);
	assert_in_range(f->slots[1].left_ns, f->r.thawed_ns, clock_now_ns());
	assert_int_equal(f->slots[0].left, 0);
	assert_int_equal(f->slots[0].left_ns, 0);
}

static void a_thread_is_stuck_from_the_thaw_until_it_has_left(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	park_ack(&f->slots[0], 1);
	park_ack(&f->slots[1], 1);
	assert_false(rendezvous_is_stuck(&f->r, 0));
	rendezvous_end(&f->r);
	assert_true(rendezvous_is_stuck(&f->r, 0));
	assert_true(rendezvous_is_stuck(&f->r, 1));
	// It never parked.
	assert_false(rendezvous_is_stuck(&f->r, 2));
	assert_int_equal(park_wait(&f->slots[0]), 0);
	park_leave_for_good(&f->slots[1]);
	assert_false(rendezvous_is_stuck(&f->r, 0));
	assert_false(rendezvous_is_stuck(&f->r, 1));
}

static void a_thread_is_still_stuck_after_a_freeze_that_it_missed(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	ack_all(f, 1);
	rendezvous_end(&f->r);
	assert_int_equal(park_wait(&f->slots[1]), 0);
	assert_int_equal(park_wait(&f->slots[2]), 0);
	rendezvous_begin(&f->r);
	rendezvous_end(&f->r);
	assert_true(rendezvous_is_stuck(&f->r, 0));
	assert_false(rendezvous_is_stuck(&f->r, 1));
	assert_int_equal(park_wait(&f->slots[0]), 0);
	assert_false(rendezvous_is_stuck(&f->r, 0));
}

static void another_generation_asks_each_thread_again_without_a_kick(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	ack_all(f, 1);
	rendezvous_again(&f->r);
	assert_true(rendezvous_is_frozen(&f->r));
	assert_false(rendezvous_is_complete(&f->r));
	for (u32 i = 0; i < SLOTS; i++) {
		assert_true(rendezvous_is_missing(&f->r, i));
		assert_int_equal(park_wait(&f->slots[i]), 3);
		park_ack(&f->slots[i], 3);
		assert_int_equal(f->kicks[i], 1);
	}
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
	assert_int_equal(park_wait(&f->slots[0]), 0);
	assert_int_equal(f->slots[0].left, 4);
}

static void a_thread_late_for_the_first_generation_acknowledges_the_second(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	rendezvous_again(&f->r);
	ack_all(f, 1);
	assert_false(rendezvous_is_complete(&f->r));
	ack_all(f, 3);
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
}

static void thawing_what_is_not_frozen_is_harmless(void **state)
{
	struct fixture *f = *state;

	rendezvous_end(&f->r);
	assert_false(rendezvous_is_frozen(&f->r));
	assert_int_equal(f->r.thawed_ns, 0);
	rendezvous_begin(&f->r);
	rendezvous_end(&f->r);
	rendezvous_end(&f->r);
	assert_false(rendezvous_is_frozen(&f->r));
}

static void a_thread_that_has_ended_is_neither_kicked_nor_waited_for(void **state)
{
	struct fixture *f = *state;

	eventfd_t count;

	park_leave_for_good(&f->slots[1]);
	assert_int_equal(eventfd_read(f->r.fd, &count), 0);
	rendezvous_begin(&f->r);
	assert_int_equal(f->kicks[0], 1);
	assert_int_equal(f->kicks[1], 0);
	assert_false(rendezvous_is_missing(&f->r, 1));
	park_ack(&f->slots[0], 1);
	assert_false(rendezvous_is_complete(&f->r));
	assert_false(is_signalled(&f->r));
	park_ack(&f->slots[2], 1);
	assert_true(rendezvous_is_complete(&f->r));
	assert_true(is_signalled(&f->r));
	rendezvous_end(&f->r);
}

static void a_thread_that_ends_while_it_is_waited_for_completes_the_freeze(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	park_ack(&f->slots[0], 1);
	park_ack(&f->slots[2], 1);
	assert_false(is_signalled(&f->r));
	assert_false(rendezvous_is_complete(&f->r));
	park_leave_for_good(&f->slots[1]);
	assert_true(is_signalled(&f->r));
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
}

static void a_thread_that_ends_after_it_acknowledged_is_not_counted_twice(void **state)
{
	struct fixture *f = *state;

	rendezvous_begin(&f->r);
	park_ack(&f->slots[0], 1);
	park_leave_for_good(&f->slots[0]);
	park_ack(&f->slots[1], 1);
	assert_false(rendezvous_is_complete(&f->r));
	assert_true(rendezvous_is_missing(&f->r, 2));
	park_ack(&f->slots[2], 1);
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_again(&f->r);
	park_ack(&f->slots[1], 3);
	assert_false(rendezvous_is_complete(&f->r));
	park_ack(&f->slots[2], 3);
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
}

static void a_freeze_of_threads_that_have_all_ended_is_complete_at_once(void **state)
{
	struct fixture *f = *state;

	for (u32 i = 0; i < SLOTS; i++)
		park_leave_for_good(&f->slots[i]);
	rendezvous_begin(&f->r);
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
}

// 2^31 freezes on, the generation begins again.
static void the_generation_may_wrap(void **state)
{
	struct fixture *f = *state;

	f->r.generation = UINT32_MAX - 1;
	for (u32 i = 0; i < SLOTS; i++) {
		f->slots[i].acked = UINT32_MAX - 2;
		f->slots[i].left = UINT32_MAX - 1;
	}
	rendezvous_begin(&f->r);
	ack_all(f, UINT32_MAX);
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
	assert_int_equal(f->r.generation, 0);
	assert_true(rendezvous_is_stuck(&f->r, 0));
	assert_int_equal(park_wait(&f->slots[0]), 0);
	assert_false(rendezvous_is_stuck(&f->r, 0));
	rendezvous_begin(&f->r);
	assert_int_equal(park_wait(&f->slots[1]), 1);
	ack_all(f, 1);
	assert_true(rendezvous_is_complete(&f->r));
	rendezvous_end(&f->r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nobody_is_wanted_before_the_first_freeze),
		TEST(a_freeze_is_complete_with_the_last_acknowledgement_and_not_before),
		TEST(an_acknowledgement_counts_once),
		TEST(a_late_acknowledgement_does_not_count_for_the_next_freeze),
		TEST(a_late_acknowledgement_after_the_thaw_is_without_effect),
		TEST(a_parked_thread_that_missed_the_thaw_finds_the_next_freeze),
		TEST(leaving_the_park_is_noted_with_its_time),
		TEST(a_thread_is_stuck_from_the_thaw_until_it_has_left),
		TEST(a_thread_is_still_stuck_after_a_freeze_that_it_missed),
		TEST(another_generation_asks_each_thread_again_without_a_kick),
		TEST(a_thread_late_for_the_first_generation_acknowledges_the_second),
		TEST(thawing_what_is_not_frozen_is_harmless),
		TEST(a_thread_that_has_ended_is_neither_kicked_nor_waited_for),
		TEST(a_thread_that_ends_while_it_is_waited_for_completes_the_freeze),
		TEST(a_thread_that_ends_after_it_acknowledged_is_not_counted_twice),
		TEST(a_freeze_of_threads_that_have_all_ended_is_complete_at_once),
		TEST(the_generation_may_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
