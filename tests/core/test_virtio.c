// SPDX-License-Identifier: GPL-2.0-or-later
// The virtio PCI transport, seen through the device that uses it.
#include "console_driver.h"

static struct driver d;

static int set_up(void **state)
{
	driver_init(&d, false);
	return 0;
}

static int set_up_with_doorbells(void **state)
{
	driver_init(&d, true);
	return 0;
}

static int tear_down(void **state)
{
	driver_deinit(&d);
	return 0;
}

static u64 common(u32 reg, u32 size)
{
	return driver_load(&d, d.common + reg, size);
}

static void set_common(u32 reg, u64 value, u32 size)
{
	driver_store(&d, d.common + reg, value, size);
}

static void it_is_a_modern_console_with_all_capabilities(void **state)
{
	u32 seen = 0, at;

	assert_int_equal(driver_load(&d, driver_config_register(PCI_VENDOR_ID), 4), 0x10431af4);
	assert_int_equal(driver_load(&d, driver_config_register(PCI_CLASS_DEVICE), 2), 0x0780);
	assert_true(driver_load(&d, driver_config_register(PCI_REVISION_ID), 1) >= 1);
	for (u32 n = 0; (at = driver_capability(&d, PCI_CAP_ID_VNDR, n)); n++) {
		u64 offset = driver_load(&d, driver_config_register(at + 8), 4);
		u64 length = driver_load(&d, driver_config_register(at + 12), 4);

		assert_true(offset + length <= VIRTIO_BAR_SIZE);
		assert_true(driver_load(&d, driver_config_register(at + 2), 1) >= 16);
		seen |= 1 << driver_load(&d, driver_config_register(at + 3), 1);
	}
	assert_int_equal(seen, 0x3e); // types 1 to 5
	at = driver_capability(&d, PCI_CAP_ID_MSIX, 0);
	assert_int_equal(driver_load(&d, driver_config_register(at + PCI_MSIX_FLAGS), 2) + 1, CONSOLE_VECTORS);
	assert_int_equal(common(VIRTIO_PCI_COMMON_NUMQ, 2), CONSOLE_QUEUES);
	assert_int_equal(driver_load(&d, d.config + 4, 4), CONSOLE_PORTS);
	assert_int_equal(driver_load(&d, d.config + 12, 4), 0); // behind its end
}

static void features_are_agreed_on_or_not(void **state)
{
	u64 offered = driver_device_features(&d);

	assert_true(offered == DRIVER_FEATURES);
	set_common(VIRTIO_PCI_COMMON_DFSELECT, 2, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_DF, 4), 0);

	driver_set_status(&d, 3);
	driver_set_features(&d, offered & ~(1ULL << VIRTIO_F_VERSION_1));
	driver_set_status(&d, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	assert_int_equal(driver_status(&d), 3);
	driver_set_features(&d, offered | 1ULL << 60);
	driver_set_status(&d, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	assert_int_equal(driver_status(&d), 3);
	driver_set_features(&d, offered);
	driver_set_status(&d, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	assert_int_equal(driver_status(&d), 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	driver_set_features(&d, 0); // too late
	set_common(VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_GF, 4), offered & 0xffffffff);
}

static void status_bits_come_in_order_and_go_by_reset(void **state)
{
	driver_set_status(&d, 3 | VIRTIO_CONFIG_S_DRIVER_OK); // without features
	assert_int_equal(driver_status(&d), 3);
	driver_begin(&d, DRIVER_FEATURES);
	driver_set_status(&d, 1); // does not take the others away
	assert_int_equal(driver_status(&d), 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	driver_set_status(&d, VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(driver_status(&d), 3 | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED);
	driver_set_status(&d, 0);
	assert_int_equal(driver_status(&d), 0);
}

static void queue_registers_are_per_queue_and_reset(void **state)
{
	driver_begin(&d, DRIVER_FEATURES);
	for (u32 q = 0; q < CONSOLE_QUEUES + 2; q++) {
		set_common(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
		assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SIZE, 2),
				 q < CONSOLE_QUEUES ? CONSOLE_QUEUE_SIZE : 0);
		set_common(VIRTIO_PCI_COMMON_Q_DESCLO, 0x1000 * q, 4);
		set_common(VIRTIO_PCI_COMMON_Q_AVAILLO, 0x100000002ULL * q, 8);
	}
	for (u32 q = 0; q < CONSOLE_QUEUES; q++) {
		set_common(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
		assert_int_equal(common(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0x1000 * q);
		assert_true(common(VIRTIO_PCI_COMMON_Q_AVAILLO, 8) == 0x100000002ULL * q);
		assert_int_equal(common(VIRTIO_PCI_COMMON_Q_NOFF, 2), q);
		set_common(VIRTIO_PCI_COMMON_Q_MSIX, q + 1, 2);
		assert_int_equal(common(VIRTIO_PCI_COMMON_Q_MSIX, 2), q + 1);
		set_common(VIRTIO_PCI_COMMON_Q_MSIX, CONSOLE_VECTORS, 2);
		assert_int_equal(common(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	}
	set_common(VIRTIO_PCI_COMMON_MSIX, CONSOLE_VECTORS, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	driver_set_status(&d, 0);
	set_common(VIRTIO_PCI_COMMON_Q_SELECT, 3, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
}

static void a_queue_is_enabled_after_features_and_then_fixed(void **state)
{
	driver_set_status(&d, 3);
	driver_set_queue(&d, 0, 64);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	driver_begin(&d, DRIVER_FEATURES);
	driver_set_queue(&d, 0, 64);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	set_common(VIRTIO_PCI_COMMON_Q_SIZE, 32, 2);
	set_common(VIRTIO_PCI_COMMON_Q_DESCLO, 0, 4);
	set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_DESCLO, 4), DRIVER_RINGS);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void a_bad_queue_needs_a_reset_and_is_counted(void **state)
{
	static const u16 sizes[] = { 0, 3, 100, 256, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		driver_begin(&d, DRIVER_FEATURES);
		set_common(VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
		set_common(VIRTIO_PCI_COMMON_Q_SIZE, sizes[i], 2);
		set_common(VIRTIO_PCI_COMMON_Q_DESCLO, DRIVER_RINGS, 4);
		set_common(VIRTIO_PCI_COMMON_Q_AVAILLO, DRIVER_RINGS + 0x1000, 4);
		set_common(VIRTIO_PCI_COMMON_Q_USEDLO, DRIVER_RINGS + 0x2000, 4);
		set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
		assert_true(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(d.con.virtio.faults[VIRTQUEUE_BAD_SIZE], i + 1);
		assert_int_equal(d.con.virtio.last_fault_queue, 2);
	}
	driver_begin(&d, DRIVER_FEATURES);
	set_common(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	set_common(VIRTIO_PCI_COMMON_Q_USEDHI, 1, 4); // beyond memory
	set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(d.con.virtio.faults[VIRTQUEUE_BAD_RING], 1);
	// And all is well again after a reset.
	driver_open_all(&d, DRIVER_FEATURES);
	driver_send(&d, 1, "fine", 4);
	driver_serve(&d);
	assert_int_equal(d.records[1].size, 4);
}

static void odd_accesses_are_harmless(void **state)
{
	driver_begin(&d, DRIVER_FEATURES);
	for (u32 size = 1; size <= 8; size *= 2)
		for (u64 offset = 0; offset < VIRTIO_BAR_SIZE; offset++) {
			u64 in_common = offset - VIRTIO_COMMON_OFFSET;

			driver_load(&d, d.bar + offset, size);
			if (in_common <= VIRTIO_PCI_COMMON_STATUS && in_common + size > VIRTIO_PCI_COMMON_STATUS)
				continue;
			driver_store(&d, d.bar + offset, ~0ULL, size);
		}
	assert_int_equal(driver_status(&d), 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	// A field written in part or too wide is not written.
	set_common(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	set_common(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	set_common(VIRTIO_PCI_COMMON_Q_SELECT, 3, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SELECT, 2), 1);
	driver_serve(&d);
}

static void the_isr_clears_when_read(void **state)
{
	driver_open_all(&d, DRIVER_FEATURES);
	assert_int_equal(driver_load(&d, d.isr, 1), 1);
	assert_int_equal(driver_load(&d, d.isr, 1), 0);
	guest_set_idx(&d.rings[5], 1000);
	driver_notify(&d, 5);
	driver_serve(&d);
	assert_int_equal(driver_load(&d, d.isr, 1), 2);
	assert_int_equal(driver_load(&d, d.isr, 1), 0);
}

static void configuration_space_reaches_the_bar_through_a_window(void **state)
{
	u32 at = 0;

	for (u32 n = 0; (at = driver_capability(&d, PCI_CAP_ID_VNDR, n)); n++)
		if (driver_load(&d, driver_config_register(at + 3), 1) == VIRTIO_PCI_CAP_PCI_CFG)
			break;
	assert_int_not_equal(at, 0);
	driver_store(&d, driver_config_register(at + 4), VIRTIO_BAR, 1);
	driver_store(&d, driver_config_register(at + 8), VIRTIO_COMMON_OFFSET + VIRTIO_PCI_COMMON_NUMQ, 4);
	driver_store(&d, driver_config_register(at + 12), 2, 4);
	assert_int_equal(driver_load(&d, driver_config_register(at + 16), 2), CONSOLE_QUEUES);
	driver_store(&d, driver_config_register(at + 8), VIRTIO_COMMON_OFFSET + VIRTIO_PCI_COMMON_STATUS, 4);
	driver_store(&d, driver_config_register(at + 12), 1, 4);
	driver_store(&d, driver_config_register(at + 16), 3, 1);
	assert_int_equal(driver_status(&d), 3);
	// Nonsense in the window goes nowhere.
	driver_store(&d, driver_config_register(at + 8), 0xfffffffc, 4);
	driver_store(&d, driver_config_register(at + 16), 0, 1);
	driver_store(&d, driver_config_register(at + 8), VIRTIO_COMMON_OFFSET + VIRTIO_PCI_COMMON_STATUS, 4);
	driver_store(&d, driver_config_register(at + 12), 3, 4);
	driver_store(&d, driver_config_register(at + 16), 0, 1);
	driver_store(&d, driver_config_register(at + 4), 1, 1);
	driver_store(&d, driver_config_register(at + 12), 1, 4);
	driver_store(&d, driver_config_register(at + 16), 0, 1);
	assert_int_equal(driver_status(&d), 3);
}

static u32 doorbells_at(u64 notify)
{
	u32 n = 0;

	for (u32 i = 0; i < DRIVER_DOORBELLS; i++)
		for (u32 q = 0; q < CONSOLE_QUEUES; q++)
			n += d.doorbells[i].address && d.doorbells[i].address == notify + 4 * q &&
			     d.doorbells[i].fd == virtio_console_fd(&d.con, q);
	return n;
}

static u32 doorbells(void)
{
	u32 n = 0;

	for (u32 i = 0; i < DRIVER_DOORBELLS; i++)
		n += d.doorbells[i].address != 0;
	return n;
}

static void doorbells_follow_queues_and_bar(void **state)
{
	driver_begin(&d, DRIVER_FEATURES);
	assert_int_equal(doorbells(), 0);
	driver_set_queue(&d, 4, 64);
	assert_int_equal(doorbells(), 1);
	driver_start(&d, DRIVER_FEATURES);
	assert_int_equal(doorbells_at(d.notify), CONSOLE_QUEUES);
	assert_int_equal(doorbells(), CONSOLE_QUEUES);

	driver_store(&d, driver_config_register(PCI_COMMAND), 0, 2);
	assert_int_equal(doorbells(), 0);
	driver_store(&d, driver_config_register(PCI_BASE_ADDRESS_0), 0x140000000, 8);
	driver_store(&d, driver_config_register(PCI_COMMAND), PCI_COMMAND_MEMORY, 2);
	driver_find_regions(&d);
	assert_true(d.bar == 0x140000000);
	assert_int_equal(doorbells_at(d.notify), CONSOLE_QUEUES);
	driver_control(&d, 0, EVENT_DEVICE_READY, 1);
	assert_true(driver_serve(&d) > 0);
	assert_int_equal(d.con.states[0].control, 1);
	driver_set_status(&d, 0);
	assert_int_equal(doorbells(), 0);
}

static void without_doorbells_notifications_come_over_the_bus(void **state)
{
	d.refuse_doorbells = true;
	driver_open_all(&d, DRIVER_FEATURES);
	assert_int_equal(doorbells(), 0);
	driver_send(&d, 2, "bus", 3);
	driver_serve(&d);
	assert_int_equal(d.records[2].size, 3);
}

static void a_notification_before_driver_ok_is_not_lost(void **state)
{
	driver_begin(&d, DRIVER_FEATURES);
	driver_set_vectors(&d);
	for (u32 q = 0; q < CONSOLE_QUEUES; q++)
		driver_set_queue(&d, q, CONSOLE_QUEUE_SIZE);
	driver_send(&d, 1, "early", 5);
	driver_serve(&d);
	assert_int_equal(d.records[1].size, 0);
	assert_int_equal(record_raised(&d.irq, 6), 0);
	driver_set_status(&d, driver_status(&d) | VIRTIO_CONFIG_S_DRIVER_OK);
	driver_serve(&d);
	assert_int_equal(d.records[1].size, 5);
	assert_int_equal(record_raised(&d.irq, 6), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_is_a_modern_console_with_all_capabilities, set_up, tear_down),
		cmocka_unit_test_setup_teardown(features_are_agreed_on_or_not, set_up, tear_down),
		cmocka_unit_test_setup_teardown(status_bits_come_in_order_and_go_by_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(queue_registers_are_per_queue_and_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_queue_is_enabled_after_features_and_then_fixed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_bad_queue_needs_a_reset_and_is_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(odd_accesses_are_harmless, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_isr_clears_when_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(configuration_space_reaches_the_bar_through_a_window, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(doorbells_follow_queues_and_bar, set_up_with_doorbells, tear_down),
		cmocka_unit_test_setup_teardown(without_doorbells_notifications_come_over_the_bus,
						set_up_with_doorbells, tear_down),
		cmocka_unit_test_setup_teardown(a_notification_before_driver_ok_is_not_lost, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
