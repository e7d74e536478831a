/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI's fixed hardware in one range of ports: PM1a event (status, enable), PM1a control, reset register.
 * Depends on device/bus.h and device/power.h. The caller gives the address, and the FADT names it.
 * SCI_EN reads 1; writing SLP_EN with the S5 sleep type powers off; no event ever happens, so no SCI.
 */
#ifndef DEVICE_PM_H
#define DEVICE_PM_H

#include "device/bus.h"
#include "device/power.h"

enum {
	PM_EVENT_OFFSET = 0, /* status: 2 bytes, enable: 2 bytes */
	PM_EVENT_SIZE = 4,
	PM_CONTROL_OFFSET = 4,
	PM_CONTROL_SIZE = 2,
	PM_RESET_OFFSET = 8, /* 1 byte */
	PM_RESET_VALUE = 0x06, /* any value with bit 2 resets */
	PM_PORTS = 0x10,
};

struct pm {
	struct power_sink power;
	u8 sleep_type_off; /* SLP_TYP of the DSDT's _S5, 0 to 7 */
	pthread_mutex_t lock;
	u16 enable, control;
};

MUST_CHECK struct error *pm_init(struct pm *pm, struct power_sink power, u8 sleep_type_off);
void pm_deinit(struct pm *pm);

extern const struct device_ops pm_ops; /* on the port bus, PM_PORTS long */
extern const struct device_state_ops pm_state_ops;

#endif
