// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/view_rig.h"
#include "kernel/printk.h"

/* A ring of 8 records and 256 bytes of text, in the kernel's image; its structs are not in any real kernel's order. */
enum { COUNT_BITS = 3,
       SIZE_BITS = 8,
       PRB = 0x1000, /* from the image's start */
       RING = 0x1100,
       DESCS = 0x2000,
       INFOS = 0x3000,
       TEXT = 0x4000 };

static const struct printk_layout layout = {
	.prb = IMAGE + PRB,
	.count_bits = 0,
	.descs = 8,
	.infos = 16,
	.head_id = 24,
	.tail_id = 32,
	.size_bits = 40,
	.text = 48,
	.desc_size = 24,
	.state = 0,
	.begin = 8,
	.next = 16,
	.info_size = 32,
	.seq = 8,
	.text_len = 0,
	.facility = 2,
};

enum { REUSABLE = 3,
       WHOLE = 2,
       BEING_WRITTEN = 0 };

struct log {
	struct rig *rig;
	u64 next_id, next_text;
	u64 first_seq; /* of id 0 */
};

static void put(struct log *l, u64 offset, u64 value, size_t size)
{
	memcpy(at(l->rig, IMAGE_PHYS + offset), &value, size);
}

static u64 desc_of(u64 id)
{
	return DESCS + (id & 7) * layout.desc_size;
}

static void set_state(struct log *l, u64 id, u64 state)
{
	put(l, desc_of(id) + layout.state, state << 62 | id, 8);
}

static struct log new_log(struct rig *r)
{
	struct log l = { .rig = r };

	put(&l, PRB, IMAGE + RING, 8);
	put(&l, RING + layout.count_bits, COUNT_BITS, 4);
	put(&l, RING + layout.size_bits, SIZE_BITS, 4);
	put(&l, RING + layout.descs, IMAGE + DESCS, 8);
	put(&l, RING + layout.infos, IMAGE + INFOS, 8);
	put(&l, RING + layout.text, IMAGE + TEXT, 8);
	return l;
}

/* As the kernel does it: a block that does not fit before the ring's end begins at its beginning. */
static u64 say(struct log *l, u32 facility, const char *text)
{
	u64 id = l->next_id++, length = strlen(text), size = (8 + length + 7) & ~7ULL, begin = l->next_text, at_offset;
	u64 ring = 1 << SIZE_BITS, info = INFOS + (id & 7) * layout.info_size;

	l->next_text = begin + size;
	at_offset = begin % ring;
	if ((l->next_text - 1) / ring != begin / ring) {
		at_offset = 0;
		l->next_text = (begin / ring + 1) * ring + size;
	}
	put(l, TEXT + at_offset, id, 8);
	memcpy(at(l->rig, IMAGE_PHYS + TEXT + at_offset + 8), text, length);
	put(l, desc_of(id) + layout.begin, begin, 8);
	put(l, desc_of(id) + layout.next, l->next_text, 8);
	put(l, info + layout.seq, l->first_seq + id, 8);
	put(l, info + layout.text_len, length, 2);
	put(l, info + layout.facility, facility, 1);
	set_state(l, id, WHOLE);
	put(l, RING + layout.head_id, id, 8);
	put(l, RING + layout.tail_id, id < 7 ? 0 : id - 7, 8);
	return id;
}

struct heard {
	u32 count, most;
	struct printk_record records[16];
};

static bool hear(void *ctx, const struct printk_record *record)
{
	struct heard *h = ctx;

	assert_true(h->count < ARRAY_SIZE(h->records));
	h->records[h->count++] = *record;
	return h->count < h->most;
}

static struct heard listen(struct rig *r, u32 most)
{
	struct heard h = { .most = ARRAY_SIZE(h.records) };

	assert_no_error(printk_look_back(&r->view, &layout, most, hear, &h));
	return h;
}

static void the_newest_comes_first_with_who_said_it(void **state)
{
	struct log l = new_log(*state);

	l.first_seq = 40;
	say(&l, 0, "the kernel's");
	say(&l, 1, "a program's");
	say(&l, 3, "");

	struct heard h = listen(*state, 100);

	assert_int_equal(h.count, 2); // one without text tells nothing
	assert_string_equal(h.records[0].text, "a program's");
	assert_int_equal(h.records[0].facility, 1);
	assert_int_equal(h.records[0].seq, 41);
	assert_string_equal(h.records[1].text, "the kernel's");
	assert_int_equal(h.records[1].facility, 0);
	assert_int_equal(h.records[1].size, 12);
}

static void no_more_are_looked_at_than_are_wanted(void **state)
{
	struct log l = new_log(*state);
	struct heard h = { .most = 2 };

	for (int i = 0; i < 5; i++)
		say(&l, 0, "x");
	assert_int_equal(listen(*state, 3).count, 3);
	assert_no_error(printk_look_back(&((struct rig *)*state)->view, &layout, 100, hear, &h));
	assert_int_equal(h.count, 2);
	assert_int_equal(h.records[1].seq, 3);
}

static void the_ring_is_gone_round_in(void **state)
{
	struct log l = new_log(*state);
	char text[40];

	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "%0*d", i % 17 + 3, i);
		say(&l, 0, text);
	}

	struct heard h = listen(*state, 100);

	assert_int_equal(h.count, 8);
	for (int i = 0; i < 8; i++) {
		snprintf(text, sizeof(text), "%0*d", (49 - i) % 17 + 3, 49 - i);
		assert_string_equal(h.records[i].text, text);
	}
}

static void what_is_not_whole_is_left_out(void **state)
{
	struct log l = new_log(*state);
	u64 writing, lost, overwritten;

	say(&l, 0, "first");
	writing = say(&l, 0, "being written");
	lost = say(&l, 0, "lost");
	overwritten = say(&l, 0, "overwritten");
	say(&l, 0, "last");
	set_state(&l, writing, BEING_WRITTEN);
	put(&l, desc_of(lost) + layout.begin, 1, 8);
	put(&l, desc_of(lost) + layout.next, 1, 8);
	put(&l, TEXT + 56, overwritten + 8, 8); // its block is another's by now

	struct heard h = listen(*state, 100);

	assert_int_equal(h.count, 2);
	assert_string_equal(h.records[0].text, "last");
	assert_string_equal(h.records[1].text, "first");
}

static void a_descriptor_that_is_another_records_by_now_is_left_out(void **state)
{
	struct log l = new_log(*state);

	say(&l, 0, "old");
	say(&l, 0, "new");
	put(&l, desc_of(0) + layout.state, (u64)WHOLE << 62 | 8, 8);
	assert_int_equal(listen(*state, 100).count, 1);
	set_state(&l, 1, REUSABLE);
	assert_int_equal(listen(*state, 100).count, 0);
}

static void a_long_text_is_cut(void **state)
{
	struct rig *r = *state;
	struct log l = new_log(r);
	struct heard h = { .most = 1 };
	u64 length = 3000;

	put(&l, RING + layout.size_bits, 12, 4);
	put(&l, TEXT, 0, 8);
	memset(at(r, IMAGE_PHYS + TEXT + 8), 'x', length);
	put(&l, desc_of(0) + layout.begin, 0, 8);
	put(&l, desc_of(0) + layout.next, 8 + length, 8);
	put(&l, INFOS + layout.text_len, length, 2);
	set_state(&l, 0, WHOLE);
	assert_no_error(printk_look_back(&r->view, &layout, 1, hear, &h));
	assert_int_equal(h.records[0].size, PRINTK_TEXT_MAX);
	assert_int_equal(strlen(h.records[0].text), PRINTK_TEXT_MAX);
}

static void a_ring_that_makes_no_sense_is_an_error_or_ends(void **state)
{
	struct rig *r = *state;
	struct log l = new_log(r);
	struct heard h = { .most = 1 };

	say(&l, 0, "x");
	put(&l, RING + layout.count_bits, 40, 4);
	assert_error(printk_look_back(&r->view, &layout, 10, hear, &h), ERROR_FORMAT, "2^40 records");
	put(&l, RING + layout.count_bits, COUNT_BITS, 4);
	put(&l, RING + layout.descs, 0x1000, 8);
	assert_error(printk_look_back(&r->view, &layout, 10, hear, &h), ERROR_UNMAPPED, "not mapped");
	put(&l, RING + layout.descs, IMAGE + DESCS, 8);
	put(&l, RING + layout.text, ~0ULL - 16, 8);
	assert_error(printk_look_back(&r->view, &layout, 10, hear, &h), ERROR_UNMAPPED, "not mapped");
	put(&l, PRB, 0, 8);
	assert_error(printk_look_back(&r->view, &layout, 10, hear, &h), ERROR_UNMAPPED, "not mapped");
	assert_int_equal(h.count, 0);
}

/* Whatever is in it: it ends, and reads nothing that is not the guest's. */
static void any_bytes_do_no_harm(void **state)
{
	struct rig *r = *state;
	u32 random = 1;

	for (int round = 0; round < 2000; round++) {
		struct log l = new_log(r);

		for (int i = 0; i < 10; i++)
			say(&l, 0, "abc");
		for (int i = 0; i < 6; i++) {
			static const u64 places[] = { RING, DESCS, INFOS, TEXT };

			random = random * 1664525 + 1013904223;
			at(r, IMAGE_PHYS + places[random >> 30] + (random >> 8) % 64)[0] = (u8)(random >> 16);
		}

		struct heard h = { .most = ARRAY_SIZE(h.records) };

		error_destroy(printk_look_back(&r->view, &layout, 12, hear, &h));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KNOWN_TEST(the_newest_comes_first_with_who_said_it),
		KNOWN_TEST(no_more_are_looked_at_than_are_wanted),
		KNOWN_TEST(the_ring_is_gone_round_in),
		KNOWN_TEST(what_is_not_whole_is_left_out),
		KNOWN_TEST(a_descriptor_that_is_another_records_by_now_is_left_out),
		KNOWN_TEST(a_long_text_is_cut),
		KNOWN_TEST(a_ring_that_makes_no_sense_is_an_error_or_ends),
		KNOWN_TEST(any_bytes_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
