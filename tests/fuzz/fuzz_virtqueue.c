// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A hostile guest with a virtio-console: it writes its memory and the device's registers as it likes while the
 * host serves the queues. The host must neither touch memory outside the guest's nor work without end.
 */
#include "device_rig.h"

enum { MAX_STEPS = 400 };

static void write_memory(struct rig *r, struct food *f)
{
	u32 at = food_u16(f), n = food_u8(f) % 33;

	for (u32 i = 0; i < n && at + i < RIG_MEMORY; i++)
		r->ram[at + i] = food_u8(f);
}

static struct vring_desc make_descriptor(struct food *f, u16 next)
{
	u8 shape = food_u8(f);
	struct vring_desc d = { .addr = food_u16(f), .len = food_u8(f), .flags = shape & 7, .next = next };

	if (shape & 0x08)
		d.next = food_u16(f);
	if (shape & 0x10) // near the end of memory
		d.addr = RIG_MEMORY - (d.addr & 0xff);
	if (shape & 0x20)
		d.len = food_u32(f);
	if (shape & 0x40)
		d.addr |= (u64)food_u32(f) << 32 | food_u32(f);
	if (shape & 0x80)
		d.len &= ~15u; // an indirect table's
	return d;
}

static void offer(struct rig *r, u32 queue, u16 head)
{
	struct vring_avail *avail = (struct vring_avail *)(r->ram + RIG_RINGS + 0x1000 * queue + RIG_AVAIL);

	avail->ring[avail->idx++ % RIG_QUEUE_SIZE] = head;
	virtio_console_serve(&r->con, queue);
}

// Up to four descriptors, one after the other if they do not say otherwise; offered, or only written.
static void write_chain(struct rig *r, struct food *f, bool offered)
{
	u8 where = food_u8(f), what = food_u8(f);
	u32 queue = where % CONSOLE_QUEUES, first = where >> 4;
	struct vring_desc *table = (struct vring_desc *)(r->ram + RIG_RINGS + 0x1000 * queue + RIG_DESC);

	for (u32 i = 0; i <= what % 4u; i++)
		table[(first + i) % RIG_QUEUE_SIZE] = make_descriptor(f, (first + i + 1) % RIG_QUEUE_SIZE);
	if (offered)
		offer(r, queue, what & 0x80 ? food_u16(f) : first);
}

// A driver that sees that its device is broken, and tries again.
static void mend(struct rig *r, u64 features)
{
	if (r->con.virtio.status & VIRTIO_CONFIG_S_NEEDS_RESET)
		rig_start_console(r, features);
}

static void access_bar(struct rig *r, struct food *f)
{
	u16 at = food_u16(f);
	u32 size = 1 << (at >> 14);
	u64 value = food_u32(f);

	at %= VIRTIO_BAR_SIZE;
	if (size == 8)
		value |= (u64)food_u32(f) << 32;
	bus_write(&r->mmio, RIG_WINDOW + at, &value, size);
	bus_read(&r->mmio, RIG_WINDOW + at, &value, size);
}

static void write_to_guest(struct rig *r, struct food *f)
{
	static const u8 data[5000];
	u8 what = food_u8(f);
	size_t size = food_u8(f) * 20u;
	size_t done = virtio_console_write(&r->con, what % CONSOLE_PORTS, data, size);

	must(done <= size, "no more is written than there is");
}

static void save_and_load(struct rig *r)
{
	struct buf saved = BUF_INIT, again = BUF_INIT;

	virtio_console_state_ops.save(&r->con, &saved);

	struct reader in = reader_init(saved.data, saved.size);

	must_work(virtio_console_state_ops.load(&r->con, &in));
	virtio_console_state_ops.save(&r->con, &again);
	must(saved.size == again.size && !memcmp(saved.data, again.data, saved.size), "a state survives");
	buf_deinit(&saved);
	buf_deinit(&again);
	virtio_replay(&r->con.virtio);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct food f = { data, size };
	struct rig r;

	u64 features = 1ULL << VIRTIO_F_VERSION_1 | 2;

	features |= (food_u8(&f) & 3ULL) << VIRTIO_RING_F_INDIRECT_DESC;
	rig_init(&r);
	rig_start_console(&r, features);
	for (u32 i = 0; i < MAX_STEPS && f.size; i++) {
		u8 op = food_u8(&f);

		switch (op % 16) { // what matters most comes most often
		case 0:
			write_memory(&r, &f);
			break;
		case 1:
		case 9:
			write_chain(&r, &f, false);
			break;
		case 2:
		case 10 ... 14:
			write_chain(&r, &f, true);
			break;
		case 3:
			access_bar(&r, &f);
			break;
		case 4:
		case 8:
			virtio_console_serve(&r.con, food_u8(&f) % CONSOLE_QUEUES);
			break;
		case 5:
			write_to_guest(&r, &f);
			break;
		case 6:
			r.appetite = food_u8(&f);
			virtio_console_resume(&r.con, op >> 4 & 1);
			break;
		case 7:
			virtio_console_resume(&r.con, CONSOLE_PORT_RELAY);
			break;
		default:
			save_and_load(&r);
			break;
		}
		mend(&r, features);
	}
	rig_deinit(&r);
	return 0;
}
