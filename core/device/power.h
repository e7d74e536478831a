/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What devices that end the machine call: the i8042, port 0xcf9, the ACPI registers.
 * Depends on nothing.
 * Called on the vCPU thread whose guest asked, with no device lock held.
 */
#ifndef DEVICE_POWER_H
#define DEVICE_POWER_H

struct power_ops {
	/* by: "i8042", "port 0xcf9" or "ACPI reset register". */
	void (*reset)(void *ctx, const char *by);
	void (*power_off)(void *ctx);
};

struct power_sink {
	const struct power_ops *ops;
	void *ctx;
};

#endif
