// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that writes any configuration register, by ports and by ECAM, and any address of the bus. However it
 * places its BARs, the bus stays in order and nothing but the windows is ever claimed.
 */
#include "device_rig.h"

static bool is_in_window(u64 start, u64 size)
{
	return (start >= RIG_WINDOW && start + size <= RIG_WINDOW + RIG_WINDOW_SIZE) ||
	       (start >= RIG_WINDOW_HIGH && start + size <= RIG_WINDOW_HIGH + RIG_WINDOW_SIZE);
}

static void check(struct rig *r)
{
	const struct pci_bar *bar = &r->con.virtio.pci.bars[VIRTIO_BAR];
	u32 vendor = 0;

	must(r->mmio.count == 2 + (bar->address != 0), "the bus has the fixed devices, and the BAR if mapped");
	for (u32 i = 0; i < r->mmio.count; i++) {
		const struct bus_range *range = &r->mmio.ranges[i];

		must(range->start == RIG_ECAM || range->start == RIG_FIXED ||
			     (range->start == bar->address && range->size == bar->size &&
			      is_in_window(range->start, range->size)),
		     "what is mapped is in its place");
		must(!i || range[-1].start + range[-1].size <= range->start, "no two devices overlap");
	}
	for (u32 i = 0; i < ARRAY_SIZE(r->doorbells); i++)
		must(!r->doorbells[i] || (bar->address && r->doorbells[i] >= bar->address &&
					  r->doorbells[i] < bar->address + bar->size),
		     "doorbells are where the BAR is");
	bus_read(&r->mmio, RIG_ECAM + (RIG_SLOT << 15), &vendor, 4);
	must(vendor == 0x10431af4, "identity is not writable");
}

static void by_ports(struct rig *r, struct food *f)
{
	u16 where = food_u16(f);
	u32 address = 1u << 31 | RIG_SLOT << 11 | (where & 0xfc), size = 1 << (where >> 14) % 3;
	u32 value = food_u32(f);

	if (where & 0x100)
		address = food_u32(f);
	bus_write(&r->ports, PCI_PORT + (where >> 9 & 7), &value, size);
	bus_write(&r->ports, PCI_PORT, &address, 4);
	bus_write(&r->ports, PCI_PORT + 4 + (where & 3), &value, size);
	bus_read(&r->ports, PCI_PORT + 4 + (where & 3), &value, size);
}

static void by_ecam(struct rig *r, struct food *f)
{
	u32 at = food_u16(f), size = 1 << (at >> 14);
	u64 value = food_u32(f);

	if (size == 8)
		value |= (u64)food_u32(f) << 32;
	at = (at & 0x2000 ? (food_u8(f) << 12) : RIG_SLOT << 15) + (at & 0xfff);
	bus_write(&r->mmio, RIG_ECAM + at, &value, size);
	bus_read(&r->mmio, RIG_ECAM + at, &value, size);
}

// Where a BAR may just or just not be.
static void move_bar(struct rig *r, struct food *f)
{
	static const u64 places[] = {
		RIG_WINDOW,
		RIG_WINDOW + RIG_WINDOW_SIZE,
		RIG_WINDOW_HIGH,
		RIG_WINDOW_HIGH + RIG_WINDOW_SIZE,
		RIG_ECAM,
		RIG_FIXED,
		0,
		1ULL << 63,
	};
	u8 what = food_u8(f);
	u64 address = places[what & 7] + (s64)((s8)food_u8(f)) * VIRTIO_BAR_SIZE;
	u16 command = what & 8 ? PCI_COMMAND_MEMORY : 0;
	u64 at = RIG_ECAM + (RIG_SLOT << 15);

	bus_write(&r->mmio, at + PCI_BASE_ADDRESS_0, &address, what & 16 ? 8 : 4);
	bus_write(&r->mmio, at + PCI_COMMAND, &command, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct food f = { data, size };
	struct rig r;

	rig_init(&r);
	rig_start_console(&r, 1ULL << VIRTIO_F_VERSION_1 | 2);
	while (f.size) {
		u64 value = 0;
		u8 op = food_u8(&f);

		switch (op & 3) {
		case 0:
			by_ports(&r, &f);
			break;
		case 1:
			by_ecam(&r, &f);
			break;
		case 2:
			move_bar(&r, &f);
			break;
		default:
			bus_read(&r.mmio, r.con.virtio.bar_address + food_u16(&f), &value, 1 << (op >> 6));
			bus_write(&r.mmio, r.con.virtio.bar_address + food_u16(&f), &value, 1 << (op >> 6));
			break;
		}
		check(&r);
	}
	rig_deinit(&r);
	return 0;
}
