// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/i8042.h"

#include <string.h>

#include "device/state.h"

enum {
	DATA = 0, // 0x60
	PORT_B = 1, // 0x61
	STATUS = 4, // 0x64; written: command

	/*
	 * Output full and never drained makes Linux's probe give up after 16 reads ("No controller found")
	 * instead of waiting out its command timeouts; input empty keeps its reboot path from waiting.
	 */
	STATUS_OUTPUT_FULL = 1 << 0,
	PORT_B_TIMER2_OUT = 1 << 5, // and no parity or channel check, which NMI handlers look for
	COMMAND_PULSE_RESET = 0xfe,
	STATE_VERSION = 1,
};

void i8042_init(struct i8042 *i8042, struct power_sink power)
{
	*i8042 = (struct i8042){ .power = power };
}

static void i8042_read(void *device, u64 offset, void *data, u32 size)
{
	memset(data, 0xff, size);
	if (size != 1)
		return;
	if (offset == STATUS)
		*(u8 *)data = STATUS_OUTPUT_FULL;
	else if (offset == PORT_B)
		*(u8 *)data = PORT_B_TIMER2_OUT;
}

static void i8042_write(void *device, u64 offset, const void *data, u32 size)
{
	struct i8042 *i8042 = device;

	if (offset == STATUS && *(const u8 *)data == COMMAND_PULSE_RESET)
		i8042->power.ops->reset(i8042->power.ctx, "i8042");
}

const struct device_ops i8042_ops = { .name = "i8042", .read = i8042_read, .write = i8042_write };

static void i8042_save(void *device, struct buf *out)
{
	buf_put_u32(out, STATE_VERSION);
}

static struct error *i8042_load(void *device, struct reader *in)
{
	u32 version = reader_get_u32(in);

	return state_check(in, "i8042", version, STATE_VERSION);
}

const struct device_state_ops i8042_state_ops = {
	.name = "i8042",
	.save = i8042_save,
	.load = i8042_load,
};
