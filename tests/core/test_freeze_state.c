// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "freeze/state.h"

static void the_words_are_those_that_users_know(void **state)
{
	assert_string_equal(freeze_source_name(FREEZE_MAIN), "main");
	assert_string_equal(freeze_source_name(FREEZE_GUEST), "guest");
	assert_string_equal(freeze_source_name(FREEZE_PERIODIC), "periodic");
	assert_string_equal(freeze_source_name(FREEZE_WATCH), "watch");
	assert_string_equal(freeze_source_name(FREEZE_KERNEL_OP), "kernel-op");
	assert_string_equal(freeze_source_name(FREEZE_FAILURE), "failure");
	for (int i = 0; i < FREEZE_SOURCES; i++)
		assert_non_null(freeze_source_name(i));
	assert_string_equal(freeze_state_name(FREEZE_IDLE), "Idle");
	assert_string_equal(freeze_state_name(FREEZE_TOOK_EARLY), "TookEarly");
	assert_string_equal(freeze_state_name(FREEZE_DONE), "Done");
	assert_int_equal(FREEZE_RENDEZVOUS_TIMEOUT_NS, 30000000000ULL);
}

static void a_dual_capture_takes_an_early_one_and_a_late_one(void **state)
{
	enum freeze_state s = FREEZE_IDLE;

	assert_true(freeze_state_take_early(&s, true));
	assert_int_equal(s, FREEZE_TOOK_EARLY);
	assert_false(freeze_state_take_early(&s, true));
	assert_int_equal(s, FREEZE_TOOK_EARLY);
	assert_true(freeze_state_take_late(&s));
	assert_int_equal(s, FREEZE_DONE);
	assert_false(freeze_state_take_late(&s));
	assert_false(freeze_state_take_early(&s, true));
	assert_int_equal(s, FREEZE_DONE);
}

static void a_single_capture_takes_the_late_one_alone(void **state)
{
	enum freeze_state s = FREEZE_IDLE;

	assert_false(freeze_state_take_early(&s, false));
	assert_int_equal(s, FREEZE_IDLE);
	assert_true(freeze_state_take_late(&s));
	assert_int_equal(s, FREEZE_DONE);
	assert_false(freeze_state_take_late(&s));
	assert_false(freeze_state_take_early(&s, false));
}

static void a_dual_capture_whose_error_comes_first_takes_the_late_one_alone(void **state)
{
	enum freeze_state s = FREEZE_IDLE;

	assert_true(freeze_state_take_late(&s));
	assert_false(freeze_state_take_early(&s, true));
	assert_int_equal(s, FREEZE_DONE);
}

// A payload as it lies in a frame: at any address.
struct payload {
	u8 bytes[1 + sizeof(struct wire_snapshot_request) + 1];
};

static u8 *payload_fill(struct payload *p, u32 request_id, u32 kind, const char *tag, size_t tag_size)
{
	struct wire_snapshot_request wire = { .request_id = request_id, .kind = kind };

	memcpy(wire.tag, tag, tag_size);
	memcpy(p->bytes + 1, &wire, sizeof(wire));
	return p->bytes + 1;
}

static void a_request_is_read(void **state)
{
	struct snapshot_request r;
	struct payload p;

	assert_int_equal(sizeof(struct wire_snapshot_request), 72);
	assert_true(snapshot_request_parse(payload_fill(&p, 7, SNAPSHOT_CAPTURE, "before it dies", 14), 72, &r));
	assert_int_equal(r.request_id, 7);
	assert_int_equal(r.kind, SNAPSHOT_CAPTURE);
	assert_string_equal(r.tag, "before it dies");
	assert_true(snapshot_request_parse(payload_fill(&p, UINT32_MAX, SNAPSHOT_WATCH, "x", 1), 72, &r));
	assert_int_equal(r.request_id, UINT32_MAX);
	assert_int_equal(r.kind, SNAPSHOT_WATCH);
	assert_string_equal(r.tag, "x");
}

static void a_tag_may_fill_its_place_to_the_last_byte(void **state)
{
	struct snapshot_request r;
	struct payload p;
	char tag[WIRE_TAG_SIZE];

	memset(tag, '~', sizeof(tag));
	memset(&r, 'x', sizeof(r));
	assert_true(snapshot_request_parse(payload_fill(&p, 1, SNAPSHOT_CAPTURE, tag, sizeof(tag)), 72, &r));
	assert_int_equal(strlen(r.tag), WIRE_TAG_SIZE);
	assert_memory_equal(r.tag, tag, sizeof(tag));
}

static void what_follows_the_tags_end_is_not_part_of_it(void **state)
{
	struct snapshot_request r;
	struct payload p;

	assert_true(snapshot_request_parse(payload_fill(&p, 1, SNAPSHOT_CAPTURE, "a\0\033b", 4), 72, &r));
	assert_string_equal(r.tag, "a");
	for (size_t i = 1; i < sizeof(r.tag); i++)
		assert_int_equal(r.tag[i], 0);
}

static void another_size_is_no_request(void **state)
{
	struct snapshot_request r;
	struct payload p;
	u8 *payload = payload_fill(&p, 1, SNAPSHOT_CAPTURE, "tag", 3);

	assert_false(snapshot_request_parse(payload, 71, &r));
	assert_false(snapshot_request_parse(payload, 73, &r));
	assert_false(snapshot_request_parse(payload, 0, &r));
	assert_int_equal(r.request_id, 0);
	assert_true(snapshot_request_parse(payload, 72, &r));
}

static void a_tag_that_is_empty_or_not_printable_is_refused_but_can_be_answered(void **state)
{
	static const char *const tags[] = { "", "a\nb", "\033[2J", "\x7f", "caf\xc3\xa9", "tab\t" };

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		struct snapshot_request r;
		struct payload p;

		payload_fill(&p, 9, SNAPSHOT_WATCH, tags[i], strlen(tags[i]));
		assert_false(snapshot_request_parse(p.bytes + 1, 72, &r));
		assert_int_equal(r.request_id, 9);
		assert_int_equal(r.kind, SNAPSHOT_WATCH);
		assert_string_equal(r.tag, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_words_are_those_that_users_know),
		cmocka_unit_test(a_dual_capture_takes_an_early_one_and_a_late_one),
		cmocka_unit_test(a_single_capture_takes_the_late_one_alone),
		cmocka_unit_test(a_dual_capture_whose_error_comes_first_takes_the_late_one_alone),
		cmocka_unit_test(a_request_is_read),
		cmocka_unit_test(a_tag_may_fill_its_place_to_the_last_byte),
		cmocka_unit_test(what_follows_the_tags_end_is_not_part_of_it),
		cmocka_unit_test(another_size_is_no_request),
		cmocka_unit_test(a_tag_that_is_empty_or_not_printable_is_refused_but_can_be_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
