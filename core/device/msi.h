/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MSI address and data formats of x86.
 * Depends on base/types.h.
 * Devices and the IOAPIC speak the guest's format; what goes to KVM passes msi_kvm_address() once.
 */
#ifndef DEVICE_MSI_H
#define DEVICE_MSI_H

#include "base/types.h"

enum {
	MSI_ADDRESS_BASE = 0xfee00000u,
	MSI_ADDRESS_LOGICAL = 1 << 2,
	MSI_ADDRESS_REMAPPED = 1 << 4, /* interrupt-remapping format: not ours to touch */
	MSI_ADDRESS_EXT_SHIFT = 5, /* destination bits 8 to 14 (KVM_FEATURE_MSI_EXT_DEST_ID) */
	MSI_ADDRESS_EXT_MASK = 0x7f << MSI_ADDRESS_EXT_SHIFT,
	MSI_ADDRESS_DEST_SHIFT = 12, /* destination bits 0 to 7 */
	MSI_DATA_ASSERT = 1 << 14,
	MSI_DATA_LEVEL = 1 << 15,
};

/*
 * The guest's extended destination bits to where KVM wants them with KVM_X2APIC_API_USE_32BIT_IDS: bits
 * 8 and up of address_hi. For KVM_SIGNAL_MSI and MSI routes alike. An address without such bits is unchanged.
 */
static inline u64 msi_kvm_address(u64 address)
{
	u64 ext = address & MSI_ADDRESS_EXT_MASK;

	if (address & MSI_ADDRESS_REMAPPED)
		return address;
	return (address & ~ext) | ext << (40 - MSI_ADDRESS_EXT_SHIFT);
}

#endif
