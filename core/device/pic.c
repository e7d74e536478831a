// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/pic.h"

#include <string.h>

#include "device/state.h"

enum {
	COMMAND = 0,
	MASK = 1,
	STATE_VERSION = 1,
};

void pic_init(struct pic *pic)
{
	*pic = (struct pic){ .mask = 0xff };
}

// The command port reads as its request register: no interrupt.
static void pic_read(void *device, u64 offset, void *data, u32 size)
{
	struct pic *pic = device;

	memset(data, 0, size);
	if (offset == MASK)
		*(u8 *)data = __atomic_load_n(&pic->mask, __ATOMIC_RELAXED);
}

/*
 * The words of an initialisation go to the mask's port too and end up in the mask; whoever initialises
 * an 8259 writes the mask last.
 */
static void pic_write(void *device, u64 offset, const void *data, u32 size)
{
	struct pic *pic = device;

	if (offset == MASK)
		__atomic_store_n(&pic->mask, *(const u8 *)data, __ATOMIC_RELAXED);
}

const struct device_ops pic_ops = { .name = "pic", .read = pic_read, .write = pic_write };

static void pic_save(void *device, struct buf *out)
{
	struct pic *pic = device;

	buf_put_u32(out, STATE_VERSION);
	buf_put_u8(out, __atomic_load_n(&pic->mask, __ATOMIC_RELAXED));
}

static struct error *pic_load(void *device, struct reader *in)
{
	struct pic *pic = device;
	u32 version = reader_get_u32(in);
	u8 mask = reader_get_u8(in);
	struct error *err = state_check(in, "pic", version, STATE_VERSION);

	if (!err)
		__atomic_store_n(&pic->mask, mask, __ATOMIC_RELAXED);
	return err;
}

const struct device_state_ops pic_state_ops = { .name = "pic", .save = pic_save, .load = pic_load };
