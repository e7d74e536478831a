/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What virtio.c and virtio_registers.c share.
 * Depends on device/virtio.h.
 * All under the device's lock.
 */
#ifndef DEVICE_VIRTIO_INTERNAL_H
#define DEVICE_VIRTIO_INTERNAL_H

#include "device/virtio.h"

/* The driver wrote 0 to the status. */
void virtio_reset(struct virtio *virtio);
/* Registers each ready queue's kick_fd where its notification address is now, and no other. */
void virtio_update_doorbells(struct virtio *virtio);
u64 virtio_offered_features(const struct virtio *virtio);

extern const struct pci_device_ops virtio_pci_ops;

#endif
