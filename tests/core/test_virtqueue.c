// SPDX-License-Identifier: GPL-2.0-or-later
#include "device_fixture.h"
#include "guest_ring.h"

#include "device/virtqueue.h"

enum {
	MEMORY = 4 << 20,
	RING = 0x10000,
	DATA = 0x100000,
	SIZE = 8,
	NEXT = VRING_DESC_F_NEXT,
	WRITE = VRING_DESC_F_WRITE,
	INDIRECT = VRING_DESC_F_INDIRECT,
};

struct rig {
	struct guest_memory memory;
	struct guest_ring ring;
	struct virtqueue q;
	struct virtqueue_chain chain;
};

static void set_rings(struct rig *r)
{
	virtqueue_init(&r->q, &r->memory, 16);
	r->q.size = SIZE;
	r->q.desc_address = r->ring.desc;
	r->q.avail_address = r->ring.avail;
	r->q.used_address = r->ring.used;
}

static void rig_init(struct rig *r, bool event_idx, bool indirect)
{
	memset(r, 0, sizeof(*r));
	assert_fine(guest_memory_init(&r->memory, MEMORY, 3ULL << 30, 4ULL << 30));
	guest_ring_init(&r->ring, &r->memory, RING, SIZE);
	set_rings(r);
	assert_int_equal(virtqueue_start(&r->q, event_idx, indirect), VIRTQUEUE_OK);
}

static void rig_deinit(struct rig *r)
{
	guest_memory_deinit(&r->memory);
}

static void assert_found(struct rig *r, bool expected)
{
	bool found;

	assert_int_equal(virtqueue_peek(&r->q, &r->chain, &found), VIRTQUEUE_OK);
	assert_int_equal(found, expected);
}

static void assert_fault(struct rig *r, enum virtqueue_fault expected)
{
	bool found;

	assert_int_equal(virtqueue_peek(&r->q, &r->chain, &found), expected);
	assert_false(found);
}

static void a_chain_is_seen_taken_and_given_back(void **state)
{
	struct rig r;
	u32 id, len;
	char data[16];

	rig_init(&r, false, false);
	assert_found(&r, false);
	memcpy(guest_at(&r.memory, DATA), "hello world", 11);
	guest_desc(&r.ring, 5, DATA, 6, NEXT, 2);
	guest_desc(&r.ring, 2, DATA + 6, 5, NEXT, 7);
	guest_desc(&r.ring, 7, DATA + 0x1000, 4, NEXT | WRITE, 0);
	guest_desc(&r.ring, 0, DATA + 0x2000, 100, WRITE, 0);
	guest_offer(&r.ring, 5);
	for (int i = 0; i < 2; i++) { // looking does not take it
		assert_found(&r, true);
		assert_int_equal(r.chain.head, 5);
		assert_int_equal(r.chain.readable, 2);
		assert_int_equal(r.chain.writable, 2);
		assert_true(r.chain.readable_size == 11 && r.chain.writable_size == 104);
	}
	assert_int_equal(virtqueue_copy_from(&r.chain, 0, data, sizeof(data)), 11);
	assert_memory_equal(data, "hello world", 11);
	assert_int_equal(virtqueue_copy_from(&r.chain, 4, data, 4), 4);
	assert_memory_equal(data, "o wo", 4);
	assert_int_equal(virtqueue_copy_from(&r.chain, 11, data, 4), 0);
	assert_int_equal(virtqueue_copy_to(&r.chain, 2, "abcd", 4), 4);
	assert_memory_equal(guest_at(&r.memory, DATA + 0x1002), "ab", 2);
	assert_memory_equal(guest_at(&r.memory, DATA + 0x2000), "cd", 2);
	assert_int_equal(virtqueue_copy_to(&r.chain, 102, "abcd", 4), 2);
	assert_false(guest_take(&r.ring, &id, &len));
	virtqueue_advance(&r.q);
	virtqueue_push(&r.q, r.chain.head, 6);
	assert_found(&r, false);
	assert_true(guest_take(&r.ring, &id, &len));
	assert_int_equal(id, 5);
	assert_int_equal(len, 6);
	rig_deinit(&r);
}

static void rings_wrap_round_and_so_do_indices(void **state)
{
	struct rig r;
	u32 id, len;

	rig_init(&r, false, false);
	for (u32 i = 0; i < SIZE; i++)
		guest_desc(&r.ring, i, DATA, i + 1, 0, 0);
	for (u32 i = 0; i < 70000; i++) {
		guest_offer(&r.ring, i * 3 % SIZE);
		assert_found(&r, true);
		assert_int_equal(r.chain.head, i * 3 % SIZE);
		virtqueue_advance(&r.q);
		virtqueue_push(&r.q, r.chain.head, i);
		assert_true(guest_take(&r.ring, &id, &len));
		assert_int_equal(id, i * 3 % SIZE);
		assert_int_equal(len, i);
	}
	for (u32 i = 0; i < SIZE; i++) // a full ring is no jump
		guest_offer(&r.ring, i);
	assert_found(&r, true);
	rig_deinit(&r);
}

static void a_queue_that_was_not_started_is_empty(void **state)
{
	struct rig r;

	rig_init(&r, false, false);
	set_rings(&r);
	guest_desc(&r.ring, 0, DATA, 1, 0, 0);
	guest_offer(&r.ring, 0);
	assert_found(&r, false);
	assert_false(virtqueue_should_interrupt(&r.q));
	assert_false(virtqueue_enable_notify(&r.q));
	virtqueue_disable_notify(&r.q);
	rig_deinit(&r);
}

static void bad_sizes_and_rings_do_not_start(void **state)
{
	static const u16 sizes[] = { 0, 3, 6, 32, 0xffff, 0x8000 };
	static const struct {
		u64 desc, avail, used;
	} rings[] = {
		{ RING + 8, RING + 0x1000, RING + 0x2000 },
		{ RING, RING + 0x1001, RING + 0x2000 },
		{ RING, RING + 0x1000, RING + 0x2002 },
		{ MEMORY, RING + 0x1000, RING + 0x2000 },
		{ MEMORY - 16, RING + 0x1000, RING + 0x2000 }, // its end sticks out
		{ RING, MEMORY - 20, RING + 0x2000 }, // by the event index
		{ RING, RING + 0x1000, MEMORY - 68 },
		{ RING, ~0ULL - 1, RING + 0x2000 },
		{ RING, RING + 0x1000, ~0ULL - 3 },
		{ 0xfffffffffffffff0, RING + 0x1000, RING + 0x2000 },
	};
	struct rig r;

	rig_init(&r, false, false);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		set_rings(&r);
		r.q.size = sizes[i];
		assert_int_equal(virtqueue_start(&r.q, true, true), VIRTQUEUE_BAD_SIZE);
		assert_false(r.q.ready);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
		set_rings(&r);
		r.q.desc_address = rings[i].desc;
		r.q.avail_address = rings[i].avail;
		r.q.used_address = rings[i].used;
		assert_int_equal(virtqueue_start(&r.q, true, true), VIRTQUEUE_BAD_RING);
		assert_false(r.q.ready);
	}
	set_rings(&r);
	r.q.avail_address = MEMORY - 22; // just fits
	r.q.used_address = MEMORY - 0x1000 - 70 + 2;
	assert_int_equal(virtqueue_start(&r.q, true, true), VIRTQUEUE_OK);
	rig_deinit(&r);
}

static void an_index_that_jumps_is_a_fault(void **state)
{
	struct rig r;

	rig_init(&r, false, false);
	guest_set_idx(&r.ring, SIZE + 1);
	assert_fault(&r, VIRTQUEUE_BAD_INDEX);
	guest_set_idx(&r.ring, 0xffff); // backwards
	assert_fault(&r, VIRTQUEUE_BAD_INDEX);
	guest_offer(&r.ring, SIZE);
	assert_fault(&r, VIRTQUEUE_BAD_HEAD);
	rig_deinit(&r);
}

static void a_chain_without_end_is_a_fault(void **state)
{
	struct rig r;

	rig_init(&r, false, false);
	guest_desc(&r.ring, 0, DATA, 1, NEXT, 0);
	guest_offer(&r.ring, 0);
	assert_fault(&r, VIRTQUEUE_BAD_CHAIN);
	guest_desc(&r.ring, 0, DATA, 0, NEXT, 1); // of empty buffers too
	guest_desc(&r.ring, 1, DATA, 0, NEXT, 0);
	assert_fault(&r, VIRTQUEUE_BAD_CHAIN);
	guest_desc(&r.ring, 0, DATA, 1, NEXT, SIZE);
	assert_fault(&r, VIRTQUEUE_BAD_CHAIN);
	for (u32 i = 0; i < SIZE; i++) // as long as the queue is allowed
		guest_desc(&r.ring, i, DATA, 1, i + 1 < SIZE ? NEXT : 0, i + 1);
	assert_found(&r, true);
	assert_int_equal(r.chain.readable, SIZE);
	rig_deinit(&r);
}

static void a_buffer_outside_memory_is_a_fault(void **state)
{
	static const struct {
		u64 addr;
		u32 len;
	} bad[] = {
		{ MEMORY, 1 },
		{ MEMORY - 1, 2 },
		{ ~0ULL, 1 },
		{ ~0ULL, 2 },
		{ 0, 0xffffffff },
		{ 3ULL << 30, 16 },
		{ DATA, MEMORY },
	};
	struct rig r;

	rig_init(&r, false, false);
	guest_offer(&r.ring, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		guest_desc(&r.ring, 0, bad[i].addr, bad[i].len, 0, 0);
		assert_fault(&r, VIRTQUEUE_BAD_BUFFER);
		guest_desc(&r.ring, 0, bad[i].addr, bad[i].len, WRITE, 0);
		assert_fault(&r, VIRTQUEUE_BAD_BUFFER);
	}
	guest_desc(&r.ring, 0, 0, MEMORY, WRITE, 0);
	assert_found(&r, true);
	rig_deinit(&r);
}

static void empty_buffers_are_left_out(void **state)
{
	struct rig r;

	rig_init(&r, false, false);
	guest_desc(&r.ring, 0, ~0ULL, 0, NEXT, 1);
	guest_desc(&r.ring, 1, DATA, 3, NEXT, 2);
	guest_desc(&r.ring, 2, 0, 0, WRITE, 0);
	guest_offer(&r.ring, 0);
	assert_found(&r, true);
	assert_int_equal(r.chain.readable, 1);
	assert_int_equal(r.chain.writable, 0);
	guest_desc(&r.ring, 1, 0, 0, 0, 0);
	assert_found(&r, true);
	assert_int_equal(r.chain.readable, 0);
	rig_deinit(&r);
}

static void readable_after_writable_is_a_fault(void **state)
{
	struct rig r;

	rig_init(&r, false, false);
	guest_desc(&r.ring, 0, DATA, 1, WRITE | NEXT, 1);
	guest_desc(&r.ring, 1, DATA, 1, 0, 0);
	guest_offer(&r.ring, 0);
	assert_fault(&r, VIRTQUEUE_BAD_ORDER);
	rig_deinit(&r);
}

static void indirect_tables_work_where_negotiated(void **state)
{
	struct rig r;
	struct vring_desc table[SIZE];

	rig_init(&r, false, true);
	for (u32 i = 0; i < SIZE; i++)
		table[i] = (struct vring_desc){ DATA + 16 * i, 2, i + 1 < SIZE ? NEXT : 0, i + 1 };
	memcpy(guest_at(&r.memory, 0x20008), table, sizeof(table)); // aligned to nothing in particular
	guest_desc(&r.ring, 3, 0x20008, sizeof(table), INDIRECT, 0);
	guest_offer(&r.ring, 3);
	assert_found(&r, true);
	assert_int_equal(r.chain.head, 3);
	assert_int_equal(r.chain.readable, SIZE);
	// After an ordinary descriptor, which makes the chain one longer than it may be...
	guest_desc(&r.ring, 4, DATA, 8, NEXT, 3);
	guest_offer(&r.ring, 4);
	virtqueue_advance(&r.q);
	assert_fault(&r, VIRTQUEUE_BAD_CHAIN);
	// ... and now not.
	table[SIZE - 2].flags = 0;
	memcpy(guest_at(&r.memory, 0x20008), table, sizeof(table));
	assert_found(&r, true);
	assert_int_equal(r.chain.readable, SIZE);
	rig_deinit(&r);
}

static void indirect_nonsense_is_a_fault(void **state)
{
	struct rig r;
	const struct vring_desc self = { 0x20000, 16, INDIRECT, 0 };
	const struct vring_desc out = { DATA, 1, NEXT, 1 };

	rig_init(&r, false, false);
	memcpy(guest_at(&r.memory, 0x20000), &out, sizeof(out));
	guest_offer(&r.ring, 0);
	guest_desc(&r.ring, 0, 0x20000, 16, INDIRECT, 0);
	assert_fault(&r, VIRTQUEUE_BAD_INDIRECT); // not negotiated
	set_rings(&r);
	assert_int_equal(virtqueue_start(&r.q, false, true), VIRTQUEUE_OK);
	assert_fault(&r, VIRTQUEUE_BAD_CHAIN); // its next is outside the table
	guest_desc(&r.ring, 0, 0x20000, 16, INDIRECT | NEXT, 1);
	assert_fault(&r, VIRTQUEUE_BAD_INDIRECT);
	guest_desc(&r.ring, 0, 0x20000, 0, INDIRECT, 0);
	assert_fault(&r, VIRTQUEUE_BAD_INDIRECT);
	guest_desc(&r.ring, 0, 0x20000, 17, INDIRECT, 0);
	assert_fault(&r, VIRTQUEUE_BAD_INDIRECT);
	guest_desc(&r.ring, 0, MEMORY, 16, INDIRECT, 0);
	assert_fault(&r, VIRTQUEUE_BAD_INDIRECT);
	guest_desc(&r.ring, 0, 0, 0xfffffff0, INDIRECT, 0);
	assert_fault(&r, VIRTQUEUE_BAD_INDIRECT);
	guest_desc(&r.ring, 0, r.ring.desc, 16, INDIRECT, 0); // the queue's own table
	assert_fault(&r, VIRTQUEUE_BAD_INDIRECT);
	memcpy(guest_at(&r.memory, 0x20000), &self, sizeof(self));
	guest_desc(&r.ring, 0, 0x20000, 16, INDIRECT, 0);
	assert_fault(&r, VIRTQUEUE_BAD_INDIRECT); // one in another
	rig_deinit(&r);
}

static void push_one(struct rig *r)
{
	guest_offer(&r->ring, 0);
	assert_found(r, true);
	virtqueue_advance(&r->q);
	virtqueue_push(&r->q, 0, 0);
}

static void the_guests_flag_suppresses_interrupts(void **state)
{
	struct rig r;

	rig_init(&r, false, false);
	guest_desc(&r.ring, 0, DATA, 1, 0, 0);
	assert_false(virtqueue_should_interrupt(&r.q));
	push_one(&r);
	assert_true(virtqueue_should_interrupt(&r.q));
	assert_false(virtqueue_should_interrupt(&r.q));
	guest_avail(&r.ring)->flags = VRING_AVAIL_F_NO_INTERRUPT;
	push_one(&r);
	assert_false(virtqueue_should_interrupt(&r.q));
	rig_deinit(&r);
}

static void the_event_index_says_when_to_interrupt(void **state)
{
	struct rig r;

	rig_init(&r, true, false);
	guest_desc(&r.ring, 0, DATA, 1, 0, 0);
	guest_set_used_event(&r.ring, 2); // when the third one is used
	push_one(&r);
	assert_false(virtqueue_should_interrupt(&r.q));
	push_one(&r);
	assert_false(virtqueue_should_interrupt(&r.q));
	push_one(&r);
	assert_true(virtqueue_should_interrupt(&r.q));
	push_one(&r);
	assert_false(virtqueue_should_interrupt(&r.q));
	guest_set_used_event(&r.ring, 5);
	push_one(&r); // several at once, across the event
	push_one(&r);
	push_one(&r);
	assert_true(virtqueue_should_interrupt(&r.q));
	rig_deinit(&r);
}

static void notifications_are_asked_for_by_flag_or_by_index(void **state)
{
	struct rig r;

	rig_init(&r, false, false);
	guest_desc(&r.ring, 0, DATA, 1, 0, 0);
	virtqueue_disable_notify(&r.q);
	assert_int_equal(guest_used(&r.ring)->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(virtqueue_enable_notify(&r.q));
	assert_int_equal(guest_used(&r.ring)->flags, 0);
	guest_offer(&r.ring, 0);
	assert_true(virtqueue_enable_notify(&r.q)); // it came before we asked
	rig_deinit(&r);

	rig_init(&r, true, false);
	guest_desc(&r.ring, 0, DATA, 1, 0, 0);
	push_one(&r);
	push_one(&r);
	assert_false(virtqueue_enable_notify(&r.q));

	u16 event;

	memcpy(&event, &guest_used(&r.ring)->ring[SIZE], sizeof(event));
	assert_int_equal(event, 2);
	rig_deinit(&r);
}

static void it_goes_on_where_it_was_saved(void **state)
{
	struct rig r;
	struct buf saved = BUF_INIT;
	struct virtqueue q;
	bool ok = true;

	rig_init(&r, false, false);
	guest_desc(&r.ring, 0, DATA, 1, 0, 0);
	push_one(&r);
	push_one(&r);
	guest_offer(&r.ring, 0);
	virtqueue_save(&r.q, &saved);

	struct reader in = reader_init(saved.data, saved.size);

	virtqueue_init(&q, &r.memory, 16);
	assert_true(virtqueue_parse(&q, &in, &ok) && ok);
	assert_false(q.ready);
	assert_int_equal(reader_left(&in), 0);
	assert_int_equal(virtqueue_start(&q, false, false), VIRTQUEUE_OK);
	r.q = q;
	assert_found(&r, true);
	virtqueue_advance(&r.q);
	virtqueue_push(&r.q, 0, 0);
	assert_int_equal(guest_used(&r.ring)->idx, 3);
	assert_true(virtqueue_should_interrupt(&r.q));
	buf_deinit(&saved);
	rig_deinit(&r);
}

static void every_fault_has_a_name(void **state)
{
	for (u32 i = 0; i < VIRTQUEUE_FAULTS; i++)
		for (u32 j = 0; j < i; j++)
			assert_string_not_equal(virtqueue_fault_name(i), virtqueue_fault_name(j));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_is_seen_taken_and_given_back),
		cmocka_unit_test(rings_wrap_round_and_so_do_indices),
		cmocka_unit_test(a_queue_that_was_not_started_is_empty),
		cmocka_unit_test(bad_sizes_and_rings_do_not_start),
		cmocka_unit_test(an_index_that_jumps_is_a_fault),
		cmocka_unit_test(a_chain_without_end_is_a_fault),
		cmocka_unit_test(a_buffer_outside_memory_is_a_fault),
		cmocka_unit_test(empty_buffers_are_left_out),
		cmocka_unit_test(readable_after_writable_is_a_fault),
		cmocka_unit_test(indirect_tables_work_where_negotiated),
		cmocka_unit_test(indirect_nonsense_is_a_fault),
		cmocka_unit_test(the_guests_flag_suppresses_interrupts),
		cmocka_unit_test(the_event_index_says_when_to_interrupt),
		cmocka_unit_test(notifications_are_asked_for_by_flag_or_by_index),
		cmocka_unit_test(it_goes_on_where_it_was_saved),
		cmocka_unit_test(every_fault_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
