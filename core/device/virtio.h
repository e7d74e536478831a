/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio 1.x PCI transport: registers, features, status, queues, notifications and interrupts.
 * Depends on device/pci.h, msix.h and virtqueue.h. A device type embeds it and gives it its ops.
 * vCPU threads use the registers while one other thread serves the queues; a bad ring sets
 * DEVICE_NEEDS_RESET and is counted, and never harms the host.
 */
#ifndef DEVICE_VIRTIO_H
#define DEVICE_VIRTIO_H

#include "device/pci.h"
#include "device/virtqueue.h"

enum {
	VIRTIO_MAX_QUEUES = 16,
	VIRTIO_BAR = 0,
	VIRTIO_BAR_SIZE = 0x8000,
	VIRTIO_COMMON_OFFSET = 0x0000,
	VIRTIO_ISR_OFFSET = 0x1000,
	VIRTIO_CONFIG_OFFSET = 0x2000,
	VIRTIO_NOTIFY_OFFSET = 0x3000,
	VIRTIO_NOTIFY_MULTIPLIER = 4,
	VIRTIO_MSIX_TABLE_OFFSET = 0x4000,
	VIRTIO_MSIX_PENDING_OFFSET = 0x5000,
};

/* A device type's part. All under the device's lock. */
struct virtio_ops {
	const char *name;
	/* Configuration bytes; [offset, offset + size) lies within config_size. */
	void (*config_read)(void *device, u32 offset, void *data, u32 size);
	/* The driver reset the device; queues are not ready any more. */
	void (*reset)(void *device);
	/*
	 * Optional: the driver wants a reset while there is output of its that nobody has taken yet. Then the
	 * status reads as before until virtio_finish_reset(), which the device calls when it is taken.
	 */
	bool (*busy)(void *device);
};

struct virtio_config {
	const struct virtio_ops *ops;
	void *device;
	u16 type; /* VIRTIO_ID_CONSOLE, ... */
	u8 class, subclass; /* of PCI */
	u64 features; /* beyond VERSION_1, INDIRECT_DESC and EVENT_IDX, which are always offered */
	u32 queues;
	u16 queue_size;
	u32 config_size;
	const struct guest_memory *memory;
	struct irq_sink irq; /* vectors 0 to queues: one for changes of configuration, one for each queue */
	struct doorbell_sink doorbell; /* ops NULL: notifications come through the bus */
};

struct virtio {
	struct virtio_config config;
	struct pci_device pci;
	struct msix msix;
	u32 pci_cfg_capability; /* offset of the window into the BAR that configuration space has */
	pthread_mutex_t lock; /* guards all below; taken before msix's, after pci's */
	u8 status, isr;
	u32 device_feature_select, driver_feature_select;
	u64 driver_features;
	u16 config_vector, queue_select;
	u64 bar_address; /* 0: not decoded */
	bool reset_wanted; /* the driver waits for the status to read 0 */
	u32 resets; /* tells work begun before a reset that it is stale */
	u64 faults[VIRTQUEUE_FAULTS]; /* times each made the device need a reset */
	enum virtqueue_fault last_fault;
	u32 last_fault_queue;
	struct virtio_queue {
		struct virtqueue ring;
		u16 vector;
		int kick_fd; /* readable: the guest notified */
		u64 doorbell_address; /* where kick_fd is registered; 0: nowhere */
	} queues[VIRTIO_MAX_QUEUES];
};

MUST_CHECK struct error *virtio_init(struct virtio *virtio, const struct virtio_config *config);
/* After pci_host_deinit(), so that its doorbells are gone. */
void virtio_deinit(struct virtio *virtio);

/* The driver has said DRIVER_OK and nothing has broken since. Under the lock. */
bool virtio_is_live(const struct virtio *virtio);
bool virtio_has_feature(const struct virtio *virtio, u32 bit);
/* A ring was bad: DEVICE_NEEDS_RESET, an interrupt for it, and the count. Under the lock. */
void virtio_fault(struct virtio *virtio, u32 queue, enum virtqueue_fault fault);
/* Carries out a reset that had to wait, if the device is no longer busy. Under the lock. */
void virtio_finish_reset(struct virtio *virtio);
/* Interrupts the guest for a queue if it wants that. Under the lock. */
void virtio_interrupt_queue(struct virtio *virtio, u32 queue);
/* Makes the thread that serves the queue look at it. Any thread. */
void virtio_kick(struct virtio *virtio, u32 queue);
/* Empties the queue's kick_fd. */
void virtio_clear_kick(struct virtio *virtio, u32 queue);

/*
 * After a restore, when interrupts can be delivered again: what was in flight in eventfds is in no saved
 * state, so every queue is kicked and every queue's interrupt raised. Any thread.
 */
void virtio_replay(struct virtio *virtio);

/* The transport's part of a device's saved state: parse it, check the rest, then apply it. Under the lock. */
struct virtio_state {
	u8 status, isr, reset_wanted;
	u32 device_feature_select, driver_feature_select;
	u64 driver_features;
	u16 config_vector, queue_select;
	struct virtqueue rings[VIRTIO_MAX_QUEUES];
	u16 vectors[VIRTIO_MAX_QUEUES];
	struct msix_state msix;
};

void virtio_save(struct virtio *virtio, struct buf *out);
/* A short section shows in the reader; everything else that is wrong is ERROR_FORMAT. Changes nothing. */
MUST_CHECK struct error *virtio_parse(const struct virtio *virtio, struct reader *in, struct virtio_state *ret);
void virtio_apply(struct virtio *virtio, const struct virtio_state *state);

#endif
