/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices and the two address spaces (ports, MMIO) that the guest reaches them through.
 * Depends on base. One lock a bus guards its map; a device guards itself (vCPU threads call in
 * parallel). An access that no device claims reads as all ones and is dropped when written.
 */
#ifndef DEVICE_BUS_H
#define DEVICE_BUS_H

#include <pthread.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"

/* Offsets are from the start of the device's range; data holds size bytes, little-endian (1, 2, 4, 8). */
struct device_ops {
	const char *name;
	void (*read)(void *device, u64 offset, void *data, u32 size);
	void (*write)(void *device, u64 offset, const void *data, u32 size);
};

/* What a device does for a saved machine: the bytes of its state, no pointers, no descriptors. */
struct device_state_ops {
	const char *name; /* unique in a machine; names the section in the saved state */
	void (*save)(void *device, struct buf *out);
	/* Bad bytes give ERROR_FORMAT and leave the device as it was. */
	struct error *(*load)(void *device, struct reader *in);
};

struct bus_range {
	u64 start, size;
	const struct device_ops *ops;
	void *device;
};

struct bus {
	pthread_rwlock_t lock;
	struct bus_range *ranges; /* sorted by start, none overlap */
	u32 count, capacity;
};

MUST_CHECK struct error *bus_init(struct bus *bus);
void bus_deinit(struct bus *bus);
/* ERROR_INVALID when it overlaps another range; both are named. */
MUST_CHECK struct error *bus_add(struct bus *bus, u64 start, u64 size, const struct device_ops *ops,
				 void *device);
/* Takes out the range that starts there; false when there is none. */
bool bus_remove(struct bus *bus, u64 start);
/* False when no device claims it (data is then all ones). */
bool bus_read(struct bus *bus, u64 addr, void *data, u32 size);
bool bus_write(struct bus *bus, u64 addr, const void *data, u32 size);

/*
 * How devices reach the guest's interrupt controllers, so that they can be tested without KVM.
 * The machine implements it above KVM.
 */
struct irq_ops {
	/* Level of a GSI (ISA interrupts by their GSI). */
	void (*set_level)(void *ctx, u32 gsi, bool level);
	/*
	 * An MSI-X vector's message as the guest wrote it; masked vectors are never raised. index is the
	 * device's own number for it, from 0 to vectors - 1. Called whenever the guest changes it.
	 */
	void (*msix_update)(void *ctx, u32 index, u64 address, u32 data, bool masked);
	/* Raises vector index. Any thread. */
	void (*msix_raise)(void *ctx, u32 index);
};

struct irq_sink {
	const struct irq_ops *ops;
	void *ctx;
};

/*
 * How a device has a guest's write to an address turned into an eventfd's signal, without an exit to
 * user space (ioeventfd). Optional: without it, the write arrives through the bus. The device re-registers
 * when its BAR moves.
 */
struct doorbell_ops {
	struct error *(*add)(void *ctx, u64 mmio_address, u32 size, int eventfd);
	void (*remove)(void *ctx, u64 mmio_address, u32 size, int eventfd);
};

struct doorbell_sink {
	const struct doorbell_ops *ops;
	void *ctx;
};

#endif
