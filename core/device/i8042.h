/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keyboard controller's ports 0x60 to 0x64, for the one thing guests still want of it: reset.
 * Depends on device/bus.h and device/power.h.
 * A probe finds no controller at once (output full for ever); a writer never waits (input never full).
 */
#ifndef DEVICE_I8042_H
#define DEVICE_I8042_H

#include "device/bus.h"
#include "device/power.h"

enum {
	I8042_PORT = 0x60,
	I8042_PORTS = 5, /* 0x60 data, 0x61 port B, 0x64 status and command */
};

/* It has no state. */
struct i8042 {
	struct power_sink power;
};

void i8042_init(struct i8042 *i8042, struct power_sink power);

extern const struct device_ops i8042_ops; /* on the port bus at I8042_PORT */
extern const struct device_state_ops i8042_state_ops;

#endif
