// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/pci.h"

#include <linux/pci_regs.h>

#include "tiny/cpu.h"
#include "x86/layout.h"

enum {
	SLOTS = 32,
	CONFIG_ENABLE = 1u << 31,
	CAPABILITIES_MAX = 48,
};

static void select_register(u32 slot, u32 offset)
{
	out32(LAYOUT_PCI_ADDRESS_PORT, CONFIG_ENABLE | slot << 11 | (offset & 0xfc));
}

u32 pci_read32(u32 slot, u32 offset)
{
	select_register(slot, offset);
	return in32(LAYOUT_PCI_DATA_PORT);
}

u8 pci_read8(u32 slot, u32 offset)
{
	return (u8)(pci_read32(slot, offset) >> offset % 4 * 8);
}

static void pci_write32(u32 slot, u32 offset, u32 v)
{
	select_register(slot, offset);
	out32(LAYOUT_PCI_DATA_PORT, v);
}

void pci_write16(u32 slot, u32 offset, u16 v)
{
	select_register(slot, offset);
	out16((u16)(LAYOUT_PCI_DATA_PORT + offset % 4), v);
}

s32 pci_find(u16 vendor, u16 device)
{
	for (u32 slot = 1; slot < SLOTS; slot++)
		if (pci_read32(slot, PCI_VENDOR_ID) == ((u32)device << 16 | vendor))
			return (s32)slot;
	return -1;
}

u32 pci_capability(u32 slot, u8 id, u32 from)
{
	u32 at = pci_read8(slot, from ? from + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST);

	for (u32 i = 0; at && i < CAPABILITIES_MAX; i++) {
		if (pci_read8(slot, at) == id)
			return at;
		at = pci_read8(slot, at + PCI_CAP_LIST_NEXT);
	}
	return 0;
}

/* The lowest address in the window that is a multiple of the size and above the slot's other BARs. */
static u64 place_bar(u32 slot, u32 bar, u64 size)
{
	u64 address = LAYOUT_PCI32_GPA;

	// This BAR has just been asked for its size: what it reads as is beyond the window.
	for (u32 i = 0; i < PCI_STD_NUM_BARS; i++) {
		u64 other = pci_read32(slot, PCI_BASE_ADDRESS_0 + 4 * i) & PCI_BASE_ADDRESS_MEM_MASK;

		// Windows of a MiB each are more than a console's BARs want.
		if (other >= address && other < LAYOUT_PCI32_GPA + LAYOUT_PCI32_SIZE)
			address = ALIGN_UP(other + 1, MIB(1));
	}
	return ALIGN_UP(address, size);
}

u64 pci_bar(u32 slot, u32 bar)
{
	u32 at = PCI_BASE_ADDRESS_0 + 4 * bar;
	u32 low = pci_read32(slot, at);
	bool is_64bit = (low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
	u64 address = low & (u32)PCI_BASE_ADDRESS_MEM_MASK;

	if (is_64bit)
		address |= (u64)pci_read32(slot, at + 4) << 32;
	if (address && address < GIB(4))
		return address;

	pci_write32(slot, at, 0xffffffff);

	u32 size = -(pci_read32(slot, at) & (u32)PCI_BASE_ADDRESS_MEM_MASK);

	address = place_bar(slot, bar, size);
	pci_write32(slot, at, (u32)address);
	if (is_64bit)
		pci_write32(slot, at + 4, 0);
	return address;
}
