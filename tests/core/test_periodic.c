// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "capture/periodic.h"

#define S(seconds) ((u64)((seconds)*1000) * NSEC_PER_MSEC)

/* Captures each 2 s from 3 s on; the last one is too late 2 s after its moment. */
static struct periodic_plan plan_of(u32 count)
{
	struct periodic_plan plan = { .count = count, .end_ns = S(3) + count * S(2) };

	for (u32 i = 0; i < count; i++) {
		plan.at[i].due_ns = S(3) + i * S(2);
		snprintf(plan.at[i].tag, sizeof(plan.at[i].tag), "p%u", i);
	}
	return plan;
}

static struct periodic run_of(u32 count)
{
	struct periodic_plan plan = plan_of(count);
	struct periodic ret;

	assert_true(periodic_init(&ret, &plan));
	return ret;
}

static void nothing_is_due(struct periodic *p, u64 now)
{
	const struct periodic_moment *one;
	char reason[PERIODIC_REASON_SIZE];

	assert_int_equal(periodic_next(p, now, &one, reason), PERIODIC_NOTHING);
}

static void takes(struct periodic *p, u64 now, const char *tag)
{
	const struct periodic_moment *one = NULL;
	char reason[PERIODIC_REASON_SIZE];

	assert_int_equal(periodic_next(p, now, &one, reason), PERIODIC_TAKE);
	assert_string_equal(one->tag, tag);
}

static void misses(struct periodic *p, u64 now, const char *tag, const char *why)
{
	const struct periodic_moment *one = NULL;
	char reason[PERIODIC_REASON_SIZE];

	assert_int_equal(periodic_next(p, now, &one, reason), PERIODIC_MISSED);
	assert_string_equal(one->tag, tag);
	if (!strstr(reason, why))
		fail_msg("no '%s' in: %s", why, reason);
}

static void is(struct periodic *p, enum periodic_state state, u32 taken, u32 missed)
{
	assert_int_equal(p->state, state);
	assert_int_equal(p->taken, taken);
	assert_int_equal(p->missed, missed);
}

static u64 elapsed(struct periodic *p, u64 now)
{
	u64 ret = 0;

	assert_true(periodic_elapsed(p, now, &ret));
	return ret;
}

static u64 next_at(struct periodic *p)
{
	u64 ret = 0;

	assert_true(periodic_next_at(p, &ret));
	return ret;
}

static void nothing_is_due_before_the_start(void **state)
{
	struct periodic p = run_of(3);
	u64 at;

	nothing_is_due(&p, S(100));
	assert_false(periodic_next_at(&p, &at));
	assert_false(periodic_elapsed(&p, S(100), &at));
	is(&p, PERIODIC_WAITING, 0, 0);
}

static void each_is_due_at_its_moment_after_the_start(void **state)
{
	struct periodic p = run_of(3);
	u64 at;

	periodic_start(&p, S(100));
	assert_int_equal(next_at(&p), S(103));
	nothing_is_due(&p, S(103) - 1);
	takes(&p, S(103), "p0");
	periodic_settle(&p, S(103.01), PERIODIC_TAKEN);
	nothing_is_due(&p, S(103.02));
	takes(&p, S(105.5), "p1");
	periodic_settle(&p, S(105.5), PERIODIC_TAKEN);
	is(&p, PERIODIC_RUNNING, 2, 0);
	takes(&p, S(107), "p2");
	periodic_settle(&p, S(107), PERIODIC_TAKEN);
	is(&p, PERIODIC_OVER, 3, 0);
	assert_false(periodic_next_at(&p, &at));
	nothing_is_due(&p, S(200));
}

static void one_that_is_being_taken_is_not_handed_out_again(void **state)
{
	struct periodic p = run_of(3);
	u64 at;

	periodic_start(&p, 0);
	takes(&p, S(3), "p0");
	nothing_is_due(&p, S(3.5));
	nothing_is_due(&p, S(6));
	assert_false(periodic_next_at(&p, &at));
	periodic_settle(&p, S(6), PERIODIC_TAKEN);
	takes(&p, S(6), "p1");
}

static void a_second_start_changes_nothing(void **state)
{
	struct periodic p = run_of(3);

	periodic_start(&p, S(100));
	periodic_start(&p, S(102));
	takes(&p, S(103), "p0");
}

static void pauses_are_taken_out(void **state)
{
	struct periodic p = run_of(3);
	u64 at;

	periodic_start(&p, 0);
	periodic_pause(&p, S(2));
	assert_int_equal(elapsed(&p, S(50)), S(2));
	nothing_is_due(&p, S(50));
	assert_false(periodic_next_at(&p, &at));
	periodic_resume(&p, S(102));
	assert_int_equal(next_at(&p), S(103));
	nothing_is_due(&p, S(102.9));
	takes(&p, S(103), "p0");
	periodic_settle(&p, S(103), PERIODIC_TAKEN);
	periodic_pause(&p, S(104));
	periodic_resume(&p, S(105));
	nothing_is_due(&p, S(105.9));
	takes(&p, S(106), "p1");
	assert_int_equal(elapsed(&p, S(106)), S(5));
}

static void pauses_that_are_none_change_nothing(void **state)
{
	struct periodic p = run_of(3);

	periodic_pause(&p, 0);
	periodic_resume(&p, S(1));
	periodic_start(&p, S(10));
	periodic_resume(&p, S(11));
	periodic_pause(&p, S(12));
	periodic_pause(&p, S(20));
	periodic_start(&p, S(21));
	periodic_resume(&p, S(112));
	periodic_resume(&p, S(120));
	assert_int_equal(elapsed(&p, S(113)), S(3));
	takes(&p, S(113), "p0");
}

static void a_clock_that_goes_back_stands(void **state)
{
	struct periodic p = run_of(3);

	periodic_start(&p, S(100));
	assert_int_equal(elapsed(&p, S(102)), S(2));
	assert_int_equal(elapsed(&p, S(50)), S(2));
	periodic_pause(&p, S(40));
	periodic_resume(&p, S(30));
	assert_int_equal(elapsed(&p, S(102)), S(2));
}

static void one_whose_successor_is_due_is_too_late(void **state)
{
	struct periodic p = run_of(3);

	periodic_start(&p, 0);
	misses(&p, S(5.2), "p0", "too late by 2200 ms");
	takes(&p, S(5.2), "p1");
	periodic_settle(&p, S(9), PERIODIC_TAKEN);
	misses(&p, S(9), "p2", "too late by 2000 ms");
	is(&p, PERIODIC_OVER, 1, 2);
	nothing_is_due(&p, S(9));
}

static void one_is_in_time_until_then(void **state)
{
	struct periodic p = run_of(2);

	periodic_start(&p, 0);
	takes(&p, S(5) - 1, "p0");
	periodic_settle(&p, S(5) - 1, PERIODIC_TAKEN);
	takes(&p, S(7) - 1, "p1");
}

static void two_timeouts_in_a_row_give_up(void **state)
{
	struct periodic p = run_of(4);
	u64 at;

	periodic_start(&p, 0);
	takes(&p, S(3), "p0");
	periodic_settle(&p, S(3.1), PERIODIC_TIMED_OUT);
	takes(&p, S(5), "p1");
	periodic_settle(&p, S(5.1), PERIODIC_TIMED_OUT);
	is(&p, PERIODIC_GIVEN_UP, 0, 2);
	assert_false(periodic_next_at(&p, &at));
	misses(&p, S(5.2), "p2", "given up after 2 rendezvous timeouts in a row");
	misses(&p, S(5.2), "p3", "given up");
	nothing_is_due(&p, S(9));
	periodic_finish(&p, S(10), NULL);
	is(&p, PERIODIC_GIVEN_UP, 0, 4);
}

static void a_capture_or_another_failure_between_timeouts_goes_on(void **state)
{
	static const enum periodic_outcome between[] = { PERIODIC_TAKEN, PERIODIC_FAILED };

	for (u32 i = 0; i < 2; i++) {
		struct periodic p = run_of(4);

		periodic_start(&p, 0);
		takes(&p, S(3), "p0");
		periodic_settle(&p, S(3), PERIODIC_TIMED_OUT);
		takes(&p, S(5), "p1");
		periodic_settle(&p, S(5), between[i]);
		takes(&p, S(7), "p2");
		periodic_settle(&p, S(7), PERIODIC_TIMED_OUT);
		is(&p, PERIODIC_RUNNING, i == 0, 2 + i);
		takes(&p, S(9), "p3");
	}
}

static void timeouts_are_in_a_row_over_what_was_too_late(void **state)
{
	struct periodic p = run_of(4);

	periodic_start(&p, 0);
	takes(&p, S(3), "p0");
	periodic_settle(&p, S(7.5), PERIODIC_TIMED_OUT);
	misses(&p, S(7.5), "p1", "too late");
	takes(&p, S(7.5), "p2");
	periodic_settle(&p, S(8), PERIODIC_TIMED_OUT);
	is(&p, PERIODIC_GIVEN_UP, 0, 3);
}

static void the_workloads_end_is_the_reason_for_the_rest(void **state)
{
	struct periodic p = run_of(3);

	periodic_start(&p, 0);
	takes(&p, S(3), "p0");
	periodic_settle(&p, S(3), PERIODIC_TAKEN);
	periodic_finish(&p, S(4), NULL);
	periodic_finish(&p, S(5), "another");
	misses(&p, S(6), "p1", "the workload ended after 4.000 s");
	misses(&p, S(6), "p2", "the workload ended after 4.000 s");
	nothing_is_due(&p, S(6));
	is(&p, PERIODIC_OVER, 1, 2);
	assert_int_equal(elapsed(&p, S(50)), S(4));
	periodic_start(&p, S(60));
	nothing_is_due(&p, S(70));
}

static void an_end_before_the_start_and_in_a_pause_says_so(void **state)
{
	struct periodic p = run_of(3);

	periodic_finish(&p, S(1), NULL);
	misses(&p, S(1), "p0", "the workload did not start");
	p = run_of(3);
	periodic_finish(&p, S(1), "the machine ended");
	misses(&p, S(1), "p0", "the machine ended");
	p = run_of(3);
	periodic_start(&p, 0);
	periodic_pause(&p, S(2));
	periodic_finish(&p, S(50), NULL);
	misses(&p, S(50), "p0", "the workload ended after 2.000 s");
}

static void one_that_is_being_taken_at_the_end_still_counts(void **state)
{
	struct periodic p = run_of(3);

	periodic_start(&p, 0);
	takes(&p, S(3), "p0");
	periodic_finish(&p, S(3.1), NULL);
	nothing_is_due(&p, S(3.1)); // until it is settled: it may yet be there
	periodic_settle(&p, S(3.2), PERIODIC_TAKEN);
	misses(&p, S(3.2), "p1", "ended after 3.100 s");
	misses(&p, S(3.2), "p2", "ended");
	is(&p, PERIODIC_OVER, 1, 2);
}

static void an_outcome_that_nobody_asked_for_changes_nothing(void **state)
{
	struct periodic p = run_of(3);

	periodic_settle(&p, S(1), PERIODIC_TAKEN);
	periodic_start(&p, 0);
	periodic_settle(&p, S(4), PERIODIC_TIMED_OUT);
	is(&p, PERIODIC_RUNNING, 0, 0);
	takes(&p, S(4), "p0");
}

static void a_plan_that_makes_no_sense_is_refused(void **state)
{
	struct periodic_plan plan = plan_of(3);
	struct periodic p;

	plan.at[1].due_ns = plan.at[2].due_ns + 1;
	assert_false(periodic_init(&p, &plan));
	plan = plan_of(3);
	plan.end_ns = plan.at[2].due_ns - 1;
	assert_false(periodic_init(&p, &plan));
	plan = plan_of(3);
	plan.count = 0;
	assert_false(periodic_init(&p, &plan));
	plan.count = PERIODIC_MAX + 1;
	assert_false(periodic_init(&p, &plan));
	plan = plan_of(PERIODIC_MAX);
	assert_true(periodic_init(&p, &plan));
	memset(plan.at[7].tag, 'x', sizeof(plan.at[7].tag));
	assert_false(periodic_init(&p, &plan));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_due_before_the_start),
		cmocka_unit_test(each_is_due_at_its_moment_after_the_start),
		cmocka_unit_test(one_that_is_being_taken_is_not_handed_out_again),
		cmocka_unit_test(a_second_start_changes_nothing),
		cmocka_unit_test(pauses_are_taken_out),
		cmocka_unit_test(pauses_that_are_none_change_nothing),
		cmocka_unit_test(a_clock_that_goes_back_stands),
		cmocka_unit_test(one_whose_successor_is_due_is_too_late),
		cmocka_unit_test(one_is_in_time_until_then),
		cmocka_unit_test(two_timeouts_in_a_row_give_up),
		cmocka_unit_test(a_capture_or_another_failure_between_timeouts_goes_on),
		cmocka_unit_test(timeouts_are_in_a_row_over_what_was_too_late),
		cmocka_unit_test(the_workloads_end_is_the_reason_for_the_rest),
		cmocka_unit_test(an_end_before_the_start_and_in_a_pause_says_so),
		cmocka_unit_test(one_that_is_being_taken_at_the_end_still_counts),
		cmocka_unit_test(an_outcome_that_nobody_asked_for_changes_nothing),
		cmocka_unit_test(a_plan_that_makes_no_sense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
