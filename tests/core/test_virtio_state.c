// SPDX-License-Identifier: GPL-2.0-or-later
// Saving a machine's virtio-console in mid-activity and going on in another one.
#include "console_driver.h"

static struct driver a, b;

static int set_up(void **state)
{
	driver_init(&a, true);
	driver_init(&b, true);
	return 0;
}

static int tear_down(void **state)
{
	driver_deinit(&a);
	driver_deinit(&b);
	return 0;
}

// b takes on a's memory, PCI and console, and its driver a's; what eventfds held is lost, as in a restore.
static void move(void)
{
	memcpy(b.memory.base, a.memory.base, a.memory.size);
	round_trip(&pci_state_ops, &a.host, &b.host);
	driver_find_regions(&b);
	round_trip(&virtio_console_state_ops, &a.con, &b.con);
	memcpy(b.rings, a.rings, sizeof(b.rings));
	for (u32 q = 0; q < CONSOLE_QUEUES; q++)
		b.rings[q].memory = &b.memory;
}

static void expect_data(struct driver *d, u32 port, const char *data)
{
	assert_int_equal(d->records[port].size, strlen(data));
	assert_memory_equal(d->records[port].data, data, strlen(data));
	d->records[port].size = 0;
}

static void an_untouched_device_can_be_moved(void **state)
{
	move();
	assert_int_equal(driver_status(&b), 0);
	driver_open_all(&b, DRIVER_FEATURES);
}

static void all_that_was_under_way_goes_on(void **state)
{
	u32 id, len, size;

	driver_open_all(&a, DRIVER_FEATURES);
	// A chain half taken, one behind it that nobody has seen, and messages without buffers.
	a.records[1].room = 3;
	driver_send(&a, 1, "abcdef", 6);
	driver_serve(&a);
	driver_send(&a, 1, "ghi", 3);
	driver_send(&a, 2, "relay", 5);
	guest_set_idx(&a.rings[CONTROL_IN], a.rings[CONTROL_IN].offered);
	assert_int_equal(virtio_console_write(&a.con, 0, "prompt", 6), 6);
	expect_data(&a, 1, "abc");

	move();
	assert_int_equal(driver_serve(&b), 0); // nothing is known of any kick
	virtio_replay(&b.con.virtio);
	for (u32 q = 0; q < CONSOLE_QUEUES; q++)
		assert_int_equal(record_raised(&b.irq, 1 + q), 1);
	driver_serve(&b);
	for (u32 port = 0; port < CONSOLE_PORTS; port++)
		assert_int_equal(b.records[port].opens, 1);
	expect_data(&b, 1, "defghi");
	expect_data(&b, 2, "relay");
	assert_true(guest_take(&b.rings[driver_out_queue(1)], &id, &len));
	assert_true(guest_take(&b.rings[driver_out_queue(1)], &id, &len));
	assert_false(guest_take(&b.rings[driver_out_queue(1)], &id, &len));
	assert_memory_equal(driver_receive(&b, driver_in_queue(0), &size), "prompt", 6);
	assert_int_equal(virtio_console_write(&b.con, 1, "more", 4), 4);
	assert_memory_equal(driver_receive(&b, driver_in_queue(1), &size), "more", 4);
	driver_send(&b, 1, "again", 5);
	driver_serve(&b);
	expect_data(&b, 1, "again");
}

static void control_messages_that_waited_come_after_the_move(void **state)
{
	const struct control_message *m;
	u32 size, got = 0;

	driver_start(&a, DRIVER_FEATURES);
	driver_control(&a, 0, EVENT_DEVICE_READY, 1);
	driver_serve(&a);
	move();
	virtio_replay(&b.con.virtio);
	driver_serve(&b);
	driver_fill(&b, CONTROL_IN);
	driver_serve(&b);
	for (; (m = driver_receive(&b, CONTROL_IN, &size)); got++) {
		assert_int_equal(m->id, got);
		assert_int_equal(m->event, EVENT_PORT_ADD);
	}
	assert_int_equal(got, CONSOLE_PORTS);
}

static void vectors_and_doorbells_are_set_up_again(void **state)
{
	u32 rung = 0;

	driver_open_all(&a, DRIVER_FEATURES);
	move();
	for (u32 v = 0; v < CONSOLE_VECTORS; v++) {
		assert_int_equal(b.irq.vectors[v].data, 0x4000 + v);
		assert_false(b.irq.vectors[v].masked);
	}
	for (u32 i = 0; i < DRIVER_DOORBELLS; i++)
		rung += b.doorbells[i].address >= b.notify && b.doorbells[i].address < b.notify + 32;
	assert_int_equal(rung, CONSOLE_QUEUES);
}

static void a_reset_that_waited_comes_after_the_move(void **state)
{
	driver_open_all(&a, DRIVER_FEATURES);
	driver_send(&a, 1, "last words", 10);
	driver_set_status(&a, 0);
	move();
	assert_int_not_equal(driver_status(&b), 0);
	virtio_replay(&b.con.virtio);
	driver_serve(&b);
	expect_data(&b, 1, "last words");
	assert_int_equal(driver_status(&b), 0);
}

static void a_broken_device_stays_broken(void **state)
{
	driver_open_all(&a, DRIVER_FEATURES);
	guest_set_idx(&a.rings[5], 1000);
	driver_notify(&a, 5);
	driver_serve(&a);
	move();
	assert_true(driver_status(&b) & VIRTIO_CONFIG_S_NEEDS_RESET);
	virtio_replay(&b.con.virtio);
	driver_serve(&b);
	assert_int_equal(b.con.virtio.faults[VIRTQUEUE_BAD_INDEX], 0); // not looked at again
	driver_open_all(&b, DRIVER_FEATURES);
}

static void a_device_in_use_takes_on_another_state(void **state)
{
	driver_open_all(&a, DRIVER_FEATURES);
	driver_open_all(&b, 1ULL << VIRTIO_F_VERSION_1 | 2);
	b.records[1].room = 0;
	driver_send(&b, 1, "stopped", 7);
	driver_serve(&b);
	b.records[1].room = SIZE_MAX;
	move();
	virtio_replay(&b.con.virtio);
	driver_serve(&b);
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		assert_int_equal(b.records[port].closes, 1);
		assert_int_equal(b.records[port].opens, 2);
	}
	driver_send(&b, 1, "new life", 8);
	driver_serve(&b);
	expect_data(&b, 1, "new life");
}

// Whatever single byte is wrong: refused with the device as it was, or a state that a guest could reach.
static void no_wrong_byte_does_harm(void **state)
{
	static const u8 flips[] = { 0x01, 0x80, 0xff };
	u32 refused = 0;

	driver_open_all(&a, DRIVER_FEATURES);
	a.records[1].room = 3;
	driver_send(&a, 1, "abcdef", 6);
	driver_serve(&a);
	move();

	struct buf saved = state_of(&virtio_console_state_ops, &a.con);

	for (size_t i = 0; i < saved.size * ARRAY_SIZE(flips); i++) {
		struct buf before = state_of(&virtio_console_state_ops, &b.con);

		saved.data[i / ARRAY_SIZE(flips)] ^= flips[i % ARRAY_SIZE(flips)];

		struct error *err = load_bytes(&virtio_console_state_ops, &b.con, saved.data, saved.size);

		if (err) {
			assert_int_equal(error_code(err), ERROR_FORMAT);
			error_destroy(err);
			assert_state(&virtio_console_state_ops, &b.con, &before);
			refused++;
		} else {
			round_trip(&virtio_console_state_ops, &b.con, &b.con);
			virtio_replay(&b.con.virtio);
			driver_serve(&b);
			virtio_console_write(&b.con, 1, "x", 1);
		}
		saved.data[i / ARRAY_SIZE(flips)] ^= flips[i % ARRAY_SIZE(flips)];
		buf_deinit(&before);
	}
	assert_true(refused > 100);
	buf_deinit(&saved);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_untouched_device_can_be_moved),
		TEST(all_that_was_under_way_goes_on),
		TEST(control_messages_that_waited_come_after_the_move),
		TEST(vectors_and_doorbells_are_set_up_again),
		TEST(a_reset_that_waited_comes_after_the_move),
		TEST(a_broken_device_stays_broken),
		TEST(a_device_in_use_takes_on_another_state),
		TEST(no_wrong_byte_does_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
