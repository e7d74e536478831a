// SPDX-License-Identifier: GPL-2.0-or-later
#include "console_driver.h"

static struct driver d;

static const u64 no_event_idx = DRIVER_FEATURES & ~(1ULL << VIRTIO_RING_F_EVENT_IDX);

static int set_up(void **state)
{
	driver_init(&d, false);
	return 0;
}

static int tear_down(void **state)
{
	driver_deinit(&d);
	return 0;
}

static void expect_control(u32 id, u16 event, u16 value, const char *name)
{
	u32 size;
	const struct control_message *m = driver_receive(&d, CONTROL_IN, &size);

	assert_non_null(m);
	assert_int_equal(m->id, id);
	assert_int_equal(m->event, event);
	assert_int_equal(m->value, value);
	assert_int_equal(size, sizeof(*m) + strlen(name));
	assert_memory_equal(m + 1, name, strlen(name));
}

static void expect_no_control(void)
{
	u32 size;

	assert_null(driver_receive(&d, CONTROL_IN, &size));
}

static void expect_data(u32 port, const void *data, size_t size)
{
	assert_int_equal(d.records[port].size, size);
	assert_memory_equal(d.records[port].data, data, size);
	d.records[port].size = 0;
}

static void ports_are_introduced_one_after_the_other(void **state)
{
	static const char *const names[] = { "ktstr.tty", "ktstr.tlv", "ktstr.relay" };

	driver_start(&d, DRIVER_FEATURES);
	driver_fill(&d, CONTROL_IN);
	driver_serve(&d);
	expect_no_control();
	driver_control(&d, 0xffffffff, EVENT_DEVICE_READY, 1);
	driver_serve(&d);
	assert_true(record_raised(&d.irq, 1 + CONTROL_IN) > 0);
	for (u32 port = 0; port < CONSOLE_PORTS; port++)
		expect_control(port, EVENT_PORT_ADD, 1, "");
	expect_no_control();
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		driver_control(&d, port, EVENT_PORT_READY, 1);
		driver_serve(&d);
		expect_control(port, EVENT_PORT_NAME, 1, names[port]);
		if (port == 0)
			expect_control(port, EVENT_CONSOLE_PORT, 1, "");
		expect_control(port, EVENT_PORT_OPEN, 1, "");
		expect_no_control();
		assert_false(virtio_console_is_open(&d.con, port));
		assert_int_equal(d.records[port].opens, 0);
		driver_control(&d, port, EVENT_PORT_OPEN, 1);
		driver_serve(&d);
		assert_true(virtio_console_is_open(&d.con, port));
		assert_int_equal(d.records[port].opens, 1);
	}
	assert_int_equal(d.con.bad_control, 0);
}

static void messages_wait_for_the_guests_buffers(void **state)
{
	u32 size;

	driver_start(&d, DRIVER_FEATURES);
	driver_control(&d, 0, EVENT_DEVICE_READY, 1);
	driver_control(&d, 0, EVENT_DEVICE_READY, 1); // asking twice is asking once
	driver_serve(&d);
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		driver_offer(&d, CONTROL_IN, 64, true);
		driver_notify(&d, CONTROL_IN);
		driver_serve(&d);
		expect_control(port, EVENT_PORT_ADD, 1, "");
		expect_no_control();
	}
	driver_offer(&d, CONTROL_IN, 64, true);
	driver_notify(&d, CONTROL_IN);
	driver_serve(&d);
	expect_no_control();
	// One that is too small gets what fits, and the guest its own way.
	driver_control(&d, 1, EVENT_PORT_READY, 1);
	driver_serve(&d);
	expect_control(1, EVENT_PORT_NAME, 1, "ktstr.tlv");
	driver_offer(&d, CONTROL_IN, 5, true);
	driver_notify(&d, CONTROL_IN);
	driver_serve(&d);
	assert_non_null(driver_receive(&d, CONTROL_IN, &size));
	assert_int_equal(size, 5);
	assert_int_equal(d.con.bad_control, 1);
}

static void senseless_control_messages_are_counted(void **state)
{
	static const struct control_message bad[] = {
		{ CONSOLE_PORTS, EVENT_PORT_READY, 1 },
		{ 0xffffffff, EVENT_PORT_OPEN, 1 },
		{ 0, EVENT_PORT_READY, 0 },
		{ 0, EVENT_DEVICE_READY, 0 },
		{ 0, 77, 1 },
		{ 0, EVENT_PORT_ADD, 1 },
	};

	driver_start(&d, DRIVER_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		driver_control(&d, bad[i].id, bad[i].event, bad[i].value);
	driver_offer(&d, CONTROL_OUT, 7, false); // cut short
	driver_offer(&d, CONTROL_OUT, 0, false);
	driver_offer(&d, CONTROL_OUT, 64, true); // for the host to write?
	driver_notify(&d, CONTROL_OUT);
	driver_serve(&d);
	assert_int_equal(d.con.bad_control, ARRAY_SIZE(bad) + 3);
	assert_int_equal(d.rings[CONTROL_OUT].offered, guest_used(&d.rings[CONTROL_OUT])->idx);
	assert_false(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void bytes_flow_from_every_port(void **state)
{
	driver_open_all(&d, DRIVER_FEATURES);
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		u32 raised = record_raised(&d.irq, 1 + driver_out_queue(port)), id, len;

		driver_send(&d, port, "hello ", 6);
		driver_send(&d, port, "world", 5);
		driver_serve(&d);
		expect_data(port, "hello world", 11);
		assert_int_equal(record_raised(&d.irq, 1 + driver_out_queue(port)), raised + 1);
		assert_true(guest_take(&d.rings[driver_out_queue(port)], &id, &len));
		assert_int_equal(id, 0);
		assert_int_equal(len, 0);
		assert_true(guest_take(&d.rings[driver_out_queue(port)], &id, &len));
		assert_false(guest_take(&d.rings[driver_out_queue(port)], &id, &len));
	}
}

static void a_long_chain_comes_in_pieces_and_whole(void **state)
{
	struct guest_ring *r = &d.rings[driver_out_queue(1)];
	u32 size = 3 * CONSOLE_INPUT_MAX + 1000, id, len;
	u8 *data = guest_at(&d.memory, 0x800000);

	driver_open_all(&d, no_event_idx);
	for (u32 i = 0; i < size; i++)
		data[i] = i * 2654435761u >> 24;
	guest_desc(r, 0, 0x800000, 10, VRING_DESC_F_NEXT, 1);
	guest_desc(r, 1, 0x800000 + 10, 50000, VRING_DESC_F_NEXT, 2);
	guest_desc(r, 2, 0x800000 + 50010, size - 50010, 0, 0);
	guest_offer(r, 0);
	driver_notify(&d, driver_out_queue(1));
	driver_serve(&d);
	assert_int_equal(d.records[1].inputs, 4);
	expect_data(1, data, size);
	assert_true(guest_take(r, &id, &len));
	assert_false(guest_take(r, &id, &len));
}

static void bytes_flow_to_every_port_as_buffers_allow(void **state)
{
	u8 data[3 * DRIVER_BUFFER];
	u32 size;

	for (u32 i = 0; i < sizeof(data); i++)
		data[i] = i * 31 >> 3;
	driver_open_all(&d, DRIVER_FEATURES);
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		u32 queue = driver_in_queue(port), raised = record_raised(&d.irq, 1 + queue);

		assert_int_equal(virtio_console_write(&d.con, port, data, 5000), 5000);
		assert_int_equal(record_raised(&d.irq, 1 + queue), raised + 1);

		const u8 *first = driver_receive(&d, queue, &size);

		assert_int_equal(size, DRIVER_BUFFER);
		assert_memory_equal(first, data, size);

		const u8 *second = driver_receive(&d, queue, &size);

		assert_int_equal(size, 5000 - DRIVER_BUFFER);
		assert_memory_equal(second, data + DRIVER_BUFFER, size);
		assert_null(driver_receive(&d, queue, &size));
	}
}

static void a_write_that_does_not_fit_is_told_when_to_go_on(void **state)
{
	const u32 all = CONSOLE_QUEUE_SIZE * DRIVER_BUFFER;
	u8 *data = calloc(1, all + 100);
	u32 size;

	driver_open_all(&d, DRIVER_FEATURES);
	assert_int_equal(virtio_console_write(&d.con, 1, data, all + 100), all);
	assert_int_equal(virtio_console_write(&d.con, 1, data, 100), 0);
	driver_notify(&d, driver_in_queue(1)); // for nothing
	driver_serve(&d);
	assert_int_equal(d.records[1].writables, 0);
	for (u32 i = 0; i < CONSOLE_QUEUE_SIZE; i++)
		assert_non_null(driver_receive(&d, driver_in_queue(1), &size));
	driver_offer(&d, driver_in_queue(1), DRIVER_BUFFER, true);
	driver_notify(&d, driver_in_queue(1));
	driver_serve(&d);
	assert_int_equal(d.records[1].writables, 1);
	driver_notify(&d, driver_in_queue(1));
	driver_serve(&d);
	assert_int_equal(d.records[1].writables, 1); // once
	assert_int_equal(virtio_console_write(&d.con, 1, data, 100), 100);
	assert_int_equal(d.records[0].writables + d.records[2].writables, 0);
	free(data);
}

// The guest is to notify us exactly when we wait for buffers.
static void notifications_of_new_buffers_are_wanted_only_while_waiting(void **state)
{
	const u32 all = CONSOLE_QUEUE_SIZE * DRIVER_BUFFER;
	u8 *data = calloc(1, all + 1);
	struct vring_used *used;

	driver_open_all(&d, no_event_idx);
	used = guest_used(&d.rings[driver_in_queue(1)]);
	virtio_console_write(&d.con, 1, data, 1);
	assert_int_equal(used->flags, VRING_USED_F_NO_NOTIFY);
	virtio_console_write(&d.con, 1, data, all + 1);
	assert_int_equal(used->flags, 0);
	free(data);
}

static void a_closed_port_takes_nothing_and_is_writable_once_open(void **state)
{
	driver_start(&d, DRIVER_FEATURES);
	driver_fill(&d, driver_in_queue(1));
	driver_serve(&d);
	assert_int_equal(virtio_console_write(&d.con, 1, "x", 1), 0);
	driver_serve(&d);
	assert_int_equal(d.records[1].writables, 0);
	driver_control(&d, 1, EVENT_PORT_OPEN, 1);
	driver_serve(&d);
	assert_int_equal(d.records[1].opens, 1);
	assert_int_equal(d.records[1].writables, 1);
	assert_int_equal(virtio_console_write(&d.con, 1, "x", 1), 1);
	driver_control(&d, 1, EVENT_PORT_OPEN, 0);
	driver_serve(&d);
	assert_int_equal(d.records[1].closes, 1);
	assert_int_equal(virtio_console_write(&d.con, 1, "x", 1), 0);
	// Closed and opened in one go: the host hears of both.
	driver_control(&d, 1, EVENT_PORT_OPEN, 1);
	driver_serve(&d);
	driver_control(&d, 1, EVENT_PORT_OPEN, 0);
	driver_control(&d, 1, EVENT_PORT_OPEN, 1);
	driver_serve(&d);
	assert_int_equal(d.records[1].opens, 3);
	assert_int_equal(d.records[1].closes, 2);
}

static void input_that_is_not_taken_stops_its_port_alone(void **state)
{
	u32 id, len;

	driver_open_all(&d, DRIVER_FEATURES);
	d.records[1].room = 4;
	driver_send(&d, 1, "abcdefgh", 8);
	driver_send(&d, 1, "ijkl", 4);
	driver_serve(&d);
	expect_data(1, "abcd", 4);
	assert_int_equal(d.records[1].inputs, 1);
	assert_false(guest_take(&d.rings[driver_out_queue(1)], &id, &len));
	driver_notify(&d, driver_out_queue(1));
	driver_send(&d, 0, "other", 5);
	driver_serve(&d);
	expect_data(0, "other", 5);
	assert_int_equal(d.records[1].inputs, 1);

	virtio_console_resume(&d.con, 1); // with no room yet: it stops again
	driver_serve(&d);
	assert_int_equal(d.records[1].inputs, 2);
	d.records[1].room = 6;
	virtio_console_resume(&d.con, 1);
	assert_int_equal(d.records[1].size, 0); // not from within resume
	driver_serve(&d);
	expect_data(1, "efghij", 6);
	assert_true(guest_take(&d.rings[driver_out_queue(1)], &id, &len));
	assert_false(guest_take(&d.rings[driver_out_queue(1)], &id, &len));
	d.records[1].room = SIZE_MAX;
	virtio_console_resume(&d.con, 1);
	driver_serve(&d);
	expect_data(1, "kl", 2);
	assert_true(guest_take(&d.rings[driver_out_queue(1)], &id, &len));
}

static void resume_inside_input(struct port_record *r)
{
	virtio_console_resume(&r->driver->con, r->port);
	if (r->inputs == 3)
		r->room = SIZE_MAX;
}

static void a_resume_from_within_input_is_not_lost(void **state)
{
	driver_open_all(&d, DRIVER_FEATURES);
	d.records[1].room = 1;
	d.records[1].on_input = resume_inside_input;
	driver_send(&d, 1, "abcd", 4);
	driver_serve(&d);
	assert_int_equal(d.records[1].inputs, 3);
	expect_data(1, "abcd", 4);
}

static void serve_inside_input(struct port_record *r)
{
	struct driver *driver = r->driver;
	u32 inputs = r->inputs;

	if (inputs == 1)
		driver_send(driver, 1, "second", 6);
	for (u32 queue = 0; queue < CONSOLE_QUEUES; queue++)
		virtio_console_serve(&driver->con, queue);
	assert_int_equal(r->inputs, inputs); // not entered again
	assert_int_equal(virtio_console_write(&driver->con, 1, "reply", 5), 5);
}

static void queues_can_be_served_from_within_input(void **state)
{
	u32 size;

	driver_open_all(&d, DRIVER_FEATURES);
	d.records[1].on_input = serve_inside_input;
	driver_send(&d, 0, "tty", 3);
	driver_send(&d, 1, "first ", 6);
	virtio_console_serve(&d.con, driver_out_queue(1));
	expect_data(1, "first second", 12);
	expect_data(0, "tty", 3); // by the nested one
	assert_memory_equal(driver_receive(&d, driver_in_queue(1), &size), "reply", 5);
	assert_memory_equal(driver_receive(&d, driver_in_queue(1), &size), "reply", 5);
	assert_null(driver_receive(&d, driver_in_queue(1), &size));
}

static void reset_inside_input(struct port_record *r)
{
	r->on_input = NULL;
	driver_set_status(r->driver, 0);
	assert_int_not_equal(driver_status(r->driver), 0);
	for (u32 queue = 0; queue < CONSOLE_QUEUES; queue++)
		virtio_console_serve(&r->driver->con, queue);
	assert_int_not_equal(driver_status(r->driver), 0);
	assert_int_equal(r->inputs, 1); // not entered again
}

static void a_reset_during_input_leaves_the_new_rings_alone(void **state)
{
	u32 id, len;

	driver_open_all(&d, DRIVER_FEATURES);
	d.records[1].on_input = reset_inside_input;
	driver_send(&d, 1, "old", 3);
	driver_serve(&d);
	assert_int_equal(d.records[1].closes, 1);
	expect_data(1, "old", 3);
	driver_open_all(&d, DRIVER_FEATURES);
	assert_false(guest_take(&d.rings[driver_out_queue(1)], &id, &len));
	driver_send(&d, 1, "new", 3);
	driver_serve(&d);
	expect_data(1, "new", 3);
}

static void a_reset_waits_until_what_was_said_has_been_taken(void **state)
{
	driver_open_all(&d, DRIVER_FEATURES);
	driver_send(&d, 1, "last", 4);
	driver_send(&d, 1, "words", 5);
	driver_set_status(&d, 0);
	assert_int_not_equal(driver_status(&d), 0);
	// Nothing else counts until then.
	driver_set_status(&d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_FAILED);
	assert_false(driver_status(&d) & VIRTIO_CONFIG_S_FAILED);
	driver_serve(&d);
	expect_data(1, "lastwords", 9);
	assert_int_equal(driver_status(&d), 0);
}

static void a_reset_waits_for_a_port_that_is_stopped_and_closes_all(void **state)
{
	driver_open_all(&d, DRIVER_FEATURES);
	d.records[1].room = 1;
	driver_send(&d, 1, "abc", 3);
	driver_serve(&d);
	driver_set_status(&d, 0);
	driver_serve(&d);
	expect_data(1, "a", 1);
	assert_int_not_equal(driver_status(&d), 0);
	d.records[1].room = SIZE_MAX;
	virtio_console_resume(&d.con, 1);
	assert_int_equal(d.records[1].closes, 0);
	driver_serve(&d);
	expect_data(1, "bc", 2);
	assert_int_equal(driver_status(&d), 0);
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		assert_false(virtio_console_is_open(&d.con, port));
		assert_int_equal(d.records[port].closes, 1);
	}
	driver_open_all(&d, DRIVER_FEATURES);
	driver_send(&d, 1, "xyz", 3);
	driver_serve(&d);
	expect_data(1, "xyz", 3);
	// Reset and opened again before anybody looked.
	driver_set_status(&d, 0);
	driver_open_all(&d, DRIVER_FEATURES);
	assert_int_equal(d.records[2].closes, 2);
	assert_int_equal(d.records[2].opens, 3);
}

static void the_event_index_saves_interrupts(void **state)
{
	u32 queue = driver_out_queue(1), raised;

	driver_open_all(&d, DRIVER_FEATURES);
	guest_set_used_event(&d.rings[queue], 9); // wants to hear of the tenth
	raised = record_raised(&d.irq, 1 + queue);
	for (u32 i = 0; i < 12; i++) {
		driver_send(&d, 1, "x", 1);
		driver_serve(&d);
		assert_int_equal(record_raised(&d.irq, 1 + queue), raised + (i >= 9));
	}
}

static void a_driver_without_multiport_has_port_0(void **state)
{
	driver_start(&d, 1ULL << VIRTIO_F_VERSION_1);
	driver_fill(&d, 0);
	driver_serve(&d);
	assert_int_equal(d.records[0].opens, 1);
	driver_send(&d, 0, "login:", 6);
	driver_serve(&d);
	expect_data(0, "login:", 6);
	assert_int_equal(virtio_console_write(&d.con, 0, "root", 4), 4);
	assert_int_equal(virtio_console_write(&d.con, 1, "root", 4), 0);
}

static void refill_inside_input(struct port_record *r)
{
	u32 id, len;

	// A guest as fast as this: its ring is never empty.
	while (r->inputs < 1000 && guest_take(&r->driver->rings[driver_out_queue(r->port)], &id, &len))
		driver_send(r->driver, r->port, "y", 1);
}

static void a_flood_is_served_in_bounded_pieces(void **state)
{
	driver_open_all(&d, DRIVER_FEATURES);
	d.records[2].on_input = refill_inside_input;
	driver_send(&d, 2, "y", 1);
	driver_send(&d, 2, "y", 1);
	virtio_console_serve(&d.con, driver_out_queue(2));
	assert_int_equal(d.records[2].inputs, CONSOLE_QUEUE_SIZE);
	driver_serve(&d); // the descriptor said that there is more
	assert_true(d.records[2].inputs >= 1000);
	assert_int_equal(d.records[2].inputs, d.rings[driver_out_queue(2)].offered);
}

struct bad_ring {
	enum virtqueue_fault fault;
	void (*make)(struct guest_ring *r, u16 writable);
};

static void make_index_jump(struct guest_ring *r, u16 writable)
{
	guest_set_idx(r, r->offered + r->size + 1);
}

static void make_bad_head(struct guest_ring *r, u16 writable)
{
	guest_offer(r, r->size);
}

static void make_loop(struct guest_ring *r, u16 writable)
{
	guest_desc(r, 0, DRIVER_BUFFERS, 16, writable | VRING_DESC_F_NEXT, 1);
	guest_desc(r, 1, DRIVER_BUFFERS, 16, writable | VRING_DESC_F_NEXT, 0);
	guest_offer(r, 0);
}

static void make_far_buffer(struct guest_ring *r, u16 writable)
{
	guest_desc(r, 0, DRIVER_MEMORY - 8, 16, writable, 0);
	guest_offer(r, 0);
}

static void make_disorder(struct guest_ring *r, u16 writable)
{
	guest_desc(r, 0, DRIVER_BUFFERS, 16, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	guest_desc(r, 1, DRIVER_BUFFERS, 16, 0, 0);
	guest_offer(r, 0);
}

static void make_bad_indirect(struct guest_ring *r, u16 writable)
{
	guest_desc(r, 0, DRIVER_BUFFERS, 24, VRING_DESC_F_INDIRECT, 0);
	guest_offer(r, 0);
}

static const struct bad_ring bad_rings[] = {
	{ VIRTQUEUE_BAD_INDEX, make_index_jump },
	{ VIRTQUEUE_BAD_HEAD, make_bad_head },
	{ VIRTQUEUE_BAD_CHAIN, make_loop },
	{ VIRTQUEUE_BAD_BUFFER, make_far_buffer },
	{ VIRTQUEUE_BAD_ORDER, make_disorder },
	{ VIRTQUEUE_BAD_INDIRECT, make_bad_indirect },
};

static void a_bad_ring_breaks_the_device_and_not_the_host(void **state)
{
	u64 faults[VIRTQUEUE_FAULTS] = { 0 };

	for (u32 i = 0; i < ARRAY_SIZE(bad_rings) * CONSOLE_QUEUES; i++) {
		const struct bad_ring *bad = &bad_rings[i / CONSOLE_QUEUES];
		u32 queue = i % CONSOLE_QUEUES, raised;

		// No buffers waiting in the bad queue, so that what is bad is the next thing to be seen.
		driver_start(&d, i & 1 ? DRIVER_FEATURES : no_event_idx);
		for (u32 port = 0; port < CONSOLE_PORTS; port++)
			driver_control(&d, port, EVENT_PORT_OPEN, 1);
		driver_control(&d, 0, EVENT_PORT_READY, 1);
		driver_serve(&d);
		raised = record_raised(&d.irq, 0);
		bad->make(&d.rings[queue], queue & 1 ? 0 : VRING_DESC_F_WRITE);
		driver_notify(&d, queue);
		driver_serve(&d);
		for (u32 port = 0; port < CONSOLE_PORTS; port++)
			virtio_console_write(&d.con, port, "x", 1);
		driver_serve(&d);

		assert_true(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_int_equal(d.con.virtio.faults[bad->fault], ++faults[bad->fault]);
		assert_int_equal(d.con.virtio.last_fault, bad->fault);
		assert_int_equal(d.con.virtio.last_fault_queue, queue);
		assert_int_equal(record_raised(&d.irq, 0), raised + 1);
		// Nothing moves any more.
		assert_int_equal(virtio_console_write(&d.con, 1, "x", 1), 0);
		driver_send(&d, 2, "x", 1);
		driver_serve(&d);
		assert_int_equal(d.records[2].size, 0);
	}
	// Until it is reset.
	driver_open_all(&d, DRIVER_FEATURES);
	driver_send(&d, 1, "back", 4);
	driver_serve(&d);
	expect_data(1, "back", 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ports_are_introduced_one_after_the_other),
		TEST(messages_wait_for_the_guests_buffers),
		TEST(senseless_control_messages_are_counted),
		TEST(bytes_flow_from_every_port),
		TEST(a_long_chain_comes_in_pieces_and_whole),
		TEST(bytes_flow_to_every_port_as_buffers_allow),
		TEST(a_write_that_does_not_fit_is_told_when_to_go_on),
		TEST(notifications_of_new_buffers_are_wanted_only_while_waiting),
		TEST(a_closed_port_takes_nothing_and_is_writable_once_open),
		TEST(input_that_is_not_taken_stops_its_port_alone),
		TEST(a_resume_from_within_input_is_not_lost),
		TEST(queues_can_be_served_from_within_input),
		TEST(a_reset_during_input_leaves_the_new_rings_alone),
		TEST(a_reset_waits_until_what_was_said_has_been_taken),
		TEST(a_reset_waits_for_a_port_that_is_stopped_and_closes_all),
		TEST(the_event_index_saves_interrupts),
		TEST(a_driver_without_multiport_has_port_0),
		TEST(a_flood_is_served_in_bounded_pieces),
		TEST(a_bad_ring_breaks_the_device_and_not_the_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
