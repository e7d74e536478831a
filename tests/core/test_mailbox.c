// SPDX-License-Identifier: GPL-2.0-or-later
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/mailbox.h"
#include "coordinator/outbox.h"
#include "tlv/codec.h"

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void frames_come_out_in_order_and_the_end_after_them(void **state)
{
	struct mailbox box;
	bool closed;

	assert_null(mailbox_init(&box, 1000));
	assert_false(is_readable(box.fd));
	assert_true(mailbox_put(&box, 1, "one", 3));
	assert_true(mailbox_put(&box, 2, NULL, 0));
	mailbox_close(&box);
	assert_true(is_readable(box.fd));

	struct mail *m = mailbox_take(&box, &closed);

	assert_int_equal(m->type, 1);
	assert_int_equal(m->size, 3);
	assert_memory_equal(m->payload, "one", 3);
	free(m);
	m = mailbox_take(&box, &closed);
	assert_int_equal(m->type, 2);
	assert_int_equal(m->size, 0);
	free(m);
	assert_null(mailbox_take(&box, &closed));
	assert_true(closed);
	mailbox_deinit(&box);
}

static void a_full_mailbox_has_room_again_once_a_frame_was_taken(void **state)
{
	struct mailbox box;
	char payload[100] = { 0 };
	int n = 0;
	bool closed;

	assert_null(mailbox_init(&box, 1000));
	for (; mailbox_has_room(&box); n++)
		assert_true(mailbox_put(&box, 1, payload, sizeof(payload)));
	assert_in_range(n, 2, 10);
	while (!mailbox_has_room(&box)) {
		struct mail *m = mailbox_take(&box, &closed);

		assert_non_null(m);
		assert_false(closed);
		free(m);
	}
	mailbox_deinit(&box); // with frames in it: they are freed
}

static void a_nudge_wakes_without_a_frame(void **state)
{
	struct mailbox box;
	bool closed;

	assert_null(mailbox_init(&box, 1000));
	mailbox_nudge(&box);
	assert_true(is_readable(box.fd));
	assert_null(mailbox_take(&box, &closed));
	assert_false(closed);
	mailbox_clear_event(&box);
	assert_false(is_readable(box.fd));
	mailbox_deinit(&box);
}

/* Takes all there is, in pieces of at most n bytes, into a reader; returns the frames seen. */
static u64 drain(struct outbox *box, struct frame_reader *reader, size_t n)
{
	const u8 *data;
	size_t left;

	while ((left = outbox_peek(box, &data))) {
		u8 *space;
		size_t room = frame_reader_space(reader, &space);
		size_t piece = left < n ? left : n;
		struct frame f;

		if (piece > room)
			piece = room;
		memcpy(space, data, piece);
		frame_reader_advance(reader, piece);
		outbox_take(box, piece);
		while (frame_reader_next(reader, &f)) {
			assert_int_equal(f.type, MSG_OP_REQUEST);
			for (u32 i = 0; i < f.length; i++)
				assert_int_equal(((const u8 *)f.payload)[i], (u8)f.length);
		}
	}
	return reader->stats.frames;
}

static void frames_to_the_guest_survive_the_ring_and_any_cut(void **state)
{
	struct outbox box;
	struct frame_reader reader;
	u8 *buffer = malloc(FRAME_BUFFER_MAX);
	u8 *payload = malloc(WIRE_PAYLOAD_MAX);
	u64 sent = 0;

	assert_null(outbox_init(&box));
	frame_reader_init(&reader, buffer, FRAME_BUFFER_MAX);
	for (u32 round = 0; round < 12; round++) {
		u32 size = round % 3 ? 300000 + round : round;

		memset(payload, (u8)size, size);
		while (outbox_put(&box, MSG_OP_REQUEST, payload, size) && size > 100)
			sent++;
		sent += size <= 100;
		assert_int_equal(drain(&box, &reader, 4093 + round), sent);
	}
	assert_int_equal(reader.stats.bad_headers, 0);
	assert_int_equal(reader.stats.bad_payloads, 0);
	outbox_deinit(&box);
	free(payload);
	free(buffer);
}

static void a_frame_without_room_is_refused_whole_and_told_when_there_is_some(void **state)
{
	struct outbox box;
	u8 *payload = calloc(1, WIRE_PAYLOAD_MAX);
	const u8 *data;

	assert_null(outbox_init(&box));
	while (outbox_put(&box, MSG_OP_REQUEST, payload, WIRE_PAYLOAD_MAX))
		;
	outbox_clear_space(&box);
	assert_false(is_readable(box.space_fd));
	assert_false(outbox_put(&box, MSG_OP_REQUEST, payload, WIRE_PAYLOAD_MAX));
	outbox_take(&box, outbox_peek(&box, &data));
	assert_true(is_readable(box.space_fd));
	assert_true(outbox_put(&box, MSG_OP_REQUEST, payload, WIRE_PAYLOAD_MAX));
	outbox_deinit(&box);
	free(payload);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_out_in_order_and_the_end_after_them),
		cmocka_unit_test(a_full_mailbox_has_room_again_once_a_frame_was_taken),
		cmocka_unit_test(a_nudge_wakes_without_a_frame),
		cmocka_unit_test(frames_to_the_guest_survive_the_ring_and_any_cut),
		cmocka_unit_test(a_frame_without_room_is_refused_whole_and_told_when_there_is_some),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
