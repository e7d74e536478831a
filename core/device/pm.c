// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/pm.h"

#include <string.h>

#include "device/state.h"

enum {
	STATUS = PM_EVENT_OFFSET,
	ENABLE = PM_EVENT_OFFSET + PM_EVENT_SIZE / 2,

	CONTROL_SCI_EN = 1 << 0,
	CONTROL_SLP_TYP_SHIFT = 10,
	CONTROL_SLP_TYP_MASK = 7 << CONTROL_SLP_TYP_SHIFT,
	CONTROL_SLP_EN = 1 << 13, // write-only
	CONTROL_STORED = CONTROL_SLP_TYP_MASK | 1 << 1, // BM_RLD

	ENABLE_STORED = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 14,

	RESET_CPU = 1 << 2,
	STATE_VERSION = 1,
};

struct error *pm_init(struct pm *pm, struct power_sink power, u8 sleep_type_off)
{
	*pm = (struct pm){ .power = power, .sleep_type_off = sleep_type_off };

	int e = pthread_mutex_init(&pm->lock, NULL);

	return e ? error_create(ERROR_OS, "cannot create the power management's lock: %s", strerror(e)) : NULL;
}

void pm_deinit(struct pm *pm)
{
	pthread_mutex_destroy(&pm->lock);
}

static void pm_read(void *device, u64 offset, void *data, u32 size)
{
	struct pm *pm = device;
	u8 registers[PM_PORTS] = { 0 };

	pthread_mutex_lock(&pm->lock);

	u16 control = pm->control | CONTROL_SCI_EN;

	memcpy(registers + ENABLE, &pm->enable, sizeof(pm->enable));
	memcpy(registers + PM_CONTROL_OFFSET, &control, sizeof(control));
	pthread_mutex_unlock(&pm->lock);
	memcpy(data, registers + offset, size);
}

// The 16-bit register at reg with the access's bytes put over value; true when it was touched.
static bool merge_write(u32 reg, u64 offset, const u8 *data, u32 size, u16 *value)
{
	bool touched = false;

	for (u32 i = 0; i < size; i++) {
		u64 at = offset + i;

		if (at < reg || at >= reg + 2)
			continue;

		u32 shift = 8 * (at - reg);

		*value = (*value & ~(0xff << shift)) | data[i] << shift;
		touched = true;
	}
	return touched;
}

static void pm_write(void *device, u64 offset, const void *data, u32 size)
{
	struct pm *pm = device;
	bool power_off = false;

	pthread_mutex_lock(&pm->lock);

	u16 enable = pm->enable, control = pm->control;

	if (merge_write(ENABLE, offset, data, size, &enable))
		pm->enable = enable & ENABLE_STORED;
	if (merge_write(PM_CONTROL_OFFSET, offset, data, size, &control)) {
		pm->control = control & CONTROL_STORED;
		power_off = control & CONTROL_SLP_EN &&
			    (control & CONTROL_SLP_TYP_MASK) >> CONTROL_SLP_TYP_SHIFT == pm->sleep_type_off;
	}
	pthread_mutex_unlock(&pm->lock);

	if (power_off)
		pm->power.ops->power_off(pm->power.ctx);
	if (offset == PM_RESET_OFFSET && *(const u8 *)data & RESET_CPU)
		pm->power.ops->reset(pm->power.ctx, "ACPI reset register");
}

const struct device_ops pm_ops = { .name = "pm", .read = pm_read, .write = pm_write };

static void pm_save(void *device, struct buf *out)
{
	struct pm *pm = device;

	pthread_mutex_lock(&pm->lock);
	buf_put_u32(out, STATE_VERSION);
	buf_put_u16(out, pm->enable);
	buf_put_u16(out, pm->control);
	pthread_mutex_unlock(&pm->lock);
}

static struct error *pm_load(void *device, struct reader *in)
{
	struct pm *pm = device;
	u32 version = reader_get_u32(in);
	u16 enable = reader_get_u16(in);
	u16 control = reader_get_u16(in);
	struct error *err = state_check(in, "pm", version, STATE_VERSION);

	if (err)
		return err;
	if (enable & ~ENABLE_STORED || control & ~CONTROL_STORED)
		return error_create(ERROR_FORMAT, "saved pm has bits that no guest can set");
	pthread_mutex_lock(&pm->lock);
	pm->enable = enable;
	pm->control = control;
	pthread_mutex_unlock(&pm->lock);
	return NULL;
}

const struct device_state_ops pm_state_ops = { .name = "pm", .save = pm_save, .load = pm_load };
