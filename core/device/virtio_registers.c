// SPDX-License-Identifier: GPL-2.0-or-later
// What the driver sees of a virtio device: its BAR, and the window into it from configuration space.
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "device/virtio.h"
#include "device/virtio_internal.h"

static struct virtio_queue *selected_queue(struct virtio *virtio)
{
	return virtio->queue_select < virtio->config.queues ? &virtio->queues[virtio->queue_select] : NULL;
}

static void fill_common(struct virtio *virtio, struct virtio_pci_common_cfg *c)
{
	const struct virtio_queue *q = selected_queue(virtio);
	u32 device_select = virtio->device_feature_select, driver_select = virtio->driver_feature_select;

	*c = (struct virtio_pci_common_cfg){
		.device_feature_select = device_select,
		.device_feature = device_select < 2 ? virtio_offered_features(virtio) >> 32 * device_select : 0,
		.guest_feature_select = driver_select,
		.guest_feature = driver_select < 2 ? virtio->driver_features >> 32 * driver_select : 0,
		.msix_config = virtio->config_vector,
		.num_queues = virtio->config.queues,
		.device_status = virtio->status,
		.queue_select = virtio->queue_select,
	};
	if (!q) // size 0: no such queue
		return;
	c->queue_size = q->ring.size;
	c->queue_msix_vector = q->vector;
	c->queue_enable = q->ring.ready;
	c->queue_notify_off = virtio->queue_select;
	c->queue_desc_lo = q->ring.desc_address;
	c->queue_desc_hi = q->ring.desc_address >> 32;
	c->queue_avail_lo = q->ring.avail_address;
	c->queue_avail_hi = q->ring.avail_address >> 32;
	c->queue_used_lo = q->ring.used_address;
	c->queue_used_hi = q->ring.used_address >> 32;
}

// Bits are only added until a reset clears them all, and only when the device agrees.
static void write_status(struct virtio *virtio, u8 value)
{
	if (!value && virtio->config.ops->busy && virtio->config.ops->busy(virtio->config.device)) {
		// A guest that powers off resets its devices: what it said last must not be lost.
		virtio->reset_wanted = true;
		return;
	}
	if (!value) {
		virtio_reset(virtio);
		return;
	}
	if (virtio->reset_wanted)
		return;

	u8 added = value & ~virtio->status &
		   (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
		    VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED);
	u64 features = virtio->driver_features;

	if (features & ~virtio_offered_features(virtio) || !(features & 1ULL << VIRTIO_F_VERSION_1))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((virtio->status | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	virtio->status |= added;
	// A notification that came too early was not served.
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		for (u32 i = 0; i < virtio->config.queues; i++)
			virtio_kick(virtio, i);
}

static void write_driver_features(struct virtio *virtio, u32 value)
{
	u32 select = virtio->driver_feature_select;

	if (select > 1 || virtio->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return;
	virtio->driver_features &= ~(0xffffffffULL << 32 * select);
	virtio->driver_features |= (u64)value << 32 * select;
}

static u16 vector_or_none(const struct virtio *virtio, u16 vector)
{
	return vector < virtio->msix.count ? vector : VIRTIO_MSI_NO_VECTOR;
}

static void enable_queue(struct virtio *virtio, struct virtio_queue *q)
{
	if (!(virtio->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return;

	enum virtqueue_fault fault =
		virtqueue_start(&q->ring, virtio_has_feature(virtio, VIRTIO_RING_F_EVENT_IDX),
				virtio_has_feature(virtio, VIRTIO_RING_F_INDIRECT_DESC));

	if (fault)
		virtio_fault(virtio, virtio->queue_select, fault);
	virtio_update_doorbells(virtio);
}

static void set_low(u64 *address, u32 value)
{
	*address = (*address & ~0xffffffffULL) | value;
}

static void set_high(u64 *address, u32 value)
{
	*address = (u32)*address | (u64)value << 32;
}

// Fields of the selected queue. Once it is ready only its vector can change.
static void write_queue(struct virtio *virtio, u64 offset, u32 value)
{
	struct virtio_queue *q = selected_queue(virtio);

	if (!q)
		return;
	if (offset == VIRTIO_PCI_COMMON_Q_MSIX)
		q->vector = vector_or_none(virtio, value);
	if (q->ring.ready)
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		q->ring.size = value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (value == 1)
			enable_queue(virtio, q);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		set_low(&q->ring.desc_address, value);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_high(&q->ring.desc_address, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		set_low(&q->ring.avail_address, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_high(&q->ring.avail_address, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		set_low(&q->ring.used_address, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_high(&q->ring.used_address, value);
		break;
	default: // read-only
		break;
	}
}

static void write_common(struct virtio *virtio, u64 offset, u32 value)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		virtio->device_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		virtio->driver_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		write_driver_features(virtio, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		virtio->config_vector = vector_or_none(virtio, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		write_status(virtio, value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		virtio->queue_select = value;
		break;
	default:
		write_queue(virtio, offset, value);
		break;
	}
}

// Bytes of the field that starts at an offset of the common configuration; 0: none does.
static u32 field_width(u64 offset)
{
	if (offset < VIRTIO_PCI_COMMON_MSIX || offset >= VIRTIO_PCI_COMMON_Q_DESCLO)
		return offset < sizeof(struct virtio_pci_common_cfg) && offset % 4 == 0 ? 4 : 0;
	if (offset == VIRTIO_PCI_COMMON_STATUS || offset == VIRTIO_PCI_COMMON_CFGGENERATION)
		return 1;
	return offset % 2 == 0 ? 2 : 0;
}

// Only whole fields, as the specification has it; a queue's address may come in one piece too.
static void common_write(struct virtio *virtio, u64 offset, const void *data, u32 size)
{
	u32 halves[2] = { 0 };

	if (size == 8 && offset >= VIRTIO_PCI_COMMON_Q_DESCLO && offset % 8 == 0 && field_width(offset)) {
		memcpy(halves, data, size);
		write_common(virtio, offset, halves[0]);
		write_common(virtio, offset + 4, halves[1]);
	} else if (size == field_width(offset)) {
		memcpy(halves, data, size);
		write_common(virtio, offset, halves[0]);
	}
}

static void common_read(struct virtio *virtio, u64 offset, void *data, u32 size)
{
	struct virtio_pci_common_cfg common;

	if (offset + size > sizeof(common))
		return;
	fill_common(virtio, &common);
	memcpy(data, (const u8 *)&common + offset, size);
}

static void config_read(struct virtio *virtio, u64 offset, void *data, u32 size)
{
	if (offset + size <= virtio->config.config_size)
		virtio->config.ops->config_read(virtio->config.device, offset, data, size);
}

static void bar_read(void *device, u32 bar, u64 offset, void *data, u32 size)
{
	struct virtio *virtio = device;

	memset(data, 0, size);
	if (offset >= VIRTIO_MSIX_PENDING_OFFSET) {
		msix_pending_read(&virtio->msix, offset - VIRTIO_MSIX_PENDING_OFFSET, data, size);
		return;
	}
	if (offset >= VIRTIO_MSIX_TABLE_OFFSET) {
		msix_table_read(&virtio->msix, offset - VIRTIO_MSIX_TABLE_OFFSET, data, size);
		return;
	}
	pthread_mutex_lock(&virtio->lock);
	if (offset < VIRTIO_ISR_OFFSET) {
		common_read(virtio, offset, data, size);
	} else if (offset == VIRTIO_ISR_OFFSET) {
		*(u8 *)data = virtio->isr;
		virtio->isr = 0;
	} else if (offset >= VIRTIO_CONFIG_OFFSET && offset < VIRTIO_NOTIFY_OFFSET) {
		config_read(virtio, offset - VIRTIO_CONFIG_OFFSET, data, size);
	}
	pthread_mutex_unlock(&virtio->lock);
}

static void bar_write(void *device, u32 bar, u64 offset, const void *data, u32 size)
{
	struct virtio *virtio = device;

	if (offset < VIRTIO_ISR_OFFSET) {
		pthread_mutex_lock(&virtio->lock);
		common_write(virtio, offset, data, size);
		pthread_mutex_unlock(&virtio->lock);
	} else if (offset >= VIRTIO_MSIX_TABLE_OFFSET && offset < VIRTIO_MSIX_PENDING_OFFSET) {
		msix_table_write(&virtio->msix, offset - VIRTIO_MSIX_TABLE_OFFSET, data, size);
	} else if (offset >= VIRTIO_NOTIFY_OFFSET && offset < VIRTIO_MSIX_TABLE_OFFSET) {
		u64 queue = (offset - VIRTIO_NOTIFY_OFFSET) / VIRTIO_NOTIFY_MULTIPLIER;

		if (queue < virtio->config.queues)
			virtio_kick(virtio, queue);
	}
}

static void bar_moved(void *device, u32 bar, u64 address)
{
	struct virtio *virtio = device;

	pthread_mutex_lock(&virtio->lock);
	virtio->bar_address = address;
	virtio_update_doorbells(virtio);
	pthread_mutex_unlock(&virtio->lock);
}

/*
 * An access to the window's data bytes is one to the BAR, at the place that the window's other fields
 * name: fills access with it, or is false when it is something else or makes no sense.
 */
static bool window_access(const struct virtio *virtio, const u8 *config, u32 offset, u32 size,
			  struct virtio_pci_cap *access)
{
	u32 data = virtio->pci_cfg_capability + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);

	if (offset >= data + 4 || offset + size <= data)
		return false;
	memcpy(access, config + virtio->pci_cfg_capability, sizeof(*access));
	return access->bar == VIRTIO_BAR &&
	       (access->length == 1 || access->length == 2 || access->length == 4) &&
	       access->offset % access->length == 0 && access->offset < VIRTIO_BAR_SIZE;
}

static void window_read(void *device, u8 *config, u32 offset, u32 size)
{
	struct virtio *virtio = device;
	struct virtio_pci_cap access;

	if (window_access(virtio, config, offset, size, &access))
		bar_read(virtio, VIRTIO_BAR, access.offset,
			 config + virtio->pci_cfg_capability +
				 offsetof(struct virtio_pci_cfg_cap, pci_cfg_data),
			 access.length);
}

static void window_write(void *device, u8 *config, u32 offset, u32 size)
{
	struct virtio *virtio = device;
	struct virtio_pci_cap access;

	if (window_access(virtio, config, offset, size, &access))
		bar_write(virtio, VIRTIO_BAR, access.offset,
			  config + virtio->pci_cfg_capability +
				  offsetof(struct virtio_pci_cfg_cap, pci_cfg_data),
			  access.length);
}

const struct pci_device_ops virtio_pci_ops = {
	.name = "virtio device",
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_moved = bar_moved,
	.config_read = window_read,
	.config_write = window_write,
};
