/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI on bus 0 by ports 0xcf8/0xcfc: finding a device, its capabilities, its BARs.
 * Depends on cpu.h, x86/layout.h.
 * A BAR that is unset, or above what the boot page tables map, is moved into the 32-bit window.
 */
#ifndef TINY_PCI_H
#define TINY_PCI_H

#include "base/types.h"

u32 pci_read32(u32 slot, u32 offset);
u8 pci_read8(u32 slot, u32 offset);
void pci_write16(u32 slot, u32 offset, u16 v);

/* The first slot of bus 0 that has this vendor and device; -1: none. */
s32 pci_find(u16 vendor, u16 device);
/* The next capability with that id behind `from` (0: the first); 0: none. */
u32 pci_capability(u32 slot, u8 id, u32 from);
/* Where a memory BAR is decoded, once memory decoding is on. */
u64 pci_bar(u32 slot, u32 bar);

#endif
