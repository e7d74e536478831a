// SPDX-License-Identifier: GPL-2.0-or-later
#include "device_fixture.h"

#include <linux/pci_regs.h>

#include "device/pci.h"

enum {
	SLOT = 3,
	BAR_SIZE = 0x4000,
	ECAM = 0xe0000000u,
	FIXED = 0xc0100000u, // a device that is not PCI's, inside the window
};

static const u64 low_start = 0xc0000000, low_size = 0x0fffe000; // ends in the middle of a BAR's place
static const u64 high_start = 1ULL << 32, high_size = 0x10000000;

// A function with two BARs that remember, and an MSI-X table in the second.
struct function {
	struct pci_device pci;
	struct msix msix;
	u64 address[PCI_BARS];
	u32 moves, reads, writes;
	u32 bar;
	u64 offset;
	u32 hooks;
};

struct rig {
	struct bus ports, mmio;
	struct pci_host host;
	struct function f;
	struct irq_record irq;
	struct power_record power;
};

static void function_read(void *device, u32 bar, u64 offset, void *data, u32 size)
{
	struct function *f = device;

	f->reads++;
	f->bar = bar;
	f->offset = offset;
	memset(data, 0x5a, size);
}

static void function_write(void *device, u32 bar, u64 offset, const void *data, u32 size)
{
	struct function *f = device;

	f->writes++;
	f->bar = bar;
	f->offset = offset;
}

static void function_moved(void *device, u32 bar, u64 address)
{
	struct function *f = device;

	f->address[bar] = address;
	f->moves++;
}

static void function_hook(void *device, u8 *config, u32 offset, u32 size)
{
	((struct function *)device)->hooks++;
}

static const struct pci_device_ops function_ops = {
	.name = "test function",
	.bar_read = function_read,
	.bar_write = function_write,
	.bar_moved = function_moved,
	.config_write = function_hook,
};

static void fixed_read(void *device, u64 offset, void *data, u32 size)
{
	memset(data, 0x77, size);
}

static void fixed_write(void *device, u64 offset, const void *data, u32 size)
{
}

static const struct device_ops fixed_ops = { .name = "fixed", .read = fixed_read, .write = fixed_write };

static void init_function(struct function *f, struct irq_record *irq)
{
	static const struct pci_ids ids = {
		.vendor = 0x1234,
		.device = 0x5678,
		.class = 0xff,
		.revision = 7,
	};

	pci_device_init(&f->pci, &function_ops, f, &ids);
	assert_fine(msix_init(&f->msix, 4, record_sink(irq)));
	assert_fine(pci_add_bar(&f->pci, 0, BAR_SIZE));
	assert_fine(pci_add_bar(&f->pci, 2, BAR_SIZE));
	assert_fine(pci_add_msix(&f->pci, &f->msix, 2, 0, 0x1000));
}

static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	assert_fine(bus_init(&r->ports));
	assert_fine(bus_init(&r->mmio));

	const struct pci_host_config config = {
		.mmio = &r->mmio,
		.windows = { { low_start, low_size }, { high_start, high_size } },
		.power = record_power(&r->power),
	};

	assert_fine(pci_host_init(&r->host, &config));
	assert_fine(bus_add(&r->ports, PCI_PORT, PCI_PORTS, &pci_port_ops, &r->host));
	assert_fine(bus_add(&r->mmio, ECAM, PCI_ECAM_SIZE, &pci_ecam_ops, &r->host));
	assert_fine(bus_add(&r->mmio, FIXED, 0x1000, &fixed_ops, NULL));
	init_function(&r->f, &r->irq);
	assert_fine(pci_add(&r->host, SLOT, &r->f.pci));
	assert_fine(pci_assign_bars(&r->host));
}

static void rig_deinit(struct rig *r)
{
	pci_host_deinit(&r->host);
	msix_deinit(&r->f.msix);
	bus_deinit(&r->mmio);
	bus_deinit(&r->ports);
}

static u32 read_port(struct rig *r, u32 slot, u32 reg, u32 size)
{
	u32 address = 1u << 31 | slot << 11 | (reg & 0xfc), value = 0;

	bus_write(&r->ports, 0xcf8, &address, 4);
	bus_read(&r->ports, 0xcfc + (reg & 3), &value, size);
	return value;
}

static void write_port(struct rig *r, u32 slot, u32 reg, u32 value, u32 size)
{
	u32 address = 1u << 31 | slot << 11 | (reg & 0xfc);

	bus_write(&r->ports, 0xcf8, &address, 4);
	bus_write(&r->ports, 0xcfc + (reg & 3), &value, size);
}

static u64 read_ecam(struct rig *r, u32 slot, u32 reg, u32 size)
{
	u64 value = 0;

	bus_read(&r->mmio, ECAM + (slot << 15) + reg, &value, size);
	return value;
}

static void write_bar(struct rig *r, u32 index, u64 address)
{
	write_port(r, SLOT, PCI_BASE_ADDRESS_0 + 4 * index, address, 4);
	write_port(r, SLOT, PCI_BASE_ADDRESS_0 + 4 * index + 4, address >> 32, 4);
}

static void set_decoding(struct rig *r, bool on)
{
	write_port(r, SLOT, PCI_COMMAND, on ? PCI_COMMAND_MEMORY : 0, 2);
}

// Whether the BAR, and it alone, answers at the address.
static bool answers_at(struct rig *r, u32 bar, u64 address)
{
	u32 value = 0, before = r->f.reads;

	bus_read(&r->mmio, address + 0x10, &value, 4);
	return r->f.reads == before + 1 && r->f.bar == bar && r->f.offset == 0x10 && value == 0x5a5a5a5a;
}

static void the_bus_is_enumerated_by_ports_and_by_ecam(void **state)
{
	struct rig r;

	rig_init(&r);
	for (u32 slot = 0; slot < PCI_SLOTS; slot++) {
		u32 expected = slot == 0 ? 0x00081b36 : slot == SLOT ? 0x56781234 :
								       0xffffffff;

		assert_int_equal(read_port(&r, slot, PCI_VENDOR_ID, 4), expected);
		assert_int_equal(read_ecam(&r, slot, PCI_VENDOR_ID, 4), expected);
	}
	assert_int_equal(read_port(&r, 0, PCI_CLASS_DEVICE, 2), 0x0600);
	assert_int_equal(read_port(&r, 0, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(read_port(&r, SLOT, PCI_REVISION_ID, 1), 7);
	assert_int_equal(read_port(&r, SLOT, PCI_DEVICE_ID + 1, 1), 0x56);
	rig_deinit(&r);
}

static void other_buses_functions_and_extended_registers_are_empty(void **state)
{
	struct rig r;
	u32 value, address;

	rig_init(&r);
	address = 1u << 31 | 1 << 16 | SLOT << 11;
	bus_write(&r.ports, 0xcf8, &address, 4);
	bus_read(&r.ports, 0xcfc, &value, 4);
	assert_int_equal(value, 0xffffffff);
	address = SLOT << 11; // not enabled
	bus_write(&r.ports, 0xcf8, &address, 4);
	bus_read(&r.ports, 0xcfc, &value, 4);
	assert_int_equal(value, 0xffffffff);
	assert_int_equal(read_ecam(&r, SLOT, 0x1000, 4), 0xffffffff);
	assert_int_equal(read_ecam(&r, SLOT, 0x100, 4), 0xffffffff);
	assert_int_equal(read_ecam(&r, SLOT, 0xfe, 4), 0xffffffff);
	assert_true(read_ecam(&r, SLOT, 0, 8) == (0x56781234 | read_ecam(&r, SLOT, 4, 4) << 32));
	rig_deinit(&r);
}

// What Linux does before it trusts the ports.
static void the_address_port_answers_a_probe(void **state)
{
	struct rig r;
	u32 value = 0x80000000;
	u8 one = 1;

	rig_init(&r);
	bus_write(&r.ports, 0xcfb, &one, 1);
	bus_write(&r.ports, 0xcf8, &value, 4);
	value = 0;
	bus_read(&r.ports, 0xcf8, &value, 4);
	assert_int_equal(value, 0x80000000);
	assert_int_equal(r.power.resets, 0);
	rig_deinit(&r);
}

static void port_cf9_resets(void **state)
{
	struct rig r;
	u8 value = 0x02;

	rig_init(&r);
	bus_write(&r.ports, 0xcf9, &value, 1);
	assert_int_equal(r.power.resets, 0);
	value = 0;
	bus_read(&r.ports, 0xcf9, &value, 1);
	assert_int_equal(value, 0x02);
	value = 0x06;
	bus_write(&r.ports, 0xcf9, &value, 1);
	assert_int_equal(r.power.resets, 1);
	assert_string_equal(r.power.by, "port 0xcf9");
	rig_deinit(&r);
}

static void a_bar_tells_its_size_and_type(void **state)
{
	struct rig r;

	rig_init(&r);

	u32 low = read_port(&r, SLOT, PCI_BASE_ADDRESS_0, 4);

	assert_int_equal(low, low_start | PCI_BASE_ADDRESS_MEM_TYPE_64);
	assert_int_equal(read_port(&r, SLOT, PCI_BASE_ADDRESS_2, 4),
			 (low_start + BAR_SIZE) | PCI_BASE_ADDRESS_MEM_TYPE_64);
	write_bar(&r, 0, ~0ULL);
	assert_int_equal(read_port(&r, SLOT, PCI_BASE_ADDRESS_0, 4),
			 (u32)-BAR_SIZE | PCI_BASE_ADDRESS_MEM_TYPE_64);
	assert_int_equal(read_port(&r, SLOT, PCI_BASE_ADDRESS_1, 4), 0xffffffff);
	for (u32 i = 4; i < 6; i++) {
		write_port(&r, SLOT, PCI_BASE_ADDRESS_0 + 4 * i, 0xffffffff, 4);
		assert_int_equal(read_port(&r, SLOT, PCI_BASE_ADDRESS_0 + 4 * i, 4), 0);
	}
	write_port(&r, SLOT, PCI_ROM_ADDRESS, 0xffffffff, 4);
	assert_int_equal(read_port(&r, SLOT, PCI_ROM_ADDRESS, 4), 0);
	rig_deinit(&r);
}

static void a_bar_is_decoded_only_while_memory_is_enabled(void **state)
{
	struct rig r;

	rig_init(&r);
	assert_false(answers_at(&r, 0, low_start));
	set_decoding(&r, true);
	assert_true(answers_at(&r, 0, low_start));
	assert_true(answers_at(&r, 2, low_start + BAR_SIZE));
	assert_true(r.f.address[0] == low_start);
	set_decoding(&r, false);
	assert_false(answers_at(&r, 0, low_start));
	assert_true(r.f.address[0] == 0);
	rig_deinit(&r);
}

static void a_bar_moves_with_and_without_decoding(void **state)
{
	struct rig r;

	rig_init(&r);
	set_decoding(&r, true);
	write_bar(&r, 0, high_start + 0x100000); // passes through 0x100000, which is in no window
	assert_false(answers_at(&r, 0, low_start));
	assert_true(answers_at(&r, 0, high_start + 0x100000));
	assert_true(r.f.address[0] == high_start + 0x100000);
	set_decoding(&r, false);
	write_bar(&r, 0, low_start + 0x200000);
	assert_false(answers_at(&r, 0, low_start + 0x200000));
	set_decoding(&r, true);
	assert_true(answers_at(&r, 0, low_start + 0x200000));
	assert_true(answers_at(&r, 2, low_start + BAR_SIZE));
	rig_deinit(&r);
}

static void sizing_with_decoding_on_loses_nothing(void **state)
{
	struct rig r;

	rig_init(&r);
	set_decoding(&r, true);
	write_bar(&r, 0, ~0ULL);
	assert_false(answers_at(&r, 0, low_start));
	write_bar(&r, 0, low_start);
	assert_true(answers_at(&r, 0, low_start));
	rig_deinit(&r);
}

static void a_bar_over_memory_or_outside_the_windows_is_not_mapped(void **state)
{
	static const u64 places[] = { 0x100000, 0, 0xbffff000, 0xcfffc000, 0xfee00000, ECAM, 1ULL << 40,
				      ~0ULL << 20 };
	struct rig r;

	rig_init(&r);
	set_decoding(&r, true);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		write_bar(&r, 0, places[i]);
		assert_true(r.f.address[0] == 0);
		assert_false(answers_at(&r, 0, places[i] & ~(BAR_SIZE - 1ULL)));
	}
	assert_true(r.host.bars_refused > 0);
	assert_int_equal(read_ecam(&r, 0, 0, 4), 0x00081b36);
	write_bar(&r, 0, low_start);
	assert_true(answers_at(&r, 0, low_start));
	rig_deinit(&r);
}

static void a_bar_over_another_device_waits_until_the_place_is_free(void **state)
{
	struct rig r;
	u32 value;

	rig_init(&r);
	set_decoding(&r, true);
	write_bar(&r, 0, FIXED);
	assert_true(r.f.address[0] == 0);
	bus_read(&r.mmio, FIXED, &value, 4);
	assert_int_equal(value, 0x77777777);
	assert_false(answers_at(&r, 0, FIXED + 0x1000)); // no part of it
	// Over its sibling: the one that is there stays, and when it leaves the other one comes.
	write_bar(&r, 0, low_start + BAR_SIZE);
	assert_true(answers_at(&r, 2, low_start + BAR_SIZE));
	write_bar(&r, 2, low_start + 8 * BAR_SIZE);
	assert_true(answers_at(&r, 0, low_start + BAR_SIZE));
	assert_true(answers_at(&r, 2, low_start + 8 * BAR_SIZE));
	rig_deinit(&r);
}

static void what_the_guest_may_not_change_stays(void **state)
{
	struct rig r;

	rig_init(&r);
	for (u32 reg = 0; reg < PCI_CONFIG_SIZE; reg += 4)
		if (reg < PCI_BASE_ADDRESS_0 || reg > PCI_BASE_ADDRESS_5)
			write_port(&r, SLOT, reg, 0xffffffff, 4);
	assert_int_equal(read_port(&r, SLOT, PCI_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(read_port(&r, SLOT, PCI_COMMAND, 2),
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(read_port(&r, SLOT, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	assert_int_equal(read_port(&r, SLOT, PCI_INTERRUPT_LINE, 2), 0x00ff);
	rig_deinit(&r);
}

static void capabilities_are_a_list_with_msix_in_it(void **state)
{
	struct rig r;

	rig_init(&r);

	u32 at = read_port(&r, SLOT, PCI_CAPABILITY_LIST, 1);

	assert_int_equal(read_port(&r, SLOT, at, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(read_port(&r, SLOT, at + 1, 1), 0);
	assert_int_equal(read_port(&r, SLOT, at + PCI_MSIX_FLAGS, 2), 3); // 4 vectors
	assert_int_equal(read_port(&r, SLOT, at + PCI_MSIX_TABLE, 4), 2); // BAR 2, offset 0
	assert_int_equal(read_port(&r, SLOT, at + PCI_MSIX_PBA, 4), 0x1002);
	write_port(&r, SLOT, at + PCI_MSIX_FLAGS, 0xffff, 2);
	assert_true(r.f.msix.enabled);
	assert_true(r.f.msix.function_masked);
	write_port(&r, SLOT, at + PCI_MSIX_FLAGS + 1, 0x80, 1);
	assert_true(r.f.msix.enabled);
	assert_false(r.f.msix.function_masked);
	assert_int_equal(read_port(&r, SLOT, at + PCI_MSIX_FLAGS, 2), 0x8003);
	assert_int_equal(r.f.hooks, 2); // the device heard of both writes
	rig_deinit(&r);
}

static void impossible_devices_are_refused(void **state)
{
	struct rig r;
	struct function f;
	u8 cap[PCI_CONFIG_SIZE] = { 0 };
	u32 offset;

	rig_init(&r);
	init_function(&f, &r.irq);
	assert_error(pci_add(&r.host, SLOT, &f.pci), ERROR_INVALID);
	assert_error(pci_add(&r.host, PCI_SLOTS, &f.pci), ERROR_INVALID);
	assert_error(pci_add_bar(&f.pci, 1, BAR_SIZE), ERROR_INVALID);
	assert_error(pci_add_bar(&f.pci, 5, BAR_SIZE), ERROR_INVALID);
	assert_error(pci_add_bar(&f.pci, 4, 0x3000), ERROR_INVALID);
	assert_error(pci_add_bar(&f.pci, 4, 0x800), ERROR_INVALID);
	assert_error(pci_add_capability(&f.pci, cap, 250, NULL, &offset), ERROR_INVALID);
	assert_error(pci_add_capability(&f.pci, cap, 1, NULL, &offset), ERROR_INVALID);
	// A BAR as large as a window does not fit behind the others.
	assert_fine(pci_add_bar(&f.pci, 4, 1 << 28));
	assert_fine(pci_add(&r.host, 4, &f.pci));
	assert_fine(pci_assign_bars(&r.host)); // in the second one
	assert_true(f.pci.config[PCI_BASE_ADDRESS_5] == 1);
	msix_deinit(&f.msix);

	struct function g;

	init_function(&g, &r.irq);
	assert_fine(pci_add_bar(&g.pci, 4, 1 << 28));
	assert_fine(pci_add(&r.host, 5, &g.pci));
	assert_error(pci_assign_bars(&r.host), ERROR_INVALID);
	msix_deinit(&g.msix);
	rig_deinit(&r);
}

static void its_state_survives_with_bars_where_they_were(void **state)
{
	struct rig a, b;

	rig_init(&a);
	rig_init(&b);
	set_decoding(&a, true);
	write_bar(&a, 0, high_start + 0x40000);
	write_port(&a, SLOT, a.f.pci.msix_capability + PCI_MSIX_FLAGS, 0x8000, 2);
	set_decoding(&b, true);
	set_decoding(&b, false);
	round_trip(&pci_state_ops, &a.host, &b.host);
	assert_true(answers_at(&b, 0, high_start + 0x40000));
	assert_true(answers_at(&b, 2, low_start + BAR_SIZE));
	assert_true(b.f.msix.enabled);

	struct buf bad = state_of(&pci_state_ops, &a.host);

	bad.data[13 + PCI_CONFIG_SIZE] ^= 1; // the vendor of the device in the second slot
	assert_error(load_bytes(&pci_state_ops, &b.host, bad.data, bad.size), ERROR_FORMAT);
	bad.data[13 + PCI_CONFIG_SIZE] ^= 1;
	bad.data[9] ^= 2; // a device in slot 1
	assert_error(load_bytes(&pci_state_ops, &b.host, bad.data, bad.size), ERROR_FORMAT);
	assert_true(answers_at(&b, 0, high_start + 0x40000));
	buf_deinit(&bad);
	rig_deinit(&a);
	rig_deinit(&b);
}

static void a_loaded_bar_over_memory_stays_unmapped(void **state)
{
	struct rig a, b;

	rig_init(&a);
	rig_init(&b);
	set_decoding(&a, true);
	write_bar(&a, 0, 0x100000);
	round_trip(&pci_state_ops, &a.host, &b.host);
	assert_true(b.f.address[0] == 0);
	assert_false(answers_at(&b, 0, 0x100000));
	rig_deinit(&a);
	rig_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bus_is_enumerated_by_ports_and_by_ecam),
		cmocka_unit_test(other_buses_functions_and_extended_registers_are_empty),
		cmocka_unit_test(the_address_port_answers_a_probe),
		cmocka_unit_test(port_cf9_resets),
		cmocka_unit_test(a_bar_tells_its_size_and_type),
		cmocka_unit_test(a_bar_is_decoded_only_while_memory_is_enabled),
		cmocka_unit_test(a_bar_moves_with_and_without_decoding),
		cmocka_unit_test(sizing_with_decoding_on_loses_nothing),
		cmocka_unit_test(a_bar_over_memory_or_outside_the_windows_is_not_mapped),
		cmocka_unit_test(a_bar_over_another_device_waits_until_the_place_is_free),
		cmocka_unit_test(what_the_guest_may_not_change_stays),
		cmocka_unit_test(capabilities_are_a_list_with_msix_in_it),
		cmocka_unit_test(impossible_devices_are_refused),
		cmocka_unit_test(its_state_survives_with_bars_where_they_were),
		cmocka_unit_test(a_loaded_bar_over_memory_stays_unmapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
