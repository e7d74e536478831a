// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saved states that are not what was saved: any bytes, and true ones with some bytes changed or the end cut off.
 * Either they are refused and the device is as it was, or the device has a state that it can save, and works.
 */
#include "device_rig.h"

static struct buf state_of(const struct device_state_ops *ops, void *device)
{
	struct buf out = BUF_INIT;

	ops->save(device, &out);
	must_work(buf_check(&out));
	return out;
}

static bool same(const struct buf *a, const struct buf *b)
{
	return a->size == b->size && !memcmp(a->data, b->data, a->size);
}

// The bytes to load: the input itself, or the device's own with the input's changes.
static struct buf make_state(const struct device_state_ops *ops, void *device, struct food *f)
{
	struct buf out = BUF_INIT;

	if (food_u8(f) & 1) {
		buf_put(&out, f->data, f->size);
		f->size = 0;
		return out;
	}
	out = state_of(ops, device);
	if (food_u8(f) & 1)
		out.size = food_u16(f) % (out.size + 1);
	for (u32 n = food_u8(f) % 16; n && out.size; n--) {
		u32 at = food_u16(f) % out.size;

		out.data[at] ^= food_u8(f);
	}
	return out;
}

static void exercise(struct rig *r)
{
	u64 value;

	bus_read(&r->mmio, RIG_ECAM + (RIG_SLOT << 15), &value, 4);
	must((u32)value == 0x10431af4, "a device stays what it is");
	for (u32 i = 0; i < UART_PORTS; i++) {
		uart_ops.read(&r->uart, i, &value, 1);
		uart_ops.write(&r->uart, i, &value, 1);
	}
	uart_input(&r->uart, "input", 5);
	for (u32 i = 0; i < IOAPIC_PINS; i++) {
		ioapic_set_level(&r->ioapic, i, true);
		ioapic_eoi(&r->ioapic, i + 0x20);
		ioapic_set_level(&r->ioapic, i, false);
	}
	pm_ops.read(&r->pm, 0, &value, 8);
	virtio_replay(&r->con.virtio);
	for (u32 i = 0; i < CONSOLE_QUEUES; i++)
		virtio_console_serve(&r->con, i);
	for (u32 i = 0; i < CONSOLE_PORTS; i++)
		virtio_console_write(&r->con, i, "hello", 5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct food f = { data, size };
	struct rig r;

	rig_init(&r);
	rig_start_console(&r, 1ULL << VIRTIO_F_VERSION_1 | 2 | 1ULL << VIRTIO_RING_F_EVENT_IDX);

	const struct {
		const struct device_state_ops *ops;
		void *device;
	} devices[] = {
		{ &virtio_console_state_ops, &r.con },
		{ &pci_state_ops, &r.host },
		{ &uart_com1_state_ops, &r.uart },
		{ &ioapic_state_ops, &r.ioapic },
		{ &pm_state_ops, &r.pm },
		{ &i8042_state_ops, &r.i8042 },
		{ &pic_state_ops, &r.pic },
	};

	while (f.size) {
		u32 which = food_u8(&f) % ARRAY_SIZE(devices);
		const struct device_state_ops *ops = devices[which].ops;
		void *device = devices[which].device;
		struct buf before = state_of(ops, device);
		struct buf bytes = make_state(ops, device, &f);
		struct reader in = reader_init(bytes.data ? bytes.data : data, bytes.size);
		struct error *err = ops->load(device, &in);
		struct buf after = state_of(ops, device);

		if (err) {
			must(error_code(err) == ERROR_FORMAT, "a bad state is a format error");
			must(same(&before, &after), "a refused state changes nothing");
			error_destroy(err);
		} else {
			in = reader_init(after.data, after.size);
			must_work(ops->load(device, &in));
			exercise(&r);
		}
		buf_deinit(&before);
		buf_deinit(&bytes);
		buf_deinit(&after);
	}
	rig_deinit(&r);
	return 0;
}
