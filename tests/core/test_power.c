// SPDX-License-Identifier: GPL-2.0-or-later
// The small devices of the port bus: i8042, ACPI fixed hardware, and the silent 8259 pair.
#include "device_fixture.h"

#include "device/i8042.h"
#include "device/pic.h"
#include "device/pm.h"

enum { S5 = 5,
       SLP_EN = 1 << 13,
       SLP_TYP_SHIFT = 10 };

static u32 in(const struct device_ops *ops, void *device, u32 offset, u32 size)
{
	u32 value = 0;

	ops->read(device, offset, &value, size);
	return value;
}

static void out(const struct device_ops *ops, void *device, u32 offset, u32 value, u32 size)
{
	ops->write(device, offset, &value, size);
}

static void an_i8042_probe_finds_none_and_a_writer_never_waits(void **state)
{
	struct power_record power = { 0 };
	struct i8042 i8042;

	i8042_init(&i8042, record_power(&power));
	// Linux reads at most 16 bytes to flush; output still full then means no controller.
	for (u32 i = 0; i < 32; i++) {
		assert_int_equal(in(&i8042_ops, &i8042, 4, 1) & 0x01, 0x01);
		in(&i8042_ops, &i8042, 0, 1);
	}
	assert_int_equal(in(&i8042_ops, &i8042, 4, 1) & 0x02, 0);
	assert_int_equal(in(&i8042_ops, &i8042, 1, 1) & 0xc0, 0); // no NMI reason
}

static void i8042_command_fe_resets_and_no_other_does(void **state)
{
	struct power_record power = { 0 };
	struct i8042 i8042;

	i8042_init(&i8042, record_power(&power));
	for (u32 command = 0; command < 0x100; command++) {
		if (command != 0xfe)
			out(&i8042_ops, &i8042, 4, command, 1);
		out(&i8042_ops, &i8042, 0, command, 1);
	}
	assert_int_equal(power.resets, 0);
	out(&i8042_ops, &i8042, 4, 0xfe, 1);
	assert_int_equal(power.resets, 1);
	assert_string_equal(power.by, "i8042");
	round_trip(&i8042_state_ops, &i8042, &i8042);
}

static void acpi_mode_is_on_and_cannot_be_left(void **state)
{
	struct power_record power = { 0 };
	struct pm pm;

	assert_fine(pm_init(&pm, record_power(&power), S5));
	assert_int_equal(in(&pm_ops, &pm, PM_CONTROL_OFFSET, 2), 1);
	out(&pm_ops, &pm, PM_CONTROL_OFFSET, 0, 2);
	assert_int_equal(in(&pm_ops, &pm, PM_CONTROL_OFFSET, 2), 1);
	pm_deinit(&pm);
}

static void events_can_be_enabled_and_none_is_pending(void **state)
{
	struct power_record power = { 0 };
	struct pm pm;

	assert_fine(pm_init(&pm, record_power(&power), S5));
	out(&pm_ops, &pm, 2, 0x0120, 2);
	assert_int_equal(in(&pm_ops, &pm, 2, 2), 0x0120);
	assert_int_equal(in(&pm_ops, &pm, 0, 4), 0x01200000);
	out(&pm_ops, &pm, 0, 0xffff, 2);
	assert_int_equal(in(&pm_ops, &pm, 0, 2), 0);
	out(&pm_ops, &pm, 0, 0xffff0000, 4);
	assert_int_equal(in(&pm_ops, &pm, 2, 2) & 0x0120, 0x0120);
	pm_deinit(&pm);
}

static void sleep_type_s5_with_slp_en_powers_off(void **state)
{
	struct power_record power = { 0 };
	struct pm pm;

	assert_fine(pm_init(&pm, record_power(&power), S5));
	out(&pm_ops, &pm, PM_CONTROL_OFFSET, S5 << SLP_TYP_SHIFT, 2); // as Linux does: first the type alone
	for (u32 type = 0; type < 8; type++)
		if (type != S5)
			out(&pm_ops, &pm, PM_CONTROL_OFFSET, type << SLP_TYP_SHIFT | SLP_EN, 2);
	assert_int_equal(power.power_offs, 0);
	out(&pm_ops, &pm, PM_CONTROL_OFFSET, S5 << SLP_TYP_SHIFT | SLP_EN, 2);
	assert_int_equal(power.power_offs, 1);
	assert_int_equal(in(&pm_ops, &pm, PM_CONTROL_OFFSET, 2), S5 << SLP_TYP_SHIFT | 1);
	out(&pm_ops, &pm, PM_CONTROL_OFFSET + 1, (S5 << SLP_TYP_SHIFT | SLP_EN) >> 8, 1);
	assert_int_equal(power.power_offs, 2);
	assert_int_equal(power.resets, 0);
	pm_deinit(&pm);
}

static void the_reset_register_resets(void **state)
{
	struct power_record power = { 0 };
	struct pm pm;

	assert_fine(pm_init(&pm, record_power(&power), S5));
	out(&pm_ops, &pm, PM_RESET_OFFSET, 0x02, 1);
	assert_int_equal(power.resets, 0);
	out(&pm_ops, &pm, PM_RESET_OFFSET, PM_RESET_VALUE, 1);
	assert_int_equal(power.resets, 1);
	assert_string_equal(power.by, "ACPI reset register");
	pm_deinit(&pm);
}

static void any_access_to_the_pm_ports_stays_inside(void **state)
{
	struct power_record power = { 0 };
	struct pm pm;

	assert_fine(pm_init(&pm, record_power(&power), S5));
	for (u32 size = 1; size <= 4; size *= 2)
		for (u32 offset = 0; offset + size <= PM_PORTS; offset++) {
			out(&pm_ops, &pm, offset, 0, size);
			in(&pm_ops, &pm, offset, size);
		}
	assert_int_equal(power.resets + power.power_offs, 0);
	pm_deinit(&pm);
}

static void pm_state_survives(void **state)
{
	struct power_record power = { 0 };
	struct pm a, b;

	assert_fine(pm_init(&a, record_power(&power), S5));
	assert_fine(pm_init(&b, record_power(&power), S5));
	out(&pm_ops, &a, 2, 0x0120, 2);
	out(&pm_ops, &a, PM_CONTROL_OFFSET, S5 << SLP_TYP_SHIFT, 2);
	round_trip(&pm_state_ops, &a, &b);
	assert_int_equal(in(&pm_ops, &b, 2, 2), 0x0120);

	struct buf bad = state_of(&pm_state_ops, &a);

	bad.data[bad.size - 1] |= SLP_EN >> 8;
	assert_error(load_bytes(&pm_state_ops, &b, bad.data, bad.size), ERROR_FORMAT);
	buf_deinit(&bad);
	pm_deinit(&a);
	pm_deinit(&b);
}

static void a_probe_finds_the_8259_by_its_mask(void **state)
{
	struct pic a, b;

	pic_init(&a);
	pic_init(&b);
	out(&pic_ops, &a, 1, 0xfb, 1);
	assert_int_equal(in(&pic_ops, &a, 1, 1), 0xfb);
	assert_int_equal(in(&pic_ops, &a, 0, 1), 0);
	out(&pic_ops, &a, 0, 0x20, 1);
	assert_int_equal(in(&pic_ops, &a, 1, 1), 0xfb);
	round_trip(&pic_state_ops, &a, &b);
	assert_int_equal(in(&pic_ops, &b, 1, 1), 0xfb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_i8042_probe_finds_none_and_a_writer_never_waits),
		cmocka_unit_test(i8042_command_fe_resets_and_no_other_does),
		cmocka_unit_test(acpi_mode_is_on_and_cannot_be_left),
		cmocka_unit_test(events_can_be_enabled_and_none_is_pending),
		cmocka_unit_test(sleep_type_s5_with_slp_en_powers_off),
		cmocka_unit_test(the_reset_register_resets),
		cmocka_unit_test(any_access_to_the_pm_ports_stays_inside),
		cmocka_unit_test(pm_state_survives),
		cmocka_unit_test(a_probe_finds_the_8259_by_its_mask),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
