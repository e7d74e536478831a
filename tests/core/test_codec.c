// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tlv/codec.h"
#include "tlv/crc32.h"

enum { STREAM_MAX = 4096 };

struct stream {
	u8 data[STREAM_MAX];
	size_t size;
};

static void add_frame(struct stream *s, u32 type, const void *payload, u32 length)
{
	size_t n = frame_encode(s->data + s->size, sizeof(s->data) - s->size, type, payload, length);

	assert_int_equal(n, WIRE_HEADER_SIZE + length);
	s->size += n;
}

static void add_bytes(struct stream *s, const void *bytes, size_t n)
{
	memcpy(s->data + s->size, bytes, n);
	s->size += n;
}

/* What came out of a reader, in order. */
struct seen {
	u32 count;
	struct {
		u32 type, length;
		u8 payload[64];
	} frames[16];
};

/* Feeds the stream in pieces and collects its frames. */
static void read_stream(struct frame_reader *r, const u8 *data, size_t size, size_t piece, struct seen *seen)
{
	struct frame f;
	u8 *at;

	while (size) {
		size_t space = frame_reader_space(r, &at);
		size_t n = size < piece ? size : piece;

		assert_true(space > 0);
		n = n < space ? n : space;
		memcpy(at, data, n);
		frame_reader_advance(r, n);
		data += n;
		size -= n;
		while (frame_reader_next(r, &f)) {
			assert_true(seen->count < ARRAY_SIZE(seen->frames));
			assert_true(f.length <= sizeof(seen->frames[0].payload));
			seen->frames[seen->count].type = f.type;
			seen->frames[seen->count].length = f.length;
			memcpy(seen->frames[seen->count].payload, f.payload, f.length);
			seen->count++;
		}
	}
}

static struct frame_reader make_reader(size_t capacity)
{
	struct frame_reader r;
	void *buffer = malloc(capacity);

	assert_non_null(buffer);
	frame_reader_init(&r, buffer, capacity);
	return r;
}

static void three_frames(struct stream *s)
{
	s->size = 0;
	add_frame(s, MSG_LIFECYCLE, "abcd", 4);
	add_frame(s, MSG_SCENARIO_START, NULL, 0);
	add_frame(s, MSG_STDOUT, "the third frame", 15);
}

static void check_three(const struct seen *seen)
{
	assert_int_equal(seen->count, 3);
	assert_int_equal(seen->frames[0].type, MSG_LIFECYCLE);
	assert_memory_equal(seen->frames[0].payload, "abcd", 4);
	assert_int_equal(seen->frames[1].type, MSG_SCENARIO_START);
	assert_int_equal(seen->frames[1].length, 0);
	assert_int_equal(seen->frames[2].type, MSG_STDOUT);
	assert_memory_equal(seen->frames[2].payload, "the third frame", 15);
}

static void the_layout_is_the_one_documented(void **state)
{
	static const u8 expected[] = {
		0x54,
		0x49,
		0x58,
		0x45, /* type */
		0x04,
		0x00,
		0x00,
		0x00, /* length */
		0x46,
		0x90,
		0xcb,
		0xee, /* CRC of the payload, by zlib */
		0x93,
		0x70,
		0xf1,
		0x7f, /* CRC of the twelve bytes before, by zlib */
		0x2a,
		0x00,
		0x00,
		0x00,
	};
	struct stream s = { .size = 0 };
	u32 code = 42;

	add_frame(&s, MSG_EXIT, &code, sizeof(code));
	assert_int_equal(s.size, sizeof(expected));
	assert_memory_equal(s.data, expected, sizeof(expected));
}

static void a_frame_that_does_not_fit_is_not_written(void **state)
{
	u8 out[WIRE_HEADER_SIZE + 4] = { 0 };

	assert_int_equal(frame_encode(out, sizeof(out), MSG_STDOUT, "12345", 5), 0);
	assert_int_equal(out[0], 0);
	assert_int_equal(frame_encode(out, SIZE_MAX, MSG_STDOUT, "", WIRE_PAYLOAD_MAX + 1), 0);
	assert_int_equal(frame_encode(out, sizeof(out), MSG_STDOUT, "1234", 4), sizeof(out));
}

static void any_cut_of_the_stream_gives_the_same_frames(void **state)
{
	struct stream s;

	three_frames(&s);
	for (size_t piece = 1; piece <= s.size; piece++) {
		struct frame_reader r = make_reader(FRAME_BUFFER_MAX);
		struct seen seen = { 0 };

		read_stream(&r, s.data, s.size, piece, &seen);
		check_three(&seen);
		assert_int_equal(r.stats.frames, 3);
		assert_int_equal(r.stats.bad_headers + r.stats.bad_payloads + r.stats.skipped_bytes, 0);
		free(r.data);
	}
}

static void garbage_between_frames_is_slid_over_and_counted(void **state)
{
	struct frame_reader r = make_reader(WIRE_HEADER_SIZE + 64);
	struct stream s = { .size = 0 };
	struct seen seen = { 0 };
	u8 garbage[300];

	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (u8)(i * 7 + 1);
	add_bytes(&s, garbage, sizeof(garbage));
	add_frame(&s, MSG_LIFECYCLE, "abcd", 4);
	add_bytes(&s, garbage, 1);
	add_frame(&s, MSG_SCENARIO_START, NULL, 0);
	add_bytes(&s, garbage, 17);
	add_frame(&s, MSG_STDOUT, "the third frame", 15);
	read_stream(&r, s.data, s.size, 5, &seen);
	check_three(&seen);
	assert_int_equal(r.stats.bad_headers, 3);
	assert_int_equal(r.stats.skipped_bytes, sizeof(garbage) + 1 + 17);
	free(r.data);
}

/* Every flipped bit costs exactly one frame, is counted, and the other two frames come through. */
static void a_flipped_bit_costs_its_own_frame_alone(void **state)
{
	struct stream s;

	three_frames(&s);
	for (size_t bit = 0; bit < s.size * 8; bit++) {
		struct frame_reader r = make_reader(FRAME_BUFFER_MAX);
		struct seen seen = { 0 };

		s.data[bit / 8] ^= (u8)(1 << bit % 8);
		read_stream(&r, s.data, s.size, s.size, &seen);
		s.data[bit / 8] ^= (u8)(1 << bit % 8);
		assert_int_equal(seen.count, 2);
		assert_int_equal(r.stats.bad_headers + r.stats.bad_payloads, 1);
		assert_int_equal(r.stats.unknown, 0);
		free(r.data);
	}
}

static void a_flipped_payload_drops_the_frame_without_sliding(void **state)
{
	struct frame_reader r = make_reader(FRAME_BUFFER_MAX);
	struct seen seen = { 0 };
	struct stream s;

	three_frames(&s);
	s.data[WIRE_HEADER_SIZE] ^= 1;
	read_stream(&r, s.data, s.size, s.size, &seen);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.frames[0].type, MSG_SCENARIO_START);
	assert_int_equal(r.stats.bad_payloads, 1);
	assert_int_equal(r.stats.bad_headers, 0);
	assert_int_equal(r.stats.skipped_bytes, 0);
	free(r.data);
}

static void an_unknown_type_is_skipped_and_counted(void **state)
{
	struct frame_reader r = make_reader(FRAME_BUFFER_MAX);
	struct stream s = { .size = 0 };
	struct seen seen = { 0 };

	add_frame(&s, 0x12345678, "something new", 13);
	add_frame(&s, 0, NULL, 0);
	add_frame(&s, MSG_DMESG, "x", 1);
	read_stream(&r, s.data, s.size, 3, &seen);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.frames[0].type, MSG_DMESG);
	assert_int_equal(r.stats.unknown, 2);
	assert_int_equal(r.stats.frames, 1);
	free(r.data);
}

/* A header with good CRCs and a given length, and nothing after it. */
static void add_lying_header(struct stream *s, u32 length)
{
	struct wire_header h = { .type = MSG_STDOUT, .length = length };

	h.header_crc = crc32_ieee(0, &h, 12);
	add_bytes(s, &h, sizeof(h));
}

static void an_impossible_length_is_a_bad_header(void **state)
{
	static const u32 lies[] = { WIRE_PAYLOAD_MAX + 1, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff };

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct frame_reader r = make_reader(FRAME_BUFFER_MAX);
		struct stream s = { .size = 0 };
		struct seen seen = { 0 };

		add_lying_header(&s, lies[i]);
		add_frame(&s, MSG_DMESG, "x", 1);
		read_stream(&r, s.data, s.size, s.size, &seen);
		assert_int_equal(seen.count, 1);
		assert_int_equal(r.stats.bad_headers, 1);
		assert_int_equal(r.stats.skipped_bytes, WIRE_HEADER_SIZE);
		free(r.data);
	}
}

static void a_length_beyond_the_buffer_is_a_bad_header(void **state)
{
	struct frame_reader r = make_reader(WIRE_HEADER_SIZE + 32);
	struct stream s = { .size = 0 };
	struct seen seen = { 0 };

	add_lying_header(&s, 33);
	add_frame(&s, MSG_DMESG, "as large as the buffer, 32 bytes", 32);
	read_stream(&r, s.data, s.size, 7, &seen);
	assert_int_equal(seen.count, 1);
	assert_int_equal(r.stats.bad_headers, 1);
	free(r.data);
}

/* The length is possible but a lie: what it swallows is lost, the stream goes on after it. */
static void a_plausible_lie_swallows_no_more_than_it_claims(void **state)
{
	struct frame_reader r = make_reader(FRAME_BUFFER_MAX);
	struct stream s = { .size = 0 };
	struct seen seen = { 0 };

	add_lying_header(&s, WIRE_HEADER_SIZE + 1);
	add_frame(&s, MSG_DMESG, "x", 1);
	add_frame(&s, MSG_DMESG, "y", 1);
	read_stream(&r, s.data, s.size, 1, &seen);
	assert_int_equal(seen.count, 1);
	assert_memory_equal(seen.frames[0].payload, "y", 1);
	assert_int_equal(r.stats.bad_payloads, 1);
	free(r.data);
}

static void the_largest_frame_passes(void **state)
{
	struct frame_reader r = make_reader(FRAME_BUFFER_MAX);
	u8 *frame = malloc(FRAME_BUFFER_MAX);
	struct frame f;
	u8 *at;

	memset(frame, 0x5a, FRAME_BUFFER_MAX);
	assert_int_equal(frame_seal(frame, MSG_STDOUT, WIRE_PAYLOAD_MAX), FRAME_BUFFER_MAX);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(frame_reader_space(&r, &at), FRAME_BUFFER_MAX);
		memcpy(at, frame, FRAME_BUFFER_MAX - 1);
		frame_reader_advance(&r, FRAME_BUFFER_MAX - 1);
		assert_false(frame_reader_next(&r, &f));
		assert_int_equal(frame_reader_space(&r, &at), 1);
		*at = frame[FRAME_BUFFER_MAX - 1];
		frame_reader_advance(&r, 1);
		assert_true(frame_reader_next(&r, &f));
		assert_int_equal(f.length, WIRE_PAYLOAD_MAX);
		assert_memory_equal(f.payload, frame + WIRE_HEADER_SIZE, f.length);
		assert_false(frame_reader_next(&r, &f));
	}
	free(frame);
	free(r.data);
}

static void internal_types_are_known_types(void **state)
{
	assert_true(wire_type_is_known(MSG_EXIT));
	assert_true(wire_type_is_known(MSG_KERNEL_OP_REPLY));
	assert_false(wire_type_is_known(0));
	assert_false(wire_type_is_known(MSG_EXIT + 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_layout_is_the_one_documented),
		cmocka_unit_test(a_frame_that_does_not_fit_is_not_written),
		cmocka_unit_test(any_cut_of_the_stream_gives_the_same_frames),
		cmocka_unit_test(garbage_between_frames_is_slid_over_and_counted),
		cmocka_unit_test(a_flipped_bit_costs_its_own_frame_alone),
		cmocka_unit_test(a_flipped_payload_drops_the_frame_without_sliding),
		cmocka_unit_test(an_unknown_type_is_skipped_and_counted),
		cmocka_unit_test(an_impossible_length_is_a_bad_header),
		cmocka_unit_test(a_length_beyond_the_buffer_is_a_bad_header),
		cmocka_unit_test(a_plausible_lie_swallows_no_more_than_it_claims),
		cmocka_unit_test(the_largest_frame_passes),
		cmocka_unit_test(internal_types_are_known_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
