// SPDX-License-Identifier: GPL-2.0-or-later
// Building a function's configuration space.
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "device/pci.h"

static void put_u16(u8 *p, u16 v)
{
	memcpy(p, &v, sizeof(v));
}

static void put_u32(u8 *p, u32 v)
{
	memcpy(p, &v, sizeof(v));
}

void pci_device_init(struct pci_device *pci, const struct pci_device_ops *ops, void *device,
		     const struct pci_ids *ids)
{
	*pci = (struct pci_device){ .ops = ops, .device = device, .capability_end = PCI_STD_HEADER_SIZEOF };
	put_u16(pci->config + PCI_VENDOR_ID, ids->vendor);
	put_u16(pci->config + PCI_DEVICE_ID, ids->device);
	put_u16(pci->config + PCI_SUBSYSTEM_VENDOR_ID, ids->subsystem_vendor);
	put_u16(pci->config + PCI_SUBSYSTEM_ID, ids->subsystem);
	pci->config[PCI_REVISION_ID] = ids->revision;
	pci->config[PCI_CLASS_PROG] = ids->interface;
	pci->config[PCI_CLASS_DEVICE] = ids->subclass;
	pci->config[PCI_CLASS_DEVICE + 1] = ids->class;

	put_u16(pci->writable + PCI_COMMAND,
		PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	pci->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	pci->writable[PCI_LATENCY_TIMER] = 0xff;
	pci->writable[PCI_INTERRUPT_LINE] = 0xff;
}

struct error *pci_add_bar(struct pci_device *pci, u32 index, u64 size)
{
	if (index + 2 > PCI_BARS || size < 4096 || size > 1 << 30 || size & (size - 1))
		return error_create(ERROR_INVALID, "%s: BAR %" PRIu32 " cannot have 0x%" PRIx64 " bytes",
				    pci->ops->name, index, size);
	if (pci->bars[index].size || pci->bars[index + 1].size || (index && pci->bars[index - 1].size))
		return error_create(ERROR_INVALID, "%s: BAR %" PRIu32 "'s registers are taken",
				    pci->ops->name, index);

	u32 reg = PCI_BASE_ADDRESS_0 + 4 * index;

	pci->bars[index] = (struct pci_bar){ .size = size, .pci = pci, .index = index };
	put_u32(pci->config + reg, PCI_BASE_ADDRESS_MEM_TYPE_64);
	put_u32(pci->writable + reg, ~(size - 1));
	put_u32(pci->writable + reg + 4, 0xffffffff);
	return NULL;
}

struct error *pci_add_capability(struct pci_device *pci, const void *capability, u32 size,
				 const void *writable, u32 *ret)
{
	u32 offset = pci->capability_end;

	if (size < 2 || size > PCI_CONFIG_SIZE - offset)
		return error_create(ERROR_INVALID, "%s: no room for a capability of %" PRIu32 " bytes",
				    pci->ops->name, size);
	memcpy(pci->config + offset, capability, size);
	if (writable)
		memcpy(pci->writable + offset, writable, size);
	pci->config[offset + PCI_CAP_LIST_NEXT] = 0;
	pci->writable[offset + PCI_CAP_LIST_ID] = 0;
	pci->writable[offset + PCI_CAP_LIST_NEXT] = 0;
	if (pci->capability_last)
		pci->config[pci->capability_last + PCI_CAP_LIST_NEXT] = offset;
	else
		pci->config[PCI_CAPABILITY_LIST] = offset;
	pci->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	pci->capability_last = offset;
	pci->capability_end = ALIGN_UP(offset + size, 4);
	*ret = offset;
	return NULL;
}

struct error *pci_add_msix(struct pci_device *pci, struct msix *msix, u32 bar, u32 table_offset,
			   u32 pending_offset)
{
	u8 capability[PCI_CAP_MSIX_SIZEOF] = { PCI_CAP_ID_MSIX };
	u8 writable[PCI_CAP_MSIX_SIZEOF] = { 0 };

	put_u16(capability + PCI_MSIX_FLAGS, msix->count - 1);
	put_u16(writable + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	put_u32(capability + PCI_MSIX_TABLE, table_offset | bar);
	put_u32(capability + PCI_MSIX_PBA, pending_offset | bar);
	pci->msix = msix;
	return pci_add_capability(pci, capability, sizeof(capability), writable, &pci->msix_capability);
}
