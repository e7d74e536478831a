/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8259 pair as a machine with a split irqchip shows it: found by a probe, silent for ever.
 * Depends on device/bus.h.
 * Without it Linux takes its null_legacy_pic, and COM1's interrupt (an ISA one) is never set up.
 */
#ifndef DEVICE_PIC_H
#define DEVICE_PIC_H

#include "device/bus.h"

enum {
	PIC_MASTER_PORT = 0x20,
	PIC_SLAVE_PORT = 0xa0,
	PIC_PORTS = 2, /* command, interrupt mask */
};

/* One of the two. */
struct pic {
	u8 mask; /* accessed atomically */
};

void pic_init(struct pic *pic);

extern const struct device_ops pic_ops; /* on the port bus, twice */
extern const struct device_state_ops pic_state_ops;

#endif
