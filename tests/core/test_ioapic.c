// SPDX-License-Identifier: GPL-2.0-or-later
#include "device_fixture.h"

#include "device/ioapic.h"

enum {
	LEVEL = 1 << 15,
	MASKED = 1 << 16,
	REMOTE_IRR = 1 << 14,
	LOGICAL = 1 << 11,
};

struct rig {
	struct ioapic ioapic;
	u32 delivered;
	u64 address;
	u32 data;
	struct {
		u64 address;
		u32 data, updates;
		bool masked;
	} routes[IOAPIC_PINS];
	u32 routes_at_delivery; // updates of all pins when the last delivery came
};

static u32 all_updates(const struct rig *r)
{
	u32 n = 0;

	for (u32 i = 0; i < IOAPIC_PINS; i++)
		n += r->routes[i].updates;
	return n;
}

static void rig_deliver(void *ctx, u64 address, u32 data)
{
	struct rig *r = ctx;

	r->delivered++;
	r->address = address;
	r->data = data;
	r->routes_at_delivery = all_updates(r);
}

static void rig_route(void *ctx, u32 pin, u64 address, u32 data, bool masked)
{
	struct rig *r = ctx;

	r->routes[pin].address = address;
	r->routes[pin].data = data;
	r->routes[pin].masked = masked;
	r->routes[pin].updates++;
}

static const struct ioapic_sink_ops sink_ops = { .deliver = rig_deliver, .route = rig_route };

static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	assert_fine(ioapic_init(&r->ioapic, 0, (struct ioapic_sink){ &sink_ops, r }));
}

static u32 read_reg(struct rig *r, u32 reg)
{
	u32 value;

	ioapic_ops.write(&r->ioapic, 0, &reg, 4);
	ioapic_ops.read(&r->ioapic, 0x10, &value, 4);
	return value;
}

static void write_reg(struct rig *r, u32 reg, u32 value)
{
	ioapic_ops.write(&r->ioapic, 0, &reg, 4);
	ioapic_ops.write(&r->ioapic, 0x10, &value, 4);
}

// High half first, as kernels do.
static void set_entry(struct rig *r, u32 pin, u32 low, u32 high)
{
	write_reg(r, 0x11 + 2 * pin, high);
	write_reg(r, 0x10 + 2 * pin, low);
}

static void it_says_what_it_is(void **state)
{
	struct rig r;

	rig_init(&r);
	assert_int_equal(read_reg(&r, 1), 0x00170020);
	write_reg(&r, 0, 0x0f000000);
	assert_int_equal(read_reg(&r, 0), 0x0f000000);
	for (u32 pin = 0; pin < IOAPIC_PINS; pin++)
		assert_int_equal(read_reg(&r, 0x10 + 2 * pin), MASKED);
	assert_int_equal(read_reg(&r, 0x10 + 2 * IOAPIC_PINS), 0);
	assert_int_equal(read_reg(&r, 0xff), 0);
	ioapic_deinit(&r.ioapic);
}

static void read_only_and_reserved_bits_stay(void **state)
{
	struct rig r;

	rig_init(&r);
	set_entry(&r, 3, 0xffffffff, 0xffffffff);
	assert_int_equal(read_reg(&r, 0x16), 0x1ffff & ~(REMOTE_IRR | 1 << 12));
	assert_int_equal(read_reg(&r, 0x17), 0xfffe0000);
	ioapic_deinit(&r.ioapic);
}

static void an_edge_is_delivered_once_with_destination_and_vector(void **state)
{
	struct rig r;

	rig_init(&r);
	set_entry(&r, 4, 0x31, 0x05u << 24);
	ioapic_set_level(&r.ioapic, 4, true);
	assert_int_equal(r.delivered, 1);
	assert_true(r.address == 0xfee05000);
	assert_int_equal(r.data, 1 << 14 | 0x31);
	ioapic_set_level(&r.ioapic, 4, true);
	ioapic_eoi(&r.ioapic, 0x31);
	ioapic_set_level(&r.ioapic, 4, false);
	assert_int_equal(r.delivered, 1);
	ioapic_set_level(&r.ioapic, 4, true);
	assert_int_equal(r.delivered, 2);
	ioapic_set_level(&r.ioapic, IOAPIC_PINS, true);
	assert_int_equal(r.delivered, 2);
	ioapic_deinit(&r.ioapic);
}

static void an_edge_on_a_masked_pin_is_gone(void **state)
{
	struct rig r;

	rig_init(&r);
	set_entry(&r, 4, 0x31 | MASKED, 0);
	ioapic_set_level(&r.ioapic, 4, true);
	set_entry(&r, 4, 0x31, 0);
	assert_int_equal(r.delivered, 0);
	ioapic_deinit(&r.ioapic);
}

static void a_level_is_delivered_again_at_eoi_while_it_is_high(void **state)
{
	struct rig r;

	rig_init(&r);
	set_entry(&r, 9, 0x42 | LEVEL, 0);
	ioapic_set_level(&r.ioapic, 9, true);
	assert_int_equal(r.delivered, 1);
	assert_int_equal(r.data, 1 << 15 | 1 << 14 | 0x42);
	assert_true(read_reg(&r, 0x22) & REMOTE_IRR);
	// One at a time, however the line moves.
	ioapic_set_level(&r.ioapic, 9, false);
	ioapic_set_level(&r.ioapic, 9, true);
	assert_int_equal(r.delivered, 1);
	ioapic_eoi(&r.ioapic, 0x41);
	assert_int_equal(r.delivered, 1);
	ioapic_eoi(&r.ioapic, 0x42);
	assert_int_equal(r.delivered, 2);
	ioapic_set_level(&r.ioapic, 9, false);
	ioapic_eoi(&r.ioapic, 0x42);
	assert_int_equal(r.delivered, 2);
	assert_false(read_reg(&r, 0x22) & REMOTE_IRR);
	ioapic_deinit(&r.ioapic);
}

static void a_masked_level_waits_for_the_unmask(void **state)
{
	struct rig r;

	rig_init(&r);
	set_entry(&r, 9, 0x42 | LEVEL | MASKED, 0);
	ioapic_set_level(&r.ioapic, 9, true);
	assert_int_equal(r.delivered, 0);
	set_entry(&r, 9, 0x42 | LEVEL, 0);
	assert_int_equal(r.delivered, 1);
	// Masked while a CPU handles it: the EOI does not deliver, the unmask does.
	set_entry(&r, 9, 0x42 | LEVEL | MASKED, 0);
	ioapic_eoi(&r.ioapic, 0x42);
	assert_int_equal(r.delivered, 1);
	set_entry(&r, 9, 0x42 | LEVEL, 0);
	assert_int_equal(r.delivered, 2);
	ioapic_deinit(&r.ioapic);
}

static void a_shared_vector_ends_all_its_pins(void **state)
{
	struct rig r;

	rig_init(&r);
	set_entry(&r, 16, 0x50 | LEVEL, 0);
	set_entry(&r, 17, 0x50 | LEVEL, 0);
	ioapic_set_level(&r.ioapic, 16, true);
	ioapic_set_level(&r.ioapic, 17, true);
	assert_int_equal(r.delivered, 2);
	ioapic_eoi(&r.ioapic, 0x50);
	assert_int_equal(r.delivered, 4);
	ioapic_deinit(&r.ioapic);
}

static void the_eoi_register_and_the_edge_trick_clear_remote_irr(void **state)
{
	struct rig r;
	u32 vector = 0x42;

	rig_init(&r);
	set_entry(&r, 9, 0x42 | LEVEL, 0);
	ioapic_set_level(&r.ioapic, 9, true);
	ioapic_set_level(&r.ioapic, 9, false);
	ioapic_ops.write(&r.ioapic, 0x40, &vector, 4);
	assert_false(read_reg(&r, 0x22) & REMOTE_IRR);

	ioapic_set_level(&r.ioapic, 9, true);
	assert_true(read_reg(&r, 0x22) & REMOTE_IRR);
	set_entry(&r, 9, 0x42 | MASKED, 0);
	set_entry(&r, 9, 0x42 | LEVEL | MASKED, 0);
	assert_false(read_reg(&r, 0x22) & REMOTE_IRR);
	ioapic_deinit(&r.ioapic);
}

static void destinations_beyond_8_bits_are_in_the_extended_bits(void **state)
{
	struct rig r;
	u32 destination = 433;

	rig_init(&r);
	set_entry(&r, 4, 0x31, (destination & 0xff) << 24 | (destination >> 8) << 17);
	ioapic_set_level(&r.ioapic, 4, true);
	assert_true(r.address == (0xfee00000 | (destination & 0xff) << 12 | (destination >> 8) << 5));
	assert_true(msi_kvm_address(r.address) ==
		    (0xfee00000 | (destination & 0xff) << 12 | (u64)(destination >> 8) << 40));
	// The same in logical mode; an address in the remapped format is left alone.
	set_entry(&r, 4, 0x31 | LOGICAL, 0x7fu << 17 | 0xffu << 24);
	assert_true(r.routes[4].address == 0xfeefffe4);
	assert_true(msi_kvm_address(r.routes[4].address) == (0xfeeff004 | 0x7fULL << 40));
	assert_true(msi_kvm_address(0xfee00ff0) == 0xfee00ff0);
	ioapic_deinit(&r.ioapic);
}

static void routes_are_told_before_what_they_deliver(void **state)
{
	struct rig r;

	rig_init(&r);
	ioapic_set_level(&r.ioapic, 9, true);
	set_entry(&r, 9, 0x42 | LEVEL, 0x02u << 24);
	assert_int_equal(r.delivered, 1);
	assert_int_equal(r.routes[9].updates, 2);
	assert_int_equal(r.routes_at_delivery, 2);
	assert_int_equal(r.routes[9].data, 1 << 15 | 1 << 14 | 0x42);
	assert_false(r.routes[9].masked);
	set_entry(&r, 9, 0x42 | LEVEL, 0x02u << 24); // the same again
	assert_int_equal(r.routes[9].updates, 2);
	set_entry(&r, 9, 0x42 | LEVEL | MASKED, 0x02u << 24);
	assert_true(r.routes[9].masked);
	ioapic_deinit(&r.ioapic);
}

static void its_state_survives_in_mid_interrupt(void **state)
{
	struct rig a, b;

	rig_init(&a);
	rig_init(&b);
	set_entry(&a, 9, 0x42 | LEVEL, 0x03u << 24);
	set_entry(&a, 4, 0x31, 0);
	ioapic_set_level(&a.ioapic, 9, true);
	round_trip(&ioapic_state_ops, &a.ioapic, &b.ioapic);
	assert_int_equal(b.delivered, 0); // it is in a CPU's LAPIC, which has its own saved state
	for (u32 pin = 0; pin < IOAPIC_PINS; pin++)
		assert_int_equal(b.routes[pin].updates, 1);
	ioapic_eoi(&b.ioapic, 0x42);
	assert_int_equal(b.delivered, 1);
	assert_true(b.address == 0xfee03000);

	struct buf bad = state_of(&ioapic_state_ops, &a.ioapic);

	bad.data[10 + 8 * 4 + 1] |= REMOTE_IRR >> 8; // of an edge-triggered pin
	assert_error(load_bytes(&ioapic_state_ops, &b.ioapic, bad.data, bad.size), ERROR_FORMAT);
	buf_deinit(&bad);
	ioapic_deinit(&a.ioapic);
	ioapic_deinit(&b.ioapic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_says_what_it_is),
		cmocka_unit_test(read_only_and_reserved_bits_stay),
		cmocka_unit_test(an_edge_is_delivered_once_with_destination_and_vector),
		cmocka_unit_test(an_edge_on_a_masked_pin_is_gone),
		cmocka_unit_test(a_level_is_delivered_again_at_eoi_while_it_is_high),
		cmocka_unit_test(a_masked_level_waits_for_the_unmask),
		cmocka_unit_test(a_shared_vector_ends_all_its_pins),
		cmocka_unit_test(the_eoi_register_and_the_edge_trick_clear_remote_irr),
		cmocka_unit_test(destinations_beyond_8_bits_are_in_the_extended_bits),
		cmocka_unit_test(routes_are_told_before_what_they_deliver),
		cmocka_unit_test(its_state_survives_in_mid_interrupt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
